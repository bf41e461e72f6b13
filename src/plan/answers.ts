/** Edits of answers, applied to header lists: for the mesh's own replies when the plan is made, and by the agent. */
import { type Compressible, hasElement, isCompressible } from './compressible.js';
import type { AnswerEdit, AnswerEdits, Piece, ReplyAction } from './ir.js';
import { rewriteReply } from './local-replies.js';

/** Response headers of which Envoy keeps one line, joining what is added by ',' (tried with 1.40). */
export const JOINED_ANSWER_HEADERS: ReadonlySet<string> = new Set(
  (
    'access-control-allow-origin access-control-allow-credentials access-control-allow-headers ' +
    'access-control-allow-methods access-control-allow-private-network access-control-expose-headers ' +
    'access-control-max-age age cache-control content-encoding content-type date etag expires grpc-message grpc-status ' +
    'last-modified location proxy-status vary via x-request-id'
  ).split(' '),
);

/** A header with a value of any kind. */
export type Named<V> = readonly [name: string, value: V];

/**
 * Applies edits to headers in order, as Envoy's header map does.
 * @param join how two values become one, for headers that Envoy keeps in one line
 * @param text a value that `list` looks at
 */
function editHeaders<V>(
  headers: readonly Named<V>[],
  edits: readonly {
    readonly op: AnswerEdit['op'];
    readonly name: string;
    readonly value: V;
    readonly when?: Compressible;
  }[],
  join: (a: V, b: V, separator: string) => V,
  text: (value: V) => string,
): Named<V>[] {
  let out = [...headers];
  for (const { op, name, value, when } of edits) {
    const at = out.findIndex(([n]) => n === name);
    if (op === 'list') {
      const read = out.map(([n, v]) => [n, text(v)] as const);
      if ((when && !isCompressible(read, when)) || (at >= 0 && hasElement(read[at]![1], text(value)))) continue;
      if (at < 0) out.push([name, value]);
      else out[at] = [name, join(out[at]![1], value, ', ')];
      continue;
    }
    if (op === 'overwrite_if_present' && at < 0) continue;
    if (op === 'add_if_absent' && at >= 0) continue;
    if (op === 'set' && at >= 0) {
      out[at] = [name, value];
    } else if (op === 'append' && at >= 0 && JOINED_ANSWER_HEADERS.has(name)) {
      out[at] = [name, join(out[at]![1], value, ',')];
    } else {
      if (op === 'remove' || op.startsWith('overwrite')) out = out.filter(([n]) => n !== name);
      if (op !== 'remove') out.push([name, value]);
    }
  }
  return out;
}

/** The same for headers whose values are text. */
export function editText(
  headers: readonly Named<string>[],
  edits: Parameters<typeof editHeaders<string>>[1],
): Named<string>[] {
  return editHeaders(
    headers,
    edits,
    (a, b, separator) => a + separator + b,
    (value) => value,
  );
}

const literal = (value: string): Piece[] => [{ kind: 'literal', value }];

/** Two values of a header that is kept in one line. */
function joined(a: readonly Piece[], b: readonly Piece[], separator: string): readonly Piece[] {
  return [...a, ...literal(separator), ...b];
}

/** What is known of a value: what a request's headers put into one is not looked at by any edit. */
const known = (value: readonly Piece[]): string => value.map((p) => (p.kind === 'literal' ? p.value : '')).join('');

function edited(headers: ReplyAction['headers'], edits: readonly AnswerEdit[]): ReplyAction['headers'] {
  const list = headers.map(({ name, value }): Named<readonly Piece[]> => [name, value]);
  return editHeaders(list, edits, joined, known).map(([name, value]) => ({ name, value }));
}

/** The type of bodies that nobody says anything of. */
export const TEXT = 'text/plain';

/**
 * A reply as Envoy's sendLocalReply makes it: headers of the sender, the route's edits, then the type of the body (which
 * an edit may have chosen), then the edits of filters.
 */
export function localReply(
  status: number,
  body: string,
  edits: AnswerEdits = NO_EDITS,
  headers: ReplyAction['headers'] = [],
): ReplyAction {
  const said = edits.local ? rewriteReply(edits.local, status, body) : { status, body, type: TEXT };
  let list = edited(headers, edits.route);
  const type = list.find((h) => h.name === 'content-type');
  // a type that an edit has chosen stays with the body that was given first
  const anew = said.body !== '' && (!type || said.body !== body);
  if (said.body === '' || anew) list = list.filter((h) => h !== type);
  if (anew) list = [...list, { name: 'content-type', value: literal(said.type) }];
  // what the compiler adds is there when filters see it
  const length = String(Buffer.byteLength(said.body));
  const all = said.body === '' ? list : [{ name: 'content-length', value: literal(length) }, ...list];
  const seen = edited(all, edits.filters).filter((h) => h.name !== 'content-length');
  return { kind: 'reply', status: said.status, headers: seen, body: said.body };
}

/** Names of the headers that pieces are made of. */
export function headersIn(pieces: readonly Piece[]): string[] {
  return pieces.flatMap((p) => (p.kind === 'header' ? [p.name] : []));
}

/** A reply that a filter gives with headers of its own and no body: only the filters see it. */
export function filterReply(
  status: number,
  headers: ReplyAction['headers'],
  edits: readonly AnswerEdit[],
): ReplyAction {
  return { kind: 'reply', status, headers: edited(headers, edits), body: '' };
}

const NO_EDITS: AnswerEdits = { route: [], filters: [] };

/** Whether there is anything to do. */
export function hasEdits(edits: AnswerEdits): boolean {
  return edits.route.length + edits.filters.length > 0 || edits.local !== undefined;
}
