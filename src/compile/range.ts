/** Decimal integers in a range, as Envoy reads them from header values (absl::SimpleAtoi of int64). */
import type { Nfa, NfaState } from './regex/nfa.js';

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const SPACES = [
  [9, 13],
  [32, 32],
] as const;
const [ZERO, NINE] = [0x30, 0x39];

/** Appends states to `states`; each function returns the entry of a fragment that continues at `to`. */
class Fragments {
  readonly states: NfaState[] = [];

  add(state: NfaState): number {
    return this.states.push(state) - 1;
  }

  byte(low: number, high: number, to: number): number {
    return this.add({ kind: 'byte', low, high, to });
  }

  /** Any number of bytes of `ranges`, then `to`. */
  star(ranges: readonly (readonly [number, number])[], to: number): number {
    const loop = this.add({ kind: 'alt', to: [] });
    this.states[loop] = { kind: 'alt', to: [...ranges.map(([low, high]) => this.byte(low, high, loop)), to] };
    return loop;
  }

  /** Digit strings of the length of `low` and `high`, between them. */
  between(low: string, high: string, to: number): number {
    if (low.length === 0) return to;
    const [a, b] = [low.charCodeAt(0), high.charCodeAt(0)];
    const [lowRest, highRest] = [low.slice(1), high.slice(1)];
    if (a === b) return this.byte(a, a, this.between(lowRest, highRest, to));
    const nines = '9'.repeat(lowRest.length);
    const zeros = '0'.repeat(lowRest.length);
    if (low === `0${zeros}` && high === `9${nines}`) return this.any(low.length, to);
    const choices = [
      this.byte(a, a, this.between(lowRest, nines, to)),
      this.byte(b, b, this.between(zeros, highRest, to)),
    ];
    if (b - a > 1) choices.push(this.byte(a + 1, b - 1, this.any(lowRest.length, to)));
    return this.add({ kind: 'alt', to: choices });
  }

  any(length: number, to: number): number {
    let entry = to;
    for (let i = 0; i < length; i++) entry = this.byte(ZERO, NINE, entry);
    return entry;
  }

  /** Magnitudes `low`..`high` with any number of leading zeros. */
  magnitude(low: bigint, high: bigint, to: number): number {
    const entries: number[] = [];
    for (let digits = 1; digits <= String(high).length; digits++) {
      const least = digits === 1 ? 0n : 10n ** BigInt(digits - 1);
      const most = 10n ** BigInt(digits) - 1n;
      const [from, until] = [low > least ? low : least, high < most ? high : most];
      if (from <= until) entries.push(this.between(String(from), String(until), to));
    }
    return this.star([[ZERO, ZERO]], this.add({ kind: 'alt', to: entries }));
  }
}

/**
 * Inputs that are a decimal int64 `v` with `start <= v < end`: optional white space around it, an optional sign, leading
 * zeros allowed; what does not fit in 64 bits is no number.
 */
export function rangeNfa(start: bigint, end: bigint): Nfa {
  const low = start < INT64_MIN ? INT64_MIN : start;
  const high = end - 1n > INT64_MAX ? INT64_MAX : end - 1n;
  const f = new Fragments();
  const match = f.add({ kind: 'match' });
  const tail = f.star(SPACES, match);
  const choices: number[] = [];
  if (low <= high) {
    if (high >= 0n) {
      const digits = f.magnitude(low > 0n ? low : 0n, high, tail);
      choices.push(digits, f.byte(0x2b, 0x2b, digits));
    }
    if (low <= 0n) {
      const digits = f.magnitude(high < 0n ? -high : 0n, -low, tail);
      choices.push(f.byte(0x2d, 0x2d, digits));
    }
  }
  const signed = f.add({ kind: 'alt', to: choices });
  return { states: f.states, start: f.star(SPACES, signed), groups: 0 };
}
