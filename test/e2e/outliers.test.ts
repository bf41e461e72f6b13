/** Outlier detection: the same servers fail the same way, through Envoy alone and through Sidestep. */
import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hostOf, listenerOf, to } from '../plan/resources.js';
import { allInKernel } from './in-kernel.js';
import { ALONE, MESH, one, request, skip, World } from './world.js';

/** What a server does with a request: a status, or one of these. */
type Mode = number | 'reset' | 'cut' | 'slow';

const QUICK = { interval: '0.2s', base_ejection_time: '0.6s', max_ejection_percent: 100, enforcing_success_rate: 0 };
const NO_PANIC = { common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: '0s' } };

/** Clusters by name: the last bytes of their servers' addresses in 127.0.2.0/24, and what they say. */
const CLUSTERS: Record<string, [names: number[], more: JsonObject]> = {
  one: [[11], { outlier_detection: { ...QUICK, consecutive_5xx: 3 }, ...NO_PANIC }],
  gateway: [
    [21],
    {
      outlier_detection: {
        ...QUICK,
        consecutive_5xx: 0,
        consecutive_gateway_failure: 2,
        enforcing_consecutive_gateway_failure: 100,
      },
      ...NO_PANIC,
    },
  ],
  three: [[31, 32, 33], { outlier_detection: { ...QUICK, consecutive_5xx: 3 }, ...NO_PANIC }],
  half: [
    [41, 42, 43, 44],
    {
      outlier_detection: { ...QUICK, consecutive_5xx: 1, max_ejection_percent: 50, base_ejection_time: '60s' },
      ...NO_PANIC,
    },
  ],
  panic: [
    [51, 52, 53],
    {
      outlier_detection: { ...QUICK, consecutive_5xx: 1, base_ejection_time: '60s' },
      common_lb_config: { healthy_panic_threshold: { value: 50 }, update_merge_window: '0s' },
    },
  ],
  retried: [[61, 62], { outlier_detection: { ...QUICK, consecutive_5xx: 2, base_ejection_time: '60s' }, ...NO_PANIC }],
};

function bootstrap(address: string, port: number, server: number): JsonObject {
  const clusters = Object.entries(CLUSTERS).map(
    ([name, [names, more]]): JsonObject => ({
      name,
      type: 'STATIC',
      connect_timeout: '1s',
      load_assignment: {
        cluster_name: name,
        endpoints: [
          {
            lb_endpoints: names.map((n) => ({
              endpoint: { address: { socket_address: { address: `127.0.2.${n}`, port_value: server } } },
            })),
          },
        ],
      },
      ...more,
    }),
  );
  const routes = Object.keys(CLUSTERS).map((name) => to(name, `/${name}/`, {}, { timeout: '0.3s' }));
  const listener = listenerOf([hostOf(routes)], { port, name: 'test' });
  ((listener.address as JsonObject).socket_address as JsonObject).address = address;
  return { static_resources: { listeners: [listener], clusters } };
}

describe('outlier detection', { skip, timeout: 200_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;
  let server: http.Server;
  /** by server; others answer 200 */
  const modes = new Map<number, Mode>();

  before(async () => {
    server = http.createServer((incoming, answer) => {
      const name = Number(incoming.socket.localAddress!.split('.').pop());
      const mode = modes.get(name) ?? 200;
      if (mode === 'reset') incoming.socket.resetAndDestroy();
      else if (mode === 'cut') {
        answer.writeHead(200, { 'content-length': '100' }).write('half');
        setTimeout(() => incoming.socket.resetAndDestroy(), 10);
      } else if (mode === 'slow') setTimeout(() => answer.end('late'), 600);
      else answer.writeHead(mode, { 'content-length': String(name).length }).end(String(name));
    });
    server.keepAliveTimeout = 0;
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as AddressInfo;
    world = await World.open('outliers');
    await world.writeText(JSON.stringify(bootstrap(MESH, world.port, port)));
    await startEnvoy(world.lab, 'alone', bootstrap(ALONE, world.port, port));
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
    for (const name of Object.keys(CLUSTERS)) await allInKernel(sidestep, 12, () => ask(true, `/${name}/warm`));
  });
  after(async () => {
    await world?.close();
    server?.close();
    server?.closeAllConnections();
  });

  const decided = async () => (await sidestep.status()).counters?.kernel ?? 0;
  /** A form of request that the kernel leaves to the proxy. */
  const ODD: HeaderList = [['TE', 'trailers']];

  async function ask(mesh: boolean, path: string, headers: HeaderList = []): Promise<string> {
    const [driver, address] = mesh ? [inside, MESH] : [outside, ALONE];
    const r = await driver.run(one(address, world.port, 'GET', path, headers));
    const [answer] = r.answers;
    if (!answer) return 'broken';
    return `${answer.status} ${Buffer.from(answer.body, 'base64').toString()}`.replace(
      /(upstream connect error|no healthy).*/,
      '$1',
    );
  }

  /** One request after the other to the single server of a cluster; what the client sees of each. */
  async function sequence(
    mesh: boolean,
    cluster: string,
    server: number,
    steps: readonly [Mode, 'kernel' | 'proxy'][],
  ): Promise<string[]> {
    const seen: string[] = [];
    for (const [mode, way] of steps) {
      modes.set(server, mode);
      seen.push(await ask(mesh, `/${cluster}/`, way === 'proxy' ? ODD : []));
      await sleep(30); // both sides eject a moment later
    }
    modes.delete(server);
    return seen;
  }

  const K = (mode: Mode): [Mode, 'kernel'] => [mode, 'kernel'];
  const P = (mode: Mode): [Mode, 'proxy'] => [mode, 'proxy'];
  const SEQUENCES: readonly [
    what: string,
    cluster: string,
    server: number,
    steps: readonly [Mode, 'kernel' | 'proxy'][],
  ][] = [
    ['in the kernel', 'one', 11, [K(500), K(500), K(500), K(200), P(200)]],
    ['through the proxy', 'one', 11, [P(500), P(500), P(500), K(200), P(200)]],
    ['both together', 'one', 11, [K(500), P(500), K(500), K(200), P(200)]],
    ['both together, the other way round', 'one', 11, [P(503), K(500), P(599), P(200), K(200)]],
    [
      'a success in the kernel in between',
      'one',
      11,
      [P(500), P(500), K(200), P(500), P(500), K(200), K(500), K(500), P(500), K(200)],
    ],
    ['a success of the proxy in between', 'one', 11, [K(500), K(500), P(404), K(500), K(500), P(500), K(200)]],
    ['resets', 'one', 11, [K('reset'), K('reset'), P('reset'), K(200)]],
    ['answers that are cut off', 'one', 11, [K('cut'), P('cut'), K(500), P('cut'), K(500), K(500), K(200)]],
    ['timeouts', 'one', 11, [K('slow'), K('slow'), K('slow'), K(200)]],
    ['timeouts of the proxy', 'one', 11, [P('slow'), K('slow'), P('slow'), K(200)]],
    ['gateway failures', 'gateway', 21, [K(500), K(502), K(500), K(503), P(504), K(200)]],
    ['no gateway failures', 'gateway', 21, [K(500), K(500), P(500), P(505), K(500), K(501), K(200)]],
  ];
  for (const [what, cluster, server, steps] of SEQUENCES)
    test(`failures in a row: ${what}`, async () => {
      await ask(true, `/${cluster}/`);
      await sleep(30);
      const before = await decided();
      const mesh = await sequence(true, cluster, server, steps);
      const kernel = (await decided()) - before;
      const alone = await sequence(false, cluster, server, steps);
      assert.deepEqual(mesh, alone);
      const answered = steps.filter(([, way], i) => way === 'kernel' && !mesh[i]!.startsWith('503 no healthy')).length;
      assert.ok(kernel >= answered - 1, `${kernel} of ${answered} in the kernel`);
      // until both are back, and forget how often they were away
      await sleep(2500);
      assert.equal(await ask(true, `/${cluster}/`), `200 ${server}`);
      assert.equal(await ask(false, `/${cluster}/`), `200 ${server}`);
    });

  /** The servers that answered n requests. */
  async function servers(mesh: boolean, cluster: string, n = 24): Promise<string[]> {
    const [driver, address] = mesh ? [inside, MESH] : [outside, ALONE];
    const exchanges = Array.from({ length: n }, () => ({
      pieces: [request(`GET /${cluster}/ HTTP/1.1`)],
      methods: ['GET'],
    }));
    const { answers, error } = await driver.run({ address, port: world.port, exchanges });
    assert.equal(error, undefined);
    return [...new Set(answers.map((a) => `${a.status} ${Buffer.from(a.body, 'base64').toString()}`))].sort();
  }

  test('the one that fails is avoided, and comes back after its time, later each time', async () => {
    const away: Record<string, number[]> = {};
    for (const mesh of [true, false]) {
      const times: number[] = [];
      for (let round = 0; round < 2; round++) {
        modes.set(32, 500);
        let failures = 0;
        for (let i = 0; i < 30 && failures < 3; i++) {
          if ((await ask(mesh, '/three/')).startsWith('500')) failures++;
          await sleep(15);
        }
        assert.equal(failures, 3);
        const begun = performance.now();
        modes.delete(32);
        assert.deepEqual(await servers(mesh, 'three'), ['200 31', '200 33'], `round ${round}`);
        while (!(await servers(mesh, 'three', 6)).includes('200 32')) await sleep(10);
        times.push(performance.now() - begun);
      }
      away[mesh ? 'mesh' : 'alone'] = times;
    }
    // the interval (0.2 s) rounds up, and counts backwards what was counted up, so the second time may be as long or twice
    for (const [who, times] of Object.entries(away))
      for (const ms of times) assert.ok(ms > 450 && ms < 1700, `${who}: ${JSON.stringify(away)}`);
  });

  test('no more than max_ejection_percent', async () => {
    for (const n of [41, 42, 43, 44]) modes.set(n, 500);
    for (const mesh of [true, false]) {
      for (let i = 0; i < 12; i++) {
        await ask(mesh, '/half/');
        await sleep(10);
      }
      assert.equal((await servers(mesh, 'half')).length, 2, `${mesh}: ${await servers(mesh, 'half')}`);
    }
  });

  test('panic: too few are left, and all get traffic', async () => {
    for (const mesh of [true, false]) {
      modes.set(51, 500);
      for (let i = 0; i < 4; i++) await ask(mesh, '/panic/');
      await sleep(50);
      assert.deepEqual(await servers(mesh, 'panic'), ['200 52', '200 53']);
      modes.set(52, 500);
      for (let i = 0; i < 3; i++) await ask(mesh, '/panic/');
      await sleep(50);
      assert.deepEqual(await servers(mesh, 'panic'), ['200 53', '500 51', '500 52']);
      modes.clear();
    }
  });

  test('a reload keeps what is ejected', async () => {
    modes.set(61, 500);
    for (let i = 0; i < 6; i++) await ask(true, '/retried/');
    modes.clear();
    await sleep(50); // until the proxy knows it, too
    assert.deepEqual(await servers(true, 'retried'), ['200 62']);
    const { port } = server.address() as AddressInfo;
    const changed = bootstrap(MESH, world.port, port);
    const generation = (await sidestep.status()).generation;
    const text = JSON.stringify(changed).replace('"prefix":"/retried/"', '"prefix":"/retrie"');
    await world.writeText(text);
    await sidestep.generationAfter(generation);
    assert.deepEqual(await servers(true, 'retried'), ['200 62']);
    assert.equal(await ask(true, '/retried/', ODD), '200 62');
  });
});
