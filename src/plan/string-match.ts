/** envoy.type.matcher.v3.StringMatcher and RegexMatcher -> Matcher. */
import type { JsonObject } from '../policy/resources.js';
import type { Matcher } from './ir.js';
import { regexProblem } from './matchers.js';
import { bool, has, join, type Notes, obj, onlyFields, str } from './notes.js';

/** A RegexMatcher; undefined with a reason if it is outside the supported syntax. */
export function regexMatcher(notes: Notes, o: JsonObject, path: string): Matcher | undefined {
  const before = notes.reasons.length;
  onlyFields(notes, o, path, ['google_re2', 'regex']);
  const pattern = str(o, 'regex');
  const problem = regexProblem(pattern);
  if (problem !== undefined) notes.add('regex', problem, join(path, 'regex'), o, 'regex');
  return notes.reasons.length > before ? undefined : { kind: 'regex', pattern };
}

/** A StringMatcher; undefined with a reason if it cannot be expressed. */
export function stringMatcher(notes: Notes, o: JsonObject, path: string): Matcher | undefined {
  const ignoreCase = bool(o, 'ignore_case');
  for (const kind of ['exact', 'prefix', 'suffix', 'contains'] as const) {
    if (typeof o[kind] === 'string') {
      const before = notes.reasons.length;
      onlyFields(notes, o, path, [kind, 'ignore_case']);
      return notes.reasons.length > before ? undefined : { kind, value: str(o, kind), ignoreCase };
    }
  }
  const regex = obj(o, 'safe_regex');
  if (regex) {
    const before = notes.reasons.length;
    // ignore_case has no effect on regexes
    onlyFields(notes, o, path, ['safe_regex', 'ignore_case']);
    const m = regexMatcher(notes, regex, join(path, 'safe_regex'));
    return notes.reasons.length > before ? undefined : m;
  }
  const what = has(o, 'custom') ? 'custom' : 'an empty matcher';
  notes.add('route-match', `string matcher: ${what} is left to the proxy`, path, o);
  return undefined;
}
