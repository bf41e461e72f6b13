/**
 * Sets of documents as a cluster would have them: read from files, completed by what policies without their cluster
 * lack (services, endpoints, pods), so that both sides translate exactly the same objects.
 */
import { readFileSync } from 'node:fs';
import { LineCounter, parseAllDocuments, parseDocument } from 'yaml';
import { type Document, flattenLists, kubernetesDocument } from '../../src/policy/documents.js';
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import { usualLabels } from '../../src/policy/istio/gateway-labels.js';
import { translateKubernetes } from '../../src/policy/istio/index.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';
import { filesBelow } from '../wild/files.js';
import { asArray, entryParent, GATEWAY_NAME, gatewayPorts, gatewayServiceName, ofGatewayApi } from './gateway-api.js';

export const DOMAIN = 'cluster.local';
/** What stands behind a port that is called by a name. */
const NAMED_PORT = 8080;
/** Objects are as old as their place in the files says: Istio's conflicts are won by the oldest. */
const OLDEST = Date.UTC(2020, 0, 1);
const ageOf = (index: number): string => new Date(OLDEST + index * 1000).toISOString().replace('.000', '');

/** Reads JSON objects as documents, for our translators. */
export function documentsOf(objects: readonly JsonObject[]): Document[] {
  return objects.map((object, index) => {
    const lineCounter = new LineCounter();
    const doc = parseDocument(JSON.stringify(object), { lineCounter });
    return kubernetesDocument(doc, lineCounter, `document ${index}`);
  });
}

/** What the API server takes as a name. */
const isName = (name: string): boolean => /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$/.test(name);

/** Hosts that a document names: what is no name was a template's. */
function hostsIn(value: Json | undefined): string[] {
  if (Array.isArray(value)) return value.flatMap(hostsIn);
  const object = asObject(value);
  if (!object) return [];
  return Object.entries(object).flatMap(([key, child]) => {
    const list = key === 'host' ? [child] : key === 'hosts' && Array.isArray(child) ? child : [];
    const own = list.filter((text) => typeof text === 'string');
    return [...own, ...hostsIn(child)];
  });
}

const isHost = (text: string): boolean =>
  /^([.*~]?[a-z0-9-]*\/)?(\*|\*?[a-z0-9.-]+)$/.test(text) || text.includes('/*');

/** The Kubernetes objects in the files at a path; what is none, or cannot be read, is left out. */
export function readObjects(path: string): JsonObject[] {
  const documents: Document[] = [];
  for (const file of filesBelow(path)) {
    const lineCounter = new LineCounter();
    // what collections have in place of values is to be a name
    const text = readFileSync(file, 'utf8').replaceAll('PLACEHOLDER', 'placeholder');
    const parsed = parseAllDocuments(text, { lineCounter, uniqueKeys: false });
    if ('empty' in parsed || parsed.some((doc) => doc.errors.length > 0)) continue;
    for (const doc of parsed) {
      const document = kubernetesDocument(doc, lineCounter, file);
      if (document.kind !== '' && document.apiVersion !== '') documents.push(document);
    }
  }
  return flattenLists(documents)
    .filter(({ name, namespace, json }) => isName(name) && isName(namespace) && hostsIn(json.spec).every(isHost))
    .map(({ json, namespace, name, kind }, index): JsonObject => {
      const metadata: JsonObject = { ...asObject(json.metadata) };
      metadata.name = name || `${kind.toLowerCase()}-${index}`;
      if (kind !== 'Namespace' && kind !== 'GatewayClass') metadata.namespace = namespace;
      metadata.creationTimestamp = ageOf(index);
      for (const key of ['uid', 'resourceVersion', 'generation', 'managedFields']) delete metadata[key];
      const { status: _, ...rest } = json;
      return { ...rest, metadata };
    });
}

export const kindOf = (object: JsonObject): string => asString(object.kind);
export const nameOf = (object: JsonObject): string => asString(asObject(object.metadata)?.name);
export const namespaceOf = (object: JsonObject): string => asString(asObject(object.metadata)?.namespace) || 'default';
const specOf = (object: JsonObject): JsonObject => asObject(object.spec) ?? {};
const labelsOf = (value: unknown): Record<string, string> =>
  Object.fromEntries(Object.entries(asObject(value as never) ?? {}).map(([k, v]) => [k, String(v)]));
const covers = (wanted: Record<string, string>, labels: Record<string, string>): boolean =>
  Object.entries(wanted).every(([k, v]) => labels[k] === v);

const podName = (address: string): string => `pod-${address.replaceAll(/[.:]/g, '-')}`;

/** What a cluster has besides the documents. */
class Completion {
  readonly added: JsonObject[] = [];
  #next = 0;

  address(range: string): string {
    const n = this.#next++;
    return `${range}.${n >> 8}.${n & 255}`;
  }

  pod(namespace: string, address: string, labels: Record<string, string>, ports: readonly JsonObject[] = []): void {
    const name = podName(address);
    this.added.push({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, labels },
      spec: { serviceAccountName: 'default', containers: [{ name: 'app', image: 'app', ports: [...ports] }] },
      status: {
        phase: 'Running',
        podIP: address,
        podIPs: [{ ip: address }],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    });
  }

  service(name: string, namespace: string, ports: readonly JsonObject[], selector: Record<string, string>): void {
    const service: JsonObject = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: { clusterIP: this.address('10.97'), ports: [...ports], selector },
    };
    this.added.push(service);
  }

  slice(service: JsonObject, addresses: readonly string[]): void {
    const name = nameOf(service);
    const ports = asObjects(specOf(service).ports).map((p): JsonObject => {
      const target =
        typeof p.targetPort === 'number' ? p.targetPort : p.targetPort === undefined ? p.port! : NAMED_PORT;
      return { ...(p.name ? { name: p.name } : {}), port: target, protocol: p.protocol ?? 'TCP' };
    });
    this.added.push({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-completed`,
        namespace: namespaceOf(service),
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: 'IPv4',
      ports,
      endpoints: addresses.map(
        (address): JsonObject => ({
          addresses: [address],
          conditions: { ready: true },
          targetRef: { kind: 'Pod', name: podName(address), namespace: namespaceOf(service) },
        }),
      ),
    });
  }
}

/** Objects that others need, whichever of several variants those are. */
const SUPPORT =
  /^(Service|ServiceEntry|WorkloadEntry|Gateway|DestinationRule|Endpoints|EndpointSlice|Pod|Namespace|Sidecar)$/;
const MOST_MESHES = 60;

/** What no two objects of one mesh have in common: the name, and of VirtualServices the hosts. */
function keysOf(object: JsonObject): string[] {
  const own = [`${kindOf(object)} ${namespaceOf(object)}/${nameOf(object)}`];
  if (kindOf(object) !== 'VirtualService') return own;
  const list = (key: string) => ((specOf(object)[key] as string[] | undefined) ?? []).map(String);
  const places = list('gateways').length > 0 ? list('gateways') : ['mesh'];
  return [...own, ...list('hosts').flatMap((host) => places.map((place) => `${place} ${namespaceOf(object)} ${host}`))];
}

/** Meshes that can be: collections hold variants of one object, which are put into several. */
export function meshesOf(objects: readonly JsonObject[]): JsonObject[][] {
  const meshes: { objects: JsonObject[]; keys: Set<string> }[] = [];
  for (const object of objects) {
    const keys = keysOf(object);
    let mesh = meshes.find((m) => !keys.some((key) => m.keys.has(key)));
    if (!mesh) {
      if (meshes.length >= MOST_MESHES) continue;
      mesh = { objects: [], keys: new Set() };
      meshes.push(mesh);
    }
    mesh.objects.push(object);
    for (const key of keys) mesh.keys.add(key);
  }
  const support = (meshes[0]?.objects ?? []).filter((o) => SUPPORT.test(kindOf(o)));
  for (const mesh of meshes.slice(1))
    mesh.objects.unshift(...support.filter((o) => !keysOf(o).some((key) => mesh.keys.has(key))));
  return meshes.map((m) => m.objects);
}

/** What istiod's resources show of these, and Sidestep's do not: Sidestep leaves what they are about to the proxy. */
const LEFT_OUT = new Set(['EnvoyFilter', 'WasmPlugin', 'Telemetry', 'ProxyConfig']);

/** Objects that the comparison is about. */
export const compared = (objects: readonly JsonObject[]): JsonObject[] =>
  objects.filter((object) => !LEFT_OUT.has(kindOf(object)));

/** Hosts of clusters that no document describes, with their ports: what `assumeEndpoints` makes up for `check`. */
function assumedHosts(objects: readonly JsonObject[], namespaces: readonly string[]): Map<string, Set<number>> {
  const described = new Set<string>();
  for (const object of objects) {
    if (kindOf(object) === 'Service') described.add(`${nameOf(object)}.${namespaceOf(object)}.svc.${DOMAIN}`);
    if (kindOf(object) === 'ServiceEntry')
      for (const host of (specOf(object).hosts as string[] | undefined) ?? []) described.add(String(host));
  }
  const out = new Map<string, Set<number>>();
  // gateways are completed by themselves; what a Sidecar hides from some clients, others may see
  const documents = documentsOf(objects);
  const clusters = namespaces.flatMap(
    (namespace) =>
      translateKubernetes(documents, { assumeEndpoints: true, workload: { namespace, labels: {} } }).clusters,
  );
  for (const cluster of clusters) {
    const [, port, , host] = /^outbound\|(\d+)\|([^|]*)\|(.*)$/.exec(asString(cluster.name)) ?? [];
    if (port === undefined || host === undefined || described.has(host)) continue;
    out.set(host, (out.get(host) ?? new Set()).add(Number(port)));
  }
  return out;
}

/** What the API server writes into a Service by itself. */
function defaulted(object: JsonObject): JsonObject {
  if (kindOf(object) !== 'Service') return object;
  const ports = asObjects(specOf(object).ports).map(
    (p): JsonObject => ({ protocol: 'TCP', targetPort: p.port ?? 0, ...p }),
  );
  return { ...object, spec: { ...specOf(object), ports } };
}

/** Ports of containers that a Service calls by their names. */
const namedPorts = (service: JsonObject): JsonObject[] =>
  asObjects(specOf(service).ports)
    .filter((p) => typeof p.targetPort === 'string')
    .map((p) => ({ name: p.targetPort!, containerPort: NAMED_PORT }));

/** Labels that policies want of a workload which stands behind an assumed service of this name. */
function wantedLabels(objects: readonly JsonObject[], namespace: string, name: string): Record<string, string> {
  for (const object of objects) {
    if (namespaceOf(object) !== namespace) continue;
    const wanted = labelsOf(asObject(specOf(object).selector)?.matchLabels);
    if (Object.values(wanted).some((value) => value.toLowerCase() === name)) return wanted;
  }
  return { app: name };
}

/** Labels of the subsets of a host. */
function subsetsOf(objects: readonly JsonObject[], host: string): Record<string, string>[] {
  const [name, namespace] = host.split('.');
  return objects
    .filter((o) => kindOf(o) === 'DestinationRule')
    .filter((o) => {
      const own = asString(specOf(o).host);
      return own === host || own === `${name}.${namespace}` || (own === name && namespaceOf(o) === namespace);
    })
    .flatMap((o) => asObjects(specOf(o).subsets).map((s) => labelsOf(s.labels)));
}

/** A gateway's workload, as a Service in front of it says. */
export interface GatewayService {
  readonly host: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The Service in front of a gateway's workload: the first by name whose servers have the labels. */
export function gatewayService(objects: readonly JsonObject[], gateway: JsonObject): GatewayService | undefined {
  const wanted = labelsOf(specOf(gateway).selector);
  if (Object.keys(wanted).length === 0) return undefined;
  const found = objects
    .filter((o) => kindOf(o) === 'Service' && covers(wanted, labelsOf(specOf(o).selector)))
    .map((o) => ({
      host: `${nameOf(o)}.${namespaceOf(o)}.svc.${DOMAIN}`,
      namespace: namespaceOf(o),
      labels: { ...labelsOf(specOf(o).selector), ...wanted },
    }));
  return found.sort((a, b) => (a.host < b.host ? -1 : 1))[0];
}

/** Gateways that VirtualServices name and no document describes, and Services in front of those without. */
function completeGateways(objects: readonly JsonObject[], made: Completion): void {
  const full = (text: string, namespace: string) =>
    text.includes('/') ? text : `${text.split('.')[1] ?? namespace}/${text.split('.')[0]}`;
  const gateways = objects.filter((o) => kindOf(o) === 'Gateway' && asString(o.apiVersion).includes('istio.io'));
  const known = new Set(gateways.map((o) => `${namespaceOf(o)}/${nameOf(o)}`));
  for (const object of objects) {
    if (kindOf(object) !== 'VirtualService') continue;
    for (const text of (specOf(object).gateways as string[] | undefined) ?? []) {
      const name = full(String(text), namespaceOf(object));
      if (text === 'mesh' || known.has(name)) continue;
      known.add(name);
      const [namespace = '', own = ''] = name.split('/');
      const gateway: JsonObject = {
        apiVersion: 'networking.istio.io/v1',
        kind: 'Gateway',
        metadata: { name: own, namespace },
        spec: {
          selector: { istio: 'ingressgateway' },
          servers: [{ port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }],
        },
      };
      gateways.push(gateway);
      made.added.push(gateway);
    }
  }
  for (const gateway of gateways) {
    // pods have the labels of Istio's charts
    const selector = usualLabels(labelsOf(specOf(gateway).selector));
    const all = [...objects, ...made.added];
    if (Object.keys(selector).length === 0 || gatewayService(all, gateway)) continue;
    const own = /gateway/.test(selector.istio ?? '') ? 'istio-system' : namespaceOf(gateway);
    const numbers = gateways
      .filter((g) => covers(selector, usualLabels(labelsOf(specOf(g).selector))))
      .flatMap((g) => asObjects(specOf(g).servers).map((s) => Number(asObject(s.port)?.number)));
    const ports = [...new Set(numbers)].map((port): JsonObject => ({ name: `tcp-${port}`, port }));
    made.service(`gateway-${made.added.length}`, own, ports, selector);
  }
}

/** The Services that Istio's controller makes for Gateways of the Gateway API, and the namespaces that those may select. */
function completeApi(objects: readonly JsonObject[], made: Completion): void {
  if (!objects.some(ofGatewayApi)) return;
  const described = new Set(objects.filter((o) => kindOf(o) === 'Namespace').map(nameOf));
  for (const name of new Set(objects.map(namespaceOf))) {
    if (described.has(name)) continue;
    const metadata = { name, labels: { 'kubernetes.io/metadata.name': name } };
    made.added.push({ apiVersion: 'v1', kind: 'Namespace', metadata });
  }
  for (const gateway of objects.filter((o) => kindOf(o) === 'Gateway' && ofGatewayApi(o))) {
    const [name, namespace] = [nameOf(gateway), namespaceOf(gateway)];
    const selected = objects.some(
      (o) => kindOf(o) === 'Service' && namespaceOf(o) === namespace && nameOf(o) === gatewayServiceName(name),
    );
    if (!selected) made.service(gatewayServiceName(name), namespace, gatewayPorts(gateway), { [GATEWAY_NAME]: name });
  }
}

/** EndpointSlices that Kubernetes would mirror from Endpoints. */
function mirrored(objects: readonly JsonObject[]): JsonObject[] {
  return objects
    .filter((o) => kindOf(o) === 'Endpoints')
    .flatMap((o) =>
      asObjects(o.subsets).flatMap((subset, index) =>
        ['IPv4', 'IPv6'].flatMap((addressType): JsonObject[] => {
          const six = addressType === 'IPv6';
          const addresses = asObjects(subset.addresses)
            .map((a) => asString(a.ip))
            .filter((ip) => ip.includes(':') === six);
          if (addresses.length === 0) return [];
          return [
            {
              apiVersion: 'discovery.k8s.io/v1',
              kind: 'EndpointSlice',
              metadata: {
                name: `${nameOf(o)}-mirrored-${index}-${addressType.toLowerCase()}`,
                namespace: namespaceOf(o),
                labels: { 'kubernetes.io/service-name': nameOf(o) },
              },
              addressType,
              ports: subset.ports ?? [],
              endpoints: addresses.map((ip): JsonObject => ({ addresses: [ip], conditions: { ready: true } })),
            },
          ];
        }),
      ),
    );
}

/**
 * The objects with what a cluster would have besides: a Service (or ServiceEntry) for every host that policies speak of
 * and none describes, endpoints for Services without, and a Pod for every endpoint.
 *
 * @param namespaces where clients are
 */
export function complete(objects: readonly JsonObject[], namespaces: readonly string[]): JsonObject[] {
  const made = new Completion();
  made.added.push(...mirrored(objects));
  completeGateways(objects, made);
  completeApi(objects, made);
  for (const [host, ports] of assumedHosts([...objects, ...made.added], namespaces)) {
    const inside = /^([\w-]+)\.([\w-]+)\.svc\.cluster\.local$/.exec(host);
    const list = [...ports].sort((a, b) => a - b);
    if (inside) {
      const [, name = '', namespace = ''] = inside;
      const shown = list.map((port): JsonObject => ({ name: `http-${port}`, port }));
      made.service(name, namespace, shown, wantedLabels(objects, namespace, name));
    } else if (/^(\*\.)?[\w-]+(\.[\w-]+)*$/.test(host)) {
      const parent = entryParent(objects, host);
      made.added.push({
        apiVersion: 'networking.istio.io/v1',
        kind: 'ServiceEntry',
        metadata: parent
          ? { name: host, namespace: parent }
          : { name: `completed-${made.added.length}`, namespace: 'default' },
        spec: {
          hosts: [host],
          addresses: [made.address('10.98')],
          location: 'MESH_INTERNAL',
          resolution: 'STATIC',
          ports: list.map((number): JsonObject => ({ number, name: `http-${number}`, protocol: 'HTTP' })),
          endpoints: [{ address: made.address('10.99') }],
        },
      });
    }
  }
  // copies, to which references are added
  const given = (structuredClone(objects) as JsonObject[]).map(defaulted);
  made.added.splice(0, made.added.length, ...made.added.map(defaulted));
  const all = [...given, ...made.added];
  const pods = all.filter((o) => kindOf(o) === 'Pod');
  const addressOf = (pod: JsonObject) => asString(asObject(pod.status)?.podIP);
  const known = new Set(pods.map(addressOf));
  const slices = all.filter((o) => kindOf(o) === 'EndpointSlice' || kindOf(o) === 'Endpoints');
  const serviceOf = (o: JsonObject) =>
    kindOf(o) === 'Endpoints' ? nameOf(o) : labelsOf(asObject(o.metadata)?.labels)['kubernetes.io/service-name'];
  for (const service of all.filter((o) => kindOf(o) === 'Service')) {
    const namespace = namespaceOf(service);
    const selector = labelsOf(specOf(service).selector);
    const own = slices.filter((s) => namespaceOf(s) === namespace && serviceOf(s) === nameOf(service));
    if (Object.keys(selector).length === 0 && own.length === 0) continue;
    if (own.length === 0) {
      const selected = pods.filter(
        (pod) => namespaceOf(pod) === namespace && covers(selector, labelsOf(asObject(pod.metadata)?.labels)),
      );
      let addresses = selected.map(addressOf).filter((address) => address !== '');
      if (addresses.length === 0) {
        const host = `${nameOf(service)}.${namespace}.svc.${DOMAIN}`;
        addresses = [{}, ...subsetsOf(objects, host)].map((labels) => {
          const address = made.address('10.100');
          made.pod(namespace, address, { ...labels, ...selector }, namedPorts(service));
          known.add(address);
          return address;
        });
      }
      made.slice(service, addresses);
      continue;
    }
    for (const slice of own) {
      const metadata = asObject(slice.metadata);
      const labels = Object.fromEntries(
        Object.entries(labelsOf(metadata?.labels)).filter(([key]) => !/(^|\.)(kubernetes|k8s)\.io\//.test(key)),
      );
      const annotation = labelsOf(metadata?.annotations)['sidestep.dev/labels'];
      const byAddress = asObject(annotation === undefined ? {} : JSON.parse(annotation)) ?? {};
      for (const endpoint of asObjects(slice.endpoints))
        for (const address of (endpoint.addresses as string[] | undefined) ?? []) {
          if (known.has(address)) continue;
          known.add(address);
          made.pod(namespace, address, { ...labels, ...selector, ...labelsOf(byAddress[address]) });
          endpoint.targetRef = { kind: 'Pod', name: podName(address), namespace };
        }
    }
  }
  // what is added was there before: without an age it would be the newest on one side, and the oldest on the other
  const added = made.added.map(
    (o): JsonObject => ({ ...o, metadata: { ...asObject(o.metadata), creationTimestamp: ageOf(-1) } }),
  );
  return allocated([...given, ...added]);
}

/** ServiceEntries with the addresses that istiod's controller would give them, which are to be ours. */
function allocated(objects: readonly JsonObject[]): JsonObject[] {
  const { intercepts } = translateKubernetes(documentsOf(objects));
  const byHost = new Map(
    intercepts
      .filter(({ address }) => address.startsWith('240.240.'))
      .map(({ address, listener }) => [listener.split('|')[3] ?? '', address]),
  );
  return objects.map((object) => {
    if (kindOf(object) !== 'ServiceEntry' || asArray(specOf(object).addresses).length > 0) return object;
    const addresses = asArray(specOf(object).hosts).flatMap((host): JsonObject[] => {
      const value = byHost.get(asString(host).toLowerCase());
      return value === undefined ? [] : [{ value, host }];
    });
    return addresses.length > 0 ? { ...object, status: { addresses } } : object;
  });
}
