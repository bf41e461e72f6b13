/** Whether the kernel decides, by what the instance counts. */
import assert from 'node:assert/strict';
import { readInstance } from '../../src/kernel/instance.js';
import { sleep } from '../../src/lab/processes.js';
import type { Status } from '../../src/lab/sidestep.js';

const TRIES = 6;
const PAUSE_MS = 30;

/** What an instance counts, without a process for each look. */
export async function instanceStatus(name: string): Promise<Status> {
  const found = readInstance(name);
  assert.equal(found.kind, 'running');
  const { admin } = (found as { state: { admin: string } }).state;
  return (await (await fetch(`http://${admin}/status`)).json()) as Status;
}

/** Sends a request several times, until the kernel decides about it alone. Returns whether it did. */
export async function untilKernel(name: string, send: () => Promise<void>): Promise<boolean> {
  for (let i = 0; i < TRIES; i++) {
    const before = (await instanceStatus(name)).requests;
    await send();
    const after = (await instanceStatus(name)).requests;
    if (after.kernel === before.kernel + 1 && after.proxy === before.proxy && after.agent === before.agent) return true;
    await sleep(PAUSE_MS);
  }
  return false;
}
