/** Policies are read and compiled in a thread: what comes meanwhile, and what becomes of it when the agent ends. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { policyOfSize } from '../../src/bench/policy-size-config.js';
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
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
    // the kernel has it a moment before the agent says so
    await sleep(200);
    const { generation } = await sidestep.status();
    await sleep(1000);
    assert.equal(await last(), 412);
    assert.equal((await sidestep.status()).generation, generation, 'nothing comes after it');
  });

  test('an agent that ends does not wait for what is being made', async () => {
    const before = threads();
    await world.writeText(text(10_000, 410));
    await until('the thread begins', () => threads() > before);
    assert.equal(await sidestep.stop(), 0, sidestep.process.output);
    assert.doesNotMatch(sidestep.process.output, /generation 2|could not be compiled|reload failed|\n\s+at /);
  });
});

test('SIGHUP has files read that are not watched, and what is wrong is said with its place', {
  skip,
  timeout: 120_000,
}, async () => {
  const world = await World.open('hangup');
  try {
    // the folder of the link is watched, not that of the file
    const folder = join(world.lab.dir, 'elsewhere');
    const real = join(folder, 'policy.json');
    mkdirSync(folder);
    await world.writePolicy({ gen: '1' });
    renameSync(world.file, real);
    symlinkSync(real, world.file);
    const sidestep = await world.startSidestep();
    const good = readFileSync(real, 'utf8');
    const { generation } = await sidestep.status();
    writeFileSync(real, '{\n "static_resources": { "listeners": 7 } }');
    sidestep.process.child.kill('SIGHUP');
    await sidestep.process.waitFor(/bootstrap\.json:2:\d+[\s\S]*generation 1 stays in force: 1 error/);
    assert.equal((await sidestep.status()).generation, generation);
    writeFileSync(real, good.replace('"value":"1"', '"value":"2"'));
    sidestep.process.child.kill('SIGHUP');
    await sidestep.process.waitFor(/generation 2 is in force/);
    assert.equal((await sidestep.status()).generation, generation + 1);
  } finally {
    await world.close();
  }
});
