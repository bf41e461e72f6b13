/** Addresses that applications connect to, and the names that stand for them. */
import type { HostEntry } from '../resources.js';
import type { Context } from './context.js';
import type { GatewayWorkload } from './gateways.js';
import { shortNames } from './hosts.js';
import { isHttp, type Registry, type Service } from './registry.js';
import { stablePlace } from './stable.js';

/** Addresses to give away: Istio's range for services that have none, 240.240.0.0/16, without .0 and .255 at the ends. */
const ROOM = 254 * 256;

function allocated(index: number): string {
  // 254 addresses in each /24: no .0 and no .255, which some stacks treat specially.
  return `240.240.${Math.floor(index / 254)}.${(index % 254) + 1}`;
}

/** True if requests to the service can be intercepted by an address that we choose. */
function needsAddress(service: Service): boolean {
  return (
    service.addresses.length === 0 &&
    !service.assumed &&
    service.resolution !== 'none' &&
    !service.host.includes('*') &&
    service.ports.some((port) => isHttp(port.protocol))
  );
}

/**
 * Gives services without an address one that follows from the service's name, so that it stays when other services come
 * and go: clients hold on to addresses. Only of two names that mean the same address one moves on (to the next).
 */
export function allocateAddresses(context: Context, registry: Registry, gateways: readonly GatewayWorkload[]): void {
  const services = registry.all();
  const taken = new Set([...services, ...gateways].flatMap(({ addresses }) => addresses));
  const inFront = new Set(gateways.map((workload) => workload.service));
  const bare = (service: Service) => inFront.has(service) && service.addresses.length === 0;
  for (const service of services.filter((s) => needsAddress(s) || bare(s))) {
    const address = stablePlace(service.host, ROOM, allocated, taken);
    if (address === undefined) {
      context.error(service.document, service.path, 'too-many-services', 'no address is left in 240.240.0.0/16');
      return;
    }
    service.addresses.push(address);
  }
  for (const workload of gateways) {
    if (workload.assumed || workload.service || workload.addresses.length > 0) continue;
    if (!workload.servers.some((server) => server.protocol === 'http' || server.protocol === 'tls')) continue;
    const address = stablePlace(`gateway ${workload.key}`, ROOM, allocated, taken);
    if (address !== undefined) workload.addresses.push(address);
    else context.error(workload.document, workload.path, 'too-many-services', 'no address is left in 240.240.0.0/16');
  }
}

/** The names of services, each name for one address. */
export function hostEntries(context: Context, registry: Registry, gateways: readonly GatewayWorkload[]): HostEntry[] {
  const services = registry.all().filter((s) => !s.assumed && s.addresses.length > 0 && !s.host.includes('*'));
  const bare = new Map<string, Service[]>();
  const own = (service: Service) => shortNames(service.host, service.namespace, context.domain)[0];
  for (const service of services) {
    const name = own(service);
    if (name) bare.set(name, [...(bare.get(name) ?? []), service]);
  }
  const ofGateways = gateways.flatMap(({ addresses: [address], names }): HostEntry[] =>
    address !== undefined && names.length > 0 ? [{ address, names: [...names] }] : [],
  );
  const ofServices = services.map((service): HostEntry => {
    const name = own(service);
    const rivals = name ? (bare.get(name) ?? []) : [];
    // The short name means the client's namespace; where that has no such service, the only one there is.
    const winner =
      rivals.find((s) => s.namespace === context.namespace) ?? (rivals.length === 1 ? rivals[0] : undefined);
    const names = [
      ...(name && winner === service ? [name] : []),
      ...shortNames(service.host, '', context.domain),
      service.host,
    ];
    const [address = ''] = service.addresses;
    return { address, names };
  });
  return [...ofServices, ...ofGateways];
}
