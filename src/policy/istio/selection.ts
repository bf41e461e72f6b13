/** Which servers and gateways the policies of Istio are about that select them, or that are attached to them. */
import type { Document } from '../documents.js';
import type { ClusterInfo } from './clusters.js';
import type { Context, RuleBuilder } from './context.js';
import { LABELS_HINT, labelsAreKnown, mayRun, selectsGateway, tellUsual } from './gateway-labels.js';
import type { GatewayWorkload } from './gateways.js';
import { entryServices, labelsMatch, type Service } from './registry.js';
import type { AuthorizationPolicy } from './schema/authorization-policy.js';

/** A policy that selects servers. */
export interface Selecting {
  readonly document: Document;
  readonly spec: { readonly selector?: AuthorizationPolicy['selector'] };
  /** one for each of its rules, or one for the whole */
  readonly rules: readonly RuleBuilder[];
  /** what it is attached to instead */
  readonly targets?: readonly { readonly kind: string; readonly name: string }[];
}

type Labels = Readonly<Record<string, string>>;
/** `maybe`: its labels are not all known */
export type Answer = 'yes' | 'no' | 'maybe';

export class Selection {
  constructor(
    private readonly context: Context,
    private readonly gateways: readonly GatewayWorkload[],
  ) {}

  /** Whether a policy counts for a server of a service, which it may be attached to. */
  counts(policy: Selecting, service: Service, labels: Labels, known: boolean): Answer {
    // no sidecar runs at a server outside the mesh
    if (!policy.targets) return service.external ? 'no' : this.#selects(policy, service.namespace, labels, known);
    const { namespace } = policy.document;
    const host = (name: string) => `${name}.${namespace}.svc.${this.context.domain}`;
    const meant = policy.targets.some(
      ({ kind, name }) =>
        (kind === 'Service' && host(name) === service.host) ||
        (kind === 'ServiceEntry' && entryServices([service], namespace, name).length > 0),
    );
    return meant ? 'yes' : 'no';
  }

  #selects(policy: Selecting, namespace: string, labels: Labels, known: boolean): Answer {
    const { document, spec } = policy;
    if (document.namespace !== this.context.rootNamespace && document.namespace !== namespace) return 'no';
    const wanted = spec.selector?.matchLabels ?? {};
    if (labelsMatch(wanted, labels)) return 'yes';
    const contradicted = Object.entries(wanted).some(
      ([key, value]) => labels[key] !== undefined && labels[key] !== value,
    );
    // A selector that is a gateway's is about that, and not about servers of which little is known.
    return known || contradicted || this.#meansGateway(wanted) ? 'no' : 'maybe';
  }

  #meansGateway(wanted: Labels): boolean {
    const { length } = Object.keys(wanted);
    return length > 0 && this.gateways.some((workload) => selectsGateway(wanted, workload));
  }

  /** Whether the policy counts for each of the cluster's servers (for the cluster as such, if it has none). */
  answers(policy: Selecting, cluster: ClusterInfo): Answer[] {
    const { service, endpoints } = cluster;
    const assumed = service.assumed && !labelsMatch(policy.spec.selector?.matchLabels ?? {}, service.selector);
    const answers = endpoints.map((e) => this.counts(policy, service, e.labels, e.labelsKnown));
    if (answers.length === 0) {
      answers.push(this.counts(policy, service, { ...service.selector, ...cluster.labels }, false));
    }
    return answers.map((answer) => (answer === 'maybe' && assumed ? 'no' : answer));
  }

  /** Says that it is not certain, or not the same for all servers, whether a policy counts. */
  explain(policy: Selecting, cluster: ClusterInfo, answers: readonly Answer[]): void {
    const path = ['spec', 'selector'];
    const [first] = answers;
    let code = 'partial-selection';
    let message = `it selects only some of the servers of ${cluster.name}, but is enforced for all of them`;
    let hint = 'use subsets, so that each destination is all or nothing';
    if (answers.includes('maybe')) {
      code = 'unknown-labels';
      message = `it may select servers of ${cluster.service.host}: it is enforced there`;
      hint = "give the pods' labels: a Pod document, labels on the EndpointSlice or its sidestep.dev/labels annotation";
    } else if (answers.every((answer) => answer === first)) return;
    this.context.warn(policy.document, path, code, message, hint);
    for (const rule of policy.rules) this.context.unsupported(rule, path, code, message);
  }

  /** Whether a policy counts for a gateway; where that is not certain, it does, and says so. */
  protects(policy: Selecting, workload: GatewayWorkload): boolean {
    const { document, spec, targets } = policy;
    const { namespace, gatewayApi } = workload;
    if (targets) {
      return targets.some((t) => t.kind === 'Gateway' && `${document.namespace}/${t.name}` === gatewayApi);
    }
    const wanted = spec.selector?.matchLabels ?? {};
    const everywhere = document.namespace === this.context.rootNamespace;
    const { length } = Object.keys(wanted);
    const selected = selectsGateway(wanted, workload);
    if (workload.assumed) return length === 0 ? everywhere : selected !== undefined;
    if (!everywhere && namespace !== undefined && document.namespace !== namespace) return false;
    if (selected === 'usual') tellUsual(this.context, document, 'selector', workload);
    if (selected) return true;
    if (labelsAreKnown(workload)) return false;
    if (this.#meansGateway(wanted) || !mayRun(wanted, workload.labels)) return false;
    const path = ['spec', 'selector'];
    const message = `it may select the servers of gateway ${workload.key}: it is enforced there`;
    this.context.warn(document, path, 'unknown-labels', message, LABELS_HINT);
    for (const rule of policy.rules) this.context.unsupported(rule, path, 'unknown-labels', message);
    return true;
  }
}
