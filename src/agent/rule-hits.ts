/** How many requests each rule has decided in the kernel, of one object (`rule_hits`). */
import { HIT_COUNTS, MAX_RULES } from '../layout/counts.js';

export class RuleHits {
  readonly #hits: Uint32Array;

  /** @param view the mapped map */
  constructor(view: DataView) {
    this.#hits = new Uint32Array(view.buffer, view.byteOffset, 2 * MAX_RULES * HIT_COUNTS);
  }

  /** Requests that a rule has decided, by its index in the image. */
  of(index: number): number {
    if (index >= MAX_RULES) return 0;
    let sum = 0;
    for (let at = 2 * index; at < this.#hits.length; at += 2 * MAX_RULES)
      sum += this.#hits[at]! + this.#hits[at + 1]! * 2 ** 32;
    return sum;
  }

  /** Starts counting the rules anew: their numbers mean something else in each generation. */
  clear(rules: number): void {
    for (let at = 0; at < this.#hits.length; at += 2 * MAX_RULES)
      this.#hits.fill(0, at, at + 2 * Math.min(rules, MAX_RULES));
  }
}
