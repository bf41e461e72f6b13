/** Tokens that clients may have, and what a configuration comes to for one whose token was found to be good. */
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';

/** The claims of a token. */
export type Claims = JsonObject;

const JWT_FILTER = 'envoy.filters.http.jwt_authn';
const MOST_TOKENS = 4;

/** Sets a claim that a policy calls `[a][b]`, or by a name alone. */
function setClaim(claims: Claims, key: string, value: Json): void {
  const path = [...key.matchAll(/\[([^\]]+)\]/g)].map(([, name]) => name ?? '');
  const [first, ...rest] = path.length > 0 ? path : [key];
  let at = claims;
  let name = first ?? '';
  for (const next of rest) {
    at[name] = asObject(at[name]) ?? {};
    at = at[name] as JsonObject;
    name = next;
  }
  at[name] = value;
}

/** Tokens made of the words of AuthorizationPolicies and RequestAuthentications; none where no policy asks for tokens. */
export function tokensFor(objects: readonly JsonObject[]): Claims[] {
  const text = JSON.stringify(objects.filter((o) => /^(Authorization|RequestAuth)/.test(asString(o.kind))));
  if (!/"(jwtRules|requestPrincipals|notRequestPrincipals)"|request\.auth\./.test(text)) return [];
  const word = (value: string) => value.replaceAll('*', 'x') || 'x';
  const principals = [...text.matchAll(/"(?:notR|r)equestPrincipals":\[([^\]]*)\]/g)]
    .flatMap(([, list = '']) => [...list.matchAll(/"([^"]+)"/g)].map(([, name]) => word(name ?? '')))
    .map((name) => ({
      iss: name.replace(/\/[^/]*$/, '') || 'x',
      sub: name.includes('/') ? name.replace(/^.*\//, '') : 'x',
    }));
  const issuers = [...text.matchAll(/"issuer":"([^"]+)"/g)].map(([, iss]) => ({ iss: iss ?? '', sub: 'someone' }));
  const claims = [...text.matchAll(/"key":"request\.auth\.claims(\[[^"]+)","(?:notV|v)alues":\[([^\]]*)\]/g)].map(
    ([, key = '', list = '']) => ({ key, values: [...list.matchAll(/"([^"]*)"/g)].map(([, v]) => word(v ?? '')) }),
  );
  const who = [...principals, ...issuers, { iss: 'stranger', sub: 'x' }];
  return who.slice(0, MOST_TOKENS).map((base, index): Claims => {
    const out: Claims = { ...base };
    if (index === who.length - 1) return out;
    for (const { key, values } of claims) {
      const value = values[index % values.length] ?? 'x';
      setClaim(out, key, index % 2 === 0 ? value : ['other', value]);
    }
    return out;
  });
}

function stringMatches(matcher: JsonObject, text: string): boolean {
  const fold = (value: string) => (matcher.ignore_case === true ? value.toLowerCase() : value);
  const own = fold(text);
  const has = (key: string) => typeof matcher[key] === 'string';
  const wanted = (key: string) => fold(asString(matcher[key]));
  if (has('exact')) return own === wanted('exact');
  if (has('prefix')) return own.startsWith(wanted('prefix'));
  if (has('suffix')) return own.endsWith(wanted('suffix'));
  if (has('contains')) return own.includes(wanted('contains'));
  return new RegExp(`^(?:${asString(asObject(matcher.safe_regex)?.regex)})$`).test(text);
}

/** envoy.type.matcher.v3.ValueMatcher */
function valueMatches(matcher: JsonObject, value: Json | undefined): boolean {
  const string = asObject(matcher.string_match);
  if (string) return typeof value === 'string' && stringMatches(string, value);
  const any = asObject(matcher.or_match);
  if (any) return asObjects(any.value_matchers).some((m) => valueMatches(m, value));
  const one = asObject(asObject(matcher.list_match)?.one_of);
  if (one) return Array.isArray(value) && value.some((item) => valueMatches(one, item));
  if (matcher.present_match !== undefined) return (value !== undefined) === matcher.present_match;
  throw new Error(`a matcher of claims that is not known: ${JSON.stringify(matcher)}`);
}

/** A configuration in which every condition on claims is replaced by its truth, and no token is looked at. */
export function decideClaims(value: Json, claims: Claims | undefined): Json {
  if (Array.isArray(value)) {
    const kept = value.filter((item) => asObject(item)?.name !== JWT_FILTER);
    return kept.map((item) => decideClaims(item, claims));
  }
  const object = asObject(value);
  if (!object) return value;
  const matcher = asObject(object.metadata) ?? asObject(asObject(object.sourced_metadata)?.metadata_matcher);
  if (matcher?.filter === JWT_FILTER) {
    const [root, ...path] = asObjects(matcher.path).map((p) => asString(p.key));
    let found: Json | undefined = root === 'payload' ? claims : undefined;
    for (const key of path) found = asObject(found)?.[key];
    const holds = valueMatches(asObject(matcher.value) ?? {}, found) !== (matcher.invert === true);
    return holds ? { any: true } : { not_id: { any: true } };
  }
  const entries = Object.entries(object).filter(([key]) => key !== JWT_FILTER);
  return Object.fromEntries(entries.map(([key, child]) => [key, decideClaims(child, claims)]));
}

/** What a listener's filter (and a route's configuration of it) asks of tokens: providers in order, and the requirement. */
export function tokensAsked(listener: JsonObject): JsonObject | undefined {
  const text = JSON.stringify(listener);
  const name = /"requirement_name":("(?:[^"\\]|\\.)*")/.exec(text)?.[1];
  let filter: JsonObject | undefined;
  JSON.stringify(listener, (_, v: Json) => {
    if (asObject(v)?.name === JWT_FILTER) filter = asObject(asObject(v)?.typed_config);
    return v;
  });
  if (!filter) return undefined;
  const wanted = name
    ? asObject(asObject(filter.requirement_map)?.[JSON.parse(name) as string])
    : asObject(asObjects(filter.rules)[0]?.requires);
  const order = [...JSON.stringify(wanted ?? {}).matchAll(/"provider_name":"((?:[^"\\]|\\.)*)"/g)].map(
    ([, n]) => n ?? '',
  );
  const names = [...new Set(order)];
  const providers = names.map((n) => {
    const own = asObject(asObject(filter?.providers)?.[n]) ?? {};
    const {
      local_jwks: local,
      remote_jwks: _,
      normalize_payload_in_metadata: words,
      clear_route_cache: __,
      ...rest
    } = own;
    const given = asString(asObject(local)?.inline_string);
    const claims = asObject(words)?.space_delimited_claims;
    return {
      ...rest,
      // keys that must be fetched are nobody's where there is no network
      keys: /"kty": ?"(RSA|EC)"/.test(given) && UNFETCHED.test(given) ? 'fetched' : given || 'fetched',
      words: Array.isArray(claims) ? claims.map(String).sort() : [],
    } as JsonObject;
  });
  const requirement = JSON.stringify(wanted ?? {}, (key, v: Json) =>
    key === 'provider_name' ? names.indexOf(asString(v)) : v,
  );
  return { providers, requirement, bypass: filter.bypass_cors_preflight ?? false };
}

/** Keys that istiod, and Sidestep, have in place of those that nobody can fetch. */
const UNFETCHED = /0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet|6nC-45lD-HpVKzSpIbtrPi8ITqIOnvsIM8MP8YxRKho/;
