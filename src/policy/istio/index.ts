/**
 * Istio's and Kubernetes' documents -> Envoy resources, as istiod would make them for a client's sidecar on this node.
 * See docs of the single parts for where we differ; every difference is a diagnostic or a reason of a source rule.
 */

import type { Diagnostic } from '../diagnostics.js';
import { type Document, flattenLists } from '../documents.js';
import { ApiGateways, ApiRoutes, Backends, BackendTls } from '../gateway-api/index.js';
import type { JsonObject, Resources, SourceRule } from '../resources.js';
import { allocateAddresses, hostEntries } from './addresses.js';
import {
  assumeEndpoints,
  assumePatched,
  assumeProtected,
  assumeServices,
  checkSubsets,
  gatewaysOfPatches,
} from './assumptions.js';
import { AttachedPolicies } from './attached-policies.js';
import { Authorization } from './authorization.js';
import { buildClusters } from './clusters.js';
import { buildConnectionListeners } from './connection-listeners.js';
import { Context, type RuleBuilder, type TranslateOptions } from './context.js';
import { DestinationRules } from './destination-rules.js';
import { GatewayListeners } from './gateway-listeners.js';
import { Certificates } from './gateway-tls.js';
import { Gateways } from './gateways.js';
import { Identities } from './identities.js';
import { buildInbound } from './inbound.js';
import { readDocuments } from './kinds.js';
import { addKubernetesServices } from './kubernetes-services.js';
import { type KnownListener, LeftToProxy } from './left-to-proxy.js';
import { buildListeners, type ClientRoutes, once, proxyPlaces, type ServiceRoutes } from './listeners.js';
import { meshProviders } from './mesh-config.js';
import { patchesConnections } from './patches/connections.js';
import { Peers } from './peer-authentication.js';
import { Registry } from './registry.js';
import { RequestAuthentications } from './request-authentication.js';
import { addServiceEntries } from './service-entries.js';
import { Sidecars } from './sidecars.js';
import { VirtualServices } from './virtual-services.js';

export type { TranslateOptions } from './context.js';

/**
 * Translates Kubernetes documents of any kinds.
 *
 * @param documents what was read, in the order of the files; `List`s are taken apart
 * @returns Envoy's resources with what is intercepted, source rules and every diagnostic. With an error among them the
 *   resources leave out what was wrong and are only good for showing
 */
export function translateKubernetes(documents: readonly Document[], options: TranslateOptions = {}): Resources {
  const all = flattenLists(documents);
  const context = new Context(options, clientNamespace(all));
  const input = readDocuments(context, all);

  const registry = new Registry();
  addKubernetesServices(context, registry, input);
  addServiceEntries(context, registry, input.serviceEntries, input.workloadEntries, input.pods);
  const sidecars = new Sidecars(context, input.sidecars);
  const virtualServices = new VirtualServices(context, input.virtualServices, sidecars);
  const destinationRules = new DestinationRules(context, input.destinationRules);
  const gateways = new Gateways(context, registry, input.gateways);
  const apiGateways = new ApiGateways(context, registry, input.apiGateways, input.namespaces);
  const apiRoutes = new ApiRoutes(context, registry, apiGateways, [...input.httpRoutes, ...input.grpcRoutes]);
  for (const route of input.tcpRoutes) virtualServices.connections.addApiRoute(route, apiGateways);
  for (const route of input.tlsRoutes) virtualServices.hellos.addApiRoute(route, apiGateways);
  const mentions = [...virtualServices.mentions(), ...apiRoutes.mentions()];
  assumeServices(context, registry, mentions, destinationRules);
  for (const { host, port, protocol } of apiRoutes.spoken()) registry.speak(host, port, protocol);
  assumeProtected(context, registry, [...input.authorizationPolicies, ...input.requestAuthentications]);
  if (context.assumeEndpoints) {
    assumePatched(context, registry, input.envoyFilters);
    assumeEndpoints(registry);
    gateways.assumeBound(virtualServices);
    const policies = [...input.authorizationPolicies, ...input.requestAuthentications];
    gateways.assumeProtected([...policies, ...gatewaysOfPatches(input.envoyFilters), ...input.telemetries]);
    apiGateways.assumeProtected(policies);
  }
  virtualServices.explainUnknownGateways((name) => gateways.has(name));
  checkSubsets(context, registry, virtualServices, destinationRules);
  const workloads = [...gateways.workloads, ...apiGateways.workloads];
  allocateAddresses(context, registry, workloads);

  const backendTls = new BackendTls(context, input.backendTls, all);
  const peers = new Peers(context, input.peerAuthentications);
  const clusters = buildClusters(context, registry, destinationRules, virtualServices, { backendTls, peers });
  const identities = new Identities(context, input, options.identity);
  const authentications = new RequestAuthentications(context, input.requestAuthentications, clusters);
  const providers = meshProviders(context, all);
  const authorization = new Authorization(context, input.authorizationPolicies, clusters, {
    identities,
    authentications,
    gateways: workloads,
    providers,
  });
  const guard = once((route: JsonObject) => authorization.guard(route));
  const place = proxyPlaces(context);
  const atServers = options.atServers
    ? buildInbound(context, clusters, guard, place)
    : { listeners: [], intercepts: [] };
  const routes = { context, registry, destinationRules };
  const atGateways = new GatewayListeners(routes, workloads, virtualServices, new Certificates(context, all));
  const backends = new Backends(context, registry, input.referenceGrants);
  const serviceRoutes: ServiceRoutes = (service, port) => {
    const attached = apiRoutes.ofService(routes, backends, service, port);
    if (attached) {
      virtualServices.supersede(service);
      return attached;
    }
    return virtualServices.routes(routes, service, port);
  };
  const seen = registry.all().filter((s) => s.assumed || sidecars.imports(s.namespace, s.host));
  const clients: ClientRoutes = {
    of: serviceRoutes,
    strays: (port, services) => virtualServices.strays(routes, port, services),
  };
  const own = buildListeners(routes, seen, clients, guard, place, atGateways.claimed());
  const theirs = atGateways.build(guard, place, authorization, (workload, port, server) =>
    apiRoutes.ofGateway(routes, backends, workload, port, server),
  );
  apiRoutes.explainUnheard((server) => atGateways.problemOf(server));
  const connected = buildConnectionListeners(
    ...([routes, seen, workloads, virtualServices, authorization, place, backends] as const),
    patchesConnections(context, input.envoyFilters),
  );
  const known: KnownListener[] = [
    ...own.listeners,
    ...theirs.listeners,
    ...connected.listeners,
    ...atServers.listeners.map((listener) => ({ ...listener, inbound: true })),
  ];
  const listeners = known.map(({ json }) => json);
  const intercepts = [...own.intercepts, ...theirs.intercepts, ...connected.intercepts, ...atServers.intercepts];
  const left = new LeftToProxy(context, known, clusters.values());
  const added: JsonObject[] = [];
  left.telemetry(input.telemetries, providers);
  left.envoyFilters(input.envoyFilters, added, input);
  for (const typed of input.wasmPlugins) left.wasmPlugin(typed);
  left.attached(new AttachedPolicies(context, input.foreign));
  virtualServices.explainUnused(registry.all(), (service) => seen.includes(service));
  for (const routes of [virtualServices.connections, virtualServices.hellos])
    routes.explainUnused(registry.all(), (name) => gateways.has(name));
  destinationRules.explainUnused(registry.all());
  authorization.explainUnused();
  authentications.explainUnused();
  peers.explain(registry.all());

  return {
    listeners,
    routeConfigs: [],
    clusters: [
      ...[...clusters.values()].map((cluster) => cluster.json),
      ...authentications.keyClusters.values(),
      ...added,
    ],
    endpoints: [],
    bootstrap: BOOTSTRAP,
    intercepts,
    hosts: hostEntries(context, registry, workloads),
    identities: identities.known(),
    rules: sourceRules(context, all),
    otherClients: context.otherClients,
    issuers: [...context.issuers],
    left: left.reasons,
    documents: all.length,
    provenance: context.provenance,
    diagnostics: inOrder(context.diagnostics, all),
  };
}

/**
 * The namespace that clients are taken to be in: `default` if any service or policy is there, else the one with the
 * most of them.
 */
function clientNamespace(documents: readonly Document[]): string {
  const count = new Map<string, number>();
  for (const document of documents) {
    if (!CLIENT_KINDS.has(document.kind)) continue;
    for (const namespace of audience(document)) count.set(namespace, (count.get(namespace) ?? 0) + 1);
  }
  if (count.size === 0 || count.has('default')) return 'default';
  return [...count].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0]?.[0] ?? 'default';
}

/** Namespaces whose clients a document is for: its own, unless it is exported to others only. */
function audience({ json, namespace }: Document): string[] {
  const { spec } = json;
  const list = spec && typeof spec === 'object' && !Array.isArray(spec) ? spec.exportTo : undefined;
  const names = Array.isArray(list) ? list.filter((name) => typeof name === 'string') : [];
  const own = names.length === 0 || names.some((name) => ['*', '.', '~', namespace].includes(name));
  return own ? [namespace] : names;
}

const CLIENT_KINDS = new Set([
  'Service',
  'VirtualService',
  'DestinationRule',
  'ServiceEntry',
  'HTTPRoute',
  'GRPCRoute',
  'Sidecar',
]);

/** Envoy refuses regexes of more than 100 instructions; the proxies that Istio starts are told to take these. */
const MAX_REGEX_PROGRAM = 32768;

/** Always the same, since a running proxy cannot be given another bootstrap. */
const BOOTSTRAP: JsonObject = {
  layered_runtime: {
    layers: [{ name: 'istio', static_layer: { 're2.max_program_size.error_level': MAX_REGEX_PROGRAM } }],
  },
};

/** The rules in the order in which they were written. */
function sourceRules(context: Context, documents: readonly Document[]): SourceRule[] {
  const order = new Map(documents.map((document, index) => [document, index]));
  const place = (rule: RuleBuilder) => order.get(rule.document) ?? 0;
  return [...context.rules]
    .sort((a, b) => place(a) - place(b) || a.position.line - b.position.line || a.position.column - b.position.column)
    .map(({ document: _, ...rule }) => rule);
}

function inOrder(diagnostics: readonly Diagnostic[], documents: readonly Document[]): Diagnostic[] {
  const files = [...new Set(documents.map((document) => document.file))];
  const key = (d: Diagnostic) =>
    [files.indexOf(d.position?.file ?? ''), d.position?.line ?? 0, d.position?.column ?? 0] as const;
  return [...diagnostics].sort((a, b) => {
    const [ka, kb] = [key(a), key(b)];
    return ka[0] - kb[0] || ka[1] - kb[1] || ka[2] - kb[2];
  });
}
