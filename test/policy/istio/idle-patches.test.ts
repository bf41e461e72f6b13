/** EnvoyFilters that need a filter which no policy of the files brings in: whether they are taken to change nothing. What istiod makes of the same was looked at. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { translate } from './helpers.js';

const MESH = `apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.96.43.1, selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-1, labels: { app: web } }
status: { podIP: 10.2.43.1 }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec: { selector: { istio: ingressgateway }, servers: [{ port: { number: 80, protocol: HTTP, name: http }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec: { hosts: ["*"], gateways: [gate], http: [{ route: [{ destination: { host: web } }] }] }
`;

const filter = (spec: string, name = 'one', more = '') =>
  `---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: ${name} }\nspec: { ${more} configPatches: [${spec}] }\n`;
const policy = (kind: string, labels: string, spec: string) =>
  `---\napiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${kind.toLowerCase()} }\nspec: { selector: { matchLabels: ${labels} }, ${spec} }\n`;
const at = (name: string, operation: string, context = 'SIDECAR_INBOUND') =>
  `{ applyTo: HTTP_FILTER, match: { context: ${context}, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: ${name} } } } } }, patch: { operation: ${operation}, value: { name: ${name}, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors } } } }`;

const JWT = 'envoy.filters.http.jwt_authn';
const TOKENS = 'jwtRules: [{ issuer: a@example.com, jwks: \'{ "keys": [] }\' }]';
const LIMITS = '{ rate_limits: [{ actions: [{ remote_address: {} }] }] }';
const limits = (to: string, value: string) =>
  `{ applyTo: ${to}, match: { context: SIDECAR_INBOUND }, patch: { operation: MERGE, value: ${value} } }`;
const LIMITER = `{ applyTo: HTTP_FILTER, match: { context: SIDECAR_INBOUND }, patch: { operation: INSERT_FIRST, value: { name: limiter, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: x } } } }`;
const EXTENSION =
  '{ applyTo: EXTENSION_CONFIG, match: { context: SIDECAR_INBOUND }, patch: { operation: ADD, value: { name: own } } }';
const DISCOVERED =
  '{ applyTo: HTTP_FILTER, match: { context: SIDECAR_OUTBOUND }, patch: { operation: INSERT_FIRST, value: { name: own, config_discovery: { config_source: { ads: {} }, type_urls: [a] } } } }';
const WEB = 'workloadSelector: { labels: { app: web } },';

for (const [what, documents, idle] of [
  ['merges with the tokens of nobody', [filter(at(JWT, 'MERGE'))], true],
  ['merges with tokens of the servers', [filter(at(JWT, 'MERGE')), policy('RequestAuthentication', '{ app: web }', TOKENS)], false],
  ['merges with tokens of other servers', [filter(at(JWT, 'MERGE'), 'one', WEB), policy('RequestAuthentication', '{ app: other }', TOKENS)], true],
  ['inserts behind rules of nobody', [filter(at('envoy.filters.http.rbac', 'INSERT_AFTER'))], true],
  ['inserts behind rules of the servers', [filter(at('envoy.filters.http.rbac', 'INSERT_AFTER')), policy('AuthorizationPolicy', '{ app: web }', 'rules: [{}]')], false],
  ['inserts before a filter that is always there', [filter(at('envoy.filters.http.fault', 'INSERT_BEFORE'))], false],
  ['removes a name of old', [filter(at('envoy.cors', 'REMOVE'))], true],
  ['removes a name of old that another one adds', [filter(at('envoy.lua', 'REMOVE')), filter(LIMITER.replace('limiter', 'envoy.lua'), 'two')], false],
  ['puts a filter first', [filter(at(JWT, 'INSERT_FIRST'))], false],
  ['limits without a limiter', [filter(limits('VIRTUAL_HOST', LIMITS)), filter(limits('HTTP_ROUTE', `{ route: ${LIMITS} }`), 'two')], true],
  ['limits for a limiter', [filter(limits('VIRTUAL_HOST', LIMITS)), filter(LIMITER, 'two')], false],
  ['limits and retries', [filter(limits('VIRTUAL_HOST', '{ rate_limits: [], include_request_attempt_count: true }'))], false],
  ['merges with the tokens of a gateway without', [filter(at(JWT, 'MERGE', 'GATEWAY'), 'one', 'workloadSelector: { labels: { app: istio-ingressgateway } },').replace('name: one', 'name: one, namespace: istio-system')], true],
  ['is a configuration that no filter asks for', [filter(EXTENSION)], true],
  ['is a configuration that a filter asks for', [filter(EXTENSION), filter(DISCOVERED, 'two')], false],
] as const) // biome-ignore format: one case a line
  test(`an EnvoyFilter that ${what}`, () => {
    const { rules, diagnostics, left } = translate([MESH, ...documents].join(''));
    const one = rules.find(({ kind, name }) => kind === 'EnvoyFilter' && name === 'one')!;
    const told = diagnostics.some(({ code }) => code === 'no-effect');
    assert.deepEqual([one.unsupported.length === 0, told], [idle, idle], JSON.stringify(one.unsupported));
    if (idle) assert.equal(left?.size, 0);
  });
