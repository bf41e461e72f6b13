/**
 * istiod's resources for a proxy, cut down to what decides about one listener's requests, and read by Sidestep's front
 * end for Envoy's own configuration.
 *
 * Left out, because they decide nothing about a request: statistics, access logs, tracing, the exchange of metadata
 * between proxies and the choice of ALPN for mutual TLS. Principals are replaced by their truth for one client, as mutual
 * TLS would have told it. Clusters of the type ORIGINAL_DST (`PassthroughCluster`, services without addresses of their own)
 * lead where the client's connection was going, which is the service whose listener it is.
 */
import { Readable } from 'node:stream';
import { asObject, asObjects, asString, filterChains } from '../../src/policy/envoy/walk.js';
import { type Identity, matchesIdentity, spiffe } from '../../src/policy/istio/identities.js';
import { loadFiles } from '../../src/policy/load.js';
import type { Json, JsonObject, Resources } from '../../src/policy/resources.js';
import type { ProxyResources } from './generator.js';

const IRRELEVANT = /^(istio\.|envoy\.filters\.http\.(grpc_stats|istio_stats|alpn)|istio_authn)/;
const KEPT_OF_MANAGER = [
  '@type',
  'normalize_path',
  'merge_slashes',
  'path_with_escaped_slashes_action',
  'use_remote_address',
  'stream_idle_timeout',
  'upgrade_configs',
] as const;

/** A connection manager among a listener's filter chains that fit. */
function managerOf(listener: JsonObject, fits: (chain: JsonObject) => boolean): JsonObject | undefined {
  for (const chain of filterChains(listener)) {
    if (!fits(chain)) continue;
    for (const filter of asObjects(chain.filters)) {
      const config = asObject(filter.typed_config);
      if (asString(config?.['@type']).endsWith('.HttpConnectionManager')) return config;
    }
  }
  return undefined;
}

/** The connection manager by which a client's sidecar sends requests for an address, if it treats them as HTTP. */
export function outboundManager(proxy: ProxyResources, address: string, port: number): JsonObject | undefined {
  const named = (name: string) => proxy.listeners.find((l) => l.name === name);
  const listener = named(`${address}_${port}`) ?? named(`0.0.0.0_${port}`);
  return listener && managerOf(listener, () => true);
}

/** What a TCP proxy does with connections; statistics and logs are nobody's here. One in this form stays as it is. */
export function normalTcpProxy(proxy: JsonObject): JsonObject {
  const { '@type': _, stat_prefix: __, access_log: ___, weighted_clusters: weighted, clusters: known, ...rest } = proxy;
  const clusters = asObjects(asObject(weighted)?.clusters).map(
    ({ name, weight }) => `${String(weight)} ${String(name)}`,
  );
  return { ...rest, ...(known ? { clusters: known } : clusters.length > 0 && { clusters }) };
}

/** The names that a filter chain is for; none: all. */
export function namesOf(chain: JsonObject | undefined): string {
  return ((asObject(chain?.filter_chain_match)?.server_names ?? []) as string[]).toSorted().join(' ');
}

/** The TCP proxy of a listener's only filter chain, or of the first of several (that is for these names), in normal form. */
export function tcpProxyOf(listener: JsonObject | undefined, names?: string): JsonObject | undefined {
  const chains = [...asObjects(listener?.filter_chains), ...asObjects([listener?.default_filter_chain ?? {}])];
  const chain = chains.find((c) => names === undefined || namesOf(c) === names);
  const found = asObjects(chain?.filters).map(({ typed_config }) => asObject(typed_config));
  const proxy = found.find((config) => asString(config?.['@type']).endsWith('.TcpProxy'));
  return proxy && normalTcpProxy(proxy);
}

/** The TCP proxy of a gateway's port, which is `target` at its workload. */
export function gatewayProxy(proxy: ProxyResources, port: number, target: number): JsonObject | undefined {
  const named = (number: number) => proxy.listeners.find((l) => l.name === `0.0.0.0_${number}`);
  return tcpProxyOf(named(target) ?? named(port));
}

/** The TCP proxy by which a client's sidecar treats connections to an address, if `names` are there those that ask for one of them. */
export function outboundProxy(
  proxy: ProxyResources,
  address: string,
  port: number,
  names = '',
): JsonObject | undefined {
  const own = proxy.listeners.find((l) => l.name === `${address}_${port}`);
  if (names === '') return tcpProxyOf(own, '');
  // names alone tell the services apart that have no address
  return (
    tcpProxyOf(own, names) ??
    tcpProxyOf(
      proxy.listeners.find((l) => l.name === `0.0.0.0_${port}`),
      names,
    )
  );
}

/** The connection manager by which a server's sidecar takes requests at a port. */
export function inboundManager(proxy: ProxyResources, port: number): JsonObject | undefined {
  const listener = proxy.listeners.find((l) => l.name === 'virtualInbound');
  const fits = (tls: boolean) => (chain: JsonObject) => {
    const match = asObject(chain.filter_chain_match);
    return Number(match?.destination_port) === port && (asString(match?.transport_protocol) === 'tls') === tls;
  };
  // with mutual TLS only, the filters are those of its chain
  return listener && (managerOf(listener, fits(false)) ?? managerOf(listener, fits(true)));
}

/** The connection manager of a gateway's port, which is `target` at its workload. */
export function gatewayManager(proxy: ProxyResources, port: number, target: number): JsonObject | undefined {
  const named = (number: number) => proxy.listeners.find((l) => l.name === `0.0.0.0_${number}`);
  const listener = named(target) ?? named(port);
  return listener && managerOf(listener, () => true);
}

/** What is read of a connection manager. */
export function essential(manager: JsonObject): JsonObject {
  const kept: JsonObject = {};
  for (const key of [...KEPT_OF_MANAGER, 'rds', 'route_config'])
    if (manager[key] !== undefined) kept[key] = manager[key]!;
  kept.http_filters = asObjects(manager.http_filters).filter((f) => !IRRELEVANT.test(asString(f.name)));
  return kept;
}

/** The route configuration of a connection manager. */
export function routesOf(manager: JsonObject, proxy: ProxyResources): JsonObject {
  const inline = asObject(manager.route_config);
  const name = asString(asObject(manager.rds)?.route_config_name);
  return inline ?? proxy.routes.find((r) => r.name === name) ?? { name, virtual_hosts: [] };
}

/** Every principal that is about who the client is, by what it comes to for `identity`. */
function decidePrincipals(value: Json, identity: Identity | undefined): Json {
  if (Array.isArray(value)) return value.map((item) => decidePrincipals(item, identity));
  const object = asObject(value);
  if (!object) return value;
  const state = asObject(object.filter_state);
  const named = asObject(asObject(object.authenticated)?.principal_name) ?? asObject(state?.string_match);
  const about = object.authenticated !== undefined || asString(state?.key) === 'io.istio.peer_principal';
  if (about) {
    const holds = identity !== undefined && (named === undefined || matchesIdentity(named, spiffe(identity)));
    return holds ? { any: true } : { not_id: { any: true } };
  }
  return Object.fromEntries(Object.entries(object).map(([k, v]) => [k, decidePrincipals(v, identity)]));
}

function rename(value: Json, from: ReadonlySet<string>, to: string): Json {
  if (Array.isArray(value)) return value.map((item) => rename(item, from, to));
  if (typeof value === 'string') return from.has(value) ? to : value;
  const object = asObject(value);
  if (!object) return value;
  return Object.fromEntries(Object.entries(object).map(([k, v]) => [k, rename(v, from, to)]));
}

/** A listener of Sidestep's kind from a connection manager of istiod's. */
export function listenerOf(
  name: string,
  manager: JsonObject,
  proxy: ProxyResources,
  at: { readonly address: string; readonly port: number; readonly identity?: Identity; readonly passthrough?: string },
): JsonObject {
  const { http_filters: filters = [], rds: _, ...rest } = essential(manager);
  const kept: JsonObject = { stat_prefix: 'theirs', ...rest };
  let routes: Json = routesOf(manager, proxy);
  const original = proxy.clusters.filter((c) => c.type === 'ORIGINAL_DST').map((c) => asString(c.name));
  if (at.passthrough) routes = rename(routes, new Set(original), at.passthrough);
  kept.route_config = { ...(routes as JsonObject), validate_clusters: false };
  kept.http_filters = decidePrincipals(filters, at.identity);
  return {
    name,
    address: { socket_address: { address: at.address, port_value: at.port } },
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: kept }] }],
  };
}

/** What sidecars are spoken to with where no rule says it. */
export function autoTls(cluster: JsonObject): JsonObject | undefined {
  const [match] = asObjects(cluster.transport_socket_matches).filter(({ name }) => name === 'tlsMode-istio');
  return asObject(match?.transport_socket);
}

/** istiod's clusters with their endpoints inside, without what mutual TLS adds. */
export function clustersOf(proxy: ProxyResources): JsonObject[] {
  const assignments = new Map(proxy.endpoints.map((e) => [asString(e.cluster_name), e]));
  return proxy.clusters.map((cluster): JsonObject => {
    const { transport_socket_matches: matches, filters: __, metadata: ___, ...rest } = cluster;
    // without TLS the PROXY protocol may still be spoken
    const other = asObjects(matches).find(({ name }) => name === 'tlsMode-disabled');
    const socket = asObject(other?.transport_socket);
    if (!rest.transport_socket && /proxy_protocol/.test(asString(socket?.name))) rest.transport_socket = socket!;
    if (rest.type !== 'EDS') return rest;
    const { eds_cluster_config: ____, ...own } = rest;
    const found = assignments.get(asString(cluster.name));
    const endpoints = asObjects(found?.endpoints).map((locality): JsonObject => {
      const list = asObjects(locality.lb_endpoints).map((e): JsonObject => {
        const { metadata: _____, ...lb } = e;
        return lb;
      });
      return { lb_endpoints: list };
    });
    return { ...own, type: 'STATIC', load_assignment: { cluster_name: asString(cluster.name), endpoints } };
  });
}

/** A server's clusters: all lead to the server itself, wherever the connection was going. */
export const inboundClusters = (proxy: ProxyResources): JsonObject[] =>
  proxy.clusters
    .filter((cluster) => asString(cluster.name).startsWith('inbound|'))
    .map(({ name }): JsonObject => {
      const endpoint = { address: { socket_address: { address: '127.0.0.1', port_value: 1 } } };
      const load_assignment = { cluster_name: name ?? '', endpoints: [{ lb_endpoints: [{ endpoint }] }] };
      return { name: name ?? '', type: 'STATIC', connect_timeout: '10s', load_assignment };
    });

/** Reads listeners and clusters with Sidestep's front end. Throws if it refuses them. */
export async function readEnvoy(listeners: readonly JsonObject[], clusters: readonly JsonObject[]): Promise<Resources> {
  const bootstrap = {
    static_resources: { listeners, clusters },
    layered_runtime: {
      layers: [{ name: 'istio', static_layer: { 're2.max_program_size.error_level': 32768 } }],
    },
  };
  const resources = await loadFiles(['-'], { stdin: Readable.from([Buffer.from(JSON.stringify(bootstrap))]) });
  const errors = resources.diagnostics.filter((d) => d.severity === 'error');
  if (errors.length > 0)
    throw new Error(
      `istiod's resources cannot be read: ${errors
        .slice(0, 3)
        .map((e) => `${e.field ?? ''}: ${e.message}`)
        .join('; ')}`,
    );
  return resources;
}
