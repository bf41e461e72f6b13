/** Routes for connections as structures of the image. */
import { ACTION, ActionSpec, MAX_CLUSTERS, WeightedClusterSpec } from '../layout/actions.js';
import { RouteSpec } from '../layout/image.js';
import type { ConnectionRoute } from '../plan/ir.js';
import type { Blob } from './blob.js';
import type { Clusters } from './clusters.js';
import type { Refusal } from './refusals.js';

/**
 * Stores where the connections to a listener go.
 * @param rule the index that they are counted under
 * @returns the offset of a route, or why the proxy must choose. @throws ImageFull
 */
export function storeConnections(
  blob: Blob,
  clusters: Clusters,
  { clusters: choices }: ConnectionRoute,
  rule: number,
): number | Refusal {
  if (choices.length === 0 || choices.length > MAX_CLUSTERS)
    return { code: 'budget', message: `${choices.length} clusters to choose from` };
  const weighted: Record<string, number>[] = [];
  for (const { cluster, weight } of choices) {
    const at = clusters.store(cluster);
    if (typeof at !== 'number') return at;
    weighted.push({ cluster: at, weight });
  }
  const action = blob.structs(ActionSpec, [
    {
      kind: ACTION.FORWARD,
      clusters: blob.structs(WeightedClusterSpec, weighted),
      n_clusters: weighted.length,
      total_weight: choices.reduce((sum, { weight }) => sum + weight, 0),
    },
  ]);
  return blob.structs(RouteSpec, [{ action, rule }]);
}
