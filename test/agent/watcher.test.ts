import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { watchFiles } from '../../src/agent/watcher.js';
import { sleep } from '../../src/lab/processes.js';

/** Longer than the watcher waits for quiet. */
const QUIET_MS = 400;

test('what changes a policy file is noticed, and nothing else in its folder', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidestep-watch-'));
  const [file, link] = [join(dir, 'policy.yaml'), join(dir, 'linked.yaml')];
  await writeFile(file, 'a');
  let changes = 0;
  const stop = watchFiles([file], () => changes++);
  const seen = async (change: () => Promise<unknown>, paths = changes): Promise<number> => {
    await change();
    for (const end = Date.now() + 5000; changes === paths && Date.now() < end; ) await sleep(20);
    return changes - paths;
  };
  try {
    await writeFile(join(dir, 'agent.log'), 'a line');
    await sleep(QUIET_MS);
    assert.equal(changes, 0, 'another file');
    assert.equal(await seen(() => writeFile(file, 'b')), 1, 'written');
    await writeFile(join(dir, 'new'), 'c');
    assert.equal(await seen(() => rename(join(dir, 'new'), file)), 1, 'replaced');
    assert.equal(await seen(() => rm(file)), 1, 'gone');
    assert.equal(await seen(() => writeFile(file, 'd')), 1, 'back');
  } finally {
    stop();
  }
  // as a config map: the file is a link, and what it leads to changes
  await symlink('..data', link);
  await writeFile(join(dir, '..data'), 'a');
  const stopLink = watchFiles([link], () => changes++);
  try {
    assert.equal(await seen(() => writeFile(join(dir, '..data'), 'b')), 1, 'behind a link');
  } finally {
    stopLink();
    await rm(dir, { recursive: true });
  }
});
