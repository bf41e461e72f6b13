/** The agent's life: killed, stopped, started again, started twice. Nothing may hang, and no half answer may look whole. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { runCommand, sleep } from '../../src/lab/processes.js';
import { instanceName, type SidestepHandle, type Status, sidestepCommand } from '../../src/lab/sidestep.js';
import { MESH, one, skip, World } from './world.js';

describe('life of an instance', { skip, timeout: 300_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let driver: Driver;

  beforeEach(async () => {
    world = await World.open('lifecycle');
    await world.writePolicy();
    sidestep = await world.startSidestep();
    driver = await world.driver(sidestep);
  });
  afterEach(() => world?.close());

  const held = (ms: number, count: number): Promise<{ error?: string; status: number | undefined; ms: number }[]> =>
    Promise.all(
      Array.from({ length: count }, async () => {
        const began = Date.now();
        const r = await driver.run(one(MESH, world.port, 'GET', `/hold/${ms}`));
        const status = r.answers[0]?.status;
        return { status, ms: Date.now() - began, ...(r.error ? { error: r.error } : {}) };
      }),
    );

  test('kill -9: requests in flight are reset at once, new ones succeed within a second', async (t) => {
    const load = await world.load(sidestep, 8);
    const inFlight = held(5000, 20);
    await sleep(500);
    const killed = Date.now();
    sidestep.process.child.kill('SIGKILL');
    for (const r of await inFlight) {
      assert.equal(r.error, 'ECONNRESET', 'an end of file could pass for the end of an answer');
      assert.ok(r.ms < 1500, `a client waited ${r.ms} ms`);
    }
    t.diagnostic(`20 requests in flight were reset within ${Date.now() - killed} ms`);
    await sleep(1500);
    const after = await driver.run(one(MESH, world.port, 'GET', '/echo'));
    assert.equal(after.answers[0]?.status, 200, after.error);
    const report = await load.finish();
    t.diagnostic(
      `${report.answers} answers, ${report.failures.length} failures, longest gap ${report.longestGapMs} ms`,
    );
    for (const f of report.failures) assert.notEqual(f.phase, 'wrong', f.why);
    for (const f of report.failures) assert.notEqual(f.why, 'closed', 'an orderly close instead of an answer');
    assert.ok(report.longestGapMs < 1000, `no request was answered for ${report.longestGapMs} ms`);
  });

  test('a clean stop answers what is in flight and leaves nothing', async () => {
    const inFlight = held(1500, 20);
    await sleep(500);
    const status = sidestepCommand('status', '--json', '--name', sidestep.name);
    const { requests } = JSON.parse((await runCommand(status)).stdout) as Status;
    assert.deepEqual(requests, (await sidestep.status()).requests);
    const code = await sidestep.stop();
    assert.equal(code, 0, sidestep.process.output);
    for (const r of await inFlight) assert.equal(r.status, 200, r.error);
    assert.ok(!existsSync(`/run/sidestep/${sidestep.name}/state.json`), 'the state file is still there');
    assert.notEqual((await runCommand(status)).code, 0, 'status still finds the instance');
    const exec = await runCommand(sidestepCommand('exec', '--name', sidestep.name, '--', 'true'));
    assert.notEqual(exec.code, 0, 'exec still finds the instance');
    assert.match(exec.stderr, /\S/);
    assert.doesNotMatch(exec.stderr, /\n\s+at /, 'a stack trace');
  });

  test('a start after a crash cleans up and works', async () => {
    sidestep.process.child.kill('SIGKILL');
    await sidestep.process.exited;
    const again = await world.startSidestep(sidestep.name);
    const inside = await world.driver(again);
    for (let i = 0; i < 20; i++) {
      const r = await inside.run(one(MESH, world.port, 'GET', '/echo'));
      assert.equal(r.answers[0]?.status, 200, r.error);
    }
    assert.ok((await again.status()).requests.kernel > 0, 'nothing was decided in the kernel');
    assert.equal(await again.stop(), 0);
  });

  test('a second instance of the same name is refused, the first goes on', async () => {
    const second = await runCommand(sidestepCommand('run', world.file, '--name', sidestep.name), { timeoutMs: 20_000 });
    assert.ok(second.code !== 0 && second.code !== null, `it ended with ${second.code}: ${second.stdout}`);
    assert.match(second.stderr, new RegExp(sidestep.name));
    assert.doesNotMatch(second.stderr, /\n\s+at /, 'a stack trace');
    const r = await driver.run(one(MESH, world.port, 'GET', '/echo'));
    assert.equal(r.answers[0]?.status, 200, r.error);
  });

  test('instances of different names live side by side', async () => {
    const other = await World.open('lifecycle-other');
    try {
      await other.writePolicy();
      const name = instanceName('other');
      const second = await other.startSidestep(name);
      const inside = await other.driver(second);
      const before = (await sidestep.status()).requests;
      for (let i = 0; i < 5; i++) {
        const r = await inside.run(one(MESH, other.port, 'GET', '/echo'));
        assert.equal(r.answers[0]?.status, 200, r.error);
      }
      assert.deepEqual((await sidestep.status()).requests, before, 'the other instance counted');
      const r = await driver.run(one(MESH, world.port, 'GET', '/echo'));
      assert.equal(r.answers[0]?.status, 200, r.error);
    } finally {
      await other.close();
    }
  });
});
