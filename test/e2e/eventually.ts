/** What holds after a while, on machines of any speed. */
import { sleep } from '../../src/lab/processes.js';

/** Checks again and again until it holds. @throws what `check` threw last, when it has not held for `ms` */
export async function eventually(check: () => Promise<void>, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; ; await sleep(20)) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}
