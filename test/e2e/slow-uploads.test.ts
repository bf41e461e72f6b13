/** When the times of a route begin: requests whose body comes slowly, against Envoy. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import type { JobResult } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { allInKernel } from './in-kernel.js';
import { visible } from './odd-cases.js';
import { ALONE, MESH, one, request, skip, World } from './world.js';

/** The route's timeout is 0.3 s, and between two pieces of a request 0.8 s may pass. */
const config = (address: string, port: number, upstream: number): JsonObject =>
  plainBootstrap(
    [
      {
        ...{ name: 'uploads', address, port, manager: { stream_idle_timeout: '0.8s' } },
        routes: [{ match: { prefix: '/' }, route: { cluster: 'upstream', timeout: '0.3s' } }],
      },
    ],
    [{ name: 'upstream', ports: [upstream] }],
  );

const BODY = 'x'.repeat(60);

/** A request in pieces of 20 bytes of its body, of which `sent` are sent, each `gapMs` after the one before. */
function pieces(path: string, sent: number, gapMs: number): string[] {
  const head = request(`POST ${path} HTTP/1.1`, [['Content-Length', String(BODY.length)]], BODY.slice(0, 20));
  const all = [head];
  for (let i = 1; i < sent; i++) {
    // the client waits 5 ms between two pieces; empty ones are pauses
    for (let waited = 0; waited < gapMs; waited += 5) all.push('');
    all.push(Buffer.from(BODY.slice(i * 20, i * 20 + 20)).toString('base64'));
  }
  return all;
}

describe('slow uploads', { skip, timeout: 120_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;

  before(async () => {
    world = await World.open('uploads');
    await startEnvoy(world.lab, 'envoy alone', config(ALONE, world.port, world.upstream));
    await world.writeText(JSON.stringify(config(MESH, world.port, world.upstream)));
    sidestep = await startSidestep(world.lab, [world.file]);
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(() => world?.close());

  const cases: readonly [name: string, path: string, sent: number, gapMs: number, status: number][] = [
    ['each piece 0.5 s after the one before', '/echo', 3, 500, 200],
    ['an answer that takes longer than the timeout', '/hold/600', 3, 50, 504],
    ['an answer within the timeout, after a slow upload', '/hold/200', 3, 400, 200],
    ['a client that stops in the middle', '/echo', 2, 50, 408],
  ];
  for (const [name, path, sent, gapMs, status] of cases)
    test(name, async () => {
      const of = async (driver: Driver, address: string): Promise<JobResult> => {
        const exchanges = [{ pieces: pieces(path, sent, gapMs), methods: ['POST'] }];
        return driver.run({ address, port: world.port, exchanges, timeoutMs: 5000 });
      };
      // from here on there is an idle connection to the server
      await allInKernel(sidestep, 1, () => inside.run(one(MESH, world.port, 'GET', '/echo')));
      const before = (await sidestep.status()).counters!.kernel!;
      const [ours, alone] = await Promise.all([of(inside, MESH), of(outside, ALONE)]);
      assert.equal(alone.answers[0]?.status, status, alone.error);
      assert.deepEqual(visible(ours), visible(alone));
      assert.equal((await sidestep.status()).counters!.kernel! - before, 1);
    });
});
