/**
 * request_headers_to_add / request_headers_to_remove -> edits. Within one level Envoy removes first, then overwrites,
 * then adds, presence being tested before any addition of the level. The result holds, for each name, edits whose
 * conditions are about the request as received.
 */
import type { JsonObject } from '../policy/resources.js';
import type { HeaderEdit } from './ir.js';
import { bool, has, join, list, type Notes, obj, onlyFields, str, strings } from './notes.js';

/** Headers that frame the message, or that the fast path or the proxy maintain: an edit of them is left to the proxy. */
const HANDLED = new Set([
  'host',
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'content-length',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'x-request-id',
  'x-forwarded-proto',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-client-cert',
]);

/** Headers that Envoy keeps in one line: an addition is joined to what is there. */
const JOINED = new Set([
  'accept',
  'accept-encoding',
  'access-control-request-headers',
  'access-control-request-method',
  'access-control-request-private-network',
  'authentication',
  'authorization',
  'cache-control',
  'content-encoding',
  'content-type',
  'cookie',
  'etag',
  'grpc-accept-encoding',
  'grpc-timeout',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'last-modified',
  'origin',
  'pragma',
  'referer',
  'user-agent',
  'via',
  'x-client-trace-id',
  'x-forwarded-port',
]);

/** A literal header value as Envoy's formatter gives it, or undefined if it contains a %COMMAND%. */
export function literalValue(value: string): string | undefined {
  const parts = value.split('%%');
  return parts.some((p) => p.includes('%')) ? undefined : parts.join('%');
}

interface Level {
  readonly owner: JsonObject;
  readonly path: string;
}

function additions(notes: Notes, { owner, path }: Level): HeaderEdit[] {
  const overwrites: HeaderEdit[] = [];
  const adds: HeaderEdit[] = [];
  list(owner, 'request_headers_to_add').forEach((option, i) => {
    const at = join(path, `request_headers_to_add[${i}]`);
    onlyFields(notes, option, at, ['header', 'append', 'append_action', 'keep_empty_value']);
    const header = obj(option, 'header') ?? {};
    onlyFields(notes, header, join(at, 'header'), ['key', 'value']);
    const name = str(header, 'key').toLowerCase();
    const value = literalValue(str(header, 'value'));
    if (value === undefined) {
      notes.add(
        'header-format',
        `the value of ${name} is computed per request`,
        join(at, 'header.value'),
        header,
        'value',
      );
      return;
    }
    if (value === '' && !bool(option, 'keep_empty_value')) return;
    const deprecated = has(option, 'append')
      ? bool(option, 'append')
        ? 'APPEND_IF_EXISTS_OR_ADD'
        : 'OVERWRITE_IF_EXISTS_OR_ADD'
      : '';
    switch (str(option, 'append_action') || deprecated || 'APPEND_IF_EXISTS_OR_ADD') {
      case 'APPEND_IF_EXISTS_OR_ADD':
        if (JOINED.has(name)) {
          notes.add('header-edit', `the proxy joins ${name} in one line`, at, option);
          return;
        }
        adds.push({ op: 'append', name, value });
        return;
      case 'ADD_IF_ABSENT':
        adds.push({ op: 'add_if_absent', name, value });
        return;
      case 'OVERWRITE_IF_EXISTS_OR_ADD':
        overwrites.push({ op: 'overwrite', name, value });
        return;
      case 'OVERWRITE_IF_EXISTS':
        overwrites.push({ op: 'overwrite_if_present', name, value });
        return;
      default:
        notes.add('header-edit', `append_action ${str(option, 'append_action')} is not known`, at, option);
    }
  });
  const names = [...overwrites, ...adds].map((e) => e.name);
  const conditional = [...overwrites, ...adds].filter(
    (e) => e.op === 'add_if_absent' || e.op === 'overwrite_if_present',
  );
  for (const e of conditional) {
    if (names.filter((n) => n === e.name).length > 1) {
      notes.add(
        'header-edit',
        `several edits of ${e.name} that depend on its presence`,
        join(path, 'request_headers_to_add'),
        owner,
        'request_headers_to_add',
      );
    }
  }
  return [...overwrites, ...adds];
}

/** Takes one more edit of a header into the list of those before it, so that conditions are about what was received. */
function fold(before: readonly HeaderEdit[], edit: HeaderEdit): HeaderEdit[] {
  const kept = [...before];
  const certain = kept.some((e) => e.op === 'overwrite' || e.op === 'append' || e.op === 'add_if_absent');
  const removed = kept.length === 1 && kept[0]!.op === 'remove';
  switch (edit.op) {
    case 'remove':
    case 'overwrite':
      return [edit];
    case 'append':
      return [...kept, edit];
    case 'add_if_absent':
      if (certain) return kept;
      return removed ? [...kept, { ...edit, op: 'append' }] : [...kept, edit];
    case 'overwrite_if_present':
      if (removed) return kept;
      return certain ? [{ ...edit, op: 'overwrite' }] : [edit];
  }
}

/**
 * The edits of all levels, outermost effect last: route, virtual host, route configuration, or the other way round with
 * most_specific_header_mutations_wins. What the fast path cannot do becomes a reason.
 */
export function requestEdits(notes: Notes, levels: readonly Level[], mostSpecificWins: boolean): HeaderEdit[] {
  const byName = new Map<string, HeaderEdit[]>();
  for (const level of mostSpecificWins ? [...levels].reverse() : levels) {
    const removals = strings(level.owner, 'request_headers_to_remove').map(
      (name): HeaderEdit => ({ op: 'remove', name: name.toLowerCase() }),
    );
    for (const edit of [...removals, ...additions(notes, level)]) {
      if (HANDLED.has(edit.name) || edit.name.startsWith(':') || edit.name.startsWith('x-envoy-')) {
        const field = join(level.path, edit.op === 'remove' ? 'request_headers_to_remove' : 'request_headers_to_add');
        notes.add('header-edit', `${edit.name} is maintained by the proxy`, field, level.owner);
        continue;
      }
      byName.set(edit.name, fold(byName.get(edit.name) ?? [], edit));
    }
  }
  return [...byName.values()].flat();
}

/** Response header edits are left to the proxy. */
export function responseEdits(notes: Notes, levels: readonly Level[]): void {
  for (const { owner, path } of levels) {
    for (const key of ['response_headers_to_add', 'response_headers_to_remove']) {
      if (has(owner, key)) notes.add('response-headers', 'response headers are edited', join(path, key), owner, key);
    }
  }
}
