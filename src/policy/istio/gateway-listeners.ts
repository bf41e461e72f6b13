/**
 * Envoy listeners of gateways: one for each port of a workload that speaks plain HTTP, with the virtual hosts that
 * istiod makes (pilot/pkg/networking/core/gateway.go). They differ from a gateway's own in one thing: no x-forwarded-for
 * is added unless a policy of a server behind them looks at it, since the clients are on this node.
 */
import type { Intercept, JsonObject } from '../resources.js';
import type { Authorization } from './authorization.js';
import type { Context } from './context.js';
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

  constructor(input: RouteInput, workloads: readonly GatewayWorkload[], virtualServices: VirtualServices) {
    this.#input = input;
    this.#context = input.context;
    this.#workloads = workloads;
    this.#virtualServices = virtualServices;
  }

  /** `address port` of Services in front of gateways: what the gateways answer themselves. */
  claimed(): Set<string> {
    const out = new Set<string>();
    for (const workload of this.#workloads) {
      for (const { address, port } of interceptsOf(workload, 'http')) out.add(`${address} ${port}`);
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
    routes: (workload: GatewayWorkload, port: number) => HostRoutes,
  ): { listeners: KnownListener[]; intercepts: Intercept[] } {
    const listeners: KnownListener[] = [];
    const intercepts: Intercept[] = [];
    for (const workload of this.#workloads) {
      const plain = workload.servers.filter((server) => server.protocol === 'http');
      for (const port of [...new Set(plain.map((server) => server.port))].sort((a, b) => a - b)) {
        const servers = plain.filter((server) => server.port === port);
        const [first] = servers;
        if (!first) continue;
        const drafts = workload.gatewayApi ? new Map<string, Draft>() : this.#drafts(workload, servers, port);
        if (workload.gatewayApi) {
          for (const [host, own] of routes(workload, port))
            drafts.set(host, { routes: [...own], redirect: false, origin: first });
        }
        const hosts = this.#virtualHosts(drafts, port);
        for (const host of hosts) (host.routes as JsonObject[]).forEach(check);
        const name = `gateway|${port}|${workload.key}`;
        const filters = authorization.gatewayFilters(workload, workloadPort(workload, port));
        const addresses = [...workload.addresses, ...(workload.service?.addresses ?? [])];
        const at = place(name, { addresses, document: first.document, path: first.path });
        const looksAtAddress = JSON.stringify([filters, hosts]).includes('"remote_ip"');
        const json = listener(name, at, hosts, { filters, useRemoteAddress: looksAtAddress });
        listeners.push({ json: this.#context.origin(json, first.document, first.path), port, workload });
        for (const { address, port: seen, server } of interceptsOf(workload, 'http'))
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

  /** Says which rules are (also) reached in ways that are not intercepted, or not at all. */
  #explain(): void {
    for (const workload of this.#workloads) {
      for (const server of workload.servers) {
        if (server.protocol === 'http' || server.protocol === 'tcp') continue;
        for (const { bound } of this.#attached(workload, server)) {
          const reached = bound.rules.filter(({ route }) => {
            const matches = route.match ?? [];
            return matches.length === 0 || matches.some((m) => m.port === undefined || m.port === server.port);
          });
          if (server.protocol === 'passthrough' && this.#bound.has(bound)) continue;
          this.#bound.add(bound);
          const message =
            server.protocol === 'tls'
              ? `gateway ${server.gateway} speaks TLS on port ${server.port}: connections there are not intercepted`
              : `gateway ${server.gateway} passes TLS through on port ${server.port}: HTTP rules do not count there`;
          for (const { rule } of reached) this.#context.unsupported(rule, ['spec', 'gateways'], 'tls', message);
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
