/**
 * Since when nothing of an exchange has moved, in either direction: what Envoy's idle timeout of streams counts. Nothing is
 * stamped on the way of bytes but the last piece of a request: that more of an answer has come is seen by what the
 * programs count anyway, at each look.
 */
import { PHASE } from '../layout/exchanges.js';

/** The head of the answer has come, and the programs have sent on so much of its body, or handed the rest over. */
const ANSWERING: ReadonlySet<number> = new Set([PHASE.BODY, PHASE.CHUNKED, PHASE.HANDOVER]);

/** As much of an answer as Envoy takes for a client that does not read: its buffer's usual limit. */
export const BUFFERED = 1024 * 1024;

/** What the programs know of an exchange (struct upstream). */
export interface Moves {
  /** when its last piece so far of the request was sent (monotonic, ns) */
  readonly started: bigint;
  readonly phase: number;
  /** bytes of the answer's body that the programs have sent to the client */
  readonly body: bigint;
}

/** Whether a stream may be idle for too long before its route's timeout is over. Both in ms, 0: none. */
export function idleStrikes(timeoutMs: number, idleMs: number): boolean {
  return idleMs > 0 && (timeoutMs === 0 || idleMs < timeoutMs);
}

/** Of the exchanges on one slot, one after the other. */
export class ExchangeActivity {
  #started = 0n;
  #body = -1n;
  #since = 0n;
  #written = 0n;

  /** The agent has got something of the answer for the client. @param now monotonic, in ns */
  wrote(now = process.hrtime.bigint()): void {
    this.#written = now;
  }

  /**
   * Looks at the exchange under way.
   * @param now monotonic, in ns
   * @returns for how long (ns) nothing has moved; of what the programs have sent, as seen from look to look
   */
  quietFor(now: bigint, { started, phase, body }: Moves): bigint {
    const moved = ANSWERING.has(phase) ? body : -1n;
    if (started !== this.#started || moved !== this.#body) {
      this.#started = started;
      this.#body = moved;
      this.#since = moved < 0n ? started : now;
    }
    return now - (this.#written > this.#since ? this.#written : this.#since);
  }
}
