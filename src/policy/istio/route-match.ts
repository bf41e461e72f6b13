/** HTTPMatchRequest -> envoy.config.route.v3.RouteMatch, as istiod translates it for sidecars. */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path } from './context.js';
import type { StringMatch } from './schema/common.js';
import type { HttpMatch } from './schema/virtual-service.js';

/** envoy.type.matcher.v3.StringMatcher; undefined if nothing is asked of the value. */
export function envoyString(match: StringMatch): JsonObject | undefined {
  if (match.exact !== undefined) return { exact: match.exact };
  if (match.prefix !== undefined) return { prefix: match.prefix };
  if (match.regex !== undefined) return { safe_regex: { regex: match.regex } };
  return undefined;
}

/** `*` is no RE2: Istio takes it, and a match without any kind, as "present". */
function isPresent(match: StringMatch): boolean {
  return match.regex === '*' || envoyString(match) === undefined;
}

function matcher(name: string, match: StringMatch): JsonObject {
  if (isPresent(match)) return { name, present_match: true };
  return { name, string_match: envoyString(match) ?? {} };
}

/** JWT claims appear as pseudo-headers in matches. */
const CLAIM = /^@request\.auth\.claims(?:\.(?<dots>.+)|\[(?<brackets>.+)\])$/is;

function claimPath(name: string): string[] | undefined {
  const { dots, brackets } = CLAIM.exec(name)?.groups ?? {};
  return dots?.split('.') ?? brackets?.split('][');
}

function claimMatcher(claims: readonly string[], match: StringMatch, invert: boolean): JsonObject {
  const value = { string_match: envoyString(match) ?? { safe_regex: { regex: '.+' } } };
  return {
    filter: 'envoy.filters.http.jwt_authn',
    path: ['payload', ...claims].map((key) => ({ key })),
    value: { or_match: { value_matchers: [value, { list_match: { one_of: value } }] } },
    ...(invert ? { invert: true } : {}),
  };
}

const byName = (a: JsonObject, b: JsonObject) =>
  String(a.name) < String(b.name) ? -1 : String(a.name) > String(b.name) ? 1 : 0;

/**
 * Translates one match; undefined stands for a rule without matches.
 *
 * @param path where the match stands in `document`, for provenance
 */
export function routeMatch(context: Context, document: Document, match: HttpMatch | undefined, path: Path): JsonObject {
  const out: JsonObject = { prefix: '/' };
  context.origin(out, document, path);
  if (!match) return out;
  const headers: JsonObject[] = [];
  const metadata: JsonObject[] = [];
  const each = (field: 'headers' | 'withoutHeaders', invert: boolean) => {
    for (const [name, value] of Object.entries(match[field] ?? {})) {
      const claims = claimPath(name);
      const own = [...path, field, name];
      if (claims) {
        metadata.push(context.origin(claimMatcher(claims, value, invert), document, own));
        continue;
      }
      const header = context.origin(matcher(name, value), document, own);
      if (invert) {
        header.invert_match = true;
        if (!isPresent(value)) header.treat_missing_header_as_empty = true;
      }
      headers.push(header);
    }
  };
  each('headers', false);
  each('withoutHeaders', true);
  headers.sort(byName);
  const { uri } = match;
  if (uri?.exact !== undefined) {
    delete out.prefix;
    out.path = uri.exact;
  } else if (uri?.prefix !== undefined) out.prefix = uri.prefix;
  else if (uri?.regex !== undefined) {
    delete out.prefix;
    out.safe_regex = { regex: uri.regex };
  }
  if (uri) for (const key of ['path', 'prefix', 'safe_regex']) context.origin(out, document, [...path, 'uri'], key);
  out.case_sensitive = !match.ignoreUriCase;
  for (const field of ['method', 'authority', 'scheme'] as const) {
    const value = match[field];
    if (value) headers.push(context.origin(matcher(`:${field}`, value), document, [...path, field]));
  }
  const query = Object.entries(match.queryParams ?? {}).map(([name, value]) =>
    context.origin(matcher(name, value), document, [...path, 'queryParams', name]),
  );
  if (headers.length > 0) out.headers = headers;
  if (query.length > 0) out.query_parameters = query;
  if (metadata.length > 0) out.dynamic_metadata = metadata;
  return out;
}

/** True if nothing can get past a route with this match. */
export function isCatchAll(match: JsonObject): boolean {
  const regex = match.safe_regex as JsonObject | undefined;
  const everything = match.prefix === '/' || regex?.regex === '.*';
  return everything && !match.headers && !match.query_parameters && !match.dynamic_metadata;
}
