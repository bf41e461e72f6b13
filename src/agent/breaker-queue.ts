/**
 * Requests of the proxy's that wait until fewer are in flight (circuit breakers on connections): the agent holds its answer
 * to the proxy. First come, first served. Envoy's route timeout begins when the request is complete, so it runs while they wait.
 */
import type { Advice, Said } from './consult.js';
import { TIMEOUT_BODY } from './replies.js';

export interface Waiting {
  /** the client's end of the connection on which it came */
  readonly end: string;
  /** the route's timeout, 0: none */
  readonly timeoutMs: number;
  /** false: its client has gone away */
  alive(): boolean;
  /** the request was sent to the proxy to its end */
  complete(): boolean;
  /** It has a place. */
  count(): void;
  answer(advice: Advice): void;
}

/** What is left of a route's time goes to the router this way; it takes the header away. */
export const REQUEST_TIMEOUT = 'x-envoy-upstream-rq-timeout-ms';
const TIMED_OUT: Said = { refusal: { status: 504, body: TIMEOUT_BODY, headers: [] } };

export class BreakerQueue {
  #waiting: { readonly of: Waiting; since: number | undefined }[] = [];

  get length(): number {
    return this.#waiting.length;
  }

  add(of: Waiting): void {
    this.#waiting.push({ of, since: undefined });
  }

  /** Drops those that came on a connection. */
  drop(end: string): void {
    this.#waiting = this.#waiting.filter(({ of }) => of.end !== end);
  }

  /** Ends those whose time is over, and those that are gone. @param now in milliseconds */
  look(now: number): void {
    this.#waiting = this.#waiting.filter((w) => {
      if (!w.of.alive()) return false;
      if (w.since === undefined && w.of.complete()) w.since = now;
      if (w.of.timeoutMs === 0 || w.since === undefined || now - w.since < w.of.timeoutMs) return true;
      w.of.answer(TIMED_OUT);
      return false;
    });
  }

  /**
   * Lets those pass for which there is a place.
   * @param enter takes a place, if there is one
   */
  admit(now: number, enter: () => boolean): void {
    this.look(now);
    while (this.#waiting.length > 0 && enter()) {
      const { of, since } = this.#waiting.shift()!;
      of.count();
      const left = of.timeoutMs > 0 && since !== undefined ? Math.ceil(of.timeoutMs - (now - since)) : undefined;
      of.answer(left === undefined ? {} : { headers: [[REQUEST_TIMEOUT, String(Math.max(left, 1))]] });
    }
  }

  /** Lets all pass. */
  release(): void {
    for (const { of } of this.#waiting.splice(0)) of.answer({});
  }
}
