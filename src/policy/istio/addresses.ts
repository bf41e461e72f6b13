/** Addresses that applications connect to, and the names that stand for them. */
import type { HostEntry } from '../resources.js';
import type { Context } from './context.js';
import { shortNames } from './hosts.js';
import { isHttp, type Registry, type Service } from './registry.js';

/** Istio's range for addresses of services that have none: 240.240.0.0/16. */
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

/** Gives services without an address one, in the order of their names: the same input gives the same addresses. */
export function allocateAddresses(context: Context, registry: Registry): void {
  const services = registry.all();
  const taken = new Set(services.flatMap((service) => service.addresses));
  let next = 0;
  for (const service of services.filter(needsAddress)) {
    while (taken.has(allocated(next))) next++;
    if (next >= 254 * 256) {
      context.error(service.document, service.path, 'too-many-services', 'no address is left in 240.240.0.0/16');
      return;
    }
    service.addresses.push(allocated(next++));
  }
}

/** The names of services, each name for one address. */
export function hostEntries(context: Context, registry: Registry): HostEntry[] {
  const services = registry.all().filter((s) => !s.assumed && s.addresses.length > 0 && !s.host.includes('*'));
  const bare = new Map<string, Service[]>();
  const own = (service: Service) => shortNames(service.host, service.namespace, context.domain)[0];
  for (const service of services) {
    const name = own(service);
    if (name) bare.set(name, [...(bare.get(name) ?? []), service]);
  }
  return services.map((service): HostEntry => {
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
}
