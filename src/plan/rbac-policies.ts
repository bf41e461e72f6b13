/** Which policies a check is made of. Kept beside the plan, which only needs to know whether any of them matches. */
import type { Position } from '../policy/diagnostics.js';
import type { JsonObject } from '../policy/resources.js';
import type { Condition, RbacCheck } from './ir.js';
import type { Notes } from './notes.js';

/** One policy of an RBAC filter. */
export interface PolicyPart {
  readonly name: string;
  readonly condition: Condition;
  readonly position?: Position;
}

const known = new WeakMap<RbacCheck, readonly PolicyPart[]>();

/** Says what policies a check is made of. */
export function rememberPolicies(check: RbacCheck, parts: readonly PolicyPart[]): void {
  known.set(check, parts);
}

/** The policies of a check; a single one without a name if nobody has said. */
export function policiesOf(check: RbacCheck): readonly PolicyPart[] {
  return known.get(check) ?? [{ name: '', condition: check.condition }];
}

/** The place of a policy in the user's files. */
export function placeOf(notes: Notes, policy: JsonObject): { position?: Position } {
  const position = notes.provenance.get(policy);
  return position ? { position } : {};
}
