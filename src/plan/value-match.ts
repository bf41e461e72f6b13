/** Tests of values in metadata (envoy.type.matcher.v3.ValueMatcher), as far as claims of tokens are tested by them. */
import type { JsonObject } from '../policy/resources.js';
import { join, list, type Notes, obj } from './notes.js';
import { stringMatcher } from './string-match.js';
import type { ValueMatch } from './tokens.js';

/** A ValueMatcher of a claim; undefined with a reason for one that could match what is missing, or is not known. */
export function valueMatch(notes: Notes, o: JsonObject, at: string): ValueMatch | undefined {
  const text = obj(o, 'string_match');
  if (text) {
    const matcher = stringMatcher(notes, text, join(at, 'string_match'));
    if (!matcher || !('value' in matcher || matcher.kind === 'regex')) return undefined;
    return { kind: 'string', matcher };
  }
  if (typeof o.bool_match === 'boolean') return { kind: 'bool', value: o.bool_match };
  if (o.present_match === true) return { kind: 'present' };
  const element = obj(obj(o, 'list_match'), 'one_of');
  if (element) {
    const of = valueMatch(notes, element, join(at, 'list_match.one_of'));
    return of && { kind: 'any_element', of };
  }
  const several = obj(o, 'or_match');
  if (several) {
    const of = list(several, 'value_matchers').map((m, i) =>
      valueMatch(notes, m, `${at}.or_match.value_matchers[${i}]`),
    );
    return of.every((m) => m !== undefined) ? { kind: 'or', of: of as ValueMatch[] } : undefined;
  }
  notes.add('rbac-rule', `a match of metadata by ${Object.keys(o)[0] ?? 'nothing'} is evaluated by the proxy`, at, o);
  return undefined;
}
