/** Whether a patch is about an object that istiod would make (pilot/pkg/networking/core/envoyfilter). */
import { RE2JS } from 're2js';
import type { JsonObject } from '../../resources.js';
import type { ConfigPatch } from '../schema/extensions.js';
import { ISTIO_VERSION, type Patch } from './patch.js';

export const MANAGER = 'envoy.filters.network.http_connection_manager';

/** `maybe`: what it depends on is not known here */
export type Answer = 'yes' | 'no' | 'maybe';

/** A listener as istiod knows it. */
export interface Place {
  readonly gateway: boolean;
  /** that the listener opens */
  readonly port: number;
  /** that clients or servers of a Gateway document call it; the same for sidecars */
  readonly servicePort: number;
  /** `host:port` of a service that has a listener and a route configuration of its own, since its protocol is found out */
  readonly table?: string;
}

/** Whether the proxies that are stood for are those that a patch is for. */
export function proxyMatches({ match }: Pick<ConfigPatch, 'match'>): Answer {
  const { proxyVersion = '', metadata } = match?.proxy ?? {};
  if (proxyVersion !== '') {
    // istiod takes no longer ones, and what is no regex is as good as none
    if (proxyVersion.length > 1024) return 'no';
    try {
      if (!RE2JS.compile(proxyVersion).matcher(ISTIO_VERSION).find()) return 'no';
    } catch {
      return 'maybe';
    }
  }
  return Object.keys(metadata ?? {}).length > 0 ? 'maybe' : 'yes';
}

/** Whether a patch is about a listener, and about the only filter chain of it. */
export function listenerMatches({ match }: Patch, place: Place): Answer {
  const { listener } = match;
  if (!listener) return 'yes';
  const chain = listener.filterChain;
  const criteria = chain?.sni || chain?.transportProtocol || chain?.applicationProtocols || chain?.destinationPort;
  // such a listener has filter chains for several protocols, and the service's address in its name
  if (place.table !== undefined && (listener.name || chain?.name || criteria)) return 'maybe';
  if (listener.name !== undefined && listener.name !== '' && listener.name !== `0.0.0.0_${place.port}`) return 'no';
  if (listener.portNumber && listener.portNumber !== place.port) return 'no';
  // these chains have no match, and those of sidecars no name
  if (criteria) return 'no';
  if (chain?.name) return place.gateway && !chain.name.startsWith('envoy.') ? 'maybe' : 'no';
  return 'yes';
}

/** Whether a patch is about the HTTP connection manager. */
export function managerMatches({ match }: Patch): boolean {
  const filter = match.listener?.filterChain?.filter;
  return filter === undefined || filter.name === MANAGER;
}

/** The HTTP filter that a patch names; undefined if it names none. */
export function subFilter({ match }: Patch): string | undefined {
  const found = match.listener?.filterChain?.filter?.subFilter;
  return found && (found.name ?? '');
}

/** Whether a patch is about the route configuration of a listener. */
export function routesMatch({ match }: Patch, { gateway, port, servicePort, table }: Place): boolean {
  const wanted = match.routeConfiguration;
  if (!wanted) return true;
  if (gateway) {
    // the tables of plain HTTP are those of a port, and neither of a gateway nor of a server's name
    if (wanted.gateway || wanted.portName) return false;
    if (wanted.portNumber && wanted.portNumber !== servicePort) return false;
    return !wanted.name || wanted.name === `http.${port}`;
  }
  // the port is read off the name, which then is none
  if (wanted.portNumber && (table !== undefined || wanted.portNumber !== port)) return false;
  return !wanted.name || wanted.name === (table ?? String(port));
}

/** Whether a patch is about a virtual host of a route configuration that it is about. */
export function hostMatches({ match }: Patch, name: string, { domains }: JsonObject): boolean {
  const { name: wanted, domainName } = match.routeConfiguration?.vhost ?? {};
  if (domainName && !(Array.isArray(domains) && domains.includes(domainName))) return false;
  return !wanted || wanted === name;
}

const ACTIONS: Readonly<Record<string, string>> = {
  ROUTE: 'route',
  REDIRECT: 'redirect',
  DIRECT_RESPONSE: 'direct_response',
};

/** Whether a patch names routes, instead of being about all of a virtual host. */
export const namesRoute = ({ match }: Patch): boolean => match.routeConfiguration?.vhost?.route !== undefined;

/** Whether a patch is about a route of a virtual host that it is about. */
export function routeMatches({ match }: Patch, route: JsonObject): boolean {
  const wanted = match.routeConfiguration?.vhost?.route;
  if (!wanted) return true;
  if (wanted.name && wanted.name !== (route.name ?? '')) return false;
  if (!wanted.action || wanted.action === 'ANY') return true;
  const known = Object.values(ACTIONS).find((key) => route[key] !== undefined);
  return known === undefined || known === ACTIONS[wanted.action];
}

/** Whether a patch is about a cluster. */
export function clusterMatches(
  { match }: Patch,
  { name, host, port, subset }: { name: string; host: string; port: number; subset: string },
): boolean {
  const wanted = match.cluster;
  if (!wanted) return true;
  if (wanted.name) return wanted.name === name;
  if (wanted.subset && wanted.subset !== subset) return false;
  if (wanted.service && wanted.service !== host) return false;
  return !wanted.portNumber || wanted.portNumber === port;
}
