/** Which headers rules look at: a request that repeats one of them is the proxy's. */
import type { Condition, ListenerPlan, Piece, RbacCheck, VirtualHostPlan } from './ir.js';
import { answerEdits } from './results.js';

function ofCondition(c: Condition, into: Set<string>): void {
  if (c.op === 'test' && c.predicate.field.kind === 'header') into.add(c.predicate.field.name);
  if (c.op === 'not') ofCondition(c.of, into);
  if (c.op === 'and' || c.op === 'or') for (const p of c.of) ofCondition(p, into);
}

function ofPieces(pieces: readonly Piece[], into: Set<string>): void {
  for (const p of pieces) if (p.kind === 'header') into.add(p.name);
}

function ofChecks(checks: readonly RbacCheck[], into: Set<string>): void {
  for (const { condition, reply } of checks) {
    ofCondition(condition, into);
    if (reply?.kind === 'reply') for (const { value } of reply.headers) ofPieces(value, into);
  }
}

/** Names (lower case) of the headers that the listener's checks, and the routes of the host, look at or copy from. */
export function headersLookedAt(listener: ListenerPlan, host: VirtualHostPlan | undefined): Set<string> {
  const found = new Set<string>();
  ofChecks(listener.rbac, found);
  for (const { match, rbac, action } of host?.routes ?? []) {
    if (match) ofCondition(match, found);
    ofChecks(rbac ?? [], found);
    if (action.kind === 'reply') for (const { value } of action.headers) ofPieces(value, found);
    if (action.kind === 'forward') for (const { value } of answerEdits(action)) ofPieces(value, found);
  }
  return found;
}
