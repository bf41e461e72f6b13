/** Which routes of a virtual host come into question for a path: one automaton that leads to short lists. */

import type { Condition, Predicate } from '../plan/ir.js';
import { type Dfa, relabel } from './dfa.js';
import { predicateKey } from './facts.js';
import { matcherDfa } from './matcher.js';
import { type JoinBudget, join, recast, refineAll, type Sparse, sparse, sparseBytes, sparseStates } from './sparse.js';
import { buildTrie, type TrieEntry } from './trie.js';

/** A condition split into the paths that it is about (one of them must match) and the rest. */
export interface Split {
  /** undefined: any path */
  readonly paths: readonly Predicate[] | undefined;
  readonly rest: Condition;
}

const ALWAYS: Condition = { op: 'const', value: true };

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
  readonly automaton: Sparse;
  /** id of a predicate; undefined: it did not fit and must be looked at as a fact */
  readonly id: (predicate: Predicate) => number | undefined;
  /** ids that hold for more paths than they should: their routes' matches are unknown */
  readonly truncated: ReadonlySet<number>;
}

/** Bytes that a state with one exception has in the image. */
const STATE_BYTES = 16;
/** How many times larger than its parts a union may be, and how much it may have in any case. */
const GROWTH = 2;
const FREE = 300;
/** The same for joining a union to the strings and prefixes, which many unions have to be joined to. */
const WHOLE_GROWTH = 4;
const WHOLE_FREE = 20_000;
/** Unions that were not joined to their neighbours, tried again with the whole. */
const MAX_PARTS = 64;

/**
 * Joins neighbours, then the results, and so on: patterns with the same beginning are neighbours, and those with
 * different beginnings have few states together. What would explode stays apart.
 */
function unions(list: readonly Sparse[], budget: JoinBudget): Sparse[] {
  if (list.length <= 1) return [...list];
  const middle = list.length >> 1;
  const parts = [...unions(list.slice(0, middle), budget), ...unions(list.slice(middle), budget)];
  const kept: Sparse[] = [];
  for (const part of parts) {
    let joined: Sparse | undefined;
    for (let i = kept.length - 1; i >= 0 && i >= kept.length - 4 && !joined; i--) {
      const states = GROWTH * (sparseStates(kept[i]!) + sparseStates(part)) + FREE;
      joined = join(kept[i]!, part, { ...budget, states: Math.min(states, budget.states) });
      if (joined) kept[i] = joined;
    }
    if (!joined) kept.push(part);
  }
  return kept;
}

/** Classes that tell apart what any of `list` does, of the bytes that can stand in a path. */
function pathClasses(list: readonly Uint8Array[]): { classes: Uint8Array; width: number } {
  // NUL stands for all that the scanner does not let into a path: no pattern has a reason to name it.
  const never = (byte: number) => byte <= 0x20 || byte >= 0x7f || byte === 0x23 || byte === 0x3f;
  return refineAll(list.map((classes) => classes.map((c, byte) => (never(byte) ? classes[0]! : c))));
}

/** What a pattern begins with, roughly: only to have similar ones next to each other. */
function beginning(predicate: Predicate): string {
  const { matcher } = predicate;
  return matcher.kind === 'regex' ? matcher.pattern.replace(/^\^?(\(\?i\))?\^?/, '') : '';
}

/**
 * One automaton over the path for `predicates`.
 * @param budgetBytes size in the image that it may have.
 */
export function pathAutomaton(predicates: readonly Predicate[], budgetBytes: number): PathAutomaton {
  const ids = new Map<string, number>();
  const exact: TrieEntry[] = [];
  const folded: TrieEntry[] = [];
  const others: { readonly id: number; readonly begins: string; readonly dfa: Dfa }[] = [];
  const left = new Set<number>();
  for (const predicate of predicates) {
    const key = predicateKey(predicate);
    if (ids.has(key)) continue;
    const id = ids.size;
    ids.set(key, id);
    const { matcher } = predicate;
    if (matcher.kind === 'exact' || matcher.kind === 'prefix')
      (matcher.ignoreCase ? folded : exact).push({ bytes: Buffer.from(matcher.value), kind: matcher.kind, id });
    else {
      const own = matcherDfa(matcher);
      if (own) others.push({ id, begins: beginning(predicate), dfa: relabel(own, () => id) });
      else left.add(id);
    }
  }
  const maxStates = Math.floor(budgetBytes / STATE_BYTES);
  const tries = [buildTrie(exact, false, maxStates), buildTrie(folded, true, maxStates)];
  const { classes, width } = pathClasses([
    ...tries.map(({ automaton }) => automaton.classes),
    ...others.map(({ dfa }) => dfa.classes),
  ]);
  const truncated = new Set(tries[0]!.truncated);
  let whole = recast(tries[0]!.automaton, classes, width);
  const budget = { states: maxStates, bytes: budgetBytes };
  const add = (part: Sparse): boolean => {
    const states = WHOLE_GROWTH * (sparseStates(whole) + sparseStates(part)) + WHOLE_FREE;
    const joined = join(whole, part, { ...budget, states: Math.min(states, budget.states) });
    if (joined) whole = joined;
    return joined !== undefined;
  };
  const idsOf = ({ labels }: Sparse) => labels.flat();
  if (folded.length > 0) {
    const { automaton, truncated: over } = tries[1]!;
    if (over.length > 0 || !add(recast(automaton, classes, width))) for (const entry of folded) left.add(entry.id);
  }
  others.sort((a, b) => (a.begins < b.begins ? -1 : a.begins > b.begins ? 1 : a.id - b.id));
  const parts = unions(
    others.map(({ dfa }) => sparse(dfa, classes, width)),
    budget,
  );
  // The largest union first: what is left over becomes facts, of which there are few.
  parts.sort((a, b) => idsOf(b).length - idsOf(a).length || sparseBytes(a) - sparseBytes(b));
  parts.forEach((part, i) => {
    if (i >= MAX_PARTS || !add(part)) for (const id of idsOf(part)) left.add(id);
  });
  return {
    automaton: whole,
    id: (predicate) => {
      const id = ids.get(predicateKey(predicate));
      return id === undefined || left.has(id) ? undefined : id;
    },
    truncated,
  };
}
