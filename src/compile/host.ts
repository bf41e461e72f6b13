/** The Host value to a virtual host, in Envoy's order of preference. */
import { type Dfa, explore, minimise, product, refine, stateCount } from './dfa.js';
import { dense } from './sparse.js';
import { buildTrie, lower, type TrieEntry } from './trie.js';

const COLON = 0x3a;
const OPEN = 0x5b;
const CLOSE = 0x5d;

/** The longest of `suffixes` that ends the input and is shorter than it; label [index]. Aho and Corasick's automaton. */
function longestSuffix(suffixes: readonly { readonly bytes: Uint8Array; readonly id: number }[]): Dfa {
  const children: Map<number, number>[] = [new Map()];
  const ends: (number | undefined)[] = [undefined];
  for (const { bytes, id } of suffixes) {
    let at = 0;
    for (const byte of bytes) {
      let child = children[at]!.get(byte);
      if (child === undefined) {
        child = children.length;
        children.push(new Map());
        ends.push(undefined);
        children[at]!.set(byte, child);
      }
      at = child;
    }
    ends[at] ??= id;
  }
  const fail = new Int32Array(children.length);
  const queue = [0];
  const goto = (from: number, byte: number): number => {
    for (let at = from; ; at = fail[at]!) {
      const child = children[at]!.get(byte);
      if (child !== undefined) return child;
      if (at === 0) return 0;
    }
  };
  for (let i = 0; i < queue.length; i++) {
    const at = queue[i]!;
    for (const [byte, child] of children[at]!) {
      fail[child] = at === 0 ? 0 : goto(fail[at]!, byte);
      ends[child] ??= ends[fail[child]!];
      queue.push(child);
    }
  }
  // The first byte is not looked at, because the wildcard stands for at least one.
  const accept = (at: number) => (at >= 0 && ends[at] !== undefined ? [ends[at]!] : []);
  const step = (at: number, byte: number) => (at < 0 ? 0 : goto(at, lower(byte)));
  const used = new Set(suffixes.flatMap(({ bytes }) => [...bytes]));
  const letters = [...used].filter((byte) => byte >= 0x61 && byte <= 0x7a).map((byte) => byte - 32);
  const classes = refine([...used, ...letters]);
  return explore<number>(-1, (at) => at, step, accept, Number.POSITIVE_INFINITY, classes)!;
}

/**
 * Ignores a port in the Host value: always (`any`), or when it is this port. What is a port follows Envoy's
 * HeaderUtility::getPortStart for the values that the scanner lets through (host, optional colon and digits).
 */
function ignorePort(dfa: Dfa, port: 'any' | number): Dfa {
  const digits = port === 'any' ? '' : String(port);
  type At = { readonly state: number; readonly bracket: boolean; readonly label: number; readonly seen: number };
  const step = (at: At, byte: number): At => {
    const state = dfa.next[at.state * dfa.width + dfa.classes[byte]!]!;
    if (at.label >= 0) {
      if (port === 'any') return at;
      const zeros = at.seen === 0 && byte === 0x30;
      const seen = zeros ? 0 : at.seen >= 0 && digits.charCodeAt(at.seen) === byte ? at.seen + 1 : -1;
      return { ...at, state, seen };
    }
    if (byte === OPEN) return { ...at, state, bracket: true };
    if (byte === CLOSE) return { ...at, state, bracket: false };
    if (byte === COLON && !at.bracket)
      return { state: port === 'any' ? 0 : state, bracket: false, label: dfa.accept[at.state]!, seen: 0 };
    return { ...at, state };
  };
  const accept = (at: At) => {
    const stripped = at.label >= 0 && (port === 'any' || at.seen === digits.length);
    return dfa.labels[stripped ? at.label : dfa.accept[at.state]!]!;
  };
  const key = (at: At) => `${at.state},${at.bracket},${at.label},${at.seen}`;
  const start: At = { state: dfa.start, bracket: false, label: -1, seen: 0 };
  const classes = refine([...Buffer.from('0123456789:[]')], dfa.classes);
  return explore(start, key, step, accept, Number.POSITIVE_INFINITY, classes)!;
}

/**
 * The automaton over the Host value; its labels are [] or [index of the virtual host].
 *
 * Envoy's order (router::RouteMatcher::findVirtualHost): the exact domain, else the longest `*suffix`, else the longest
 * `prefix*`, else `*`; a wildcard stands for at least one byte; case is ignored; the first host that names a domain has it.
 * @param domains per virtual host. @param budget most states; @returns undefined when there would be more.
 */
export function hostDfa(
  domains: readonly (readonly string[])[],
  stripPort: 'none' | 'any' | number,
  budget: number,
): Dfa | undefined {
  const owners: { readonly host: number; readonly rank: number }[] = [];
  const exact: TrieEntry[] = [];
  const suffixes: { bytes: Uint8Array; id: number }[] = [];
  const seen = new Set<string>();
  // Rank: exact over any suffix over any prefix over '*', and among the same kind the longer one.
  const EXACT = 3_000_000;
  domains.forEach((list, host) => {
    for (const domain of list) {
      const name = domain.toLowerCase();
      if (seen.has(name)) continue;
      seen.add(name);
      const id = owners.length;
      const add = (rank: number, kind: TrieEntry['kind'], text: string) => {
        owners.push({ host, rank });
        exact.push({ bytes: Buffer.from(text), kind, id });
      };
      if (name === '*') add(0, 'prefix', '');
      else if (name.startsWith('*')) {
        owners.push({ host, rank: 2_000_000 + name.length });
        suffixes.push({ bytes: Buffer.from(name.slice(1)), id });
      } else if (name.endsWith('*')) add(1_000_000 + name.length, 'wildcard', name.slice(0, -1));
      else add(EXACT, 'exact', name);
    }
  });
  const trie = buildTrie(exact, true, budget);
  if (trie.truncated.length > 0) return undefined;
  let dfa: Dfa | undefined = dense(trie.automaton);
  if (suffixes.length > 0) dfa = product(dfa, longestSuffix(suffixes), budget);
  if (!dfa || stateCount(dfa) > budget) return undefined;
  const best = (label: readonly number[]): number[] => {
    if (label.length === 0) return [];
    const winner = label.reduce((a, b) => (owners[b]!.rank > owners[a]!.rank ? b : a));
    return [owners[winner]!.host];
  };
  // Labels that name the same host become equal, so that minimisation can join their states.
  const chosen = reduceLabels(dfa, best);
  const ported = stripPort === 'none' ? chosen : ignorePort(chosen, stripPort);
  const small = stateCount(ported) > 20_000 ? ported : minimise(ported);
  return stateCount(small) > budget ? undefined : small;
}

function reduceLabels(dfa: Dfa, map: (label: readonly number[]) => number[]): Dfa {
  const labels: (readonly number[])[] = [[]];
  const known = new Map<string, number>([['', 0]]);
  const numbers = dfa.labels.map((label) => {
    const mapped = map(label);
    const key = mapped.join();
    let number = known.get(key);
    if (number === undefined) {
      number = labels.length;
      labels.push(mapped);
      known.set(key, number);
    }
    return number;
  });
  return { ...dfa, accept: dfa.accept.map((label) => numbers[label]!), labels };
}
