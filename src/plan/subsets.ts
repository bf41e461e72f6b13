/**
 * Subset load balancing, resolved when the files are read: a route's metadata_match and a cluster's lb_subset_config give
 * a cluster of its own, named `cluster|key=value,...`.
 */
import type { JsonObject } from '../policy/resources.js';
import type { ClusterInfo } from './clusters.js';
import type { EndpointInfo } from './endpoints.js';
import { type Balancing, type HostSet, hostSets, serving } from './host-sets.js';
import { HOUR_MS } from './idle-times.js';
import type { ClusterPlan, EndpointPlan } from './ir.js';
import { has, list, type Notes, obj, onlyFields, str, strings } from './notes.js';

/** The criteria (`envoy.lb` metadata) of a metadata_match; inner ones (weighted clusters) win over outer ones. */
export function subsetCriteria(outer: JsonObject | undefined, inner: JsonObject | undefined): JsonObject {
  const of = (m: JsonObject | undefined) => obj(obj(m, 'filter_metadata'), 'envoy.lb') ?? {};
  return { ...of(outer), ...of(inner) };
}

function fits(endpoint: EndpointInfo, wanted: JsonObject): boolean {
  return Object.entries(wanted).every(([k, v]) => endpoint.labels[k] === v);
}

/** What a hash table knows an endpoint by. */
function hashKey(info: ClusterInfo, { address, port, hostname, labels }: EndpointInfo): string {
  if (typeof labels.hash_key === 'string') return labels.hash_key;
  if (info.table?.hostnames) return hostname;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The sets with indexes into `used` instead of into all hosts; undefined where all used hosts take turns. */
function within(sets: readonly HostSet[], used: readonly number[]): readonly HostSet[] | undefined {
  if (sets.length === 1 && sets[0]!.lists.length === 1) return undefined;
  return sets.map(({ share, lists }) => ({
    share,
    lists: lists.map(({ weight, members }) => ({ weight, members: members.map((i) => used.indexOf(i)) })),
  }));
}

function plan(info: ClusterInfo, name: string, endpoints: readonly EndpointInfo[]): ClusterPlan {
  const { panicThreshold, overprovisioning, localityWeights } = info;
  const balancing: Balancing = {
    panicThreshold,
    overprovisioning,
    ...(localityWeights ? { localityWeights } : {}),
    ...(info.table ? { hashing: true } : {}),
  };
  const planOf = (e: EndpointInfo): EndpointPlan => ({
    address: e.address,
    port: e.port,
    weight: e.weight,
    ...(info.table ? { hashKey: hashKey(info, e) } : {}),
  });
  const common = {
    name,
    lb: info.lb,
    ...(info.table ? { table: info.table } : {}),
    ...(info.maxRequests > 0 ? { maxRequests: info.maxRequests } : {}),
    ...(info.idleMs === HOUR_MS ? {} : { idleMs: info.idleMs }),
    ...(info.relay ? { relay: info.relay } : {}),
    ...(info.breaker === undefined ? {} : { breaker: { cluster: info.name, ...info.breaker } }),
  };
  const hosts = endpoints.map((e) => e.state);
  if (info.discovered || info.checked || info.detection) {
    const { detection } = info;
    const followed = {
      cluster: info.name,
      names: info.discovered,
      hosts,
      balancing,
      ...(detection && { detection, all: info.endpoints.map(({ address, port }) => ({ address, port })) }),
    };
    return { ...common, endpoints: endpoints.map(planOf), followed };
  }
  const all = hostSets(hosts, balancing);
  const used = serving(all);
  const sets = within(all, used);
  return { ...common, endpoints: used.map((i) => planOf(endpoints[i]!)), ...(sets ? { sets } : {}) };
}

/**
 * The cluster that a route with these criteria uses; undefined, with reasons in `notes`, if that cannot be said from the
 * files or if no endpoint is left.
 */
export function clusterFor(
  notes: Notes,
  info: ClusterInfo,
  criteria: JsonObject,
  path: string,
): ClusterPlan | undefined {
  const selected = select(notes, info, criteria, path);
  if (selected && selected.endpoints.length === 0 && !selected.followed?.names) {
    notes.add('no-endpoints', `no endpoint of ${selected.name}`, path, info.resource);
    return undefined;
  }
  return selected;
}

function select(notes: Notes, info: ClusterInfo, criteria: JsonObject, path: string): ClusterPlan | undefined {
  const config = obj(info.resource, 'lb_subset_config');
  const selectors = list(config, 'subset_selectors');
  if (!config || selectors.length === 0) return plan(info, info.name, info.endpoints);
  const before = notes.reasons.length;
  onlyFields(notes, config, 'lb_subset_config', [
    'fallback_policy',
    'default_subset',
    'subset_selectors',
    'locality_weight_aware',
  ]);
  for (const value of [...Object.values(criteria), ...info.endpoints.flatMap((e) => Object.values(e.labels))]) {
    if (typeof value === 'object') notes.add('subset-lb', 'labels that are not scalar', path, info.resource);
  }
  const keys = Object.keys(criteria).sort();
  const selector = selectors.find((s) => strings(s, 'keys').slice().sort().join('\0') === keys.join('\0'));
  if (selector) {
    onlyFields(notes, selector, 'lb_subset_config.subset_selectors', ['keys', 'fallback_policy']);
    const own = str(selector, 'fallback_policy');
    if (own !== '' && own !== 'NOT_DEFINED')
      notes.add('subset-lb', `a selector with fallback policy ${own}`, 'lb_subset_config.subset_selectors', selector);
  }
  if (notes.reasons.length > before) return undefined;
  if (selector && keys.length > 0) {
    const members = info.endpoints.filter((e) => fits(e, criteria));
    const name = `${info.name}|${keys.map((k) => `${k}=${String(criteria[k])}`).join(',')}`;
    if (members.length > 0) return plan(info, name, members);
  }
  switch (str(config, 'fallback_policy') || 'NO_FALLBACK') {
    case 'ANY_ENDPOINT':
      return plan(info, info.name, info.endpoints);
    case 'DEFAULT_SUBSET': {
      const subset = obj(config, 'default_subset') ?? {};
      const members = has(config, 'default_subset') ? info.endpoints.filter((e) => fits(e, subset)) : info.endpoints;
      return plan(info, `${info.name}|default`, members);
    }
    default:
      notes.add('no-endpoints', 'no endpoint has these labels and there is no fallback', path, info.resource);
      return undefined;
  }
}
