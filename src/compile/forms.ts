/**
 * How the states of a matching automaton are stored: as rows, one byte a step, or as nodes, which compare up to eight
 * bytes at once and have what follows in the same cache line. Large policies are mostly long strings that few others share:
 * a walk along them by rows waits for another cache line nearly at every byte.
 */
import { MAX_FAILS, NODE_KEYS } from '../layout/image.js';
import { type Sparse, sparseBytes, sparseStates } from './sparse.js';

/** Longest chain of a node, in bytes. */
const MAX_CHAIN = 8;
/** Bytes that nodes may take beyond what rows alone would. */
const SPARE = 4096;
const NODE_BYTES = 64;

/** Bytes that the class of a chain consists of: those that equal `want` under `mask`. */
export interface ByteSet {
  readonly want: number;
  readonly mask: number;
}

/**
 * A node: the bytes of its chain lead from its own state to `end`. Any other byte on the way leads where it leads from
 * `fail`, gone on from at the chain's first byte, and input that ends on the way is accepted as it is there.
 */
export interface Node {
  readonly chain: readonly ByteSet[];
  /** state; -1: the chain is empty */
  readonly fail: number;
  /** how often one may fail from here on without getting further, at most MAX_FAILS */
  readonly fails: number;
  readonly end: number;
  /** the successors of `end` are stored with it, at most NODE_KEYS exceptions; else it is a state of its own, gone on from */
  readonly branches: boolean;
}

export interface Forms {
  /** per state: its node, `row`, or undefined: nothing refers to it */
  readonly of: readonly (Node | 'row' | undefined)[];
  /** states in the order of walks: each before what it leads to */
  readonly order: readonly number[];
}

/** The bytes as a set of one byte, or of two that differ in one bit (letters whose case does not matter); else undefined. */
function byteSet([first, second, ...more]: readonly number[]): ByteSet | undefined {
  if (first === undefined || more.length > 0) return undefined;
  const differ = second === undefined ? 0 : first ^ second;
  return differ & (differ - 1) ? undefined : { want: first & ~differ, mask: 0xff & ~differ };
}

/** The bytes of each class. */
function membersOf({ classes, width }: Sparse): number[][] {
  const members: number[][] = Array.from({ length: width }, () => []);
  classes.forEach((c, byte) => {
    members[c]!.push(byte);
  });
  return members;
}

/** Whether states stay what they are whatever comes. */
export function isSink({ first, other }: Sparse, state: number): boolean {
  return first[state] === first[state + 1] && other[state] === state;
}

class Former {
  readonly #table: Sparse;
  readonly #values: readonly number[];
  readonly #nodes: boolean;
  readonly #members: readonly (readonly number[])[];
  readonly #of: (Node | 'row' | undefined)[];
  /** states that nodes fail to and that had no form then: they get no chain */
  readonly #plain = new Set<number>();
  /** per state: one that may differ from it in little; -1: none is known */
  readonly #like: Int32Array;
  bytes = 0;

  /** @param nodes whether there are any. */
  constructor(table: Sparse, values: readonly number[], nodes: boolean) {
    this.#table = table;
    this.#nodes = nodes;
    this.#values = values;
    this.#members = membersOf(table);
    this.#of = new Array<undefined>(sparseStates(table)).fill(undefined);
    this.#like = new Int32Array(sparseStates(table)).fill(-1);
  }

  #next(state: number, on: number): number {
    const { first, on: classes, to, other } = this.#table;
    for (let i = first[state]!; i < first[state + 1]!; i++) if (classes[i] === on) return to[i]!;
    return other[state]!;
  }

  /** Where the same letter in the other case leads to, -1: `on` is no letter. */
  #otherCase(state: number, on: number): number {
    const [byte, ...more] = this.#members[on]!;
    if (byte === undefined || more.length > 0 || !/[A-Za-z]/.test(String.fromCharCode(byte))) return -1;
    return this.#next(state, this.#table.classes[byte ^ 0x20]!);
  }

  #exceptions(state: number): number {
    return this.#table.first[state + 1]! - this.#table.first[state]!;
  }

  #accepts(state: number): number {
    return this.#values[this.#table.accept[state]!]!;
  }

  /** The bytes for which two states have different successors, and what these are; undefined: not one pair, or too many bytes. */
  #difference(a: number, b: number): { set: ByteSet; to: number; beside: number } | undefined {
    const { first, on, to, other } = this.#table;
    if (other[a] !== other[b]) return undefined;
    const bytes: number[] = [];
    let pair: [number, number] | undefined;
    let i = first[a]!;
    let j = first[b]!;
    const [iEnd, jEnd] = [first[a + 1]!, first[b + 1]!];
    while (i < iEnd || j < jEnd) {
      const ca = i < iEnd ? on[i]! : 256;
      const cb = j < jEnd ? on[j]! : 256;
      const c = Math.min(ca, cb);
      const left = ca === c ? to[i++]! : other[a]!;
      const right = cb === c ? to[j++]! : other[b]!;
      if (left === right) continue;
      if (pair && (pair[0] !== left || pair[1] !== right)) return undefined;
      pair = [left, right];
      bytes.push(...this.#members[c]!);
    }
    const set = byteSet(bytes);
    return set && pair && { set, to: pair[0], beside: pair[1] };
  }

  /** The longest chain from `state` on, with `like` beside it. */
  #chain(state: number, like: number): { chain: ByteSet[]; end: number; like: number } {
    const chain: ByteSet[] = [];
    let at = state;
    let beside = like;
    while (chain.length < MAX_CHAIN) {
      if (chain.length > 0 && this.#accepts(at) !== this.#accepts(beside)) break;
      const step = this.#difference(at, beside);
      if (!step) break;
      chain.push(step.set);
      at = step.to;
      beside = step.beside;
    }
    return { chain, end: at, like: beside };
  }

  #fails(state: number): number {
    const form = this.#of[state];
    return typeof form === 'object' ? form.fails : 0;
  }

  #best(state: number): { node: Node; like: number } | undefined {
    let best: { chain: ByteSet[]; end: number; like: number; fail: number } | undefined;
    if (!this.#plain.has(state))
      for (const fail of new Set([this.#table.other[state]!, this.#like[state]!])) {
        if (fail < 0 || fail === state || this.#fails(fail) >= MAX_FAILS) continue;
        const found = { ...this.#chain(state, fail), fail };
        const least = this.#exceptions(found.end) <= NODE_KEYS ? 0 : 1;
        if (found.chain.length > (best?.chain.length ?? least)) best = found;
      }
    const like = best?.like ?? this.#like[state]!;
    const { chain, end, fail } = best ?? { chain: [], end: state, fail: -1 };
    const branches = this.#exceptions(end) <= NODE_KEYS;
    if (chain.length === 0 && (!branches || this.#exceptions(state) < 2)) return undefined;
    return { node: { chain, fail, fails: fail < 0 ? 0 : this.#fails(fail) + 1, end, branches }, like };
  }

  run(): Forms {
    const { start, first, on, to, other } = this.#table;
    const order: number[] = [];
    const stack = [start];
    for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
      if (this.#of[state] || isSink(this.#table, state)) continue;
      order.push(state);
      const best = this.#nodes ? this.#best(state) : undefined;
      this.#of[state] = best?.node ?? 'row';
      this.bytes += best ? NODE_BYTES : 8 * (1 + this.#exceptions(state));
      const end = best?.node.end ?? state;
      const like = best?.like ?? this.#like[state]!;
      if (best && best.node.fail >= 0) {
        if (!this.#of[best.node.fail]) this.#plain.add(best.node.fail);
        stack.push(best.node.fail);
      }
      if (best && !best.node.branches) {
        if (this.#like[end]! < 0) this.#like[end] = like;
        stack.push(end);
        continue;
      }
      stack.push(other[end]!);
      for (let i = first[end + 1]! - 1; i >= first[end]!; i--) {
        const beside = like < 0 ? this.#otherCase(end, on[i]!) : this.#next(like, on[i]!);
        if (this.#like[to[i]!]! < 0 && beside !== to[i]) this.#like[to[i]!] = beside;
        stack.push(to[i]!);
      }
    }
    return { of: this.#of, order };
  }
}

/**
 * Chooses the form of each state.
 * @param values what acceptance means, by label.
 */
export function forms(table: Sparse, values: readonly number[]): Forms {
  const former = new Former(table, values, true);
  const found = former.run();
  return former.bytes <= sparseBytes(table) + SPARE ? found : new Former(table, values, false).run();
}
