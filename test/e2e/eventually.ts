/** What holds after a while, on machines of any speed. */
import { sleep } from '../../src/lab/processes.js';

/**
 * Checks again and again until it holds. Give each `assert.ok` in `check` a message: without one, Node 20 looks for the
 * expression in the source, and was seen to look for three minutes (all of a file stands in one line by then), in which
 * servers of the same process answer nobody.
 * @throws what `check` threw last, when it has not held for `ms`
 */
export async function eventually(check: () => Promise<void>, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; ; await sleep(20)) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}
