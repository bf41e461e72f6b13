/** What %RESPONSE_CODE_DETAILS% of replies can be, beside what their origin says. */
import type { ListenerPlan } from './ir.js';

/** Details of a listener's replies, in an order that only depends on the plan: programs tell them by their place in it. */
export function replyDetails({ rbac, virtualHosts }: Pick<ListenerPlan, 'rbac' | 'virtualHosts'>): string[] {
  const checks = [...rbac, ...virtualHosts.flatMap(({ routes }) => routes.flatMap((route) => route.rbac ?? []))];
  const all = checks.flatMap(({ reply }) => (reply?.kind === 'reply' && reply.details ? [reply.details] : []));
  return [...new Set(all)].sort();
}
