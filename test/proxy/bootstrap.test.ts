import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import {
  buildBootstrap,
  buildStaticBootstrap,
  findEnvoy,
  prepareProxy,
  startProxy,
  validateWithEnvoy,
} from '../../src/proxy/index.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-bootstrap-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const ROUTER =
  '{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}';

function listener(name: string, port: number, routes: string): string {
  return `
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: ${name}
  address: {socket_address: {address: 127.0.0.1, port_value: ${port}}}
  filter_chains: [{filters: [{name: hcm, typed_config: {"@type": ${HCM}, stat_prefix: ${name}, http_filters: [${ROUTER}], ${routes}}}]}]`;
}

function routeConfig(name: string, cluster: string): string {
  return `
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: ${name}
  virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: ${cluster}}}]}]`;
}

function endpoints(cluster: string, port: number): string {
  return `
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: ${cluster}
  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ${port}}}}}]}]`;
}

const NAMED = 'rds: {route_config_name: named, config_source: {ads: {}}}';
const INLINE =
  'route_config: {name: named, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 204}}]}]}';
const CLUSTER = `
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: outbound|80||a
  type: EDS
  eds_cluster_config: {service_name: "a:80", eds_config: {ads: {}}}`;

async function load(text: string): Promise<Resources> {
  const file = join(dir, 'resources.yaml');
  writeFileSync(file, `resources:${text}\n`);
  const loaded = await loadFiles([file]);
  assert.deepEqual(loaded.diagnostics, []);
  return loaded;
}

function get(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, agent: false }, (res) => {
      let body = `${res.statusCode} `;
      res.on('data', (chunk) => {
        body += chunk;
      });
      res.on('end', () => resolve(body));
    })
      .on('error', reject)
      .end();
  });
}

function serve(text: string): Promise<Server> {
  const server = createServer((_, res) => res.end(text));
  after(() => server.close());
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

test('routes and endpoints that come by name change one by one', { timeout: 60_000 }, async () => {
  const [one, two] = [await serve('one'), await serve('two')];
  const portOf = (server: Server) => (server.address() as AddressInfo).port;
  const [p, q] = [await freePort(), await freePort()];
  const all = (port: number, more = '') =>
    load(
      listener('first', p, NAMED) +
        listener('second', q, INLINE) +
        routeConfig('named', '"outbound|80||a"') +
        routeConfig('unused', `"outbound|80||a"`) +
        CLUSTER +
        endpoints('"a:80"', port) +
        more,
    );
  const resources = await all(portOf(one));
  assert.deepEqual(await validateWithEnvoy(findEnvoy(), JSON.stringify(buildStaticBootstrap(resources)), dir), []);
  const proxy = await startProxy({ prepared: prepareProxy(resources, join(dir, 'named')), concurrency: 1 });
  try {
    assert.equal(await get(p), '200 one');
    assert.equal(await get(q), '204 ');
    assert.deepEqual(await proxy.update(prepareProxy(await all(portOf(two)), proxy.dir)), []);
    assert.equal(await get(p), '200 two');
    // what no listener asks for does not hold an update up
    const changed = await all(portOf(two));
    (changed.routeConfigs[1] as JsonObject).virtual_hosts = [];
    assert.deepEqual(await proxy.update(prepareProxy(changed, proxy.dir)), []);
    const stats = await proxy.admin.stats('^listener_manager\\.listener_(added|modified|in_place_updated)$');
    assert.deepEqual([...stats.values()].sort(), [0, 0, 2], 'no listener was touched');
  } finally {
    await proxy.stop();
  }
});

test('the bootstrap keeps what the user wrote and never touches it', async () => {
  const file = join(dir, 'rest.yaml');
  writeFileSync(
    file,
    `
node: {id: mine, metadata: {a: 1}}
admin: {access_log: []}
layered_runtime: {layers: [{name: static, static_layer: {re2.max_program_size.error_level: 200}}]}
cluster_manager: {local_cluster_name: local}
static_resources:
  clusters:
  - {name: local}
  - {name: other}
  secrets: [{name: s, generic_secret: {secret: {inline_string: x}}}]
`,
  );
  const resources = await loadFiles([file]);
  assert.deepEqual(resources.diagnostics, []);
  const before = JSON.stringify(resources);
  const files = buildBootstrap(resources, { dir: '/run/x' });
  const fixed = buildStaticBootstrap(resources);
  assert.equal(JSON.stringify(resources), before);
  assert.deepEqual(files.bootstrap.node, { id: 'mine', metadata: { a: 1 }, cluster: 'sidestep' });
  assert.deepEqual(files.bootstrap.admin, { address: { pipe: { path: '/run/x/admin.sock', mode: 0o600 } } });
  assert.ok(files.bootstrap.layered_runtime);
  // Envoy wants clusters that its bootstrap refers to from the start
  assert.deepEqual((files.bootstrap.static_resources as JsonObject).clusters, [{ name: 'local' }]);
  assert.equal(((files.bootstrap.static_resources as JsonObject).secrets as JsonObject[]).length, 1);
  assert.deepEqual(files.clusters, [{ name: 'other' }]);
  assert.equal(((fixed.static_resources as JsonObject).clusters as JsonObject[]).length, 2);
  // a socket's path is at most 107 bytes long
  const long = buildBootstrap(resources, { dir: `/run/${'x'.repeat(100)}` }).bootstrap.admin as JsonObject;
  assert.deepEqual(long.address, { socket_address: { address: '127.0.0.1', port_value: 0 } });
  const proxy = await startProxy({ prepared: prepareProxy(resources, join(dir, 'y'.repeat(100))), concurrency: 1 });
  assert.match(proxy.admin.address, /^127\.0\.0\.1:\d+$/);
  await proxy.stop();
});
