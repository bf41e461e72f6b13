/**
 * A server that closes connections after their first answer, twice in a row, is left to the proxy, which is no slower
 * then. It may have been chance (a restart, an answer with `Connection: close` now and then), so it is tried again, ever
 * less often. One that closes them after many answers (nginx: keepalive_requests) is not meant.
 */

/** So many connections in a row that close after their first answer are a server's way, and no accident. */
const CLOSES_IN_A_ROW = 2;
/** A server of that kind is left to the proxy for this long, twice as long each further time. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;

export class ServerCloses {
  /** connections in a row whose first answer was their last */
  #inARow = 0;
  /** how long it is left to the proxy when that happens again, and until when it is (of performance.now()) */
  #pauseMs = FIRST_PAUSE_MS;
  #pausedUntil = 0;

  /** @param leave has the programs leave the server's requests to the proxy, or not any more */
  constructor(private readonly leave: (toProxy: boolean) => void) {}

  /** The server has closed a connection after an answer. @param served answers before that */
  note(served: number): void {
    if (served > 0) {
      this.#inARow = 0;
      this.#pauseMs = FIRST_PAUSE_MS;
      return;
    }
    this.#inARow++;
    if (this.#inARow < CLOSES_IN_A_ROW) return;
    this.leave(true);
    this.#pausedUntil = performance.now() + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }

  /** Whether the server is left to the proxy; ends that when it is time. */
  paused(): boolean {
    if (!this.#pausedUntil) return false;
    if (performance.now() < this.#pausedUntil) return true;
    this.#pausedUntil = 0;
    this.leave(false);
    return false;
  }
}
