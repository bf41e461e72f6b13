/** HTTPRouteMatch and GRPCRouteMatch -> envoy.config.route.v3.RouteMatch, with what precedence depends on. */
import type { Document } from '../documents.js';
import type { Context, Path } from '../istio/context.js';
import type { JsonObject } from '../resources.js';
import type { GrpcMethod, HttpMatch, ValueMatch } from './schema.js';

/** What decides which of two matches comes first; larger is earlier, position by position. */
export type Rank = readonly [path: number, length: number, method: number, headers: number, query: number];

export interface Match {
  readonly json: JsonObject;
  readonly rank: Rank;
  /** the prefix of paths that it covers, without a slash at the end; undefined: it has no prefix */
  readonly prefix?: string;
  /** it names one path */
  readonly exact: boolean;
}

/** Kinds of paths in the order of istiod's (getURIRank): where the specification leaves it open, regular expressions come last. */
const EXACT = 3;
const PREFIX = 2;
const REGEX = 1;

const quote = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

function values(
  context: Context,
  document: Document,
  matches: readonly ValueMatch[] | undefined,
  path: Path,
  fold: boolean,
): JsonObject[] {
  const seen = new Set<string>();
  return (matches ?? []).flatMap((match, index): JsonObject[] => {
    const name = fold ? match.name.toLowerCase() : match.name;
    // Of several entries for one name only the first counts.
    if (seen.has(name)) return [];
    seen.add(name);
    const text = match.type === 'RegularExpression' ? { safe_regex: { regex: match.value } } : { exact: match.value };
    return [context.origin({ name: match.name, string_match: text }, document, [...path, index])];
  });
}

interface PathPart {
  readonly json: JsonObject;
  readonly kind: number;
  readonly length: number;
  readonly prefix?: string;
}

function pathPart(type: string, value: string): PathPart {
  if (type === 'Exact') return { json: { path: value }, kind: EXACT, length: value.length };
  if (type === 'RegularExpression')
    return { json: { safe_regex: { regex: value } }, kind: REGEX, length: value.length };
  // Prefixes are of whole path elements; a slash at the end does not count.
  const prefix = value.replace(/\/+$/, '');
  const json = prefix === '' ? { prefix: '/' } : { path_separated_prefix: prefix };
  return { json, kind: PREFIX, length: Math.max(prefix.length, 1), prefix };
}

/** Translates one match of an HTTPRoute; undefined stands for a rule without matches, which matches every request. */
export function httpMatch(context: Context, document: Document, match: HttpMatch | undefined, path: Path): Match {
  const own = pathPart(match?.path?.type ?? 'PathPrefix', match?.path?.value ?? '/');
  const headers = values(context, document, match?.headers, [...path, 'headers'], true);
  const query = values(context, document, match?.queryParams, [...path, 'queryParams'], false);
  const json: JsonObject = { ...own.json };
  const method = match?.method ? { name: ':method', string_match: { exact: match.method } } : undefined;
  if (method) context.origin(method, document, [...path, 'method']);
  const all = [...(method ? [method] : []), ...headers];
  if (all.length > 0) json.headers = all;
  if (query.length > 0) json.query_parameters = query;
  context.origin(json, document, path);
  for (const key of Object.keys(own.json)) context.origin(json, document, [...path, 'path'], key);
  return {
    json,
    rank: [own.kind, own.length, method ? 1 : 0, headers.length, query.length],
    ...(own.prefix === undefined ? {} : { prefix: own.prefix }),
    exact: own.kind === EXACT,
  };
}

/** The path of a gRPC call. A name matches as it is (istiod takes a method without a service for a regular expression). */
function grpcPath(method: GrpcMethod | undefined): PathPart {
  const { service, method: name } = method ?? {};
  if (!service && !name) return { json: { prefix: '/' }, kind: PREFIX, length: 1 };
  const length = (service ?? '').length + (name ?? '').length;
  if (method?.type === 'RegularExpression') {
    const part = (text: string | undefined) => (text?.includes('|') ? `(?:${text})` : text || '[^/]+');
    const regex = `/${part(service)}/${part(name)}`;
    return { json: { safe_regex: { regex } }, kind: REGEX, length };
  }
  if (service && name) return { json: { path: `/${service}/${name}` }, kind: EXACT, length };
  if (service) return { json: { path_separated_prefix: `/${service}` }, kind: PREFIX, length };
  return { json: { safe_regex: { regex: `/[^/]+/${quote(name ?? '')}` } }, kind: REGEX, length };
}

/**
 * Translates one match of a GRPCRoute: a call of a method is a request for `/service/method`. Precedence: the most
 * characters in the matching service, in the matching method, then the most headers. Whatever names a service matches the
 * whole of it, so of two matches that meet one request, both have as many characters there or one has none. Among equals,
 * names come before regular expressions.
 */
export function grpcMatch(
  context: Context,
  document: Document,
  match: { method?: GrpcMethod | undefined; headers?: ValueMatch[] | undefined } | undefined,
  path: Path,
): Match {
  const own = grpcPath(match?.method);
  const headers = values(context, document, match?.headers, [...path, 'headers'], true);
  const json: JsonObject = { ...own.json, ...(headers.length > 0 ? { headers } : {}) };
  context.origin(json, document, path);
  const { type, service = '', method = '' } = match?.method ?? {};
  const named = service !== '' || method !== '';
  const rank: Rank = [
    named ? EXACT : PREFIX,
    service === '' ? 0 : 1,
    method === '' ? 0 : 1,
    headers.length,
    named && type !== 'RegularExpression' ? 1 : 0,
  ];
  return { json, rank, exact: own.kind === EXACT };
}

/** Where a route stands among those of other documents. */
export interface Ranked {
  readonly route: JsonObject;
  readonly rank: Rank;
  readonly created: string;
  readonly namespace: string;
  readonly name: string;
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/**
 * In the order that the specification defines: the most specific match first; then the older route (one without a time
 * counts as new), then by namespace and name (of which istiod has made `name~`); then as written.
 */
export function byPrecedence(a: Ranked, b: Ranked): number {
  for (const [index, value] of a.rank.entries()) {
    const other = b.rank[index] ?? 0;
    if (value !== other) return other - value;
  }
  const age = compare(a.created || '~', b.created || '~');
  return age || compare(a.namespace, b.namespace) || compare(`${a.name}~`, `${b.name}~`);
}
