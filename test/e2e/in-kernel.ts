/** Whether the kernel decides, by what the instance counts. */
import { sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';

/** So long something may take that is to happen: a connection that is opened, a token that is judged. */
const PATIENCE_MS = 15_000;
/** So often something must not happen. */
const TRIES = 6;
const PAUSE_MS = 30;

/**
 * Sends a request several times, until the kernel decides about it alone. Returns whether it did.
 * @param wanted false: it is not expected to, so it is not waited for; `once`: it is sent once
 */
export async function untilKernel(
  mesh: SidestepHandle,
  send: () => Promise<void>,
  wanted: boolean | 'once' = true,
): Promise<boolean> {
  const end = Date.now() + PATIENCE_MS;
  for (let i = 0; wanted === true ? Date.now() < end : i < (wanted ? 1 : TRIES); i++) {
    const before = (await mesh.status()).requests;
    await send();
    const after = (await mesh.status()).requests;
    if (after.kernel === before.kernel + 1 && after.proxy === before.proxy && after.agent === before.agent) return true;
    await sleep(PAUSE_MS);
  }
  return false;
}

/**
 * Sends `n` requests one after the other, again and again until the kernel decides about them all: then it has the connections
 * that they need.
 * @throws Error when it does not come to that
 */
export async function allInKernel(
  mesh: SidestepHandle,
  n: number,
  send: (i: number) => Promise<unknown>,
): Promise<void> {
  const decided = async () => (await mesh.status()).counters?.kernel ?? 0;
  for (const end = Date.now() + PATIENCE_MS; ; await sleep(PAUSE_MS)) {
    const before = await decided();
    for (let i = 0; i < n; i++) await send(i);
    if ((await decided()) - before === n) return;
    if (Date.now() > end) throw new Error(`the kernel does not decide about all ${n} requests`);
  }
}
