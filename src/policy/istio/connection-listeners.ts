/** Envoy listeners for connections: of services' TCP ports, and of gateways' TCP servers, as far as rules speak of them. */
import type { Backends } from '../gateway-api/backends.js';
import type { Intercept, JsonObject } from '../resources.js';
import type { Authorization } from './authorization.js';
import { connectionListener, proxyOf } from './connection-routes.js';
import { interceptsOf } from './gateway-listeners.js';
import type { GatewayWorkload } from './gateways.js';
import { clusterName } from './hosts.js';
import { visible } from './kubernetes-services.js';
import type { KnownListener } from './left-to-proxy.js';
import type { Places } from './listeners.js';
import type { PatchesConnections } from './patches/connections.js';
import type { Service } from './registry.js';
import type { RouteInput } from './routes.js';
import { type HelloChains, helloListener } from './tls-routes.js';
import type { VirtualServices } from './virtual-services.js';

/** The clusters that a chain leads to. */
function clustersOf(chain: JsonObject): string[] {
  const proxy = proxyOf(chain);
  const weighted = (proxy.weighted_clusters as JsonObject | undefined)?.clusters as JsonObject[] | undefined;
  return weighted ? weighted.map(({ name }) => String(name)) : [String(proxy.cluster)];
}

/**
 * Builds the listeners and what is intercepted for them.
 *
 * @param patched whether EnvoyFilters may change one of a port (and gateway): then it is not built
 */
export function buildConnectionListeners(
  input: RouteInput,
  seen: readonly Service[],
  workloads: readonly GatewayWorkload[],
  virtualServices: VirtualServices,
  authorization: Authorization,
  place: Places,
  backends: Backends,
  patched: PatchesConnections,
): { listeners: KnownListener[]; intercepts: Intercept[] } {
  const { context } = input;
  const { connections: routes, hellos } = virtualServices;
  const listeners: KnownListener[] = [];
  const intercepts: Intercept[] = [];
  /** Why connections must not be led to the servers by a chain. */
  const refusal = (
    chain: JsonObject,
    port: number,
    workload?: GatewayWorkload,
  ): readonly [code: string, message: string] | undefined => {
    if (patched(port, workload))
      return ['envoy-filter', 'EnvoyFilters patch listeners or their filters: connections are not intercepted'];
    const judged = clustersOf(chain).some((name) => authorization.protectsServers(name));
    if (!judged && !(workload && authorization.protectsGateway(workload))) return undefined;
    return ['network-filter', 'AuthorizationPolicies judge these connections, which is not done here'];
  };
  /** The same of several chains: all of them, or none. */
  const allowed = (
    found: HelloChains | undefined,
    port: number,
    workload?: GatewayWorkload,
  ): HelloChains | undefined => {
    const refused = found?.chains.map((chain) => refusal(chain, port, workload)).find((why) => why !== undefined);
    if (found && refused) hellos.leaveAll(found, ...refused);
    return refused ? undefined : found;
  };
  const claimed = new Set<string>();
  const passing = (workload: GatewayWorkload): void => {
    const ports = new Set(workload.servers.flatMap((s) => (s.protocol === 'passthrough' ? [s.port] : [])));
    for (const port of ports) {
      const servers = workload.servers.filter((server) => server.port === port);
      const through = servers.filter(({ protocol }) => protocol === 'passthrough');
      const found = allowed(hellos.chainsOfGateway(input, workload, through, backends), port, workload);
      if (!found) continue;
      if (through.length < servers.length) {
        hellos.leaveAll(found, 'tls', `the gateway ends TLS of other connections to port ${port}`);
        continue;
      }
      const { document, path } = through[0]!;
      const name = `gateway|${port}|${workload.key}`;
      const addresses = [...workload.addresses, ...(workload.service?.addresses ?? [])];
      const json = helloListener(name, place(name, { addresses, document, path }), found);
      listeners.push({ json: context.origin(json, document, path), port, workload, connections: true });
      for (const { address, port: seen, server } of interceptsOf(workload, 'passthrough'))
        if (server === port) intercepts.push({ address, port: seen, listener: name });
    }
  };
  for (const workload of workloads) {
    for (const protocol of ['tcp', 'passthrough'] as const)
      for (const { address, port } of interceptsOf(workload, protocol)) claimed.add(`${address} ${port}`);
    passing(workload);
    const done = new Set<number>();
    for (const server of workload.servers) {
      if (server.protocol === 'http' || done.has(server.port)) continue;
      const chain = routes.ofGateway(input, workload, server, backends);
      if (!chain) continue;
      done.add(server.port);
      const refused = refusal(chain, server.port, workload);
      if (refused) {
        routes.leave(chain, ...refused);
        continue;
      }
      const { document, path } = server;
      const name = `gateway|${server.port}|${workload.key}`;
      const addresses = [...workload.addresses, ...(workload.service?.addresses ?? [])];
      const json = connectionListener(name, place(name, { addresses, document, path }), chain);
      listeners.push({ json: context.origin(json, document, path), port: server.port, workload, connections: true });
      for (const { address, port, server: number } of interceptsOf(workload, 'tcp'))
        if (number === server.port) intercepts.push({ address, port, listener: name });
    }
  }
  for (const service of seen) {
    if (service.resolution === 'none' || !(service.assumed || visible(service.exportTo, context.namespace))) continue;
    for (const { number: port, protocol } of service.ports) {
      if (protocol !== 'tcp' && protocol !== 'tls') continue;
      const chain = protocol === 'tcp' ? routes.ofService(input, service, port) : undefined;
      // of a service that no document describes nobody knows what its ports carry
      const named =
        protocol === 'tls' || (service.assumed && !chain)
          ? allowed(hellos.chainsOfService(input, service, port), port)
          : undefined;
      const addresses = service.addresses.filter((address) => !claimed.has(`${address} ${port}`));
      if (!(chain || named) || (addresses.length === 0 && service.addresses.length > 0)) continue;
      const refused = chain && refusal(chain, port);
      if (refused) {
        routes.leave(chain, ...refused);
        continue;
      }
      const name = clusterName(port, '', service.host);
      const json = chain
        ? connectionListener(name, place(name, service), chain)
        : helloListener(name, place(name, service), named!);
      listeners.push({ json: context.origin(json, service.document, service.path), port, connections: true });
      for (const address of addresses) intercepts.push({ address, port, listener: name });
    }
  }
  return { listeners, intercepts };
}
