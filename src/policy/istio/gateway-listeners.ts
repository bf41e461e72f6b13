/**
 * Envoy listeners of gateways: one for each port of a workload that speaks plain HTTP, with the virtual hosts that
 * istiod makes (pilot/pkg/networking/core/gateway.go). They differ from a gateway's own in one thing: no x-forwarded-for
 * is added unless a policy of a server behind them looks at it, since the clients are on this node.
 */
import type { Intercept, JsonObject } from '../resources.js';
import type { Authorization } from './authorization.js';
import type { Context } from './context.js';
import type { Certificates } from './gateway-tls.js';
import {
  type GatewayServer,
  type GatewayWorkload,
  portsInFront,
  type ServerProtocol,
  workloadPort,
} from './gateways.js';
import { hostIntersection, urlHost } from './hosts.js';
import { visible } from './kubernetes-services.js';
import type { KnownListener } from './left-to-proxy.js';
import { type Guard, listener, type Places } from './listeners.js';
import { isCatchAll } from './route-match.js';
import { buildRoutes, type RouteInput } from './routes.js';
import type { GatewayBound, VirtualServices } from './virtual-services.js';

/** Virtual hosts that Gateway API routes give a listener: domain -> routes, in order. */
export type HostRoutes = ReadonlyMap<string, readonly JsonObject[]>;

interface Draft {
  routes: JsonObject[];
  redirect: boolean;
  readonly origin: GatewayServer;
}

const INSPECTOR = 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector';

/** Upstreams learn of the client’s certificate, as istiod has gateways tell them. */
function tellsClients(chain: JsonObject): JsonObject {
  const [filter = {}] = chain.filters as JsonObject[];
  const told = {
    forward_client_cert_details: 'SANITIZE_SET',
    set_current_client_cert_details: { subject: true, cert: true, dns: true, uri: true },
  };
  return { ...chain, filters: [{ ...filter, typed_config: { ...(filter.typed_config as JsonObject), ...told } }] };
}

function gatewayListener(name: string, at: string, hosts: JsonObject[], filters: JsonObject[]): JsonObject {
  const looksAtAddress = JSON.stringify([filters, hosts]).includes('"remote_ip"');
  return listener(name, at, hosts, { filters, useRemoteAddress: looksAtAddress });
}

/** What clients connect to when they mean one of a workload's ports that speak a protocol. */
export function* interceptsOf(
  workload: GatewayWorkload,
  protocol: ServerProtocol,
): Iterable<{ address: string; port: number; server: number }> {
  const plain = workload.servers.filter((server) => server.protocol === protocol).map((server) => server.port);
  for (const server of new Set(plain)) {
    for (const address of workload.addresses) yield { address, port: server, server };
    const { service } = workload;
    if (!service) continue;
    for (const port of portsInFront(service, server)) {
      for (const address of service.addresses) yield { address, port, server };
    }
  }
}

export class GatewayListeners {
  readonly #input: RouteInput;
  readonly #context: Context;
  readonly #virtualServices: VirtualServices;
  readonly #workloads: readonly GatewayWorkload[];
  readonly #routes = new Map<string, JsonObject[]>();
  readonly #bound = new Set<GatewayBound>();

  /** of the servers with TLS that are listened to */
  readonly #sockets = new Map<GatewayServer, JsonObject>();
  /** why the others are not, in words */
  readonly #problems = new Map<GatewayServer, string>();

  constructor(
    input: RouteInput,
    workloads: readonly GatewayWorkload[],
    virtualServices: VirtualServices,
    certificates: Certificates,
  ) {
    this.#input = input;
    this.#context = input.context;
    this.#workloads = workloads;
    this.#virtualServices = virtualServices;
    for (const workload of workloads) this.#secure(workload, certificates);
  }

  /** Finds the certificates of a workload's servers. A port is listened to if all of its servers can be. */
  #secure(workload: GatewayWorkload, certificates: Certificates): void {
    for (const port of new Set(workload.servers.map((server) => server.port))) {
      const servers = workload.servers.filter((server) => server.port === port);
      const sockets = servers.map((server) => {
        if (server.protocol !== 'tls' || !server.https) return `port ${server.port} is not for HTTPS alone`;
        const namespace = workload.namespace ?? server.document.namespace;
        return server.https.problem ?? certificates.socket(server.https, namespace);
      });
      const problem = sockets.find((socket) => typeof socket === 'string');
      servers.forEach((server, i) => {
        if (server.protocol !== 'tls') return;
        const socket = sockets[i]!;
        if (typeof problem !== 'string' && typeof socket !== 'string') this.#sockets.set(server, socket);
        else this.#problems.set(server, typeof socket === 'string' ? socket : problem!.toString());
      });
    }
  }

  /** `address port` of Services in front of gateways: what the gateways answer themselves. */
  claimed(): Set<string> {
    const out = new Set<string>();
    for (const workload of this.#workloads) {
      for (const { address, port } of interceptsOf(workload, 'http')) out.add(`${address} ${port}`);
      const heard = new Set(workload.servers.filter((s) => this.#sockets.has(s)).map((s) => s.port));
      for (const { address, port, server } of interceptsOf(workload, 'tls'))
        if (heard.has(server)) out.add(`${address} ${port}`);
    }
    return out;
  }

  /** The routes that a VirtualService gives the clients of a gateway's port. */
  #routesOf(bound: GatewayBound, workload: GatewayWorkload, gateway: string, port: number): JsonObject[] {
    const key = `${bound.document.namespace}/${bound.document.name} ${gateway} ${port}`;
    let routes = this.#routes.get(key);
    if (!routes) {
      const audience = {
        gateways: [gateway],
        namespace: workload.namespace ?? bound.document.namespace,
        labels: workload.labels,
      };
      routes = buildRoutes(this.#input, bound.rules, port, audience);
      this.#routes.set(key, routes);
    }
    return routes;
  }

  /** The VirtualServices that count for a server, with the hosts that they have in common with it. */
  *#attached(workload: GatewayWorkload, server: GatewayServer): Iterable<{ bound: GatewayBound; hosts: string[] }> {
    for (const bound of this.#virtualServices.atGateways) {
      if (!bound.gateways.includes(server.gateway)) continue;
      if (workload.namespace !== undefined && !visible(bound.exportTo, workload.namespace)) {
        const message = `not exported to namespace ${workload.namespace}, where gateway ${server.gateway} is`;
        for (const { rule } of bound.rules)
          this.#context.unsupported(rule, ['spec', 'exportTo'], 'not-exported', message);
        continue;
      }
      const { namespace } = bound.document;
      const own = server.hosts.filter((h) => h.namespace === '*' || h.namespace === namespace).map((h) => h.host);
      const hosts = hostIntersection(own, bound.hosts);
      if (hosts.length > 0) yield { bound, hosts };
    }
  }

  #drafts(workload: GatewayWorkload, servers: readonly GatewayServer[], port: number): Map<string, Draft> {
    const drafts = new Map<string, Draft>();
    for (const server of servers) {
      for (const { bound, hosts } of this.#attached(workload, server)) {
        this.#bound.add(bound);
        const routes = this.#routesOf(bound, workload, server.gateway, port);
        if (routes.length === 0) continue;
        for (const host of hosts) {
          const known = drafts.get(host);
          if (!known) drafts.set(host, { routes: [...routes], redirect: server.httpsRedirect, origin: server });
          else {
            known.routes.push(...routes.filter((route) => !known.routes.includes(route)));
            known.redirect ||= server.httpsRedirect;
          }
        }
      }
      if (!server.httpsRedirect) continue;
      for (const { host } of server.hosts) {
        const known = drafts.get(host);
        if (known) known.redirect = true;
        else drafts.set(host, { routes: [], redirect: true, origin: server });
      }
    }
    return drafts;
  }

  #virtualHosts(drafts: ReadonlyMap<string, Draft>, port: number): JsonObject[] {
    const out = [...drafts].map(([host, { routes, redirect, origin }]): JsonObject => {
      // Routes that match everything come last, or they would hide what another VirtualService says of the host.
      const all = routes.filter((route) => isCatchAll(route.match as JsonObject));
      const virtualHost: JsonObject = {
        name: `${urlHost(host)}:${port}`,
        domains: [urlHost(host)],
        routes: [...routes.filter((route) => !all.includes(route)), ...all],
        include_request_attempt_count: true,
        ...(redirect ? { require_tls: 'ALL' } : {}),
      };
      this.#context.origin(virtualHost, origin.document, [...origin.path, 'hosts']);
      return this.#context.origin(
        virtualHost,
        origin.document,
        [...origin.path, 'tls', 'httpsRedirect'],
        'require_tls',
      );
    });
    // Like istiod: a host that nobody speaks of is answered 404.
    return out.length > 0 ? out : [{ name: `blackhole:${port}`, domains: ['*'], routes: [] }];
  }

  /**
   * Builds the listeners of all gateways and what is intercepted for them.
   *
   * @param routes what Gateway API routes give the ports of a Gateway of theirs
   */
  build(
    check: Guard,
    place: Places,
    authorization: Authorization,
    routes: (workload: GatewayWorkload, port: number, server?: GatewayServer) => HostRoutes,
  ): { listeners: KnownListener[]; intercepts: Intercept[] } {
    const listeners: KnownListener[] = [];
    const intercepts: Intercept[] = [];
    for (const workload of this.#workloads) {
      const heard = workload.servers.filter((server) => server.protocol === 'http' || this.#sockets.has(server));
      for (const port of [...new Set(heard.map((server) => server.port))].sort((a, b) => a - b)) {
        const servers = heard.filter((server) => server.port === port);
        const [first] = servers;
        if (!first) continue;
        const secure = this.#sockets.has(first);
        const hostsOf = (some: readonly GatewayServer[]) => {
          const drafts = workload.gatewayApi ? new Map<string, Draft>() : this.#drafts(workload, some, port);
          if (workload.gatewayApi) {
            for (const [host, own] of routes(workload, port, ...(secure ? some : [])))
              drafts.set(host, { routes: [...own], redirect: false, origin: first });
          }
          const hosts = this.#virtualHosts(drafts, port);
          for (const host of hosts) (host.routes as JsonObject[]).forEach(check);
          return hosts;
        };
        const name = `gateway|${port}|${workload.key}`;
        const filters = authorization.gatewayFilters(workload, workloadPort(workload, port));
        const addresses = [...workload.addresses, ...(workload.service?.addresses ?? [])];
        const at = place(name, { addresses, document: first.document, path: first.path });
        const json = secure
          ? this.#withTls(servers, (server) => gatewayListener(name, at, hostsOf([server]), filters))
          : gatewayListener(name, at, hostsOf(servers), filters);
        listeners.push({ json: this.#context.origin(json, first.document, first.path), port, workload });
        for (const { address, port: seen, server } of interceptsOf(workload, secure ? 'tls' : 'http'))
          if (server === port) intercepts.push({ address, port: seen, listener: name });
        const known = (workload.service?.addresses ?? []).length > 0;
        if (workload.service && known && portsInFront(workload.service, port).length === 0) {
          const message = `the Service ${workload.service.host} has no port that leads to ${port}: nothing is intercepted`;
          this.#context.warn(first.document, [...first.path, 'port'], 'gateway-port', message);
        }
      }
    }
    this.#explain();
    return { listeners, intercepts };
  }

  /** One listener with a chain for each server. Of servers for the same hosts the first counts, as under istiod. */
  #withTls(servers: readonly GatewayServer[], build: (server: GatewayServer) => JsonObject): JsonObject {
    const taken = new Set<string>();
    const chains: JsonObject[] = [];
    let whole: JsonObject | undefined;
    for (const server of servers) {
      const names = server.hosts.map(({ host }) => host);
      if (names.some((name) => taken.has(name))) {
        const message = `another server of port ${server.port} has hosts of this one; that one counts`;
        this.#context.warn(server.document, [...server.path, 'hosts'], 'gateway-conflict', message);
        continue;
      }
      for (const name of names) taken.add(name);
      const json = build(server);
      whole ??= json;
      const [chain = {}] = json.filter_chains as JsonObject[];
      const match: JsonObject = names.includes('*') ? {} : { server_names: names };
      chains.push({
        ...(server.https?.clients === 'ignore' ? chain : tellsClients(chain)),
        ...(names.includes('*') ? {} : { filter_chain_match: match }),
        name: names[0]!,
        transport_socket: this.#sockets.get(server)!,
      });
    }
    return {
      ...whole!,
      listener_filters: [
        { name: 'envoy.filters.listener.tls_inspector', typed_config: { '@type': `type.googleapis.com/${INSPECTOR}` } },
      ],
      listener_filters_timeout: '0s',
      filter_chains: chains,
    };
  }

  /** Why nobody listens for a server with TLS, in words; undefined: somebody does. */
  problemOf(server: GatewayServer): string | undefined {
    return this.#problems.get(server);
  }

  /** Says which rules are (also) reached in ways that are not intercepted, or not at all. */
  #explain(): void {
    for (const workload of this.#workloads) {
      for (const server of workload.servers) {
        if (server.protocol === 'http' || server.protocol === 'tcp' || this.#sockets.has(server)) continue;
        for (const { bound } of this.#attached(workload, server)) {
          const reached = bound.rules.filter(({ route }) => {
            const matches = route.match ?? [];
            return matches.length === 0 || matches.some((m) => m.port === undefined || m.port === server.port);
          });
          if (server.protocol === 'passthrough' && this.#bound.has(bound)) continue;
          this.#bound.add(bound);
          const message =
            server.protocol === 'tls'
              ? `gateway ${server.gateway} speaks TLS on port ${server.port}, where nobody listens: ${this.#problems.get(server)}`
              : `gateway ${server.gateway} passes TLS through on port ${server.port}: HTTP rules do not count there`;
          const code = server.protocol === 'tls' ? 'tls-secret' : 'tls';
          for (const { rule } of reached) this.#context.unsupported(rule, ['spec', 'gateways'], code, message);
        }
      }
    }
    for (const bound of this.#virtualServices.atGateways) {
      if (this.#bound.has(bound)) continue;
      for (const { rule } of bound.rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        const message = `no HTTP server of gateway ${bound.gateways.join(', ')} has its hosts`;
        this.#context.unsupported(rule, ['spec', 'hosts'], 'gateway', message);
      }
    }
  }
}
