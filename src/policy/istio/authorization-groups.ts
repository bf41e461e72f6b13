/**
 * Policies that select only some of a cluster's servers. Which server a request goes to is only known once it is
 * chosen, so the cluster is split into one for each group of servers with the same policies, and routes choose among
 * them by the number of servers: every server keeps its share, and every request is judged by its server's policies.
 */
import type { JsonObject } from '../resources.js';
import type { ClusterInfo } from './clusters.js';

const UNLIMITED = 4294967295;
const MAX_WEIGHT = 4294967295;

/** True if the cluster can be split without changing what else is decided by looking at it as a whole. */
export function canSplit(cluster: ClusterInfo): boolean {
  const { json } = cluster;
  // A hash must see all servers; limits and ejection percentages are about all of them together.
  if (json.lb_policy === 'RING_HASH' || json.lb_policy === 'MAGLEV' || json.outlier_detection) return false;
  const thresholds = ((json.circuit_breakers as JsonObject | undefined)?.thresholds as JsonObject[] | undefined) ?? [];
  return thresholds.every((t) =>
    Object.entries(t).every(([key, value]) => key === 'track_remaining' || value === UNLIMITED),
  );
}

/** The part of a cluster with these of its endpoints. */
export function partOf(cluster: ClusterInfo, name: string, indexes: readonly number[]): ClusterInfo {
  const assignment = cluster.json.load_assignment as JsonObject;
  const [locality] = (assignment.endpoints as JsonObject[] | undefined) ?? [];
  const all = (locality?.lb_endpoints as JsonObject[] | undefined) ?? [];
  const own = indexes.map((index) => all[index]).filter((endpoint) => endpoint !== undefined);
  const json = { ...cluster.json, name, load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: own }] } };
  const endpoints = indexes.map((index) => cluster.endpoints[index]).filter((endpoint) => endpoint !== undefined);
  return { ...cluster, name, json, endpoints };
}

const share = (cluster: ClusterInfo) => cluster.endpoints.reduce((sum, endpoint) => sum + (endpoint.weight ?? 1), 0);
const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/**
 * Replaces clusters of a route's action by their parts.
 *
 * @param parts the parts of a cluster, or undefined for one that stays whole
 * @returns false if the weights cannot be expressed; the action is left as it was
 */
export function splitAction(
  action: JsonObject,
  parts: (cluster: string) => readonly ClusterInfo[] | undefined,
): boolean {
  const weighted = (action.weighted_clusters as JsonObject | undefined)?.clusters as JsonObject[] | undefined;
  const before = weighted ?? [{ name: action.cluster ?? '', weight: 1 }];
  const split = before.map((entry) => ({ entry, into: parts(String(entry.name)) }));
  if (split.every(({ into }) => into === undefined)) return true;
  const total = (into: readonly ClusterInfo[] | undefined) => into?.reduce((sum, part) => sum + share(part), 0) ?? 1;
  // Every entry is cut into a whole number of pieces of the same size.
  const pieces = split.reduce((lcm, { into }) => (lcm * total(into)) / gcd(lcm, total(into)), 1);
  const clusters = split.flatMap(({ entry, into }): JsonObject[] => {
    const unit = Number(entry.weight) * (pieces / total(into));
    if (!into) return [{ ...entry, weight: unit }];
    return into.map((part) => ({ ...entry, name: part.name, weight: unit * share(part) }));
  });
  if (clusters.reduce((sum, cluster) => sum + Number(cluster.weight), 0) > MAX_WEIGHT) return false;
  if (weighted) (action.weighted_clusters as JsonObject).clusters = clusters;
  else {
    delete action.cluster;
    action.weighted_clusters = { clusters };
  }
  return true;
}
