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
 * @param wanted false: it is not expected to, so it is not waited for
 */
export async function untilKernel(mesh: SidestepHandle, send: () => Promise<void>, wanted = true): Promise<boolean> {
  const end = Date.now() + PATIENCE_MS;
  for (let i = 0; wanted ? Date.now() < end : i < TRIES; i++) {
    const before = (await mesh.status()).requests;
    await send();
    const after = (await mesh.status()).requests;
    if (after.kernel === before.kernel + 1 && after.proxy === before.proxy && after.agent === before.agent) return true;
    await sleep(PAUSE_MS);
  }
  return false;
}
