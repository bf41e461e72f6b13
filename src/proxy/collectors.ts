/** The proxy's part of reporting spans: it forwards what the agent sends to the clusters of collectors. */
import { join } from 'node:path';
import type { JsonObject, Resources } from '../policy/resources.js';

/** Names the cluster that the agent means; the proxy removes it. */
export const COLLECTOR_HEADER = 'x-sidestep-collector';
const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router';

/** Where the proxy takes spans, in its folder. */
export const collectorPath = (dir: string): string => join(dir, 'spans.sock');

/** The resources with a listener that forwards to these clusters. */
export function withCollectors(resources: Resources, clusters: readonly string[], dir: string): Resources {
  if (clusters.length === 0) return resources;
  const routes = clusters.map(
    (cluster): JsonObject => ({
      match: { prefix: '/', headers: [{ name: COLLECTOR_HEADER, string_match: { exact: cluster } }] },
      route: { cluster, timeout: '5s' },
      request_headers_to_remove: [COLLECTOR_HEADER, 'x-forwarded-proto'],
    }),
  );
  const listener: JsonObject = {
    name: 'spans of the agent',
    address: { pipe: { path: collectorPath(dir), mode: 0o600 } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type': HCM,
              stat_prefix: 'sidestep-spans',
              generate_request_id: false,
              route_config: {
                name: 'spans of the agent',
                virtual_hosts: [{ name: 'collectors', domains: ['*'], routes }],
              },
              http_filters: [{ name: 'envoy.filters.http.router', typed_config: { '@type': ROUTER } }],
            },
          },
        ],
      },
    ],
  };
  return { ...resources, listeners: [...resources.listeners, listener] };
}
