/** Load balancing, retries and names as endpoints, through Envoy alone and through Sidestep. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePorts } from '../../src/lab/ports.js';
import { sleep } from '../../src/lab/processes.js';
import type { JobResult } from '../../src/lab/raw-client.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, to } from '../plan/resources.js';
import { DnsServer, lookedUpAt } from './dns-server.js';
import { allInKernel } from './in-kernel.js';
import type { Received } from './istio-server.js';
import { ALONE, bodyOf, MESH, one, request, skip, World } from './world.js';

const SERVER = join(dirname(fileURLToPath(import.meta.url)), 'istio-server.ts');
const NAME = 'servers.test';
/** What the name resolves to, one after the other. */
const [FIRST, SECOND] = ['127.0.0.11', '127.0.0.12'];
const MANY = { circuit_breakers: { thresholds: [{ max_retries: 4096 }] } };

const retry = (policy: JsonObject, more: JsonObject = {}): JsonObject => ({ retry_policy: policy, ...more });
/** Routes of the cluster `one`, by prefix: what they say beside it. */
const RETRIES: Record<string, JsonObject> = {
  '/r5xx/': retry({ retry_on: '5xx', num_retries: 2 }),
  '/gateway/': retry({ retry_on: 'gateway-error', num_retries: 2 }),
  '/conflict/': retry({ retry_on: 'retriable-4xx', num_retries: 1 }),
  '/codes/': retry({ retry_on: 'retriable-status-codes', retriable_status_codes: [418, 429], num_retries: 3 }),
  '/reset/': retry({ retry_on: 'reset', num_retries: 2 }),
  '/try/': retry({ retry_on: '5xx', num_retries: 2, per_try_timeout: '0.3s' }, { timeout: '5s' }),
  '/once/': retry({ retry_on: 'connect-failure', per_try_timeout: '0.3s' }, { timeout: '5s' }),
  '/global/': retry({ retry_on: '5xx', num_retries: 5, per_try_timeout: '0.4s' }, { timeout: '0.9s' }),
  '/plain/': {},
};

function bootstrap(address: string, port: number, ports: readonly number[], shared: number, dns: number): JsonObject {
  const weights = (cluster: JsonObject, list: readonly number[]): JsonObject => {
    const assignment = cluster.load_assignment as { endpoints: { lb_endpoints: JsonObject[] }[] };
    assignment.endpoints[0]!.lb_endpoints.forEach((e, i) => {
      e.load_balancing_weight = list[i]!;
    });
    return cluster;
  };
  const named: JsonObject = {
    name: 'named',
    type: 'STRICT_DNS',
    connect_timeout: '1s',
    ...lookedUpAt(dns),
    load_assignment: {
      cluster_name: 'named',
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: NAME, port_value: shared } } } }] },
      ],
    },
  };
  const clusters = [
    clusterOf('ring', ports, { lb_policy: 'RING_HASH' }),
    clusterOf('maglev', ports, { lb_policy: 'MAGLEV' }),
    weights(clusterOf('weighted', ports.slice(0, 3)), [1, 2, 5]),
    clusterOf('one', [ports[0]!], MANY),
    clusterOf('few', [ports[1]!], {
      ...MANY,
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          common_http_protocol_options: { max_requests_per_connection: 3 },
          explicit_http_config: { http_protocol_options: {} },
        },
      },
    }),
    named,
  ];
  const hash_policy = [
    { header: { header_name: 'x-user' } },
    { cookie: { name: 'id' } },
    { query_parameter: { name: 'q' } },
    { connection_properties: { source_ip: true } },
  ];
  const routes = [
    to('ring', '/ring/', {}, { hash_policy }),
    to('maglev', '/maglev/', {}, { hash_policy: hash_policy.slice(0, 3) }),
    to('weighted', '/weighted/'),
    to('few', '/few/'),
    to('named', '/named/'),
    {
      match: { prefix: '/split/' },
      route: {
        weighted_clusters: {
          clusters: [
            { name: 'one', weight: 1 },
            { name: 'few', weight: 1 },
          ],
        },
        retry_policy: { retry_on: '5xx', num_retries: 2 },
      },
    },
    ...Object.entries(RETRIES).map(([prefix, action]) => to('one', prefix, {}, action)),
  ];
  const listener = listenerOf([hostOf(routes, { include_request_attempt_count: true })], { port, name: 'test' });
  const at = (listener.address as JsonObject).socket_address as JsonObject;
  at.address = address;
  return { static_resources: { listeners: [listener], clusters } };
}

describe('load balancing and retries', { skip, timeout: 240_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let dns: DnsServer;
  let inside: Driver;
  let outside: Driver;
  let serial = 0;

  before(async () => {
    world = await World.open('balance');
    const [shared, ...ports] = await freePorts(6);
    const servers = ports.map((port, i) => `s${i}=127.0.0.1:${port}`);
    const named = [FIRST, SECOND].map((address) => `${address}=${address}:${shared}`);
    const p = world.lab.start('servers', [...nodeScript(SERVER), ...servers, ...named]);
    await p.waitFor(/listening/);
    dns = await DnsServer.start();
    dns.answers.set(NAME, [FIRST!]);
    await world.writeText(JSON.stringify(bootstrap(MESH, world.port, ports, shared!, dns.port)));
    await startEnvoy(world.lab, 'alone', bootstrap(ALONE, world.port, ports, shared!, dns.port));
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(async () => {
    dns?.close();
    await world?.close();
  });

  const mesh = (path: string, headers: HeaderList = []) => inside.run(one(MESH, world.port, 'GET', path, headers));
  const alone = (path: string, headers: HeaderList = []) => outside.run(one(ALONE, world.port, 'GET', path, headers));
  const serverOf = (r: JobResult, i = 0) => bodyOf<Received>(r, i).server;
  const decided = async () => (await sidestep.status()).counters?.kernel ?? 0;
  /** Requests until the kernel has a connection to every endpoint. */
  async function warm(path: (i: number) => string, n: number): Promise<void> {
    await allInKernel(sidestep, n, (i) => mesh(path(i)));
  }

  for (const cluster of ['ring', 'maglev']) {
    test(`${cluster}: the same server for the same hash`, async () => {
      await warm((i) => `/${cluster}/?q=warm${i}`, 30);
      const cases: [string, HeaderList][] = [];
      for (let i = 0; i < 20; i++) {
        cases.push([`/${cluster}/a`, [['X-User', `user ${i}`]]]);
        cases.push([`/${cluster}/?q=${i}${'x'.repeat(i * 5)}`, []]);
        cases.push([`/${cluster}/?q=${i}`, [['Cookie', `a=1; id="${i}${'y'.repeat(i)}"; b`]]]);
      }
      const before = await decided();
      const servers = new Set<string>();
      for (const [path, headers] of cases) {
        const [a, m] = [serverOf(await alone(path, headers)), serverOf(await mesh(path, headers))];
        assert.equal(m, a, `${path} ${JSON.stringify(headers)}`);
        servers.add(m);
      }
      assert.equal((await decided()) - before, cases.length, 'decided in the kernel');
      assert.ok(servers.size >= 4, [...servers].join());
    });
  }

  test('weights: each endpoint has its share of every round', async () => {
    await warm(() => '/weighted/', 16);
    const before = await decided();
    const counts = new Map<string, number>();
    for (let i = 0; i < 40; i++) {
      const server = serverOf(await mesh('/weighted/'));
      counts.set(server, (counts.get(server) ?? 0) + 1);
    }
    assert.equal((await decided()) - before, 40, 'decided in the kernel');
    assert.deepEqual(Object.fromEntries([...counts].sort()), { s0: 5, s1: 10, s2: 25 });
  });

  test('requests per connection', async () => {
    const ports = new Map<string, number>();
    await warm(() => '/few/', 3);
    const before = await decided();
    for (let i = 0; i < 30; i++) {
      const r = await mesh('/few/peer');
      const peer = r.answers[0]?.headers.find(([n]) => n.toLowerCase() === 'x-peer')?.[1] ?? '';
      ports.set(peer, (ports.get(peer) ?? 0) + 1);
      await sleep(10);
    }
    assert.ok(Math.max(...ports.values()) <= 3, JSON.stringify([...ports]));
    assert.ok((await decided()) - before > 20, 'most are decided in the kernel');
  });

  const CASES: readonly [what: string, path: (key: string) => string, status: number, tries: number][] = [
    ['5xx: 500 twice', (k) => `/r5xx/fail/500/2/${k}`, 200, 3],
    ['5xx: 599 always', (k) => `/r5xx/fail/599/9/${k}`, 599, 3],
    ['5xx: 404 is an answer', (k) => `/r5xx/fail/404/1/${k}`, 404, 1],
    ['5xx: a reset', (k) => `/r5xx/reset/1/${k}`, 200, 2],
    ['gateway-error: 502', (k) => `/gateway/fail/502/1/${k}`, 200, 2],
    ['gateway-error: 504 twice', (k) => `/gateway/fail/504/2/${k}`, 200, 3],
    ['gateway-error: 500 is an answer', (k) => `/gateway/fail/500/1/${k}`, 500, 1],
    ['retriable-4xx: 409', (k) => `/conflict/fail/409/1/${k}`, 200, 2],
    ['retriable-4xx: 400 is an answer', (k) => `/conflict/fail/400/1/${k}`, 400, 1],
    ['retriable-status-codes: 418', (k) => `/codes/fail/418/3/${k}`, 200, 4],
    ['retriable-status-codes: 503 is an answer', (k) => `/codes/fail/503/1/${k}`, 503, 1],
    ['reset', (k) => `/reset/reset/2/${k}`, 200, 3],
    ['reset: 500 is an answer', (k) => `/reset/fail/500/1/${k}`, 500, 1],
    ['no policy: a reset', (k) => `/plain/reset/1/${k}`, 503, 1],
    ['per-try timeout', (k) => `/try/slow/2000/1/${k}`, 200, 2],
    ['per-try timeout, every time', (k) => `/try/slow/2000/9/${k}`, 504, 3],
    ['per-try timeout, not retried', (k) => `/once/slow/2000/9/${k}`, 504, 1],
    ['the route timeout ends the retries', (k) => `/global/slow/2000/9/${k}`, 504, 3],
    ['weighted clusters: the rest goes to the same', (k) => `/split/fail/500/2/${k}`, 200, 3],
  ];
  for (const [what, path, status, tries] of CASES) {
    test(`retries: ${what}`, async () => {
      await warm(() => '/plain/', 2);
      await warm(() => '/few/', 2);
      const key = `k${++serial}`;
      const seen = async (side: string) => {
        const r = await outside.run(one(ALONE, world.port, 'GET', `/plain/tries/${key}${side}`));
        return bodyOf<number>(r);
      };
      const a = await alone(path(`${key}a`));
      const before = await decided();
      const m = await mesh(path(`${key}m`));
      assert.equal(a.answers[0]?.status, status, `Envoy alone: ${a.error}`);
      assert.equal(m.answers[0]?.status, status, `through Sidestep: ${m.error}`);
      assert.equal((await decided()) - before, 1, 'the first try in the kernel');
      assert.equal(await seen('a'), tries, 'tries of Envoy alone');
      assert.equal(await seen('m'), tries, 'tries through Sidestep');
      const attempt = (r: JobResult) => {
        const body = Buffer.from(r.answers[0]?.body ?? '', 'base64').toString();
        if (!body.startsWith('{')) return body;
        const { headers } = JSON.parse(body) as Received;
        return headers
          .filter(([n]) => /^x-envoy-(attempt|expected)/.test(n))
          .map(([n, v]) => (n.includes('attempt') ? v : n));
      };
      // see KNOWN_ISSUES: what the third try and later ones say of themselves
      if (tries < 3) assert.deepEqual(attempt(m), attempt(a));
    });
  }

  test('retries: what a client sends before the answer waits for it', async () => {
    await warm(() => '/plain/', 2);
    const key = `k${++serial}`;
    const pipelined = await inside.run({
      address: MESH,
      port: world.port,
      exchanges: [
        {
          pieces: [request(`GET /r5xx/fail/500/2/${key} HTTP/1.1`), request('GET /plain/second HTTP/1.1')],
          methods: ['GET', 'GET'],
        },
      ],
    });
    assert.deepEqual(
      pipelined.answers.map((_, i) => bodyOf<Received>(pipelined, i).target),
      [`/r5xx/fail/500/2/${key}`, '/plain/second'],
      pipelined.error,
    );
  });

  test('names as endpoints: the kernel follows the proxy, and no request fails', async () => {
    const until = async (what: string, fine: (server: string) => boolean) => {
      for (let i = 0; i < 100; i++) {
        if (fine(serverOf(await mesh('/named/')))) return;
        await sleep(50);
      }
      assert.fail(what);
    };
    await until('the first address', (server) => server === FIRST);
    await warm(() => '/named/', 3);
    const before = await decided();
    for (let i = 0; i < 10; i++) assert.equal(serverOf(await mesh('/named/')), FIRST);
    assert.equal((await decided()) - before, 10, 'decided in the kernel');

    const load = await world.load(sidestep, 4, '/named/');
    dns.answers.set(NAME, [SECOND!]);
    await until('the second address', (server) => server === SECOND);
    await sleep(1200);
    for (let i = 0; i < 10; i++) assert.equal(serverOf(await mesh('/named/')), SECOND);
    dns.answers.set(NAME, [FIRST!, SECOND!]);
    await until('both', (server) => server === FIRST);
    await sleep(1200);
    const servers = new Set<string>();
    for (let i = 0; i < 20; i++) servers.add(serverOf(await mesh('/named/')));
    assert.deepEqual([...servers].sort(), [FIRST, SECOND]);
    const report = await load.finish();
    assert.deepEqual(report.failures.slice(0, 3), [], JSON.stringify(report.variants));
    // a name that is gone takes its endpoints with it
    dns.answers.set(NAME, []);
    await sleep(1500);
    assert.equal((await alone('/named/')).answers[0]?.status, 503);
    assert.equal((await mesh('/named/')).answers[0]?.status, 503);
  });
});
