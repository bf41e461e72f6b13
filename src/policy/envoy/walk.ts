import type { Json, JsonObject } from '../resources.js';

/** Full names of the extension messages that are looked into. */
export const TYPE = {
  HCM: 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
  TCP_PROXY: 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
  ROUTER: 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router',
  RBAC: 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC',
  RBAC_PER_ROUTE: 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute',
  LISTENER: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  ROUTES: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  CLUSTER: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  ENDPOINTS: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  SECRET: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
} as const;

/** `value` if it is an object, else undefined. */
export function asObject(value: Json | undefined): JsonObject | undefined {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : undefined;
}

/** The objects in `value` if it is a list; an empty list otherwise. */
export function asObjects(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter((x): x is JsonObject => asObject(x) !== undefined) : [];
}

/** `value` if it is a string, else the empty string. */
export function asString(value: Json | undefined): string {
  return typeof value === 'string' ? value : '';
}

/** The filter chains of a listener, its default one last. */
export function filterChains(listener: JsonObject): JsonObject[] {
  const fallback = asObject(listener.default_filter_chain);
  return [...asObjects(listener.filter_chains), ...(fallback ? [fallback] : [])];
}

function networkFilters(listener: JsonObject, type: string): JsonObject[] {
  return filterChains(listener)
    .flatMap((chain) => asObjects(chain.filters))
    .map((filter) => asObject(filter.typed_config))
    .filter((config): config is JsonObject => config?.['@type'] === type);
}

/** The HTTP connection managers of a listener, as the objects that hold their fields. */
export function connectionManagers(listener: JsonObject): JsonObject[] {
  return networkFilters(listener, TYPE.HCM);
}

/** The TCP proxies of a listener, likewise. */
export function tcpProxies(listener: JsonObject): JsonObject[] {
  return networkFilters(listener, TYPE.TCP_PROXY);
}

/** Names of the clusters that a route may send to, with the objects and fields that name them. */
export function* clusterReferences(route: JsonObject): Generator<{ name: string; object: JsonObject; field: string }> {
  const action = asObject(route.route);
  if (!action) return;
  if (asString(action.cluster)) yield { name: asString(action.cluster), object: action, field: 'cluster' };
  for (const weighted of asObjects(asObject(action.weighted_clusters)?.clusters)) {
    if (asString(weighted.name)) yield { name: asString(weighted.name), object: weighted, field: 'name' };
  }
  for (const mirror of asObjects(action.request_mirror_policies)) {
    if (asString(mirror.cluster)) yield { name: asString(mirror.cluster), object: mirror, field: 'cluster' };
  }
}

/** A socket address (`envoy.config.core.v3.Address`) over TCP with a numeric port, or undefined. */
export function tcpAddress(address: Json | undefined): { address: string; port: number } | undefined {
  const socket = asObject(asObject(address)?.socket_address);
  if (!socket || socket.protocol === 'UDP' || typeof socket.port_value !== 'number') return undefined;
  return { address: asString(socket.address), port: socket.port_value };
}
