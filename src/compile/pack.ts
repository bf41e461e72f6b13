/** Places the states of an automaton so that their cells share space (row displacement). */
import type { Sparse } from './sparse.js';

/** Units of 8 bytes that are tried for the first cell of a state before it goes behind everything. */
const TRIES = 48;

export interface Packed {
  /** per state of the order: where its row begins, in units of 8 bytes */
  readonly places: Int32Array;
  /** units that the automaton takes, with room for every cell that may be looked at behind the last row */
  readonly size: number;
}

/**
 * Gives each state of `order` a place such that its row, and a cell for each exception at `class + 1` behind it, are nobody
 * else's. Cells of successive states come to lie next to each other, so that a walk along a path stays in few cache lines.
 */
export function pack(table: Sparse, order: readonly number[]): Packed {
  const { width, first, on, accept } = table;
  const places = new Int32Array(accept.length);
  let used = new Uint8Array(1 << 12);
  let end = 0;
  /** everything below is taken */
  let low = 0;
  const room = (size: number) => {
    while (used.length < size) {
      const grown = new Uint8Array(2 * used.length);
      grown.set(used);
      used = grown;
    }
  };
  for (const s of order) {
    const from = first[s]!;
    const to = first[s + 1]!;
    while (used[low]) low++;
    room(end + 2 * width + TRIES + 4);
    let place = -1;
    if (from === to) place = low;
    else {
      const lead = on[from]! + 1;
      // `at` is where the first cell would be.
      let at = Math.max(low, lead);
      for (let tries = 0; tries < TRIES && at < end; tries++, at++) {
        while (used[at]) at++;
        const base = at - lead;
        if (used[base]) continue;
        let free = true;
        for (let i = from + 1; i < to && free; i++) free = !used[base + on[i]! + 1];
        if (!free) continue;
        place = base;
        break;
      }
      if (place < 0) {
        // Behind everything: the row before its cells, wherever it is free.
        at = Math.max(end, lead);
        while (used[at - lead]) at++;
        place = at - lead;
      }
    }
    places[s] = place;
    used[place] = 1;
    end = Math.max(end, place + 1);
    for (let i = from; i < to; i++) {
      const cell = place + on[i]! + 1;
      used[cell] = 1;
      end = Math.max(end, cell + 1);
    }
  }
  let size = end;
  for (const s of order) size = Math.max(size, places[s]! + width + 1);
  return { places, size };
}
