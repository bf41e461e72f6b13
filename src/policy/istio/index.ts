/**
 * Istio's and Kubernetes' documents -> Envoy resources, as istiod would make them for a client's sidecar on this node.
 * See docs of the single parts for where we differ; every difference is a diagnostic or a reason of a source rule.
 */

import type { Diagnostic } from '../diagnostics.js';
import { type Document, flattenLists } from '../documents.js';
import type { JsonObject, Resources, SourceRule } from '../resources.js';
import { allocateAddresses, hostEntries } from './addresses.js';
import { assumeEndpoints, assumeProtected, assumeServices, checkSubsets } from './assumptions.js';
import { Authorization } from './authorization.js';
import { buildClusters } from './clusters.js';
import { Context, type RuleBuilder, type TranslateOptions } from './context.js';
import { DestinationRules } from './destination-rules.js';
import { Identities } from './identities.js';
import { readDocuments } from './kinds.js';
import { addKubernetesServices } from './kubernetes-services.js';
import { buildListeners } from './listeners.js';
import { Registry } from './registry.js';
import { addServiceEntries } from './service-entries.js';
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
  const virtualServices = new VirtualServices(context, input.virtualServices);
  const destinationRules = new DestinationRules(context, input.destinationRules);
  assumeServices(context, registry, virtualServices, destinationRules);
  assumeProtected(context, registry, input.authorizationPolicies);
  if (context.assumeEndpoints) assumeEndpoints(registry);
  checkSubsets(context, registry, virtualServices, destinationRules);
  allocateAddresses(context, registry);

  const clusters = buildClusters(context, registry, destinationRules, virtualServices);
  const identities = new Identities(context, input, options.identity);
  const authorization = new Authorization(context, input.authorizationPolicies, clusters, identities);
  const guard = (route: JsonObject) => authorization.guard(route);
  const routes = { context, registry, destinationRules };
  const { listeners, intercepts } = buildListeners(routes, registry, virtualServices, guard);
  virtualServices.explainUnused(registry.all());
  destinationRules.explainUnused(registry.all());
  authorization.explainUnused();

  return {
    listeners,
    routeConfigs: [],
    clusters: [...clusters.values()].map((cluster) => cluster.json),
    endpoints: [],
    bootstrap: BOOTSTRAP,
    intercepts,
    hosts: hostEntries(context, registry),
    identities: identities.known(),
    rules: sourceRules(context, all),
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
  for (const { kind, namespace } of documents) {
    if (CLIENT_KINDS.has(kind)) count.set(namespace, (count.get(namespace) ?? 0) + 1);
  }
  if (count.size === 0 || count.has('default')) return 'default';
  return [...count].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0]?.[0] ?? 'default';
}

const CLIENT_KINDS = new Set(['Service', 'VirtualService', 'DestinationRule', 'ServiceEntry']);

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
