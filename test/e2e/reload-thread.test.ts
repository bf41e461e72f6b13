/** Policies are read and compiled in a thread: what comes meanwhile, and what becomes of it when the agent ends. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { policyOfSize } from '../../src/bench/policy-size-config.js';
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { instanceStatus } from './in-kernel.js';
import { MESH, one, skip, World } from './world.js';

describe('reloads while a policy is made', { skip, timeout: 240_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  /** a policy that ends with an answer of this status */
  const text = (routes: number, status: number) =>
    JSON.stringify(policyOfSize(routes, MESH, world.port, world.upstream)).replace(
      '"status":404',
      `"status":${status}`,
    );

  beforeEach(async () => {
    world = await World.open('making');
    await world.writeText(text(10, 404));
    sidestep = await world.startSidestep();
  });
  afterEach(() => world?.close());

  const pid = () => JSON.parse(readFileSync(`/run/sidestep/${sidestep.name}/state.json`, 'utf8')).pid as number;
  const threads = () => readdirSync(`/proc/${pid()}/task`).length;
  async function until(what: string, met: () => boolean | Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 60_000; !(await met()); await sleep(20))
      assert.ok(Date.now() < end, `${what}: ${sidestep.process.output.slice(-1000)}`);
  }

  test('of changes in a row the newest is in force, also after one that is wrong', async () => {
    const inside = await world.driver(sidestep);
    const asked = one(MESH, world.port, 'GET', '/no-such-path', [['Host', 'host-10.example.test']]);
    const last = async () => (await inside.run(asked)).answers[0]?.status;
    assert.equal(await last(), 404);
    const before = threads();
    await world.writeText(text(3000, 410));
    await until('the thread begins', () => threads() > before);
    // while it is read: each is noticed by itself
    await world.writeText('a: [');
    await sleep(300);
    await world.writeText(text(20, 411));
    await sleep(300);
    await world.writeText(text(10, 412));
    await until('the newest is in force', async () => (await last()) === 412);
    const { generation } = await instanceStatus(sidestep.name);
    await sleep(1000);
    assert.equal(await last(), 412);
    assert.equal((await instanceStatus(sidestep.name)).generation, generation, 'nothing comes after it');
  });

  test('an agent that ends does not wait for what is being made', async () => {
    const before = threads();
    await world.writeText(text(10_000, 410));
    await until('the thread begins', () => threads() > before);
    assert.equal(await sidestep.stop(), 0, sidestep.process.output);
    assert.doesNotMatch(sidestep.process.output, /generation 2|could not be compiled|reload failed|\n\s+at /);
  });
});
