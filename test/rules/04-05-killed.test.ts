/** Rules 4 and 5: what a killed agent leaves behind, and what its clients see. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { heldBy, show } from './kernel-state.js';
import { assertNoFailures, output, type Report, RulesWorld, skip } from './world.js';

describe('an agent that is killed', { skip, timeout: 120_000 }, () => {
  let world: RulesWorld;
  const agent = (): number => world.sidestep.process.pid;

  beforeEach(async () => {
    world = await RulesWorld.open('killed');
  });
  afterEach(() => world?.close());

  const kill = async (): Promise<number> => {
    const at = Date.now();
    world.sidestep.process.child.kill('SIGKILL');
    await world.sidestep.process.exited;
    return at;
  };

  test('rule 4: every hook is an unpinned link; killed, they are gone and new connections go to the proxy', async () => {
    const state = JSON.parse(readFileSync(`/run/sidestep/${world.sidestep.name}/state.json`, 'utf8')) as {
      cgroup: string;
      proxy: number;
    };
    const { links, programs, maps } = heldBy(agent());
    const mine = (await show('link')).filter((l) => links.has(l.id));
    assert.ok(mine.length >= 5, `${mine.length} links`);
    for (const kind of ['link', 'prog', 'map'] as const) {
      const own = kind === 'link' ? links : kind === 'prog' ? programs : maps;
      for (const shown of await show(kind)) if (own.has(shown.id)) assert.deepEqual(shown.pinned ?? [], [], kind);
    }
    // What is attached to the cgroups is attached by these links and in no other way.
    const attached = async (): Promise<{ id: number; name: string }[]> => {
      const found: { id: number; name: string }[] = [];
      for (const group of ['', 'apps', 'plain', 'agent'].map((part) => join(state.cgroup, part))) {
        const text = await output(['bpftool', '-j', 'cgroup', 'show', group]);
        if (text.trim()) found.push(...(JSON.parse(text) as { id: number; name: string }[]));
      }
      return found;
    };
    const before = await attached();
    const byLinks = new Set(mine.map((l) => l.prog_id));
    for (const program of before) assert.ok(byLinks.has(program.id), `${program.name} is attached without a link`);
    for (const name of ['connect4', 'connect6', 'socket_event', 'dial4', 'dialled', 'served'])
      assert.ok(
        before.some((p) => p.name === name),
        `${name} is not attached`,
      );

    const client = world.start('rule04.py');
    client.child.stdin!.write('/echo/before\n');
    await client.waitFor(/answer 200 before/);
    const killed = await kill();
    client.child.stdin!.write('/p/echo/after1\n');
    await client.waitFor(/answer 200 after1/, 3000);
    assert.ok(Date.now() - killed < 1500, `it took ${Date.now() - killed} ms`);
    for (let i = 0; i < 5; i++) client.child.stdin!.write(`/echo/more${i}\n`);
    await client.waitFor(/answer 200 more4/, 3000);
    assert.doesNotMatch(client.output, /error/);

    const remaining = new Set((await show('link')).map((l) => l.id));
    const kept = heldBy(state.proxy).links;
    for (const link of links)
      assert.equal(
        remaining.has(link),
        kept.has(link),
        `link ${link} is left over (or gone though the proxy holds it)`,
      );
    const names = (await attached()).map((p) => p.name);
    for (const name of ['connect4', 'connect6', 'socket_event', 'dial4', 'dialled', 'served'])
      assert.ok(!names.includes(name), `${name} is there`);
    assert.ok(kept.size > 0 && kept.size < links.size);
  });

  test('rule 5: killed under load, every request in flight ends with a reset and none with an end of file', async (t) => {
    const clients = 54;
    const waiting = world.start('rule05.py', clients);
    await waiting.waitFor(/^in flight$/m);
    const load = world.start('rule02.py', 4);
    await load.waitFor(/^asking$/m);
    await sleep(300);
    const killed = await kill();
    const report = JSON.parse((await waiting.waitFor(/^\{.*\}$/m))[0]) as Report;
    t.diagnostic(`${Date.now() - killed} ms: ${JSON.stringify(report)}`);
    assertNoFailures(report);
    assert.equal(report.reset, clients);
    await sleep(500);
    load.child.stdin!.write('\n');
    const asked = JSON.parse((await load.waitFor(/^\{.*\}$/m))[0]) as Report;
    t.diagnostic(JSON.stringify(asked));
    assert.ok(Number(asked.served) > 200);
    for (const failure of asked.failures) assert.doesNotMatch(failure, /EOFError|Wrong|SIGPIPE/);
    // at most one failed exchange for each connection that was open, and a few refused connections
    assert.ok(asked.failed <= 12, JSON.stringify(asked.failures));
    for (const fd of readdirSync('/sys/fs/bpf')) assert.ok(!fd.includes('sidestep'), `${fd} is pinned`);
  });
});
