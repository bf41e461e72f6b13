/** What access logs need of each rule, as memory that goes from thread to thread without being copied. */
import { deserialize, serialize } from 'node:v8';
import type { ListenerPlan, Plan } from '../plan/ir.js';
import { replyDetails } from '../plan/reply-details.js';
import type { LoggedListener, LoggedRoute } from './policy.js';

/**
 * What access logs need of the listeners that have some.
 * @param rules ids of routes in the order of the image's rules
 */
export function loggedListeners(plan: Plan, rules: readonly string[]): LoggedListener[] {
  return plan.listeners.flatMap((listener) => (listener.log ? [logged(listener, rules)] : []));
}

function logged(listener: ListenerPlan, rules: readonly string[]): LoggedListener {
  const routes = new Map(listener.virtualHosts.flatMap((host) => host.routes.map((route) => [route.id, route])));
  const parts = rules.map((id) => {
    const route = routes.get(id);
    if (!route) return Buffer.alloc(0);
    const { action, guard, routeName, operation } = route;
    const kept: LoggedRoute = {
      action,
      ...(guard ? { guard } : {}),
      ...(routeName === undefined ? {} : { routeName }),
      ...(operation === undefined ? {} : { operation }),
    };
    return serialize(kept);
  });
  const offsets = new Uint32Array(parts.length + 1);
  parts.forEach((part, i) => {
    offsets[i + 1] = offsets[i]! + part.length;
  });
  const bytes = new Uint8Array(offsets.at(-1)!);
  parts.forEach((part, i) => {
    bytes.set(part, offsets[i]);
  });
  return {
    listener: { ...listener, virtualHosts: [], rbac: [] },
    details: replyDetails(listener),
    routes: bytes,
    offsets,
  };
}

/** The route of rule `index`; undefined: it is none of this listener's. */
export function loggedRoute({ routes, offsets }: LoggedListener, index: number): LoggedRoute | undefined {
  const [begin, end] = [offsets[index], offsets[index + 1]];
  if (begin === undefined || end === undefined || begin === end) return undefined;
  return deserialize(routes.subarray(begin, end)) as LoggedRoute;
}
