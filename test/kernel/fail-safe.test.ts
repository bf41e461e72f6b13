/** What the kernel does for us when the agent is killed (rules 4 and 5 of the data plane). */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { createCgroups, type InstanceCgroups, removeCgroups } from '../../src/kernel/cgroups.js';
import { compileBpf, needsRoot } from './compile-bpf.js';

describe('an agent that is killed', { skip: needsRoot }, () => {
  const name = `test-kill-${process.pid}`;
  let groups: InstanceCgroups;
  let child: ChildProcess;
  let port: number;

  /** Connects from inside the cgroup, with a program that knows nothing of us. */
  const connectInside = (): number | null =>
    spawnSync('bash', ['-c', `echo $$ > ${groups.apps}/cgroup.procs; exec 3<>/dev/tcp/127.0.0.1/${port}`]).status;

  before(async () => {
    groups = createCgroups(name);
    const script = new URL('hold.ts', import.meta.url).pathname;
    child = spawn(process.execPath, ['--import', 'tsx', script, compileBpf('probe'), 'refuse', groups.apps], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    port = Number(String((await once(child.stdout!, 'data'))[0]));
  });
  after(() => {
    child.kill('SIGKILL');
    removeCgroups(name);
  });

  it('resets its connections, and takes its hooks with it', async () => {
    assert.notEqual(connectInside(), 0, 'the hook refuses connections while its owner lives');
    const client = connect(port, '127.0.0.1');
    await once(client, 'data');
    const ended = Promise.race([
      once(client, 'error').then(([error]) => (error as NodeJS.ErrnoException).code),
      once(client, 'end').then(() => 'end of file'),
    ]);
    client.resume();
    const killed = performance.now();
    child.kill('SIGKILL');
    assert.equal(await ended, 'ECONNRESET');
    assert.ok(performance.now() - killed < 1000);
    await once(child, 'exit');
    // nobody listens any more: a connection that is let through is refused by TCP, not by the hook
    const after = spawnSync(
      'bash',
      ['-c', `echo $$ > ${groups.apps}/cgroup.procs; exec 3<>/dev/tcp/127.0.0.1/${port}`],
      {
        encoding: 'utf8',
      },
    );
    assert.match(after.stderr, /refused/);
  });
});
