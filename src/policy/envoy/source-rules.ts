import type { Position } from '../diagnostics.js';
import type { Intercept, JsonObject, Provenance, Resources, SourceRule } from '../resources.js';
import { asObject, asObjects, asString, connectionManagers, TYPE, tcpAddress, tcpProxies } from './walk.js';

/** Addresses of the listeners that speak HTTP or are TCP proxies: connections to them are what is intercepted. */
export function interceptsOf(listener: JsonObject): Intercept[] {
  const http = connectionManagers(listener).length > 0;
  if ((!http && tcpProxies(listener).length === 0) || listener.bind_to_port === false) return [];
  const inbound = listener.traffic_direction === 'INBOUND';
  if (inbound && !http) return [];
  const addresses = [listener.address, ...asObjects(listener.additional_addresses).map((a) => a.address)];
  return addresses
    .map(tcpAddress)
    .filter((a): a is { address: string; port: number } => a !== undefined && a.port !== 0)
    .map(({ address, port }) => ({
      ...{ address, port, listener: asString(listener.name) },
      ...(inbound ? { inbound: 'proxy' as const } : {}),
    }));
}

/**
 * The rules of Envoy's own configuration: one for each route, each RBAC policy, each other HTTP filter that may
 * decide something about a request, and each TCP proxy. Ids are unique within the list.
 */
export function sourceRules(resources: Pick<Resources, 'listeners' | 'routeConfigs' | 'provenance'>): SourceRule[] {
  const rules = new Rules(resources.provenance);
  for (const listener of resources.listeners) {
    for (const hcm of connectionManagers(listener)) {
      const where = asString(listener.name);
      for (const [i, filter] of asObjects(hcm.http_filters).entries()) rules.filter(filter, where, i);
      const routes = asObject(hcm.route_config);
      if (routes) rules.routes(routes, where);
    }
  }
  for (const listener of resources.listeners)
    for (const proxy of tcpProxies(listener)) rules.connections(proxy, asString(listener.name));
  for (const routes of resources.routeConfigs) rules.routes(routes, asString(routes.name));
  return rules.list;
}

class Rules {
  readonly list: SourceRule[] = [];
  readonly #ids = new Map<string, number>();

  constructor(private readonly provenance: Provenance) {}

  private add(kind: string, name: string, rule: string, object: JsonObject, where: string): void {
    const base = `${where}/${name}#${rule}`;
    const count = this.#ids.get(base) ?? 0;
    this.#ids.set(base, count + 1);
    const position: Position = this.provenance.get(object) ?? { file: '', line: 1, column: 1 };
    const id = count === 0 ? base : `${base}~${count + 1}`;
    this.list.push({ id, kind, name, rule, position, objects: [object], unsupported: [] });
  }

  /** The policies of an RBAC filter or per-route override; false when it has none in that form. */
  private rbac(config: JsonObject | undefined, name: string, where: string): boolean {
    const policies = asObject(asObject(config?.rules)?.policies);
    if (!policies) return false;
    for (const [policy, value] of Object.entries(policies)) {
      const object = asObject(value);
      if (object) this.add('RBAC', name, `policies[${JSON.stringify(policy)}]`, object, where);
    }
    return Object.keys(policies).length > 0;
  }

  filter(filter: JsonObject, where: string, index: number): void {
    const config = asObject(filter.typed_config);
    const type = config?.['@type'];
    if (type === TYPE.ROUTER) return;
    const name = asString(filter.name);
    if (type === TYPE.RBAC && this.rbac(config, name, where)) return;
    this.add('HttpFilter', name, `http_filters[${index}]`, filter, where);
  }

  connections(proxy: JsonObject, where: string): void {
    this.add('TcpProxy', asString(proxy.stat_prefix), 'tcp_proxy', proxy, where);
  }

  routes(config: JsonObject, where: string): void {
    for (const vhost of asObjects(config.virtual_hosts)) {
      const name = asString(vhost.name);
      this.overrides(vhost, name, where);
      for (const [i, route] of asObjects(vhost.routes).entries()) {
        this.add('Route', name, asString(route.name) || `routes[${i}]`, route, where);
        this.overrides(route, `${name}/${asString(route.name) || `routes[${i}]`}`, where);
      }
    }
  }

  private overrides(holder: JsonObject, name: string, where: string): void {
    for (const value of Object.values(asObject(holder.typed_per_filter_config) ?? {})) {
      const config = asObject(value);
      if (config?.['@type'] === TYPE.RBAC_PER_ROUTE) this.rbac(asObject(config.rbac), name, where);
    }
  }
}
