/** Reading and compiling a large policy holds nothing up: neither requests nor the agent. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { policyOfSize, probes } from '../../src/bench/policy-size-config.js';
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { instanceStatus } from './in-kernel.js';
import { MESH, one, skip, World } from './world.js';

const ROUTES = 10_000;
/**
 * It was seconds before there was a thread. On a machine that is busy with something else, waiting for memory that both
 * threads use adds to it; the goal is 20 ms.
 */
const MOST_MS = 100;
/** Others run on this machine, too: the best of some reloads counts. */
const RELOADS = 4;

describe('reloads of 10,000 routes', { skip, timeout: 240_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  const text = (status: number) =>
    JSON.stringify(policyOfSize(ROUTES, MESH, world.port, world.upstream)).replace(
      '"status":404',
      `"status":${status}`,
    );

  before(async () => {
    world = await World.open('stall');
    await world.writeText(text(404));
    sidestep = await world.startSidestep();
  });
  after(() => world?.close());

  test('the agent and requests go on', async (t) => {
    const inside = await world.driver(sidestep);
    const { host, path } = probes(ROUTES, 9)[0]!;
    const ask = (headers: HeaderList = []) =>
      inside.run(one(MESH, world.port, 'GET', path, [['Host', host], ...headers]));
    const before = await ask();
    const stalls: number[] = [];
    let carried = 0;
    for (let i = 0; i < RELOADS; i++) {
      const { generation } = await instanceStatus(sidestep.name);
      await world.writeText(text(405 + i));
      // requests that the agent has a part in, all the while
      for (const end = Date.now() + 60_000; ; ) {
        const answer = await ask([['Expect', 'x']]);
        assert.ok(answer.answers[0], JSON.stringify(answer));
        const plain = await ask();
        assert.equal(plain.answers[0]?.status, before.answers[0]!.status);
        carried++;
        const status = await instanceStatus(sidestep.name);
        if (status.generation > generation) {
          await sleep(50);
          stalls.push((await instanceStatus(sidestep.name)).policy.stallMs);
          break;
        }
        assert.ok(Date.now() < end, 'the policy is reloaded');
      }
    }
    t.diagnostic(`the loop stood still for at most ${stalls.join(', ')} ms; ${carried} rounds of requests`);
    assert.ok(Math.min(...stalls) <= MOST_MS && Math.min(...stalls) > 0, stalls.join(', '));
    assert.ok(carried > 5 * RELOADS, String(carried));
  });
});
