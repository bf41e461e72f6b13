/**
 * What VirtualServices and TLSRoutes say of connections by their server names (`tls`): filter chains for services' TLS ports
 * (istiod's pilot/pkg/networking/core/tls.go) and for gateways' servers that let TLS pass through (gateway.go).
 */
import type { Backends } from '../gateway-api/backends.js';
import type { JsonObject } from '../resources.js';
import { ConnectionRoutes, type ConnectionRule, chainOf, toCluster, within } from './connection-routes.js';
import type { GatewayServer, GatewayWorkload } from './gateways.js';
import { clusterName, hostMatches } from './hosts.js';
import type { Service } from './registry.js';
import { type Audience, meshClients, type RouteInput } from './routes.js';
import type { TlsMatch } from './schema/virtual-service.js';

const INSPECTOR: JsonObject = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};

/** A listener at `place` (`address:port`) whose chains are chosen by server names. */
export function helloListener(name: string, place: string, { chains, fallback }: HelloChains): JsonObject {
  const [, address = '', port] = /^(.*):(\d+)$/.exec(place) ?? [];
  return {
    name,
    address: { socket_address: { address, port_value: Number(port) } },
    traffic_direction: 'OUTBOUND',
    listener_filters: [INSPECTOR],
    filter_chains: chains,
    ...(fallback ? { default_filter_chain: fallback } : {}),
  };
}

export interface HelloChains {
  readonly chains: JsonObject[];
  /** for everything else */
  readonly fallback?: JsonObject;
}

/** The chains of one port. A server name has one chain: a match with one that was there before is left out (istiod). */
class Port {
  readonly chains: JsonObject[] = [];
  readonly #taken = new Set<string>();

  /** Whether a match may have a chain; else which of its names has one. */
  rival({ sniHosts }: TlsMatch): string | undefined {
    const names = namesOf(sniHosts);
    return names.length === 0 ? (this.#taken.has('*') ? '*' : undefined) : names.find((name) => this.#taken.has(name));
  }

  add({ sniHosts }: TlsMatch, proxy: JsonObject): void {
    const names = namesOf(sniHosts);
    for (const name of names.length === 0 ? ['*'] : names) this.#taken.add(name);
    const match = names.length === 0 ? {} : { filter_chain_match: { server_names: names } };
    this.chains.push({ ...match, ...chainOf(proxy) });
  }
}

/** The server names of a match; none: all. */
function namesOf(sniHosts: readonly string[]): string[] {
  return sniHosts.includes('*') ? [] : [...new Set(sniHosts)].sort();
}

export class TlsRoutes extends ConnectionRoutes {
  /** Adds the chains of the rule's matches among `found`. */
  #add(
    input: RouteInput,
    port: Port,
    rule: ConnectionRule,
    number: number,
    audience: Audience,
    found: readonly TlsMatch[],
  ) {
    const shadowed: { readonly path: (string | number)[]; readonly message: string }[] = [];
    for (const match of found) {
      const rival = port.rival(match);
      if (rival === undefined) {
        port.add(match, this.proxy(input, rule, number, audience));
        continue;
      }
      const path = [...rule.path, 'match', (rule.route.match as TlsMatch[]).indexOf(match), 'sniHosts'];
      const message = `an earlier match has the server name ${rival} on port ${number}: this one is left out`;
      this.context.warn(rule.document, path, 'shadowed-sni', message);
      shadowed.push({ path, message });
    }
    if (rule.rule.objects.length > 0) return;
    for (const { path, message } of shadowed) this.context.unsupported(rule.rule, path, 'gateway', message);
  }

  /** The chains that the mesh's clients get at a TLS port of a service; undefined: no rule speaks of it. */
  chainsOfService(input: RouteInput, service: Service, number: number): HelloChains | undefined {
    const audience = meshClients(this.context);
    const port = new Port();
    for (const { hosts, rules, mesh } of this.bound) {
      if (!mesh || !hosts.some((host) => hostMatches(host, service.host))) continue;
      for (const rule of rules) {
        const found = (this.matching(input, rule, number, audience) ?? []) as TlsMatch[];
        const inside = found.filter(({ destinationSubnets }) => {
          if (!destinationSubnets?.length) return true;
          const where = within(service.addresses, destinationSubnets);
          if (where === 'unknown' && !service.assumed) {
            const message = `which addresses of ${service.host} are in these subnets cannot be told`;
            this.context.unsupported(rule.rule, [...rule.path, 'match'], 'translation', message);
          }
          return where === 'all';
        });
        this.#add(input, port, rule, number, audience, inside);
      }
    }
    if (port.chains.length === 0) return undefined;
    // istiod passes other names on to where they were going, which is this service
    const fallback = chainOf(toCluster(clusterName(number, '', service.host)));
    return { chains: port.chains, fallback };
  }

  /** The chains of a gateway's port, of all its servers that let TLS pass through; undefined: no rule speaks of it. */
  chainsOfGateway(
    input: RouteInput,
    workload: GatewayWorkload,
    servers: readonly GatewayServer[],
    backends: Backends,
  ): HelloChains | undefined {
    const port = new Port();
    for (const server of servers) {
      if (server.auto) continue;
      for (const { bound, audience } of this.boundTo(workload, server)) {
        for (const [index, rule] of bound.rules.entries()) {
          const found = this.matching(input, rule, server.port, audience);
          if (!found || !this.usable(bound, index, rule, backends)) continue;
          this.#add(input, port, rule, server.port, audience, found as TlsMatch[]);
        }
      }
    }
    return port.chains.length === 0 ? undefined : { chains: port.chains };
  }

  /** Gives a reason to the rules that the chains are made of, which are not carried out. */
  leaveAll({ chains }: HelloChains, code: string, message: string): void {
    for (const chain of chains) this.leave(chain, code, message);
  }
}
