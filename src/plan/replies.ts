/** RedirectAction and DirectResponseAction -> replies. The location is composed as Envoy's Http::Utility::newUri does. */
import type { JsonObject } from '../policy/resources.js';
import type { RouteContext, Variant } from './actions.js';
import { proxied } from './actions.js';
import { ALWAYS, all, headerPresent, not, test } from './conditions.js';
import { CLOSES } from './fault.js';
import type { Piece, ReplyAction } from './ir.js';
import { type LogOperator, writes } from './log-format.js';
import { bool, has, join, type Notes, num, obj, onlyFields, str } from './notes.js';
import { reports } from './tracing.js';

const STATUS: Record<string, number> = {
  MOVED_PERMANENTLY: 301,
  FOUND: 302,
  SEE_OTHER: 303,
  TEMPORARY_REDIRECT: 307,
  PERMANENT_REDIRECT: 308,
};

/** Longest body that the kernel answers with, in bytes (MAX_LITERAL of the image, and Envoy's own default limit). */
const MAX_BODY = 4096;

const literal = (value: string): Piece => ({ kind: 'literal', value });

/** What begins otherwise, Envoy puts behind a slash (tried). */
const absolute = (path: string): string => (path.startsWith('/') ? path : `/${path}`);

function pathPieces(redirect: JsonObject, matched: number | 'whole'): Piece[] {
  const query: Piece[] = bool(redirect, 'strip_query') ? [] : [{ kind: 'query' }];
  const path = str(redirect, 'path_redirect');
  if (path !== '') return [literal(absolute(path)), ...(path.includes('?') ? [] : query)];
  const prefix = str(redirect, 'prefix_rewrite');
  if (prefix !== '') {
    // the query is cut off what has become of the path
    const cut = query.length === 0 && prefix.includes('?');
    if (cut) return [literal(absolute(prefix.slice(0, prefix.indexOf('?'))))];
    return [
      literal(absolute(prefix)),
      ...(matched === 'whole' ? [] : [{ kind: 'path', from: matched } as const]),
      ...query,
    ];
  }
  return [{ kind: 'path', from: 0 }, ...query];
}

/** A RedirectAction as variants. */
export function redirectVariants(notes: Notes, redirect: JsonObject, ctx: RouteContext, path: string): Variant[] {
  onlyFields(notes, redirect, path, [
    'https_redirect',
    'scheme_redirect',
    'host_redirect',
    'port_redirect',
    'path_redirect',
    'prefix_rewrite',
    'regex_rewrite',
    'response_code',
    'strip_query',
  ]);
  const { logged, suppressEnvoyHeaders, trace } = ctx.listener;
  // the proxy writes the new path into the request first, and keeps the old one beside it
  const original = ({ header, alternative }: LogOperator) =>
    !suppressEnvoyHeaders && header === 'x-envoy-original-path' && alternative === ':path';
  const paths = logged.filter((o) => writes(o, 'REQ', ':path') || writes(o, 'REQ', 'x-envoy-original-path'));
  if (has(redirect, 'prefix_rewrite') && !paths.every(original))
    notes.add('access-log', 'the path that the redirect makes is logged', join(path, 'prefix_rewrite'), redirect);
  if (has(redirect, 'prefix_rewrite') && suppressEnvoyHeaders && reports(trace))
    notes.add('tracing', 'the path that the redirect makes is a tag', join(path, 'prefix_rewrite'), redirect);
  if (has(redirect, 'regex_rewrite')) {
    notes.add('redirect', 'the new path is made by a regular expression', join(path, 'regex_rewrite'), redirect);
  }
  const status = STATUS[str(redirect, 'response_code') || 'MOVED_PERMANENTLY'];
  if (status === undefined) notes.add('redirect', 'unknown response code', join(path, 'response_code'), redirect);
  if (!notes.clean || status === undefined) return [proxied(notes, ALWAYS)];

  const own = ctx.listener.secure ? 'https' : 'http';
  const scheme = str(redirect, 'scheme_redirect') || (bool(redirect, 'https_redirect') ? 'https' : own);
  const port = num(redirect, 'port_redirect');
  const host = str(redirect, 'host_redirect');
  const rest = [...(port === 0 ? [] : [literal(`:${port}`)]), ...pathPieces(redirect, ctx.matched)];
  const reply = (hostPiece: Piece): ReplyAction => ({
    kind: 'reply',
    status,
    headers: [{ name: 'location', value: joinLiterals([literal(`${scheme}://`), hostPiece, ...rest]) }],
    body: '',
  });
  const kernel = (when: Variant['when'], hostPiece: Piece): Variant => ({
    when,
    action: reply(hostPiece),
    reasons: [],
    guard: false,
  });
  // A client's own x-forwarded-proto changes the scheme of the request.
  const forwardedProto = test(
    { kind: 'header', name: 'x-forwarded-proto' },
    { kind: 'exact', value: own, ignoreCase: false },
  );
  const guardNotes = notes.fork();
  guardNotes.add('request-dependent', `x-forwarded-proto is not ${own}`, path, redirect);
  const variants: Variant[] = [
    { ...proxied(guardNotes, all([headerPresent('x-forwarded-proto'), not(forwardedProto)])), guard: true },
  ];
  if (host !== '') return [...variants, kernel(ALWAYS, literal(host))];
  if (port !== 0) return [...variants, kernel(ALWAYS, { kind: 'host_name' })];
  if (scheme !== own) {
    // the default port of the scheme that is left is dropped
    const value = ctx.listener.secure ? ':443' : ':80';
    const defaultPort = test({ kind: 'host' }, { kind: 'suffix', value, ignoreCase: false });
    variants.push(kernel(defaultPort, { kind: 'host_name' }));
  }
  return [...variants, kernel(ALWAYS, { kind: 'host' })];
}

/** Neighbouring literals in one piece. */
export function joinLiterals(pieces: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  for (const p of pieces) {
    const last = out.at(-1);
    if (p.kind === 'literal' && last?.kind === 'literal') out[out.length - 1] = literal(last.value + p.value);
    else if (p.kind !== 'literal' || p.value !== '') out.push(p);
  }
  return out;
}

/** A DirectResponseAction as variants. @param streams requests are of HTTP/2 */
export function directResponseVariants(notes: Notes, response: JsonObject, path: string, streams: boolean): Variant[] {
  onlyFields(notes, response, path, ['status', 'body']);
  const status = num(response, 'status');
  const source = obj(response, 'body');
  // 201 and 3xx get a location header, 1xx and 205 have no body, and Envoy announces one of 204: the proxy knows how
  const bodiless = status === 205 || (status === 204 && source !== undefined);
  if (status < 200 || status === 201 || bodiless || (status >= 300 && status < 400)) {
    notes.add('direct-response', `status ${status}`, join(path, 'status'), response, 'status');
  }
  if (status === CLOSES && !streams)
    notes.add(
      'direct-response',
      `status ${status}, which closes the connection`,
      join(path, 'status'),
      response,
      'status',
    );
  if (source) {
    for (const key of Object.keys(source)) {
      if (key !== 'inline_string')
        notes.add('direct-response', `a body from ${key}`, join(path, `body.${key}`), source, key);
    }
  }
  const body = str(source, 'inline_string');
  if (Buffer.byteLength(body) > MAX_BODY)
    notes.add('direct-response', `a body over ${MAX_BODY} bytes`, join(path, 'body'), response, 'body');
  if (!notes.clean) return [proxied(notes, ALWAYS)];
  const headers = body === '' ? [] : [{ name: 'content-type', value: [literal('text/plain')] }];
  return [{ when: ALWAYS, action: { kind: 'reply', status, headers, body }, reasons: [], guard: false }];
}
