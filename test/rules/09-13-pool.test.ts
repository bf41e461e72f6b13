/** Rules 9 and 13: the pool under concurrent clients, and what tens of thousands of connections leave behind. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { heldBy, mapId, poolState, show, size } from './kernel-state.js';
import { assertNoFailures, RulesWorld, skip } from './world.js';

describe('the pool, and churn', { skip, timeout: 180_000 }, () => {
  let world: RulesWorld;
  const agent = (): number => world.sidestep.process.pid;

  before(async () => {
    world = await RulesWorld.open('pool');
  });
  after(() => world?.close());

  test('rule 9: no upstream carries two requests at once, none is lost', async (t) => {
    const before = await world.serverStats();
    const clients = 24;
    const requests = 500;
    const reports = await Promise.all([0, 1].map(() => world.client('rule09.py', [clients / 2, requests], 60_000)));
    const after = await world.serverStats();
    const status = await world.status();
    t.diagnostic(JSON.stringify({ reports, after, requests: status.requests, counters: status.counters }));
    for (const report of reports) {
      assertNoFailures(report);
      assert.equal(report.answers, (clients / 2) * requests);
    }
    assert.equal(after.requests - before.requests, clients * requests, 'requests that the server saw');
    assert.equal(after.overlaps, 0, 'two requests at once on one connection');
    assert.ok(status.requests.kernel > clients * requests * 0.8);
    // to the server and to the proxy: at most one for each client, and some that were missed at the same moment
    const pool = await poolState(agent());
    assert.deepEqual(pool.broken, []);
    assert.equal(pool.owned, 0);
    assert.equal(pool.idle, pool.connected, 'connections that are neither idle nor in use');
    assert.ok(pool.connected <= 3 * clients, `${pool.connected} connections for ${clients} clients`);
  });

  test('rule 13: 6,000 connections leave nothing behind', async (t) => {
    const residentMb = (): number =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${agent()}/status`, 'utf8'))![1]) / 1024;
    const measure = async () => {
      assert.equal(await world.settledConnections(), 0, 'connections that the agent still has');
      await sleep(500);
      const pool = await poolState(agent());
      return {
        fds: heldBy(agent()).descriptors,
        mb: Math.round(residentMb()),
        clients: await size(agent(), 'clients'),
        tuples: await size(agent(), 'tuples'),
        slots: pool.connected,
        owned: pool.owned,
        idle: pool.idle,
      };
    };
    assertNoFailures(await world.client('rule13.py', [2000, 4], 60_000));
    const before = await measure();
    const began = Date.now();
    const report = await world.client('rule13.py', [6000, 4], 90_000);
    const seconds = (Date.now() - began) / 1000;
    const after = await measure();
    t.diagnostic(`${seconds.toFixed(1)} s; before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
    assertNoFailures(report);
    assert.equal(report.connections, 6000);
    assert.ok(seconds <= 60, `it took ${seconds} s`);
    assert.equal(after.clients, 0, 'sockets in the map of clients');
    // addresses of clients that reset before they were accepted stay until the kernel needs their place
    const tuples = await mapId(agent(), 'tuples');
    assert.equal((await show('map')).find((m) => m.id === tuples)?.type, 'lru_hash');
    assert.equal(after.owned, 0, 'upstreams with an owner');
    assert.equal(after.idle, after.slots, 'upstreams that are neither idle nor in use');
    assert.ok(after.slots <= before.slots + 16, 'upstream connections');
    assert.ok(after.fds <= before.fds + 40, `descriptors: ${before.fds}, then ${after.fds}`);
    // garbage of the agent's own is collected now and then: over 100,000 connections it stays within this
    assert.ok(after.mb <= before.mb + 100, `memory: ${before.mb} MB, then ${after.mb} MB`);
  });
});
