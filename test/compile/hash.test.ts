/**
 * Consistent hashing against the real Envoy: the same request must lead to the same endpoint, for rings and Maglev
 * tables, every source of the hash, and combinations of them.
 */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { schedule } from '../../src/compile/host-sets.js';

import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { xxh64 } from '../../src/compile/xxhash.js';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from '../plan/envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';

const envoy = findEnvoy();
const SERVERS = 7;

/** Clusters by name: what they are made of beside their endpoints. `weights`, `names` and `keys` are per endpoint. */
const CLUSTERS: Record<string, { more: JsonObject; weights?: number[]; names?: boolean; keys?: boolean }> = {
  ring: { more: { lb_policy: 'RING_HASH' } },
  small: {
    more: { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: '50', maximum_ring_size: '61' } },
  },
  tiny: { more: { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: '1', maximum_ring_size: '3' } } },
  weighted: { more: { lb_policy: 'RING_HASH' }, weights: [1, 2, 3, 10, 1, 1, 30] },
  named: {
    more: {
      type: 'STRICT_DNS',
      lb_policy: 'RING_HASH',
      common_lb_config: { consistent_hashing_lb_config: { use_hostname_for_hashing: true } },
    },
    names: true,
  },
  keyed: { more: { lb_policy: 'RING_HASH' }, keys: true },
  maglev: { more: { lb_policy: 'MAGLEV' } },
  prime: { more: { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '101' } }, weights: [1, 2, 3, 10, 1, 1, 30] },
};

const header = (header_name: string) => ({ header: { header_name } });
const cookie = (name: string, more: JsonObject = {}) => ({ cookie: { name, ...more } });
const query = (name: string) => ({ query_parameter: { name } });
const source = { connection_properties: { source_ip: true } };

/** Hash policies by the path prefix of their route. */
const POLICIES: Record<string, JsonObject[]> = {
  '/header': [header('X-User')],
  '/host': [header(':authority')],
  '/path': [header(':path')],
  '/method': [header(':method')],
  '/cookie': [cookie('id')],
  '/query': [query('q')],
  '/source': [source],
  '/two': [header('x-user'), query('q')],
  '/three': [cookie('id'), source, header('x-user')],
  '/terminal': [{ ...header('x-user'), terminal: true }, query('q')],
  '/generated': [{ ...header('x-user'), terminal: true }, cookie('made', { ttl: '0s' })],
};

/** Requests for a policy; each must have a hash. */
function* requests(prefix: string, n: number): Generator<string[]> {
  const lines = (target: string, ...headers: string[]) => [`GET ${target} HTTP/1.1`, 'Host: h', ...headers];
  const text = (i: number) => `${i}${'abcdefghijklmnopqrstuvwxyz-_.~'.repeat(3).slice(0, (i * 7) % 80)}`;
  for (let i = 0; i < n; i++) {
    const value = text(i);
    switch (prefix) {
      case '/host':
        yield [`GET /host HTTP/1.1`, `Host: ${value}.example:80`];
        break;
      case '/path':
        yield lines(`/path/${value}?${i}`);
        break;
      case '/method':
        yield [`${['GET', 'DELETE', 'OPTIONS', 'TRACE'][i % 4]} /method HTTP/1.1`, 'Host: h'];
        break;
      case '/source':
        yield lines('/source');
        break;
      case '/cookie':
      case '/three':
        yield lines(prefix, `Cookie: ${COOKIES[i % COOKIES.length]!.replace('V', value)}`, `x-user: ${value}`);
        break;
      case '/query':
        yield lines(`/query?${QUERIES[i % QUERIES.length]!.replace('V', value)}`);
        break;
      default:
        yield lines(`${prefix}?q=${value}`, ...(i % 3 || prefix === '/header' ? [`x-user: ${value}`] : []));
    }
  }
}

const COOKIES = [
  'id=V',
  'a=b; id=V',
  'id="V"; id=2',
  ' xid=1;id=V;',
  'x;  id=V ;y',
  'id=V=V',
  'Id=1; id=" V"',
  'id="V',
];
const QUERIES = ['q=V', 'x=1&q=V&q=2', 'q', 'qq=1&q=V', '&q=V&', 'q=V=V', 'q==', 'Q=1&q=V?q=3'];

describe('consistent hashing as Envoy does it', { skip: envoy ? false : 'no Envoy', timeout: 120_000 }, () => {
  const servers: { port: number; close(): void }[] = [];
  let running: RunningEnvoy | undefined;
  const ports: Record<string, number> = {};
  let decide: (listener: number, lines: readonly string[]) => ReturnType<typeof interpret>;
  const names = Object.keys(CLUSTERS);

  before(async () => {
    for (let i = 0; i < SERVERS; i++) servers.push(await echoServer(`s${i}`));
    const clusters = names.map((name) => {
      const { more, weights, names: hostnames, keys } = CLUSTERS[name]!;
      const cluster = clusterOf(
        name,
        servers.map((s) => s.port),
        more,
        keys ? servers.map((_, i) => ({ hash_key: `key ${i}` })) : undefined,
      );
      const assignment = cluster.load_assignment as { endpoints: { lb_endpoints: JsonObject[] }[] };
      assignment.endpoints[0]!.lb_endpoints.forEach((e, i) => {
        if (weights) e.load_balancing_weight = weights[i]!;
        if (hostnames) (e.endpoint as JsonObject).hostname = `server-${i}.example`;
      });
      return cluster;
    });
    const listeners: JsonObject[] = [];
    for (const name of names) {
      ports[name] = await freePort();
      const routes = Object.entries(POLICIES).map(([prefix, hash_policy]) => to(name, prefix, {}, { hash_policy }));
      listeners.push(listenerOf([hostOf(routes)], { name, port: ports[name]!, hcm: { stream_idle_timeout: '0s' } }));
    }
    const resources = resourcesOf(listeners, clusters);
    const plan = buildPlan(resources);
    for (const l of plan.listeners)
      for (const host of l.virtualHosts)
        for (const route of host.routes) if (!route.guard) assert.deepEqual(route.reasons, [], `${l.name} ${route.id}`);
    const compiled = compileImage(plan, { generation: 1, endpointId: (_, port) => port, proxyEndpointId: () => 9 });
    assert.deepEqual([...compiled.verdicts], []);
    decide = (listener, lines) =>
      interpret(compiled.image, listener, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), {
        sourceIp: Uint8Array.of(127, 0, 0, 1),
        random: 0,
        uuid: '',
      });
    running = await startEnvoy(envoy!, { listeners, clusters }, Object.values(ports));
  });
  after(async () => {
    await running?.stop();
    for (const s of servers) s.close();
  });

  for (const name of names) {
    for (const prefix of Object.keys(POLICIES)) {
      it(`${name}: ${prefix}`, async () => {
        const chosen = new Set<number>();
        for (const lines of requests(prefix, prefix === '/header' ? 120 : 24)) {
          const decision = decide(names.indexOf(name), lines);
          const answer = await sendRaw(ports[name]!, lines);
          const server = servers.findIndex((_, i) => `s${i}` === answer.headers.find(([n]) => n === 'x-upstream')?.[1]);
          const told = answer.headers.some(([n]) => n === 'set-cookie');
          assert.equal(decision.action, told ? 'proxy' : 'forward', lines.join('\n'));
          if (told) continue;
          if (decision.endpoints.length > 1) continue; // no hash: any endpoint
          assert.equal(
            servers.findIndex((s) => s.port === decision.endpoints[0]),
            server,
            lines.join('\n'),
          );
          chosen.add(server);
        }
        if (prefix === '/header') assert.ok(chosen.size >= (name === 'tiny' ? 1 : 5), `${[...chosen]}`);
      });
    }
  }
});

describe('xxHash and schedules', () => {
  it('agrees with the published values', () => {
    assert.equal(xxh64(Buffer.from('')), 0xef46db3751d8e999n);
    assert.equal(xxh64(Buffer.from('a')), 0xd24ec4f1a98c6e5bn);
    assert.equal(xxh64(Buffer.from('abc')), 0x44bc2cf5ad770999n);
    assert.equal(
      xxh64(Buffer.from('Call me Ishmael. Some years ago--never mind how long precisely-')),
      0x02a2e85470d6fd96n,
    );
  });
  it('gives each endpoint its share of a round, spread', () => {
    assert.deepEqual(schedule([1, 3], 100), [1, 1, 0, 1]);
    assert.deepEqual(schedule([20, 40, 20], 100)?.slice().sort(), [0, 1, 1, 2]);
    assert.equal(schedule([1, 1000], 100), undefined);
  });
});
