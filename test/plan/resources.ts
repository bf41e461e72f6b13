/** Resources made by hand for tests, in proto JSON with snake_case names. */
import { type Json, type JsonObject, Provenance, type Resources } from '../../src/policy/resources.js';

export const TYPE = {
  router: 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router',
  rbac: 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC',
  rbacPerRoute: 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute',
  cors: 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors',
  lua: 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua',
  filterConfig: 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
  protocolOptions: 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
  upstreamCodec: 'type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec',
  hcm: 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
} as const;

/** Resources with these listeners and clusters. */
export function resourcesOf(listeners: JsonObject[], clusters: JsonObject[], more: Partial<Resources> = {}): Resources {
  return {
    listeners,
    routeConfigs: [],
    clusters,
    endpoints: [],
    bootstrap: {},
    intercepts: [],
    hosts: [],
    rules: [],
    documents: 1,
    provenance: new Provenance(),
    diagnostics: [],
    ...more,
  };
}

export interface ListenerOptions {
  readonly name?: string;
  readonly port?: number;
  readonly hcm?: JsonObject;
  readonly routeConfig?: JsonObject;
  /** filters before the router */
  readonly filters?: JsonObject[];
  readonly router?: JsonObject;
}

/** A listener with these virtual hosts. */
export function listenerOf(virtualHosts: JsonObject[], options: ListenerOptions = {}): JsonObject {
  const port = options.port ?? 8080;
  const hcm: JsonObject = {
    '@type': TYPE.hcm,
    stat_prefix: 'test',
    route_config: { name: 'routes', virtual_hosts: virtualHosts, ...options.routeConfig },
    http_filters: [
      ...(options.filters ?? []),
      { name: 'router', typed_config: { '@type': TYPE.router, ...options.router } },
    ],
    ...options.hcm,
  };
  return {
    name: options.name ?? 'listener',
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [{ filters: [{ name: 'hcm', typed_config: hcm }] }],
  };
}

/** A virtual host for every domain. */
export function hostOf(routes: JsonObject[], more: JsonObject = {}): JsonObject {
  return { name: 'all', domains: ['*'], routes, ...more };
}

/** A static cluster with endpoints on the loopback address; labels are for subsets. */
export function clusterOf(
  name: string,
  ports: readonly number[],
  more: JsonObject = {},
  labels?: readonly JsonObject[],
): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: ports.map(
            (port_value, i): Json => ({
              endpoint: { address: { socket_address: { address: '127.0.0.1', port_value } } },
              ...(labels ? { metadata: { filter_metadata: { 'envoy.lb': labels[i] ?? {} } } } : {}),
            }),
          ),
        },
      ],
    },
    ...more,
  };
}

/** A route on a path prefix. */
export function to(cluster: string, prefix = '/', more: JsonObject = {}, action: JsonObject = {}): JsonObject {
  return { match: { prefix }, route: { cluster, ...action }, ...more };
}

/** A route that answers by itself. */
export function answer(body: string, match: JsonObject): JsonObject {
  return { match, direct_response: { status: 200, body: { inline_string: body } } };
}

/** Protocol options by which names of headers are spelled as they came. */
export const preserveCase = (more: JsonObject = {}): JsonObject => ({
  header_key_format: {
    stateful_formatter: {
      name: 'preserve_case',
      typed_config: {
        '@type':
          'type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig',
        ...more,
      },
    },
  },
});
