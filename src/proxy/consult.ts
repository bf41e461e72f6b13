/**
 * The proxy's share of rate limits that the kernel enforces. A bucket has one place, so the proxy must not have its own:
 * in its copy of the configuration, an ext_authz filter stands before each local_ratelimit filter and asks the agent for
 * the tokens. The filter itself stays behind it for the time when there is no agent: it sees only requests that ext_authz
 * has marked as not asked about. (The kernel decides nothing then.) Configurations that the kernel does not enforce move
 * to a third filter, which is the original.
 *
 * Where answers tell how the bucket stands (x-ratelimit headers), an ext_proc filter asks the agent for it when the answer
 * is there; ext_authz has noted which bucket that is.
 */

import { LOCAL_LIMIT, type LocalLimit } from '../plan/local-limits.js';
import { asObject, asObjects, asString, connectionManagers } from '../policy/envoy/walk.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import { agentCluster } from './agent-cluster.js';
import { mapManagers } from './bootstrap.js';

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';
const LIMIT = `type.googleapis.com/${LOCAL_LIMIT}`;
export const CONSULT_CLUSTER = 'sidestep-consult';
/** A request that could not be asked about; clients may send it, too, and are then limited twice, which changes nothing. */
const FAILED = 'x-envoy-auth-failure-mode-allowed';
/** Longer than the agent ever does something else; an agent that is gone is noticed at once. */
const TIMEOUT = '10s';
/** Where ext_authz keeps what the agent said beside its answer, and the bucket's name there. */
const ASKED = 'envoy.filters.http.ext_authz';
export const SHOWN_KEY = 'sidestep-bucket';
/** gRPC metadata and context with the name of the limit. */
export const LIMIT_KEY = 'sidestep-limit';

const asking = (name: string): string => `${name} (asks the agent)`;
const telling = (name: string): string => `${name} (x-ratelimit headers)`;
const proxys = (name: string): string => `${name} (the proxy's)`;
export const off = (): JsonObject => ({
  '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
  disabled: true,
});
export const on = (config: JsonObject): JsonObject => ({
  '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
  config,
});

/** Names of the local_ratelimit filters in the resources. */
function limitFilters(resources: Resources): Set<string> {
  const names = new Set<string>();
  for (const listener of resources.listeners)
    mapManagers(listener, (hcm) => {
      for (const filter of asObjects(hcm.http_filters))
        if (asObject(filter.typed_config)?.['@type'] === LIMIT) names.add(asString(filter.name));
      return hcm;
    });
  return names;
}

/** Configuration of a route whose requests have had their tokens taken already, by filter. */
export function withoutLimits(resources: Resources): JsonObject {
  const names = [...limitFilters(resources)].flatMap((name) => [asking(name), name, telling(name), proxys(name)]);
  return Object.fromEntries(names.map((name) => [name, off()]));
}

/**
 * A filter that asks the agent.
 * @param metadata what the agent is told beside the request
 * @param marked a request that could not be asked about gets a header that says so
 */
export function askingFilter(
  name: string,
  metadata: Readonly<Record<string, string>>,
  {
    disabled,
    marked,
    timeout = TIMEOUT,
  }: { readonly disabled: boolean; readonly marked: boolean; readonly timeout?: string },
): JsonObject {
  const initial = Object.entries(metadata).map(([key, value]): JsonObject => ({ key, value }));
  return {
    name,
    ...(disabled ? { disabled } : {}),
    typed_config: {
      '@type': `${HTTP}.ext_authz.v3.ExtAuthz`,
      transport_api_version: 'V3',
      failure_mode_allow: true,
      failure_mode_allow_header_add: marked,
      encode_raw_headers: true,
      grpc_service: {
        envoy_grpc: { cluster_name: CONSULT_CLUSTER },
        timeout,
        ...(initial.length > 0 ? { initial_metadata: initial } : {}),
      },
    },
  };
}

/** A filter that asks the agent for the headers of answers. */
function tellingFilter(name: string, disabled: boolean): JsonObject {
  return {
    name,
    ...(disabled ? { disabled } : {}),
    typed_config: {
      '@type': `${HTTP}.ext_proc.v3.ExternalProcessor`,
      grpc_service: { envoy_grpc: { cluster_name: CONSULT_CLUSTER } },
      message_timeout: TIMEOUT,
      failure_mode_allow: true,
      processing_mode: { request_header_mode: 'SKIP', response_header_mode: 'SEND' },
      metadata_options: { forwarding_namespaces: { untyped: [ASKED] } },
    },
  };
}

/** The filter, skipped by requests that were asked about. */
function lastResort(name: string, config: JsonObject, disabled: boolean): JsonObject {
  const header: JsonObject = {
    single_predicate: {
      input: {
        name: FAILED,
        typed_config: {
          '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput',
          header_name: FAILED,
        },
      },
      value_match: { exact: 'true' },
    },
  };
  const skip: JsonObject = {
    name: 'skip',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter' },
  };
  return {
    name,
    ...(disabled ? { disabled } : {}),
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher',
      extension_config: { name, typed_config: config },
      xds_matcher: {
        matcher_list: { matchers: [{ predicate: { not_matcher: header }, on_match: { action: skip } }] },
      },
    },
  };
}

/** What the proxy gets for each filter and each configuration of one. */
class Rewriting {
  /** some answers tell how a bucket stands */
  readonly #figures: boolean;

  constructor(
    private readonly names: ReadonlySet<string>,
    private readonly limits: ReadonlyMap<JsonObject, LocalLimit>,
  ) {
    this.#figures = [...limits.values()].some(({ figures }) => figures);
  }

  /** What a configuration of a filter becomes: who asks about it, who is the last resort, who tells. */
  #settings(name: string, id: string, config: JsonObject, figures: boolean): JsonObject {
    return {
      [asking(name)]: on(contextOf(id)),
      [name]: on(config),
      ...(this.#figures ? { [telling(name)]: figures ? on(TELLS) : off() } : {}),
      [proxys(name)]: off(),
    };
  }

  filters(filters: readonly JsonObject[]): JsonObject[] {
    return filters.flatMap((filter): JsonObject[] => {
      const config = asObject(filter.typed_config);
      if (config?.['@type'] !== LIMIT) return [filter];
      const name = asString(filter.name);
      const limit = this.limits.get(config);
      const idle: JsonObject = { '@type': LIMIT, stat_prefix: asString(config.stat_prefix) };
      const disabled = filter.disabled === true;
      return [
        askingFilter(asking(name), limit ? { [LIMIT_KEY]: limit.id } : {}, {
          disabled: !limit || disabled,
          marked: true,
        }),
        lastResort(name, limit ? config : idle, !limit || disabled),
        ...(this.#figures ? [tellingFilter(telling(name), !limit?.figures || disabled)] : []),
        { ...filter, name: proxys(name), ...(limit ? { typed_config: idle, disabled: true } : {}) },
      ];
    });
  }

  /** The same for the configurations of one route, virtual host, weighted cluster or route configuration. */
  perRoute(owner: JsonObject): JsonObject {
    const all = asObject(owner.typed_per_filter_config);
    if (!all || !Object.keys(all).some((name) => this.names.has(name))) return owner;
    const changed: JsonObject = { ...all };
    for (const name of this.names) {
      const config = asObject(all[name]);
      if (!config) continue;
      const typed = config['@type'] === LIMIT ? config : asObject(config.config);
      const limit = typed && config.disabled !== true ? this.limits.get(typed) : undefined;
      const kept = typed && config.disabled !== true && !limit;
      const none = {
        [asking(name)]: off(),
        [name]: off(),
        ...(this.#figures ? { [telling(name)]: off() } : {}),
        [proxys(name)]: kept ? on(typed) : off(),
      };
      Object.assign(changed, limit ? this.#settings(name, limit.id, typed!, limit.figures) : none);
    }
    return { ...owner, typed_per_filter_config: changed };
  }

  /** Routes for requests that have none: the filter knows them, ext_authz would not ask. */
  private withLastRoutes(config: JsonObject, filters: readonly JsonObject[]): JsonObject {
    const settings: JsonObject = {};
    for (const filter of filters) {
      const own = asObject(filter.typed_config);
      const limit = own && this.limits.get(own);
      if (!limit || filter.disabled === true) continue;
      // whatever stands above the routes is not for them: the filter's own configuration is, which its metadata names
      Object.assign(settings, this.#settings(asString(filter.name), '', own, limit.figures));
    }
    if (Object.keys(settings).length === 0) return config;
    const last = [{ prefix: '' }, { connect_matcher: {} }].map(
      (match): JsonObject => ({ match, direct_response: { status: 404 }, typed_per_filter_config: settings }),
    );
    const hosts = asObjects(config.virtual_hosts).map(
      (host): JsonObject => ({ ...host, routes: [...asObjects(host.routes), ...last] }),
    );
    const all = hosts.some((host) => Array.isArray(host.domains) && host.domains.includes('*'));
    if (!all) hosts.push({ name: 'sidestep (no virtual host)', domains: ['*'], routes: last });
    return { ...config, virtual_hosts: hosts };
  }

  /** @param filters those of the connection manager, if there is only one with these routes */
  routes(config: JsonObject, filters: readonly JsonObject[]): JsonObject {
    const mapAll = (owner: JsonObject, key: string, map: (item: JsonObject) => JsonObject): JsonObject =>
      owner[key] === undefined ? owner : { ...owner, [key]: asObjects(owner[key]).map(map) };
    const route = (r: JsonObject): JsonObject => {
      const action = asObject(r.route);
      const weighted = asObject(action?.weighted_clusters);
      if (!weighted) return this.perRoute(r);
      const clusters = mapAll(weighted, 'clusters', (cluster) => this.perRoute(cluster));
      return this.perRoute({ ...r, route: { ...action, weighted_clusters: clusters } as Json });
    };
    const asked = this.perRoute(mapAll(config, 'virtual_hosts', (v) => this.perRoute(mapAll(v, 'routes', route))));
    return this.withLastRoutes(asked, filters);
  }
}

function contextOf(id: string): JsonObject {
  return {
    '@type': `${HTTP}.ext_authz.v3.ExtAuthzPerRoute`,
    check_settings: { context_extensions: { [LIMIT_KEY]: id } },
  };
}

const TELLS: JsonObject = { '@type': `${HTTP}.ext_proc.v3.ExtProcPerRoute`, overrides: {} };

/** Where the agent answers: one HTTP/2 connection for each worker, without bounds. */
export function consultCluster(path: string): JsonObject {
  const most = 1_000_000_000;
  return agentCluster(CONSULT_CLUSTER, path, {
    connect_timeout: TIMEOUT,
    circuit_breakers: { thresholds: [{ max_connections: most, max_pending_requests: most, max_requests: most }] },
  });
}

/**
 * The resources in which the proxy asks for the tokens of `limits`. Nothing changes where there are none.
 * @param limits by the identity of the configuration in `resources`
 * @param path the Unix socket on which the agent answers
 */
export function withConsults(
  resources: Resources,
  limits: ReadonlyMap<JsonObject, LocalLimit>,
  path: string,
): Resources {
  if (limits.size === 0) return resources;
  const rewriting = new Rewriting(limitFilters(resources), limits);
  const users = new Map<string, JsonObject[]>();
  for (const hcm of resources.listeners.flatMap(connectionManagers)) {
    const name = asString(asObject(hcm.rds)?.route_config_name);
    users.set(name, [...(users.get(name) ?? []), ...asObjects(hcm.http_filters)]);
  }
  return {
    ...resources,
    clusters: [...resources.clusters, consultCluster(path)],
    routeConfigs: resources.routeConfigs.map((config) =>
      rewriting.routes(config, users.get(asString(config.name)) ?? []),
    ),
    listeners: resources.listeners.map((listener) =>
      mapManagers(listener, (hcm): JsonObject => {
        const config = asObject(hcm.route_config);
        return {
          ...hcm,
          http_filters: rewriting.filters(asObjects(hcm.http_filters)),
          ...(config ? { route_config: rewriting.routes(config, asObjects(hcm.http_filters)) } : {}),
        };
      }),
    ),
  };
}
