/**
 * The gateways of the files: who runs them, at which addresses, and which ports they open for which hosts. Like istiod
 * (pilot/pkg/model/gateway.go) this merges all Gateway documents that select the same workload.
 */
import type { Document } from '../documents.js';
import type { ConnectionRoutes } from './connection-routes.js';
import type { Context, Path } from './context.js';
import { isGatewaySelector, mayRun, selectsGateway, usualLabels } from './gateway-labels.js';
import { istioTls, type ServerTls } from './gateway-tls.js';
import type { Typed } from './kubernetes-services.js';
import { labelsMatch, type Registry, type Service } from './registry.js';
import type { AuthorizationPolicy } from './schema/authorization-policy.js';
import type { IstioGateway } from './schema/gateway.js';
import { byAge, type VirtualServices } from './virtual-services.js';

type Labels = Readonly<Record<string, string>>;

/** `tls`: TLS ends at the gateway; `passthrough`: it does not; `tcp`: no HTTP to be seen */
export type ServerProtocol = 'http' | 'tls' | 'passthrough' | 'tcp';

/** One server of one Gateway document. */
export interface GatewayServer {
  /** `namespace/name` of the document */
  readonly gateway: string;
  readonly port: number;
  readonly protocol: ServerProtocol;
  /** hosts, each for the VirtualServices of one namespace or of all (`*`) */
  readonly hosts: readonly { readonly namespace: string; readonly host: string }[];
  readonly httpsRedirect: boolean;
  /** it has settings about TLS */
  readonly tls?: true;
  /** `passthrough`: to clusters that server names say, which is not done here */
  readonly auto?: true;
  /** of a server with the protocol `tls`: the certificates */
  readonly https?: ServerTls;
  readonly document: Document;
  readonly path: Path;
}

/** What runs the servers of one or more gateways: its listeners are one for each port. */
export interface GatewayWorkload {
  /** what is unique about it: the host of its Service, its selector, or the gateway's name */
  readonly key: string;
  /** where it runs; undefined if nothing says so */
  readonly namespace: string | undefined;
  readonly labels: Labels;
  /** the Service in front of it */
  readonly service?: Service;
  readonly addresses: string[];
  /** names that stand for the addresses, besides the Service's */
  readonly names: string[];
  /** no document describes it */
  readonly assumed: boolean;
  readonly servers: GatewayServer[];
  /** `namespace/name` of the Gateway (Gateway API) that it is */
  readonly gatewayApi?: string;
  readonly document: Document;
  readonly path: Path;
}

/** The ports that are assumed for gateways that no document describes: of requests, and of connections. */
export const ASSUMED_GATEWAY_PORT = 80;
export const ASSUMED_TCP_PORT = 31400;
export const ASSUMED_TLS_PORT = 443;

const PLAIN = new Set(['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'GRPC_WEB']);

function serverProtocol(protocol: string, mode: string | undefined): ServerProtocol {
  const upper = protocol.toUpperCase();
  if (PLAIN.has(upper)) return 'http';
  if (mode === 'PASSTHROUGH' || mode === 'AUTO_PASSTHROUGH') return 'passthrough';
  return upper === 'HTTPS' ? 'tls' : 'tcp';
}

/** The name by which clients of this node may call a gateway that no Service stands for. */
export const gatewayHostName = (name: string, namespace: string): string =>
  `${name}.${namespace}.gateway`.toLowerCase();

/** Service ports through which clients reach port `number` of the workload behind the service. */
export function portsInFront(service: Service, number: number): number[] {
  const same = service.ports.filter((port) => port.number === number);
  const found = same.length > 0 ? same : service.ports.filter((port) => port.targetPort === number);
  return found.map((port) => port.number);
}

/** The port that a workload opens for its server's port: what the Service says. */
export function workloadPort(workload: GatewayWorkload, number: number): number {
  const target = workload.service?.ports.find((port) => port.number === number)?.targetPort;
  return typeof target === 'number' ? target : number;
}

const sorted = (labels: Labels) => Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));

/** All gateways of Istio's kind. */
export class Gateways {
  readonly workloads: GatewayWorkload[] = [];
  readonly #context: Context;
  readonly #registry: Registry;
  readonly #byGateway = new Map<string, GatewayWorkload>();

  constructor(context: Context, registry: Registry, documents: readonly Typed<IstioGateway>[]) {
    this.#context = context;
    this.#registry = registry;
    for (const { document, spec } of [...documents].sort(byAge)) this.#add(document, spec);
  }

  #add(document: Document, spec: IstioGateway): void {
    const context = this.#context;
    const name = `${document.namespace}/${document.name}`;
    const selector = spec.selector ?? {};
    const workload = this.#workload(document, selector);
    this.#byGateway.set(name, workload);
    if (!workload.service) workload.names.push(gatewayHostName(document.name, document.namespace));
    spec.servers?.forEach((server, index) => {
      const path = ['spec', 'servers', index];
      if (server.bind !== undefined && server.bind !== '' && server.bind !== '0.0.0.0' && server.bind !== '::') {
        context.warn(document, [...path, 'bind'], 'not-translated', 'bind is not translated: the server is left out');
        return;
      }
      const { number, protocol } = server.port;
      const kind = serverProtocol(protocol, server.tls?.mode);
      const other = workload.servers.find((s) => s.port === number && (s.protocol === 'http') !== (kind === 'http'));
      if (other) {
        const message = `port ${number} of the same workload has another protocol in ${other.gateway}; that one counts`;
        context.warn(document, [...path, 'port'], 'gateway-conflict', message);
        return;
      }
      workload.servers.push({
        gateway: name,
        port: number,
        protocol: kind,
        hosts: server.hosts.map((text) => {
          const slash = text.indexOf('/');
          const namespace = slash < 0 ? '*' : text.slice(0, slash);
          const host = text.slice(slash + 1).toLowerCase();
          return { namespace: namespace === '.' ? document.namespace : namespace, host };
        }),
        ...(server.tls ? { tls: true } : {}),
        ...(server.tls?.mode === 'AUTO_PASSTHROUGH' ? { auto: true } : {}),
        httpsRedirect: kind === 'http' && server.tls?.httpsRedirect === true,
        ...(kind === 'tls' ? { https: istioTls(server.tls) } : {}),
        document,
        path,
      });
    });
  }

  /** The workload that a selector means: the one behind a Service with these labels, else one of its own. */
  #workload(document: Document, selector: Labels): GatewayWorkload {
    const selects = Object.keys(selector).length > 0;
    const fronts = (service: Service) =>
      !service.external &&
      (labelsMatch(selector, service.selector) || service.endpoints.some((e) => labelsMatch(selector, e.labels)));
    const service = selects ? this.#registry.all().find(fronts) : undefined;
    const words = sorted(selector).map(([key, value]) => `${key}=${value}`);
    const key = service?.host ?? (selects ? words.join(',') : `${document.namespace}/${document.name}`);
    // `istio: ingressgateway` and `app: istio-ingressgateway` are the same pods' unless something says otherwise
    const labels = JSON.stringify(sorted(usualLabels(selector)));
    const same = (workload: GatewayWorkload) =>
      !service && !workload.service && selects && JSON.stringify(sorted(usualLabels(workload.labels))) === labels;
    const known = this.workloads.find((workload) => workload.key === key || same(workload));
    if (known) return known;
    // Istio's own gateways run in the root namespace unless a Service says otherwise.
    const own = /gateway/.test(selector.istio ?? '') ? this.#context.rootNamespace : document.namespace;
    const workload: GatewayWorkload = {
      key,
      namespace: service?.namespace ?? own,
      labels: { ...service?.selector, ...selector },
      ...(service ? { service } : {}),
      addresses: [],
      names: [],
      assumed: false,
      servers: [],
      document,
      path: ['spec'],
    };
    this.workloads.push(workload);
    return workload;
  }

  /** True if a document describes the gateway (`namespace/name`), or it is assumed to exist. */
  has(name: string): boolean {
    return this.#byGateway.has(name);
  }

  /** Adds a plain-HTTP gateway for every one that VirtualServices are bound to and no document describes. */
  assumeBound(virtualServices: VirtualServices): void {
    for (const { name, document, path, ports } of virtualServices.gatewayMentions()) {
      if (this.#byGateway.has(name)) continue;
      const numbers = ports.size > 0 ? [...ports] : [ASSUMED_GATEWAY_PORT];
      const message = `no Gateway describes ${name}: one with plain HTTP on port ${numbers.join(', ')} is assumed`;
      this.#context.warn(document, path, 'unknown-gateway', message);
      const workload = this.#assume(name, undefined, {}, document, path);
      for (const number of numbers.sort((a, b) => a - b)) workload.servers.push(anyHost(name, number, document, path));
    }
    this.#assumeConnected(virtualServices.connections, 'tcp', ASSUMED_TCP_PORT, 'TCP');
    this.#assumeConnected(virtualServices.hellos, 'passthrough', ASSUMED_TLS_PORT, 'TLS that passes through');
  }

  #assumeConnected(routes: ConnectionRoutes, protocol: ServerProtocol, usual: number, what: string): void {
    for (const { name, document, path, ports } of routes.gatewayMentions()) {
      const known = this.#byGateway.get(name);
      if (known && !known.assumed) continue;
      const numbers = ports.size > 0 ? [...ports] : [usual];
      const message = `no Gateway describes ${name}: one with ${what} on port ${numbers.join(', ')} is assumed`;
      this.#context.warn(document, path, 'unknown-gateway', message);
      const workload = known ?? this.#assume(name, undefined, {}, document, path);
      for (const number of numbers.sort((a, b) => a - b))
        if (!workload.servers.some(({ port }) => port === number))
          workload.servers.push({ ...anyHost(name, number, document, path), protocol });
    }
  }

  /** Adds a plain-HTTP gateway for every policy that is about gateways' workloads of which there is none. */
  assumeProtected(
    policies: readonly Typed<Pick<AuthorizationPolicy, 'selector' | 'targetRef' | 'targetRefs'>>[],
  ): void {
    for (const { document, spec } of policies) {
      const wanted = spec.selector?.matchLabels ?? {};
      if (!isGatewaySelector(wanted) || spec.targetRef || spec.targetRefs) continue;
      if (this.workloads.some((workload) => !workload.assumed && mayRun(wanted, workload.labels))) continue;
      const key = Object.values(wanted).join(',');
      const near = (workload: GatewayWorkload) => workload.assumed && workload.namespace === document.namespace;
      if (this.workloads.some((workload) => near(workload) && selectsGateway(wanted, workload))) continue;
      if (this.workloads.some((workload) => workload.key === `assumed/${key}`)) continue;
      const path = ['spec', 'selector'];
      const message = 'no Gateway has this workload: one with plain HTTP is assumed';
      this.#context.warn(document, path, 'unknown-gateway', message);
      const workload = this.#assume(`assumed/${key}`, document.namespace, wanted, document, path);
      workload.servers.push(anyHost(workload.key, ASSUMED_GATEWAY_PORT, document, path));
    }
  }

  #assume(key: string, namespace: string | undefined, labels: Labels, document: Document, path: Path): GatewayWorkload {
    const workload = { key, namespace, labels, addresses: [], names: [], assumed: true, servers: [], document, path };
    this.workloads.push(workload);
    this.#byGateway.set(key, workload);
    return workload;
  }
}

function anyHost(gateway: string, port: number, document: Document, path: Path): GatewayServer {
  const hosts = [{ namespace: '*', host: '*' }];
  return { gateway, port, protocol: 'http', hosts, httpsRedirect: false, document, path };
}
