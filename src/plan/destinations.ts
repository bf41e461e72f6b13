/** Where a RouteAction sends requests. */
import type { JsonObject } from '../policy/resources.js';
import type { ListenerContext } from './actions.js';
import type { ClusterInfo } from './clusters.js';
import { CLUSTER_EDITS } from './header-edits.js';
import type { ClusterPlan } from './ir.js';
import { has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';
import { clusterFor, subsetCriteria } from './subsets.js';

/** Where clusters are looked up. */
interface Known {
  readonly listener: Pick<ListenerContext, 'clusters'>;
}

/** One cluster that requests may go to. */
export interface Choice {
  readonly info: ClusterInfo;
  readonly cluster: ClusterPlan;
  readonly weight: number;
}

function resolve(notes: Notes, ctx: Known, name: string, criteria: JsonObject, path: string, owner: JsonObject) {
  const info = ctx.listener.clusters.get(name);
  if (!info) {
    notes.add('cluster-unknown', `no cluster ${name} is defined`, path, owner);
    return undefined;
  }
  for (const r of info.notes.reasons) {
    const reason = { ...r, field: `cluster ${name}: ${r.field}` };
    if (!notes.reasons.some((have) => have.field === reason.field && have.message === reason.message))
      notes.reasons.push(reason);
  }
  const cluster = info.notes.clean ? clusterFor(notes, info, criteria, path) : undefined;
  return cluster && { cluster, info };
}

/**
 * The clusters of a RouteAction with their weights (those of weight 0 are left out). What cannot be resolved from the
 * files becomes a reason.
 */
export function choices(notes: Notes, ctx: Known, action: JsonObject, path: string): Choice[] {
  const outer = obj(action, 'metadata_match');
  if (str(action, 'cluster') !== '') {
    const cluster = resolve(
      notes,
      ctx,
      str(action, 'cluster'),
      subsetCriteria(outer, undefined),
      join(path, 'cluster'),
      action,
    );
    return cluster ? [{ ...cluster, weight: 1 }] : [];
  }
  const weighted = obj(action, 'weighted_clusters');
  if (!weighted) {
    const how = ['cluster_header', 'cluster_specifier_plugin', 'inline_cluster_specifier_plugin'].find((k) =>
      has(action, k),
    );
    notes.add(
      'cluster-unknown',
      `the cluster is chosen by ${how ?? 'nothing'}`,
      join(path, how ?? 'cluster'),
      action,
      how,
    );
    return [];
  }
  const at = join(path, 'weighted_clusters');
  onlyFields(notes, weighted, at, ['clusters', 'total_weight']);
  const found: Choice[] = [];
  let total = 0;
  list(weighted, 'clusters').forEach((c, i) => {
    const where = `${at}.clusters[${i}]`;
    onlyFields(notes, c, where, ['name', 'weight', 'metadata_match', ...CLUSTER_EDITS]);
    const weight = num(c, 'weight');
    total += weight;
    if (weight === 0) return;
    const cluster = resolve(
      notes,
      ctx,
      str(c, 'name'),
      subsetCriteria(outer, obj(c, 'metadata_match')),
      join(where, 'name'),
      c,
    );
    if (cluster) found.push({ ...cluster, weight });
  });
  if (has(weighted, 'total_weight') && num(weighted, 'total_weight') !== total) {
    notes.add(
      'route-action',
      'total_weight is not the sum of the weights',
      join(at, 'total_weight'),
      weighted,
      'total_weight',
    );
  }
  if (total === 0) notes.add('route-action', 'all weights are zero', at, weighted);
  return found;
}
