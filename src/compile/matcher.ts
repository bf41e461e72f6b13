/** One predicate's matcher to an automaton over the bytes of its field. */
import type { Matcher } from '../plan/ir.js';
import { parseAddress } from './address.js';
import { type Dfa, Labels, minimise } from './dfa.js';
import { rangeNfa } from './range.js';
import { determinize } from './regex/determinize.js';
import { compileRegex, type NfaState } from './regex/nfa.js';
import { dense } from './sparse.js';
import { buildTrie, lower } from './trie.js';

/** Most states that one predicate's automaton may have before it is minimised. */
const PREDICATE_STATES = 4096;

/** The automaton with one state that answers `accepting` for every input. */
export function constant(accepting: boolean): Dfa {
  const labels = new Labels();
  const accept = Int32Array.of(labels.intern(accepting ? [0] : []));
  return { classes: new Uint8Array(256), width: 1, start: 0, next: Int32Array.of(0), accept, labels: labels.list };
}

/** Knuth, Morris and Pratt's automaton: finds `needle` at the end of the input, or anywhere in it. */
function search(needle: Uint8Array, ignoreCase: boolean, anywhere: boolean): Dfa {
  const n = needle.length;
  if (n === 0) return constant(true);
  const pattern = ignoreCase ? needle.map(lower) : needle;
  const used = [...new Set(pattern)].sort((a, b) => a - b);
  const width = used.length + 1;
  const classOf = new Map(used.map((byte, i) => [byte, i + 1]));
  const classes = Uint8Array.from({ length: 256 }, (_, b) => classOf.get(ignoreCase ? lower(b) : b) ?? 0);
  const next = new Int32Array((n + 1) * width);
  let fallback = 0;
  for (let s = 0; s <= n; s++) {
    for (let c = 0; c < width; c++) {
      if (s === n && anywhere) next[s * width + c] = n;
      else if (s < n && classOf.get(pattern[s]!) === c) next[s * width + c] = s + 1;
      else next[s * width + c] = s === 0 ? 0 : next[fallback * width + c]!;
    }
    if (s > 0 && s < n) fallback = next[fallback * width + classOf.get(pattern[s]!)!]!;
  }
  const labels = new Labels();
  const accept = Int32Array.from({ length: n + 1 }, (_, s) => labels.intern(s === n ? [0] : []));
  return { classes, width, start: 0, next, accept, labels: labels.list };
}

/** Inputs of exactly 4 (or 16) bytes whose first `prefixLength` bits are those of `address`. */
function cidr(address: string, prefixLength: number): Dfa | undefined {
  const bytes = parseAddress(address);
  if (!bytes) return undefined;
  const states: NfaState[] = [...bytes].map((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefixLength - 8 * i));
    const free = 0xff >> bits;
    return { kind: 'byte', low: byte & ~free, high: byte | free, to: i + 1 };
  });
  states.push({ kind: 'match' });
  return determinize({ states, start: 0, groups: 0 }, PREDICATE_STATES);
}

const cache = new Map<string, Dfa | undefined>();
const CACHE_ENTRIES = 4096;

/** A text that is equal for equal matchers. */
export function matcherKey(matcher: Matcher): string {
  return JSON.stringify(matcher, (_, value) => (typeof value === 'bigint' ? `${value}` : value));
}

/**
 * The minimal automaton that accepts, with label [0], the inputs that satisfy `matcher`. Strings are compared as the
 * bytes of their UTF-8 form, `ignoreCase` folds ASCII letters only (as absl::EqualsIgnoreCase), regexes must match the
 * whole input.
 * @returns undefined when it cannot be computed: an unsupported or invalid regex, or too many states.
 */
export function matcherDfa(matcher: Matcher): Dfa | undefined {
  const key = matcherKey(matcher);
  if (cache.has(key)) return cache.get(key);
  const dfa = build(matcher);
  if (cache.size >= CACHE_ENTRIES) cache.clear();
  cache.set(key, dfa);
  return dfa;
}

function build(matcher: Matcher): Dfa | undefined {
  switch (matcher.kind) {
    case 'exact':
    case 'prefix': {
      const entry = { bytes: Buffer.from(matcher.value), kind: matcher.kind, id: 0 };
      return minimise(dense(buildTrie([entry], matcher.ignoreCase, Number.POSITIVE_INFINITY).automaton));
    }
    case 'suffix':
    case 'contains':
      return minimise(search(Buffer.from(matcher.value), matcher.ignoreCase, matcher.kind === 'contains'));
    case 'regex': {
      const nfa = compileRegex(matcher.pattern);
      return nfa && determinize(nfa, PREDICATE_STATES);
    }
    case 'present':
      return constant(true);
    case 'range':
      return determinize(rangeNfa(matcher.start, matcher.end), PREDICATE_STATES);
    case 'addresses': {
      const parsed = matcher.addresses.map(parseAddress);
      if (!parsed.every((bytes) => bytes !== undefined)) return undefined;
      // Prefixes of one another are impossible: the input is 4 or 16 bytes, and a shorter one ends before a longer.
      const entries = parsed.map((bytes) => ({ bytes, kind: 'exact' as const, id: 0 }));
      return minimise(dense(buildTrie(entries, false, Number.POSITIVE_INFINITY).automaton));
    }
    case 'cidr':
      return cidr(matcher.address, matcher.prefixLength);
  }
}
