/** Envoy resources -> Plan. */
import type { Resources } from '../policy/resources.js';
import { chainListeners } from './chains.js';
import { clusterInfo } from './clusters.js';
import { connectionPlan, isAboutConnections } from './connections.js';
import type { Environment } from './environment.js';
import { helloPlan, looksAtHellos } from './hellos.js';
import type { ClusterPlan, Plan, Reason } from './ir.js';
import { listenerPlan } from './listeners.js';
import { limitContext } from './local-limits.js';
import { str } from './notes.js';
import { dedupe, type Outcome } from './routes.js';

/** For objects of the resources that were looked at: why they are not offloaded; an empty list: they are. */
export interface Outcomes {
  readonly reasons: ReadonlyMap<object, readonly Reason[]>;
  /** ids in the plan of what became of a route object */
  readonly routeIds: ReadonlyMap<object, readonly string[]>;
}

const outcomes = new WeakMap<Plan, Outcomes>();

/** The outcomes that belong to a plan made by `buildPlan`; undefined for any other plan. */
export function outcomesOf(plan: Plan): Outcomes | undefined {
  return outcomes.get(plan);
}

/** What a plan takes for granted. */
export interface Assumptions {
  /** the kernel speaks HTTP/2, which it does not in this version: such a plan tells what waits for that alone */
  readonly http2?: boolean;
  /** with http2: the plan is for requests of HTTP/2 alone, which the kernel carries to servers of HTTP/2 only */
  readonly streams?: boolean;
  /** environment variables of the proxy; left out: not known, so that what depends on them is the proxy's */
  readonly environment?: Environment;
  /** the proxy is Sidestep's own, so that it can encrypt what the kernel sends to servers, and hand clients' connections on */
  readonly relays?: boolean;
  /** requests are decided where the agent accepts connections, which it does not do for the proxy's */
  readonly atListener?: boolean;
  /** the kernel reads and writes what TLS protects, which it does not, either */
  readonly tls?: boolean;
}

/**
 * Decides for every listener and route of the resources whether the kernel can do what they say. Never throws for what
 * users write: what is not understood becomes a proxy verdict with reasons.
 */
export function buildPlan(resources: Resources, assumed: Assumptions = {}): Plan {
  const found = new Map<object, Reason[]>();
  const routeIds = new Map<object, string[]>();
  const outcome: Outcome = (object, reasons, ids = []) => {
    found.set(object, dedupe([...(found.get(object) ?? []), ...reasons]));
    if (ids.length > 0) routeIds.set(object, [...(routeIds.get(object) ?? []), ...ids]);
  };
  const clusters = new Map(resources.clusters.map((c) => [str(c, 'name'), clusterInfo(c, resources, assumed)]));
  for (const info of clusters.values()) outcome(info.resource, info.notes.reasons);
  const used = new Map<string, ClusterPlan>();
  const connected = new Map<string, ClusterPlan>();
  const limits = limitContext(resources);
  const listeners = resources.listeners.flatMap((l) =>
    isAboutConnections(l)
      ? [
          looksAtHellos(l)
            ? helloPlan(l, resources, clusters, connected, outcome, assumed)
            : connectionPlan(l, resources, clusters, connected, outcome),
        ]
      : chainListeners(l).map((of) => listenerPlan(l, of, resources, clusters, used, outcome, { limits, assumed })),
  );
  for (const [name, cluster] of connected) used.set(name, cluster);
  const plan: Plan = { listeners, clusters: [...used.values()] };
  outcomes.set(plan, { reasons: found, routeIds });
  return plan;
}
