/**
 * Routes of the Gateway API: to which Services and Gateways they are attached, and what becomes of requests there.
 * Follows the specification's rules on attachment, hostnames and precedence (gateway-api.sigs.k8s.io/reference/spec).
 */

import type { Document } from '../documents.js';
import type { HostMention } from '../istio/assumptions.js';
import type { Context, Path } from '../istio/context.js';
import type { HostRoutes } from '../istio/gateway-listeners.js';
import type { GatewayServer, GatewayWorkload } from '../istio/gateways.js';
import { hostIntersection, hostMatches } from '../istio/hosts.js';
import type { Typed } from '../istio/kubernetes-services.js';
import { entryServices, type Registry, type Service } from '../istio/registry.js';
import { isCatchAll } from '../istio/route-match.js';
import type { RouteInput } from '../istio/routes.js';
import type { Clients, JsonObject } from '../resources.js';
import { type Backends, backendHost } from './backends.js';
import { type ApiGateways, type ApiListener, createdAt } from './listeners.js';
import { byPrecedence, type Ranked } from './match.js';
import { type ApiRule, ruleRoutes } from './rules.js';
import type { GrpcRoute, HttpRoute, ParentRef } from './schema.js';

/** A host of the mesh that a route is attached to. */
interface AttachedService {
  readonly host: string;
  readonly namespace: string;
  /** undefined: all ports */
  readonly port: number | undefined;
  readonly path: Path;
}

interface ApiRoute {
  readonly document: Document;
  readonly spec: HttpRoute | GrpcRoute;
  readonly rules: readonly ApiRule[];
  readonly services: AttachedService[];
  readonly listeners: { readonly listener: ApiListener; readonly hosts: readonly string[]; readonly path: Path }[];
  readonly built: Map<string, Ranked[]>;
}

type Reason = readonly [path: Path, code: string, message: string, clients?: Clients];

/** All HTTPRoutes and GRPCRoutes of the input. */
export class ApiRoutes {
  readonly #context: Context;
  readonly #registry: Registry;
  readonly #gateways: ApiGateways;
  readonly #routes: ApiRoute[];

  constructor(
    context: Context,
    registry: Registry,
    gateways: ApiGateways,
    documents: readonly Typed<HttpRoute | GrpcRoute>[],
  ) {
    this.#context = context;
    this.#registry = registry;
    this.#gateways = gateways;
    this.#routes = documents.map(({ document, spec }) => this.#read(document, spec));
    for (const route of this.#routes) this.#attach(route);
  }

  #read(document: Document, spec: HttpRoute | GrpcRoute): ApiRoute {
    const context = this.#context;
    if ((spec.parentRefs ?? []).length === 0) {
      // no rules: by the specification nothing leads to it
      const message = 'has no parentRefs, so it decides nothing (unless a controller of its own delegates to it)';
      context.warn(document, ['spec'], 'no-parent', message);
      return { document, spec, rules: [], services: [], listeners: [], built: new Map() };
    }
    const rules = spec.rules?.length
      ? spec.rules.map((rule, index): ApiRule => {
          const path = ['spec', 'rules', index];
          return { document, path, spec: rule, rule: context.rule(document, path, `rules[${index}]`) };
        })
      : [{ document, path: ['spec'], spec: {}, rule: context.rule(document, ['spec'], 'spec') }];
    if (document.kind === 'GRPCRoute') {
      const message = 'gRPC needs HTTP/2, which the proxy speaks';
      for (const { rule, path } of rules) context.unsupported(rule, path, 'grpc', message);
    }
    return { document, spec, rules, services: [], listeners: [], built: new Map() };
  }

  #attach(route: ApiRoute): void {
    const { document, spec } = route;
    const reasons: Reason[] = [];
    const refs = spec.parentRefs ?? [];
    refs.forEach((ref, index) => {
      const reason = this.#attachTo(route, ref, ['spec', 'parentRefs', index]);
      if (reason) reasons.push(reason);
    });
    const attached = route.services.length > 0 || route.listeners.length > 0;
    for (const [path, code, message, clients] of reasons) {
      // A rule is the kernel's only if everything that leads to it is; a parent that takes no route leads nowhere.
      if (attached && code !== 'tls' && code !== 'parent-kind') this.#context.warn(document, path, code, message);
      else
        for (const { rule } of route.rules) {
          if (clients) this.#context.elsewhere(rule, path, message, clients);
          else this.#context.unsupported(rule, path, code, message);
        }
    }
  }

  #attachTo(route: ApiRoute, ref: ParentRef, path: Path): Reason | undefined {
    const { document } = route;
    const group = ref.group ?? 'gateway.networking.k8s.io';
    const kind = ref.kind ?? 'Gateway';
    const host =
      kind === 'Gateway' ? undefined : backendHost({ ...ref, group, kind }, document.namespace, this.#context.domain);
    if (host) return this.#attachToService(route, host, ref.port, path);
    if (group === 'networking.istio.io' && kind === 'ServiceEntry') return this.#attachToEntry(route, ref, path);
    if (group !== 'gateway.networking.k8s.io' || kind !== 'Gateway')
      return [path, 'parent-kind', `parents of kind ${group ? `${group}/` : ''}${kind} are not known here`];
    const gateway = `${ref.namespace ?? document.namespace}/${ref.name}`;
    if (this.#context.assumeEndpoints) this.#gateways.assume(gateway, ref.port, document, path);
    if (!this.#gateways.listeners(gateway))
      return [path, 'gateway', `no document describes gateway ${gateway}: nothing is intercepted for it`];
    const taking = this.#gateways.taking(document, gateway, ref);
    if (typeof taking === 'string') return [path, 'gateway', taking];
    let reason: Reason = [path, 'gateway', `no listener of gateway ${gateway} has its hostnames`];
    let attached = false;
    for (const listener of taking) {
      const wanted = (route.spec.hostnames ?? []).map((name) => name.toLowerCase());
      const hosts = wanted.length > 0 ? hostIntersection([listener.hostname], wanted) : [listener.hostname];
      if (hosts.length === 0) continue;
      const where = `listener ${listener.name} of gateway ${gateway}`;
      if (listener.protocol === 'http' || listener.protocol === 'tls') {
        attached = true;
        route.listeners.push({ listener, hosts, path });
      } else reason = [path, 'gateway', `${where} does not speak HTTP`];
    }
    return attached ? undefined : reason;
  }

  #attachToService(
    route: ApiRoute,
    { host, namespace }: { host: string; namespace: string },
    port: number | undefined,
    path: Path,
  ): Reason | undefined {
    const { document } = route;
    const client = this.#context.namespace;
    if (document.namespace !== namespace && document.namespace !== client) {
      const message = `counts only for clients of namespace ${document.namespace}, not of ${client}`;
      return [path, 'source-match', message, { namespace: document.namespace, labels: {} }];
    }
    route.services.push({ host, namespace, port, path });
    return undefined;
  }

  /** Istio's extension: the hosts of a ServiceEntry as parents, as those of Services are. */
  #attachToEntry(route: ApiRoute, ref: ParentRef, path: Path): Reason | undefined {
    const namespace = ref.namespace ?? route.document.namespace;
    const hosts = entryServices(this.#registry.all(), namespace, ref.name);
    let reason: Reason | undefined;
    // As under istiod, a section's name chooses nothing.
    for (const { host } of hosts) reason ??= this.#attachToService(route, { host, namespace }, ref.port, path);
    if (hosts.length > 0) return reason;
    return this.#attachToService(route, { host: ref.name.toLowerCase(), namespace }, ref.port, path);
  }

  /** Hosts and ports of Services that routes speak of. */
  *mentions(): Iterable<HostMention> {
    const { domain } = this.#context;
    for (const { document, rules, services } of this.#routes) {
      for (const { host, port, path } of services)
        yield { host, document, path, ...(port === undefined ? {} : { port }) };
      for (const { path, spec: rule } of rules) {
        const mirrors = (rule.filters ?? []).flatMap((filter, index) =>
          filter.requestMirror
            ? [{ ref: filter.requestMirror.backendRef, at: ['filters', index, 'requestMirror', 'backendRef'] }]
            : [],
        );
        const refs = [
          ...(rule.backendRefs ?? []).map((ref, index) => ({ ref, at: ['backendRefs', index] })),
          ...mirrors,
        ];
        for (const { ref, at } of refs) {
          const place = backendHost(ref, document.namespace, domain);
          const port = ref.port === undefined ? {} : { port: ref.port };
          if (place) yield { host: place.host, document, path: [...path, ...at], ...port };
        }
      }
    }
  }

  /** What routes tell of the protocols of Services: host -> ports (undefined: all) that carry HTTP, or gRPC. */
  *spoken(): Iterable<{ host: string; port: number | undefined; protocol: 'http' | 'http2' }> {
    for (const { document, services } of this.#routes) {
      const protocol = document.kind === 'GRPCRoute' ? 'http2' : 'http';
      for (const { host, port } of services) yield { host, port, protocol };
    }
  }

  #build(input: RouteInput, backends: Backends, route: ApiRoute, port: number, mesh: boolean): Ranked[] {
    const key = `${mesh ? 'mesh' : 'gateway'} ${port}`;
    let built = route.built.get(key);
    if (!built) {
      const created = createdAt(route.document);
      built = route.rules.flatMap((rule) => ruleRoutes(input, backends.forParent(mesh), rule, port, created));
      route.built.set(key, built);
    }
    return built;
  }

  /** The routes for clients of a Service's port; undefined if none is attached to it. */
  ofService(input: RouteInput, backends: Backends, service: Service, port: number): JsonObject[] | undefined {
    const reaches = (s: AttachedService) => s.host === service.host && (s.port === undefined || s.port === port);
    const attached = this.#routes.filter((route) => route.services.some(reaches));
    if (attached.length === 0) return undefined;
    // The routes of the clients' own namespace count instead of those of the Service's; and as istiod merges the routes
    // for one port among themselves, and those for all ports, of these two the one with the oldest route.
    const consumer = attached.filter(({ document }) => document.namespace !== service.namespace);
    const candidates = consumer.length > 0 ? consumer : attached;
    const [counting = []] = [port, undefined]
      .map((wanted) => candidates.filter((r) => r.services.some((s) => reaches(s) && s.port === wanted)))
      .filter((group) => group.length > 0)
      .sort((a, b) => (oldest(a) < oldest(b) ? -1 : oldest(a) > oldest(b) ? 1 : 0));
    for (const { document } of attached.filter((route) => !counting.includes(route))) {
      const instead =
        consumer.length > 0 && !consumer.some((route) => route.document === document)
          ? `routes of namespace ${this.#context.namespace} count instead`
          : `of routes for one port and those for all ports, the others count for port ${port}`;
      this.#context.warn(document, ['spec', 'parentRefs'], 'superseded', `decides nothing here: ${instead}`);
    }
    return inOrder(counting.flatMap((route) => this.#build(input, backends, route, port, true)));
  }

  /** Says which rules are (also) reached by TLS where nobody listens. @param problemOf why nobody does */
  explainUnheard(problemOf: (server: GatewayServer) => string | undefined): void {
    for (const { listeners, rules } of this.#routes) {
      for (const { listener, path } of listeners) {
        const problem = problemOf(listener);
        if (problem === undefined) continue;
        const message = `listener ${listener.name} of gateway ${listener.gateway} speaks TLS on port ${listener.port}, where nobody listens: ${problem}`;
        for (const { rule } of rules) this.#context.unsupported(rule, path, 'tls-secret', message);
      }
    }
  }

  /** The routes of a gateway's port by host. @param server of one of its servers with TLS alone */
  ofGateway(
    input: RouteInput,
    backends: Backends,
    workload: GatewayWorkload,
    port: number,
    server?: GatewayServer,
  ): HostRoutes {
    const listeners = (this.#gateways.listeners(workload.gatewayApi ?? '') ?? []).filter(
      (listener) => listener.port === port && (server ? listener === server : listener.protocol === 'http'),
    );
    const out = new Map<string, JsonObject[]>();
    for (const listener of listeners) {
      const attached = this.#routes.flatMap((route) =>
        route.listeners.filter((a) => a.listener === listener).map(({ hosts }) => ({ route, hosts })),
      );
      // A host belongs to the listener that names it best, and to none besides.
      const foreign = (host: string) =>
        listeners.some(
          (other) =>
            other !== listener &&
            hostMatches(other.hostname, host) &&
            other.hostname !== listener.hostname &&
            hostMatches(listener.hostname, other.hostname),
        );
      const hosts = new Set(attached.flatMap((a) => a.hosts));
      for (const host of hosts) {
        if (host !== listener.hostname && foreign(host)) continue;
        // As under istiod, a host has the rules of the routes that name it, and not those of wider hostnames besides.
        const own = attached.filter((a) => a.hosts.includes(host)).map((a) => a.route);
        const routes = inOrder(own.flatMap((route) => this.#build(input, backends, route, port, false)));
        const end = routes.findIndex((route) => isCatchAll(route.match as JsonObject));
        out.set(host, end < 0 ? routes : routes.slice(0, end + 1));
      }
    }
    return out;
  }
}

const inOrder = (routes: readonly Ranked[]): JsonObject[] => [...routes].sort(byPrecedence).map(({ route }) => route);

/** When the oldest of several routes was created; what has no time is new. */
const oldest = (routes: readonly ApiRoute[]): string =>
  routes.map(({ document }) => createdAt(document) || '~').reduce((a, b) => (a < b ? a : b), '~');
