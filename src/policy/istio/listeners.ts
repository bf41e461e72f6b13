/** Envoy listeners: one for each service port that carries HTTP, with istiod's settings for sidecars' outbound traffic. */

import { isIP } from 'node:net';
import type { Document } from '../documents.js';
import { SESSION_FILTER } from '../gateway-api/session.js';
import type { Intercept, JsonObject } from '../resources.js';
import type { Context, Path } from './context.js';
import { clusterName, shortNames, urlHost } from './hosts.js';
import { visible } from './kubernetes-services.js';
import { isHttp, type Service } from './registry.js';
import { JWT_FILTER, jwtFilter } from './request-authentication.js';
import { CORS_FILTER, FAULT_FILTER } from './route-policies.js';
import { defaultRoute, type RouteInput } from './routes.js';
import { hash, stablePlace } from './stable.js';

/**
 * Istio puts the virtual hosts of all services of a port into one table; here every service's listener has its own. It
 * holds those of the other services too as long as a port's tables have no more routes than this together.
 */
const MAX_SHARED_ROUTES = 1024;

const DENY_FILTER = 'envoy.filters.http.rbac.deny';
const ALLOW_FILTER = 'envoy.filters.http.rbac.allow';
/** The virtual host for what a service's address is asked for under another name than the service's. */
export const ANY_HOST = 'any_host';
export const RBAC_FILTERS = { deny: DENY_FILTER, allow: ALLOW_FILTER } as const;

const FILTER_TYPES: readonly (readonly [name: string, type: string])[] = [
  // What the client's sidecar does comes first, then what the server's would do.
  [FAULT_FILTER, 'envoy.extensions.filters.http.fault.v3.HTTPFault'],
  [CORS_FILTER, 'envoy.extensions.filters.http.cors.v3.Cors'],
  [JWT_FILTER, 'envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication'],
  [DENY_FILTER, 'envoy.extensions.filters.http.rbac.v3.RBAC'],
  [ALLOW_FILTER, 'envoy.extensions.filters.http.rbac.v3.RBAC'],
  [SESSION_FILTER, 'envoy.extensions.filters.http.stateful_session.v3.StatefulSession'],
];

interface Candidate {
  readonly service: Service;
  readonly routes: JsonObject[];
  /** nothing says that the port carries HTTP: Istio gives it a table of its own, which looks at no host */
  readonly alone: boolean;
}

function virtualHost(
  context: Context,
  { service, routes }: Candidate,
  port: number,
  own: boolean,
  taken: Set<string>,
  hosts: ReadonlySet<string>,
): JsonObject | undefined {
  // In its own listener a service may also be called by its short name from another namespace: the name led here.
  // A short name that is another one's whole name is that one's.
  const short = shortNames(service.host, own ? service.namespace : context.namespace, context.domain).filter(
    (name) => !hosts.has(name),
  );
  // Names may be written with the root's dot.
  const absolute = isIP(service.host) ? [] : [`${service.host}.`];
  let domains = [service.host, ...absolute, ...short];
  if (service.headless) domains = [...domains, ...domains.map((domain) => `*.${domain}`)];
  domains = [...domains, ...service.addresses.map(urlHost)];
  const free = domains.filter((domain) => !taken.has(domain));
  for (const domain of free) taken.add(domain);
  if (free.length === 0) return undefined;
  const out: JsonObject = {
    name: `${urlHost(service.host)}:${port}`,
    domains: free,
    routes,
    include_request_attempt_count: true,
  };
  return context.origin(out, service.document, service.path);
}

/** Routes for a host that no service of the port has. */
export interface Stray {
  readonly host: string;
  readonly routes: JsonObject[];
  readonly document: Document;
  readonly path: Path;
}

function strayHost(context: Context, stray: Stray, port: number, taken: Set<string>): JsonObject | undefined {
  const domain = urlHost(stray.host);
  if (taken.has(domain)) return undefined;
  taken.add(domain);
  const out: JsonObject = {
    name: `${domain}:${port}`,
    domains: [domain],
    routes: stray.routes,
    include_request_attempt_count: true,
  };
  return context.origin(out, stray.document, stray.path);
}

/** Requests with a host that is none of ours go where they were sent to, as under ALLOW_ANY. */
function anyHost(context: Context, service: Service, port: number): JsonObject {
  const route: JsonObject = {
    name: 'allow_any',
    match: { prefix: '/' },
    route: { cluster: clusterName(port, '', service.host), timeout: '0s', max_grpc_timeout: '0s' },
  };
  context.origin(route, service.document, service.path);
  return { name: 'allow_any', domains: ['*'], routes: [route], include_request_attempt_count: true };
}

/** Filters that routes configure, with their configurations. */
function usedFilters(routes: readonly JsonObject[]): Map<string, JsonObject[]> {
  const used = new Map<string, JsonObject[]>();
  const add = (holder: JsonObject) => {
    const configs = Object.entries((holder.typed_per_filter_config as JsonObject | undefined) ?? {});
    for (const [name, config] of configs) used.set(name, [...(used.get(name) ?? []), config as JsonObject]);
  };
  for (const route of routes) {
    add(route);
    const weighted = (route.route as JsonObject | undefined)?.weighted_clusters as JsonObject | undefined;
    for (const cluster of (weighted?.clusters as JsonObject[] | undefined) ?? []) add(cluster);
  }
  return used;
}

/** What listeners differ in besides their virtual hosts. */
export interface ListenerOptions {
  /** HTTP filters of the whole listener, before those that routes configure */
  readonly filters?: readonly JsonObject[];
  /** append the client's address to x-forwarded-for, and trust none that the client sends */
  readonly useRemoteAddress?: boolean;
}

/** A listener at `place` (`address:port`) for the given virtual hosts. */
export function listener(
  name: string,
  place: string,
  virtualHosts: JsonObject[],
  options: ListenerOptions = {},
): JsonObject {
  const [, address = '', port] = /^(.*):(\d+)$/.exec(place) ?? [];
  const used = usedFilters(virtualHosts.flatMap((host) => host.routes as JsonObject[]));
  const filters = [
    ...(options.filters ?? []),
    ...FILTER_TYPES.filter(([filter]) => used.has(filter)).map(
      ([filter, type]): JsonObject => ({
        name: filter,
        typed_config:
          filter === JWT_FILTER ? jwtFilter(used.get(filter) ?? []) : { '@type': `type.googleapis.com/${type}` },
      }),
    ),
  ];
  filters.push({
    name: 'envoy.filters.http.router',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
  });
  return {
    name,
    address: { socket_address: { address, port_value: Number(port) } },
    traffic_direction: 'OUTBOUND',
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: name.replaceAll('|', '_'),
              route_config: {
                name,
                virtual_hosts: virtualHosts,
                // A destination that does not exist answers 503 by itself; it does not spoil the rest.
                validate_clusters: false,
                ignore_port_in_host_matching: true,
                max_direct_response_body_size_bytes: 1048576,
              },
              http_filters: filters,
              use_remote_address: options.useRemoteAddress ?? false,
              upgrade_configs: [{ upgrade_type: 'websocket' }],
              stream_idle_timeout: '0s',
              normalize_path: true,
            },
          },
        ],
      },
    ],
  };
}

/** Addresses 127.64.0.1 to 127.127.255.254, without .0 and .255 at the ends. */
const LOOPBACKS = 64 * 256 * 254;
/** Ports on ::1, the only IPv6 address that every machine has. */
const IPV6_PORTS = 16384;
/** Ports that instances choose from. */
const INSTANCE_PORTS = 512;

/** Gives a listener its place; `of` is what is intercepted for it. */
export type Places = (
  name: string,
  of: { readonly addresses: readonly string[]; readonly document: Document; readonly path: Path },
) => string;

/**
 * Where the proxy listens: Envoys let others share their ports without a word, and refuse two listeners that swap
 * theirs, so a listener's place follows from its name and the instance's. It is of the service's address family, since
 * without the agent connections are led there by the kernel.
 */
export function proxyPlaces(context: Context): Places {
  const taken = new Set<string>();
  const { basePort, instance } = context;
  const port = basePort + (instance === '' ? 0 : hash(instance) % INSTANCE_PORTS);
  const ipv4 = (index: number) => {
    const third = Math.floor(index / 254);
    return `127.${64 + (third >> 8)}.${third & 255}.${(index % 254) + 1}:${port}`;
  };
  const ipv6 = (index: number) => `::1:${basePort + index}`;
  return (name, { addresses, document, path }) => {
    const six = addresses.length > 0 && addresses.every((address) => address.includes(':'));
    const key = `${instance}\0${name}`;
    const place = six ? stablePlace(key, IPV6_PORTS, ipv6, taken) : stablePlace(key, LOOPBACKS, ipv4, taken);
    if (place === undefined) context.error(document, path, 'too-many-services', 'no port is left for the proxy');
    return place ?? `127.0.0.1:${basePort}`;
  };
}

/** Called once with every route, before listeners are made: adds what the servers' policies ask for. */
export type Guard = (route: JsonObject) => void;

/** The same guard, which leaves a route that it has seen alone. */
export function once(guard: Guard): Guard {
  const guarded = new Set<JsonObject>();
  return (route) => {
    if (guarded.has(route)) return;
    guarded.add(route);
    guard(route);
  };
}

/** The routes that policies give the clients of a service's port; undefined where none speaks of it. */
export type ServiceRoutes = (service: Service, port: number) => JsonObject[] | undefined;

/** What policies say to clients. */
export interface ClientRoutes {
  readonly of: ServiceRoutes;
  /** given the hosts of the services with a port: routes for others */
  readonly strays: (port: number, services: readonly string[]) => Iterable<Stray>;
}

/**
 * Builds the listeners and what is intercepted for them.
 *
 * @param seen the services that clients see
 * @param claimed `address port` of what gateways answer instead of their Service
 */
export function buildListeners(
  input: RouteInput,
  seen: readonly Service[],
  clients: ClientRoutes,
  check: Guard,
  place: Places,
  claimed: ReadonlySet<string>,
): { listeners: { json: JsonObject; port: number }[]; intercepts: Intercept[] } {
  const { context } = input;
  const services = seen.filter((service) => service.assumed || visible(service.exportTo, context.namespace));
  const byPort = new Map<number, Candidate[]>();
  for (const service of services) {
    if (service.resolution === 'none') continue;
    for (const port of service.ports) {
      if (!isHttp(port.protocol)) continue;
      const routes = clients.of(service, port.number) ?? [
        context.origin(
          defaultRoute(input, service.host, service.namespace, port.number),
          service.document,
          service.path,
        ),
      ];
      routes.forEach(check);
      byPort.set(port.number, [...(byPort.get(port.number) ?? []), { service, routes, alone: port.sniffed ?? false }]);
    }
  }
  const listeners: { json: JsonObject; port: number }[] = [];
  const intercepts: Intercept[] = [];
  for (const [port, candidates] of [...byPort].sort(([a], [b]) => a - b)) {
    const withPort = services.filter((s) => !s.assumed && s.ports.some((p) => p.number === port)).map((s) => s.host);
    const strays = [...clients.strays(port, withPort)];
    for (const stray of strays) stray.routes.forEach(check);
    const routes = [...candidates, ...strays].reduce((sum, candidate) => sum + candidate.routes.length, 0);
    const shared = (candidates.length === 1 && strays.length === 0) || candidates.length * routes <= MAX_SHARED_ROUTES;
    if (!shared) {
      const [first] = candidates;
      const message = `${candidates.length} services share port ${port}: each listener only knows its own service's host names`;
      if (first) context.warn(first.service.document, first.service.path, 'many-services', message);
    }
    for (const candidate of candidates) {
      const { service } = candidate;
      const addresses = service.addresses.filter((address) => !claimed.has(`${address} ${port}`));
      if (addresses.length === 0 && service.addresses.length > 0) continue;
      const taken = new Set<string>();
      // Services that are only assumed have no clients that could mean them.
      const others = shared ? candidates.filter((c) => c !== candidate && !c.service.assumed) : [];
      const table = candidate.alone ? [] : [candidate, ...others];
      const whole = new Set(table.map((c) => c.service.host));
      const hosts = table
        .map((c) => virtualHost(context, c, port, c === candidate, taken, whole))
        .concat((shared && !candidate.alone ? strays : []).map((stray) => strayHost(context, stray, port, taken)))
        .filter((host) => host !== undefined);
      if (candidate.alone) {
        const any: JsonObject = { name: ANY_HOST, domains: ['*'], routes: candidate.routes };
        any.include_request_attempt_count = true;
        hosts.push(context.origin(any, service.document, service.path));
      } else if (!taken.has('*')) {
        const any = anyHost(context, service, port);
        (any.routes as JsonObject[]).forEach(check);
        hosts.push(any);
      }
      const name = clusterName(port, '', service.host);
      const json = listener(name, place(name, service), hosts);
      listeners.push({ json: context.origin(json, service.document, service.path), port });
      for (const address of addresses) intercepts.push({ address, port, listener: name });
    }
  }
  return { listeners, intercepts };
}
