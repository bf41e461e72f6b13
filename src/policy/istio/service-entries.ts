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

/** Adds the ServiceEntries' hosts to the registry. */
export function addServiceEntries(
  context: Context,
  registry: Registry,
  entries: readonly Typed<ServiceEntry>[],
  workloads: readonly Typed<WorkloadEntry>[],
  pods: readonly Typed<Pod>[],
): void {
  for (const { document, spec } of entries) {
    const ports = (spec.ports ?? []).map((port): ServicePort => {
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
    });
    const endpoints: Endpoint[] = [];
    const account = (namespace: string, serviceAccount: string | undefined) =>
      serviceAccount ? { account: spiffe({ trustDomain: context.trustDomain, namespace, serviceAccount }) } : {};
    spec.endpoints?.forEach((entry, index) => {
      endpoints.push({
        address: entry.address ?? '',
        ports: endpointPorts(ports, entry),
        labels: entry.labels ?? {},
        labelsKnown: true,
        ...(entry.weight ? { weight: entry.weight } : {}),
        ...account(document.namespace, entry.serviceAccount),
        document,
        path: ['spec', 'endpoints', index],
      });
    });
    const selector = spec.workloadSelector?.labels;
    if (selector) {
      for (const workload of workloads) {
        const labels = { ...documentLabels(workload.document), ...workload.spec.labels };
        if (workload.document.namespace !== document.namespace || !labelsMatch(selector, labels)) continue;
        endpoints.push({
          address: workload.spec.address ?? '',
          ports: endpointPorts(ports, workload.spec),
          labels,
          labelsKnown: true,
          ...(workload.spec.weight ? { weight: workload.spec.weight } : {}),
          ...account(workload.document.namespace, workload.spec.serviceAccount),
          document: workload.document,
          path: ['spec'],
        });
      }
      for (const pod of pods) {
        const labels = documentLabels(pod.document);
        const ip = pod.spec.status?.podIP;
        if (!ip || pod.document.namespace !== document.namespace || !labelsMatch(selector, labels)) continue;
        const own = endpointPorts(ports, undefined);
        endpoints.push({
          address: ip,
          ports: own,
          labels,
          labelsKnown: true,
          ...account(pod.document.namespace, podAccount(pod.spec)),
          document: pod.document,
          path: ['status'],
        });
      }
    }
    const accounts = endpoints.flatMap((endpoint) => endpoint.account ?? []);
    const subjectAltNames = [...new Set([...(spec.subjectAltNames ?? []), ...accounts])].sort();
    const resolution = spec.resolution ?? 'NONE';
    const addresses: string[] = [];
    spec.addresses?.forEach((address, index) => {
      const single = address.replace(/\/(32|128)$/, '');
      if (isIP(single)) addresses.push(single);
      else if (/^[0-9a-f.:]+\/\d+$/i.test(address)) {
        context.warn(
          document,
          ['spec', 'addresses', index],
          'address-range',
          'only single addresses are intercepted, no ranges',
        );
      } else context.error(document, ['spec', 'addresses', index], 'invalid-value', `"${address}" is no IP address`);
    });
    if (resolution === 'STATIC') {
      for (const endpoint of endpoints) {
        if (isIP(endpoint.address) || endpoint.address.startsWith('unix://')) continue;
        context.error(
          endpoint.document,
          [...endpoint.path, 'address'],
          'invalid-value',
          `"${endpoint.address}" is no IP address, which resolution STATIC needs`,
        );
      }
    }
    spec.hosts.forEach((host, index) => {
      const lower = host.toLowerCase();
      const dns = resolution.startsWith('DNS');
      if (dns && endpoints.length === 0 && lower.startsWith('*')) {
        context.error(document, ['spec', 'hosts', index], 'invalid-value', 'a wildcard host cannot be resolved by DNS');
        return;
      }
      const implied = (): Endpoint => ({
        address: lower,
        ports: endpointPorts(ports, undefined),
        labels: {},
        labelsKnown: true,
        document,
        path: ['spec', 'hosts', index],
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
        endpoints:
          dns && endpoints.length === 0
            ? [implied()]
            : endpoints.filter(
                (e) =>
                  e.address !== '' && (resolution !== 'STATIC' || isIP(e.address) || e.address.startsWith('unix://')),
              ),
        ...(subjectAltNames.length > 0 ? { subjectAltNames } : {}),
        assumed: false,
        exportTo: exportTo(spec.exportTo, document.namespace),
        document,
        path: ['spec', 'hosts', index],
      });
      if (!added)
        context.warn(
          document,
          ['spec', 'hosts', index],
          'duplicate-host',
          `${host} is already a service; the first one counts`,
        );
    });
  }
}
