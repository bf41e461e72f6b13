/**
 * Who takes which part of a cluster's traffic: health, priorities, panic, weights of localities. Clusters are drawn at
 * random; the real Envoy spreads a few hundred requests over each of them, and the plan must have said how.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { clusterInfo } from '../../src/plan/clusters.js';
import { type HostState, hostSets } from '../../src/plan/host-sets.js';
import { Notes } from '../../src/plan/notes.js';
import { clusterFor } from '../../src/plan/subsets.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy, type RunningEnvoy, startEnvoy } from './envoy-oracle.js';
import { hostOf, listenerOf, resourcesOf, to } from './resources.js';

const envoy = findEnvoy();
const CLUSTERS = 90;
const REQUESTS = 400;

/** Mulberry32. */
function generator(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const state = (health: HostState['health'], priority = 0, locality = 0): HostState => ({ health, priority, locality });

describe('host sets', () => {
  const how = { panicThreshold: 50, overprovisioning: 140 };
  const shares = (hosts: readonly HostState[], more = {}) =>
    hostSets(hosts, { ...how, ...more }).map(({ share, lists }) => [share, ...lists.map((l) => l.members)]);

  it('spills to the next priority what the first cannot take', () => {
    const first = [state('healthy'), state('unhealthy'), state('unhealthy')];
    assert.deepEqual(shares([...first, state('healthy', 1)]), [
      [46, [0]],
      [54, [3]],
    ]);
    // the second takes a third: together they reach no 100 percent, so both panic
    const second = [state('healthy', 1), ...Array.from({ length: 9 }, () => state('unhealthy', 1))];
    assert.equal(shares([...first, ...second]).length, 2);
  });
  it('takes degraded hosts when there are no better ones', () => {
    assert.deepEqual(shares([state('degraded'), state('degraded')]), [[100, [0, 1]]]);
    assert.deepEqual(shares([state('healthy'), state('degraded'), state('degraded')]), [
      [46, [0]],
      [54, [1, 2]],
    ]);
  });
  it('panics, unless the threshold is 0', () => {
    assert.deepEqual(shares([state('unhealthy'), state('unhealthy')]), [[100, [0, 1]]]);
    assert.deepEqual(shares([state('unhealthy'), state('unhealthy')], { panicThreshold: 0 }), []);
  });
  it('weighs localities by what is healthy of them', () => {
    const hosts = [state('healthy', 0, 0), state('unhealthy', 0, 0), state('healthy', 0, 1)];
    const [set] = hostSets(hosts, { ...how, localityWeights: [1, 1] });
    assert.deepEqual(set!.lists, [
      { weight: 7, members: [0] },
      { weight: 10, members: [2] },
    ]);
  });
});

describe('host sets as Envoy has them', { skip: envoy ? false : 'no Envoy', timeout: 120_000 }, () => {
  let server: http.Server;
  let running: RunningEnvoy | undefined;
  let port: number;
  const clusters: JsonObject[] = [];
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

  function draw(name: string, random: () => number, target: number): JsonObject {
    const below = (n: number) => Math.floor(random() * n);
    const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
    const weighted = random() < 0.4;
    const healths = pick([
      ['HEALTHY'],
      ['HEALTHY', 'UNKNOWN', 'UNHEALTHY'],
      ['HEALTHY', 'DEGRADED', 'UNHEALTHY', 'TIMEOUT'],
      ['HEALTHY', 'DRAINING', 'UNHEALTHY'],
      ['UNHEALTHY', 'DRAINING', 'DEGRADED'],
      ['HEALTHY', 'UNHEALTHY', 'UNHEALTHY', 'UNHEALTHY'],
    ]);
    let last = 0;
    const endpoints = Array.from({ length: 1 + below(5) }, (_, k) => ({
      priority: weighted && random() < 0.5 ? 0 : below(3),
      ...(random() < 0.9 ? { locality: { zone: pick(['a', 'b', `z${k}`]) } } : {}),
      ...(random() < 0.8 ? { load_balancing_weight: 1 + below(5) } : {}),
      lb_endpoints: Array.from({ length: 1 + below(4) }, () => ({
        endpoint: { address: { socket_address: { address: `127.0.1.${++last}`, port_value: target } } },
        health_status: pick(healths),
      })),
    }));
    const factor = pick([undefined, undefined, 100, 200]);
    const panic = pick([undefined, undefined, 0, 30, 33.5, 100]);
    return {
      name,
      type: 'STATIC',
      connect_timeout: '1s',
      lb_policy: pick(['ROUND_ROBIN', 'RANDOM', 'LEAST_REQUEST']),
      common_lb_config: {
        ...(weighted ? { locality_weighted_lb_config: {} } : {}),
        ...(panic === undefined ? {} : { healthy_panic_threshold: { value: panic } }),
      },
      load_assignment: {
        cluster_name: name,
        endpoints: endpoints as unknown as JsonObject[],
        ...(factor === undefined ? {} : { policy: { overprovisioning_factor: factor } }),
      },
    };
  }

  before(async () => {
    server = http.createServer((request, response) => {
      response.end(request.socket.localAddress);
    });
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const target = (server.address() as AddressInfo).port;
    const random = generator(20);
    for (let i = 0; i < CLUSTERS; i++) clusters.push(draw(`c${i}`, random, target));
    port = await freePort();
    const routes = clusters.map((c) => to(String(c.name), `/${c.name}/`));
    running = await startEnvoy(envoy!, { listeners: [listenerOf([hostOf(routes)], { port })], clusters }, [port]);
  });
  after(async () => {
    agent.destroy();
    await running?.stop();
    server.close();
    server.closeAllConnections();
  });

  const ask = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      http
        .get({ port, host: '127.0.0.1', path, agent }, (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => resolve(response.statusCode === 200 ? Buffer.concat(chunks).toString() : 'none'));
        })
        .on('error', reject);
    });

  it('spreads requests over hosts', async () => {
    let several = 0;
    let understood = 0;
    for (const cluster of clusters) {
      const name = String(cluster.name);
      const info = clusterInfo(cluster, resourcesOf([], [cluster]));
      const notes = new Notes(info.notes.provenance);
      const plan = info.notes.clean ? clusterFor(notes, info, {}, '') : undefined;
      const counts = new Map<string, number>();
      for (let i = 0; i < REQUESTS / 8; i++)
        for (const host of await Promise.all(Array.from({ length: 8 }, () => ask(`/${name}/`))))
          counts.set(host, (counts.get(host) ?? 0) + 1);
      const text = `${JSON.stringify(cluster)} ${JSON.stringify([...counts])} ${JSON.stringify(plan)}`;
      if (!plan) {
        assert.deepEqual([...counts.keys()], ['none'], `${text} ${JSON.stringify([info.notes, notes])}`);
        continue;
      }
      understood++;
      if (plan.sets) several++;
      const shares = new Map<string, number>();
      const sets = plan.sets ?? [{ share: 100, lists: [{ weight: 1, members: plan.endpoints.map((_, i) => i) }] }];
      for (const { share, lists } of sets) {
        const total = lists.reduce((sum, { weight }) => sum + weight, 0);
        for (const { weight, members } of lists)
          for (const m of members) {
            const { address } = plan.endpoints[m]!;
            const part = (share / 100) * (weight / total / members.length);
            shares.set(address, (shares.get(address) ?? 0) + part);
          }
      }
      for (const host of counts.keys()) assert.ok(shares.has(host), `${host}: ${text}`);
      for (const [host, share] of shares) {
        const seen = counts.get(host) ?? 0;
        const spread = 5 * Math.sqrt(REQUESTS * share * (1 - share)) + 3;
        assert.ok(Math.abs(seen - share * REQUESTS) <= spread, `${host}: ${seen} of ${share * REQUESTS}: ${text}`);
      }
    }
    assert.ok(several > 20 && understood > 60, `${several} with several sets, ${understood} understood`);
  });
});
