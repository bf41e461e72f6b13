/** Listeners of the proxy's for what the agent alone sends. */
import type { JsonObject } from '../policy/resources.js';

const FILTERS = 'type.googleapis.com/envoy.extensions.filters';

/** A filter with its configuration. @param type under envoy.extensions.filters */
export const filterOf = (name: string, type: string, more: JsonObject = {}): JsonObject => ({
  name,
  typed_config: { '@type': `${FILTERS}.${type}`, ...more },
});

/**
 * A listener at a Unix socket that only root may use, for requests that have been through a listener before.
 * @param filters before the router; @param manager further fields of the connection manager
 */
export function pipeListener(
  name: string,
  path: string,
  routes: readonly JsonObject[],
  { filters = [], manager = {} }: { readonly filters?: readonly JsonObject[]; readonly manager?: JsonObject } = {},
): JsonObject {
  const http = filterOf('http', 'network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: name,
    generate_request_id: false,
    ...manager,
    route_config: { name, virtual_hosts: [{ name, domains: ['*'], routes: [...routes] }] },
    http_filters: [...filters, filterOf('router', 'http.router.v3.Router')],
  });
  return { name, address: { pipe: { path, mode: 0o600 } }, filter_chains: [{ filters: [http] }] };
}
