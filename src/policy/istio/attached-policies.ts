/**
 * Policies of other control planes (Envoy Gateway's SecurityPolicy, kgateway's TrafficPolicy ...): nothing of them is carried
 * out, so what they are attached to (`targetRef`, `targetRefs`, `targetSelectors`: GEP-713) is left to the proxy, and the others are named.
 */
import type { Document } from '../documents.js';
import type { Json, JsonObject } from '../resources.js';
import type { Context } from './context.js';
import { labelsMatch } from './registry.js';

/** API groups whose documents are about requests, and of which none is translated; also with a prefix (`policy.linkerd.io`). */
const GROUPS = [
  ...['cilium.io', 'consul.hashicorp.com', 'envoyproxy.io', 'gloo.solo.io', 'kgateway.dev', 'konghq.com', 'kuma.io'],
  ...['linkerd.io', 'projectcontour.io', 'smi-spec.io', 'solo.io', 'traefik.io', 'x-k8s.io', 'getambassador.io'],
  ...['networking.gke.io', 'gateway.nginx.org'],
];
/** Groups of the above's makers that are about clusters and machines. */
const OTHERS = /(^|\.)(cluster|kind|metrics|addons|bootstrap|controlplane|infrastructure|sigs)\.x-k8s\.io$/;
/** Of experimental kinds of the Gateway API: those that say nothing of requests. */
const SILENT = new Set(['XMesh', 'GatewayParameters', 'EnvoyProxy']);

export interface Target {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
}

const object = (value: Json | undefined): JsonObject | undefined =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? value : undefined;
const objects = (value: Json | undefined): JsonObject[] =>
  (Array.isArray(value) ? value : [value]).map((item) => object(item)).filter((item) => item !== undefined);
const text = (value: Json | undefined): string => (typeof value === 'string' ? value : '');
const labelsOf = (value: Json | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(object(value) ?? {}).map(([key, label]) => [key, String(label)]));

const groupOf = ({ apiVersion }: Document): string =>
  apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';

/**
 * Whether a document of a group that is not Istio's, the Gateway API's or Kubernetes' own is a policy.
 * @returns what it is attached to by name; undefined if it is no policy
 */
function targets(document: Document): Target[] | undefined {
  const spec = object(document.json.spec);
  const refs = [...objects(spec?.targetRef), ...objects(spec?.targetRefs)]
    .filter((ref) => ref.kind !== undefined && ref.name !== undefined)
    .map((ref) => ({
      ...{ kind: text(ref.kind), name: text(ref.name) },
      namespace: text(ref.namespace) || document.namespace,
    }));
  const group = groupOf(document);
  const known = GROUPS.some((own) => group === own || group.endsWith(`.${own}`)) && !OTHERS.test(group);
  if (refs.length === 0 && !known) return undefined;
  return SILENT.has(document.kind) ? undefined : refs;
}

/** The policies among documents of foreign groups, each with what it is attached to. */
export class AttachedPolicies {
  readonly #found: { readonly document: Document; readonly refs: readonly Target[] }[] = [];

  constructor(
    readonly context: Context,
    documents: readonly Document[],
  ) {
    for (const document of documents) {
      const refs = targets(document);
      if (refs) this.#found.push({ document, refs });
    }
  }

  /**
   * Leaves to the proxy what they are attached to, and warns of each.
   * @param select objects that a target which is no route stands for
   * @param leave marks objects as the proxy's
   */
  apply(
    select: (document: Document, target: Target) => Iterable<object>,
    leave: (document: Document, objects: Iterable<object>, message: string) => void,
  ): void {
    const { rules } = this.context;
    for (const { document, refs } of this.#found) {
      const what = `${document.kind} (${groupOf(document)})`;
      this.context.warn(
        document,
        ['kind'],
        'not-translated',
        `${what} is not translated: nothing of it is carried out`,
      );
      const selectors = objects(object(document.json.spec)?.targetSelectors);
      const routes = rules.filter(({ document: { kind, name, namespace, json } }) => {
        if (!/^(HTTP|GRPC|TCP|TLS)Route$|^VirtualService$/.test(kind)) return false;
        if (refs.some((ref) => ref.kind === kind && ref.name === name && ref.namespace === namespace)) return true;
        const labels = labelsOf(object(json.metadata)?.labels);
        return selectors.some(
          (s) => s.kind === kind && namespace === document.namespace && labelsMatch(labelsOf(s.matchLabels), labels),
        );
      });
      const attached = new Set<object>(routes.flatMap((rule) => rule.objects));
      for (const target of refs) for (const one of select(document, target)) attached.add(one);
      if (attached.size > 0)
        leave(document, attached, `${what} ${document.name} is attached to it, and not carried out`);
    }
  }
}
