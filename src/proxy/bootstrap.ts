import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { UNNAMED } from '../plan/user-agent.js';
import { asObject, asObjects, asString, connectionManagers, TYPE } from '../policy/envoy/walk.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';

/** What Envoy is started with: its bootstrap, and the files that it watches, by path. */
export interface ProxyFiles {
  readonly bootstrap: JsonObject;
  readonly clusters: JsonObject[];
  readonly listeners: JsonObject[];
  /** route configurations by name */
  readonly routes: ReadonlyMap<string, JsonObject>;
  /** load assignments by the name that they are asked for with, and a name of a cluster in statistics that asks */
  readonly endpoints: ReadonlyMap<string, { readonly assignment: JsonObject; readonly cluster: string }>;
  readonly paths: ProxyPaths;
}

/** Where the files of a proxy are. */
export interface ProxyPaths {
  readonly clusters: string;
  readonly listeners: string;
  routes(name: string): string;
  endpoints(name: string): string;
}

/** Longest path of a unix socket. */
const MAX_SOCKET_PATH = 107;

/** The paths of the watched files in `dir`. Names of routes and clusters may hold any character, so they are hashed. */
function proxyPaths(dir: string): ProxyPaths {
  const hash = (name: string) => createHash('sha256').update(name).digest('hex').slice(0, 20);
  return {
    clusters: join(dir, 'clusters.json'),
    listeners: join(dir, 'listeners.json'),
    routes: (name) => join(dir, `routes-${hash(name)}.json`),
    endpoints: (name) => join(dir, `endpoints-${hash(name)}.json`),
  };
}

function watched(path: string): JsonObject {
  return { path_config_source: { path }, resource_api_version: 'V3' };
}

/** A listener with each of its connection managers replaced. The original stays as it is. */
export function mapManagers(listener: JsonObject, change: (hcm: JsonObject) => JsonObject): JsonObject {
  if (connectionManagers(listener).length === 0) return listener;
  const mapChain = (chain: JsonObject): JsonObject => ({
    ...chain,
    filters: asObjects(chain.filters).map((filter) => {
      const config = asObject(filter.typed_config);
      return config?.['@type'] === TYPE.HCM ? { ...filter, typed_config: change(config) } : filter;
    }),
  });
  const changed: JsonObject = { ...listener };
  if (listener.filter_chains) changed.filter_chains = asObjects(listener.filter_chains).map(mapChain);
  const fallback = asObject(listener.default_filter_chain);
  if (fallback) changed.default_filter_chain = mapChain(fallback);
  return changed;
}

/** Every string inside a value. */
function* strings(value: Json | undefined): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (Array.isArray(value)) for (const item of value) yield* strings(item);
  else if (value !== null && typeof value === 'object') for (const item of Object.values(value)) yield* strings(item);
}

/** The parts of a value that say where configuration comes from (`api_config_source` and the like). */
function* configSources(value: Json | undefined): Generator<Json> {
  if (Array.isArray(value)) for (const item of value) yield* configSources(item);
  else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) {
      if (key === 'api_config_source') yield item;
      else yield* configSources(item);
    }
  }
}

/**
 * Names of the clusters that Envoy wants in its bootstrap: those that the rest of the bootstrap (tracing, stats sinks,
 * the local cluster) or a source of configuration may refer to. Any mention counts.
 */
function fixedClusters(resources: Resources): Set<string> {
  const { static_resources: _, ...rest } = resources.bootstrap;
  const mentioned = new Set(strings(rest));
  for (const object of [...resources.listeners, ...resources.clusters, resources.bootstrap]) {
    for (const source of configSources(object)) for (const text of strings(source)) mentioned.add(text);
  }
  return mentioned;
}

function withDefaults(resources: Resources, adminSocket: string | undefined): JsonObject {
  const bootstrap: JsonObject = { ...resources.bootstrap };
  const node = asObject(bootstrap.node) ?? {};
  bootstrap.node = { ...node, id: asString(node.id) || UNNAMED, cluster: asString(node.cluster) || UNNAMED };
  const admin = asObject(bootstrap.admin) ?? {};
  if (!asObject(admin.address)) {
    const address: JsonObject =
      adminSocket !== undefined && Buffer.byteLength(adminSocket) <= MAX_SOCKET_PATH
        ? { pipe: { path: adminSocket, mode: 0o600 } }
        : { socket_address: { address: '127.0.0.1', port_value: 0 } };
    bootstrap.admin = { ...admin, address };
  }
  return bootstrap;
}

/**
 * Makes the bootstrap of an Envoy that serves `resources` and takes changes while it runs: listeners, clusters, route
 * configurations and endpoints come from files in `dir` that it watches. An inline route configuration becomes a file
 * of its own, so that changed routes apply to the next request of connections that are open. The rest of the user's
 * bootstrap is kept; an admin address is added when there is none. Nothing is written.
 */
export function buildBootstrap(resources: Resources, options: { readonly dir: string }): ProxyFiles {
  const paths = proxyPaths(options.dir);
  const named = new Map(resources.routeConfigs.map((config) => [asString(config.name), config]));
  // only those that a listener asks for: Envoy would never acknowledge the others
  const routes = new Map<string, JsonObject>();
  const rds = (name: string): JsonObject => ({ config_source: watched(paths.routes(name)), route_config_name: name });
  const listeners = resources.listeners.map((listener) =>
    mapManagers(listener, (hcm): JsonObject => {
      const inline = asObject(hcm.route_config);
      if (inline) {
        const { route_config: _, ...rest } = hcm;
        const wanted = asString(inline.name) || asString(listener.name);
        let name = wanted;
        for (let i = 2; routes.has(name) || named.has(name); i++) name = `${wanted}~${i}`;
        routes.set(name, { ...inline, name });
        return { ...rest, rds: rds(name) };
      }
      const name = asString(asObject(hcm.rds)?.route_config_name);
      const config = named.get(name);
      if (!config) return hcm;
      routes.set(name, config);
      return { ...hcm, rds: rds(name) };
    }),
  );

  const endpoints = new Map<string, JsonObject>();
  for (const assignment of resources.endpoints) endpoints.set(asString(assignment.cluster_name), assignment);
  const used = new Map<string, { assignment: JsonObject; cluster: string }>();
  const clusters = resources.clusters.map((cluster): JsonObject => {
    const service = serviceName(cluster);
    const assignment = cluster.type === 'EDS' ? endpoints.get(service) : undefined;
    if (!assignment) return cluster;
    used.set(service, { assignment, cluster: asString(cluster.alt_stat_name) || asString(cluster.name) });
    const eds = asObject(cluster.eds_cluster_config) ?? {};
    return { ...cluster, eds_cluster_config: { ...eds, eds_config: watched(paths.endpoints(service)) } };
  });

  const fixed = fixedClusters(resources);
  const bootstrap = withDefaults(resources, join(options.dir, 'admin.sock'));
  const still = asObject(bootstrap.static_resources) ?? {};
  bootstrap.static_resources = {
    ...still,
    clusters: clusters.filter((c) => fixed.has(asString(c.name))),
    listeners: listeners.filter((l) => l.api_listener !== undefined),
  };
  bootstrap.dynamic_resources = { cds_config: watched(paths.clusters), lds_config: watched(paths.listeners) };
  return {
    bootstrap,
    clusters: clusters.filter((c) => !fixed.has(asString(c.name))),
    listeners: listeners.filter((l) => l.api_listener === undefined),
    routes,
    endpoints: used,
    paths,
  };
}

/** The name by which a cluster asks for its load assignment. */
export function serviceName(cluster: JsonObject): string {
  return asString(asObject(cluster.eds_cluster_config)?.service_name) || asString(cluster.name);
}

/**
 * The same resources as one bootstrap in which everything is static: for `envoy --mode validate`, which then checks
 * all of it, and for tests that run Envoy by itself. Endpoints are moved into their clusters.
 */
export function buildStaticBootstrap(resources: Resources): JsonObject {
  const routes = new Map(resources.routeConfigs.map((config) => [asString(config.name), config]));
  const endpoints = new Map(resources.endpoints.map((e) => [asString(e.cluster_name), e]));
  const listeners = resources.listeners.map((listener) =>
    mapManagers(listener, (hcm): JsonObject => {
      const config = routes.get(asString(asObject(hcm.rds)?.route_config_name));
      if (!hcm.rds || !config) return hcm;
      const { rds: _, ...rest } = hcm;
      // what comes by name may name clusters that do not exist, unless it says otherwise
      return { ...rest, route_config: { validate_clusters: false, ...config } };
    }),
  );
  const clusters = resources.clusters.map((cluster): JsonObject => {
    const assignment = cluster.type === 'EDS' ? endpoints.get(serviceName(cluster)) : undefined;
    if (!assignment) return cluster;
    const { eds_cluster_config: _, type: __, ...rest } = cluster;
    return { ...rest, type: 'STATIC', load_assignment: { ...assignment, cluster_name: asString(cluster.name) } };
  });
  const bootstrap = withDefaults(resources, undefined);
  bootstrap.static_resources = { ...(asObject(bootstrap.static_resources) ?? {}), listeners, clusters };
  return bootstrap;
}
