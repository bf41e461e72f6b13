/**
 * The proxy's share of circuit breakers that the kernel keeps. Each request in flight is counted once, in the kernel's map:
 * at the end of the filter chain, the proxy asks the agent whether it may send one more to the cluster that the route has
 * chosen, and waits where requests wait for a connection. The cluster's own thresholds stay (connections: for each worker),
 * as what is left without the agent: what it has let through does not reach them, but while connections are being opened.
 */
import { availableParallelism } from 'node:os';
import { durationMs } from '../plan/notes.js';
import { asObject, asObjects, asString, clusterReferences, TYPE } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { mapManagers } from './bootstrap.js';
import { askingFilter, CONSULT_CLUSTER, consultCluster, off, on } from './consult.js';

const NAME = 'sidestep breakers';
/** gRPC metadata: the cluster, whose connection it is, and whether answers keep quiet about Envoy. */
export const BREAKER_KEYS = { cluster: 'sidestep-cluster', end: 'sidestep-end', quiet: 'sidestep-quiet' } as const;

/** Context of a request: the timeout of its route, in milliseconds. */
export const TIMEOUT_KEY = 'sidestep-timeout';
/** Envoy's timeout of routes that say nothing. */
const TIMEOUT_MS = 15_000;
/** As long as a request may wait: for ever. An agent that has stopped is noticed by pings (`consultCluster`). */
const WAIT = '31536000s';
/** Idle connections of the proxy's count at servers beside the kernel's: they are to be no more than those just used. */
const IDLE = '1s';
const IDLE_MS = 1000;

/** What a route's requests say when they ask. */
function ask(action: JsonObject): JsonObject {
  return on({
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute',
    check_settings: {
      disable_request_body_buffering: true,
      context_extensions: { [TIMEOUT_KEY]: String(durationMs(action, 'timeout') ?? TIMEOUT_MS) },
    },
  });
}

/** Configuration of a route whose requests are counted already. */
export const WITHOUT_BREAKERS: JsonObject = { [NAME]: off() };

/** The same routes, asking where they lead, or may lead, to one of the clusters. */
function asking(config: JsonObject, clusters: ReadonlySet<string>): JsonObject {
  const route = (r: JsonObject): JsonObject => {
    const action = asObject(r.route);
    if (!action || action.priority === 'HIGH') return r;
    const names = [...clusterReferences(r)].map(({ name }) => name);
    if (names.length > 0 && !names.some((name) => clusters.has(name))) return r;
    return { ...r, typed_per_filter_config: { ...asObject(r.typed_per_filter_config), [NAME]: ask(action) } };
  };
  if (!config.virtual_hosts) return config;
  const hosts = asObjects(config.virtual_hosts).map(
    (host): JsonObject => (host.routes ? { ...host, routes: asObjects(host.routes).map(route) } : host),
  );
  return { ...config, virtual_hosts: hosts };
}

function filters(list: readonly JsonObject[], waits: boolean): JsonObject[] {
  return list.flatMap((filter): JsonObject[] => {
    const config = asObject(filter.typed_config);
    if (config?.['@type'] !== TYPE.ROUTER) return [filter];
    const metadata = {
      [BREAKER_KEYS.cluster]: '%UPSTREAM_CLUSTER_RAW%',
      [BREAKER_KEYS.end]: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
      ...(config.suppress_envoy_headers === true ? { [BREAKER_KEYS.quiet]: '1' } : {}),
    };
    return [
      askingFilter(NAME, metadata, { disabled: true, marked: false, ...(waits ? { timeout: WAIT } : {}) }),
      filter,
    ];
  });
}

/**
 * A cluster of which the agent counts connections. Each worker of Envoy's has a pool of its own, and what is idle in one would
 * keep another from opening what the agent has allowed, so there may be as many for each; and they are soon closed again.
 */
function countedOutside(cluster: JsonObject): JsonObject {
  const thresholds = asObjects(asObject(cluster.circuit_breakers)?.thresholds);
  const at = thresholds.findIndex(({ priority }) => priority !== 'HIGH');
  const workers = availableParallelism();
  const raised = thresholds.map(
    (t, i): JsonObject =>
      i === at && t.max_connections !== undefined ? { ...t, max_connections: Number(t.max_connections) * workers } : t,
  );
  const key = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
  const all = asObject(cluster.typed_extension_protocol_options);
  const typed = asObject(all?.[key]);
  const common = (owner: JsonObject): JsonObject => {
    const of = asObject(owner.common_http_protocol_options);
    const idle = durationMs(of, 'idle_timeout') ?? 0;
    return { common_http_protocol_options: { ...of, ...(idle > 0 && idle < IDLE_MS ? {} : { idle_timeout: IDLE }) } };
  };
  return {
    ...cluster,
    circuit_breakers: { ...asObject(cluster.circuit_breakers), thresholds: raised },
    ...(typed
      ? { typed_extension_protocol_options: { ...all, [key]: { ...typed, ...common(typed) } } }
      : common(cluster)),
  };
}

/**
 * The resources in which the proxy asks before it sends requests to one of `clusters`. Nothing changes where there are none.
 * @param waiting those of them whose requests may have to wait
 * @param path the Unix socket on which the agent answers
 */
export function withBreakers(
  resources: Resources,
  clusters: ReadonlySet<string>,
  waiting: ReadonlySet<string>,
  path: string,
): Resources {
  if (clusters.size === 0) return resources;
  const known = resources.clusters.some((cluster) => asString(cluster.name) === CONSULT_CLUSTER);
  const own = resources.clusters.map((c) => (waiting.has(asString(c.name)) ? countedOutside(c) : c));
  return {
    ...resources,
    clusters: known ? own : [...own, consultCluster(path)],
    routeConfigs: resources.routeConfigs.map((config) => asking(config, clusters)),
    listeners: resources.listeners.map((listener) =>
      mapManagers(listener, (hcm): JsonObject => {
        const config = asObject(hcm.route_config);
        return {
          ...hcm,
          http_filters: filters(asObjects(hcm.http_filters), waiting.size > 0),
          ...(config ? { route_config: asking(config, clusters) } : {}),
        };
      }),
    ),
  };
}
