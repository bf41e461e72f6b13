/** Servers of HTTP/2 that the proxy finds out: which of them a listener's clients are connected to. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Names } from '../../src/agent/h2/names.js';
import { MAX_SERVERS } from '../../src/agent/h2/policy.js';
import { compileImage } from '../../src/compile/image.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';

const named = (name: string): JsonObject => {
  const address = { socket_address: { address: `${name}.test`, port_value: 80 } };
  return {
    ...clusterOf(name, [], { type: 'STRICT_DNS', http2_protocol_options: {} }),
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  };
};
const found = (name: string, n: number, net: number): JsonObject => ({
  name,
  host_statuses: Array.from({ length: n }, (_, i) => ({
    address: { socket_address: { address: `10.0.${net}.${i}`, port_value: 80 } },
    health_status: { eds_health_status: 'HEALTHY' },
  })),
});

const policy = compileImage(
  buildPlan(resourcesOf([listenerOf([hostOf([to('a', '/a'), to('b')])])], [named('a'), named('b')]), {
    ...{ http2: true, streams: true, atListener: true },
  }),
  { generation: 1, endpointId: () => -1, proxyEndpointId: () => -1 },
);
let said: JsonObject[] = [];
let changes = 0;
const written: string[] = [];
const names = new Names({
  clusters: () => Promise.resolve(JSON.stringify({ cluster_statuses: said })),
  endpointId: (address) => Number(address.split('.')[2]) * 1000 + Number(address.split('.')[3]),
  setHosts: (cluster) => written.push(cluster.plan.name),
  changed: () => changes++,
});
after(() => names.stop());

const FIXED = { address: '10.1.0.1', port: 80, endpoint: 99_999 };
const servers = () => names.servers({ fixed: [FIXED], named: ['a', 'b'] }).map(({ address }) => address);
async function until(done: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(done());
}

test('what was found, as far as there is room for whole clusters', async () => {
  said = [found('a', MAX_SERVERS, 0), found('b', 2, 1)];
  await names.prepare(policy);
  assert.deepEqual(servers(), ['10.1.0.1'], 'not in force yet');
  names.enforce(policy);
  assert.deepEqual(servers(), ['10.1.0.1', '10.0.1.0', '10.0.1.1']);
  said = [found('a', 1, 0), found('b', 2, 1)];
  await until(() => servers().length === 4);
  assert.deepEqual([written, changes > 1], [['a'], true]);
});

test('nothing is written while another image comes into force', async () => {
  names.pause();
  const before = written.length;
  said = [found('a', 2, 0), found('b', 2, 1)];
  await until(() => servers().length === 5);
  assert.equal(written.length, before);
});
