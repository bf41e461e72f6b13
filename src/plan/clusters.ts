/** envoy.config.cluster.v3.Cluster -> endpoints and how one is chosen. */
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import type { Assumptions } from './build.js';
import { type EndpointInfo, type EndpointSet, endpointSet } from './endpoints.js';
import { keepsCase } from './header-case.js';
import { upstreamIdleMs } from './idle-times.js';
import type { Breaker, ClusterPlan, RelayPlan } from './ir.js';
import { lbPolicy } from './lb-policy.js';
import { anyType, bool, has, isObject, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { type Detection, detectionOf } from './outliers.js';
import { runtimeMayChange } from './runtime.js';
import { serverNotes } from './streams.js';
import { upstreamRelay } from './upstream-tls.js';

/** A cluster as far as it is understood; offloadable only if the notes are clean. */
export interface ClusterInfo {
  readonly name: string;
  readonly resource: JsonObject;
  readonly notes: Notes;
  readonly lb: ClusterPlan['lb'];
  readonly endpoints: readonly EndpointInfo[];
  /** the proxy finds the endpoints out while it runs */
  readonly discovered: boolean;
  /** the proxy checks the endpoints' health */
  readonly checked: boolean;
  /** endpoints that fail are ejected for a while */
  readonly detection?: Detection;
  readonly panicThreshold: number;
  readonly overprovisioning: number;
  readonly localityWeights?: readonly number[];
  /** requests after which a connection is closed, 0: any number */
  readonly maxRequests: number;
  /** how long connections may be idle; 0: for ever */
  readonly idleMs: number;
  /** how many requests may be in flight; undefined: any number */
  readonly breaker?: Omit<Breaker, 'cluster'>;
  /** retries that may be under way at a time */
  readonly maxRetries: number;
  /** consistent hashing: how the table is built */
  readonly table: ClusterPlan['table'];
  /** connections to the endpoints lead through this relay */
  readonly relay?: RelayPlan;
  /** configurations of RBAC filters that run on the request as it leaves */
  readonly upstreamRbac: readonly JsonObject[];
  /** names of headers keep their spelling */
  readonly keepsCase: boolean;
}

/** Envoy's thresholds where nothing is said. */
const DEFAULT_THRESHOLD = 1024;

const KNOWN = [
  'name',
  'alt_stat_name',
  'type',
  'cluster_type',
  'eds_cluster_config',
  'connect_timeout',
  'load_assignment',
  'lb_policy',
  'load_balancing_policy',
  'lb_subset_config',
  'least_request_lb_config',
  'round_robin_lb_config',
  'common_lb_config',
  'per_connection_buffer_limit_bytes',
  'metadata',
  'dns_lookup_family',
  'dns_refresh_rate',
  'dns_failure_refresh_rate',
  'respect_dns_ttl',
  'dns_jitter',
  'typed_dns_resolver_config',
  'wait_for_warm_on_init',
  'ignore_health_on_host_removal',
  'close_connections_on_host_health_failure',
  'cleanup_interval',
  'upstream_connection_options',
  'typed_extension_protocol_options',
  'transport_socket',
  'circuit_breakers',
  'health_checks',
  'outlier_detection',
  // how connections are opened, which the fast path does on demand
  'preconnect_policy',
  'track_cluster_stats',
  'ring_hash_lb_config',
  'maglev_lb_config',
  'use_tcp_for_dns_lookups',
  'dns_resolution_config',
  'dns_resolvers',
  // the deprecated ways to say a protocol and its options
  'http_protocol_options',
  'http2_protocol_options',
  'common_http_protocol_options',
  'upstream_http_protocol_options',
];

const RBAC = 'envoy.extensions.filters.http.rbac.v3.RBAC';
const CODEC = 'envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec';

/** Upstream HTTP filters: RBAC filters are understood, and the codec that ends the chain. */
function upstreamFilters(notes: Notes, options: JsonObject, at: string): JsonObject[] {
  const found: JsonObject[] = [];
  list(options, 'http_filters').forEach((filter, i) => {
    const where = `${at}.http_filters[${i}]`;
    onlyFields(notes, filter, where, ['name', 'typed_config']);
    const config = obj(filter, 'typed_config');
    const type = anyType(config);
    if (type === RBAC) found.push(config!);
    else if (type !== CODEC)
      notes.add('http-filter', `the upstream filter ${str(filter, 'name')} is run by the proxy`, where, filter);
  });
  return found;
}

function protocolOptions(notes: Notes, cluster: JsonObject, http2: boolean) {
  const rbac: JsonObject[] = [];
  let spelling = false;
  const path = 'typed_extension_protocol_options';
  for (const [key, value] of Object.entries(obj(cluster, path) ?? {})) {
    const at = join(path, `["${key}"]`);
    if (!isObject(value) || anyType(value) !== 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions') {
      notes.add('unsupported-field', `unknown protocol options ${key}`, at, cluster, path);
      continue;
    }
    onlyFields(notes, value, at, [
      'explicit_http_config',
      'use_downstream_protocol_config',
      'common_http_protocol_options',
      'upstream_http_protocol_options',
      'http_filters',
    ]);
    rbac.push(...upstreamFilters(notes, value, at));
    connectionOptions(notes, value, at);
    const choice = obj(value, 'explicit_http_config') ?? obj(value, 'use_downstream_protocol_config') ?? {};
    if (obj(value, 'explicit_http_config') && !has(choice, 'http_protocol_options')) {
      const two = has(choice, 'http2_protocol_options');
      const message = `the endpoints speak HTTP/${two ? 2 : 3}`;
      if (!two || !http2) notes.add('upstream-protocol', message, join(at, 'explicit_http_config'), value);
      continue;
    }
    if (http1Options(notes, choice, at)) spelling = true;
  }
  deprecatedHttp2(notes, cluster, http2);
  return { rbac, spelling };
}

/** The field that said HTTP/2 before there were options by extension, beside which Envoy does not look at it. */
function deprecatedHttp2(notes: Notes, cluster: JsonObject, http2: boolean): void {
  const field = 'http2_protocol_options';
  if (!has(cluster, field)) return;
  const twice = ['typed_extension_protocol_options', 'http_protocol_options'].find((other) => has(cluster, other));
  if (twice) notes.add('unsupported-field', `${field} beside ${twice}`, field, cluster, field);
  else if (!http2) notes.add('upstream-protocol', 'the endpoints speak HTTP/2', field, cluster, field);
}

/**
 * HTTP/1.1 options of connections to endpoints: what changes nothing for requests that the kernel forwards.
 * @returns whether the spelling of names is kept
 */
function http1Options(notes: Notes, owner: JsonObject, at: string): boolean {
  const http1 = obj(owner, 'http_protocol_options');
  // the kernel sends no absolute URLs, and forwards neither HTTP/1.0 nor trailers
  const harmless = ['allow_absolute_url', 'accept_http_10', 'default_host_for_http_10', 'enable_trailers'];
  const path = join(at, 'http_protocol_options');
  if (http1) onlyFields(notes, http1, path, [...harmless, 'header_key_format']);
  return keepsCase(notes, http1, path);
}

/** Options of the connections to endpoints that do not depend on the protocol. */
function connectionOptions(notes: Notes, owner: JsonObject, at: string): void {
  const common = obj(owner, 'common_http_protocol_options');
  if (common)
    onlyFields(notes, common, join(at, 'common_http_protocol_options'), [
      'idle_timeout',
      'max_requests_per_connection',
    ]);
  const upstream = obj(owner, 'upstream_http_protocol_options');
  // about TLS, which such a cluster would have a transport socket for
  if (upstream)
    onlyFields(notes, upstream, join(at, 'upstream_http_protocol_options'), ['auto_sni', 'auto_san_validation']);
}

/** max_requests_per_connection of a cluster; 0: no limit. */
function requestsPerConnection(cluster: JsonObject): number {
  const options = Object.values(obj(cluster, 'typed_extension_protocol_options') ?? {}).filter(isObject);
  const owners = [...options, cluster].map((o) => obj(o, 'common_http_protocol_options'));
  return owners.map((o) => num(o, 'max_requests_per_connection')).find((n) => n > 0) ?? 0;
}

/**
 * How many requests may be in flight, if that is a number that can be reached. Over HTTP/1.1 no more are than there are
 * connections, and what finds none waits (Envoy: ConnPoolImplBase::newStreamImpl).
 */
function circuitBreakers(
  notes: Notes,
  cluster: JsonObject,
  resources: Resources,
  streams: boolean,
): ClusterInfo['breaker'] {
  const breakers = obj(cluster, 'circuit_breakers');
  if (!breakers) return undefined;
  onlyFields(notes, breakers, 'circuit_breakers', ['thresholds']);
  const thresholds = list(breakers, 'thresholds');
  // Envoy takes the first of a priority, and routes of high priority are not offloaded
  const i = thresholds.findIndex((t) => str(t, 'priority') !== 'HIGH');
  const own = thresholds[i];
  if (!own) return undefined;
  const at = `circuit_breakers.thresholds[${i}]`;
  // retries and their budget are carried out, and so counted, by the proxy alone
  const counted = ['max_connections', 'max_pending_requests', 'max_requests', 'max_connection_pools'];
  onlyFields(notes, own, at, ['priority', 'max_retries', 'retry_budget', 'track_remaining', ...counted]);
  const atLeast = (key: string, enough: number): void => {
    if (has(own, key) && num(own, key) < enough)
      notes.add('circuit-breaker', `${key} is ${num(own, key)}`, join(at, key), own, key);
  };
  // 0: no connection but the first of each endpoint; nothing that has to wait for one, so nothing at first
  atLeast('max_connections', 1);
  atLeast('max_pending_requests', streams ? DEFAULT_THRESHOLD : 1);
  atLeast('max_connection_pools', DEFAULT_THRESHOLD);
  const [requests, connections, pending] = ['max_requests', 'max_connections', 'max_pending_requests'].map((key) =>
    num(own, key, DEFAULT_THRESHOLD),
  ) as [number, number, number];
  if (requests >= connections && connections >= DEFAULT_THRESHOLD) return undefined;
  if (runtimeMayChange(resources.bootstrap, 'circuit_breakers'))
    notes.add('circuit-breaker', 'a runtime layer may change thresholds', 'circuit_breakers', breakers);
  return requests < connections ? { most: requests } : { most: connections, waiting: pending };
}

/** Envoy opens a connection to each endpoint whatever is allowed: a limit below their number says nothing of requests. */
function connectionForEach(notes: Notes, cluster: JsonObject, breaker: ClusterInfo['breaker'], endpoints: number) {
  if (breaker?.waiting === undefined || breaker.most >= endpoints) return;
  const message = `max_connections is ${breaker.most} for ${endpoints} endpoints`;
  notes.add('circuit-breaker', message, 'circuit_breakers', cluster, 'circuit_breakers');
}

/** How many retries may be under way at a time (Envoy: 3 unless told otherwise); a budget counts as none. */
function maxRetries(cluster: JsonObject): number {
  const thresholds = list(obj(cluster, 'circuit_breakers'), 'thresholds');
  const own = thresholds.find((t) => str(t, 'priority') !== 'HIGH');
  return has(own, 'retry_budget') ? 0 : num(own, 'max_retries', 3);
}

/** What a load balancing policy cannot do with the endpoints. */
function balanceable(notes: Notes, cluster: JsonObject, lb: ClusterPlan['lb'], set: EndpointSet): void {
  const at = 'load_assignment.endpoints';
  const weights = new Set(set.endpoints.map((e) => e.weight));
  // Envoy divides the weight by the requests under way, in a schedule of its own
  if (lb === 'least_request' && weights.size > 1)
    notes.add('cluster-endpoints', 'endpoints with different weights under least request', at, cluster);
  if (set.discovered && (lb === 'ring_hash' || lb === 'maglev'))
    notes.add('lb-policy', 'a hash table over endpoints that are looked up', 'lb_policy', cluster, 'lb_policy');
  if (set.discovered && has(cluster, 'lb_subset_config'))
    notes.add('subset-lb', 'subsets of endpoints that are looked up', 'lb_subset_config', cluster, 'lb_subset_config');
}

/** A percentage as load balancers take it: rounded. */
function percent(o: Json | undefined, absent: number): number {
  return isObject(o) ? Math.round(num(o, 'value')) : absent;
}

/**
 * Reads one cluster. Whatever keeps it from the kernel is in the notes of the result.
 * @param assumed what keeps nothing from the kernel
 */
export function clusterInfo(cluster: JsonObject, resources: Resources, assumed: Assumptions = {}): ClusterInfo {
  const notes = new Notes(resources.provenance);
  notes.reasons.push(...(resources.left?.get(cluster) ?? []));
  onlyFields(notes, cluster, '', KNOWN);
  const checked = list(cluster, 'health_checks').length > 0;
  if (checked && bool(cluster, 'close_connections_on_host_health_failure'))
    notes.add(
      'health-check',
      'connections to endpoints that fail a health check are closed',
      'close_connections_on_host_health_failure',
      cluster,
      'close_connections_on_host_health_failure',
    );
  const relay = assumed.tls ? undefined : upstreamRelay(notes, cluster, assumed.relays === true);
  const spelling = http1Options(notes, cluster, '');
  connectionOptions(notes, cluster, '');
  const connection = obj(cluster, 'upstream_connection_options');
  if (connection)
    onlyFields(notes, connection, 'upstream_connection_options', [
      'tcp_keepalive',
      'set_local_interface_name_on_upstream_connections',
    ]);
  const common = obj(cluster, 'common_lb_config');
  if (common) {
    onlyFields(notes, common, 'common_lb_config', [
      'healthy_panic_threshold',
      'zone_aware_lb_config',
      'locality_weighted_lb_config',
      'consistent_hashing_lb_config',
      'update_merge_window',
      'close_connections_on_host_set_change',
    ]);
    const zone = obj(common, 'zone_aware_lb_config');
    const hashing = obj(common, 'consistent_hashing_lb_config');
    if (hashing)
      onlyFields(notes, hashing, 'common_lb_config.consistent_hashing_lb_config', ['use_hostname_for_hashing']);
    if (bool(zone, 'fail_traffic_on_panic'))
      notes.add('lb-policy', 'fail_traffic_on_panic', 'common_lb_config.zone_aware_lb_config', common);
  }
  const options = protocolOptions(notes, cluster, assumed.http2 === true);
  const breaker = circuitBreakers(notes, cluster, resources, assumed.streams === true);
  const { lb, table } = lbPolicy(notes, cluster);
  const weighted = has(common, 'locality_weighted_lb_config');
  if (weighted && has(cluster, 'load_balancing_policy'))
    notes.add('lb-policy', 'weights of localities beside load_balancing_policy', 'common_lb_config', cluster);
  const set = endpointSet(notes, cluster, resources, { weighted, hashing: table !== undefined });
  balanceable(notes, cluster, lb, set);
  connectionForEach(notes, cluster, breaker, set.endpoints.length);
  const detection = detectionOf(notes, cluster, set, checked, resources);
  const most = requestsPerConnection(cluster);
  if (assumed.streams) {
    const watched = { checked, ejected: detection !== undefined, relayed: relay !== undefined };
    serverNotes(notes, cluster, watched, breaker !== undefined || most > 0);
  }
  return {
    name: str(cluster, 'name'),
    resource: cluster,
    notes,
    lb,
    table,
    checked,
    ...(detection ? { detection } : {}),
    ...set,
    panicThreshold: percent(common?.healthy_panic_threshold, 50),
    maxRequests: most,
    idleMs: upstreamIdleMs(cluster),
    maxRetries: maxRetries(cluster),
    upstreamRbac: options.rbac,
    keepsCase: spelling || options.spelling,
    ...(breaker === undefined ? {} : { breaker }),
    ...(relay ? { relay } : {}),
  };
}
