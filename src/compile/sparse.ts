/**
 * Automata as most states of large policies are: one successor for nearly every byte, and a few exceptions. Joining two
 * costs what they have in exceptions, not what an alphabet has in bytes, and the image stores them as they are.
 */
import { type Dfa, Labels, mergeSorted, stateCount } from './dfa.js';

/** A complete automaton like `Dfa`; the exceptions of state `s` are at `first[s]`..`first[s + 1]` of `on` and `to`. */
export interface Sparse {
  /** class of each of the 256 bytes, from 0 */
  readonly classes: Uint8Array;
  readonly width: number;
  readonly start: number;
  /** successor of a state for the classes that are no exceptions */
  readonly other: Int32Array;
  readonly first: Int32Array;
  /** classes of the exceptions, ascending within a state */
  readonly on: Uint8Array;
  readonly to: Int32Array;
  /** index into `labels`, by state */
  readonly accept: Int32Array;
  /** sorted ids; label 0 is the empty one */
  readonly labels: readonly (readonly number[])[];
}

/** Number of states. */
export function sparseStates(automaton: Sparse): number {
  return automaton.accept.length;
}

/** Bytes that the automaton takes in the image, but for gaps. */
export function sparseBytes(automaton: Sparse): number {
  return 8 * (automaton.accept.length + automaton.on.length);
}

/** An array of numbers that grows. */
class Numbers {
  array: Int32Array;
  length = 0;

  constructor(capacity = 1024) {
    this.array = new Int32Array(capacity);
  }

  push(value: number): void {
    if (this.length === this.array.length) {
      const grown = new Int32Array(2 * this.length);
      grown.set(this.array);
      this.array = grown;
    }
    this.array[this.length++] = value;
  }

  finish(): Int32Array {
    return this.array.slice(0, this.length);
  }
}

/** Collects the states of an automaton in order, each with its exceptions. */
export class SparseBuilder {
  readonly #other = new Numbers();
  readonly #first = new Numbers();
  readonly #on = new Numbers();
  readonly #to = new Numbers();
  readonly #accept = new Numbers();

  get bytes(): number {
    return 8 * (this.#accept.length + this.#on.length);
  }

  /** Begins the next state. */
  state(accept: number, other: number): void {
    this.#first.push(this.#on.length);
    this.#accept.push(accept);
    this.#other.push(other);
  }

  /** Adds an exception to the state that was begun last, in ascending order of classes. */
  except(on: number, to: number): void {
    this.#on.push(on);
    this.#to.push(to);
  }

  build(classes: Uint8Array, width: number, start: number, labels: readonly (readonly number[])[]): Sparse {
    this.#first.push(this.#on.length);
    return {
      classes,
      width,
      start,
      other: this.#other.finish(),
      first: this.#first.finish(),
      on: Uint8Array.from(this.#on.finish()),
      to: this.#to.finish(),
      accept: this.#accept.finish(),
      labels,
    };
  }
}

/**
 * The same automaton in this form.
 * @param classes finer classes than the automaton's own (default: its own); of bytes that share one the lowest counts.
 * @param width their number.
 */
export function sparse(dfa: Dfa, classes: Uint8Array = dfa.classes, width: number = dfa.width): Sparse {
  const own = new Uint8Array(width);
  for (let byte = 255; byte >= 0; byte--) own[classes[byte]!] = dfa.classes[byte]!;
  const n = stateCount(dfa);
  const builder = new SparseBuilder();
  const votes = new Int32Array(n);
  for (let s = 0; s < n; s++) {
    const row = s * dfa.width;
    let other = dfa.next[row + own[0]!]!;
    for (let c = 0; c < width; c++) {
      const to = dfa.next[row + own[c]!]!;
      votes[to]!++;
      if (votes[to]! > votes[other]!) other = to;
    }
    for (let c = 0; c < width; c++) votes[dfa.next[row + own[c]!]!] = 0;
    builder.state(dfa.accept[s]!, other);
    for (let c = 0; c < width; c++) {
      const to = dfa.next[row + own[c]!]!;
      if (to !== other) builder.except(c, to);
    }
  }
  return builder.build(classes, width, dfa.start, dfa.labels);
}

/** The same automaton with a cell for every class. */
export function dense(automaton: Sparse): Dfa {
  const { classes, width, start, other, first, on, to, accept, labels } = automaton;
  const n = accept.length;
  const next = new Int32Array(n * width);
  for (let s = 0; s < n; s++) {
    next.fill(other[s]!, s * width, (s + 1) * width);
    for (let i = first[s]!; i < first[s + 1]!; i++) next[s * width + on[i]!] = to[i]!;
  }
  return { classes, width, start, next, accept, labels };
}

/** The same automaton over finer classes. @param width their number. */
export function recast(automaton: Sparse, classes: Uint8Array, width: number): Sparse {
  const finer: number[][] = Array.from({ length: automaton.width }, () => []);
  const seen = new Uint8Array(width);
  for (let byte = 0; byte < 256; byte++) {
    const c = classes[byte]!;
    if (seen[c]) continue;
    seen[c] = 1;
    finer[automaton.classes[byte]!]!.push(c);
  }
  const { other, first, on, to, accept } = automaton;
  const builder = new SparseBuilder();
  for (let s = 0; s < accept.length; s++) {
    builder.state(accept[s]!, other[s]!);
    const exceptions: [number, number][] = [];
    for (let i = first[s]!; i < first[s + 1]!; i++) for (const c of finer[on[i]!]!) exceptions.push([c, to[i]!]);
    exceptions.sort((x, y) => x[0] - y[0]);
    for (const [c, state] of exceptions) builder.except(c, state);
  }
  return builder.build(classes, width, automaton.start, automaton.labels);
}

/** The coarsest classes that are as fine as each of `list`. Returns them with their number. */
export function refineAll(list: Iterable<Uint8Array>): { classes: Uint8Array; width: number } {
  let classes = new Uint8Array(256);
  let width = 1;
  const seen = new Set<string>();
  for (const other of list) {
    const key = Buffer.from(other).toString('latin1');
    if (seen.has(key)) continue;
    seen.add(key);
    const ids = new Map<number, number>();
    const finer = new Uint8Array(256);
    for (let byte = 0; byte < 256; byte++) {
      const pair = classes[byte]! * 256 + other[byte]!;
      let id = ids.get(pair);
      if (id === undefined) {
        id = ids.size;
        ids.set(pair, id);
      }
      finer[byte] = id;
    }
    classes = finer;
    width = ids.size;
  }
  return { classes, width };
}

/** What joining two automata may cost. */
export interface JoinBudget {
  readonly states: number;
  readonly bytes: number;
}

/**
 * The automaton that runs `a` and `b`, which have the same classes, side by side; its labels are the unions of theirs.
 * @returns undefined when it would exceed the budget.
 */
export function join(a: Sparse, b: Sparse, budget: JoinBudget): Sparse | undefined {
  const nb = sparseStates(b);
  const ids = new Map<number, number>();
  const left = new Numbers();
  const right = new Numbers();
  const id = (sa: number, sb: number): number => {
    const key = sa * nb + sb;
    let found = ids.get(key);
    if (found === undefined) {
      found = ids.size;
      ids.set(key, found);
      left.push(sa);
      right.push(sb);
    }
    return found;
  };
  const labels = new Labels();
  const joined = new Map<number, number>();
  const label = (la: number, lb: number): number => {
    const key = la * b.labels.length + lb;
    let found = joined.get(key);
    if (found === undefined) {
      found = labels.intern(mergeSorted(a.labels[la]!, b.labels[lb]!));
      joined.set(key, found);
    }
    return found;
  };
  const start = id(a.start, b.start);
  const builder = new SparseBuilder();
  for (let s = 0; s < left.length; s++) {
    if (left.length > budget.states || builder.bytes > budget.bytes) return undefined;
    const sa = left.array[s]!;
    const sb = right.array[s]!;
    const [oa, ob] = [a.other[sa]!, b.other[sb]!];
    const other = id(oa, ob);
    builder.state(label(a.accept[sa]!, b.accept[sb]!), other);
    let i = a.first[sa]!;
    let j = b.first[sb]!;
    const [iEnd, jEnd] = [a.first[sa + 1]!, b.first[sb + 1]!];
    while (i < iEnd || j < jEnd) {
      const ca = i < iEnd ? a.on[i]! : 256;
      const cb = j < jEnd ? b.on[j]! : 256;
      const c = Math.min(ca, cb);
      const to = id(ca === c ? a.to[i++]! : oa, cb === c ? b.to[j++]! : ob);
      if (to !== other) builder.except(c, to);
    }
  }
  return builder.build(a.classes, a.width, start, labels.list);
}
