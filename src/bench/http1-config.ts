/**
 * The mesh that the `http1` suite measures: a service with ten routes and an access policy. The request of the
 * measurement takes the seventh route, so that those before it have to be looked at.
 */
import type { JsonObject } from '../policy/resources.js';

/** What wrk asks for. */
export const REQUEST = { host: 'catalog.shop.test', path: '/api/v2/items/42?fields=name' } as const;

const TYPE = 'type.googleapis.com/envoy.extensions.filters';

const ROUTES: readonly JsonObject[] = [
  { match: { path: '/healthz' }, direct_response: { status: 200, body: { inline_string: 'ok' } } },
  { match: { prefix: '/admin' }, direct_response: { status: 403 } },
  {
    match: { prefix: '/', headers: [{ name: 'x-canary', string_match: { exact: 'true' } }] },
    route: { cluster: 'catalog' },
  },
  { match: { prefix: '/old/' }, redirect: { prefix_rewrite: '/api/v2/' } },
  { match: { safe_regex: { regex: '/api/v1/items/[0-9]+' } }, route: { cluster: 'catalog', prefix_rewrite: '/v1' } },
  { match: { prefix: '/api/v2/cart' }, route: { cluster: 'catalog' } },
  {
    match: { prefix: '/api/v2/items/' },
    route: { cluster: 'catalog' },
    request_headers_to_add: [
      { header: { key: 'x-mesh-route', value: 'items' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ],
  },
  { match: { prefix: '/api/v2/' }, route: { cluster: 'catalog' } },
  { match: { safe_regex: { regex: '.*\\.(png|jpg|css)' } }, route: { cluster: 'catalog' } },
  { match: { prefix: '/' }, direct_response: { status: 404 } },
];

/** Who may ask: clients at loopback addresses, and those of the bench's own network namespaces. */
const CLIENTS = [
  { address_prefix: '127.0.0.0', prefix_len: 8 },
  { address_prefix: '10.89.0.0', prefix_len: 16 },
];

const RBAC: JsonObject = {
  name: 'envoy.filters.http.rbac',
  typed_config: {
    '@type': `${TYPE}.http.rbac.v3.RBAC`,
    rules: {
      action: 'ALLOW',
      policies: {
        readers: {
          permissions: [
            {
              and_rules: {
                rules: [
                  { header: { name: ':method', string_match: { exact: 'GET' } } },
                  { url_path: { path: { prefix: '/api/' } } },
                ],
              },
            },
          ],
          principals: CLIENTS.map((range) => ({ direct_remote_ip: range })),
        },
      },
    },
  },
};

interface Sidecar {
  readonly address: string;
  readonly port: number;
  readonly upstream: string;
  readonly upstreamPort: number;
  readonly routes: boolean;
  readonly access: boolean;
}

function sidecar(s: Sidecar): JsonObject {
  const router = { name: 'envoy.filters.http.router', typed_config: { '@type': `${TYPE}.http.router.v3.Router` } };
  const routes = s.routes ? ROUTES : [{ match: { prefix: '/' }, route: { cluster: 'catalog' } }];
  return {
    static_resources: {
      listeners: [
        {
          name: 'catalog',
          address: { socket_address: { address: s.address, port_value: s.port } },
          filter_chains: [
            {
              filters: [
                {
                  name: 'envoy.filters.network.http_connection_manager',
                  typed_config: {
                    '@type': `${TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
                    stat_prefix: 'catalog',
                    route_config: {
                      name: 'catalog',
                      virtual_hosts: [
                        { name: 'catalog', domains: [s.routes ? REQUEST.host : '*'], routes: [...routes] },
                      ],
                    },
                    http_filters: [...(s.access ? [RBAC] : []), router],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'catalog',
          connect_timeout: '2s',
          type: 'STATIC',
          load_assignment: {
            cluster_name: 'catalog',
            endpoints: [
              {
                lb_endpoints: [
                  {
                    endpoint: { address: { socket_address: { address: s.upstream, port_value: s.upstreamPort } } },
                  },
                ],
              },
            ],
          },
        },
      ],
    },
  };
}

/** One Envoy that decides both ways: the client's routes and the server's access policy. Sidestep takes the same. */
export function onePolicyPoint(address: string, port: number, server: number, host = '127.0.0.1'): JsonObject {
  return sidecar({ address, port, upstream: host, upstreamPort: server, routes: true, access: true });
}

/** The two sidecars of a mesh: the client's decides the route, the server's (at `host`) the access. */
export function twoSidecars(
  address: string,
  port: number,
  inner: number,
  server: number,
  host = '127.0.0.1',
): { client: JsonObject; server: JsonObject } {
  return {
    client: sidecar({ address, port, upstream: host, upstreamPort: inner, routes: true, access: false }),
    server: sidecar({
      ...{ address: host, port: inner, upstream: '127.0.0.1', upstreamPort: server },
      ...{ routes: false, access: true },
    }),
  };
}
