/** Tokens: Envoy's jwt_authn with claims in metadata, headers and routes. The keys, and so the tokens, differ from run to run. */
import type { JsonObject } from '../../../src/policy/resources.js';
import { forged, type Signer, setOf, signer } from '../../plan/jwt-keys.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, type Listener, maybe, several, some, typed } from './construct.js';

const LISTENERS = 5;
export const ISSUERS = { a: 'https://a.example', b: 'b@example.com' } as const;

export interface Keys {
  readonly a: Signer;
  readonly b: Signer;
  readonly stranger: Signer;
}
let made: Promise<Keys> | undefined;
export function keys(): Promise<Keys> {
  made ??= (async () => {
    const [a, b, stranger] = await Promise.all([signer('ES256', 'k1'), signer('ES256'), signer('ES256', 'k1')]);
    return { a, b, stranger };
  })();
  return made;
}

const CLAIMS: readonly JsonObject[] = [
  { groups: ['admin', 'dev'], scope: 'read write' },
  { groups: 'admin', realm: { role: 'admin', roles: ['x', 'admin'], eu: { on: true } } },
  { groups: [], scope: 'read', n: 7, realm: { roles: 'admin' } },
  { groups: ['x'], 'realm.role': 'admin', on: true },
  { realm: [{ role: 'admin' }], groups: { admin: 'admin' }, n: 'seven' },
  {},
];

/** Tokens of both issuers, good and bad. */
export async function tokens(draw: Draw): Promise<string[]> {
  const { a, b, stranger } = await keys();
  const now = Math.floor(Date.now() / 1000);
  const payload = (iss: string): JsonObject => ({
    ...{ iss, sub: draw.one(['alice', 'bob', 'al']), exp: now + (draw.below(10) === 0 ? -300 : 3600) },
    ...draw.one<JsonObject>([{ aud: 'web' }, { aud: 'web' }, { aud: ['web', 'other'] }, { aud: 'else' }, {}]),
    ...maybe(draw, 6, [{ nbf: now - 10 }, { nbf: now + 600 }]),
    ...draw.one(CLAIMS),
  });
  const bad = [
    await stranger.sign(payload(ISSUERS.a)),
    await a.sign(payload(ISSUERS.b)),
    await a.sign(payload('nobody')),
    forged({ alg: 'none' }, payload(ISSUERS.a), ''),
    'garbage',
    '',
  ];
  const good = await Promise.all(several(6, () => draw.one([a.sign(payload(ISSUERS.a)), b.sign(payload(ISSUERS.b))])));
  return [...good, ...good, ...some(draw, 3, bad)];
}

/** Places of tokens in requests: header lines, and what stands in queries. */
export function placed(draw: Draw, list: readonly string[]): { one: [string, string][]; queries: string[] } {
  const token = (): string => draw.one(list);
  const one = several(40, (): [string, string] =>
    draw.one<[string, string]>([
      ...several(6, (): [string, string] => ['Authorization', `Bearer ${token()}`]),
      ['authorization', `${draw.one(['bearer', 'Basic', 'Bearer ', 'x Bearer'])} ${token()}`],
      ['x-token', draw.one([token(), `JWT ${token()}`, `JWT${token()}`])],
      ['x-jwt-assertion', token()],
      [
        'Cookie',
        draw.one([`session=${token()}`, `a=b; session=${token()}; c=d`, `session="${token()}"`, `xsession=${token()}`]),
      ],
    ]),
  );
  const queries = several(8, () =>
    draw.one([
      `tok=${token()}`,
      `access_token=${token()}`,
      `q=1&tok=${token()}&z=%41`,
      `tok=${token()}&tok=${token()}`,
      `t%6fk=${token()}`,
      'q=1',
    ]),
  );
  return { one, queries };
}

function provider(draw: Draw, issuer: string, by: Signer): JsonObject {
  return {
    ...(draw.below(12) > 0 && { issuer }),
    local_jwks:
      draw.below(4) === 0 ? { inline_bytes: Buffer.from(setOf(by)).toString('base64') } : { inline_string: setOf(by) },
    ...maybe(draw, 4, [{ audiences: ['web'] }, { audiences: ['other', 'https://web/'] }]),
    ...maybe(draw, 2, [
      { from_headers: [{ name: 'x-token', value_prefix: 'JWT ' }] },
      { from_headers: [{ name: 'x-token' }, { name: 'Authorization', value_prefix: 'Bearer ' }] },
    ]),
    ...maybe(draw, 3, [{ from_params: ['tok'] }, { from_params: ['tok', 'access_token'] }]),
    ...maybe(draw, 3, [{ from_cookies: ['session'] }]),
    ...maybe(draw, 3, [{ forward: true }]),
    ...maybe(draw, 4, [
      { forward_payload_header: 'x-payload' },
      { forward_payload_header: 'x-payload', pad_forward_payload_header: true },
    ]),
    ...maybe(draw, 3, [
      { claim_to_headers: [{ header_name: 'x-sub', claim_name: 'sub' }] },
      {
        claim_to_headers: [
          { header_name: 'x-role', claim_name: 'realm.role' },
          { header_name: 'x-n', claim_name: 'n' },
          { header_name: 'x-groups', claim_name: 'groups' },
        ],
      },
    ]),
    ...(draw.below(5) > 0 && { payload_in_metadata: 'payload' }),
    ...maybe(draw, 2, [{ normalize_payload_in_metadata: { space_delimited_claims: ['scope', 'sub'] } }]),
    ...maybe(draw, 10, [{ subjects: { exact: 'alice' } }, { subjects: { prefix: 'al' } }]),
    ...maybe(draw, 5, [{ clear_route_cache: true }]),
    ...maybe(draw, 20, [{ clock_skew_seconds: 600 }, { require_expiration: true }, { max_lifetime: '3600s' }]),
  };
}

function requirement(draw: Draw, names: readonly string[], depth = 0): JsonObject {
  const leaf = (): JsonObject =>
    draw.one<JsonObject>([
      { provider_name: draw.one(names) },
      { provider_name: draw.one(names) },
      { provider_and_audiences: { provider_name: draw.one(names), audiences: ['web'] } },
    ]);
  const nested = (): JsonObject => (depth < 1 && draw.below(4) === 0 ? requirement(draw, names, depth + 1) : leaf());
  switch (draw.below(5)) {
    case 0:
      return leaf();
    case 1:
      return { requires_all: { requirements: several(2, nested) } };
    case 2:
      return { requires_any: { requirements: several(2, nested) } };
    default:
      return {
        requires_any: {
          requirements: [
            ...several(1 + draw.below(2), nested),
            draw.one<JsonObject>([{ allow_missing: {} }, { allow_missing: {} }, { allow_missing_or_failed: {} }]),
          ],
        },
      };
  }
}

const text = (draw: Draw): JsonObject => ({
  string_match: draw.one<JsonObject>([
    ...[{ exact: 'admin' }, { exact: 'alice' }, { prefix: 'a' }, { suffix: 'n', ignore_case: true }],
    ...[{ contains: 'd' }, { safe_regex: { regex: 'a.*|x' } }],
  ]),
});
const PATHS = [
  ['sub'],
  ['groups'],
  ['realm', 'role'],
  ['realm', 'roles'],
  ['scope'],
  ['realm.role'],
  ['n'],
  ['realm', 'eu', 'on'],
  ['iss'],
];

/** A metadata matcher on a claim. */
function claim(draw: Draw): JsonObject {
  const value = draw.one<JsonObject>([
    ...[text(draw), text(draw), { list_match: { one_of: text(draw) } }, { present_match: true }, { bool_match: true }],
    { or_match: { value_matchers: [text(draw), { list_match: { one_of: text(draw) } }] } },
  ]);
  return {
    filter: 'envoy.filters.http.jwt_authn',
    path: [draw.below(8) === 0 ? 'other' : 'payload', ...draw.one(PATHS)].map((key) => ({ key })),
    value,
  };
}

function rules(draw: Draw): JsonObject {
  const one = (): JsonObject =>
    draw.one<JsonObject>([
      { metadata: claim(draw) },
      { metadata: claim(draw) },
      { metadata: { ...claim(draw), invert: true } },
      { any: true },
    ]);
  const principal = draw.one<JsonObject>([
    one(),
    { not_id: one() },
    { and_ids: { ids: [one(), one()] } },
    { or_ids: { ids: [one(), one()] } },
  ]);
  return {
    action: draw.one(['ALLOW', 'DENY']),
    policies: { p: { permissions: [{ any: true }], principals: [principal] } },
  };
}

export const jwt: Construct = {
  share: 0.2,
  make: async (draw) => {
    const { a, b } = await keys();
    const listeners = several(LISTENERS, (): Listener => {
      const names = draw.one([['a'], ['a', 'b'], ['a', 'b'], ['a', 'b', 'c']]);
      const providers = Object.fromEntries(
        names.map((name) => [name, name === 'b' ? provider(draw, ISSUERS.b, b) : provider(draw, ISSUERS.a, a)]),
      );
      const map = Object.fromEntries(['m', 'n'].map((name) => [name, requirement(draw, names)]));
      const byRoute = draw.below(2) === 0;
      const filter = typed('jwt_authn.v3.JwtAuthentication', {
        providers,
        ...(byRoute
          ? { requirement_map: map }
          : {
              rules: ['/a', '/b', '/'].slice(0, 1 + draw.below(3)).map((prefix) => ({
                match: { prefix, ...maybe(draw, 5, [{ headers: [{ name: 'x-user', present_match: true }] }]) },
                ...maybe(draw, 1, [{ requires: requirement(draw, names) }, { requires: requirement(draw, names) }, {}]),
              })),
            }),
        ...maybe(draw, 2, [{ bypass_cors_preflight: true }]),
        ...maybe(draw, 8, [{ strip_failure_response: true }]),
      });
      const own = (): JsonObject =>
        typed(
          'jwt_authn.v3.PerRouteConfig',
          draw.one<JsonObject>([{ requirement_name: 'm' }, { requirement_name: 'n' }, { disabled: true }]),
        );
      const filters: JsonObject[] = [
        { name: 'jwt', typed_config: filter },
        ...(draw.below(3) > 0
          ? [{ name: 'rbac', typed_config: typed('rbac.v3.RBAC', draw.one<JsonObject>([{}, { rules: rules(draw) }])) }]
          : []),
      ];
      return {
        filters,
        hosts: [
          {
            ...{ name: 'all', domains: ['*'] },
            routes: ['/a/claims', '/a', '/b', '/'].map((prefix) => {
              const overrides: JsonObject = {
                ...(byRoute && draw.below(4) > 0 && { jwt: own() }),
                ...(filters.length > 1 &&
                  draw.below(2) === 0 && { rbac: typed('rbac.v3.RBACPerRoute', { rbac: { rules: rules(draw) } }) }),
              };
              return {
                match: { prefix, ...(prefix === '/a/claims' && { dynamic_metadata: [claim(draw)] }) },
                route: { cluster: draw.one(CLUSTERS) },
                typed_per_filter_config: overrides,
                ...maybe(draw, 4, [
                  { request_headers_to_remove: ['authorization'] },
                  { request_headers_to_add: [{ header: { key: 'x-new', value: '1' } }] },
                ]),
              };
            }),
          },
        ],
      };
    });
    return {
      documents: [bootstrap(listeners)],
      ...placed(draw, await tokens(draw)),
      headers: [
        ['x-sub', 'mallory'],
        ['x-payload', 'mallory'],
      ],

      paths: ['/a/claims/x', '/a/x', '/b/x', '/c'],
    };
  },
};
