/**
 * envoy.config.route.v3.HeaderMatcher and QueryParameterMatcher -> Condition.
 *
 * A header that is not there, as Envoy 1.40 has it (tried with the binary): a presence matcher tests `present`, where
 * treat_missing_header_as_empty makes every header present; any other matcher on a missing header is false, inverted or
 * not, unless treat_missing_header_as_empty makes its value the empty string.
 */
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, headerPresent, not, test } from './conditions.js';
import type { Condition, Field, Matcher } from './ir.js';
import { matchesValue } from './matchers.js';
import { bool, has, join, type Notes, obj, onlyFields, str } from './notes.js';
import { regexMatcher, stringMatcher } from './string-match.js';

/** Headers that the connection manager itself sets, removes or rewrites before routes are matched. */
export const MANAGED = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'te',
  'upgrade',
  'expect',
  'x-forwarded-client-cert',
  'x-forwarded-for',
  'x-request-id',
  ':scheme',
  ':protocol',
]);

const SPECIFIERS = [
  'exact_match',
  'safe_regex_match',
  'range_match',
  'present_match',
  'prefix_match',
  'suffix_match',
  'contains_match',
  'string_match',
];

function headerField(name: string): Field {
  switch (name) {
    case ':method':
      return { kind: 'method' };
    case ':path':
      return { kind: 'target' };
    case ':authority':
    case 'host':
      return { kind: 'host' };
    default:
      return { kind: 'header', name };
  }
}

function legacyMatcher(notes: Notes, o: JsonObject, path: string): Matcher | undefined {
  const text = (kind: 'exact' | 'prefix' | 'suffix' | 'contains', key: string): Matcher => ({
    kind,
    value: str(o, key),
    ignoreCase: false,
  });
  // the deprecated exact_match matches any value when it is empty
  if (typeof o.exact_match === 'string')
    return o.exact_match === '' ? { kind: 'present' } : text('exact', 'exact_match');
  if (typeof o.prefix_match === 'string') return text('prefix', 'prefix_match');
  if (typeof o.suffix_match === 'string') return text('suffix', 'suffix_match');
  if (typeof o.contains_match === 'string') return text('contains', 'contains_match');
  const regex = obj(o, 'safe_regex_match');
  if (regex) return regexMatcher(notes, regex, join(path, 'safe_regex_match'));
  const range = obj(o, 'range_match');
  if (range) {
    onlyFields(notes, range, join(path, 'range_match'), ['start', 'end']);
    return { kind: 'range', start: int64(range.start), end: int64(range.end) };
  }
  return stringMatcher(notes, obj(o, 'string_match')!, join(path, 'string_match'));
}

function int64(v: unknown): bigint {
  if (typeof v === 'number') return BigInt(Math.trunc(v));
  return typeof v === 'string' && /^-?\d+$/.test(v) ? BigInt(v) : 0n;
}

/** A HeaderMatcher; undefined with reasons if it cannot be computed in the kernel. */
export function headerCondition(notes: Notes, o: JsonObject, path: string): Condition | undefined {
  const before = notes.reasons.length;
  onlyFields(notes, o, path, ['name', 'invert_match', 'treat_missing_header_as_empty', ...SPECIFIERS]);
  const name = str(o, 'name').toLowerCase();
  if (MANAGED.has(name) || name.startsWith('x-envoy-')) {
    notes.add('match-header', `the proxy maintains the header ${name} itself`, join(path, 'name'), o, 'name');
    return undefined;
  }
  const field = headerField(name);
  const invert = bool(o, 'invert_match');
  const missingIsEmpty = bool(o, 'treat_missing_header_as_empty');
  // :method, :path and :authority are always there in a request that is decided here
  const present = field.kind === 'header' ? headerPresent(name) : ALWAYS;

  if (!SPECIFIERS.some((s) => has(o, s)) || typeof o.present_match === 'boolean') {
    const wanted = bool(o, 'present_match', true);
    // the connection manager adds x-forwarded-proto where it is missing
    const there = missingIsEmpty || name === 'x-forwarded-proto' ? ALWAYS : present;
    return wanted === invert ? not(there) : there;
  }
  const matcher = legacyMatcher(notes, o, path);
  if (matcher === undefined || notes.reasons.length > before) return undefined;
  const matches = test(field, matcher);
  if (field.kind !== 'header') return invert ? not(matches) : matches;
  const missing = name === 'x-forwarded-proto' ? 'http' : missingIsEmpty ? '' : undefined;
  if (missing === undefined) return invert ? all([present, not(matches)]) : matches;
  const total = matchesValue(matcher, missing) ? any([matches, not(present)]) : matches;
  return invert ? not(total) : total;
}

/**
 * A QueryParameterMatcher; undefined with reasons if it cannot be computed. Names and values are compared as they stand
 * in the target (nothing is decoded), the first of several parameters with the name counts.
 */
export function queryCondition(notes: Notes, o: JsonObject, path: string): Condition | undefined {
  const before = notes.reasons.length;
  onlyFields(notes, o, path, ['name', 'string_match', 'present_match']);
  const field: Field = { kind: 'query', name: str(o, 'name') };
  const present = test(field, { kind: 'present' });
  if (notes.reasons.length > before) return undefined;
  const text = obj(o, 'string_match');
  if (!text) return bool(o, 'present_match', true) ? present : not(present);
  const matcher = stringMatcher(notes, text, join(path, 'string_match'));
  return matcher === undefined ? undefined : test(field, matcher);
}
