/** Streams that are tried again at other endpoints, beside a real Envoy: what the servers see, and what the client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy } from '../plan/envoy-oracle.js';
import { Bench, type Outcome } from './h2-bench.js';
import { Tries } from './h2-tries.js';
import { H2World, type Several } from './h2-world.js';

const skip = process.getuid?.() !== 0 ? 'needs root' : findEnvoy() === undefined ? 'no Envoy was found' : false;

const ELSEWHERE = {
  retry_host_predicate: [
    {
      name: 'envoy.retry_host_predicates.previous_hosts',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      },
    },
  ],
  host_selection_retry_max_attempts: '5',
};
/** Istio's own policy. */
const ISTIO = {
  retry_on: 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
  num_retries: 2,
  ...ELSEWHERE,
};
const SOON = { retry_back_off: { base_interval: '0.001s', max_interval: '0.005s' } };
const OFTEN = { ...ISTIO, ...SOON, num_retries: 5 };
const SERVERS = ['one', 'two', 'three', 'four'];
const { subset, hash }: Record<'subset' | 'hash', JsonObject> = {
  subset: { metadata_match: { filter_metadata: { 'envoy.lb': { version: 'a' } } } },
  hash: { hash_policy: [{ header: { header_name: 'x-hash' } }] },
};
const first = (server: string): boolean => server === 'one' || server === 'two';
const CLUSTERS: readonly Several[] = [
  { name: 'pair', of: ['one', 'two'] },
  { name: 'others', of: ['three', 'four'] },
  { name: 'all', of: SERVERS },
  { name: 'holes', of: ['one', 'two', 'nobody'] },
  { name: 'random', of: SERVERS, more: { lb_policy: 'RANDOM' } },
  { name: 'least', of: SERVERS, more: { lb_policy: 'LEAST_REQUEST' } },
  { name: 'ring', of: SERVERS, more: { lb_policy: 'RING_HASH' } },
  { name: 'maglev', of: SERVERS, more: { lb_policy: 'MAGLEV' } },
  { name: 'priorities', of: ['three', 'one', 'two'], priority: (server) => (first(server) ? 0 : 1) },
  { name: 'weights', of: SERVERS, endpoint: (server) => ({ load_balancing_weight: first(server) ? 3 : 1 }) },
  {
    name: 'subsets',
    of: SERVERS,
    more: { lb_subset_config: { fallback_policy: 'NO_FALLBACK', subset_selectors: [{ keys: ['version'] }] } },
    endpoint: (server) => ({ metadata: { filter_metadata: { 'envoy.lb': { version: first(server) ? 'a' : 'b' } } } }),
  },
];
const route = (path: string, action: JsonObject, retry_policy: JsonObject): JsonObject => ({
  match: { prefix: `/${path}` },
  route: { timeout: '0s', prefix_rewrite: `/rewritten/${path}`, ...action, retry_policy },
});
const drawing = { ...ISTIO, ...SOON, num_retries: 3, host_selection_retry_max_attempts: '300' };
const ROUTES = [
  route('pair', { cluster: 'pair' }, OFTEN),
  route('all/status', { cluster: 'all' }, { ...ISTIO, retriable_status_codes: [503] }),
  route('all/server', { cluster: 'all' }, { ...ELSEWHERE, retry_on: '5xx', num_retries: 3 }),
  route('all/often', { cluster: 'all' }, OFTEN),
  route('all', { cluster: 'all' }, ISTIO),
  route('holes/once', { cluster: 'holes' }, { ...ISTIO, ...SOON, num_retries: 1 }),
  route('holes', { cluster: 'holes' }, { ...ISTIO, ...SOON }),
  ...['random', 'least'].map((cluster) => route(cluster, { cluster }, drawing)),
  ...['ring', 'maglev'].map((cluster) => route(cluster, { cluster, ...hash }, OFTEN)),
  route('priorities', { cluster: 'priorities' }, ISTIO),
  route('weights', { cluster: 'weights' }, { ...ISTIO, host_selection_retry_max_attempts: '100' }),
  route('subsets', { cluster: 'subsets', ...subset }, OFTEN),
  route('drawn', { weighted_clusters: { clusters: ['pair', 'others'].map((name) => ({ name, weight: 50 })) } }, ISTIO),
  ...SERVERS.map((cluster) => ({ match: { prefix: `/alone/${cluster}` }, route: { cluster, timeout: '0s' } })),
];
const MANY = { circuit_breakers: { thresholds: [{ max_retries: 4294967295, max_requests: 4294967295 }] } };

async function inWorld(run: (bench: Bench) => Promise<void>): Promise<void> {
  const tries = new Tries(100);
  const more = { host: { include_request_attempt_count: true }, cluster: MANY, script: tries.script };
  const world = await H2World.open(ROUTES, {}, {}, { ...more, servers: SERVERS, clusters: CLUSTERS });
  try {
    const bench = new Bench(world, tries, await world.connect(), await world.connect('envoy'));
    await bench.settled(SERVERS.map((name) => `/alone/${name}`));
    await run(bench);
    await bench.empty();
    for (const session of [bench.ours, bench.theirs]) session.destroy();
  } finally {
    await world.close();
  }
}

const serverOf = (seen: string): string => seen.split(' ')[0]!;
/** What of tries does not depend on where their turns began: how often each endpoint was tried, and everything else. */
function shape(tries: readonly string[]): unknown {
  const count = new Map<string, number>();
  for (const one of tries) count.set(serverOf(one), (count.get(serverOf(one)) ?? 0) + 1);
  return { often: [...count.values()].sort(), rest: tries.map((one) => one.split(' ').slice(1).join(' ')) };
}

/** The same through both, as far as it is determined. @returns the endpoints that the kernel's was tried at */
async function same(bench: Bench, path: string, plan: string, body: Buffer | undefined, more = {}): Promise<string[]> {
  const before = bench.world.decided();
  const own = await bench.request(bench.ours, path, plan, body, more);
  assert.equal(bench.world.decided() - before, 1, `${path} ${plan}: begun by the kernel`);
  const alone = await bench.request(bench.theirs, path, plan, body, more);
  assert.deepEqual(own.found, alone.found, `${path} ${plan}`);
  assert.deepEqual(shape(own.tries), shape(alone.tries), `${path} ${plan}: tries`);
  return own.tries.map(serverOf);
}

test('other endpoints are tried, as Envoy alone tries them', { skip, timeout: 120_000 }, () =>
  inWorld(async (bench) => {
    const small = Buffer.from('a small body');
    const cases: [path: string, plan: string, tries: number, endpoints: number, body?: Buffer | undefined][] = [
      ['/all', 'ok', 1, 1],
      ['/all', 'g14,ok', 2, 2],
      ['/all', 'g14,ok', 2, 2, undefined],
      ['/all', 'g14,g1,ok', 3, 3],
      ['/all', 'g14', 3, 3],
      ['/all', 'reset7,ok', 2, 2],
      ['/all', 'reset7', 3, 3],
      ['/all', 'reset8', 1, 1],
      ['/all', 'g5', 1, 1],
      ['/all', 's503', 1, 1],
      ['/all', 'gone,ok', 1, 1],
      ['/all', 'goaway,ok', 2, 2],
      ['/all', 'g14now,reset7now,ok', 3, 3],
      ['/all/status', 's503,ok', 2, 2],
      ['/all/status', 's503', 3, 3],
      ['/all/server', 's500,reset2,gone,ok', 4, 4],
      ['/all/server', 's500', 4, 4],
      // all were tried: the last one that was drawn
      ['/all/often', 'g14', 6, 4],
      ['/pair', 'g14,ok', 2, 2],
      ['/pair', 'reset7,g14,ok', 3, 2],
      ['/pair', 'g14', 6, 2],
      ['/priorities', 'g14', 3, 2],
      ['/weights', 'g14', 3, 3],
      ['/random', 'g14', 4, 4],
      ['/least', 'g14', 4, 4],
      ['/subsets', 'g14', 6, 2],
    ];
    for (const [path, plan, times, endpoints, body = small] of cases) {
      await bench.settled(SERVERS.map((name) => `/alone/${name}`));
      const found = await same(bench, path, plan, body);
      assert.deepEqual([found.length, new Set(found).size], [times, endpoints], `${path} ${plan}: ${found}`);
      if (/priorities|subsets/.test(path)) assert.ok(found.every(first), `${path} ${plan}: ${found}`);
    }
    for (const type of ['text/plain', 'application/json'])
      assert.equal((await same(bench, '/all', 'g14,ok', small, { 'content-type': type })).length, 2, type);
    const most = bench.theirs.remoteSettings.initialWindowSize!;
    for (const size of [1, 3500, 5000, 200_000, most])
      assert.equal((await same(bench, '/all', 'g14,reset7,ok', Buffer.alloc(size, `${size} `))).length, 3, `${size}`);
    assert.equal((await same(bench, '/all', 'g14,ok', Buffer.alloc(most + 1))).length, 1, 'too long a body');
    for (const path of ['/ring', '/maglev'])
      for (const key of ['a', 'b', 'c']) {
        const [own, alone] = await Promise.all(
          [bench.ours, bench.theirs].map((by) => bench.request(by, path, 'g14', small, { 'x-hash': key })),
        );
        assert.deepEqual(own, alone, `${path} ${key}: the same endpoints in the same order`);
      }
    for (let i = 0; i < 8; i++) {
      const found = await same(bench, '/drawn', 'g14', small);
      assert.ok(
        found.every((name) => first(name) === first(found[0]!)),
        `one cluster: ${found}`,
      );
    }
  }),
);

test('endpoints that refuse connections, and many streams at once', { skip, timeout: 120_000 }, () =>
  inWorld(async (bench) => {
    const body = Buffer.from('a small body');
    const times = 9;
    // a try that found nobody is counted, and seen by no server
    const attempts = (tries: readonly string[]): string => tries.map((one) => one.split(' ')[1]).join();
    const all = async (by: typeof bench.ours, path: string, plan: string) => {
      const found = [];
      for (let i = 0; i < times; i++) found.push(await bench.request(by, path, plan, body));
      return found;
    };
    for (const [path, plan, forms] of [
      ['/holes', 'g14,ok', ['1,2', '1,3', '2,3']],
      ['/holes/once', 'g14', ['1', '1,2', '2']],
    ] as const) {
      const before = bench.world.decided();
      const own = await all(bench.ours, path, plan);
      const begun = bench.world.decided() - before;
      const alone = await all(bench.theirs, path, plan);
      for (const { tries } of own) {
        assert.ok((forms as readonly string[]).includes(attempts(tries)), `${path}: ${tries}`);
        assert.equal(new Set(tries.map(serverOf)).size, tries.length, `${path}: ${tries}`);
      }
      assert.equal(begun, (times * 2) / 3, `${path}: all but those whose turn leads to nobody`);
      // whatever form the tries have, its answer is that of Envoy alone
      const answers = (list: typeof own) => new Map(list.map(({ tries, found }) => [attempts(tries), found]));
      const theirs = answers(alone);
      for (const [form, found] of answers(own))
        if (theirs.has(form)) assert.deepEqual(found, theirs.get(form), `${path}: ${form}`);
      assert.ok(
        [...answers(own).keys()].some((form) => theirs.has(form)),
        `${path}: something to compare`,
      );
    }
    const before = bench.world.decided();
    const streams = 200;
    const found = await Promise.all(
      Array.from({ length: streams }, (_, i) =>
        bench.request(bench.ours, '/all', i % 4 ? 'g14,reset7,ok' : 'ok', Buffer.alloc(i * 50, `${i} `)),
      ),
    );
    assert.equal(bench.world.decided() - before, streams, 'all begun by the kernel');
    for (const [i, { found: answer, tries }] of found.entries()) {
      assert.equal((answer as Outcome).body, 'a whole answer', `stream ${i}`);
      assert.equal(new Set(tries.map(serverOf)).size, i % 4 ? 3 : 1, `stream ${i}: ${tries}`);
      assert.equal(tries.length, i % 4 ? 3 : 1, `stream ${i}: tries`);
    }
  }),
);
