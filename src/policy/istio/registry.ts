/** The services of the mesh: what Kubernetes Services and ServiceEntries say together with their endpoints. */
import type { Document } from '../documents.js';
import type { Path } from './context.js';

export type Protocol = 'http' | 'http2' | 'tcp' | 'tls' | 'udp' | 'auto';

export interface ServicePort {
  readonly number: number;
  readonly name: string;
  protocol: Protocol;
  /** nothing says what it carries: Istio finds out by looking at the first bytes */
  readonly sniffed?: boolean;
  /** port of the servers if it is known without endpoints */
  readonly targetPort?: number | string;
}

export interface Endpoint {
  readonly address: string;
  /** service port number -> port of this endpoint */
  readonly ports: ReadonlyMap<number, number>;
  readonly labels: Readonly<Record<string, string>>;
  /** false: only what the service's selector implies is known of the labels */
  readonly labelsKnown: boolean;
  readonly weight?: number;
  /** who it is, in the mesh, as far as the files say */
  readonly account?: string;
  readonly document: Document;
  readonly path: Path;
}

export interface Service {
  readonly host: string;
  readonly namespace: string;
  readonly ports: readonly ServicePort[];
  /** addresses that stand for the service; allocated ones too */
  readonly addresses: string[];
  /** `none`: connections go where they were meant to, whatever the address */
  readonly resolution: 'static' | 'dns' | 'none';
  /** its endpoints are outside the mesh: authorization policies do not apply to them */
  readonly external: boolean;
  readonly headless: boolean;
  /** selector of the Kubernetes service */
  readonly selector: Readonly<Record<string, string>>;
  readonly endpoints: Endpoint[];
  /** names of which its certificates have one, where TLS is spoken to it and nothing else says so */
  readonly subjectAltNames?: readonly string[];
  /** no document describes it, it is only referred to */
  readonly assumed: boolean;
  /** namespaces that see it: `*`, or names */
  readonly exportTo: readonly string[];
  readonly document: Document;
  readonly path: Path;
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  http: 'http',
  'kubernetes.io/ws': 'http',
  http2: 'http2',
  h2c: 'http2',
  'kubernetes.io/h2c': 'http2',
  grpc: 'http2',
  'grpc-web': 'http2',
  https: 'tls',
  tls: 'tls',
  'kubernetes.io/wss': 'tls',
  tcp: 'tcp',
  mongo: 'tcp',
  mysql: 'tcp',
  redis: 'tcp',
  hbone: 'tcp',
  udp: 'udp',
};

/** The protocol that a name stands for (`http`, `grpc-web` ...), case ignored. */
export function protocolOf(name: string): Protocol | undefined {
  return PROTOCOLS[name.toLowerCase()];
}

/** Istio's protocol selection: appProtocol, else the port's name up to the first dash, else well-known numbers. */
export function portProtocol(port: {
  port: number;
  name?: string | undefined;
  protocol?: string | undefined;
  appProtocol?: string | undefined;
}): Pick<ServicePort, 'protocol' | 'sniffed'> {
  if (port.protocol === 'UDP' || port.protocol === 'SCTP') return { protocol: 'udp' };
  if (port.appProtocol !== undefined) {
    const named = protocolOf(port.appProtocol);
    if (named) return { protocol: named };
  }
  const name = port.name ?? '';
  const named = protocolOf(name) ?? (/^grpc-web\b/i.test(name) ? 'http2' : protocolOf(name.split('-')[0] ?? ''));
  if (named) return { protocol: named };
  // Istio would look at the first bytes; these ports carry HTTP by convention, on others nothing is intercepted.
  return { protocol: port.port === 80 || port.port === 8080 ? 'http' : 'auto', sniffed: true };
}

/** Whether requests of the protocol are taken apart. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === 'http' || protocol === 'http2';
}

/** True if every label of `wanted` is in `labels` with the same value. */
export function labelsMatch(
  wanted: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}

/**
 * The services that a ServiceEntry describes. Where no document describes it, a service that was assumed for it, which
 * has its name as host.
 */
export function entryServices(services: readonly Service[], namespace: string, name: string): Service[] {
  return services.filter(
    ({ document, assumed, host }) =>
      (document.kind === 'ServiceEntry' && document.namespace === namespace && document.name === name) ||
      (assumed && host === name.toLowerCase()),
  );
}

/** Services by host name. */
export class Registry {
  readonly #services = new Map<string, Service>();

  /** Adds a service; the first one of a host name wins. Returns false if the name is taken. */
  add(service: Service): boolean {
    if (this.#services.has(service.host)) return false;
    this.#services.set(service.host, service);
    return true;
  }

  /** Says what a service's port (undefined: each) speaks, where the service itself does not say it. */
  speak(host: string, port: number | undefined, protocol: 'http' | 'http2'): void {
    for (const own of this.#services.get(host)?.ports ?? []) {
      if (own.protocol === 'auto' && (port === undefined || own.number === port)) own.protocol = protocol;
    }
  }

  get(host: string): Service | undefined {
    return this.#services.get(host);
  }

  /** All services, sorted by host name. */
  all(): Service[] {
    return [...this.#services.values()].sort((a, b) => (a.host < b.host ? -1 : a.host > b.host ? 1 : 0));
  }
}
