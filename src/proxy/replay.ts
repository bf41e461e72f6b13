/**
 * Requests whose first try the fast path has made. The proxy must make one retry less for them, and would strip
 * `x-envoy-max-retries` from requests of clients that it does not call internal (by default all), so its routes say it.
 */
import { randomUUID } from 'node:crypto';
import { asObject, asObjects, asString } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { mapManagers } from './bootstrap.js';

/** Marks a replayed request. The value is nobody else's to know; the proxy removes the header. */
export const REPLAY_HEADER = { name: 'x-sidestep-replay', value: randomUUID() } as const;

/** Right for the proxy's first try; it counts on from its own first try, so later ones say one less than without us. */
const ATTEMPTS = 'x-envoy-attempt-count';

/** The number of retries after a 503 of a policy; undefined if it does not retry then. */
function retriesAfter503(policy: JsonObject | undefined): number | undefined {
  const conditions = asString(policy?.retry_on)
    .split(',')
    .map((condition) => condition.trim());
  const codes = Array.isArray(policy?.retriable_status_codes) ? policy.retriable_status_codes : [];
  if (!conditions.includes('retriable-status-codes') || !codes.map(Number).includes(503)) return undefined;
  const retries = Number(policy?.num_retries ?? 1);
  return retries > 0 ? retries : undefined;
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

/** The route for replayed requests that stands before `route`. */
function replayRoute(route: JsonObject, virtualHost: JsonObject, config: JsonObject): JsonObject | undefined {
  const action = asObject(route.route);
  const match = asObject(route.match);
  const policy = asObject(action?.retry_policy) ?? asObject(virtualHost.retry_policy);
  const retries = retriesAfter503(policy);
  if (!action || !match || retries === undefined) return undefined;
  const removed = Array.isArray(route.request_headers_to_remove) ? route.request_headers_to_remove : [];
  const copy: JsonObject = {
    ...route,
    match: {
      ...match,
      headers: [
        ...asObjects(match.headers),
        { name: REPLAY_HEADER.name, string_match: { exact: REPLAY_HEADER.value } },
      ],
    },
    route: { ...action, retry_policy: { ...policy, num_retries: retries - 1 } },
    request_headers_to_remove: [...removed, REPLAY_HEADER.name],
  };
  const faults = withoutFaults(config, virtualHost, route);
  if (Object.keys(faults).length > 0)
    copy.typed_per_filter_config = { ...asObject(route.typed_per_filter_config), ...faults };
  if (virtualHost.include_request_attempt_count === true) {
    copy.request_headers_to_add = [
      ...asObjects(route.request_headers_to_add),
      { header: { key: ATTEMPTS, value: '2' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ];
  }
  return copy;
}

function withReplays(config: JsonObject): JsonObject {
  const hosts = asObjects(config.virtual_hosts).map((host): JsonObject => {
    const routes = asObjects(host.routes).flatMap((route) => {
      const replay = replayRoute(route, host, config);
      return replay ? [replay, route] : [route];
    });
    return host.routes ? { ...host, routes } : host;
  });
  return config.virtual_hosts ? { ...config, virtual_hosts: hosts } : config;
}

/** What the proxy is given: the resources, with a route for replayed requests before each that retries after a 503. */
export function withReplayRoutes(resources: Resources): Resources {
  return {
    ...resources,
    routeConfigs: resources.routeConfigs.map(withReplays),
    listeners: resources.listeners.map((listener) =>
      mapManagers(listener, (hcm): JsonObject => {
        const config = asObject(hcm.route_config);
        return config ? { ...hcm, route_config: withReplays(config) } : hcm;
      }),
    ),
  };
}
