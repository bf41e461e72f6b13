/** The plan's reference evaluator: what happens to one request, and why. Slow and plain on purpose. */

import { findVirtualHost } from './host-names.js';
import type { Plan, RbacCheck, RoutePlan, TokenBucket } from './ir.js';
import { headersLookedAt } from './looked-at.js';
import { oddity } from './oddity.js';
import { type PlanRequest, View } from './request-view.js';
import { DENIED, forward, NOT_FOUND, type Result, reply } from './results.js';

export interface Considered {
  readonly route: RoutePlan;
  readonly outcome: 'matched' | 'not matched' | 'cannot be computed';
  /** the first part of the condition that does not hold */
  readonly failed?: string;
}

export interface Trace {
  readonly listener: string;
  readonly verdict: 'kernel' | 'proxy';
  /** in words */
  readonly why: string;
  readonly virtualHost?: string;
  readonly considered: readonly Considered[];
  readonly winner?: RoutePlan;
  /** for the kernel: what it does */
  readonly result?: Result;
}

/** What the checks of a route (RBAC, faults, limits ...) do with a request. */
type Checked =
  | { readonly kind: 'proxy'; readonly why: string }
  | { readonly kind: 'stopped'; readonly by: RbacCheck }
  /** `perhaps`: what may happen to some such requests, in words */
  | { readonly kind: 'passed'; readonly perhaps: string };

function runChecks(checks: readonly RbacCheck[], view: View): Checked {
  const { random, empty } = view.request;
  let perhaps = '';
  let stop: RbacCheck | undefined;
  // a lot is drawn last, when nothing can lead to the proxy any more
  let struck: RbacCheck | undefined;
  for (const check of checks) {
    if (view.holds(check.condition) === (check.action === 'allow')) continue;
    const { chance, bucket, reply: answer } = check;
    if (bucket) {
      if (empty?.has(bucket.key)) struck ??= check;
      else perhaps += `; a rate limit (${bucketText(bucket)}) stops those that find no token`;
      continue;
    }
    if (chance) {
      const { numerator, denominator } = chance;
      if (random !== undefined && random % denominator < numerator) struck ??= check;
      else if (answer?.kind === 'proxy') perhaps += `; the proxy delays ${numerator} of ${denominator} such requests`;
      else perhaps += `; a filter stops ${numerator} of ${denominator} such requests`;
      continue;
    }
    if (answer?.kind === 'proxy')
      return { kind: 'proxy', why: answer.why ?? 'a filter that the proxy runs looks at such requests' };
    stop = check;
    break;
  }
  const by = struck ?? stop;
  if (by?.reply?.kind === 'proxy') return { kind: 'proxy', why: by.reply.why ?? '' };
  return by ? { kind: 'stopped', by } : { kind: 'passed', perhaps };
}

/** How a request is answered that a check has stopped. */
function refusal({ action, reply: given }: RbacCheck, view: View): Pick<Trace, 'why'> & { readonly result: Result } {
  const answer = given?.kind === 'reply' ? given : undefined;
  const rbac = action === 'allow' ? 'no ALLOW policy matches' : 'a DENY policy matches';
  const why = answer && answer.body !== DENIED.body ? `a filter answers with ${answer.status}` : `RBAC: ${rbac}`;
  return { why, result: answer ? reply(view, answer) : DENIED };
}

/**
 * What the plan says about a request.
 * @throws RangeError if there is no listener of that name
 */
export function evaluate(plan: Plan, request: PlanRequest): Trace {
  const listener =
    request.listener === undefined ? plan.listeners[0] : plan.listeners.find((l) => l.name === request.listener);
  if (!listener) throw new RangeError(`no listener ${request.listener ?? ''}`);
  const view = new View(request);
  const considered: Considered[] = [];
  const base = { listener: listener.name, considered };
  const proxy = (why: string, more: Partial<Trace> = {}): Trace => ({ ...base, ...more, verdict: 'proxy', why });
  if (!listener.offloaded)
    return proxy(`the listener is left to the proxy: ${listener.reasons.map((r) => r.message).join('; ')}`);
  const odd = oddity(listener, view);
  if (odd !== undefined) return proxy(`requests of this form go to the proxy: ${odd}`);

  const vhost = findVirtualHost(listener, view.host);
  const named = vhost ? { virtualHost: vhost.name } : {};
  const repeated = [...headersLookedAt(listener, vhost)].find((name) => (view.headers.get(name)?.length ?? 0) > 1);
  if (repeated !== undefined) return proxy(`the header ${repeated}, which a rule looks at, is repeated`, named);

  let winner: RoutePlan | undefined;
  for (const route of vhost?.routes ?? []) {
    if (route.match === undefined) {
      considered.push({ route, outcome: 'cannot be computed' });
      return proxy(`whether ${route.name} matches is known to the proxy only`, { ...named, winner: route });
    }
    if (view.holds(route.match)) {
      considered.push({ route, outcome: 'matched' });
      winner = route;
      break;
    }
    considered.push({ route, outcome: 'not matched', failed: view.failed(route.match) });
  }
  const found = { ...named, ...(winner ? { winner } : {}) };
  if (winner?.action.kind === 'proxy') return proxy(winner.reasons.map((r) => r.message).join('; '), found);
  const checked = runChecks(winner?.rbac ?? listener.rbac, view);
  if (checked.kind === 'proxy') return proxy(checked.why, found);
  if (checked.kind === 'stopped') return { ...base, ...found, verdict: 'kernel', ...refusal(checked.by, view) };
  if (!winner) {
    const why = vhost && vhost.name !== '' ? 'no route matches' : 'no virtual host matches';
    const result = listener.notFound ? reply(view, listener.notFound) : NOT_FOUND;
    return { ...base, ...found, verdict: 'kernel', why, result };
  }
  const { action } = winner;
  const result = action.kind === 'forward' ? forward(listener, view, action) : reply(view, action);
  return { ...base, ...found, verdict: 'kernel', why: `the route ${winner.name} matches${checked.perhaps}`, result };
}

/** A bucket in words. */
function bucketText({ maxTokens, tokensPerFill, fillMs }: TokenBucket): string {
  return `${maxTokens} at once, ${tokensPerFill} every ${fillMs} ms`;
}
