/**
 * Listeners before servers: what AuthorizationPolicies and RequestAuthentications ask of requests, asked where they
 * arrive, as a server's sidecar does. Requests of the mesh's own clients were judged on their way (authorization.ts); these
 * listeners are for everybody else's connections. Servers of which no policy speaks have none.
 */
import { isIP } from 'node:net';
import type { Intercept, JsonObject } from '../resources.js';
import type { ClusterInfo } from './clusters.js';
import type { Context } from './context.js';
import { type Guard, listener, type Places } from './listeners.js';
import { type Endpoint, isHttp } from './registry.js';

/** A server with the service behind whose port it stands. */
interface Server {
  readonly cluster: ClusterInfo;
  readonly endpoint: Endpoint;
  readonly port: number;
}

/** The servers that speak HTTP, each once: by the service that knows its labels, if any does. */
function serversOf(clusters: Iterable<ClusterInfo>): Map<string, Server> {
  const servers = new Map<string, Server>();
  for (const cluster of clusters) {
    const { service, port } = cluster;
    if (cluster.subset !== '' || service.external || service.assumed || !isHttp(port.protocol)) continue;
    for (const endpoint of cluster.endpoints) {
      const own = endpoint.ports.get(port.number);
      if (own === undefined || isIP(endpoint.address) === 0) continue;
      const key = `${own}||${endpoint.address}`;
      const before = servers.get(key);
      if (!before || (endpoint.labelsKnown && !before.endpoint.labelsKnown))
        servers.set(key, { cluster, endpoint, port: own });
    }
  }
  return servers;
}

/**
 * Builds the listeners and what is taken for them.
 *
 * @param clusters all clusters by name, before any copies were made; one for each server is added
 */
export function buildInbound(
  context: Context,
  clusters: Map<string, ClusterInfo>,
  guard: Guard,
  place: Places,
): { listeners: { json: JsonObject; port: number }[]; intercepts: Intercept[] } {
  const listeners: { json: JsonObject; port: number }[] = [];
  const intercepts: Intercept[] = [];
  for (const [key, { cluster, endpoint, port }] of serversOf([...clusters.values()])) {
    const name = `inbound|${key}`;
    const { address, document, path } = endpoint;
    const json: JsonObject = {
      name,
      type: 'STATIC',
      connect_timeout: '10s',
      ...(cluster.port.protocol === 'http2' && cluster.json.typed_extension_protocol_options
        ? { typed_extension_protocol_options: cluster.json.typed_extension_protocol_options }
        : {}),
      load_assignment: {
        cluster_name: name,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address, port_value: port } } } }] }],
      },
    };
    // what is attached to the service itself is a waypoint's to enforce, not the server's
    const service = { ...cluster.service, host: `${cluster.service.host} at ${address}` };
    clusters.set(name, { ...cluster, name, service, endpoints: [endpoint], rules: [], json });
    const route: JsonObject = { name: 'default', match: { prefix: '/' }, route: { cluster: name, timeout: '0s' } };
    guard(route);
    if (route.typed_per_filter_config === undefined) {
      clusters.delete(name);
      continue;
    }
    for (const made of [json, route]) context.origin(made, document, path);
    const host = context.origin({ name: `inbound|http|${port}`, domains: ['*'], routes: [route] }, document, path);
    const at = place(name, { addresses: [address], document, path });
    const [, own = '', ownPort] = /^(.*):(\d+)$/.exec(at) ?? [];
    listeners.push({ json: context.origin(listener(name, at, [host]), document, path), port });
    intercepts.push({
      ...{ address, port, listener: name, inbound: 'workload' },
      own: { address: own, port: Number(ownPort) },
    });
  }
  return { listeners, intercepts };
}
