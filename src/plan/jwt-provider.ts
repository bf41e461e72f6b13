/** The providers of a jwt_authn filter (JwtProvider): who signs tokens, where they are, and what becomes of them. */
import type { JsonObject } from '../policy/resources.js';
import { isPlainHeader } from './header-edits.js';
import { bool, durationMs, has, join, list, type Notes, num, obj, onlyFields, str, strings } from './notes.js';
import { stringMatcher } from './string-match.js';
import type { TokenHeader, TokenKeys, TokenPlace, TokenProvider } from './tokens.js';

const DEFAULT_SKEW_S = 60;
const DEFAULT_CACHE_MS = 600_000;
const DEFAULT_HEADERS: readonly TokenHeader[] = [{ name: 'authorization', prefix: 'Bearer ' }];
const DEFAULT_PARAMS = ['access_token'];

/** A provider's configuration; what of it cannot be judged in the kernel is noted. */
export function readProvider(notes: Notes, p: JsonObject, at: string): TokenProvider {
  onlyFields(notes, p, at, [
    'issuer',
    'audiences',
    'local_jwks',
    'remote_jwks',
    'forward',
    'from_headers',
    'from_params',
    'from_cookies',
    'payload_in_metadata',
    'normalize_payload_in_metadata',
    'clear_route_cache',
    'forward_payload_header',
    'pad_forward_payload_header',
    'claim_to_headers',
    'subjects',
    // how long Envoy itself remembers verified tokens; their times are tested all the same
    'jwt_cache_config',
    'clock_skew_seconds',
  ]);
  const skew = num(p, 'clock_skew_seconds');
  if (skew > 0 && skew < DEFAULT_SKEW_S)
    notes.add('jwt', 'a clock skew below 60 seconds', join(at, 'clock_skew_seconds'), p, 'clock_skew_seconds');
  const normalize = obj(p, 'normalize_payload_in_metadata');
  if (normalize) onlyFields(notes, normalize, join(at, 'normalize_payload_in_metadata'), ['space_delimited_claims']);
  const own = has(p, 'from_headers') || has(p, 'from_params') || has(p, 'from_cookies');
  const forward = bool(p, 'forward');
  const claimHeaders = list(p, 'claim_to_headers').map((c, i) => {
    onlyFields(notes, c, `${at}.claim_to_headers[${i}]`, ['header_name', 'claim_name']);
    return { name: str(c, 'header_name').toLowerCase(), claim: str(c, 'claim_name') };
  });
  const payloadHeader = str(p, 'forward_payload_header').toLowerCase();
  for (const name of [...claimHeaders.map((c) => c.name), ...(payloadHeader === '' ? [] : [payloadHeader])])
    if (!isPlainHeader(name)) notes.add('jwt', `claims are put into the header ${name}`, at, p);
  const subjects = obj(p, 'subjects');
  const subject = subjects && stringMatcher(notes, subjects, join(at, 'subjects'));
  const params = own ? strings(p, 'from_params') : DEFAULT_PARAMS;
  return {
    issuer: str(p, 'issuer'),
    audiences: strings(p, 'audiences'),
    headers: own
      ? list(p, 'from_headers').map((h) => ({ name: str(h, 'name').toLowerCase(), prefix: str(h, 'value_prefix') }))
      : DEFAULT_HEADERS,
    params,
    cookies: strings(p, 'from_cookies'),
    claimHeaders,
    payloadHeader,
    padded: bool(p, 'pad_forward_payload_header'),
    ...(subject && ('value' in subject || subject.kind === 'regex') ? { subject } : {}),
    forward,
    payloadKey: str(p, 'payload_in_metadata'),
    spaceDelimited: normalize ? strings(normalize, 'space_delimited_claims') : [],
    reroutes: bool(p, 'clear_route_cache'),
    keys: readKeys(notes, p, at),
  };
}

function readKeys(notes: Notes, p: JsonObject, at: string): TokenKeys {
  const none: TokenKeys = { kind: 'inline', jwks: '{"keys":[]}' };
  const local = obj(p, 'local_jwks');
  if (local) {
    onlyFields(notes, local, join(at, 'local_jwks'), ['inline_string', 'inline_bytes', 'filename']);
    if (has(local, 'inline_string')) return { kind: 'inline', jwks: str(local, 'inline_string') };
    if (has(local, 'inline_bytes'))
      return { kind: 'inline', jwks: Buffer.from(str(local, 'inline_bytes'), 'base64').toString() };
    return { kind: 'file', path: str(local, 'filename') };
  }
  const remote = obj(p, 'remote_jwks');
  if (!remote) return none;
  onlyFields(notes, remote, join(at, 'remote_jwks'), ['http_uri', 'cache_duration', 'async_fetch', 'retry_policy']);
  const uri = obj(remote, 'http_uri') ?? {};
  const cacheMs = durationMs(remote, 'cache_duration') ?? DEFAULT_CACHE_MS;
  return { kind: 'remote', uri: str(uri, 'uri'), cluster: str(uri, 'cluster'), cacheMs };
}

/** Where the tokens of providers may be, each place once. */
export function placesOf(providers: readonly TokenProvider[]): TokenPlace[] {
  const places = new Map<string, TokenPlace>();
  const add = (kind: TokenPlace['kind'], name: string) => places.set(`${kind} ${name}`, { kind, name });
  for (const { name } of providers.flatMap((p) => p.headers)) add('header', name);
  for (const name of providers.flatMap((p) => p.params)) add('param', name);
  for (const name of providers.flatMap((p) => p.cookies)) add('cookie', name);
  return [...places.values()];
}

/** Headers that a provider fills. */
export function filledBy({ claimHeaders, payloadHeader }: TokenProvider): string[] {
  return [...claimHeaders.map(({ name }) => name), ...(payloadHeader === '' ? [] : [payloadHeader])];
}
