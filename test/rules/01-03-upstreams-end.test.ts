/** Rules 1 to 3: upstreams that end at any moment, and application sockets that nothing may disable. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { poolState } from './kernel-state.js';
import { assertNoFailures, type Report, RulesWorld, skip } from './world.js';

describe('upstreams that end', { skip, timeout: 180_000 }, () => {
  let world: RulesWorld;
  const agent = (): number => world.sidestep.process.pid;

  before(async () => {
    world = await RulesWorld.open('ends');
  });
  after(() => world?.close());

  test('rule 1: a FIN of an upstream never reaches the client, and no slot is released with an owner', async (t) => {
    const before = (await world.status()).requests.kernel;
    const client = world.start('rule01.py', 90);
    await client.waitFor(/^idle$/m);
    const open = (await world.serverStats()).open;
    assert.ok((await world.closeIdle()) > 4, `only ${open} connections were idle`);
    await sleep(300);
    client.child.stdin!.write('\n');
    const report = JSON.parse((await client.waitFor(/^\{.*\}$/m))[0]) as Report;
    t.diagnostic(JSON.stringify(report));
    assertNoFailures(report);
    assert.equal(report.answers, 4 * 90 * 2);
    assert.equal(report.after_idle, 4);
    assert.ok(Number(report.later) > 90, 'hardly any answer was whole when the FIN came later');
    assert.ok((await world.status()).requests.kernel - before > 400, 'too few of them went through the kernel');
    await sleep(200);
    const pool = await poolState(agent());
    assert.deepEqual(pool.broken, []);
    assert.equal(pool.owned, 0, 'slots are owned though nothing is under way');
    assert.equal(pool.idle, pool.connected, 'connections that are neither idle nor in use');
  });

  test('rule 2: requests to upstreams that die are served or refused cleanly', async (t) => {
    const client = world.start('rule02.py', 6);
    await client.waitFor(/^asking$/m);
    let closed = 0;
    for (let i = 0; i < 40; i++) {
      closed += await world.closeIdle(); // in order, while requests are on their way
      await sleep(20);
    }
    for (let i = 0; i < 2; i++) {
      world.server.child.kill('SIGKILL');
      await world.server.exited;
      await sleep(100);
      await world.startServer();
      await sleep(400);
    }
    client.child.stdin!.write('\n');
    const report = JSON.parse((await client.waitFor(/^\{.*\}$/m))[0]) as Report;
    t.diagnostic(`${closed} idle connections closed: ${JSON.stringify(report)}`);
    assertNoFailures(report);
    assert.ok(closed > 50, 'too few connections were closed under the requests');
    assert.ok(Number(report.served) > 500);
    await sleep(300);
    const pool = await poolState(agent());
    assert.deepEqual(pool.broken, []);
    assert.equal(pool.owned, 0);
  });

  test('rule 3: after refused and odd requests the same socket still works', async (t) => {
    const report = await world.client('rule03.py');
    t.diagnostic(JSON.stringify(report));
    assertNoFailures(report);
    assert.equal(report.cases, 19);
    assert.equal(await world.counter('redirect_failed'), 0, 'a redirect to a missing target drops the message');
    assert.equal(await world.counter('helper_failed'), 0);
  });
});
