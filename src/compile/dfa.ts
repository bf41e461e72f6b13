/** Deterministic automata over bytes, the form that every predicate takes before it becomes rows of the image. */

import { equivalent } from './partition.js';

/**
 * A complete automaton: every state has a successor for every byte class. `accept[s]` is an index into `labels`; a label
 * is the sorted list of ids (predicates) that hold when the input ends in `s`, and label 0 is always the empty one.
 */
export interface Dfa {
  /** class of each of the 256 bytes, from 0 */
  readonly classes: Uint8Array;
  /** number of classes */
  readonly width: number;
  readonly start: number;
  /** successor of state `s` at class `c`: `next[s * width + c]` */
  readonly next: Int32Array;
  readonly accept: Int32Array;
  readonly labels: readonly (readonly number[])[];
}

/** Gives equal lists equal numbers; number 0 is the empty list. */
export class Labels {
  readonly list: (readonly number[])[] = [[]];
  readonly #ids = new Map<string, number>([['', 0]]);

  /** The number of `ids`, which must be sorted and without duplicates. */
  intern(ids: readonly number[]): number {
    const key = ids.join();
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.list.length;
      this.list.push(ids);
      this.#ids.set(key, id);
    }
    return id;
  }
}

/** Number of states of `dfa`. */
export function stateCount(dfa: Dfa): number {
  return dfa.accept.length;
}

/** The ids that hold for `input`. */
export function run(dfa: Dfa, input: Uint8Array): readonly number[] {
  let state = dfa.start;
  for (const byte of input) state = dfa.next[state * dfa.width + dfa.classes[byte]!]!;
  return dfa.labels[dfa.accept[state]!]!;
}

/** Sorted union of two sorted lists. */
export function mergeSorted(a: readonly number[], b: readonly number[]): readonly number[] {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  return [...new Set([...a, ...b])].sort((x, y) => x - y);
}

/** `dfa` with every id of its labels replaced by `map(id)`. */
export function relabel(dfa: Dfa, map: (id: number) => number): Dfa {
  return { ...dfa, labels: dfa.labels.map((label) => label.map(map).sort((x, y) => x - y)) };
}

/**
 * Collects states that are named by keys and explored in the order in which they were first seen, so that equal inputs
 * give equal automata.
 */
export class Explorer<T> {
  readonly states: T[] = [];
  readonly #ids = new Map<string | number, number>();

  /** The number of the state with this key; `make` gives its value when it is new. */
  id(key: string | number, make: () => T): number {
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.states.length;
      this.#ids.set(key, id);
      this.states.push(make());
    }
    return id;
  }
}

/**
 * The automaton that runs `a` and `b` side by side; its labels are the unions of theirs.
 * @param budget most states; @returns undefined when there would be more.
 */
export function product(a: Dfa, b: Dfa, budget: number): Dfa | undefined {
  const classes = new Uint8Array(256);
  const pairs = new Explorer<readonly [number, number]>();
  for (let byte = 0; byte < 256; byte++) {
    const [ca, cb] = [a.classes[byte]!, b.classes[byte]!];
    classes[byte] = pairs.id(ca * 256 + cb, () => [ca, cb]);
  }
  const width = pairs.states.length;
  const nb = stateCount(b);
  const found = new Explorer<readonly [number, number]>();
  const id = (sa: number, sb: number) => found.id(sa * nb + sb, () => [sa, sb]);
  const start = id(a.start, b.start);
  const next: number[] = [];
  const labels = new Labels();
  const accept: number[] = [];
  for (let s = 0; s < found.states.length; s++) {
    if (s >= budget) return undefined;
    const [sa, sb] = found.states[s]!;
    for (const [ca, cb] of pairs.states) next.push(id(a.next[sa * a.width + ca]!, b.next[sb * b.width + cb]!));
    accept.push(labels.intern(mergeSorted(a.labels[a.accept[sa]!]!, b.labels[b.accept[sb]!]!)));
  }
  return { classes, width, start, next: Int32Array.from(next), accept: Int32Array.from(accept), labels: labels.list };
}

/** Byte classes whose columns are equal become one. Returns an automaton of the same states. */
function mergeClasses(dfa: Dfa): Dfa {
  const n = stateCount(dfa);
  const columns = new Explorer<number>();
  const to = new Uint8Array(dfa.width);
  for (let c = 0; c < dfa.width; c++) {
    const column = new Int32Array(n);
    for (let s = 0; s < n; s++) column[s] = dfa.next[s * dfa.width + c]!;
    to[c] = columns.id(Buffer.from(column.buffer).toString('latin1'), () => c);
  }
  const width = columns.states.length;
  if (width === dfa.width) return dfa;
  const next = new Int32Array(n * width);
  for (let s = 0; s < n; s++)
    columns.states.forEach((c, i) => {
      next[s * width + i] = dfa.next[s * dfa.width + c]!;
    });
  return { ...dfa, classes: dfa.classes.map((c) => to[c]!), width, next };
}

/** The smallest automaton with the same labels, its states in order of discovery. */
export function minimise(dfa: Dfa): Dfa {
  const n = stateCount(dfa);
  const { width } = dfa;
  const { part, count } = equivalent(dfa);
  const order = new Explorer<number>();
  const representative = new Int32Array(count).fill(-1);
  for (let s = n - 1; s >= 0; s--) representative[part[s]!] = s;
  const id = (s: number) => order.id(part[s]!, () => representative[part[s]!]!);
  const start = id(dfa.start);
  const next: number[] = [];
  const accept: number[] = [];
  for (let i = 0; i < order.states.length; i++) {
    const s = order.states[i]!;
    for (let c = 0; c < width; c++) next.push(id(dfa.next[s * width + c]!));
    accept.push(dfa.accept[s]!);
  }
  return mergeClasses({ ...dfa, start, next: Int32Array.from(next), accept: Int32Array.from(accept) });
}

/** Byte classes in which the bytes of `alone` are by themselves and the others are as `base` has them (default: one). */
export function refine(alone: Iterable<number>, base: Uint8Array = new Uint8Array(256)): Uint8Array {
  const single = new Set(alone);
  const classes = new Explorer<number>();
  return Uint8Array.from({ length: 256 }, (_, byte) =>
    classes.id(single.has(byte) ? 256 + byte : base[byte]!, () => byte),
  );
}

/**
 * Builds an automaton from a description by keys.
 * @param classes bytes of one class must lead to the same states; `step` is asked for one byte of each.
 * @param budget most states; @returns undefined when there would be more.
 */
export function explore<T>(
  start: T,
  key: (state: T) => string | number,
  step: (state: T, byte: number) => T,
  accept: (state: T) => readonly number[],
  budget: number,
  classes: Uint8Array,
): Dfa | undefined {
  const found = new Explorer<T>();
  const id = (state: T) => found.id(key(state), () => state);
  id(start);
  const representatives: number[] = [];
  classes.forEach((c, byte) => {
    representatives[c] ??= byte;
  });
  const next: number[] = [];
  const labels = new Labels();
  const accepts: number[] = [];
  for (let s = 0; s < found.states.length; s++) {
    if (s >= budget) return undefined;
    const state = found.states[s]!;
    for (const byte of representatives) next.push(id(step(state, byte)));
    accepts.push(labels.intern(accept(state)));
  }
  return mergeClasses({
    classes,
    width: representatives.length,
    start: 0,
    next: Int32Array.from(next),
    accept: Int32Array.from(accepts),
    labels: labels.list,
  });
}
