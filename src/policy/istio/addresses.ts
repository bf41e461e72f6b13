/** Addresses that applications connect to, and the names that stand for them. */
import type { HostEntry } from '../resources.js';
import type { Context } from './context.js';
import { shortNames } from './hosts.js';
import { isHttp, type Registry, type Service } from './registry.js';

/** Addresses to give away: Istio's range for services that have none, 240.240.0.0/16, without .0 and .255 at the ends. */
const ROOM = 254 * 256;

function allocated(index: number): string {
  // 254 addresses in each /24: no .0 and no .255, which some stacks treat specially.
  return `240.240.${Math.floor(index / 254)}.${(index % 254) + 1}`;
}

/** FNV-1a over UTF-16 units, mixed (the low bits of names that differ in their last letter only are alike). */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
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
export function allocateAddresses(context: Context, registry: Registry): void {
  const services = registry.all();
  const taken = new Set(services.flatMap((service) => service.addresses));
  for (const service of services.filter(needsAddress)) {
    const start = hash(service.host) % ROOM;
    let step = 0;
    while (step < ROOM && taken.has(allocated((start + step) % ROOM))) step++;
    if (step === ROOM) {
      context.error(service.document, service.path, 'too-many-services', 'no address is left in 240.240.0.0/16');
      return;
    }
    const address = allocated((start + step) % ROOM);
    taken.add(address);
    service.addresses.push(address);
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
