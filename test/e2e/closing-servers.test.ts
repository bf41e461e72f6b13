/** Servers that close connections: after many answers they stay in the pools, after each they are left to the proxy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { MESH, one, skip, World } from './world.js';

const REQUESTS = 200;

/** Requests decided in the kernel, of REQUESTS to a server that closes each connection after `answers` answers. */
async function decidedInKernel(answers: number): Promise<number> {
  const world = await World.open(`closing-${answers}`);
  try {
    const port = await freePort();
    const server = world.lab.start('closing server', [
      process.execPath,
      '-e',
      `const s = require('node:http').createServer((q, r) => r.end('ok'));
       s.maxRequestsPerSocket = ${answers};
       s.listen(${port}, '127.0.0.1', () => console.log('listening'));`,
    ]);
    await server.waitFor(/listening/);
    await world.writePolicy({ upstream: port });
    const sidestep = await world.startSidestep();
    const driver = await world.driver(sidestep);
    for (let i = 0; i < REQUESTS; i++) {
      const r = await driver.run(one(MESH, world.port, 'GET', '/'));
      assert.equal(r.answers[0]?.status, 200, r.error);
    }
    return (await sidestep.status()).requests.kernel;
  } finally {
    await world.close();
  }
}

test('a server that closes after ten answers stays in the pools', { skip, timeout: 120_000 }, async (t) => {
  const kernel = await decidedInKernel(10);
  t.diagnostic(`${kernel} of ${REQUESTS} in the kernel`);
  // twenty would be two connections' worth
  assert.ok(kernel > REQUESTS / 2, `only ${kernel} of ${REQUESTS} were decided in the kernel`);
});

test('a server that closes after each answer is left to the proxy', { skip, timeout: 120_000 }, async (t) => {
  const kernel = await decidedInKernel(1);
  t.diagnostic(`${kernel} of ${REQUESTS} in the kernel`);
  assert.ok(kernel < 10, `${kernel} of ${REQUESTS} were tried in the kernel`);
});
