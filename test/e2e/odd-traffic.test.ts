/**
 * Traffic of every odd kind, on one connection each, sent to a plain Envoy and through Sidestep: what the client sees
 * must be the same, and afterwards ordinary requests must still work (the pools are not damaged).
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { Exchange, JobResult } from '../../src/lab/raw-client.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import { CASES, get, visible } from './odd-cases.js';
import type { OddEcho } from './odd-server.js';
import { digits } from './odd-server.js';
import { ALONE, bodyOf, bootstrap, MESH, one, skip, World } from './world.js';

test('two Envoys answer odd traffic alike', { timeout: 240_000 }, async () => {
  const world = await World.open('odd-oracle');
  try {
    await world.startEnvoy({ gen: '1' });
    await startEnvoy(
      world.lab,
      'another Envoy',
      bootstrap({ address: MESH, port: world.port, upstream: world.upstream, gen: '1' }),
    );
    const driver = await world.driver();
    for (const [name, exchanges] of Object.entries(CASES)) {
      const [a, b] = await Promise.all(
        [ALONE, MESH].map((address) => driver.run({ address, port: world.port, exchanges })),
      );
      assert.notEqual(a!.error, 'timeout', `${name}: the case itself hangs`);
      assert.deepEqual(visible(a!), visible(b!), name);
    }
  } finally {
    await world.close();
  }
});

describe('odd traffic', { skip, timeout: 600_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;

  before(async () => {
    world = await World.open('odd');
    await world.writePolicy({ gen: '1' });
    await world.startEnvoy({ gen: '1' });
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(() => world?.close());

  for (const [name, exchanges] of Object.entries(CASES)) {
    test(name, async () => {
      const [expected, actual] = await Promise.all([
        outside.run({ address: ALONE, port: world.port, exchanges }),
        inside.run({ address: MESH, port: world.port, exchanges }),
      ]);
      assert.deepEqual(visible(actual), visible(expected));
      // or the rest of the tests would be answered by Envoy, and pass
      assert.equal(sidestep.process.exit, undefined, 'the agent ended');
      assert.notEqual(expected.error, 'timeout', 'the case itself hangs');
      for (let i = 0; i < 4; i++) {
        const r = await inside.run(one(MESH, world.port, 'GET', '/echo', [['x-token', `${name} ${i}`]]));
        assert.equal(bodyOf<OddEcho>(r).token, `${name} ${i}`);
      }
    });
  }

  test('most ordinary requests among them were decided in the kernel', async () => {
    const { requests } = await sidestep.status();
    assert.ok(requests.kernel > requests.proxy + requests.agent, JSON.stringify(requests));
  });
});

test('a websocket works through Envoy and through Sidestep alike', { skip, timeout: 120_000 }, async () => {
  const world = await World.open('websocket');
  try {
    await world.writePolicy({ websocket: true });
    await world.startEnvoy({ websocket: true });
    const sidestep = await world.startSidestep();
    const frames = digits(5000);
    const exchanges: Exchange[] = [
      get('/echo'),
      get('/chat', [
        ['Connection', 'Upgrade'],
        ['Upgrade', 'websocket'],
        ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='],
        ['Sec-WebSocket-Version', '13'],
      ]),
      {
        pieces: [frames.subarray(0, 1000).toString('base64'), frames.subarray(1000).toString('base64')],
        methods: [],
        rawBytes: 5000,
      },
    ];
    const expected = await (await world.driver()).run({ address: ALONE, port: world.port, exchanges });
    assert.equal(expected.raw, frames.toString('base64'), expected.error);
    const actual = await (await world.driver(sidestep)).run({ address: MESH, port: world.port, exchanges });
    assert.equal(actual.raw, expected.raw, actual.error);
    assert.deepEqual(visible(actual), visible(expected));
  } finally {
    await world.close();
  }
});

test('an upstream that is not there', { skip, timeout: 120_000 }, async () => {
  const lab = await Lab.open('nobody');
  const world = await World.open('nobody');
  try {
    const nobody = await freePort();
    const port = await freePort();
    const policy = { port, upstream: nobody };
    await startEnvoy(lab, 'alone', bootstrap({ ...policy, address: ALONE }));
    const file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(bootstrap({ ...policy, address: MESH })));
    const sidestep = await startSidestep(lab, [file]);
    const expected = await (await world.driver()).run(one(ALONE, port, 'GET', '/echo'));
    const actual = await (await world.driver(sidestep)).run(one(MESH, port, 'GET', '/echo'));
    assert.equal(expected.answers[0]?.status, 503);
    assert.deepEqual(visible(actual), visible(expected));
    // it comes up later: then requests succeed
    await world.startUpstream('late', nobody);
    const inside = await world.driver(sidestep);
    let last: JobResult | undefined;
    for (let i = 0; i < 50 && last?.answers[0]?.status !== 200; i++)
      last = await inside.run(one(MESH, port, 'GET', '/echo'));
    assert.equal(last?.answers[0]?.status, 200);
  } finally {
    await world.close();
    await lab.close();
  }
});
