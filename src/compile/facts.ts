/**
 * Which predicates are computed for a request, by which automata, and where their results (facts) are: a scope is a
 * listener or a virtual host; a virtual host sees its listener's facts as well.
 */
import { FACT_WORDS, MAX_JOBS } from '../layout/image.js';
import type { Field, Predicate } from '../plan/ir.js';
import { type Dfa, minimise, product, relabel, stateCount } from './dfa.js';
import { matcherDfa, matcherKey } from './matcher.js';
import { queryDfa } from './query.js';
import { buildTrie, type TrieEntry } from './trie.js';

/** Where a fact is: bit `bit` of word `word`. */
export interface Fact {
  readonly word: number;
  readonly bit: number;
}

/** One automaton over one field; its labels are bits of `word`. */
export interface Job {
  readonly field: Field;
  readonly word: number;
  readonly dfa: Dfa;
}

/** Most states of an automaton that answers several predicates at once. */
const UNION_STATES = 3000;
const BITS = 64;

/** A text that is equal for equal predicates. */
export function predicateKey(predicate: Predicate): string {
  return `${JSON.stringify(predicate.field)}${matcherKey(predicate.matcher)}`;
}

/** The field's group: one automaton can answer predicates over the same bytes only. */
function groupKey(field: Field): string {
  return field.kind === 'header' ? `header ${field.name}` : field.kind;
}

/** The automaton (label [0]) of one predicate over the whole field, undefined when it cannot be computed. */
function predicateDfa({ field, matcher }: Predicate): Dfa | undefined {
  // Addresses are bytes and texts are not: a text predicate on an address, or the reverse, has no meaning here.
  if ((field.kind === 'source_ip') !== (matcher.kind === 'cidr') && matcher.kind !== 'present') return undefined;
  const dfa = matcherDfa(matcher);
  if (!dfa || field.kind !== 'query') return dfa;
  return queryDfa(field.name, dfa, UNION_STATES);
}

interface Bin {
  dfa: Dfa;
  readonly ids: number[];
}

/** Facts of one scope. */
export class Facts {
  readonly #parent: Facts | undefined;
  readonly #facts = new Map<string, Fact>();
  readonly jobs: Job[] = [];
  /** bits used per word */
  readonly #used: number[];
  readonly #firstWord: number;

  /**
   * Computes automata for `predicates` (those that `parent` has are not computed again). What does not fit in the words,
   * the jobs or the state budgets has no fact.
   */
  constructor(predicates: readonly Predicate[], parent?: Facts) {
    this.#parent = parent;
    this.#used = new Array<number>(FACT_WORDS).fill(0);
    this.#firstWord = parent ? parent.wordsUsed : 0;
    const groups = new Map<string, Map<string, Predicate>>();
    for (const predicate of predicates) {
      const key = predicateKey(predicate);
      if (parent?.get(predicate)) continue;
      const group = groups.get(groupKey(predicate.field)) ?? new Map<string, Predicate>();
      groups.set(groupKey(predicate.field), group);
      group.set(key, predicate);
    }
    for (const group of groups.values()) this.#addGroup([...group.values()]);
  }

  /** Words that this scope uses, counted from 0 (its parent's included). */
  get wordsUsed(): number {
    let words = this.#firstWord;
    this.#used.forEach((bits, word) => {
      if (bits > 0) words = Math.max(words, word + 1);
    });
    return words;
  }

  /** The fact that says whether `predicate` holds, if it is computed in this scope. */
  get(predicate: Predicate): Fact | undefined {
    return this.#parent?.get(predicate) ?? this.#facts.get(predicateKey(predicate));
  }

  #addGroup(predicates: readonly Predicate[]): void {
    // Strings and prefixes share a tree; the rest is joined pair by pair while the result stays small.
    const bins: Bin[] = [];
    const ids = new Map<number, Predicate>();
    const simple = predicates.filter(
      ({ field, matcher }) =>
        field.kind !== 'query' &&
        field.kind !== 'source_ip' &&
        (matcher.kind === 'exact' || matcher.kind === 'prefix') &&
        !matcher.ignoreCase,
    );
    let id = 0;
    for (let i = 0; i < simple.length; i += BITS) {
      const entries: TrieEntry[] = simple.slice(i, i + BITS).map((predicate) => {
        const { kind, value } = predicate.matcher as { kind: 'exact' | 'prefix'; value: string };
        ids.set(id, predicate);
        return { bytes: Buffer.from(value), kind, id: id++ };
      });
      bins.push({
        dfa: minimise(buildTrie(entries, false, Number.POSITIVE_INFINITY).dfa),
        ids: entries.map((e) => e.id),
      });
    }
    const isSimple = new Set(simple);
    for (const predicate of predicates) {
      if (isSimple.has(predicate)) continue;
      const own = predicateDfa(predicate);
      if (!own || stateCount(own) > UNION_STATES) continue;
      ids.set(id, predicate);
      const number = id++;
      const labelled = relabel(own, () => number);
      if (!this.#join(bins, labelled, number)) bins.push({ dfa: labelled, ids: [number] });
    }
    for (const bin of bins) this.#place(bin, predicates[0]!.field, ids);
  }

  #join(bins: Bin[], dfa: Dfa, id: number): boolean {
    for (const bin of bins) {
      if (bin.ids.length >= BITS) continue;
      const budget = Math.min(UNION_STATES, 4 * (stateCount(bin.dfa) + stateCount(dfa)) + 64);
      const joined = product(bin.dfa, dfa, budget);
      if (!joined) continue;
      bin.dfa = minimise(joined);
      bin.ids.push(id);
      return true;
    }
    return false;
  }

  #place(bin: Bin, field: Field, ids: ReadonlyMap<number, Predicate>): void {
    if (this.jobs.length >= MAX_JOBS) return;
    let word = this.#firstWord;
    while (word < FACT_WORDS && this.#used[word]! + bin.ids.length > BITS) word++;
    if (word === FACT_WORDS) return;
    const bits = new Map<number, number>();
    bin.ids.forEach((id, i) => {
      const bit = this.#used[word]! + i;
      bits.set(id, bit);
      this.#facts.set(predicateKey(ids.get(id)!), { word, bit });
    });
    this.#used[word]! += bin.ids.length;
    this.jobs.push({ field, word, dfa: relabel(bin.dfa, (id) => bits.get(id)!) });
  }
}
