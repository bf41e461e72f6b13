/** Which states of an automaton no input tells apart. */
import type { Dfa } from './dfa.js';

/** The states that lead to each state, one after the other: those of `s` are `from[start[s]]` to `from[start[s + 1] - 1]`. */
interface Predecessors {
  readonly start: Int32Array;
  readonly from: Int32Array;
}

/** A transition that repeats the one of the class before counts once. */
function predecessors({ next, width, accept }: Dfa): Predecessors {
  const n = accept.length;
  const start = new Int32Array(n + 1);
  const each = (visit: (from: number, to: number) => void) => {
    for (let s = 0; s < n; s++)
      for (let c = 0, last = -1; c < width; c++) {
        const to = next[s * width + c]!;
        if (to !== last) visit(s, to);
        last = to;
      }
  };
  each((_, to) => {
    start[to + 1]!++;
  });
  for (let s = 0; s < n; s++) start[s + 1]! += start[s]!;
  const from = new Int32Array(start[n]!);
  const used = start.slice(0, n);
  each((s, to) => {
    from[used[to]!++] = s;
  });
  return { start, from };
}

/**
 * Per state, how many bytes it is away from a state whose label is not the most frequent one, with its own label: states
 * that differ in either are different, and in automata of strings few others are.
 */
function firstPartition(dfa: Dfa, before: Predecessors): { part: Int32Array<ArrayBuffer>; count: number } {
  const { accept } = dfa;
  const n = accept.length;
  const times = new Int32Array(dfa.labels.length);
  for (const label of accept) times[label]!++;
  const frequent = times.indexOf(times.reduce((a, b) => Math.max(a, b), 0));
  const distance = new Int32Array(n).fill(-1);
  const queue: number[] = [];
  for (let s = 0; s < n; s++)
    if (accept[s] !== frequent) {
      distance[s] = 0;
      queue.push(s);
    }
  for (let i = 0; i < queue.length; i++) {
    const to = queue[i]!;
    for (let p = before.start[to]!; p < before.start[to + 1]!; p++) {
      const s = before.from[p]!;
      if (distance[s]! >= 0) continue;
      distance[s] = distance[to]! + 1;
      queue.push(s);
    }
  }
  const parts = new Map<number, number>();
  const part = new Int32Array(n);
  for (let s = 0; s < n; s++) {
    const key = accept[s]! * (n + 1) + distance[s]! + 1;
    let id = parts.get(key);
    if (id === undefined) {
      id = parts.size;
      parts.set(key, id);
    }
    part[s] = id;
  }
  return { part, count: parts.size };
}

/**
 * The coarsest partition of the states in which states of one part have one label and lead to the same parts. Moore's refinement,
 * but a state is looked at again only when a part that it leads to was split, and of a part that is split the largest
 * piece keeps its number: n states take n log n steps, where whole rounds would take n for each of up to n rounds.
 */
export function equivalent(dfa: Dfa): { part: Int32Array; count: number } {
  const { width, next } = dfa;
  const n = dfa.accept.length;
  const before = predecessors(dfa);
  const { part, count: first } = firstPartition(dfa, before);
  let count = first;
  // the states part by part: those of a part are elements[low[p]] to elements[high[p] - 1]
  const low = new Int32Array(n + 1);
  for (const p of part) low[p + 1]!++;
  for (let p = 0; p < count; p++) low[p + 1]! += low[p]!;
  const high = low.slice(0, n);
  const elements = new Int32Array(n);
  const where = new Int32Array(n);
  for (let s = 0; s < n; s++) {
    where[s] = high[part[s]!]!++;
    elements[where[s]!] = s;
  }
  const signature = new Int32Array(width);
  const bytes = Buffer.from(signature.buffer);
  const keyOf = (s: number): string => {
    for (let c = 0; c < width; c++) signature[c] = part[next[s * width + c]!]!;
    return bytes.toString('latin1');
  };
  const place = (s: number, at: number) => {
    elements[at] = s;
    where[s] = at;
  };

  // states to look at again, in front of their part: so many of each
  const marked = new Int32Array(n + 1);
  let touched: number[] = [];
  const mark = (s: number) => {
    const p = part[s]!;
    const front = low[p]! + marked[p]!;
    if (where[s]! < front) return;
    if (marked[p] === 0) touched.push(p);
    const other = elements[front]!;
    place(other, where[s]!);
    place(s, front);
    marked[p]!++;
  };
  for (let s = 0; s < n; s++) mark(s);

  while (touched.length > 0) {
    // numbers change when all are looked at: what was not marked is alike by the old ones
    const pieces: { from: number; to: number }[] = [];
    for (const p of touched) {
      const middle = low[p]! + marked[p]!;
      marked[p] = 0;
      if (high[p]! - low[p]! === 1) continue;
      const groups = new Map<string, number[]>();
      const rest = middle < high[p]! ? keyOf(elements[middle]!) : '';
      for (let i = low[p]!; i < middle; i++) {
        const s = elements[i]!;
        const key = keyOf(s);
        const group = groups.get(key);
        if (group) group.push(s);
        else groups.set(key, [s]);
      }
      // the group that is like the rest stands next to it
      let at = low[p]!;
      const cuts: number[] = [at];
      const put = (group: readonly number[]) => {
        for (const s of group) place(s, at++);
      };
      for (const [key, group] of groups)
        if (middle === high[p]! || key !== rest) {
          put(group);
          cuts.push(at);
        }
      if (middle < high[p]!) {
        put(groups.get(rest) ?? []);
        cuts.push(high[p]!);
      }
      let largest = 1;
      for (let i = 2; i < cuts.length; i++)
        if (cuts[i]! - cuts[i - 1]! > cuts[largest]! - cuts[largest - 1]!) largest = i;
      for (let i = 1; i < cuts.length; i++) if (i !== largest) pieces.push({ from: cuts[i - 1]!, to: cuts[i]! });
      low[p] = cuts[largest - 1]!;
      high[p] = cuts[largest]!;
    }
    touched = [];
    const moved: number[] = [];
    for (const { from, to } of pieces) {
      const p = count++;
      low[p] = from;
      high[p] = to;
      for (let i = from; i < to; i++) {
        part[elements[i]!] = p;
        moved.push(elements[i]!);
      }
    }
    for (const s of moved) for (let i = before.start[s]!; i < before.start[s + 1]!; i++) mark(before.from[i]!);
  }
  return { part, count };
}
