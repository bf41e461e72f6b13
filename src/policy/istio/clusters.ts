/** Envoy clusters: one for each service port, and one for each of its subsets. */
import type { BackendTls } from '../gateway-api/backend-tls.js';
import type { JsonObject } from '../resources.js';
import type { Context, RuleBuilder } from './context.js';
import type { DestinationRules, EffectivePolicy, Subset } from './destination-rules.js';
import { clusterName } from './hosts.js';
import { localityProblem } from './localities.js';
import { ASSUMED, applyMeshTls, withMode } from './mesh-tls.js';
import type { Peers } from './peer-authentication.js';
import { type Endpoint, labelsMatch, type Registry, type Service, type ServicePort } from './registry.js';
import { applyProxyProtocol, applyTrafficPolicy } from './traffic-policy.js';
import type { VirtualServices } from './virtual-services.js';

/** A cluster with what stands behind it. */
export interface ClusterInfo {
  readonly name: string;
  readonly service: Service;
  readonly port: ServicePort;
  readonly subset: string;
  readonly endpoints: readonly Endpoint[];
  /** labels that all its servers have */
  readonly labels: Readonly<Record<string, string>>;
  /** the traffic policies in effect */
  readonly rules: readonly RuleBuilder[];
  readonly json: JsonObject;
}

/** What else than DestinationRules has servers spoken to in TLS. */
export interface ServerTls {
  readonly backendTls: BackendTls;
  readonly peers: Peers;
}

function lbEndpoint(endpoint: Endpoint, port: number): JsonObject {
  const address = endpoint.address.startsWith('unix://')
    ? { pipe: { path: endpoint.address.slice('unix://'.length) } }
    : { socket_address: { address: endpoint.address, port_value: port } };
  return {
    endpoint: { address },
    ...(endpoint.weight ? { load_balancing_weight: endpoint.weight } : {}),
  };
}

function build(
  context: Context,
  rules: DestinationRules,
  service: Service,
  port: ServicePort,
  subset: Subset | undefined,
  { backendTls, peers }: ServerTls,
): ClusterInfo {
  const name = clusterName(port.number, subset?.name ?? '', service.host);
  const endpoints = service.endpoints.filter(
    (endpoint) =>
      endpoint.ports.has(port.number) &&
      (!subset || labelsMatch(subset.labels, endpoint.labels) || (context.assumeEndpoints && !endpoint.labelsKnown)),
  );
  const json: JsonObject = { name, type: 'STATIC', connect_timeout: '10s' };
  if (service.resolution === 'dns') {
    Object.assign(json, {
      type: 'STRICT_DNS',
      dns_refresh_rate: '60s',
      respect_dns_ttl: true,
      dns_lookup_family: 'V4_ONLY',
    });
  }
  context.origin(json, subset?.document ?? service.document, subset?.path ?? service.path);
  const policy = rules.effective(service.host, service.namespace, port.number, subset?.name ?? '');
  const version = port.sniffed ? 'client' : port.protocol === 'http2' ? 'http2' : 'http1';
  applyTrafficPolicy(json, policy, version, service.subjectAltNames);
  const to = { service, port, subset: subset?.name ?? '' };
  let marked = (_: Endpoint) => false;
  if (policy.tls?.mode === 'ISTIO_MUTUAL') marked = applyMeshTls(context, json, to, endpoints, policy.tls);
  else if (!policy.tls && peers.insist(json, service, port, endpoints))
    marked = applyMeshTls(context, json, to, endpoints, {}, (e) => peers.wants(service, port, e));
  backendTls.apply(json, service, port);
  applyProxyProtocol(json, policy.proxyProtocol);
  for (const block of policy.blocks) {
    block.rule.objects.push(json);
    for (const key of Object.keys(block.fields)) {
      context.origin(json, block.rule.document, [...block.path, key], CLUSTER_FIELDS[key]);
    }
    if (block.fields.tls?.mode === 'ISTIO_MUTUAL') sayMutual(context, block);
    if (block.fields.tls?.credentialName !== undefined) {
      const message = 'certificates in Kubernetes secrets cannot be read here';
      context.unsupported(block.rule, [...block.path, 'tls', 'credentialName'], 'tls-secret', message);
      context.warn(block.rule.document, [...block.path, 'tls', 'credentialName'], 'not-translated', message);
    }
    if (block.fields.loadBalancer?.simple === 'PASSTHROUGH') {
      const message = 'the address that was asked for cannot be passed on; a random endpoint is taken';
      context.unsupported(block.rule, [...block.path, 'loadBalancer', 'simple'], 'passthrough', message);
    }
    const localities = block.fields.loadBalancer?.localityLbSetting;
    const problem = localities && localityProblem(localities, context.labels, endpoints);
    if (problem !== undefined) {
      const message = `${problem}: all endpoints of this node count as one locality`;
      context.unsupported(block.rule, [...block.path, 'loadBalancer', 'localityLbSetting'], 'locality', message);
    }
    if (block.fields.loadBalancer?.zoneAwareLbSetting !== undefined) {
      const message = 'zone aware settings are not translated: all endpoints of this node count as one locality';
      context.unsupported(block.rule, [...block.path, 'loadBalancer', 'zoneAwareLbSetting'], 'locality', message);
    }
    if (block.fields.outlierDetection?.outlierDetectionHttpErrorCodes !== undefined) {
      const path = [...block.path, 'outlierDetection', 'outlierDetectionHttpErrorCodes'];
      const message = 'what counts as an error is not translated (nor by istiod): status 500 and above does';
      context.unsupported(block.rule, path, 'traffic-policy', message);
    }
  }
  const lbEndpoints = endpoints.map((endpoint) => {
    const out = lbEndpoint(endpoint, endpoint.ports.get(port.number) ?? port.number);
    return context.origin(marked(endpoint) ? withMode(out) : out, endpoint.document, endpoint.path);
  });
  json.load_assignment = {
    cluster_name: name,
    ...(lbEndpoints.length > 0 ? { endpoints: [{ lb_endpoints: lbEndpoints }] } : {}),
  };
  const rulesInEffect = policy.blocks.map((block) => block.rule);
  return {
    name,
    service,
    port,
    subset: subset?.name ?? '',
    endpoints,
    labels: subset?.labels ?? {},
    rules: rulesInEffect,
    json,
  };
}

/** What becomes of mutual TLS with the certificates of the mesh: spoken by nodes that have some. */
function sayMutual(context: Context, { rule, path }: EffectivePolicy['blocks'][number]): void {
  const at = [...path, 'tls', 'mode'];
  if (!context.mesh) {
    const message =
      'mutual TLS needs certificates of the mesh, which this node has none of (run --certificates): requests go in plain text to the server itself';
    context.unsupported(rule, at, 'mesh-tls', message);
  } else if (context.assumeEndpoints) {
    context.warn(rule.document, at, 'assumed-certificates', ASSUMED);
  }
}

/** Cluster field that a part of a traffic policy ends up in. */
const CLUSTER_FIELDS: Readonly<Record<string, string>> = {
  loadBalancer: 'lb_policy',
  connectionPool: 'circuit_breakers',
  outlierDetection: 'outlier_detection',
  tls: 'transport_socket',
  proxyProtocol: 'transport_socket',
  retryBudget: 'circuit_breakers',
};

/** Subsets of a host that routes name. */
function mentionedSubsets(virtualServices: VirtualServices, host: string): Subset[] {
  const out = new Map<string, Subset>();
  for (const mention of virtualServices.mentions()) {
    if (mention.host !== host || !mention.subset || out.has(mention.subset)) continue;
    out.set(mention.subset, { name: mention.subset, labels: {}, document: mention.document, path: mention.path });
  }
  return [...out.values()];
}

/** Builds the clusters of all services, by name. Services whose connections just pass through have none. */
export function buildClusters(
  context: Context,
  registry: Registry,
  rules: DestinationRules,
  virtualServices: VirtualServices,
  serverTls: ServerTls,
): Map<string, ClusterInfo> {
  const out = new Map<string, ClusterInfo>();
  for (const service of registry.all()) {
    if (service.resolution === 'none') continue;
    for (const port of service.ports) {
      if (port.protocol === 'udp') continue;
      const defined = [...rules.subsets(service.host, service.namespace).values()];
      // Where no document describes the service, none needs to define its subsets either.
      const subsets =
        service.assumed && defined.length === 0 ? mentionedSubsets(virtualServices, service.host) : defined;
      for (const subset of [undefined, ...subsets]) {
        const cluster = build(context, rules, service, port, subset, serverTls);
        if (!out.has(cluster.name)) out.set(cluster.name, cluster);
        if (subset && cluster.endpoints.length === 0 && service.endpoints.length > 0) {
          const known = service.endpoints.every((e) => e.labelsKnown);
          const hint = known
            ? undefined
            : "give the pods' labels: a Pod document, labels on the EndpointSlice or its sidestep.dev/labels annotation";
          context.warn(
            subset.document,
            subset.path,
            'empty-subset',
            `no endpoint of ${service.host} has these labels`,
            hint,
          );
        }
      }
    }
  }
  return out;
}
