/** Envoy resources -> Plan. */
import type { Resources } from '../policy/resources.js';
import { clusterInfo } from './clusters.js';
import type { ClusterPlan, Plan, Reason } from './ir.js';
import { listenerPlan } from './listeners.js';
import { str } from './notes.js';
import { dedupe, type Outcome } from './routes.js';

/** For objects of the resources that were looked at: why they are not offloaded; an empty list: they are. */
export type Outcomes = ReadonlyMap<object, readonly Reason[]>;

const outcomes = new WeakMap<Plan, Outcomes>();

/** The outcomes that belong to a plan made by `buildPlan`. */
export function outcomesOf(plan: Plan): Outcomes {
  return outcomes.get(plan) ?? new Map();
}

/**
 * Decides for every listener and route of the resources whether the kernel can do what they say. Never throws for what
 * users write: what is not understood becomes a proxy verdict with reasons.
 */
export function buildPlan(resources: Resources): Plan {
  const found = new Map<object, Reason[]>();
  const outcome: Outcome = (object, reasons) => {
    if (typeof object === 'object' && object !== null)
      found.set(object, dedupe([...(found.get(object) ?? []), ...reasons]));
  };
  const clusters = new Map(resources.clusters.map((c) => [str(c, 'name'), clusterInfo(c, resources)]));
  for (const info of clusters.values()) outcome(info.resource, info.notes.reasons);
  const used = new Map<string, ClusterPlan>();
  const listeners = resources.listeners.map((l) => listenerPlan(l, resources, clusters, used, outcome));
  const plan: Plan = { listeners, clusters: [...used.values()] };
  outcomes.set(plan, found);
  return plan;
}
