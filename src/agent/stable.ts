/** Listeners' places in an image. */
import { NO_REQUESTS } from '../plan/connections.js';
import type { ListenerPlan, Plan } from '../plan/ir.js';

/** Connections remember their listener by index, so a listener keeps its place even when others come and go. */
export function stable(plan: Plan, index: ReadonlyMap<string, number>): Plan {
  const absent = (name: string): ListenerPlan => ({
    name,
    proxyAddress: { address: '0.0.0.0', port: 0 },
    offloaded: false,
    reasons: [],
    ...NO_REQUESTS,
  });
  const byName = new Map(plan.listeners.map((l) => [l.name, l]));
  const names = [...index.entries()].sort((a, b) => a[1] - b[1]).map(([name]) => name);
  return { ...plan, listeners: names.map((name) => byName.get(name) ?? absent(name)) };
}
