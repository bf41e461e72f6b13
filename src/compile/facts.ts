/**
 * Which predicates are computed for a request, by which automata, and where their results (facts) are: a scope is a
 * listener or a virtual host; a virtual host sees its listener's facts as well.
 */
import { FACT_WORDS, MAX_JOBS } from '../layout/image.js';
import type { Field, Predicate } from '../plan/ir.js';
import { type Dfa, minimise, product, relabel, stateCount } from './dfa.js';
import { matcherDfa, matcherKey } from './matcher.js';
import { queryDfa } from './query.js';
import { dense, sparse, sparseBytes } from './sparse.js';
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
const QUERY_STATES = 6000;
const BITS = 64;
/** Bytes of the image that the automata of one scope may have: what is beyond has no fact, so that the rest is kept. */
const SCOPE_BYTES = 2 * 1024 * 1024;
/** How many automata are tried for each one that is to be joined to another. */
const JOIN_TRIES = 4;

/** A text that is equal for equal predicates. */
export function predicateKey(predicate: Predicate): string {
  return `${JSON.stringify(predicate.field)}${matcherKey(predicate.matcher)}`;
}

/** The field's group: its predicates are answered together. */
function groupKey(field: Field): string {
  return 'name' in field ? `${field.kind} ${field.name}` : field.kind;
}

/** The automaton (label [0]) of one predicate over the bytes of its field, undefined when it cannot be computed. */
function predicateDfa({ field, matcher }: Predicate): Dfa | undefined {
  // Addresses are bytes and texts are not: a text predicate on an address, or the reverse, has no meaning here.
  const aboutAddresses = matcher.kind === 'cidr' || matcher.kind === 'addresses';
  if ((field.kind === 'source_ip') !== aboutAddresses && matcher.kind !== 'present') return undefined;
  return matcherDfa(matcher);
}

interface Bin {
  dfa: Dfa;
  readonly ids: number[];
}

/** Facts of one scope. */
export class Facts {
  readonly #parent: Facts | undefined;
  readonly #facts = new Map<string, Fact>();
  /** predicates by number */
  readonly #ids: Predicate[] = [];
  readonly jobs: Job[] = [];
  /** bits used per word */
  readonly #used: number[];
  readonly #firstWord: number;
  /** of the automata, in the image */
  #bytes = 0;

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
    const queries: Bin[] = [];
    for (const group of groups.values()) {
      const list = [...group.values()];
      const { field } = list[0]!;
      const bins = this.#bins(list);
      if (field.kind !== 'query') for (const bin of bins) this.#place(bin, field);
      else
        for (const bin of bins) {
          const dfa = queryDfa(field.name, bin.dfa, QUERY_STATES);
          if (dfa && !this.#join(queries, { ...bin, dfa })) queries.push({ ...bin, dfa });
        }
    }
    for (const bin of queries) this.#place(bin, { kind: 'query', name: '' });
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

  /** Automata that answer `predicates`, which are about the same bytes. */
  #bins(predicates: readonly Predicate[]): Bin[] {
    // Strings and prefixes share a tree; the rest is joined pair by pair while the result stays small.
    const bins: Bin[] = [];
    const trees = (ignoreCase: boolean) => {
      const simple = predicates.filter(
        ({ field, matcher }) =>
          field.kind !== 'source_ip' &&
          (matcher.kind === 'exact' || matcher.kind === 'prefix') &&
          matcher.ignoreCase === ignoreCase,
      );
      for (let i = 0; i < simple.length; i += BITS) {
        const members = simple.slice(i, i + BITS);
        const entries: TrieEntry[] = members.map(({ matcher }, j) => {
          const { kind, value } = matcher as { kind: 'exact' | 'prefix'; value: string };
          return { bytes: Buffer.from(value), kind, id: this.#ids.length + j };
        });
        this.#ids.push(...members);
        const dfa = minimise(dense(buildTrie(entries, ignoreCase, Number.POSITIVE_INFINITY).automaton));
        bins.push({ dfa, ids: entries.map((entry) => entry.id) });
      }
      return new Set(simple);
    };
    const done = [trees(false), trees(true)];
    for (const predicate of predicates) {
      if (done.some((set) => set.has(predicate))) continue;
      const own = predicateDfa(predicate);
      if (!own || stateCount(own) > UNION_STATES) continue;
      const id = this.#ids.push(predicate) - 1;
      const bin = { dfa: relabel(own, () => id), ids: [id] };
      if (!this.#join(bins, bin)) bins.push(bin);
    }
    return bins;
  }

  /** Joins `bin` to one of the last bins where that costs little. */
  #join(bins: Bin[], bin: Bin): boolean {
    for (const other of bins.slice(-JOIN_TRIES)) {
      if (other.ids.length + bin.ids.length > BITS) continue;
      const budget = Math.min(UNION_STATES, 2 * (stateCount(other.dfa) + stateCount(bin.dfa)) + 64);
      const joined = product(other.dfa, bin.dfa, budget);
      if (!joined) continue;
      other.dfa = minimise(joined);
      other.ids.push(...bin.ids);
      return true;
    }
    return false;
  }

  #place(bin: Bin, field: Field): void {
    const bytes = sparseBytes(sparse(bin.dfa));
    if (this.jobs.length >= MAX_JOBS || this.#bytes + bytes > SCOPE_BYTES) return;
    let word = this.#firstWord;
    while (word < FACT_WORDS && this.#used[word]! + bin.ids.length > BITS) word++;
    if (word === FACT_WORDS) return;
    const bits = new Map<number, number>();
    bin.ids.forEach((id, i) => {
      const bit = this.#used[word]! + i;
      bits.set(id, bit);
      this.#facts.set(predicateKey(this.#ids[id]!), { word, bit });
    });
    this.#bytes += bytes;
    this.#used[word]! += bin.ids.length;
    this.jobs.push({ field, word, dfa: relabel(bin.dfa, (id) => bits.get(id)!) });
  }
}
