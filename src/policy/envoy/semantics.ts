import { isIP } from 'node:net';
import type { Diagnostic } from '../diagnostics.js';
import type { Json, JsonObject, Resources } from '../resources.js';
import {
  asObject,
  asObjects,
  asString,
  clusterReferences,
  connectionManagers,
  filterChains,
  TYPE,
  tcpAddress,
} from './walk.js';

type Report = (object: object, key: string | undefined, field: string, code: string, message: string) => void;

/**
 * Finds what Envoy refuses although every field by itself is right: names that appear twice, routes to clusters that
 * do not exist, weights that add up to nothing, names where addresses must stand. Adds diagnostics to `resources`.
 *
 * @param part the clusters are in other files, which are not at hand: that they are missing is only a warning
 */
export function checkSemantics(resources: Resources, part: boolean): void {
  const report =
    (severity: Diagnostic['severity']): Report =>
    (object, key, field, code, message) => {
      const position = resources.provenance.get(object, key);
      resources.diagnostics.push({ severity, code, message, field, ...(position ? { position } : {}) });
    };
  const error = report('error');
  const warning = report('warning');

  unique(resources.clusters, 'name', 'cluster', error);
  unique(resources.listeners, 'name', 'listener', error);
  unique(resources.routeConfigs, 'name', 'route configuration', error);
  const clusters = new Set(resources.clusters.map((cluster) => asString(cluster.name)));

  const addresses = new Map<string, string>();
  for (const cluster of resources.clusters) checkCluster(cluster, error);
  for (const listener of resources.listeners) {
    const name = asString(listener.name);
    checkAddress(asObject(listener.address), `listener ${name}: address`, error);
    const address = tcpAddress(listener.address);
    if (address && address.port !== 0) {
      const key = `${address.address}:${address.port}`;
      const other = addresses.get(key);
      if (other !== undefined) {
        error(
          listener,
          'address',
          `listener ${name}: address`,
          'duplicate-address',
          `listener ${other} has ${key} already`,
        );
      }
      addresses.set(key, name);
    }
    if (filterChains(listener).length === 0 && !listener.api_listener && asObject(listener.address)?.socket_address) {
      const udp = asObject(asObject(listener.address)?.socket_address)?.protocol === 'UDP';
      if (!udp) error(listener, undefined, `listener ${name}`, 'no-filter-chain', 'needs a filter chain');
    }
    for (const chain of filterChains(listener)) {
      for (const filter of asObjects(chain.filters)) checkConfigured(filter, `listener ${name}: filters`, error);
    }
    for (const hcm of connectionManagers(listener)) {
      checkFilterChain(hcm, `listener ${name}`, error);
      const routes = asObject(hcm.route_config);
      if (routes) checkRoutes(routes, clusters, routes.validate_clusters !== false && !part ? error : warning, error);
    }
  }
  for (const routes of resources.routeConfigs) {
    checkRoutes(routes, clusters, routes.validate_clusters === true ? error : warning, error);
  }
}

function unique(objects: readonly JsonObject[], key: string, what: string, error: Report): void {
  const seen = new Set<string>();
  for (const object of objects) {
    const name = asString(object[key]);
    if (seen.has(name))
      error(object, key, `${what} ${name}`, 'duplicate-name', `there is another ${what} called ${name}`);
    seen.add(name);
  }
}

function checkAddress(address: JsonObject | undefined, field: string, error: Report): void {
  const socket = asObject(address?.socket_address);
  if (!socket || socket.resolver_name) return;
  const text = asString(socket.address);
  if (isIP(text) === 0) {
    error(socket, 'address', `${field}.socket_address.address`, 'invalid-address', `${text} is not an IP address`);
  }
}

function checkCluster(cluster: JsonObject, error: Report): void {
  const name = asString(cluster.name);
  if (cluster.type === 'EDS' && !asObject(cluster.eds_cluster_config)?.eds_config) {
    error(
      cluster,
      'type',
      `cluster ${name}`,
      'missing-eds-config',
      'a cluster of type EDS needs eds_cluster_config.eds_config',
    );
  }
  const byAddress = cluster.type === undefined || cluster.type === 'STATIC' || cluster.type === 'EDS';
  if (cluster.cluster_type || !byAddress) return;
  for (const locality of asObjects(asObject(cluster.load_assignment)?.endpoints)) {
    for (const entry of asObjects(locality.lb_endpoints)) {
      checkAddress(asObject(asObject(entry.endpoint)?.address), `cluster ${name}: endpoint.address`, error);
    }
  }
}

function checkConfigured(filter: JsonObject, field: string, error: Report): void {
  if (asObject(filter.typed_config)?.['@type'] || filter.config_discovery || filter.is_optional) return;
  const name = asString(filter.name);
  error(filter, undefined, field, 'missing-type', `the filter ${name} needs a typed_config with its "@type"`);
}

function checkFilterChain(hcm: JsonObject, field: string, error: Report): void {
  const filters = asObjects(hcm.http_filters);
  const routers = filters.map((f) => asObject(f.typed_config)?.['@type'] === TYPE.ROUTER);
  for (const [i, filter] of filters.entries()) {
    checkConfigured(filter, `${field}: http_filters[${i}]`, error);
    if (routers[i] && i < filters.length - 1) {
      error(filter, undefined, `${field}: http_filters[${i}]`, 'filter-order', 'the router must be the last filter');
    }
  }
}

/** Rules for one route configuration; `missing` reports clusters that do not exist. */
function checkRoutes(config: JsonObject, clusters: ReadonlySet<string>, missing: Report, error: Report): void {
  checkHeaders(config, 'route_config', error);
  checkPerFilter(config, '', error);
  const domains = new Map<string, string>();
  for (const vhost of asObjects(config.virtual_hosts)) {
    const name = asString(vhost.name);
    checkHeaders(vhost, `virtual_hosts[${JSON.stringify(name)}]`, error);
    checkPerFilter(vhost, `virtual_hosts[${JSON.stringify(name)}].`, error);
    const list = Array.isArray(vhost.domains) ? vhost.domains : [];
    for (const [i, domain] of list.entries()) {
      const key = asString(domain).toLowerCase();
      const other = domains.get(key);
      const field = `virtual_hosts[${JSON.stringify(name)}].domains[${i}]`;
      if (other !== undefined) {
        error(list, `${i}`, field, 'duplicate-domain', `the domain ${key} is already one of virtual host ${other}`);
      }
      domains.set(key, name);
    }
    for (const [i, route] of asObjects(vhost.routes).entries()) {
      checkRoute(route, `virtual_hosts[${JSON.stringify(name)}].routes[${i}]`, clusters, missing, error);
    }
  }
}

function checkRoute(
  route: JsonObject,
  path: string,
  clusters: ReadonlySet<string>,
  missing: Report,
  error: Report,
): void {
  for (const { name, object, field } of clusterReferences(route)) {
    if (!clusters.has(name))
      missing(object, field, `${path}.${field}`, 'unknown-cluster', `there is no cluster ${name}`);
  }
  checkHeaders(route, path, error);
  checkPerFilter(route, `${path}.`, error);
  const action = asObject(route.route);
  const rewrites = ['prefix_rewrite', 'regex_rewrite', 'path_rewrite_policy'].filter(
    (key) => action?.[key] !== undefined,
  );
  if (action && rewrites.length > 1) {
    error(action, rewrites[1], `${path}.route`, 'conflict', `only one of ${rewrites.join(', ')} may be set`);
  }
  const weighted = asObject(action?.weighted_clusters);
  if (!weighted) return;
  for (const [i, cluster] of asObjects(weighted.clusters).entries())
    checkPerFilter(cluster, `${path}.route.weighted_clusters.clusters[${i}].`, error);
  const total = asObjects(weighted.clusters).reduce((sum, c) => sum + Number(c.weight ?? 0), 0);
  const field = `${path}.route.weighted_clusters`;
  if (total === 0) error(weighted, undefined, field, 'invalid-weights', 'the weights must add up to more than 0');
  if (total > 4294967295)
    error(weighted, undefined, field, 'invalid-weights', 'the weights add up to more than 2^32-1');
}

const FILTER_CONFIG = 'type.googleapis.com/envoy.config.route.v3.FilterConfig';

/** A FilterConfig says of a filter's configuration whether it counts; Envoy takes none for the configuration itself. */
function checkPerFilter(holder: JsonObject, path: string, error: Report): void {
  const filters = asObject(holder.typed_per_filter_config) ?? {};
  for (const [name, outer] of Object.entries(filters)) {
    const config = asObject(outer)?.['@type'] === FILTER_CONFIG ? asObject(asObject(outer)?.config) : undefined;
    if (config?.['@type'] !== FILTER_CONFIG) continue;
    const field = `${path}typed_per_filter_config[${JSON.stringify(name)}].config`;
    error(config, undefined, field, 'invalid-value', 'a FilterConfig may not hold another one');
  }
}

/** Pseudo headers and `host` are changed by other fields than the header edits. */
function checkHeaders(holder: JsonObject, path: string, error: Report): void {
  const special = (name: string) => name.startsWith(':') || name.toLowerCase() === 'host';
  const removed = Array.isArray(holder.request_headers_to_remove) ? holder.request_headers_to_remove : [];
  for (const [i, name] of removed.entries()) {
    const field = `${path}.request_headers_to_remove[${i}]`;
    if (special(asString(name))) error(removed, `${i}`, field, 'invalid-header', `${name} may not be removed`);
  }
  for (const [i, option] of asObjects(holder.request_headers_to_add).entries()) {
    const header = asObject(option.header);
    const name = asString(header?.key);
    const field = `${path}.request_headers_to_add[${i}].header.key`;
    if (header && special(name)) error(header, 'key', field, 'invalid-header', `${name} may not be changed so`);
  }
}

/** Whether a JSON value is a non-empty object. */
export function hasFields(value: Json | undefined): boolean {
  return Object.keys(asObject(value) ?? {}).length > 0;
}
