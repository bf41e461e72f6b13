/** Health checks, degraded endpoints, priorities, panic and weights of localities, through Envoy alone and Sidestep. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hostOf, listenerOf, to } from '../plan/resources.js';
import { eventually } from './eventually.js';
import { ALONE, MESH, request, skip, World } from './world.js';

type Health = 'up' | 'down' | 'degraded';
const CHECK = {
  timeout: '1s',
  interval: '0.1s',
  no_traffic_interval: '0.1s',
  unhealthy_interval: '0.1s',
  unhealthy_threshold: 1,
  healthy_threshold: 1,
  http_health_check: { path: '/health' },
};

/** Places of a cluster: `names` are last bytes of addresses in 127.0.1.0/24. */
interface Place {
  readonly names: readonly number[];
  readonly priority?: number;
  readonly zone?: string;
  readonly weight?: number;
}

function cluster(name: string, port: number, places: readonly Place[], more: JsonObject = {}): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    health_checks: [CHECK],
    load_assignment: {
      cluster_name: name,
      endpoints: places.map((p) => ({
        priority: p.priority ?? 0,
        ...(p.zone ? { locality: { zone: p.zone } } : {}),
        ...(p.weight ? { load_balancing_weight: p.weight } : {}),
        lb_endpoints: p.names.map((n) => ({
          endpoint: { address: { socket_address: { address: `127.0.1.${n}`, port_value: port } } },
        })),
      })),
    },
    ...more,
  };
}

function bootstrap(address: string, port: number, server: number): JsonObject {
  const weights = { common_lb_config: { locality_weighted_lb_config: {} } };
  const clusters = [
    cluster('plain', server, [{ names: [11, 12, 13, 14] }]),
    cluster('failover', server, [{ names: [21, 22, 23] }, { names: [24, 25], priority: 1 }]),
    cluster(
      'zones',
      server,
      [
        { names: [31, 32], zone: 'a', weight: 3 },
        { names: [33, 34], zone: 'b', weight: 1 },
      ],
      weights,
    ),
    cluster('ring', server, [{ names: [41, 42, 43] }, { names: [44, 45], priority: 1 }], { lb_policy: 'RING_HASH' }),
    cluster(
      'fixed',
      server,
      [
        { names: [51, 52], zone: 'a', weight: 2 },
        { names: [53], zone: 'b', weight: 1 },
      ],
      { ...weights, health_checks: [] },
    ),
  ];
  const hash_policy = [{ header: { header_name: 'x-user' } }];
  const routes = clusters.map((c) => to(String(c.name), `/${c.name}/`, {}, c.name === 'ring' ? { hash_policy } : {}));
  const listener = listenerOf([hostOf(routes)], { port, name: 'test' });
  ((listener.address as JsonObject).socket_address as JsonObject).address = address;
  return { static_resources: { listeners: [listener], clusters } };
}

describe('health, priorities and localities', { skip, timeout: 200_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;
  let server: http.Server;
  const health = new Map<number, Health>();

  before(async () => {
    server = http.createServer((incoming, answer) => {
      const name = Number(incoming.socket.localAddress!.split('.').pop());
      const is = health.get(name) ?? 'up';
      if (incoming.url === '/health')
        answer.writeHead(is === 'down' ? 503 : 200, is === 'degraded' ? { 'x-envoy-degraded': 'true' } : {}).end();
      else answer.end(String(name));
    });
    server.keepAliveTimeout = 0;
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as AddressInfo;
    world = await World.open('health');
    await world.writeText(JSON.stringify(bootstrap(MESH, world.port, port)));
    await startEnvoy(world.lab, 'alone', bootstrap(ALONE, world.port, port));
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
    for (const name of ['plain', 'failover', 'zones', 'fixed', 'ring'])
      for (let i = 0; i < 4; i++) await spread(inside, MESH, name, 40);
  });
  after(async () => {
    await world?.close();
    server?.close();
    server?.closeAllConnections();
  });

  const decided = async () => (await sidestep.status()).counters?.kernel ?? 0;

  /** Which servers answered, in their order. */
  async function asked(driver: Driver, address: string, paths: readonly string[]): Promise<string[]> {
    const exchanges = paths.map((path) => ({
      pieces: [request(`GET ${path} HTTP/1.1`, [['X-User', path]])],
      methods: ['GET'],
    }));
    const result = await driver.run({ address, port: world.port, exchanges });
    assert.equal(result.error, undefined);
    return result.answers.map((a) => (a.status === 200 ? Buffer.from(a.body, 'base64').toString() : `${a.status}`));
  }
  async function spread(driver: Driver, address: string, name: string, n: number): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const who of await asked(
      driver,
      address,
      Array.from({ length: n }, (_, i) => `/${name}/${i}`),
    ))
      counts.set(who, (counts.get(who) ?? 0) + 1);
    return new Map([...counts].sort());
  }
  /** Sets the health of servers; all others are up. Both proxies and the kernel know a moment later. */
  function are(state: Readonly<Record<number, Health>>): void {
    health.clear();
    for (const [name, is] of Object.entries(state)) health.set(Number(name), is);
  }

  const N = 300;
  /** Both come to do the same, the one in the kernel; `shares` in percent by server. */
  const same = (name: string, shares: Readonly<Record<string, number>>): Promise<void> =>
    eventually(() => compare(name, shares));
  async function compare(name: string, shares: Readonly<Record<string, number>>): Promise<void> {
    await spread(inside, MESH, name, 40);
    const before = await decided();
    const mesh = await spread(inside, MESH, name, N);
    assert.ok((await decided()) - before > N * 0.95, 'decided in the kernel');
    const alone = await spread(outside, ALONE, name, N);
    for (const [who, counts] of [
      ['Envoy alone', alone],
      ['through Sidestep', mesh],
    ] as const) {
      assert.deepEqual([...counts.keys()], Object.keys(shares), `${who}: ${JSON.stringify([...counts])}`);
      for (const [server, share] of Object.entries(shares)) {
        const wanted = (N * share) / 100;
        const off = Math.abs((counts.get(server) ?? 0) - wanted);
        const limit = 5 * Math.sqrt((N * share * (100 - share)) / 10_000) + 3;
        assert.ok(off <= limit, `${who}: ${server}: ${counts.get(server)} of ${wanted}`);
      }
    }
  }
  const even = (...names: number[]) => Object.fromEntries(names.map((n) => [n, 100 / names.length]));

  test('endpoints that fail their checks get nothing, and come back', async () => {
    are({});
    await same('plain', even(11, 12, 13, 14));
    are({ 12: 'down' });
    await same('plain', even(11, 13, 14));
    are({});
    await same('plain', even(11, 12, 13, 14));
  });

  test('panic: all of them when fewer than half are healthy', async () => {
    are({ 11: 'down', 12: 'down' });
    await same('plain', even(13, 14));
    are({ 11: 'down', 12: 'down', 13: 'down' });
    await same('plain', even(11, 12, 13, 14));
    are({ 11: 'down', 12: 'down', 13: 'down', 14: 'down' });
    await same('plain', even(11, 12, 13, 14));
  });

  test('degraded endpoints take what the others cannot', async () => {
    are({ 11: 'degraded' });
    await same('plain', even(12, 13, 14));
    are({ 11: 'degraded', 12: 'degraded', 13: 'down' });
    // 140 * 1 / 4 = 35 percent healthy, and the rest is degraded
    await same('plain', { 11: 32.5, 12: 32.5, 14: 35 });
  });

  test('failover to the next priority, and back', async () => {
    are({});
    await same('failover', even(21, 22, 23));
    are({ 21: 'down' });
    // 140 * 2 / 3 = 93 percent
    await same('failover', { 22: 46.5, 23: 46.5, 24: 3.5, 25: 3.5 });
    are({ 21: 'down', 22: 'down', 23: 'down' });
    await same('failover', even(24, 25));
    are({ 21: 'down', 22: 'down', 23: 'down', 24: 'down', 25: 'down' });
    await same('failover', even(21, 22, 23, 24, 25));
    are({});
    await same('failover', even(21, 22, 23));
  });

  test('weights of localities', async () => {
    are({});
    await same('zones', { 31: 37.5, 32: 37.5, 33: 12.5, 34: 12.5 });
    are({ 31: 'down' });
    // 3 * 0.7 to 1
    await same('zones', { 32: (100 * 2.1) / 3.1, 33: 50 / 3.1, 34: 50 / 3.1 });
    await same('fixed', { 51: 100 / 3, 52: 100 / 3, 53: 100 / 3 });
  });

  test('hash tables follow: the same server for the same hash', async () => {
    const keys = Array.from({ length: 60 }, (_, i) => `/ring/${i}`);
    const warm = Array.from({ length: 100 }, (_, i) => `/ring/warm${i}`);
    for (const down of [[], [42], [41, 42], [41, 42, 43], []]) {
      are(Object.fromEntries(down.map((name) => [name, 'down'])));
      await eventually(async () => {
        await asked(inside, MESH, warm);
        const before = await decided();
        const mesh = await asked(inside, MESH, keys);
        assert.ok((await decided()) - before >= keys.length * 0.9, 'decided in the kernel');
        assert.deepEqual(mesh, await asked(outside, ALONE, keys), JSON.stringify(down));
        // or both have not heard of it yet
        assert.ok(!mesh.some((name) => down.includes(Number(name))), mesh.join());
        assert.ok(down.length > 0 || !mesh.some((name) => Number(name) > 43), mesh.join());
      });
    }
  });

  test('no request fails while health changes, and the kernel follows at once', async () => {
    are({});
    let stop = false;
    let n = 0;
    const run = (async () => {
      while (!stop) {
        const who = await asked(
          inside,
          MESH,
          Array.from({ length: 50 }, (_, i) => `/plain/${i}`),
        );
        n += who.length;
        assert.ok(
          who.every((w) => /^1[1-4]$/.test(w)),
          who.join(),
        );
      }
    })();
    run.catch(() => {
      stop = true;
    });
    for (let i = 0; (i < 6 || n < 500) && !stop; i++) {
      health.set(11 + (i % 4), i % 2 ? 'up' : 'down');
      await sleep(250);
    }
    stop = true;
    await run;
    are({ 11: 'down' });
    await eventually(async () =>
      assert.deepEqual([...(await spread(inside, MESH, 'plain', 60)).keys()], ['12', '13', '14']),
    );
  });
});
