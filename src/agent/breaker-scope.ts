/** Which circuit breakers kernel and proxy can keep together: those of clusters whose requests the agent sees end. */
import type { Plan } from '../plan/ir.js';
import { asObject, asObjects, asString, clusterReferences, connectionManagers } from '../policy/envoy/walk.js';
import type { Resources } from '../policy/resources.js';

/**
 * Whether a cluster gets requests that the agent does not see end: from listeners that are the proxy's as a whole, from
 * clients of inbound listeners, and copies of requests. So are all clusters where something is logged.
 */
export function usedElsewhere(resources: Resources, plan: Plan): (cluster: string) => boolean {
  if (!plan.clusters.some(({ breaker }) => breaker)) return () => false;
  // an access log calls what the agent refuses denied, not overflown
  if (plan.listeners.some(({ log }) => log)) return () => true;
  const offloaded = new Set(plan.listeners.filter((l) => l.offloaded).map((l) => l.name));
  const text = JSON.stringify([resources.listeners, resources.routeConfigs]);
  if (
    plan.listeners.some(({ relay }) => relay) ||
    resources.intercepts.some((i) => i.inbound) ||
    text.includes('request_mirror_policies')
  )
    return () => true;
  const named = new Set<string>();
  for (const listener of resources.listeners) {
    if (offloaded.has(asString(listener.name))) continue;
    for (const hcm of connectionManagers(listener)) {
      const rds = asObject(hcm.rds)?.route_config_name;
      const config = asObject(hcm.route_config) ?? resources.routeConfigs.find((c) => c.name === rds);
      for (const host of asObjects(config?.virtual_hosts))
        for (const route of asObjects(host.routes)) for (const { name } of clusterReferences(route)) named.add(name);
    }
  }
  return (cluster) => named.has(cluster);
}
