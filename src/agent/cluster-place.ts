/** Where a cluster's servers are. */
import { clusterInfo } from '../plan/clusters.js';
import type { Resources } from '../policy/resources.js';

/** The first endpoint of a cluster with addresses; undefined for one that is found by name. */
export function endpointOf(
  resources: Resources,
  name: string,
): { readonly address: string; readonly port: number } | undefined {
  const cluster = resources.clusters.find((c) => c.name === name);
  const info = cluster && clusterInfo(cluster, resources);
  const [endpoint] = info?.endpoints ?? [];
  return endpoint && { address: endpoint.address, port: endpoint.port };
}
