/**
 * Requests whose first try the fast path has made. The proxy must make one retry less for them, and would strip
 * `x-envoy-max-retries` from requests of clients that it does not call internal (by default all), so its routes say it.
 */
import { randomUUID } from 'node:crypto';
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { backOffOf, retried, retriesOf, triesAgain } from '../plan/retry.js';
import { asObject, asObjects, asString } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { mapManagers } from './bootstrap.js';
import { withoutMirrors } from './mirrors.js';
import { TRIED_HEADER, TriedRoutes } from './tried.js';

/**
 * A header with a value that is nobody else's to know. The thread that makes the proxy's routes and the one that sends
 * requests mean the same: threads inherit it.
 */
export function secretHeader(name: string): { readonly name: string; readonly value: string } {
  const known = getEnvironmentData(name);
  const value = typeof known === 'string' ? known : randomUUID();
  setEnvironmentData(name, value);
  return { name, value };
}

/** Marks a replayed request; the proxy removes the header. */
export const REPLAY_HEADER = secretHeader('x-sidestep-replay');

/** Right for the proxy's first try; it counts on from its own first try, so later ones say one less than without us. */
const ATTEMPTS = 'x-envoy-attempt-count';

/** The header's value for a request whose first try went to the cluster at `choice` of those with a weight. */
export function replayMark(choice: number): string {
  return `${REPLAY_HEADER.value}-${choice}`;
}

const FAULT = 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault';

/** Faults were drawn for the first try: configurations that let every replay pass. */
function withoutFaults(...levels: readonly JsonObject[]): JsonObject {
  const filters: JsonObject = {};
  for (const level of levels)
    for (const [name, config] of Object.entries(asObject(level.typed_per_filter_config) ?? {})) {
      const typed = asObject(config);
      const inner = asObject(typed?.config) ?? typed;
      if (asString(inner?.['@type']) === FAULT) filters[name] = { '@type': FAULT };
    }
  return filters;
}

/** A policy after its first retry: one less, and the next one waits up to twice as long as the first. */
function rest(policy: JsonObject): JsonObject {
  const { base, max } = backOffOf(policy);
  const seconds = (ms: number) => `${ms / 1000}s`;
  return {
    ...policy,
    num_retries: retriesOf(policy) - 1,
    retry_back_off: { base_interval: seconds(Math.min(2 * base, max)), max_interval: seconds(max) },
  };
}

/** The action for a request whose first try went to the cluster at `choice`: the others do not come into question. */
function settled(action: JsonObject, choice: number): JsonObject | undefined {
  const weighted = asObject(action.weighted_clusters);
  if (!weighted) return choice === 0 ? action : undefined;
  const chosen = asObjects(weighted.clusters).filter((c) => Number(c.weight ?? 0) > 0)[choice];
  if (!chosen) return undefined;
  const { total_weight: _, ...others } = weighted;
  return { ...action, weighted_clusters: { ...others, clusters: [chosen] } };
}

/** The clusters that an action names. */
function clustersOf(action: JsonObject): string[] {
  const weighted = asObjects(asObject(action.weighted_clusters)?.clusters).map(({ name }) => asString(name));
  return [asString(action.cluster), ...weighted];
}

/**
 * The routes for replayed requests that stand before `route`, one for each cluster that it leads to.
 * @param settings per-route configurations of filters that have had their say for the first try
 */
function replayRoutes(
  route: JsonObject,
  virtualHost: JsonObject,
  config: JsonObject,
  settings: JsonObject,
  streamed: ReadonlySet<string>,
  tried: TriedRoutes,
): JsonObject[] {
  const action = asObject(route.route);
  const match = asObject(route.match);
  const policy = asObject(action?.retry_policy) ?? asObject(virtualHost.retry_policy);
  if (!action || !match || !policy || retriesOf(policy) < 1) return [];
  if (
    !triesAgain(
      retried(policy),
      clustersOf(action).some((name) => streamed.has(name)),
    )
  )
    return [];
  const removed = Array.isArray(route.request_headers_to_remove) ? route.request_headers_to_remove : [];
  const told = tried.areTold(action, policy);
  const found: JsonObject[] = [];
  for (let choice = 0; ; choice++) {
    const own = settled(action, choice);
    if (!own) return found;
    const copy: JsonObject = {
      ...route,
      match: {
        ...match,
        headers: [
          ...asObjects(match.headers),
          { name: REPLAY_HEADER.name, string_match: { exact: replayMark(choice) } },
        ],
      },
      route: { ...withoutMirrors(own, virtualHost, config), retry_policy: rest(policy) },
      request_headers_to_remove: [...removed, REPLAY_HEADER.name, TRIED_HEADER],
    };
    const done = { ...withoutFaults(config, virtualHost, route), ...settings };
    if (Object.keys(done).length > 0)
      copy.typed_per_filter_config = { ...asObject(route.typed_per_filter_config), ...done };
    if (told) found.push(...tried.told(copy, policy));
    if (virtualHost.include_request_attempt_count === true) {
      copy.request_headers_to_add = [
        ...asObjects(route.request_headers_to_add),
        { header: { key: ATTEMPTS, value: '2' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ];
    }
    found.push(copy);
  }
}

function withReplays(
  config: JsonObject,
  settings: JsonObject,
  streamed: ReadonlySet<string>,
  tried: TriedRoutes,
): JsonObject {
  const hosts = asObjects(config.virtual_hosts).map((host): JsonObject => {
    const routes = asObjects(host.routes).flatMap((route) => [
      ...replayRoutes(route, host, config, settings, streamed, tried),
      route,
    ]);
    return host.routes ? { ...host, routes } : host;
  });
  return config.virtual_hosts ? { ...config, virtual_hosts: hosts } : config;
}

/**
 * What the proxy is given: the resources, with routes for replayed requests before each that retries after an answer.
 * @param settings per-route configurations of filters that have had their say for the first try
 * @param streamed clusters that the kernel sends requests of HTTP/2 to, of which more is retried
 * @param tried clusters whose endpoints are avoided that the kernel has tried
 */
export function withReplayRoutes(
  resources: Resources,
  settings: JsonObject = {},
  streamed: ReadonlySet<string> = new Set(),
  tried: ReadonlySet<string> = new Set(),
): Resources {
  const routes = new TriedRoutes(resources, tried);
  const replayed = (config: JsonObject) => routes.config(config, () => withReplays(config, settings, streamed, routes));
  // before the connection managers, which may name them
  const routeConfigs = resources.routeConfigs.map(replayed);
  const all: Resources = {
    ...resources,
    routeConfigs,
    listeners: resources.listeners.map((listener) =>
      mapManagers(listener, (hcm): JsonObject => {
        const config = asObject(hcm.route_config);
        return routes.manager(config ? { ...hcm, route_config: replayed(config) } : hcm);
      }),
    ),
  };
  return { ...all, clusters: [...resources.clusters, ...routes.clusters()] };
}
