/**
 * Faults that delay some requests. Which ones is drawn in the kernel; those come with a mark, for which the proxy has
 * routes that delay every request. What comes without it, the proxy draws for.
 */
import { asObject, asObjects, asString } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { mapManagers } from './bootstrap.js';
import { secretHeader } from './replay.js';

const MARK = secretHeader('x-sidestep-delay');
/** The header line that marks a request. The proxy removes it. */
export const DELAY_LINE = `${MARK.name}: ${MARK.value}\r\n`;

const FAULT = 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault';
const ALL = { numerator: 100, denominator: 'HUNDRED' };

/** A fault filter's configuration, perhaps in a FilterConfig. */
function faultOf(config: JsonObject | undefined): JsonObject | undefined {
  const inner = asObject(config?.config) ?? config;
  return asString(inner?.['@type']) === FAULT ? inner : undefined;
}

/** The configuration that delays every request, where it delays some. */
function certain(config: JsonObject): JsonObject | undefined {
  const fault = faultOf(config);
  const delay = asObject(fault?.delay);
  if (!fault || !delay || delay.header_delay !== undefined) return undefined;
  return { ...fault, delay: { ...delay, percentage: ALL } };
}

/** What the fault filters of these levels say, the most specific last, made certain; undefined: no delays. */
function certainly(levels: readonly (JsonObject | undefined)[]): JsonObject | undefined {
  const said = Object.assign({}, ...levels.map((level) => level ?? {})) as JsonObject;
  const found = Object.entries(said).flatMap(([name, config]) => {
    const made = certain(asObject(config) ?? {});
    return made ? [[name, made] as const] : [];
  });
  return found.length > 0 ? Object.fromEntries(found) : undefined;
}

function marked(route: JsonObject, around: readonly (JsonObject | undefined)[]): JsonObject[] {
  const match = asObject(route.match);
  const filters = asObject(route.typed_per_filter_config);
  const own = certainly([...around, filters]);
  if (!match || !own) return [];
  const removed = Array.isArray(route.request_headers_to_remove) ? route.request_headers_to_remove : [];
  const headers = [...asObjects(match.headers), { name: MARK.name, string_match: { exact: MARK.value } }];
  return [
    {
      ...route,
      match: { ...match, headers },
      request_headers_to_remove: [...removed, MARK.name],
      typed_per_filter_config: { ...filters, ...own },
    },
  ];
}

function withMarked(config: JsonObject, filters: JsonObject): JsonObject {
  const hosts = asObjects(config.virtual_hosts).map((host): JsonObject => {
    const around = [filters, asObject(config.typed_per_filter_config), asObject(host.typed_per_filter_config)];
    const routes = asObjects(host.routes).flatMap((route) => [...marked(route, around), route]);
    return host.routes ? { ...host, routes } : host;
  });
  return config.virtual_hosts ? { ...config, virtual_hosts: hosts } : config;
}

/** The fault filters of a connection manager that are not switched off. */
function filtersOf(hcm: JsonObject): JsonObject {
  const found = asObjects(hcm.http_filters).flatMap((filter) => {
    const config = asObject(filter.typed_config);
    return faultOf(config) && filter.disabled !== true ? [[asString(filter.name), config!] as const] : [];
  });
  return Object.fromEntries(found);
}

/** What the proxy is given: the resources, with routes for marked requests before each that delays some. */
export function withDelayRoutes(resources: Resources): Resources {
  const shared = new Map<string, JsonObject>();
  const listeners = resources.listeners.map((listener) =>
    mapManagers(listener, (hcm): JsonObject => {
      const filters = filtersOf(hcm);
      const name = asString(asObject(hcm.rds)?.route_config_name);
      if (name !== '') shared.set(name, { ...shared.get(name), ...filters });
      const config = asObject(hcm.route_config);
      return config ? { ...hcm, route_config: withMarked(config, filters) } : hcm;
    }),
  );
  const routeConfigs = resources.routeConfigs.map((config) =>
    withMarked(config, shared.get(asString(config.name)) ?? {}),
  );
  return { ...resources, listeners, routeConfigs };
}
