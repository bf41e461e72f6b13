/** Filters of Gateway API rules and backends -> fields of Envoy's routes. */
import type { Context, Path, RuleBuilder } from '../istio/context.js';
import { appendHeaderFields, headerOperations } from '../istio/route-headers.js';
import { CORS_FILTER, corsConfig } from '../istio/route-policies.js';
import type { JsonObject } from '../resources.js';
import type { Match } from './match.js';
import type { CorsFilter, Filter, HeaderModifier, PathModifier, RequestRedirect } from './schema.js';

/** What Envoy takes as a format; commands in it count, as under istiod. */
const FORMAT = /^(?:[^%]|%%|%[A-Z0-9_]+(?:\([^()%]*\))?(?::\d+)?%)*$/;
const text = (value: string) => (FORMAT.test(value) ? value : value.replaceAll('%', '%%'));

/** Of several entries for one name only the first counts. */
function entries(list: readonly { name: string; value: string }[] | undefined): Record<string, string> {
  const out: Record<string, string> = {};
  for (const { name, value } of list ?? []) out[name.toLowerCase()] ??= text(value);
  return out;
}

const operations = (modifier: HeaderModifier | undefined) =>
  modifier && { set: entries(modifier.set), add: entries(modifier.add), remove: modifier.remove };

/** Header fields of a Route or ClusterWeight, and the Host that a modifier sets. */
export function headerFields(filters: readonly Filter[] | undefined): { fields: JsonObject; host: string } {
  const fields: JsonObject = {};
  let host = '';
  for (const { requestHeaderModifier: request, responseHeaderModifier: response } of filters ?? []) {
    if (!request && !response) continue;
    const own = headerOperations({ request: operations(request), response: operations(response) });
    appendHeaderFields(fields, own.fields);
    host ||= own.authority;
  }
  return { fields, host };
}

const STATUS: Readonly<Record<number, string>> = {
  301: 'MOVED_PERMANENTLY',
  302: 'FOUND',
  303: 'SEE_OTHER',
  307: 'TEMPORARY_REDIRECT',
  308: 'PERMANENT_REDIRECT',
};

/** One Envoy route of a rule: its match, and how it changes the path. */
export interface Variant {
  readonly match: JsonObject;
  /** fields of a RouteAction */
  readonly rewrite: JsonObject;
  /** fields of a RedirectAction */
  readonly redirect: JsonObject;
}

/**
 * The Envoy routes that carry out a change of the path. Replacing a prefix by nothing takes two: the prefix itself
 * becomes `/`, and what is below it loses the prefix but not the slash that follows.
 */
export function pathVariants(match: Match, modifier: PathModifier | undefined): Variant[] {
  const plain = { match: match.json, rewrite: {}, redirect: {} };
  if (!modifier) return [plain];
  if (modifier.type === 'ReplaceFullPath') {
    const path = modifier.replaceFullPath || '/';
    const rewrite = match.exact
      ? { prefix_rewrite: path }
      : { regex_rewrite: { pattern: { regex: '^/.*$' }, substitution: path.replaceAll('\\', '\\\\') } };
    return [{ match: match.json, rewrite, redirect: { path_redirect: path } }];
  }
  const to = (modifier.replacePrefixMatch ?? '').replace(/\/+$/, '');
  const from = match.prefix ?? '';
  const both = (json: JsonObject, value: string): Variant => ({
    match: json,
    rewrite: { prefix_rewrite: value },
    redirect: { prefix_rewrite: value },
  });
  // Both without the slash at their end: `/` is the empty prefix.
  if (from === '') return [both(match.json, `${to}/`)];
  if (to !== '') return [both(match.json, to)];
  const { path_separated_prefix: _, ...rest } = match.json;
  return [both({ ...rest, path: from }, '/'), both({ ...rest, prefix: `${from}/` }, '/')];
}

/**
 * A redirect as envoy.config.route.v3.RedirectAction, without its path.
 *
 * @param listenPort the port that clients connect to, which stays where neither scheme nor port are given
 */
export function redirectAction(redirect: RequestRedirect, listenPort: number): JsonObject {
  const out: JsonObject = { response_code: STATUS[redirect.statusCode ?? 302] ?? 'FOUND' };
  if (redirect.scheme) out.scheme_redirect = redirect.scheme;
  if (redirect.hostname) out.host_redirect = redirect.hostname;
  const usual = { http: 80, https: 443 };
  const own = redirect.scheme ? usual[redirect.scheme] : listenPort;
  const port = redirect.port ?? own;
  // The scheme's own port is not written out, but a port in the request's Host has to go.
  const silent = port === usual[redirect.scheme ?? 'http'] && (listenPort === 80 || redirect.hostname !== undefined);
  if (!silent) out.port_redirect = port;
  return out;
}

/** What `*` alone stands for: anything that has the form of an origin. */
const ANY_ORIGIN = '^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\\s?#]+$';

/** An origin with `*` for any characters, as istiod reads it. */
function origin(text: string): { exact: string } | { prefix: string } | { regex: string } {
  if (text === '*') return { regex: ANY_ORIGIN };
  const parts = text.split('*');
  if (parts.length === 1) return { exact: text };
  if (parts.length === 2 && parts[1] === '') return { prefix: parts[0] ?? '' };
  const quoted = parts.map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return { regex: `^${quoted.join('.*')}$` };
}

const DEFAULT_MAX_AGE = 5;

function corsPolicy(cors: CorsFilter): JsonObject {
  const { allowOrigins, allowMethods, allowHeaders, exposeHeaders, allowCredentials, maxAge = DEFAULT_MAX_AGE } = cors;
  return corsConfig({
    ...{ allowMethods, allowHeaders, exposeHeaders, unmatchedPreflights: 'IGNORE' },
    ...(allowOrigins ? { allowOrigins: allowOrigins.map(origin) } : {}),
    ...(allowCredentials ? { allowCredentials } : {}),
    ...(maxAge > 0 ? { maxAge: `${maxAge}s` } : {}),
  });
}

/** Per-route configurations of HTTP filters that a rule's filters ask for, by name. */
export function filterConfigs(
  context: Context,
  rule: RuleBuilder,
  filters: readonly Filter[] | undefined,
  path: Path,
): JsonObject {
  const out: JsonObject = {};
  filters?.forEach((filter, index) => {
    if (filter.cors) out[CORS_FILTER] = context.origin(corsPolicy(filter.cors), rule.document, [...path, index]);
  });
  return out;
}

const BY_THE_RULE = new Set(['RequestHeaderModifier', 'ResponseHeaderModifier', 'URLRewrite', 'RequestMirror', 'CORS']);

/**
 * The first filter that nobody here can carry out, by its index; requests of its rule are to be answered 500.
 *
 * @param backend the filters are those of one backend, of which only headers and the host can differ from others
 */
export function foreignFilter(filters: readonly Filter[] | undefined, backend: boolean): number {
  return (filters ?? []).findIndex(({ type, urlRewrite }) => {
    if (!backend) return !BY_THE_RULE.has(type) && type !== 'RequestRedirect';
    return !/HeaderModifier$/.test(type) && (type !== 'URLRewrite' || urlRewrite?.path !== undefined);
  });
}
