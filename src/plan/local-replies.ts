/**
 * local_reply_config: what becomes of the answers that the mesh gives itself (extensions.filters.network.
 * http_connection_manager.v3.LocalReplyConfig), where it depends on their status alone.
 */
import type { JsonObject } from '../policy/resources.js';
import { has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

/** A text with the reply's own body and status in it. */
interface Format {
  readonly parts: readonly (string | { readonly of: 'body' | 'status' })[];
  readonly type: string;
}

export interface LocalReplies {
  /** the first whose statuses (both ends count) the reply's is one of */
  readonly mappers: readonly {
    readonly from: number;
    readonly to: number;
    readonly status?: number;
    readonly body?: string;
    readonly format?: Format;
  }[];
  readonly format: Format;
}

const OPERATORS = { LOCAL_REPLY_BODY: 'body', RESPONSE_CODE: 'status' } as const;
const PLAIN: Format = { parts: [{ of: 'body' }], type: 'text/plain' };
const MOST = 999;

/** Reads the configuration of a connection manager; what is not understood has a reason in `notes`. */
export function readLocalReplies(
  notes: Notes,
  hcm: JsonObject,
  path: string,
  mayChange: (key: string) => boolean,
): LocalReplies | undefined {
  const key = 'local_reply_config';
  const config = obj(hcm, key);
  if (!config) return undefined;
  const at = join(path, key);
  const leave = (message: string, field: string, owner: JsonObject) => notes.add('local-reply', message, field, owner);
  if (has(hcm, 'access_log') || has(hcm, 'tracing'))
    leave('local replies are rewritten, and logged or traced', at, hcm);
  onlyFields(notes, config, at, ['mappers', 'body_format']);
  const format = (owner: JsonObject, name: string, field: string): Format | undefined => {
    const said = obj(owner, name);
    if (!said) return undefined;
    onlyFields(notes, said, join(field, name), ['text_format', 'text_format_source', 'content_type']);
    const source = obj(said, 'text_format_source');
    if (source) onlyFields(notes, source, join(field, `${name}.text_format_source`), ['inline_string']);
    const parts = partsOf(str(said, 'text_format') || str(source, 'inline_string'));
    if (!parts) leave('a format has operators that are not known here', join(field, name), owner);
    return { parts: parts ?? [], type: str(said, 'content_type') || PLAIN.type };
  };
  const mappers = list(config, 'mappers').map((mapper, i): LocalReplies['mappers'][number] => {
    const field = join(at, `mappers[${i}]`);
    onlyFields(notes, mapper, field, ['filter', 'status_code', 'body', 'body_format_override']);
    const filter = obj(mapper, 'filter') ?? {};
    onlyFields(notes, filter, join(field, 'filter'), ['status_code_filter']);
    const comparison = obj(obj(filter, 'status_code_filter'), 'comparison');
    const value = obj(comparison, 'value');
    const than = num(value, 'default_value');
    const op = str(comparison, 'op') || 'EQ';
    if (!comparison || !['EQ', 'GE', 'LE'].includes(op)) leave('not chosen by status', join(field, 'filter'), mapper);
    if (mayChange(str(value, 'runtime_key')))
      leave('a runtime layer may change the status', join(field, 'filter'), mapper);
    const body = obj(mapper, 'body');
    if (body) onlyFields(notes, body, join(field, 'body'), ['inline_string']);
    const own = format(mapper, 'body_format_override', field);
    return {
      ...{ from: op === 'LE' ? 0 : than, to: op === 'GE' ? MOST : than },
      ...(has(mapper, 'status_code') ? { status: num(mapper, 'status_code') } : {}),
      ...(body ? { body: str(body, 'inline_string') } : {}),
      ...(own ? { format: own } : {}),
    };
  });
  return { mappers, format: format(config, 'body_format', at) ?? PLAIN };
}

/** A format's parts; undefined when it says something else than body and status. */
function partsOf(text: string): Format['parts'] | undefined {
  const parts: Format['parts'][number][] = [];
  for (const [, plain, operator] of text.matchAll(/([^%]+)|%([A-Z_]*)%|%/g)) {
    if (plain !== undefined) parts.push(plain);
    else if (operator === '') parts.push('%');
    else if (operator !== undefined && operator in OPERATORS)
      parts.push({ of: OPERATORS[operator as keyof typeof OPERATORS] });
    else return undefined;
  }
  return parts;
}

/** What becomes of a reply. */
export function rewriteReply(
  { mappers, format }: LocalReplies,
  status: number,
  body: string,
): { readonly status: number; readonly body: string; readonly type: string } {
  const mapper = mappers.find(({ from, to }) => status >= from && status <= to);
  const code = mapper?.status ?? status;
  const said = { body: mapper?.body ?? body, status: String(code) };
  const { parts, type } = mapper?.format ?? format;
  return { status: code, body: parts.map((p) => (typeof p === 'string' ? p : said[p.of])).join(''), type };
}
