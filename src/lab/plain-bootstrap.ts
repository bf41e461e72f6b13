/** Envoy bootstraps as tests and measurements need them: plain HTTP listeners before static endpoints of this machine. */
import type { JsonObject } from '../policy/resources.js';

export const FILTER_TYPE = 'type.googleapis.com/envoy.extensions.filters';

export interface PlainListener {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** of the one virtual host */
  readonly routes?: readonly JsonObject[];
  /** of the one virtual host; default: all */
  readonly domains?: readonly string[];
  /** virtual hosts, where there are others than that one */
  readonly hosts?: readonly JsonObject[];
  /** HTTP filters before the router */
  readonly filters?: readonly JsonObject[];
  /** more fields of the connection manager */
  readonly manager?: JsonObject;
  /** more fields */
  readonly more?: JsonObject;
}

export interface PlainCluster {
  readonly name: string;
  /** ports of its endpoints */
  readonly ports: readonly number[];
  /** their address; default: 127.0.0.1 */
  readonly address?: string;
  /** more fields */
  readonly more?: JsonObject;
}

function listener(l: PlainListener): JsonObject {
  const host = { name: l.name, domains: [...(l.domains ?? ['*'])], routes: [...(l.routes ?? [])] };
  const manager = {
    '@type': `${FILTER_TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: l.name,
    route_config: { name: l.name, virtual_hosts: [...(l.hosts ?? [host])] },
    http_filters: [
      ...(l.filters ?? []),
      { name: 'envoy.filters.http.router', typed_config: { '@type': `${FILTER_TYPE}.http.router.v3.Router` } },
    ],
    ...l.manager,
  };
  return {
    name: l.name,
    address: { socket_address: { address: l.address, port_value: l.port } },
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] }],
    ...l.more,
  };
}

function cluster(c: PlainCluster): JsonObject {
  const endpoints = c.ports.map((port) => ({
    endpoint: { address: { socket_address: { address: c.address ?? '127.0.0.1', port_value: port } } },
  }));
  return {
    name: c.name,
    connect_timeout: '2s',
    type: 'STATIC',
    load_assignment: { cluster_name: c.name, endpoints: [{ lb_endpoints: endpoints }] },
    ...c.more,
  };
}

/** The bootstrap with these listeners and clusters. */
export function plainBootstrap(listeners: readonly PlainListener[], clusters: readonly PlainCluster[]): JsonObject {
  return { static_resources: { listeners: listeners.map(listener), clusters: clusters.map(cluster) } };
}
