/**
 * request_headers_to_add / request_headers_to_remove, and those of responses -> edits. Within one level Envoy removes
 * first, then overwrites, then adds, presence being tested before any addition of the level. The edits of requests hold,
 * for each name, edits whose conditions are about the request as received.
 */
import type { JsonObject } from '../policy/resources.js';
import { withEnvironment } from './environment.js';
import type { AnswerEdit, HeaderEdit, Piece } from './ir.js';
import { readFormat, UnknownOperator } from './log-format.js';
import { bool, has, join, list, type Notes, num, obj, onlyFields, str, strings } from './notes.js';

/** Headers that frame a message. */
const FRAMING = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'content-length',
  'te',
  'trailer',
  'upgrade',
];
const FRAMES = new Set(FRAMING);

/** Headers of requests that the fast path or the proxy maintain: an edit of them is left to the proxy. */
const HANDLED = new Set([
  ...FRAMING,
  'host',
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

/** Whether lines of a header (lower case) are nothing but lines: nobody maintains them, and each stands for itself. */
export function isPlainHeader(name: string): boolean {
  return /^[a-z0-9_-]+$/.test(name) && !HANDLED.has(name) && !JOINED.has(name) && !name.startsWith('x-envoy-');
}

/** A literal header value as Envoy's formatter gives it, or undefined if it contains a %COMMAND%. */
function literalValue(value: string): string | undefined {
  const parts = value.split('%%');
  return parts.some((p) => p.includes('%')) ? undefined : parts.join('%');
}

/** What requests are of, as %PROTOCOL% says it. */
export type Protocol = 'HTTP/1.1' | 'HTTP/2';

/** Commands whose values are known where a request is decided, and never empty. */
const COMMANDS: Readonly<Record<string, Piece>> = {
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: { kind: 'source_ip' },
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: { kind: 'source_ip' },
};

/** A header value with %COMMANDS% as pieces; undefined: one of them is computed by the proxy. */
function madeValue(value: string, protocol: Protocol): Piece[] | undefined {
  const parts = readFormat(value);
  if (parts instanceof UnknownOperator) return undefined;
  const pieces = parts.map((part) => {
    if (typeof part === 'string') return literal(part);
    return part.command === 'PROTOCOL' ? literal(protocol) : COMMANDS[part.command];
  });
  return pieces.includes(undefined) ? undefined : (pieces as Piece[]);
}

const literal = (value: string): Piece => ({ kind: 'literal', value });

/** A resource that may have edits, with its field path. */
export interface Level {
  readonly owner: JsonObject;
  readonly path: string;
}

/** Whose headers are edited. */
export type Side = 'request' | 'response';

const OPS = {
  APPEND_IF_EXISTS_OR_ADD: 'append',
  ADD_IF_ABSENT: 'add_if_absent',
  OVERWRITE_IF_EXISTS_OR_ADD: 'overwrite',
  OVERWRITE_IF_EXISTS: 'overwrite_if_present',
} as const;

/** Values of answers' headers that are known though they are made for each request, by the name of the request's header. */
export type MadeValues = ReadonlyMap<string, readonly Piece[]>;

/** `%REQ(NAME)%` of a header that is made for the request. */
function madeFor(text: string, made: MadeValues | undefined): readonly Piece[] | undefined {
  const name = /^%REQ\(([\w-]+)\)%$/.exec(text)?.[1]?.toLowerCase();
  return name === undefined ? undefined : made?.get(name);
}

/** A HeaderValueOption as an edit; undefined if it adds nothing, or, with a reason, if it is for the proxy. */
export function headerOption(
  notes: Notes,
  option: JsonObject,
  at: string,
  side: Side,
  made?: MadeValues,
  protocol: Protocol = 'HTTP/1.1',
): HeaderEdit | undefined {
  onlyFields(notes, option, at, ['header', 'append', 'append_action', 'keep_empty_value']);
  const header = obj(option, 'header') ?? {};
  onlyFields(notes, header, join(at, 'header'), ['key', 'value']);
  const name = str(header, 'key').toLowerCase();
  const text = withEnvironment(str(header, 'value'), notes.environment);
  const value = literalValue(text) ?? (side === 'request' ? madeValue(text, protocol) : madeFor(text, made));
  if (value === undefined) {
    const what = `the value of ${name} is computed per request`;
    notes.add('header-format', what, join(at, 'header.value'), header, 'value');
    return undefined;
  }
  if (value === '' && !bool(option, 'keep_empty_value')) return undefined;
  const deprecated = !has(option, 'append')
    ? 'APPEND_IF_EXISTS_OR_ADD'
    : bool(option, 'append')
      ? 'APPEND_IF_EXISTS_OR_ADD'
      : 'OVERWRITE_IF_EXISTS_OR_ADD';
  const action = str(option, 'append_action') || deprecated;
  const op = OPS[action as keyof typeof OPS];
  if (op === undefined) {
    notes.add('header-edit', `append_action ${action} is not known`, at, option);
    return undefined;
  }
  if (side === 'request' && op === 'append' && JOINED.has(name)) {
    notes.add('header-edit', `the proxy joins ${name} in one line`, at, option);
    return undefined;
  }
  return { op, name, value };
}

function additions(
  notes: Notes,
  { owner, path }: Level,
  side: Side,
  made?: MadeValues,
  protocol?: Protocol,
): HeaderEdit[] {
  const overwrites: HeaderEdit[] = [];
  const adds: HeaderEdit[] = [];
  const key = `${side}_headers_to_add`;
  list(owner, key).forEach((option, i) => {
    const edit = headerOption(notes, option, join(path, `${key}[${i}]`), side, made, protocol);
    if (edit) (edit.op.startsWith('overwrite') ? overwrites : adds).push(edit);
  });
  const names = [...overwrites, ...adds].map((e) => e.name);
  const conditional = [...overwrites, ...adds].filter(
    (e) => e.op === 'add_if_absent' || e.op === 'overwrite_if_present',
  );
  for (const e of conditional) {
    if (names.filter((n) => n === e.name).length > 1) {
      notes.add('header-edit', `several edits of ${e.name} that depend on its presence`, join(path, key), owner, key);
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
    case 'renew':
    case 'sampled':
      return [edit];
    case 'append':
    case 'join':
      return [...kept, edit];
    case 'add_if_absent':
      if (certain) return kept;
      return removed ? [...kept, { ...edit, op: 'append' }] : [...kept, edit];
    case 'overwrite_if_present':
      if (removed) return kept;
      return certain ? [{ ...edit, op: 'overwrite' }] : [edit];
  }
}

/** Why an edit of a request's header is left to the proxy, noted; false: it is not. */
export function handledByProxy(notes: Notes, name: string, field: string, owner: JsonObject): boolean {
  if (!HANDLED.has(name) && !name.startsWith(':') && !name.startsWith('x-envoy-')) return false;
  notes.add('header-edit', `${name} is maintained by the proxy`, field, owner);
  return true;
}

function inOrder(levels: readonly Level[], mostSpecificWins: boolean, first: Level | undefined): Level[] {
  return [...(first ? [first] : []), ...(mostSpecificWins ? [...levels].reverse() : levels)];
}

/** Fields of a weighted cluster that edit headers. */
export const CLUSTER_EDITS = [
  'request_headers_to_add',
  'request_headers_to_remove',
  'response_headers_to_add',
  'response_headers_to_remove',
];

/** The edits that the weighted clusters of a route have in common; a reason if they differ, since one is drawn later. */
export function clusterLevel(notes: Notes, route: JsonObject, path: string): Level | undefined {
  const weighted = obj(obj(route, 'route'), 'weighted_clusters');
  const clusters = list(weighted, 'clusters').filter((c) => num(c, 'weight') > 0);
  const [owner] = clusters;
  if (!owner) return undefined;
  const edits = clusters.map((c) => JSON.stringify(CLUSTER_EDITS.map((key) => c[key] ?? [])));
  const at = join(path, 'route.weighted_clusters.clusters');
  if (new Set(edits).size > 1) notes.add('header-edit', 'the clusters edit headers in different ways', at, weighted);
  return { owner, path: at };
}

function removals(level: Level, side: Side): HeaderEdit[] {
  const names = strings(level.owner, `${side}_headers_to_remove`);
  return names.map((name) => ({ op: 'remove', name: name.toLowerCase() }));
}

/**
 * The edits of all levels, outermost effect last: route, virtual host, route configuration, or the other way round with
 * most_specific_header_mutations_wins. What the fast path cannot do becomes a reason.
 * @param first the chosen cluster's own, which come first in either order
 * @param before edits that filters have made before; @param protocol of the requests
 */
export function requestEdits(
  notes: Notes,
  levels: readonly Level[],
  mostSpecificWins: boolean,
  first?: Level,
  before: readonly HeaderEdit[] = [],
  protocol?: Protocol,
): HeaderEdit[] {
  const byName = new Map<string, HeaderEdit[]>();
  for (const edit of before) byName.set(edit.name, fold(byName.get(edit.name) ?? [], edit));
  for (const level of inOrder(levels, mostSpecificWins, first)) {
    for (const edit of [...removals(level, 'request'), ...additions(notes, level, 'request', undefined, protocol)]) {
      const field = join(level.path, edit.op === 'remove' ? 'request_headers_to_remove' : 'request_headers_to_add');
      if (handledByProxy(notes, edit.name, field, level.owner)) continue;
      byName.set(edit.name, fold(byName.get(edit.name) ?? [], edit));
    }
  }
  return [...byName.values()].flat();
}

/** Headers that the proxy sets behind all edits. */
const SET_BY_PROXY = new Set(['server', 'date', 'via']);

/** An edit of an answer's header; undefined, with a reason, if it is left to the proxy. */
export function answerEdit(notes: Notes, edit: HeaderEdit, field: string, owner: JsonObject): AnswerEdit | undefined {
  const { name } = edit;
  const removed = edit.op === 'remove';
  if (FRAMES.has(name) || name.startsWith(':')) {
    notes.add('response-headers', `${name} frames the message`, field, owner);
    return undefined;
  }
  if (!removed && (SET_BY_PROXY.has(name) || name.startsWith('x-envoy-'))) {
    notes.add('response-headers', `${name} is maintained by the proxy`, field, owner);
    return undefined;
  }
  // of what Envoy keeps in one line, nothing is appended then (tried)
  if (edit.op === 'append' && edit.value === '' && !name.startsWith('x-')) {
    notes.add('response-headers', `an empty value is appended to ${name}`, field, owner);
    return undefined;
  }
  if (
    !/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) ||
    (edit.op !== 'remove' && typeof edit.value === 'string' && !/^[\t\x20-\x7e]*$/.test(edit.value))
  ) {
    notes.add('response-headers', `${name} is not plain ASCII`, field, owner);
    return undefined;
  }
  if (edit.op === 'remove' || edit.op === 'join' || edit.op === 'renew' || edit.op === 'sampled')
    return { op: 'remove', name, value: [] };
  return { op: edit.op, name, value: typeof edit.value === 'string' ? [literal(edit.value)] : edit.value };
}

/** The router's edits of answers: response_headers_to_remove and _to_add of all levels, in the order of `requestEdits`. */
export function responseEdits(
  notes: Notes,
  levels: readonly Level[],
  mostSpecificWins: boolean,
  first?: Level,
  made?: MadeValues,
): AnswerEdit[] {
  return inOrder(levels, mostSpecificWins, first).flatMap((level) =>
    [...removals(level, 'response'), ...additions(notes, level, 'response', made)].flatMap((edit) => {
      const field = join(level.path, edit.op === 'remove' ? 'response_headers_to_remove' : 'response_headers_to_add');
      return answerEdit(notes, edit, field, level.owner) ?? [];
    }),
  );
}
