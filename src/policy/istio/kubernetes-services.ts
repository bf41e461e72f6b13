/** Kubernetes Services with the endpoints that EndpointSlices, Endpoints or Pods give them. */
import { isIP } from 'node:net';
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path } from './context.js';
import { podAccount, spiffe } from './identities.js';
import {
  type Endpoint,
  isHttp,
  labelsMatch,
  portProtocol,
  type Registry,
  type Service,
  type ServicePort,
} from './registry.js';
import type { EndpointSlice, Endpoints, KubernetesService, Pod } from './schema/services.js';

export interface Typed<T> {
  readonly document: Document;
  readonly spec: T;
}

export interface KubernetesInput {
  readonly services: readonly Typed<KubernetesService>[];
  readonly slices: readonly Typed<EndpointSlice>[];
  readonly endpoints: readonly Typed<Endpoints>[];
  readonly pods: readonly Typed<Pod>[];
}

/** Labels that Kubernetes and its controllers put on slices; they say nothing about the pods. */
const BOOKKEEPING = /(^|\.)(kubernetes\.io|k8s\.io)\//;

/** Our own annotation on EndpointSlices: labels of the pods by address, as a JSON object. */
const LABELS_ANNOTATION = 'sidestep.dev/labels';

function stringMap(value: unknown): Record<string, string> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return {};
  return Object.fromEntries(Object.entries(value).filter((e): e is [string, string] => typeof e[1] === 'string'));
}

export function metadata(document: Document): JsonObject {
  const value = document.json.metadata;
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
}

export const documentLabels = (document: Document): Record<string, string> => stringMap(metadata(document).labels);
export const documentAnnotations = (document: Document): Record<string, string> =>
  stringMap(metadata(document).annotations);

interface Address {
  readonly ip: string;
  readonly pod?: string | undefined;
  readonly podNamespace?: string | undefined;
  readonly path: Path;
}

/** Where labels of endpoints may come from. */
class Pods {
  readonly #byName = new Map<string, Typed<Pod>>();
  readonly #byAddress = new Map<string, Typed<Pod>>();
  readonly all: readonly Typed<Pod>[];

  constructor(pods: readonly Typed<Pod>[]) {
    this.all = pods;
    for (const pod of pods) {
      this.#byName.set(`${pod.document.namespace}/${pod.document.name}`, pod);
      for (const ip of podAddresses(pod.spec)) this.#byAddress.set(ip, pod);
    }
  }

  find(address: Address, namespace: string): Typed<Pod> | undefined {
    const named = address.pod ? this.#byName.get(`${address.podNamespace ?? namespace}/${address.pod}`) : undefined;
    return named ?? this.#byAddress.get(address.ip);
  }
}

function accountOf({ trustDomain }: Context, { document, spec }: Typed<Pod>): string {
  return spiffe({ trustDomain, namespace: document.namespace, serviceAccount: podAccount(spec) });
}

function podAddresses(pod: Pod): string[] {
  const all = [pod.status?.podIP, ...(pod.status?.podIPs ?? []).map((p) => p.ip)];
  return [...new Set(all.filter((ip): ip is string => !!ip))];
}

function labelsByAddress(context: Context, document: Document): Record<string, Record<string, string>> {
  const text = documentAnnotations(document)[LABELS_ANNOTATION];
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error('is no object');
    return Object.fromEntries(Object.entries(value).map(([ip, labels]) => [ip, stringMap(labels)]));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const path = ['metadata', 'annotations', LABELS_ANNOTATION];
    context.error(document, path, 'invalid-value', `must be a JSON object of labels by address: ${reason}`);
    return {};
  }
}

interface PortOfServers {
  readonly name?: string | undefined;
  readonly port?: number | undefined;
}

/** Which port of the servers each service port leads to: by name, or the only one. */
function matchPorts(service: KubernetesService, offered: readonly PortOfServers[] | undefined): Map<number, number> {
  const out = new Map<number, number>();
  for (const port of service.ports ?? []) {
    const found = (offered ?? []).find((p) => (p.name ?? '') === (port.name ?? ''));
    if (found?.port !== undefined) out.set(port.port, found.port);
  }
  return out;
}

function podPorts(service: KubernetesService, pod: Pod): Map<number, number> {
  const out = new Map<number, number>();
  const declared = (pod.spec?.containers ?? []).flatMap((container) => container.ports ?? []);
  for (const port of service.ports ?? []) {
    const target = port.targetPort ?? port.port;
    const number = typeof target === 'number' ? target : declared.find((p) => p.name === target)?.containerPort;
    if (number !== undefined) out.set(port.port, number);
  }
  return out;
}

function collectEndpoints(
  context: Context,
  service: Typed<KubernetesService>,
  input: KubernetesInput,
  slices: ReadonlyMap<string, readonly Typed<EndpointSlice>[]>,
  pods: Pods,
): Endpoint[] {
  const { name, namespace } = service.document;
  const selector = service.spec.selector ?? {};
  const out = new Map<string, Endpoint>();
  const add = (document: Document, address: Address, ports: Map<number, number>, given: Record<string, string>) => {
    if (out.has(address.ip) || ports.size === 0) return;
    const pod = pods.find(address, namespace);
    const known = pod ? documentLabels(pod.document) : given;
    out.set(address.ip, {
      address: address.ip,
      ports,
      labels: { ...selector, ...known },
      labelsKnown: pod !== undefined || Object.keys(given).length > 0,
      ...(pod ? { account: accountOf(context, pod) } : {}),
      document,
      path: address.path,
    });
  };
  let described = false;
  for (const { document, spec } of slices.get(`${namespace}/${name}`) ?? []) {
    const own = documentLabels(document);
    described = true;
    const ports = matchPorts(service.spec, spec.ports);
    const shared = Object.fromEntries(Object.entries(own).filter(([key]) => !BOOKKEEPING.test(key)));
    const each = labelsByAddress(context, document);
    spec.endpoints?.forEach((endpoint, index) => {
      if (endpoint.conditions?.ready === false) return;
      endpoint.addresses?.forEach((ip, n) => {
        const path = ['endpoints', index, 'addresses', n];
        const ref =
          endpoint.targetRef?.kind === undefined || endpoint.targetRef.kind === 'Pod' ? endpoint.targetRef : undefined;
        add(document, { ip, pod: ref?.name, podNamespace: ref?.namespace, path }, ports, { ...shared, ...each[ip] });
      });
    });
  }
  for (const { document, spec } of input.endpoints) {
    // Endpoints are the older form of the same facts, and mirrored into slices.
    if (described || document.namespace !== namespace || document.name !== name) continue;
    spec.subsets?.forEach((subset, s) => {
      const ports = matchPorts(service.spec, subset.ports);
      subset.addresses?.forEach((address, a) => {
        const path = ['subsets', s, 'addresses', a];
        add(
          document,
          { ip: address.ip, pod: address.targetRef?.name, podNamespace: address.targetRef?.namespace, path },
          ports,
          {},
        );
      });
    });
  }
  if (out.size === 0 && !described && Object.keys(selector).length > 0) {
    for (const pod of pods.all) {
      if (pod.document.namespace !== namespace || !labelsMatch(selector, documentLabels(pod.document))) continue;
      for (const ip of podAddresses(pod.spec))
        add(pod.document, { ip, path: ['status'] }, podPorts(service.spec, pod.spec), {});
    }
  }
  return [...out.values()];
}

/** Adds the Kubernetes services to the registry. */
export function addKubernetesServices(context: Context, registry: Registry, input: KubernetesInput): void {
  const pods = new Pods(input.pods);
  const slices = new Map<string, Typed<EndpointSlice>[]>();
  for (const slice of input.slices) {
    const key = `${slice.document.namespace}/${documentLabels(slice.document)['kubernetes.io/service-name']}`;
    slices.set(key, [...(slices.get(key) ?? []), slice]);
  }
  for (const typed of input.services) {
    const { document, spec } = typed;
    const cluster = [...new Set([spec.clusterIP, ...(spec.clusterIPs ?? []), ...(spec.externalIPs ?? [])])];
    const addresses = cluster.filter((a): a is string => !!a && a !== 'None');
    for (const address of addresses) {
      if (isIP(address) === 0)
        context.error(document, ['spec', 'clusterIP'], 'invalid-value', `"${address}" is no IP address`);
    }
    const ports = (spec.ports ?? []).map((port, index): ServicePort => {
      const { protocol, sniffed } = portProtocol(port);
      if (protocol === 'auto') {
        const path = ['spec', 'ports', index];
        const hint = 'name it http or http-..., or set appProtocol: http';
        context.warn(
          document,
          path,
          'port-protocol',
          `nothing says that port ${port.port} carries HTTP: it is not intercepted`,
          hint,
        );
      }
      return {
        number: port.port,
        name: port.name ?? '',
        protocol,
        ...(sniffed ? { sniffed } : {}),
        targetPort: port.targetPort ?? port.port,
      };
    });
    const service: Service = {
      host: `${document.name}.${document.namespace}.svc.${context.domain}`,
      namespace: document.namespace,
      ports,
      addresses: addresses.filter((a) => isIP(a) !== 0),
      resolution: spec.type === 'ExternalName' ? 'dns' : 'static',
      external: spec.type === 'ExternalName',
      headless: spec.clusterIP === 'None',
      selector: spec.selector ?? {},
      endpoints: collectEndpoints(context, typed, input, slices, pods),
      assumed: false,
      exportTo: exportTo(documentAnnotations(document)['networking.istio.io/exportTo']?.split(','), document.namespace),
      document,
      path: ['spec'],
    };
    if (spec.type === 'ExternalName' && spec.externalName) {
      const own = new Map(ports.filter((p) => isHttp(p.protocol)).map((p) => [p.number, p.number]));
      service.endpoints.push(externalName(spec.externalName, own, document));
    }
    registry.add(service);
  }
}

function externalName(address: string, ports: Map<number, number>, document: Document): Endpoint {
  return { address, ports, labels: {}, labelsKnown: true, document, path: ['spec', 'externalName'] };
}

/** `.` is the document's own namespace, nothing is everybody. */
export function exportTo(list: readonly string[] | undefined, namespace: string): string[] {
  const names = (list ?? []).map((n) => n.trim()).filter((n) => n !== '');
  return names.length === 0 ? ['*'] : names.map((n) => (n === '.' ? namespace : n));
}

/** True if something exported to `list` is seen in `namespace`; `*` wins over `~`. */
export function visible(list: readonly string[], namespace: string): boolean {
  return list.includes('*') || list.includes(namespace);
}

/** A namespace whose clients see something of `own` that is exported to `list`; undefined: there is none. */
export function audienceOf(list: readonly string[], own: string): string | undefined {
  return visible(list, own) ? own : list.find((name) => name !== '~');
}
