/** For how long a connection has been idle. Nothing on the way of requests tells: it is looked now and then. */

/** Looks in one idle time, so that a connection is closed after that time or up to an eighth later. */
const LOOKS = 8;
const SHORTEST_MS = 20;
const LONGEST_MS = 10_000;

/** How long to wait between two looks at a connection that may be idle for so long (ms). */
export function lookEvery(idleMs: number): number {
  return Math.max(idleMs / LOOKS, SHORTEST_MS);
}

/** How long to wait between two rounds over connections with these idle times (ms, 0: for ever). */
export function roundEvery(times: Iterable<number>): number {
  let every = LONGEST_MS;
  for (const ms of times) if (ms > 0) every = Math.min(every, lookEvery(ms));
  return every;
}

/** When to look at all connections again. */
export class Rounds {
  #every = LONGEST_MS;
  #last = 0;

  /** @param times how long connections may be idle (ms, 0: for ever) */
  set(times: Iterable<number>): void {
    this.#every = roundEvery(times);
  }

  /** Whether it is time for a round, which begins then. @param now in milliseconds */
  due(now: number): boolean {
    if (now < this.#last + this.#every) return false;
    this.#last = now;
    return true;
  }
}

/** What one connection had done at the last look, and since when (ms) it has done no more. */
export class IdleTime {
  #done = -1;
  #since = 0;

  /**
   * Looks at it.
   * @param done what it has done so far, any number that changes with each request; undefined: a request is in flight
   * @returns for how many ms it has surely been idle
   */
  look(done: number | undefined, now: number): number {
    if (done !== undefined && done === this.#done) return now - this.#since;
    this.#done = done ?? -1;
    this.#since = now;
    return 0;
  }
}
