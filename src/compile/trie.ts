/** Many exact strings and prefixes in one automaton, built directly: linear in the length of the strings. */
import { type Dfa, Labels, mergeSorted } from './dfa.js';

/** `wildcard` is a prefix that must be followed by at least one more byte. */
export interface TrieEntry {
  readonly bytes: Uint8Array;
  readonly kind: 'exact' | 'prefix' | 'wildcard';
  readonly id: number;
}

export interface Trie {
  readonly dfa: Dfa;
  /**
   * Entries that did not fit: their ids hold for every input that starts with the part that did fit, which is more than
   * they should.
   */
  readonly truncated: readonly number[];
}

/** The lower case of an ASCII letter's byte; other bytes as they are. */
export function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
}

interface Node {
  readonly children: Map<number, number>;
  readonly exact: number[];
  readonly prefix: number[];
  readonly wildcard: number[];
}

const node = (): Node => ({ children: new Map(), exact: [], prefix: [], wildcard: [] });

/**
 * @param entries strings with the ids that hold for them. @param ignoreCase ASCII letters match both cases.
 * @param budgetBytes size in the image that the automaton may have (a row is 4 bytes and 4 more a class).
 */
export function buildTrie(entries: readonly TrieEntry[], ignoreCase: boolean, budgetBytes: number): Trie {
  const fold = (byte: number) => (ignoreCase ? lower(byte) : byte);
  const used = new Set<number>();
  for (const entry of entries) for (const byte of entry.bytes) used.add(fold(byte));
  const bytes = [...used].sort((a, b) => a - b);
  const width = bytes.length + 1;
  const classOf = new Map(bytes.map((byte, i) => [byte, i + 1]));
  const classes = Uint8Array.from({ length: 256 }, (_, byte) => classOf.get(fold(byte)) ?? 0);
  const budget = Math.max(2, Math.floor(budgetBytes / (4 * (width + 1))));

  const nodes: Node[] = [node()];
  const truncated: number[] = [];
  // Every node may need a state of its own for "left the tree here", hence two a node.
  let states = 2;
  for (const entry of entries) {
    let at = 0;
    let fits = true;
    for (const byte of entry.bytes) {
      const key = classOf.get(fold(byte))!;
      let child = nodes[at]!.children.get(key);
      if (child === undefined) {
        if (states >= budget) {
          fits = false;
          break;
        }
        child = nodes.length;
        nodes.push(node());
        states++;
        nodes[at]!.children.set(key, child);
      }
      at = child;
    }
    const end = nodes[at]!;
    if (!fits) {
      truncated.push(entry.id);
      end.prefix.push(entry.id);
    } else end[entry.kind].push(entry.id);
    if (entry.kind !== 'exact' || !fits) states++;
  }
  return { dfa: automaton(nodes, classes, width), truncated };
}

/** States: the nodes, then one for each set of prefixes that inputs may have left the tree with. */
function automaton(nodes: readonly Node[], classes: Uint8Array, width: number): Dfa {
  const labels = new Labels();
  const sorted = (ids: number[]) => [...new Set(ids)].sort((a, b) => a - b);
  /** per node: label of the prefixes that hold below it */
  const below = new Int32Array(nodes.length);
  const accept: number[] = new Array(nodes.length).fill(0);
  const away = new Map<number, number>();
  const awayLabels: number[] = [];
  const awayState = (label: number): number => {
    let state = away.get(label);
    if (state === undefined) {
      state = nodes.length + awayLabels.length;
      away.set(label, state);
      awayLabels.push(label);
    }
    return state;
  };
  const next: Int32Array = new Int32Array(nodes.length * width);
  // Parents come before their children, because nodes are numbered as they are made.
  const inherited = new Int32Array(nodes.length);
  nodes.forEach((n, i) => {
    const before = labels.list[inherited[i]!]!;
    const here = n.prefix.length > 0 ? mergeSorted(before, sorted(n.prefix)) : before;
    accept[i] = n.exact.length > 0 ? labels.intern(mergeSorted(here, sorted(n.exact))) : labels.intern(here);
    below[i] = labels.intern(n.wildcard.length > 0 ? mergeSorted(here, sorted(n.wildcard)) : here);
    const out = awayState(below[i]!);
    for (let c = 0; c < width; c++) next[i * width + c] = out;
    for (const [c, child] of n.children) {
      next[i * width + c] = child;
      inherited[child] = below[i]!;
    }
  });
  const all = new Int32Array((nodes.length + awayLabels.length) * width);
  all.set(next);
  awayLabels.forEach((label, i) => {
    accept.push(label);
    all.fill(nodes.length + i, (nodes.length + i) * width, (nodes.length + i + 1) * width);
  });
  return { classes, width, start: 0, next: all, accept: Int32Array.from(accept), labels: labels.list };
}
