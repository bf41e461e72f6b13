/** ServiceEntries: services that a document describes by itself, with their endpoints or WorkloadEntries. */
import { isIP } from 'node:net';
import type { Context } from './context.js';
import { podAccount, spiffe } from './identities.js';
import { documentLabels, exportTo, type Typed } from './kubernetes-services.js';
import { type Endpoint, labelsMatch, protocolOf, type Registry, type ServicePort } from './registry.js';
import type { Pod, ServiceEntry, WorkloadEntry } from './schema/services.js';

function endpointPorts(ports: readonly ServicePort[], entry: WorkloadEntry | undefined): Map<number, number> {
  return new Map(
    ports.map((port) => {
      const target = typeof port.targetPort === 'number' ? port.targetPort : port.number;
      return [port.number, entry?.ports?.[port.name] ?? target];
    }),
  );
}

function servicePort(port: NonNullable<ServiceEntry['ports']>[number]): ServicePort {
  const said = port.protocol ?? '';
  const known = protocolOf(said);
  // Istio looks at the protocol only, and finds out what is none by looking. What a name says of HTTP is intercepted.
  const protocol = known ?? (said ? 'auto' : (protocolOf(port.name.split('-')[0] ?? '') ?? 'auto'));
  const sniffed = known === undefined && said.toUpperCase() !== 'HTTP_PROXY';
  return {
    number: port.number,
    name: port.name,
    protocol,
    ...(sniffed ? { sniffed } : {}),
    ...(port.targetPort ? { targetPort: port.targetPort } : {}),
  };
}

/** The endpoints that the document has, and the workloads and pods that it selects. */
function endpointsOf(
  context: Context,
  { document, spec }: Typed<ServiceEntry>,
  ports: readonly ServicePort[],
  workloads: readonly Typed<WorkloadEntry>[],
  pods: readonly Typed<Pod>[],
): Endpoint[] {
  const account = (namespace: string, serviceAccount: string | undefined) =>
    serviceAccount ? { account: spiffe({ trustDomain: context.trustDomain, namespace, serviceAccount }) } : {};
  const own = (spec.endpoints ?? []).map(
    (entry, index): Endpoint => ({
      address: entry.address ?? '',
      ports: endpointPorts(ports, entry),
      labels: entry.labels ?? {},
      labelsKnown: true,
      ...(entry.weight ? { weight: entry.weight } : {}),
      ...account(document.namespace, entry.serviceAccount),
      document,
      path: ['spec', 'endpoints', index],
    }),
  );
  const selector = spec.workloadSelector?.labels;
  if (!selector) return own;
  const selected = (namespace: string, labels: Readonly<Record<string, string>>) =>
    namespace === document.namespace && labelsMatch(selector, labels);
  const entries = workloads.flatMap((workload): Endpoint[] => {
    const labels = { ...documentLabels(workload.document), ...workload.spec.labels };
    if (!selected(workload.document.namespace, labels)) return [];
    return [
      {
        address: workload.spec.address ?? '',
        ports: endpointPorts(ports, workload.spec),
        labels,
        labelsKnown: true,
        ...(workload.spec.weight ? { weight: workload.spec.weight } : {}),
        ...account(workload.document.namespace, workload.spec.serviceAccount),
        document: workload.document,
        path: ['spec'],
      },
    ];
  });
  const running = pods.flatMap((pod): Endpoint[] => {
    const labels = documentLabels(pod.document);
    const address = pod.spec.status?.podIP;
    if (!address || !selected(pod.document.namespace, labels)) return [];
    return [
      {
        address,
        ports: endpointPorts(ports, undefined),
        labels,
        labelsKnown: true,
        ...account(pod.document.namespace, podAccount(pod.spec)),
        document: pod.document,
        path: ['status'],
      },
    ];
  });
  return [...own, ...entries, ...running];
}

/** The single addresses of an entry; a diagnostic for each of the others. */
function addressesOf(context: Context, { document, spec }: Typed<ServiceEntry>): string[] {
  return (spec.addresses ?? []).flatMap((address, index) => {
    const path = ['spec', 'addresses', index];
    const single = address.replace(/\/(32|128)$/, '');
    if (isIP(single)) return [single];
    if (/^[0-9a-f.:]+\/\d+$/i.test(address))
      context.warn(document, path, 'address-range', 'only single addresses are intercepted, no ranges');
    else context.error(document, path, 'invalid-value', `"${address}" is no IP address`);
    return [];
  });
}

const isStatic = ({ address }: Endpoint): boolean => isIP(address) !== 0 || address.startsWith('unix://');

/** Adds the ServiceEntries' hosts to the registry. */
export function addServiceEntries(
  context: Context,
  registry: Registry,
  entries: readonly Typed<ServiceEntry>[],
  workloads: readonly Typed<WorkloadEntry>[],
  pods: readonly Typed<Pod>[],
): void {
  for (const entry of entries) {
    const { document, spec } = entry;
    const ports = (spec.ports ?? []).map(servicePort);
    const endpoints = endpointsOf(context, entry, ports, workloads, pods);
    const accounts = endpoints.flatMap((endpoint) => endpoint.account ?? []);
    const subjectAltNames = [...new Set([...(spec.subjectAltNames ?? []), ...accounts])].sort();
    const resolution = spec.resolution ?? 'NONE';
    const dns = resolution.startsWith('DNS');
    const addresses = addressesOf(context, entry);
    if (resolution === 'STATIC') {
      for (const { address, document, path } of endpoints.filter((e) => !isStatic(e))) {
        const message = `"${address}" is no IP address, which resolution STATIC needs`;
        context.error(document, [...path, 'address'], 'invalid-value', message);
      }
    }
    const usable = endpoints.filter((e) => e.address !== '' && (resolution !== 'STATIC' || isStatic(e)));
    spec.hosts.forEach((host, index) => {
      const path = ['spec', 'hosts', index];
      const lower = host.toLowerCase();
      const unnamed = dns && endpoints.length === 0;
      if (unnamed && lower.startsWith('*')) {
        context.error(document, path, 'invalid-value', 'a wildcard host cannot be resolved by DNS');
        return;
      }
      const implied = (): Endpoint => ({
        address: lower,
        ports: endpointPorts(ports, undefined),
        labels: {},
        labelsKnown: true,
        document,
        path,
      });
      const added = registry.add({
        host: lower,
        namespace: document.namespace,
        ports,
        addresses: [...addresses],
        resolution: dns ? 'dns' : resolution === 'STATIC' ? 'static' : 'none',
        external: spec.location !== 'MESH_INTERNAL',
        headless: false,
        selector: {},
        endpoints: unnamed ? [implied()] : [...usable],
        ...(subjectAltNames.length > 0 ? { subjectAltNames } : {}),
        assumed: false,
        exportTo: exportTo(spec.exportTo, document.namespace),
        document,
        path,
      });
      if (!added) context.warn(document, path, 'duplicate-host', `${host} is already a service; the first one counts`);
    });
  }
}
