/** Outlier detection of a cluster (config.cluster.v3.OutlierDetection), as far as the agent can do it for the proxy. */
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import type { EndpointSet } from './endpoints.js';
import { bool, durationMs, isObject, list, type Notes, num, obj, onlyFields } from './notes.js';
import { runtimeMayChange } from './runtime.js';

/** When endpoints are ejected for failures in a row, and for how long. Probabilities in percent, times in milliseconds. */
export interface Detection {
  /** failures in a row that eject; 0: any number is fine */
  readonly consecutive5xx: number;
  readonly enforcing5xx: number;
  readonly consecutiveGateway: number;
  readonly enforcingGateway: number;
  readonly interval: number;
  readonly baseEjection: number;
  readonly maxEjection: number;
  /** percent of the cluster's hosts that may be ejected at a time */
  readonly maxPercent: number;
  readonly alwaysOne: boolean;
}

const FIELD = 'outlier_detection';
/** Envoy's defaults. */
const MAX_EJECTION_PERCENT = 10;
const FAILURES = 5;
const MINIMUM_HOSTS = 5;
const INTERVAL = 10_000;
const BASE_EJECTION = 30_000;
const MAX_EJECTION = 300_000;

const UNDERSTOOD = [
  'consecutive_5xx',
  'enforcing_consecutive_5xx',
  'consecutive_gateway_failure',
  'enforcing_consecutive_gateway_failure',
  'interval',
  'base_ejection_time',
  'max_ejection_time',
  'max_ejection_percent',
  'always_eject_one_host',
  // about detectors that must not be able to act here
  'enforcing_success_rate',
  'success_rate_minimum_hosts',
  'success_rate_request_volume',
  'success_rate_stdev_factor',
  'enforcing_failure_percentage',
  'failure_percentage_minimum_hosts',
  'failure_percentage_request_volume',
  'failure_percentage_threshold',
  // only where local failures are told from others
  'consecutive_local_origin_failure',
  'enforcing_consecutive_local_origin_failure',
  'enforcing_local_origin_success_rate',
  'enforcing_failure_percentage_local_origin',
  'split_external_local_origin_errors',
  'max_ejection_time_jitter',
  // about active health checks
  'successful_active_health_check_uneject_host',
];

function maxPercent(config: JsonObject | undefined): number {
  return Math.min(num(config, 'max_ejection_percent', MAX_EJECTION_PERCENT), 100);
}

/**
 * Whether outlier detection can never take an endpoint out: already the first one would be a larger part of the cluster
 * than may be ejected (Envoy: DetectorImpl::ejectHost). So it is for clusters of less than ten endpoints by default.
 */
function neverEjects(config: JsonObject, set: EndpointSet, resources: Resources): boolean {
  // how many there are is not known beforehand
  if (runtimeMayChange(resources.bootstrap, FIELD) || set.discovered || set.all === 0) return false;
  return !bool(config, 'always_eject_one_host') && 100 / set.all > maxPercent(config);
}

/** Names of clusters that something else than a route's own traffic may go to: those tries are reported to nobody. */
function otherwiseUsed(resources: Resources): Set<string> {
  const found = new Set<string>();
  /** @param about a key around the value speaks of clusters, so any string may be the name of one */
  const walk = (value: Json | undefined, about: boolean): void => {
    if (typeof value === 'string' && about) found.add(value);
    else if (Array.isArray(value)) for (const item of value) walk(item, about);
    else if (isObject(value))
      for (const [key, item] of Object.entries(value)) {
        if (key !== 'route' || !isObject(item)) {
          walk(item, about || key.includes('cluster'));
          continue;
        }
        const { cluster: _, weighted_clusters: weighted, ...rest } = item;
        walk(rest, about);
        for (const { name: __, ...choice } of list(isObject(weighted) ? weighted : undefined, 'clusters'))
          walk(choice, about);
      }
  };
  const { static_resources: _, ...rest } = resources.bootstrap;
  for (const part of [...resources.listeners, ...resources.routeConfigs, rest]) walk(part, false);
  for (const cluster of resources.clusters) walk(cluster.cluster_type, true);
  return found;
}

const uses = new WeakMap<Resources, Set<string>>();

/**
 * Reads the outlier detection of a cluster. What the agent cannot do becomes a reason.
 * @returns undefined where nothing is ever ejected, and with a reason
 */
export function detectionOf(
  notes: Notes,
  cluster: JsonObject,
  set: EndpointSet,
  checked: boolean,
  resources: Resources,
): Detection | undefined {
  const config = obj(cluster, FIELD);
  if (!config || neverEjects(config, set, resources)) return undefined;
  const before = notes.reasons.length;
  const note = (message: string, key?: string) =>
    notes.add('outlier-detection', message, key ? `${FIELD}.${key}` : FIELD, key ? config : cluster, key ?? FIELD);
  onlyFields(notes, config, FIELD, UNDERSTOOD);
  if (runtimeMayChange(resources.bootstrap, FIELD)) note('outliers are ejected, and runtime layers may say how');
  if (set.discovered) note('outliers are ejected among endpoints that are looked up');
  if (checked) note('outliers are ejected among endpoints that are checked actively');
  if (bool(config, 'split_external_local_origin_errors'))
    note('local failures are told from others', 'split_external_local_origin_errors');
  if ((durationMs(config, 'max_ejection_time_jitter') ?? 0) > 0)
    note('the time of an ejection is random', 'max_ejection_time_jitter');
  if (
    set.all >= num(config, 'success_rate_minimum_hosts', MINIMUM_HOSTS) &&
    num(config, 'enforcing_success_rate', 100) > 0
  )
    note('success rates may eject', 'enforcing_success_rate');
  if (
    set.all >= num(config, 'failure_percentage_minimum_hosts', MINIMUM_HOSTS) &&
    num(config, 'enforcing_failure_percentage') > 0
  )
    note('failure percentages may eject', 'enforcing_failure_percentage');
  const others = uses.get(resources) ?? otherwiseUsed(resources);
  uses.set(resources, others);
  if (others.has(String(cluster.name))) note('outliers are ejected, and not only routes lead to the cluster');
  if (notes.reasons.length > before) return undefined;
  const baseEjection = durationMs(config, 'base_ejection_time') ?? BASE_EJECTION;
  return {
    consecutive5xx: num(config, 'consecutive_5xx', FAILURES),
    enforcing5xx: num(config, 'enforcing_consecutive_5xx', 100),
    consecutiveGateway: num(config, 'consecutive_gateway_failure', FAILURES),
    enforcingGateway: num(config, 'enforcing_consecutive_gateway_failure', 0),
    interval: durationMs(config, 'interval') ?? INTERVAL,
    baseEjection,
    maxEjection: Math.max(baseEjection, durationMs(config, 'max_ejection_time') ?? MAX_EJECTION),
    maxPercent: maxPercent(config),
    alwaysOne: bool(config, 'always_eject_one_host'),
  };
}
