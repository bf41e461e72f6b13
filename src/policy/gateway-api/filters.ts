/** Filters of Gateway API rules and backends -> fields of Envoy's routes. */
import type { Context, Path, RuleBuilder } from '../istio/context.js';
import { CORS_FILTER } from '../istio/route-policies.js';
import type { JsonObject } from '../resources.js';
import type { Match } from './match.js';
import type { CorsFilter, Filter, HeaderModifier, PathModifier, RequestRedirect } from './schema.js';

/** Envoy reads header values as formats, where a percent sign begins a command. */
const literal = (text: string) => text.replaceAll('%', '%%');
const isHost = (name: string) => /^(host|:authority)$/i.test(name);

function edits(modifier: HeaderModifier, direction: 'request' | 'response', target: JsonObject): void {
  const entry = (action: string) => (header: { name: string; value: string }) => ({
    header: { key: header.name, value: literal(header.value) },
    append_action: action,
  });
  const editable = (header: { name: string }) => !header.name.startsWith(':') && !isHost(header.name);
  const add = [
    ...(modifier.set ?? []).filter(editable).map(entry('OVERWRITE_IF_EXISTS_OR_ADD')),
    ...(modifier.add ?? []).filter(editable).map(entry('APPEND_IF_EXISTS_OR_ADD')),
  ];
  const remove = (modifier.remove ?? []).filter((name) => editable({ name }));
  const extend = (key: string, more: (JsonObject | string)[]) => {
    if (more.length > 0) target[key] = [...((target[key] as JsonObject[] | undefined) ?? []), ...more];
  };
  extend(`${direction}_headers_to_add`, add);
  extend(`${direction}_headers_to_remove`, remove);
}

/** Header fields of a Route or ClusterWeight, and the Host that a modifier sets. */
export function headerFields(filters: readonly Filter[] | undefined): { fields: JsonObject; host: string } {
  const fields: JsonObject = {};
  let host = '';
  for (const { requestHeaderModifier, responseHeaderModifier } of filters ?? []) {
    if (requestHeaderModifier) {
      edits(requestHeaderModifier, 'request', fields);
      host = requestHeaderModifier.set?.find((header) => isHost(header.name))?.value ?? host;
    }
    if (responseHeaderModifier) edits(responseHeaderModifier, 'response', fields);
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
  if (from === '') return to === '' ? [plain] : [both(match.json, `${to}/`)];
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

/** Origins with `*` for any characters, as envoy.type.matcher.v3.StringMatcher. */
function origin(text: string): JsonObject {
  if (!text.includes('*')) return { exact: text };
  const parts = text.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return { safe_regex: { regex: parts.join('.*') } };
}

const DEFAULT_MAX_AGE = 5;

function corsPolicy(cors: CorsFilter): JsonObject {
  const out: JsonObject = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy',
    filter_enabled: { default_value: { numerator: 100, denominator: 'HUNDRED' } },
    forward_not_matching_preflights: false,
    max_age: String(cors.maxAge ?? DEFAULT_MAX_AGE),
  };
  if (cors.allowOrigins?.length) out.allow_origin_string_match = cors.allowOrigins.map(origin);
  if (cors.allowMethods?.length) out.allow_methods = cors.allowMethods.join(',');
  if (cors.allowHeaders?.length) out.allow_headers = cors.allowHeaders.join(',');
  if (cors.exposeHeaders?.length) out.expose_headers = cors.exposeHeaders.join(',');
  if (cors.allowCredentials !== undefined) out.allow_credentials = cors.allowCredentials;
  return out;
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
