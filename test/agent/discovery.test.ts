/** Endpoints that the proxy finds out: what the agent makes of its answer. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Discovery, parseClusters } from '../../src/agent/discovery.js';
import { MAX_DISCOVERED } from '../../src/compile/clusters.js';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';

const host = (address: string, health: JsonObject = { eds_health_status: 'HEALTHY' }): JsonObject => ({
  address: { socket_address: { address, port_value: 80 } },
  health_status: health,
});
const answer = (name: string, ...host_statuses: JsonObject[]): string =>
  JSON.stringify({ cluster_statuses: [{ name, host_statuses }, { name: 'other' }] });

describe('parseClusters', () => {
  it('reads addresses and health', () => {
    const hosts = parseClusters(
      answer('c', host('10.0.0.1'), host('::1', {}), host('10.0.0.2', { failed_active_health_check: true })),
    ).get('c');
    assert.deepEqual(hosts, [
      { address: '10.0.0.1', port: 80, health: 'healthy', priority: 0 },
      { address: '::1', port: 80, health: 'healthy', priority: 0 },
      { address: '10.0.0.2', port: 80, health: 'unhealthy', priority: 0 },
    ]);
  });
  it('knows what Envoy calls healthy', () => {
    const health = (status: JsonObject) => parseClusters(answer('c', host('10.0.0.1', status))).get('c')?.[0]?.health;
    assert.equal(health({ eds_health_status: 'DEGRADED' }), 'degraded');
    assert.equal(health({ failed_active_degraded_check: true }), 'degraded');
    assert.equal(health({ failed_active_degraded_check: true, failed_outlier_check: true }), 'unhealthy');
    assert.equal(health({ eds_health_status: 'DRAINING' }), 'excluded');
    assert.equal(health({ eds_health_status: 'TIMEOUT' }), 'unhealthy');
    assert.equal(health({ pending_active_hc: true, failed_active_health_check: true }), 'excluded');
  });
  it('leaves clusters out that have other hosts', () => {
    assert.equal(parseClusters(answer('c', { address: { pipe: { path: '/x' } } })).get('c'), undefined);
    assert.deepEqual(parseClusters(answer('c')).get('c'), []);
  });
});

describe('Discovery', () => {
  const cluster = clusterOf('c', [1], { type: 'STRICT_DNS' });
  const assignment = cluster.load_assignment as { endpoints: { lb_endpoints: JsonObject[] }[] };
  assignment.endpoints[0]!.lb_endpoints[0]!.endpoint = {
    address: { socket_address: { address: 'name.test', port_value: 80 } },
  };
  const plan = buildPlan(resourcesOf([listenerOf([hostOf([to('c')])])], [cluster]));
  const compiled = compileImage(plan, { generation: 1, endpointId: () => 1, proxyEndpointId: () => 2 });
  const ids = new Map<string, number>();
  let said: string | Error = answer('c', host('10.0.0.1'));
  const put: number[][] = [];
  const retired: number[] = [];
  const discovery = new Discovery({
    clusters: () => (said instanceof Error ? Promise.reject(said) : Promise.resolve(said)),
    endpointId: (address) => {
      if (!ids.has(address)) ids.set(address, ids.size);
      return ids.get(address)!;
    },
    setHosts: (_cluster, _room, hosts) => put.push(hosts.map(({ id }) => id)),
    limits: () => undefined,
    retire: (id) => retired.push(id),
  });
  after(() => discovery.stop());
  const decide = () =>
    interpret(compiled.image, 0, Buffer.from('GET / HTTP/1.1\r\nhost: h\r\n\r\n'), {
      sourceIp: Uint8Array.of(127, 0, 0, 1),
      random: 0,
      uuid: '',
    });
  /** Until `done`, at most two seconds. */
  async function until(done: () => boolean): Promise<void> {
    for (let i = 0; i < 200 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(done(), JSON.stringify({ put, retired }));
  }

  it('leaves requests to the proxy while nothing is known', () => {
    assert.equal(decide().action, 'proxy');
  });
  it('writes what is known into an image before it is in force', async () => {
    await discovery.prepare(compiled);
    assert.deepEqual(decide().endpoints, [0]);
  });
  it('puts changes in force, and gives up endpoints that nothing leads to any more', async () => {
    discovery.enforce(compiled, new Map([[1, 0]]), new Map());
    said = answer('c', host('10.0.0.1'), host('10.0.0.2'));
    await until(() => put.length === 1);
    assert.deepEqual(put, [[0, 1]]);
    said = answer('c', host('10.0.0.3'));
    await until(() => put.length === 2);
    assert.deepEqual([put[1], retired], [[2], [0]], 'endpoint 1 belongs to another cluster, too');
  });
  it('keeps what it knows while the proxy does not answer, and balances no more than there is room for', async () => {
    said = new Error('gone');
    await new Promise((resolve) => setTimeout(resolve, 700));
    assert.equal(put.length, 2);
    said = answer('c', ...Array.from({ length: MAX_DISCOVERED + 1 }, (_, i) => host(`10.0.1.${i}`)));
    await until(() => put.length === 3);
    assert.deepEqual(put[2], []);
  });
});
