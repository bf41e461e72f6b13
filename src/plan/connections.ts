/**
 * Listeners whose one filter chain is a TCP proxy (envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy): the endpoint
 * is chosen when a connection is opened, and the client is connected to it itself.
 */
import { connectionManagers, tcpProxies } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import type { ClusterInfo } from './clusters.js';
import { choices } from './destinations.js';
import { HOUR_MS } from './idle-times.js';
import type { ClusterPlan, ListenerPlan } from './ir.js';
import { LISTENER_FIELDS } from './listener-notes.js';
import { anyType, bool, durationMs, has, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { dedupe, type Outcome } from './routes.js';

const CHAIN = 'filter_chains[0]';
const PATH = 'tcp_proxy';
/** Envoy: five seconds for a connection to an endpoint. */
const CONNECT_MS = 5000;
/** Envoy's thresholds where nothing is said, which are taken for never reached. */
const MANY = 1024;

/** What a plan says of the requests of a listener that decides about none. */
export const NO_REQUESTS = {
  paths: { normalize: false, mergeSlashes: false, escapedSlashes: false },
  stripPort: 'none',
  virtualHosts: [],
  rbac: [],
  generateRequestId: false,
  forwardedProto: 'http',
} as const satisfies Partial<ListenerPlan>;

/** Whether a listener is about connections: it has TCP proxies and no HTTP connection manager. */
export function isAboutConnections(listener: JsonObject): boolean {
  return tcpProxies(listener).length > 0 && connectionManagers(listener).length === 0;
}

function listenerNotes(notes: Notes, listener: JsonObject): JsonObject | undefined {
  onlyFields(notes, listener, '', LISTENER_FIELDS);
  if (has(listener, 'access_log'))
    notes.add('access-log', 'connections are logged', 'access_log', listener, 'access_log');
  if (has(listener, 'listener_filters'))
    notes.add('filter-chain', 'the first bytes are looked at', 'listener_filters', listener, 'listener_filters');
  if (str(listener, 'traffic_direction') === 'INBOUND')
    notes.add('not-http', 'connections from everywhere', 'traffic_direction', listener, 'traffic_direction');
  const fallback = obj(listener, 'default_filter_chain');
  const chains = [...list(listener, 'filter_chains'), ...(fallback ? [fallback] : [])];
  if (chains.length !== 1)
    notes.add('filter-chain', 'several filter chains', 'filter_chains', listener, 'filter_chains');
  const chain = chains[0]!;
  const known = ['name', 'filters', 'metadata', 'transport_socket', 'transport_socket_connect_timeout'];
  onlyFields(notes, chain, CHAIN, [...known, 'filter_chain_match']);
  if (Object.keys(obj(chain, 'filter_chain_match') ?? {}).length > 0)
    notes.add(
      'filter-chain',
      'the filter chain has a match',
      `${CHAIN}.filter_chain_match`,
      chain,
      'filter_chain_match',
    );
  const transport = obj(chain, 'transport_socket');
  const type = anyType(obj(transport, 'typed_config'));
  if (transport && !type.endsWith('.RawBuffer'))
    notes.add('tls', `connections use ${type || str(transport, 'name')}`, `${CHAIN}.transport_socket`, chain);
  const filters = list(chain, 'filters');
  const [own] = tcpProxies(listener);
  if (filters.length !== 1) {
    const names = filters.map((f) => str(f, 'name')).join(', ');
    notes.add('network-filter', `the filters are ${names}`, `${CHAIN}.filters`, chain, 'filters');
  }
  return own;
}

/** What of a TCP proxy cannot be done here. */
export function proxyNotes(notes: Notes, proxy: JsonObject, path = PATH): void {
  const at = (key: string) => join(path, key);
  onlyFields(notes, proxy, path, [
    'stat_prefix',
    'cluster',
    'weighted_clusters',
    'metadata_match',
    'idle_timeout',
    'max_connect_attempts',
    'access_log',
    'hash_policy',
  ]);
  if (has(proxy, 'access_log')) notes.add('access-log', 'connections are logged', at('access_log'), proxy);
  const idle = durationMs(proxy, 'idle_timeout') ?? HOUR_MS;
  if (idle > 0 && idle < HOUR_MS)
    notes.add('stream-limits', `idle connections are closed after ${idle} ms`, at('idle_timeout'), proxy);
  if (num(proxy, 'max_connect_attempts', 1) > 1)
    notes.add('stream-limits', 'other endpoints are tried', at('max_connect_attempts'), proxy);
}

/** What is about a cluster's connections, and cannot be done for those that its endpoints have from clients. */
export function clusterNotes(notes: Notes, { name, lb, detection, resource }: ClusterInfo): void {
  const at = (key: string) => `cluster ${name}: ${key}`;
  if (lb === 'ring_hash' || lb === 'maglev')
    notes.add('lb-policy', `connections under ${lb}`, at('lb_policy'), resource);
  if (detection)
    notes.add('outlier-detection', 'failed connections count', at('outlier_detection'), resource, 'outlier_detection');
  for (const key of ['max_connections', 'max_pending_requests', 'max_requests'])
    for (const threshold of list(obj(resource, 'circuit_breakers'), 'thresholds'))
      if (str(threshold, 'priority') !== 'HIGH' && num(threshold, key, MANY) < MANY)
        notes.add('circuit-breaker', `${key} is ${num(threshold, key)}`, at('circuit_breakers'), threshold, key);
  const transport = obj(resource, 'transport_socket');
  if (transport && !anyType(obj(transport, 'typed_config')).endsWith('.RawBuffer'))
    notes.add('tls', 'clients would have to speak TLS', at('transport_socket'), resource, 'transport_socket');
  const connection = obj(resource, 'upstream_connection_options');
  if (has(connection, 'tcp_keepalive'))
    notes.add('unsupported-field', 'keepalive of connections', at('upstream_connection_options'), resource);
  const common = obj(resource, 'common_lb_config');
  if (bool(common, 'close_connections_on_host_set_change'))
    notes.add('unsupported-field', 'connections end when endpoints change', at('common_lb_config'), resource);
}

/** How long a connection to a cluster's endpoint may take to be established. */
export function connectMs({ resource }: ClusterInfo): number {
  return durationMs(resource, 'connect_timeout') ?? CONNECT_MS;
}

/** A listener's name, and where the proxy listens for it. */
export function placeOf(notes: Notes, listener: JsonObject): Pick<ListenerPlan, 'name' | 'proxyAddress'> {
  const socket = obj(obj(listener, 'address'), 'socket_address');
  const [address, port] = [str(socket, 'address'), num(socket, 'port_value')];
  if (!socket || port === 0 || (str(socket, 'protocol') || 'TCP') !== 'TCP')
    notes.add('listener-address', 'not a TCP address with a port', 'address', listener, 'address');
  else onlyFields(notes, socket, 'address.socket_address', ['protocol', 'address', 'port_value', 'ipv4_compat']);
  return {
    name: str(listener, 'name') || `${address}:${port}`,
    proxyAddress: { address: address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address, port },
  };
}

/** Reads a listener that is about connections. */
export function connectionPlan(
  listener: JsonObject,
  resources: Resources,
  clusters: ReadonlyMap<string, ClusterInfo>,
  used: Map<string, ClusterPlan>,
  outcome: Outcome,
): ListenerPlan {
  const notes = new Notes(resources.provenance);
  for (const own of [listener, ...tcpProxies(listener)]) notes.reasons.push(...(resources.left?.get(own) ?? []));
  const { name, proxyAddress } = placeOf(notes, listener);
  const proxy = listenerNotes(notes, listener);
  if (proxy) proxyNotes(notes, proxy);
  const chosen = proxy ? choices(notes, { listener: { clusters } }, proxy, PATH) : [];
  for (const { info } of chosen) clusterNotes(notes, info);
  const reasons = dedupe(notes.reasons);
  const id = `${name}/tcp_proxy`;
  if (notes.clean)
    for (const { cluster, info } of chosen) used.set(cluster.name, { ...cluster, connectMs: connectMs(info) });
  for (const own of tcpProxies(listener)) outcome(own, reasons, [id]);
  outcome(listener, reasons);
  const position = proxy && resources.provenance.get(proxy);
  return {
    name,
    proxyAddress,
    offloaded: notes.clean,
    reasons,
    connections: {
      id,
      ...(position ? { position } : {}),
      clusters: chosen.map(({ cluster, weight }) => ({ cluster: cluster.name, weight })),
    },
    ...NO_REQUESTS,
  };
}
