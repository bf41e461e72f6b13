/**
 * The proxy's share of circuit breakers that the kernel keeps (max_requests). Each request in flight is counted once, in the
 * kernel's map: at the end of the filter chain, the proxy asks the agent whether it may send one more to the cluster that the
 * route has chosen. The cluster's own thresholds stay: what the agent has let through never reaches them, and without the
 * agent they are what is left.
 */
import { asObject, asObjects, asString, clusterReferences, TYPE } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { mapManagers } from './bootstrap.js';
import { askingFilter, CONSULT_CLUSTER, consultCluster, off, on } from './consult.js';

const NAME = 'sidestep breakers';
/** gRPC metadata: the cluster, whose connection it is, and whether answers keep quiet about Envoy. */
export const BREAKER_KEYS = { cluster: 'sidestep-cluster', end: 'sidestep-end', quiet: 'sidestep-quiet' } as const;

const ASK: JsonObject = on({
  '@type': 'type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute',
  check_settings: { disable_request_body_buffering: true },
});

/** Configuration of a route whose requests are counted already. */
export const WITHOUT_BREAKERS: JsonObject = { [NAME]: off() };

/** The same routes, asking where they lead, or may lead, to one of the clusters. */
function asking(config: JsonObject, clusters: ReadonlySet<string>): JsonObject {
  const route = (r: JsonObject): JsonObject => {
    const action = asObject(r.route);
    if (!action || action.priority === 'HIGH') return r;
    const names = [...clusterReferences(r)].map(({ name }) => name);
    if (names.length > 0 && !names.some((name) => clusters.has(name))) return r;
    return { ...r, typed_per_filter_config: { ...asObject(r.typed_per_filter_config), [NAME]: ASK } };
  };
  if (!config.virtual_hosts) return config;
  const hosts = asObjects(config.virtual_hosts).map(
    (host): JsonObject => (host.routes ? { ...host, routes: asObjects(host.routes).map(route) } : host),
  );
  return { ...config, virtual_hosts: hosts };
}

function filters(list: readonly JsonObject[]): JsonObject[] {
  return list.flatMap((filter): JsonObject[] => {
    const config = asObject(filter.typed_config);
    if (config?.['@type'] !== TYPE.ROUTER) return [filter];
    const metadata = {
      [BREAKER_KEYS.cluster]: '%UPSTREAM_CLUSTER_RAW%',
      [BREAKER_KEYS.end]: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
      ...(config.suppress_envoy_headers === true ? { [BREAKER_KEYS.quiet]: '1' } : {}),
    };
    return [askingFilter(NAME, metadata, { disabled: true, marked: false }), filter];
  });
}

/**
 * The resources in which the proxy asks before it sends requests to one of `clusters`. Nothing changes where there are none.
 * @param path the Unix socket on which the agent answers
 */
export function withBreakers(resources: Resources, clusters: ReadonlySet<string>, path: string): Resources {
  if (clusters.size === 0) return resources;
  const known = resources.clusters.some((cluster) => asString(cluster.name) === CONSULT_CLUSTER);
  return {
    ...resources,
    clusters: known ? resources.clusters : [...resources.clusters, consultCluster(path)],
    routeConfigs: resources.routeConfigs.map((config) => asking(config, clusters)),
    listeners: resources.listeners.map((listener) =>
      mapManagers(listener, (hcm): JsonObject => {
        const config = asObject(hcm.route_config);
        return {
          ...hcm,
          http_filters: filters(asObjects(hcm.http_filters)),
          ...(config ? { route_config: asking(config, clusters) } : {}),
        };
      }),
    ),
  };
}
