/** What a jwt_authn filter requires of a request (JwtRequirement). */
import type { JsonObject } from '../policy/resources.js';
import { has, list, type Notes, obj, onlyFields, str, strings } from './notes.js';
import type { Requirement } from './tokens.js';

/** A requirement's configuration; what is not known of it is noted. */
export function readRequirement(notes: Notes, o: JsonObject, at: string): Requirement {
  if (has(o, 'provider_name')) return { kind: 'provider', provider: str(o, 'provider_name'), audiences: [] };
  const both = obj(o, 'provider_and_audiences');
  if (both) {
    const audiences = strings(both, 'audiences');
    return { kind: 'provider', provider: str(both, 'provider_name'), audiences };
  }
  for (const [key, kind] of [['requires_any', 'any'] as const, ['requires_all', 'all'] as const]) {
    const group = obj(o, key);
    if (!group) continue;
    const of = list(group, 'requirements').map((r, i) => readRequirement(notes, r, `${at}.${key}[${i}]`));
    return { kind, of };
  }
  if (obj(o, 'allow_missing_or_failed')) return { kind: 'allow_failed' };
  if (obj(o, 'allow_missing')) return { kind: 'allow_missing' };
  onlyFields(notes, o, at, []);
  return { kind: 'none' };
}
