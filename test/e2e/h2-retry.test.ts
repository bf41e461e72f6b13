/** Streams that are tried again, beside a real Envoy: what has them tried again, what the servers see, and what the client. */
import assert from 'node:assert/strict';
import type http2 from 'node:http2';
import { test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy } from '../plan/envoy-oracle.js';
import { Bench, type Outcome } from './h2-bench.js';
import { Tries } from './h2-tries.js';
import { H2World } from './h2-world.js';

const skip = process.getuid?.() !== 0 ? 'needs root' : findEnvoy() === undefined ? 'no Envoy was found' : false;
const options = { skip, timeout: 120_000 };

const ISTIO = 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes';
const ISTIOS = { retry_on: ISTIO, num_retries: 2 };
const POLICIES: Readonly<Record<string, JsonObject>> = {
  istio: ISTIOS,
  grpc: { retry_on: 'deadline-exceeded,internal,resource-exhausted', num_retries: 1 },
  server: { retry_on: '5xx', num_retries: 3, retry_back_off: { base_interval: '0.002s', max_interval: '0.01s' } },
  gateway: { retry_on: 'gateway-error,retriable-4xx', num_retries: 1 },
  codes: { retry_on: 'retriable-status-codes', num_retries: 1, retriable_status_codes: [200, 404] },
  reset: { retry_on: 'reset', num_retries: 1 },
  slow: { retry_on: ISTIO, retry_back_off: { base_interval: '20s', max_interval: '60s' } },
};
const route = (name: string, retry_policy: JsonObject): JsonObject => ({
  match: { prefix: `/${name}` },
  route: { cluster: 'one', timeout: '0s', retry_policy, prefix_rewrite: `/rewritten/${name}` },
});
const ROUTES = [
  ...Object.entries(POLICIES).map(([name, policy]) => route(name, policy)),
  { match: { prefix: '/one' }, route: { cluster: 'one', timeout: '0s' } },
  { match: { prefix: '/two' }, route: { cluster: 'two', timeout: '0s', retry_policy: ISTIOS } },
];
const MANY = { circuit_breakers: { thresholds: [{ max_retries: 4294967295, max_requests: 4294967295 }] } };

async function inWorld(run: (bench: Bench) => Promise<void>, settings: http2.Settings = {}): Promise<void> {
  const tries = new Tries();
  const more = { host: { include_request_attempt_count: true }, cluster: MANY, script: tries.script };
  const world = await H2World.open(ROUTES, settings, {}, more);
  try {
    const bench = new Bench(world, tries, await world.connect(), await world.connect('envoy'));
    await bench.settled();
    await run(bench);
    await bench.empty();
    for (const session of [bench.ours, bench.theirs]) session.destroy();
  } finally {
    await world.close();
  }
}

test('what is tried again, and how often', options, () =>
  inWorld(async (bench) => {
    const small = Buffer.from('a small body');
    const cases: [path: string, plan: string, tries: number, body?: Buffer | undefined][] = [
      ['/istio', 'ok', 1],
      ['/istio', 'g14,ok', 2],
      ['/istio', 'g14,ok', 2, undefined],
      ['/istio', 'g14,g14,ok', 3],
      ['/istio', 'g14', 3],
      ['/istio', 'g1,h14,ok', 3],
      ['/istio', 'h14,ok', 2],
      ['/istio', 'g5', 1],
      ['/istio', 'g0', 1],
      ['/istio', 'h5', 1],
      ['/istio', 'late', 1],
      ['/istio', 'limited', 1],
      ['/istio', 'early,ok', 1],
      ['/istio', 's503', 1],
      ['/istio', 's200', 1],
      ['/istio', 's299', 1],
      ['/istio', 'reset7,ok', 2],
      ['/istio', 'reset7', 3],
      ['/istio', 'reset8', 1],
      ['/istio', 'g14now,ok', 2],
      ['/istio', 'g14now,reset7now,ok', 3],
      ['/grpc', 'g4,ok', 2],
      ['/grpc', 'g8,ok', 2],
      ['/grpc', 'g13,g13', 2],
      ['/grpc', 'g14', 1],
      ['/grpc', 'reset7', 1],
      ['/server', 's500,s501,s599,ok', 4],
      ['/server', 's503', 4],
      ['/server', 's404', 1],
      ['/server', 'g14', 1],
      ['/server', 'reset2,ok', 2],
      ['/server', 'reset7,ok', 2],
      ['/gateway', 's502,ok', 2],
      ['/gateway', 's409,ok', 2],
      ['/gateway', 's500', 1],
      ['/gateway', 's408', 1],
      ['/codes', 'ok,s201', 2],
      ['/codes', 's404,s404', 2],
      ['/codes', 's204', 1],
      ['/reset', 'reset8,ok', 2],
      ['/reset', 's503', 1],
    ];
    for (const [path, plan, times, body = small] of cases)
      assert.equal((await bench.same(path, plan, body)).length, times, `${path} ${plan}: tries`);
    assert.equal((await bench.same('/istio', 'g14,ok', small, { 'content-type': 'text/plain' })).length, 2);
    assert.equal((await bench.same('/istio', 'g14,ok', undefined, { ':method': 'GET' })).length, 2);
  }),
);

test('bodies of all sizes', options, () =>
  inWorld(async (bench) => {
    const most = bench.theirs.remoteSettings.initialWindowSize!;
    const sizes = [1, 2000, 3500, 5000, 65536, 200_000, most];
    for (const size of sizes) {
      const tries = await bench.same('/istio', 'g14,ok', Buffer.alloc(size, `${size} `));
      assert.equal(tries.length, 2, `${size} bytes: tries`);
      assert.equal(tries[0]!.split(' ')[3], tries[1]!.split(' ')[3], `${size} bytes: arrived the same`);
    }
    // Envoy keeps no more, either
    assert.equal((await bench.same('/istio', 'g14,ok', Buffer.alloc(most + 1))).length, 1);
    // the answer is there before the body
    for (const size of [100, 5000, 300_000])
      assert.equal((await bench.same('/istio', 'g14now,ok', Buffer.alloc(size, 'x'))).length, 2, `${size}, early`);
  }),
);

test('connections that end, and streams that were not taken', options, () =>
  inWorld(async (bench) => {
    const cases: [path: string, plan: string, tries: number][] = [
      ['/istio', 'goaway,ok', 2],
      ['/istio', 'gone,ok', 1],
      ['/reset', 'gone,ok', 2],
      ['/server', 'gone,ok', 2],
      ['/reset', 'goaway,ok', 2],
    ];
    for (const [path, plan, times] of cases) {
      assert.equal((await bench.same(path, plan, Buffer.from('body'))).length, times, `${path} ${plan}: tries`);
      await bench.settled();
    }
  }),
);

test('many at once, and a client that gives up', options, () =>
  inWorld(async (bench) => {
    const before = bench.world.decided();
    const streams = 200;
    const all = await Promise.all(
      Array.from({ length: streams }, (_, i) => {
        const body = Buffer.alloc(i % 10 === 0 ? i * 1000 : i * 7, `${i} `);
        return bench.request(bench.ours, i % 3 ? '/istio' : '/two', i % 4 ? 'g14,reset7,ok' : 'ok', body);
      }),
    );
    assert.equal(bench.world.decided() - before, streams, 'all begun by the kernel');
    for (const [i, { found, tries }] of all.entries()) {
      assert.equal((found as Outcome).body, 'a whole answer', `stream ${i}`);
      assert.equal(tries.length, i % 4 ? 3 : 1, `stream ${i}: tries`);
      assert.equal(new Set(tries.map((seen) => seen.split(' ').slice(2).join())).size, 1, `stream ${i}: one body`);
    }
    const own = { ':method': 'POST', ':path': '/slow', 'x-id': 'given up', 'x-plan': 'g14now' };
    const stream = bench.ours.request(own);
    stream.on('error', () => undefined);
    stream.write('the beginning');
    while (bench.tries.of('given up').length === 0) await sleep(5);
    await sleep(50);
    stream.close(8);
    await bench.empty();
    assert.equal(bench.tries.of('given up').length, 1);
    assert.equal((await bench.same('/istio', 'g14,ok', Buffer.from('goes on'))).length, 2);
  }),
);
