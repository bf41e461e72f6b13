/** Closes a client's connection when it has been idle for as long as it may be, and never under a request. */

import type { ConnectionState } from './commands.js';
import type { ConnectionContext } from './connection-context.js';
import { IdleTime, lookEvery } from './idle-connections.js';

/** Longer than a program runs that has begun. */
const HOLD_MS = 200;

/** The connection. */
export interface IdleEnd {
  readonly cookie: bigint;
  /** whether it is closed, or being closed */
  ending(): boolean;
  /** how much has come so far, as one number; undefined: something is under way */
  done(state: ConnectionState | undefined): number | undefined;
  close(): void;
  /** lets the kernel decide again what comes, unless what has come will do so at its end */
  giveBack(state: ConnectionState): void;
}

export class IdleClient {
  readonly #time = new IdleTime();
  #nextLook = 0;
  /** the kernel leaves what comes to the agent, to find out whether anything comes */
  #held = false;

  constructor(
    private readonly end: IdleEnd,
    private readonly context: Pick<ConnectionContext, 'plane' | 'idle'>,
  ) {}

  /**
   * Looks at it. Call it now and then.
   * @param now in milliseconds
   */
  look(now: number): void {
    const { idleMs, closingMs } = this.context.idle();
    if (now < this.#nextLook || idleMs === 0 || this.#held || this.end.ending()) return;
    this.#nextLook = now + lookEvery(idleMs);
    const state = this.context.plane.commands.query(this.end.cookie);
    const done = this.end.done(state);
    if (this.#time.look(done, now) < (done === 0 ? idleMs : idleMs + closingMs)) return;
    if (!state || !this.context.plane.commands.hold(this.end.cookie)) this.end.close();
    else this.#hold(done);
  }

  /**
   * What the client sends comes to the agent for a moment. What a program has begun to decide before shows until then: if
   * nothing has come, the connection is closed, else it goes back to the kernel.
   */
  #hold(before: number | undefined): void {
    this.#held = true;
    setTimeout(() => {
      if (this.end.ending()) return;
      const state = this.context.plane.commands.query(this.end.cookie);
      const done = this.end.done(state);
      if (done === undefined) {
        this.#hold(undefined);
        return;
      }
      this.#held = false;
      if (done === before) this.end.close();
      else if (state) this.end.giveBack(state);
    }, HOLD_MS);
  }
}
