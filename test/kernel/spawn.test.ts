/** Programs that are started without forking. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { KernelError } from '../../src/kernel/libbpf.js';
import { runAside } from '../../src/kernel/spawn.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-spawn-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const output = join(dir, 'out');
const shell = (script: string, timeoutMs = 60_000, ...more: string[]) =>
  runAside('/bin/sh', ['-c', script, ...more], output, timeoutMs);

test('arguments, environment and both outputs are there, descriptors of this process are not', async () => {
  const own = join(dir, 'own');
  const fd = openSync(own, 'w');
  process.env.SIDESTEP_SPAWN_TEST = 'a b="c"';
  const ended = await shell(
    'echo "$1|$SIDESTEP_SPAWN_TEST"; echo err >&2; ls -l /proc/$$/fd | grep -c /own; cat',
    60_000,
    'x',
    'ä "\n',
  );
  delete process.env.SIDESTEP_SPAWN_TEST;
  assert.deepEqual(ended, { code: 0, signal: undefined });
  assert.equal(readFileSync(output, 'utf8'), 'ä "\n|a b="c"\nerr\n0\n');
  closeSync(fd);
  assert.equal(statSync(output).mode & 0o777, 0o600);
});

test('how it ended is told', async () => {
  assert.deepEqual(await shell('exit 42'), { code: 42, signal: undefined });
  assert.deepEqual(await shell('kill -9 $$'), { code: undefined, signal: 9 });
  // what Node ignores has its usual meaning
  assert.deepEqual(await shell('kill -13 $$'), { code: undefined, signal: 13 });
});

test('what takes too long is killed', async () => {
  assert.deepEqual(await shell('exec sleep 600', 50), { code: undefined, signal: 9 });
});

test('what cannot be started is an error', async () => {
  await assert.rejects(
    runAside('/nowhere/program', [], output, 1000),
    (error: unknown) => error instanceof KernelError && error.code === 'ENOENT',
  );
});
