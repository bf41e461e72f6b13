/** A query parameter's predicates as an automaton over the whole query string. */
import { type Dfa, explore, minimise, refine, stateCount } from './dfa.js';
import { constant } from './matcher.js';

const AMPERSAND = 0x26;
const EQUALS = 0x3d;

/**
 * Where the reader of a query stands: `name` bytes of the wanted name matched since the last '&' (-1: another name), or
 * in the value of the first parameter of that name (`value`: state of its automaton), or decided.
 */
type At =
  | { readonly in: 'name'; readonly matched: number }
  | { readonly in: 'value'; readonly value: number }
  | { readonly in: 'done'; readonly label: number };

/**
 * Follows Envoy's parser: parameters are separated by '&', a name ends at the first '=', nothing is decoded, the first
 * parameter of the name decides, and one without '=' has the empty value.
 * @param value automaton over the value; its labels become those of the whole query.
 * @returns the automaton over the query (what follows the first '?'), or undefined when it has more than `budget` states.
 */
export function queryDfa(name: string, value: Dfa, budget: number): Dfa | undefined {
  const wanted = Buffer.from(name);
  if (wanted.includes(AMPERSAND) || wanted.includes(EQUALS) || wanted.length === 0) return constant(false);
  const labelOf = (state: number) => value.accept[state]!;
  const step = (at: At, byte: number): At => {
    if (at.in === 'done') return at;
    if (at.in === 'value') {
      if (byte === AMPERSAND) return { in: 'done', label: labelOf(at.value) };
      return { in: 'value', value: value.next[at.value * value.width + value.classes[byte]!]! };
    }
    const complete = at.matched === wanted.length;
    if (byte === AMPERSAND) return complete ? { in: 'done', label: labelOf(value.start) } : { in: 'name', matched: 0 };
    if (complete) return byte === EQUALS ? { in: 'value', value: value.start } : { in: 'name', matched: -1 };
    if (at.matched >= 0 && byte === wanted[at.matched]) return { in: 'name', matched: at.matched + 1 };
    return { in: 'name', matched: -1 };
  };
  const accept = (at: At): readonly number[] => {
    if (at.in === 'done') return value.labels[at.label]!;
    if (at.in === 'value') return value.labels[labelOf(at.value)]!;
    return at.matched === wanted.length ? value.labels[labelOf(value.start)]! : [];
  };
  const classes = refine([...wanted, AMPERSAND, EQUALS], value.classes);
  const states = stateCount(value);
  const key = (at: At) => {
    if (at.in === 'value') return at.value;
    return states + (at.in === 'done' ? wanted.length + 2 + at.label : at.matched + 1);
  };
  const dfa = explore<At>({ in: 'name', matched: 0 }, key, step, accept, budget, classes);
  return dfa && minimise(dfa);
}
