import { type Dfa, stateCount } from '../../src/compile/dfa.js';

/** How many bytes each state of an automaton is from acceptance; infinite where there is no way. */
export function distances(dfa: Dfa): number[] {
  const n = stateCount(dfa);
  const distance = new Array<number>(n).fill(Number.POSITIVE_INFINITY);
  for (let s = 0; s < n; s++) if (dfa.accept[s] !== 0) distance[s] = 0;
  for (let changed = true; changed; ) {
    changed = false;
    for (let s = 0; s < n; s++)
      for (let c = 0; c < dfa.width; c++) {
        const d = distance[dfa.next[s * dfa.width + c]!]! + 1;
        if (d < distance[s]!) {
          distance[s] = d;
          changed = true;
        }
      }
  }
  return distance;
}
