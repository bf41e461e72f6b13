/** Many exact strings and prefixes in one automaton, built directly: linear in the length of the strings. */
import { Labels, mergeSorted } from './dfa.js';
import { type Sparse, SparseBuilder } from './sparse.js';

/** `wildcard` is a prefix that must be followed by at least one more byte. */
export interface TrieEntry {
  readonly bytes: Uint8Array;
  readonly kind: 'exact' | 'prefix' | 'wildcard';
  readonly id: number;
}

export interface Trie {
  readonly automaton: Sparse;
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
 * @param maxStates most states that the automaton may have.
 */
export function buildTrie(entries: readonly TrieEntry[], ignoreCase: boolean, maxStates: number): Trie {
  const fold = (byte: number) => (ignoreCase ? lower(byte) : byte);
  const used = new Set<number>();
  for (const entry of entries) for (const byte of entry.bytes) used.add(fold(byte));
  const bytes = [...used].sort((a, b) => a - b);
  const classOf = new Uint8Array(256);
  bytes.forEach((byte, i) => {
    classOf[byte] = i + 1;
  });
  const classes = Uint8Array.from({ length: 256 }, (_, byte) => classOf[fold(byte)]!);
  const budget = Math.max(2, maxStates);

  const nodes: Node[] = [node()];
  const truncated: number[] = [];
  // Every node may need a state of its own for "left the tree here", hence two a node.
  let states = 2;
  for (const entry of entries) {
    let at = 0;
    let fits = true;
    for (const byte of entry.bytes) {
      const key = classOf[fold(byte)]!;
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
  return { automaton: automaton(nodes, classes, bytes.length + 1), truncated };
}

/** States: the nodes, then one for each set of prefixes that inputs may have left the tree with. */
function automaton(nodes: readonly Node[], classes: Uint8Array, width: number): Sparse {
  const labels = new Labels();
  const sorted = (ids: number[]) => [...new Set(ids)].sort((a, b) => a - b);
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
  const builder = new SparseBuilder();
  // Parents come before their children, because nodes are numbered as they are made.
  const inherited = new Int32Array(nodes.length);
  nodes.forEach((n, i) => {
    const before = inherited[i]!;
    const here = n.prefix.length > 0 ? labels.intern(mergeSorted(labels.list[before]!, sorted(n.prefix))) : before;
    const accept = n.exact.length > 0 ? labels.intern(mergeSorted(labels.list[here]!, sorted(n.exact))) : here;
    const below = n.wildcard.length > 0 ? labels.intern(mergeSorted(labels.list[here]!, sorted(n.wildcard))) : here;
    builder.state(accept, awayState(below));
    for (const [c, child] of [...n.children].sort((a, b) => a[0] - b[0])) {
      builder.except(c, child);
      inherited[child] = below;
    }
  });
  awayLabels.forEach((label, i) => {
    builder.state(label, nodes.length + i);
  });
  return builder.build(classes, width, 0, labels.list);
}
