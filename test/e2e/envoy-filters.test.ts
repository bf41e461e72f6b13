/** EnvoyFilters in force: what they make of Istio's resources is decided in the kernel, or run by the proxy, as Envoy does. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Ask, IstioWorld, outcome, service, type Upstream } from './istio-world.js';
import { skip } from './world.js';

const filter = (name: string, patch: string): string => `---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: ${name} }
spec:
  configPatches:
${patch.replace(/^/gm, '    ')}
`;

const policies = ([
  web,
  script,
  limited,
]: readonly Upstream[]): string => `${service('web', 'clusterIP: 10.96.182.1', [web!])}
${service('script', 'clusterIP: 10.96.182.2', [script!])}
${service('limited', 'clusterIP: 10.96.182.3', [limited!])}
${filter(
  'answers',
  `- applyTo: HTTP_ROUTE
  match: { context: SIDECAR_OUTBOUND, routeConfiguration: { vhost: { name: 'web.default.svc.cluster.local:80' } } }
  patch:
    operation: INSERT_FIRST
    value: { match: { prefix: /maintenance }, direct_response: { status: 503, body: { inline_string: "later\\n" } } }
- applyTo: VIRTUAL_HOST
  match: { context: SIDECAR_OUTBOUND, routeConfiguration: { vhost: { name: 'web.default.svc.cluster.local:80' } } }
  patch:
    operation: MERGE
    value:
      requestHeadersToAdd: [{ header: { key: x-user, value: somebody }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]`,
)}
${filter(
  'script',
  `- applyTo: HTTP_FILTER
  match:
    context: SIDECAR_OUTBOUND
    listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } }
  patch:
    operation: INSERT_BEFORE
    value:
      name: edits
      typed_config:
        '@type': type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
        value: { mutations: { request_mutations: [{ remove: x-debug }] } }`,
)}
${filter(
  'limits',
  `- applyTo: HTTP_FILTER
  match: { context: SIDECAR_OUTBOUND, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager } } } }
  patch:
    operation: INSERT_BEFORE
    value:
      name: envoy.filters.http.local_ratelimit
      typed_config:
        '@type': type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
        value: { stat_prefix: limiter }
- applyTo: HTTP_ROUTE
  match: { context: SIDECAR_OUTBOUND, routeConfiguration: { vhost: { name: 'limited.default.svc.cluster.local:80', route: { action: ANY } } } }
  patch:
    operation: MERGE
    value:
      typed_per_filter_config:
        envoy.filters.http.local_ratelimit:
          '@type': type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: limiter
            token_bucket: { max_tokens: 2, tokens_per_fill: 2, fill_interval: 600s }
            filter_enabled: { runtime_key: local_rate_limit_enabled, default_value: { numerator: 100 } }
            filter_enforced: { runtime_key: local_rate_limit_enforced, default_value: { numerator: 100 } }
            response_headers_to_add: [{ header: { key: x-local-rate-limit, value: 'true' } }]`,
)}
`;

describe('EnvoyFilters', { skip, concurrency: 1, timeout: 240_000 }, () => {
  let world: IstioWorld;

  before(async () => {
    world = await IstioWorld.open('envoy-filters');
    await world.write(policies(await world.upstreams('web', 'script', 'limited')));
    await world.start();
  });

  after(() => world?.close());

  test('a route that a patch inserts is answered in the kernel', async () => {
    assert.ok(await world.inKernel({ host: 'web', path: '/maintenance/now' }, 503));
    assert.equal(outcome(await world.mesh({ host: 'web', path: '/maintenance' })).body, 'later\n');
  });

  test('headers that patches add and remove are edited in the kernel', async () => {
    const ask: Ask = {
      host: 'web',
      path: '/',
      headers: [
        ['X-Debug', '1'],
        ['X-User', 'me'],
      ],
    };
    assert.ok(await world.inKernel(ask, 200));
    const { received } = outcome(await world.mesh(ask)) as { received: { headers: string[] } };
    assert.ok(received.headers.includes('x-user: somebody'), received.headers.join('\n'));
    assert.ok(!received.headers.some((line) => line.startsWith('x-debug')), received.headers.join('\n'));
  });

  test('a TypedStruct limits in the kernel, whose runtime keys no layer of the mesh speaks of', async () => {
    const ask: Ask = { host: 'limited', path: '/' };
    for (const way of ['alone', 'mesh'] as const)
      for (const status of [200, 200, 429]) assert.equal(outcome(await world[way](ask)).status, status, way);
    // refusals are the kernel's, as Envoy alone gives them
    assert.ok(await world.inKernel(ask, 429));
  });

  test('the other service has the filter of all listeners, and not what the virtual host says', async () => {
    const ask: Ask = { host: 'script', path: '/maintenance', headers: [['X-Debug', '1']] };
    assert.ok(await world.inKernel(ask, 200));
    const { received } = outcome(await world.mesh(ask)) as { received: { headers: string[] } };
    assert.ok(!received.headers.some((line) => /^x-(debug|user)/.test(line)), received.headers.join('\n'));
  });
});

describe('an EnvoyFilter that only the proxy can run', { skip, concurrency: 1, timeout: 240_000 }, () => {
  let world: IstioWorld;

  before(async () => {
    world = await IstioWorld.open('envoy-filter-lua');
    const [web, plain] = await world.upstreams('web', 'plain');
    await world.write(`${service('web', 'clusterIP: 10.96.183.1', [web!]).replace('port: 80,', 'port: 8000,')}
${service('plain', 'clusterIP: 10.96.183.2', [plain!])}
${filter(
  'script',
  `- applyTo: HTTP_FILTER
  match: { context: SIDECAR_OUTBOUND, listener: { portNumber: 8000 } }
  patch:
    operation: INSERT_BEFORE
    value:
      name: script
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
        default_source_code: { inline_string: "function envoy_on_request(handle) handle:headers():add('x-lua', 'ran') end" }`,
)}`);
    await world.start();
  });

  after(() => world?.close());

  test('its listener is the proxy’s, which runs it', async () => {
    const ask: Ask = { host: 'web:8000', to: 'web:8000', path: '/' };
    const alone = outcome(await world.alone(ask));
    const before = (await world.sidestep.status()).requests;
    for (let i = 0; i < 5; i++) assert.deepEqual(outcome(await world.mesh(ask)), alone);
    const { received } = alone as { received: { headers: string[] } };
    assert.ok(received.headers.includes('x-lua: ran'), received.headers.join('\n'));
    const { kernel } = (await world.sidestep.status()).requests;
    assert.equal(kernel, before.kernel, 'nothing of it is decided in the kernel');
  });

  test('others are decided in the kernel', async () => {
    assert.ok(await world.inKernel({ host: 'plain', path: '/' }, 200));
  });
});
