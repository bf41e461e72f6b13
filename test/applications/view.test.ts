/**
 * What an application sees of its sockets must not depend on Sidestep: a program makes every call once without it (to the
 * server itself) and once inside the mesh, where the kernel and, on a second path, the proxy answer. Differences that are
 * known are listed here and in KNOWN_ISSUES.md; one that goes away must leave the list.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../src/lab/processes.js';
import { RulesWorld, skip } from '../rules/world.js';

const VIEW = join(dirname(fileURLToPath(import.meta.url)), 'view.py');
type Seen = Readonly<Record<string, unknown>>;

/** Differences of a socket in a socket map (kernel.md, rule 7). */
const KNOWN: readonly string[] = ['splice out of the socket', 'SO_RCVLOWAT'];

describe('the view of applications', { skip, timeout: 180_000 }, () => {
  let world: RulesWorld;
  before(async () => {
    world = await RulesWorld.open('view');
  });
  after(() => world?.close());

  test('every call shows the same with and without Sidestep', async (t) => {
    const direct = await runCommand(['python3', VIEW, '127.0.0.1', String(world.upstream)], { timeoutMs: 90_000 });
    assert.equal(direct.code, 0, direct.stderr);
    const inside = await world.sidestep.run(['python3', VIEW, '127.0.0.4', String(world.port)], { timeoutMs: 90_000 });
    assert.equal(inside.code, 0, inside.stderr);
    const without = JSON.parse(direct.stdout) as Seen;
    const within = JSON.parse(inside.stdout) as Seen;
    assert.ok(Object.keys(without).length > 35);
    const differing = Object.keys(without).filter((k) => JSON.stringify(without[k]) !== JSON.stringify(within[k]));
    for (const name of differing)
      t.diagnostic(`${name}: ${JSON.stringify(without[name])}, ${JSON.stringify(within[name])}`);
    assert.deepEqual(differing.sort(), process.env.SIDESTEP_TEST_INTAKE === 'listener' ? [] : [...KNOWN].sort());
    const status = await world.status();
    t.diagnostic(JSON.stringify(status.requests));
    assert.ok(status.requests.kernel > 40, 'the kernel must have answered most of them');
  });
});
