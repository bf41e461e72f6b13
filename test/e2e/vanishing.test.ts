/** Clients that leave at any moment: nobody else gets their answers, and no upstream connection is lost for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { freePort } from '../../src/lab/ports.js';
import { sleep } from '../../src/lab/processes.js';
import type { Exchange } from '../../src/lab/raw-client.js';
import { MESH, one, request, skip, World } from './world.js';

const body = Buffer.alloc(50_000, 'abc');
const post = (sent: number): string =>
  Buffer.from(request('POST /echo HTTP/1.1', [['Content-Length', String(body.length)]], body), 'base64')
    .subarray(0, sent)
    .toString('base64');

/** Two requests, the second while the first is still being answered. */
const PAIR: string[] = [
  request('GET /echo HTTP/1.1', [['x-token', 'a']]),
  request('GET /hold/20 HTTP/1.1', [['x-token', 'b']]),
];

/** Ways to begin an exchange that will not be finished. */
const begun: fc.Arbitrary<string[]> = fc.oneof(
  fc.integer({ min: 1, max: 60 }).map((n) => [
    Buffer.from(request('GET /echo HTTP/1.1', [['x-token', 'abandoned']]), 'base64')
      .subarray(0, n)
      .toString('base64'),
  ]),
  fc
    .constantFrom(
      '/echo',
      '/hold/30',
      '/bytes/300000',
      '/bytes/3000000',
      '/chunks/1000/500',
      '/close',
      '/dribble',
      '/denied',
    )
    .map((path) => [request(`GET ${path} HTTP/1.1`, [['x-token', 'abandoned']])]),
  fc.integer({ min: 80, max: 49_000 }).map((n) => [post(n)]),
  fc.constant(PAIR),
);

test('clients vanish at any moment under load', { skip, timeout: 240_000 }, async (t) => {
  const world = await World.open('vanishing');
  try {
    await world.writePolicy();
    const sidestep = await world.startSidestep();
    const driver = await world.driver(sidestep);
    // every answer of the load is checked against its own token
    const load = await world.load(sidestep, 8);
    const leaving = fc.sample(fc.tuple(begun, fc.constantFrom('fin', 'reset'), fc.integer({ min: 0, max: 40 })), {
      seed: 7,
      numRuns: 400,
    });
    for (let i = 0; i < leaving.length; i += 20) {
      await Promise.all(
        leaving.slice(i, i + 20).map(([pieces, abandon, abandonAfterMs]) => {
          const exchange: Exchange = { pieces, methods: [], abandon: abandon as 'fin' | 'reset', abandonAfterMs };
          return driver.run({ address: MESH, port: world.port, exchanges: [exchange] });
        }),
      );
    }
    await sleep(500);
    const report = await load.finish();
    t.diagnostic(`${report.answers} answers beside 400 vanished clients, longest gap ${report.longestGapMs} ms`);
    assert.deepEqual(report.failures, []);
    assert.ok(report.answers > 100);
    // afterwards the kernel still has upstream connections to choose from
    const before = (await sidestep.status()).requests;
    for (let i = 0; i < 50; i++) {
      const r = await driver.run(one(MESH, world.port, 'GET', '/echo'));
      assert.equal(r.answers[0]?.status, 200, r.error);
    }
    const after = (await sidestep.status()).requests;
    assert.ok(after.kernel - before.kernel >= 45, `only ${after.kernel - before.kernel} of 50 in the kernel`);
  } finally {
    await world.close();
  }
});

test('nobody waits because of a client that left while the agent carried its answer', {
  skip,
  timeout: 120_000,
}, async () => {
  const world = await World.open('left');
  try {
    await world.writePolicy();
    const sidestep = await world.startSidestep();
    const driver = await world.driver(sidestep);
    // some of them leave in the moment between two looks of the agent at its sockets: their ends and their answers
    // are seen together
    for (let round = 0; round < 60; round++) {
      await Promise.all(
        Array.from({ length: 25 }, (_, i) => {
          const pieces = [request('GET /halves/15 HTTP/1.1', [])];
          const exchange: Exchange = { pieces, methods: [], abandon: 'reset', abandonAfterMs: 10 + (i % 10) };
          return driver.run({ address: MESH, port: world.port, exchanges: [exchange] });
        }),
      );
    }
    await sleep(100);
    const before = (await sidestep.status()).requests;
    const results = await Promise.all(
      Array.from({ length: 25 }, () => driver.run(one(MESH, world.port, 'GET', '/halves/15'))),
    );
    for (const r of results) assert.equal(r.answers[0]?.status, 200, r.error);
    const after = (await sidestep.status()).requests;
    assert.ok(after.agent > before.agent, 'the agent must have carried some of them');
  } finally {
    await world.close();
  }
});

test('the upstream is killed and started again under load', { skip, timeout: 120_000 }, async (t) => {
  const world = await World.open('upstream');
  try {
    const port = await freePort();
    const first = await world.startUpstream('first', port);
    await world.writePolicy({ upstream: port });
    const sidestep = await world.startSidestep();
    const load = await world.load(sidestep, 8);
    first.child.kill('SIGKILL');
    await sleep(500);
    await world.startUpstream('second', port);
    await sleep(2500);
    const report = await load.finish();
    t.diagnostic(`${report.answers} answers, ${report.failures.length} failures, ${JSON.stringify(report.variants)}`);
    // Envoy's own words for an upstream that is gone; never an answer of someone else, never a cut one
    for (const f of report.failures) {
      assert.match(f.why, /^(503 |ECONNRESET|closed)/);
      if (f.phase === 'answer') assert.equal(f.received, 0, 'a part of an answer came');
    }
    assert.ok((report.variants['second/'] ?? 0) > 20, 'no recovery');
    assert.ok(report.recoveredAt !== undefined);
  } finally {
    await world.close();
  }
});
