/**
 * What VirtualServices say of connections (`tcp`): Envoy filter chains with TCP proxies, as istiod makes them for services'
 * TCP ports (pilot/pkg/networking/core/tls.go, networkfilter.go) and for gateways' TCP servers (gateway.go).
 */
import { BlockList, isIP, isIPv6 } from 'node:net';
import type { Document } from '../documents.js';
import { type Backends, backendHost } from '../gateway-api/backends.js';
import type { ApiGateways, ApiListener } from '../gateway-api/listeners.js';
import type { TcpApiRoute, TlsApiRoute } from '../gateway-api/schema.js';
import type { JsonObject } from '../resources.js';
import type { HostMention } from './assumptions.js';
import type { Context, Path, RuleBuilder } from './context.js';
import { envoyDuration } from './duration.js';
import type { GatewayServer, GatewayWorkload } from './gateways.js';
import { gatewayName, hostIntersection, hostMatches, MESH, resolveHost } from './hosts.js';
import { audienceOf, exportTo, type Typed, visible } from './kubernetes-services.js';
import type { Service } from './registry.js';
import { type Audience, destinationCluster, explainSkipped, fromHere, meshClients, type RouteInput } from './routes.js';
import type { TcpMatch, TcpRoute, TlsRoute, VirtualService } from './schema/virtual-service.js';
import { type Sidecars, UNIMPORTED } from './sidecars.js';

export interface ConnectionRule {
  readonly document: Document;
  readonly path: Path;
  readonly route: TcpRoute | TlsRoute;
  readonly rule: RuleBuilder;
}

export interface Bound {
  readonly document: Document;
  readonly hosts: readonly string[];
  readonly rules: readonly ConnectionRule[];
  /** the mesh's clients see it */
  readonly mesh: boolean;
  /** `namespace/name` of the gateways */
  readonly gateways: readonly string[];
  readonly exportTo: readonly string[];
  /** of the Gateway API: the listeners that take it */
  readonly taking?: readonly GatewayServer[];
  /** of the Gateway API: backends by rule */
  readonly backends?: readonly NonNullable<NonNullable<TcpApiRoute['rules']>[number]['backendRefs']>[];
}

const TCP_PROXY = 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';

export const chainOf = (proxy: JsonObject): JsonObject => ({
  filters: [{ name: 'envoy.filters.network.tcp_proxy', typed_config: proxy }],
});

/** The TCP proxy of a chain. */
export const proxyOf = (chain: JsonObject): JsonObject =>
  (chain.filters as JsonObject[])[0]?.typed_config as JsonObject;

/** A TCP proxy that leads to one cluster. */
export function toCluster(cluster: string): JsonObject {
  return { '@type': TCP_PROXY, stat_prefix: cluster, cluster };
}

/** Whether the addresses of a service are in subnets: all of them, none, or some ('unknown' if it has none). */
export function within(addresses: readonly string[], subnets: readonly string[]): 'all' | 'none' | 'unknown' {
  const list = new BlockList();
  for (const text of subnets) {
    const [address = '', length] = text.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (isIP(address) === 0) return 'unknown';
    list.addSubnet(address, Number(length ?? (family === 'ipv6' ? 128 : 32)), family);
  }
  const inside = addresses.filter((address) => list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4'));
  if (addresses.length === 0) return 'unknown';
  return inside.length === addresses.length ? 'all' : inside.length === 0 ? 'none' : 'unknown';
}

/** A listener with one filter chain at `place` (`address:port`). */
export function connectionListener(name: string, place: string, chain: JsonObject): JsonObject {
  const [, address = '', port] = /^(.*):(\d+)$/.exec(place) ?? [];
  return {
    name,
    address: { socket_address: { address, port_value: Number(port) } },
    traffic_direction: 'OUTBOUND',
    filter_chains: [chain],
  };
}

export class ConnectionRoutes {
  /** in the order in which they count */
  protected readonly bound: Bound[] = [];
  protected readonly context: Context;

  /** @param documents by age. @param kind the routes of VirtualServices that it is about */
  constructor(
    context: Context,
    documents: readonly Typed<VirtualService>[],
    sidecars: Sidecars,
    protected readonly kind: 'tcp' | 'tls' = 'tcp',
  ) {
    this.context = context;
    for (const { document, spec } of documents)
      if (spec[kind]?.length) this.#bind(document, spec, spec[kind], sidecars);
  }

  #bind(document: Document, spec: VirtualService, routes: readonly (TcpRoute | TlsRoute)[], sidecars: Sidecars): void {
    const context = this.context;
    const rules = routes.map((route, index): ConnectionRule => {
      const path = ['spec', this.kind, index];
      return { document, path, route, rule: context.rule(document, path, `${this.kind}[${index}]`) };
    });
    const why = (code: string, key: string, message: string) => {
      for (const { rule } of rules) context.unsupported(rule, ['spec', key], code, message);
    };
    if (!spec.hosts?.length) {
      why('no-host', 'hosts', 'names no host');
      return;
    }
    const gateways = (spec.gateways ?? []).map((name) => gatewayName(name, document.namespace));
    const others = gateways.filter((name) => name !== MESH);
    const meant = gateways.length === 0 || gateways.includes(MESH);
    const exported = exportTo(spec.exportTo, document.namespace);
    const hosts = spec.hosts.map((host) => resolveHost(host.toLowerCase(), document.namespace, context.domain));
    const shown = meant && visible(exported, context.namespace);
    const imported = hosts.some((host) => sidecars.imports(document.namespace, host));
    if (others.length === 0 && !(shown && imported)) {
      const audience = audienceOf(exported, document.namespace);
      for (const { rule } of rules) {
        const message = `not exported to namespace ${context.namespace}`;
        if (!shown) context.unseen(rule, ['spec', 'exportTo'], 'not-exported', message, audience);
        else context.unseen(rule, ['spec', 'hosts'], 'sidecar', UNIMPORTED, audience);
      }
      return;
    }
    this.bound.push({ document, hosts, rules, mesh: shown && imported, gateways: others, exportTo: exported });
  }

  /** A TCPRoute of the Gateway API, as istiod has it: a VirtualService for the listeners that take it. */
  addApiRoute({ document, spec }: Typed<TcpApiRoute | TlsApiRoute>, gateways: ApiGateways): void {
    const context = this.context;
    const names = 'hostnames' in spec && spec.hostnames?.length ? spec.hostnames.map((h) => h.toLowerCase()) : ['*'];
    const match = this.kind === 'tls' ? { match: [{ sniHosts: names }] } : {};
    const protocol = this.kind === 'tls' ? 'passthrough' : 'tcp';
    const backends: NonNullable<Bound['backends']>[number][] = [];
    const rules = (spec.rules ?? []).map(({ backendRefs = [] }, index): ConnectionRule => {
      const path = ['spec', 'rules', index];
      const rule = context.rule(document, path, `rules[${index}]`);
      const route = backendRefs.flatMap((ref) => {
        const place = backendHost(ref, document.namespace, context.domain);
        if (!place || ref.weight === 0) return [];
        const port = ref.port === undefined ? {} : { port: { number: ref.port } };
        return [{ destination: { host: place.host, ...port }, weight: ref.weight ?? 1 }];
      });
      backends.push(backendRefs);
      return { document, path, route: { ...match, route }, rule };
    });
    const taking: ApiListener[] = [];
    const problems: string[] = [];
    for (const ref of spec.parentRefs ?? []) {
      const { group = 'gateway.networking.k8s.io', kind = 'Gateway' } = ref;
      const gateway = `${ref.namespace ?? document.namespace}/${ref.name}`;
      const path = ['spec', 'parentRefs'];
      const own = group === 'gateway.networking.k8s.io' && kind === 'Gateway';
      if (own && context.assumeEndpoints) gateways.assume(gateway, ref.port, document, path, protocol);
      const found = !own
        ? `parents of kind ${kind} take no connections here`
        : gateways.listeners(gateway)
          ? gateways.taking(document, gateway, ref)
          : `no document describes gateway ${gateway}: nothing is intercepted for it`;
      if (typeof found === 'string') problems.push(found);
      else {
        const own = found.filter((listener) => listener.protocol === protocol);
        const about = protocol === 'tcp' ? 'is about TCP' : 'lets TLS pass through';
        if (own.length === 0) problems.push(`no listener of gateway ${gateway} ${about}`);
        taking.push(...own);
      }
    }
    // a rule is the kernel's only if everything that leads to it is
    for (const message of problems)
      for (const { rule } of rules) context.unsupported(rule, ['spec', 'parentRefs'], 'gateway', message);
    const meant = [...new Set(taking.map(({ gateway }) => gateway))];
    this.bound.push({
      ...{ document, hosts: names, rules, mesh: false, gateways: meant, exportTo: ['*'], taking, backends },
    });
  }

  /** Whether all backends of a rule are what they must be; else the rule has a reason. */
  protected usable(
    { document, backends }: Bound,
    index: number,
    { rule, path, route }: ConnectionRule,
    known: Backends,
  ): boolean {
    if (!backends) return true;
    const wrong = (backends[index] ?? []).map((ref) => known.resolve(document, ref)).find((b) => 'message' in b);
    const message = wrong && 'message' in wrong ? wrong.message : route.route.length === 0 ? 'no backends' : undefined;
    if (message !== undefined) this.context.unsupported(rule, [...path, 'backendRefs'], 'translation', message);
    return message === undefined;
  }

  /** Hosts, and hosts and ports of destinations, that they speak of. */
  *mentions(): Iterable<HostMention & { path: (string | number)[]; tcp: true }> {
    const { domain } = this.context;
    for (const { document, hosts, rules, mesh } of this.bound) {
      for (const { route, path } of rules) {
        for (const [index, { destination }] of route.route.entries()) {
          yield {
            host: resolveHost(destination.host.toLowerCase(), document.namespace, domain),
            ...(destination.port?.number ? { port: destination.port.number } : {}),
            ...(destination.subset ? { subset: destination.subset } : {}),
            ...{ document, path: [...path, 'route', index, 'destination'], tcp: true },
          };
        }
      }
      if (!mesh) continue;
      const ports = new Set(rules.flatMap(({ route }) => portsFor(route, (match) => isForMesh(match, document))));
      for (const [index, host] of hosts.entries()) {
        if (host === '*') continue;
        const at = { host, document, path: ['spec', 'hosts', index], tcp: true as const };
        yield at;
        for (const port of ports) yield { ...at, port };
      }
    }
  }

  /** The gateways that they are bound to, with the ports that matches ask for. */
  *gatewayMentions(): Iterable<{ name: string; document: Document; path: Path; ports: Set<number> }> {
    for (const { document, rules, gateways, taking } of this.bound) {
      if (taking) continue;
      for (const name of gateways) {
        const ports = rules.flatMap(({ route }) => portsFor(route, (match) => isFor(match, name, document)));
        yield { name, document, path: ['spec', 'gateways'], ports: new Set(ports) };
      }
    }
  }

  /** The TCP proxy of a rule, for connections to a port. */
  protected proxy(
    input: RouteInput,
    { document, path, route, rule }: ConnectionRule,
    port: number,
    audience: Audience,
  ) {
    const { context } = input;
    const from = { port, audience, single: true };
    const cluster = (index: number) =>
      destinationCluster(
        input,
        document,
        route.route[index]!.destination,
        [...path, 'route', index, 'destination'],
        from,
      );
    const [first] = route.route;
    const proxy: JsonObject =
      route.route.length === 1
        ? toCluster(cluster(0))
        : {
            '@type': TCP_PROXY,
            stat_prefix: `${document.name}.${document.namespace}`,
            weighted_clusters: {
              clusters: route.route.flatMap(({ weight }, index) =>
                weight ? [context.origin({ name: cluster(index), weight }, document, [...path, 'route', index])] : [],
              ),
            },
          };
    const host = resolveHost(first!.destination.host.toLowerCase(), document.namespace, context.domain);
    connectionLimits(input, proxy, host, document.namespace);
    const subset = route.route.length === 1 ? (first!.destination.subset ?? '') : '';
    const tunnel = input.destinationRules.tunnel(host, document.namespace, subset);
    if (tunnel) {
      const { protocol, targetHost, targetPort } = tunnel;
      const name = isIPv6(targetHost) ? `[${targetHost}]` : targetHost;
      proxy.tunneling_config = { hostname: `${name}:${targetPort}`, use_post: protocol === 'POST' };
    }
    rule.objects.push(context.origin(proxy, document, path));
    return proxy;
  }

  /**
   * The filter chain that the mesh's clients get at a TCP port of a service; undefined: no rule speaks of it. A subnet
   * that connections must go to is looked at here: the addresses of the service are known.
   */
  ofService(input: RouteInput, service: Service, port: number): JsonObject | undefined {
    const audience = meshClients(this.context);
    for (const { hosts, rules, mesh } of this.bound) {
      if (!mesh || !hosts.some((host) => hostMatches(host, service.host))) continue;
      for (const rule of rules) {
        const matches = this.matching(input, rule, port, audience);
        if (!matches) continue;
        const subnets = matches.flatMap((match) => match?.destinationSubnets ?? []);
        const any = matches.some((match) => !match?.destinationSubnets?.length);
        const inside = any ? 'all' : within(service.addresses, subnets);
        if (inside === 'none') continue;
        const chain = chainOf(this.proxy(input, rule, port, audience));
        if (inside === 'all') return chain;
        const message = `which addresses of ${service.host} are in these subnets cannot be told`;
        this.context.unsupported(rule.rule, [...rule.path, 'match'], 'translation', message);
        return undefined;
      }
    }
    return undefined;
  }

  /** The matches of a rule that are about connections to a port; undefined: none is. */
  protected matching(
    input: RouteInput,
    rule: ConnectionRule,
    port: number,
    audience: Audience,
  ): (TcpMatch | undefined)[] | undefined {
    const { match = [] } = rule.route;
    if (match.length === 0) return [undefined];
    const found = match.filter((m, index) => {
      if (m.sourceLabels || m.sourceNamespace) explainSkipped(input, rule, m, index, audience);
      return (m.port === undefined || m.port === port) && fromHere(audience, m, rule.document);
    });
    return found.length > 0 ? found : undefined;
  }

  /** What is bound to a gateway's server, with whom it is for. */
  protected *boundTo(workload: GatewayWorkload, server: GatewayServer): Iterable<{ bound: Bound; audience: Audience }> {
    for (const bound of this.bound) {
      const { document, hosts, gateways, exportTo, taking } = bound;
      if (taking && !taking.includes(server)) continue;
      const { namespace = document.namespace, labels } = workload;
      if (!gateways.includes(server.gateway)) continue;
      if (workload.namespace !== undefined && !visible(exportTo, workload.namespace)) continue;
      const own = server.hosts.filter((h) => h.namespace === '*' || h.namespace === document.namespace);
      const offered = own.map(({ host }) => host);
      if (hostIntersection(offered, hosts).length === 0) continue;
      yield { bound, audience: { gateways: [server.gateway], namespace, labels } };
    }
  }

  /** What a gateway's server that is about connections does with them; undefined: no rule speaks of it. */
  ofGateway(
    input: RouteInput,
    workload: GatewayWorkload,
    server: GatewayServer,
    backends: Backends,
  ): JsonObject | undefined {
    for (const { bound, audience } of this.boundTo(workload, server)) {
      const { rules } = bound;
      for (const [index, rule] of rules.entries()) {
        if (!this.matching(input, rule, server.port, audience)) continue;
        if (!this.usable(bound, index, rule, backends)) return undefined;
        if (server.tls || server.protocol !== 'tcp') {
          const message = `gateway ${server.gateway} speaks TLS on port ${server.port}: connections there are not intercepted`;
          this.context.unsupported(rule.rule, ['spec', 'gateways'], 'tls', message);
          return undefined;
        }
        return chainOf(this.proxy(input, rule, server.port, audience));
      }
    }
    return undefined;
  }

  /** Gives a reason to the rule that a chain is made of, which is not carried out. */
  leave(chain: JsonObject, code: string, message: string): void {
    const proxy = proxyOf(chain);
    for (const { rule, path } of this.bound.flatMap(({ rules }) => rules))
      if (rule.objects.includes(proxy)) this.context.unsupported(rule, path, code, message);
  }

  /** Gives reasons to rules that no listener uses. */
  explainUnused(services: readonly Service[], isGateway: (name: string) => boolean): void {
    for (const { hosts, rules, mesh, gateways, taking } of this.bound) {
      const covered = services.filter((service) => hosts.some((host) => hostMatches(host, service.host)));
      const tcp = covered.some((service) => service.ports.some(({ protocol }) => protocol === this.kind));
      const what = this.kind === 'tcp' ? 'plain TCP' : 'TLS';
      for (const { rule, path } of rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        const missing = taking ? [] : gateways.filter((name) => !isGateway(name));
        const [code, message] =
          missing.length > 0
            ? ['gateway', `no document describes gateway ${missing.join(', ')}: nothing is intercepted for it`]
            : mesh && covered.length > 0 && !tcp
              ? ['no-http-port', `none of its hosts has a port that carries ${what}`]
              : ['gateway', `no service or gateway has a port of ${what} that it is about`];
        this.context.unsupported(rule, path, code!, message!);
      }
    }
  }
}

/** What the DestinationRule of a host says of connections' lives. */
function connectionLimits({ destinationRules }: RouteInput, proxy: JsonObject, host: string, namespace: string): void {
  const tcp = destinationRules.effective(host, namespace, -1, '').connectionPool?.tcp;
  if (tcp?.idleTimeout) proxy.idle_timeout = envoyDuration(tcp.idleTimeout);
  if (tcp?.maxConnectionDuration) proxy.max_downstream_connection_duration = envoyDuration(tcp.maxConnectionDuration);
}

function isFor(match: TcpMatch, gateway: string, document: Document): boolean {
  const names = (match.gateways ?? []).map((name) => gatewayName(name, document.namespace));
  return names.length === 0 || names.includes(gateway);
}

function isForMesh(match: TcpMatch, document: Document): boolean {
  return isFor(match, MESH, document);
}

function portsFor({ match = [] }: TcpRoute, meant: (match: TcpMatch) => boolean): number[] {
  return match.filter(meant).flatMap(({ port }) => port ?? []);
}
