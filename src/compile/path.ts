/** Which routes of a virtual host come into question for a path: one automaton that leads to short lists. */

import type { Condition, Predicate } from '../plan/ir.js';
import { type Dfa, product, relabel, stateCount } from './dfa.js';
import { predicateKey } from './facts.js';
import { matcherDfa } from './matcher.js';
import { buildTrie, type TrieEntry } from './trie.js';

/** A condition split into the paths that it is about (one of them must match) and the rest. */
export interface Split {
  /** undefined: any path */
  readonly paths: readonly Predicate[] | undefined;
  readonly rest: Condition;
}

const ALWAYS: Condition = { op: 'const', value: true };
/** Most states of the automaton for what is neither an exact path nor a prefix, and of the whole. */
const OTHER_STATES = 3000;
const STATES = 150_000;

/** The alternatives of a condition that is one test of the path, or a sum of such tests. */
function pathTests(condition: Condition): Predicate[] | undefined {
  if (condition.op === 'test') return condition.predicate.field.kind === 'path' ? [condition.predicate] : undefined;
  if (condition.op !== 'or' || condition.of.length === 0) return undefined;
  const parts = condition.of.map(pathTests);
  return parts.every((part) => part !== undefined) ? parts.flat() : undefined;
}

/** Takes the first factor that is about the path alone out of a condition. */
export function splitPath(condition: Condition): Split {
  const whole = pathTests(condition);
  if (whole) return { paths: whole, rest: ALWAYS };
  if (condition.op !== 'and') return { paths: undefined, rest: condition };
  for (let i = 0; i < condition.of.length; i++) {
    const inner = splitPath(condition.of[i]!);
    if (!inner.paths) continue;
    const others = condition.of.filter((_, j) => j !== i);
    const parts = inner.rest.op === 'const' && inner.rest.value ? others : [inner.rest, ...others];
    return { paths: inner.paths, rest: parts.length === 0 ? ALWAYS : { op: 'and', of: parts } };
  }
  return { paths: undefined, rest: condition };
}

export interface PathAutomaton {
  /** labels: ids of predicates */
  readonly dfa: Dfa;
  /** id of a predicate; undefined: it did not fit and must be looked at as a fact */
  readonly id: (predicate: Predicate) => number | undefined;
  /** ids that hold for more paths than they should: their routes' matches are unknown */
  readonly truncated: ReadonlySet<number>;
}

/**
 * One automaton over the path for `predicates`.
 * @param budgetBytes size in the image that it may have.
 */
export function pathAutomaton(predicates: readonly Predicate[], budgetBytes: number): PathAutomaton {
  const ids = new Map<string, number>();
  const exact: TrieEntry[] = [];
  const folded: TrieEntry[] = [];
  const others: [number, Predicate][] = [];
  for (const predicate of predicates) {
    const key = predicateKey(predicate);
    if (ids.has(key)) continue;
    const id = ids.size;
    ids.set(key, id);
    const { matcher } = predicate;
    if (matcher.kind === 'exact' || matcher.kind === 'prefix')
      (matcher.ignoreCase ? folded : exact).push({ bytes: Buffer.from(matcher.value), kind: matcher.kind, id });
    else others.push([id, predicate]);
  }
  const left = new Set<number>();
  const truncated = new Set<number>();
  const trie = buildTrie(exact, false, budgetBytes);
  for (const id of trie.truncated) truncated.add(id);
  let dfa = trie.dfa;
  const size = (d: Dfa) => stateCount(d) * (d.width + 1) * 4;
  const join = (other: Dfa): boolean => {
    const joined = product(dfa, other, STATES);
    if (!joined || size(joined) > budgetBytes) return false;
    dfa = joined;
    return true;
  };
  if (folded.length > 0) {
    const tree = buildTrie(folded, true, budgetBytes);
    if (tree.truncated.length > 0 || !join(tree.dfa)) for (const entry of folded) left.add(entry.id);
  }
  let rest: Dfa | undefined;
  for (const [id, predicate] of others) {
    const own = matcherDfa(predicate.matcher);
    const labelled = own && relabel(own, () => id);
    const joined = labelled && (rest ? product(rest, labelled, OTHER_STATES) : labelled);
    if (joined) rest = joined;
    else left.add(id);
  }
  if (rest && !join(rest)) for (const [id] of others) left.add(id);
  return {
    dfa,
    id: (predicate) => {
      const id = ids.get(predicateKey(predicate));
      return id === undefined || left.has(id) ? undefined : id;
    },
    truncated,
  };
}
