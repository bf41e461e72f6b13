/**
 * What VirtualServices say of connections (`tcp`): Envoy filter chains with TCP proxies, as istiod makes them for services'
 * TCP ports (pilot/pkg/networking/core/tls.go, networkfilter.go) and for gateways' TCP servers (gateway.go).
 */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { HostMention } from './assumptions.js';
import type { Context, Path, RuleBuilder } from './context.js';
import { envoyDuration } from './duration.js';
import type { GatewayServer, GatewayWorkload } from './gateways.js';
import { gatewayName, hostIntersection, hostMatches, MESH, resolveHost } from './hosts.js';
import { exportTo, type Typed, visible } from './kubernetes-services.js';
import type { Service } from './registry.js';
import { type Audience, destinationCluster, explainSkipped, fromHere, meshClients, type RouteInput } from './routes.js';
import type { TcpMatch, TcpRoute, VirtualService } from './schema/virtual-service.js';
import type { Sidecars } from './sidecars.js';

interface ConnectionRule {
  readonly document: Document;
  readonly path: Path;
  readonly route: TcpRoute;
  readonly rule: RuleBuilder;
}

interface Bound {
  readonly document: Document;
  readonly hosts: readonly string[];
  readonly rules: readonly ConnectionRule[];
  /** the mesh's clients see it */
  readonly mesh: boolean;
  /** `namespace/name` of the gateways */
  readonly gateways: readonly string[];
  readonly exportTo: readonly string[];
}

/** The filter chains of a listener. */
export interface Chains {
  readonly chains: readonly JsonObject[];
  readonly fallback?: JsonObject;
}

const TCP_PROXY = 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';

const chainOf = (proxy: JsonObject): JsonObject => ({
  filters: [{ name: 'envoy.filters.network.tcp_proxy', typed_config: proxy }],
});

/** A TCP proxy that leads to one cluster. */
function toCluster(cluster: string): JsonObject {
  return { '@type': TCP_PROXY, stat_prefix: cluster, cluster };
}

/** A CIDR range, as it is written for subnets: a single address without a length is one, too. */
function prefixRange(text: string): JsonObject {
  const [address = '', length] = text.split('/');
  return { address_prefix: address, prefix_len: Number(length ?? (address.includes(':') ? 128 : 32)) };
}

/** A listener of filter chains at `place` (`address:port`). */
export function connectionListener(name: string, place: string, { chains, fallback }: Chains): JsonObject {
  const [, address = '', port] = /^(.*):(\d+)$/.exec(place) ?? [];
  const all = chains.length === 0 && fallback ? [fallback] : [...chains];
  return {
    name,
    address: { socket_address: { address, port_value: Number(port) } },
    traffic_direction: 'OUTBOUND',
    filter_chains: all,
    ...(fallback && chains.length > 0 ? { default_filter_chain: fallback } : {}),
  };
}

export class ConnectionRoutes {
  /** in the order in which they count */
  readonly #bound: Bound[] = [];
  readonly #context: Context;

  /** @param documents by age */
  constructor(context: Context, documents: readonly Typed<VirtualService>[], sidecars: Sidecars) {
    this.#context = context;
    for (const { document, spec } of documents) if (spec.tcp?.length) this.#bind(document, spec, spec.tcp, sidecars);
  }

  #bind(document: Document, spec: VirtualService, routes: readonly TcpRoute[], sidecars: Sidecars): void {
    const context = this.#context;
    const rules = routes.map((route, index): ConnectionRule => {
      const path = ['spec', 'tcp', index];
      return { document, path, route, rule: context.rule(document, path, `tcp[${index}]`) };
    });
    const why = (code: string, path: Path, message: string) => {
      for (const { rule } of rules) context.unsupported(rule, ['spec', ...path], code, message);
    };
    if (!spec.hosts?.length) return why('no-host', ['hosts'], 'names no host');
    const gateways = (spec.gateways ?? []).map((name) => gatewayName(name, document.namespace));
    const others = gateways.filter((name) => name !== MESH);
    const meant = gateways.length === 0 || gateways.includes(MESH);
    const exported = exportTo(spec.exportTo, document.namespace);
    const hosts = spec.hosts.map((host) => resolveHost(host.toLowerCase(), document.namespace, context.domain));
    const shown = meant && visible(exported, context.namespace);
    const imported = hosts.some((host) => sidecars.imports(document.namespace, host));
    if (others.length === 0 && !shown)
      return why('not-exported', ['exportTo'], `not exported to namespace ${context.namespace}`);
    if (others.length === 0 && !imported)
      return why('sidecar', ['hosts'], 'the Sidecar of the clients does not import it');
    this.#bound.push({ document, hosts, rules, mesh: shown && imported, gateways: others, exportTo: exported });
  }

  /** Hosts, and hosts and ports of destinations, that they speak of. */
  *mentions(): Iterable<HostMention & { path: (string | number)[]; tcp: true }> {
    const { domain } = this.#context;
    for (const { document, hosts, rules, mesh } of this.#bound) {
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
    for (const { document, rules, gateways } of this.#bound) {
      for (const name of gateways) {
        const ports = rules.flatMap(({ route }) => portsFor(route, (match) => isFor(match, name, document)));
        yield { name, document, path: ['spec', 'gateways'], ports: new Set(ports) };
      }
    }
  }

  /** The TCP proxy of a rule, for connections to a port. */
  #proxy(input: RouteInput, { document, path, route, rule }: ConnectionRule, port: number, audience: Audience) {
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
    rule.objects.push(context.origin(proxy, document, path));
    return proxy;
  }

  /** What the mesh's clients get at a TCP port of a service; undefined: no rule speaks of it. */
  ofService(input: RouteInput, service: Service, port: number): Chains | undefined {
    const audience = meshClients(this.#context);
    const chains: JsonObject[] = [];
    for (const { document, hosts, rules, mesh } of this.#bound) {
      if (!mesh || !hosts.some((host) => hostMatches(host, service.host))) continue;
      for (const rule of rules) {
        const matches = this.#matching(input, rule, port, audience);
        if (!matches) continue;
        const subnets = matches.flatMap((match) => match?.destinationSubnets ?? []);
        const proxy = this.#proxy(input, rule, port, audience);
        if (matches.some((match) => !match?.destinationSubnets?.length)) return { chains, fallback: chainOf(proxy) };
        const chain = { filter_chain_match: { prefix_ranges: subnets.map(prefixRange) }, ...chainOf(proxy) };
        chains.push(this.#context.origin(chain, document, rule.path));
      }
    }
    if (chains.length === 0) return undefined;
    const proxy = toCluster(`outbound|${port}||${service.host}`);
    connectionLimits(input, proxy, service.host, service.namespace);
    return { chains, fallback: chainOf(this.#context.origin(proxy, service.document, service.path)) };
  }

  /** The matches of a rule that are about connections to a port; undefined: none is. */
  #matching(
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

  /** What a gateway's server that is about connections does with them; undefined: no rule speaks of it. */
  ofGateway(input: RouteInput, workload: GatewayWorkload, server: GatewayServer): Chains | undefined {
    const { labels } = workload;
    for (const { document, hosts, rules, gateways, exportTo } of this.#bound) {
      const { namespace = document.namespace } = workload;
      if (!gateways.includes(server.gateway)) continue;
      if (workload.namespace !== undefined && !visible(exportTo, workload.namespace)) continue;
      const own = server.hosts.filter((h) => h.namespace === '*' || h.namespace === document.namespace);
      const offered = own.map(({ host }) => host);
      if (hostIntersection(offered, hosts).length === 0) continue;
      const audience = { gateways: [server.gateway], namespace, labels };
      for (const rule of rules) {
        if (!this.#matching(input, rule, server.port, audience)) continue;
        if (server.tls || server.protocol !== 'tcp') {
          const message = `gateway ${server.gateway} speaks TLS on port ${server.port}: connections there are not intercepted`;
          this.#context.unsupported(rule.rule, ['spec', 'gateways'], 'tls', message);
          return undefined;
        }
        return { chains: [chainOf(this.#proxy(input, rule, server.port, audience))] };
      }
    }
    return undefined;
  }

  /** Gives a reason to the rules that lead to these chains, which are not carried out. */
  leave({ chains, fallback }: Chains, code: string, message: string): void {
    const own = [...chains, ...(fallback ? [fallback] : [])].map((chain) => (chain.filters as JsonObject[])[0]);
    const proxies = new Set(own.map((filter) => filter?.typed_config));
    for (const { rules } of this.#bound)
      for (const { rule, path } of rules)
        if (rule.objects.some((object) => proxies.has(object as JsonObject)))
          this.#context.unsupported(rule, path, code, message);
  }

  /** Gives reasons to rules that no listener uses. */
  explainUnused(services: readonly Service[], isGateway: (name: string) => boolean): void {
    for (const { hosts, rules, mesh, gateways } of this.#bound) {
      const covered = services.filter((service) => hosts.some((host) => hostMatches(host, service.host)));
      const tcp = covered.some((service) => service.ports.some(({ protocol }) => protocol === 'tcp'));
      for (const { rule, path } of rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        const missing = gateways.filter((name) => !isGateway(name));
        const [code, message] =
          missing.length > 0
            ? ['gateway', `no document describes gateway ${missing.join(', ')}: nothing is intercepted for it`]
            : mesh && covered.length > 0 && !tcp
              ? ['no-http-port', 'none of its hosts has a port that carries plain TCP']
              : ['gateway', 'no service or gateway has a TCP port that it is about'];
        this.#context.unsupported(rule, path, code!, message!);
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
