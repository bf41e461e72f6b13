/** envoy.config.cluster.v3.Cluster -> endpoints and how one is chosen. */
import net from 'node:net';
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import type { ClusterPlan } from './ir.js';
import { anyType, bool, has, isObject, join, list, Notes, num, obj, onlyFields, str } from './notes.js';

export interface EndpointInfo {
  readonly address: string;
  readonly port: number;
  readonly healthy: boolean;
  readonly hostname: string;
  /** metadata for subset load balancing (`envoy.lb`) */
  readonly labels: JsonObject;
}

/** A cluster as far as it is understood; offloadable only if the notes are clean. */
export interface ClusterInfo {
  readonly name: string;
  readonly resource: JsonObject;
  readonly notes: Notes;
  readonly lb: ClusterPlan['lb'];
  readonly endpoints: readonly EndpointInfo[];
  readonly panicThreshold: number;
  /** configurations of RBAC filters that run on the request as it leaves */
  readonly upstreamRbac: readonly JsonObject[];
}

/** Thresholds that the fast path's own pools (1024 connections to an endpoint) never reach. */
const DEFAULT_THRESHOLD = 1024;

const KNOWN = [
  'name',
  'alt_stat_name',
  'type',
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
  // the deprecated way to say HTTP/1.1
  'http_protocol_options',
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

function protocolOptions(notes: Notes, cluster: JsonObject): JsonObject[] {
  const rbac: JsonObject[] = [];
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
      'http_filters',
    ]);
    rbac.push(...upstreamFilters(notes, value, at));
    const common = obj(value, 'common_http_protocol_options');
    if (common) onlyFields(notes, common, join(at, 'common_http_protocol_options'), ['idle_timeout']);
    const choice = obj(value, 'explicit_http_config') ?? obj(value, 'use_downstream_protocol_config') ?? {};
    if (obj(value, 'explicit_http_config') && !has(choice, 'http_protocol_options')) {
      notes.add('upstream-protocol', 'the endpoints speak HTTP/2 or HTTP/3', join(at, 'explicit_http_config'), value);
      continue;
    }
    const http1 = obj(choice, 'http_protocol_options');
    if (http1) onlyFields(notes, http1, join(at, 'http_protocol_options'), []);
  }
  return rbac;
}

function circuitBreakers(notes: Notes, cluster: JsonObject): void {
  const breakers = obj(cluster, 'circuit_breakers');
  if (!breakers) return;
  onlyFields(notes, breakers, 'circuit_breakers', ['thresholds']);
  list(breakers, 'thresholds').forEach((t, i) => {
    const at = `circuit_breakers.thresholds[${i}]`;
    // retries and their budget are carried out, and so counted, by the proxy alone
    const counted = ['max_connections', 'max_pending_requests', 'max_requests', 'max_connection_pools'];
    onlyFields(notes, t, at, ['priority', 'max_retries', 'retry_budget', 'track_remaining', ...counted]);
    for (const key of counted) {
      if (has(t, key) && num(t, key) < DEFAULT_THRESHOLD) {
        notes.add('circuit-breaker', `${key} is ${num(t, key)}`, join(at, key), t, key);
      }
    }
  });
}

function lbPolicy(notes: Notes, cluster: JsonObject): ClusterPlan['lb'] {
  for (const key of ['least_request_lb_config', 'round_robin_lb_config']) {
    const config = obj(cluster, key);
    if (!config) continue;
    onlyFields(notes, config, key, ['choice_count', 'active_request_bias']);
    if (has(config, 'choice_count') && num(config, 'choice_count') !== 2) {
      notes.add('lb-policy', 'choice_count is not 2', join(key, 'choice_count'), config, 'choice_count');
    }
  }
  const policies = list(obj(cluster, 'load_balancing_policy'), 'policies');
  const typed = policies[0] ? obj(obj(policies[0], 'typed_extension_config'), 'typed_config') : undefined;
  let policy = str(cluster, 'lb_policy') || 'ROUND_ROBIN';
  if (typed) {
    policy =
      { RoundRobin: 'ROUND_ROBIN', Random: 'RANDOM', LeastRequest: 'LEAST_REQUEST' }[
        anyType(typed).split('.').pop()!
      ] ?? anyType(typed);
    onlyFields(notes, typed, 'load_balancing_policy', []);
  }
  const lb = { ROUND_ROBIN: 'round_robin', RANDOM: 'random', LEAST_REQUEST: 'least_request' } as const;
  if (policy in lb) return lb[policy as keyof typeof lb];
  notes.add(
    'lb-policy',
    `${policy} is left to the proxy`,
    typed ? 'load_balancing_policy' : 'lb_policy',
    cluster,
    'lb_policy',
  );
  return 'random';
}

function loadAssignment(notes: Notes, cluster: JsonObject, resources: Resources): JsonObject | undefined {
  const type = str(cluster, 'type') || 'STATIC';
  if (has(cluster, 'cluster_type') || !['STATIC', 'STRICT_DNS', 'LOGICAL_DNS', 'EDS'].includes(type)) {
    notes.add('cluster-discovery', `clusters of type ${type} are resolved by the proxy`, 'type', cluster, 'type');
    return undefined;
  }
  const inline = obj(cluster, 'load_assignment');
  if (inline) return inline;
  const wanted = str(obj(cluster, 'eds_cluster_config'), 'service_name') || str(cluster, 'name');
  return resources.endpoints.find((e) => str(e, 'cluster_name') === wanted);
}

function endpoint(notes: Notes, e: JsonObject, at: string): EndpointInfo | undefined {
  onlyFields(notes, e, at, ['endpoint', 'health_status', 'metadata', 'load_balancing_weight']);
  const target = obj(e, 'endpoint') ?? {};
  onlyFields(notes, target, join(at, 'endpoint'), ['address', 'hostname', 'health_check_config']);
  const socket = obj(obj(target, 'address'), 'socket_address');
  if (!socket) {
    notes.add('cluster-endpoints', 'not a TCP address', join(at, 'endpoint.address'), target);
    return undefined;
  }
  onlyFields(notes, socket, join(at, 'endpoint.address.socket_address'), [
    'protocol',
    'address',
    'port_value',
    'ipv4_compat',
  ]);
  const address = str(socket, 'address');
  const port = num(socket, 'port_value');
  if (net.isIP(address) === 0 || port === 0 || (str(socket, 'protocol') || 'TCP') !== 'TCP') {
    notes.add(
      'cluster-discovery',
      `${address} is not an IP address with a port`,
      join(at, 'endpoint.address.socket_address.address'),
      socket,
      'address',
    );
    return undefined;
  }
  const health = str(e, 'health_status') || 'UNKNOWN';
  if (health === 'DEGRADED')
    notes.add('cluster-endpoints', 'a degraded endpoint', join(at, 'health_status'), e, 'health_status');
  return {
    address,
    port,
    healthy: health === 'UNKNOWN' || health === 'HEALTHY' || health === 'DEGRADED',
    hostname: str(target, 'hostname'),
    labels: obj(obj(obj(e, 'metadata'), 'filter_metadata'), 'envoy.lb') ?? {},
  };
}

function endpoints(notes: Notes, cluster: JsonObject, resources: Resources): EndpointInfo[] {
  const assignment = loadAssignment(notes, cluster, resources);
  if (!assignment) {
    if (notes.clean) notes.add('no-endpoints', 'no endpoints are known', 'load_assignment', cluster);
    return [];
  }
  onlyFields(notes, assignment, 'load_assignment', ['cluster_name', 'endpoints', 'policy']);
  const policy = obj(assignment, 'policy');
  if (policy) onlyFields(notes, policy, 'load_assignment.policy', ['overprovisioning_factor', 'endpoint_stale_after']);
  // an empty locality takes part in nothing
  const localities = list(assignment, 'endpoints').filter((l) => has(l, 'lb_endpoints'));
  if (localities.length > 1) {
    notes.add(
      'cluster-endpoints',
      `${localities.length} localities`,
      'load_assignment.endpoints',
      assignment,
      'endpoints',
    );
  }
  const found: EndpointInfo[] = [];
  localities.forEach((locality, i) => {
    const at = `load_assignment.endpoints[${i}]`;
    onlyFields(notes, locality, at, ['locality', 'lb_endpoints', 'load_balancing_weight', 'priority', 'metadata']);
    if (num(locality, 'priority') !== 0)
      notes.add('cluster-endpoints', 'a priority', join(at, 'priority'), locality, 'priority');
    const weights = new Set(list(locality, 'lb_endpoints').map((e) => num(e, 'load_balancing_weight', 1)));
    if (weights.size > 1)
      notes.add(
        'cluster-endpoints',
        'endpoints with different weights',
        join(at, 'lb_endpoints'),
        locality,
        'lb_endpoints',
      );
    list(locality, 'lb_endpoints').forEach((e, k) => {
      const info = endpoint(notes, e, `${at}.lb_endpoints[${k}]`);
      if (info) found.push(info);
    });
  });
  if (notes.clean && found.length === 0)
    notes.add('no-endpoints', 'the cluster has no endpoint', 'load_assignment', cluster);
  return found;
}

function percent(o: Json | undefined, absent: number): number {
  return isObject(o) ? num(o, 'value') : absent;
}

/** Reads one cluster. Whatever keeps it from the kernel is in the notes of the result. */
export function clusterInfo(cluster: JsonObject, resources: Resources): ClusterInfo {
  const notes = new Notes(resources.provenance);
  notes.reasons.push(...(resources.left?.get(cluster) ?? []));
  onlyFields(notes, cluster, '', KNOWN);
  if (has(cluster, 'health_checks'))
    notes.add('health-check', 'endpoints are checked actively', 'health_checks', cluster, 'health_checks');
  if (has(cluster, 'outlier_detection'))
    notes.add('outlier-detection', 'outliers are ejected', 'outlier_detection', cluster, 'outlier_detection');
  const transport = obj(cluster, 'transport_socket');
  const transportType = anyType(obj(transport, 'typed_config'));
  if (transport && !transportType.endsWith('.RawBuffer')) {
    notes.add(
      'tls',
      `connections to the endpoints use ${transportType || str(transport, 'name')}`,
      'transport_socket',
      cluster,
      'transport_socket',
    );
  }
  const http1 = obj(cluster, 'http_protocol_options');
  if (http1) onlyFields(notes, http1, 'http_protocol_options', []);
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
      'update_merge_window',
      'close_connections_on_host_set_change',
    ]);
    const zone = obj(common, 'zone_aware_lb_config');
    if (bool(zone, 'fail_traffic_on_panic'))
      notes.add('lb-policy', 'fail_traffic_on_panic', 'common_lb_config.zone_aware_lb_config', common);
  }
  const upstreamRbac = protocolOptions(notes, cluster);
  circuitBreakers(notes, cluster);
  return {
    name: str(cluster, 'name'),
    resource: cluster,
    notes,
    lb: lbPolicy(notes, cluster),
    endpoints: endpoints(notes, cluster, resources),
    panicThreshold: percent(common?.healthy_panic_threshold, 50),
    upstreamRbac,
  };
}

/**
 * The endpoints that take traffic: the healthy ones, or all of them while fewer than the panic threshold are healthy.
 */
export function serving(all: readonly EndpointInfo[], panicThreshold: number): readonly EndpointInfo[] {
  const healthy = all.filter((e) => e.healthy);
  return all.length > 0 && (healthy.length * 100) / all.length < panicThreshold ? all : healthy;
}
