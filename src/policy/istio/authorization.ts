/**
 * AuthorizationPolicies. Istio enforces them in the server's sidecar; here they are enforced on the way to it, for each
 * route by what its destination's policies say (RBACPerRoute). A route that changes what a policy looks at (path, host,
 * headers) would be judged by the wrong values, so its requests go through a copy of the cluster that judges them last.
 */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import { canSplit, partOf, splitAction } from './authorization-groups.js';
import { changes, guardedCluster } from './authorization-guard.js';
import type { ClusterInfo } from './clusters.js';
import type { Context } from './context.js';
import type { GatewayWorkload } from './gateways.js';
import type { Identities } from './identities.js';
import { documentAnnotations, type Typed } from './kubernetes-services.js';
import { RBAC_FILTERS } from './listeners.js';
import { neverPolicy, rbacPolicy, type Servers } from './rbac.js';
import {
  type AuthenticationPolicy,
  gatewayJwtFilter,
  JWT_FILTER,
  type RequestAuthentications,
} from './request-authentication.js';
import type { AuthorizationPolicy } from './schema/authorization-policy.js';
import { type Selecting, Selection } from './selection.js';
import { byAge } from './virtual-services.js';

interface Policy extends Selecting {
  readonly spec: AuthorizationPolicy;
  readonly action: 'ALLOW' | 'DENY';
}

/** What the policies of one cluster's servers ask for: filter name -> envoy.config.rbac.v3.RBAC. */
interface Judgement {
  readonly rbac: Readonly<Record<string, JsonObject>>;
  readonly perRoute: JsonObject;
  /** what is asked of tokens (PerRouteConfig of jwt_authn) */
  readonly tokens: JsonObject | undefined;
  readonly looksAt: ReadonlySet<string>;
}

/** Kinds of what a policy may be attached to. */
export const TARGET_KINDS: ReadonlySet<string> = new Set(['Service', 'ServiceEntry', 'Gateway']);

/** What a policy is attached to; nothing if it selects servers. */
export function policyTargets(
  spec: Pick<AuthorizationPolicy, 'targetRef' | 'targetRefs'>,
): { kind: string; name: string }[] {
  return [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];
}

export class Authorization {
  readonly #context: Context;
  readonly #policies: Policy[] = [];
  readonly #clusters: Map<string, ClusterInfo>;
  readonly #selection: Selection;
  readonly authentications: RequestAuthentications;
  readonly #judgements = new Map<string, Judgement | undefined>();
  readonly #split = new Map<string, readonly ClusterInfo[]>();
  readonly #shared = new Map<string, Judgement>();

  /** @param clusters all clusters by name; guarded copies are added to it */
  constructor(
    context: Context,
    documents: readonly Typed<AuthorizationPolicy>[],
    clusters: Map<string, ClusterInfo>,
    readonly around: {
      readonly identities: Identities;
      readonly authentications: RequestAuthentications;
      readonly gateways: readonly GatewayWorkload[];
      /** what MeshConfig says of providers, by name in lower case */
      readonly providers: ReadonlyMap<string, JsonObject>;
    },
  ) {
    this.#context = context;
    this.#selection = new Selection(context, around.gateways);
    this.authentications = around.authentications;
    this.#clusters = clusters;
    for (const { document, spec } of [...documents].sort(byAge)) this.#add(document, spec);
  }

  #add(document: Document, spec: AuthorizationPolicy): void {
    const context = this.#context;
    const rules = spec.rules?.length
      ? spec.rules.map((_, index) => context.rule(document, ['spec', 'rules', index], `rules[${index}]`))
      : [context.rule(document, ['spec'], 'spec')];
    const skip = (path: string[], code: string, message: string) => {
      for (const rule of rules) context.unsupported(rule, path, code, message);
    };
    const action = spec.action ?? 'ALLOW';
    if (action === 'DENY') {
      spec.rules?.forEach(({ from, to, when }, index) => {
        if (from?.length || to?.length || when?.length) return;
        context.warn(document, ['spec', 'rules', index], 'deny-all', 'it denies every request to what it selects');
      });
    }
    const targets = policyTargets(spec);
    const foreign = targets.find(({ kind }) => !TARGET_KINDS.has(kind));
    if (foreign) {
      const path = ['spec', spec.targetRef ? 'targetRef' : 'targetRefs'];
      skip(path, 'target-ref', `policies of a ${foreign.kind} are not translated`);
      return;
    }
    if (documentAnnotations(document)['istio.io/dry-run'] === 'true') {
      skip(['metadata', 'annotations', 'istio.io/dry-run'], 'dry-run', 'a dry run decides nothing');
      return;
    }
    if (action === 'AUDIT') {
      skip(['spec', 'action'], 'audit', 'auditing is not translated; it decides nothing');
      return;
    }
    if (action === 'CUSTOM') {
      const name = spec.provider?.name ?? '';
      const path = ['spec', 'provider'];
      if (this.around.providers.has(name.toLowerCase()))
        skip(path, 'custom-authorization', `${name} is not asked here: requests that match are denied`);
      else {
        const message = `provider "${name}" is not known: requests that match are denied, as Istio does then`;
        context.warn(document, path, 'unknown-provider', message);
      }
    }
    const attached = targets.length > 0 ? { targets } : {};
    this.#policies.push({ document, spec, ...attached, action: action === 'ALLOW' ? 'ALLOW' : 'DENY', rules });
  }

  /**
   * The policies that count for a cluster. Where they are not the same for all its servers, none may be let in by a
   * policy that is not its own: DENY policies of any of them count, ALLOW policies only if they are those of all
   * servers that have any.
   *
   * @returns `closed` if there are ALLOW policies, but none that all of them share
   */
  #select(cluster: ClusterInfo): { policies: Policy[]; closed: boolean } {
    const all = this.#policies.map((policy) => ({ policy, answers: this.#selection.answers(policy, cluster) }));
    const relevant = all.filter(({ answers }) => answers.some((answer) => answer !== 'no'));
    for (const { policy, answers } of relevant) this.#selection.explain(policy, cluster, answers);
    const allow = relevant.filter(({ policy }) => policy.action === 'ALLOW');
    const servers = allow[0]?.answers.map((_, index) => {
      const sure = allow.filter(({ answers }) => answers[index] === 'yes');
      return sure.length > 0 ? sure : allow.filter(({ answers }) => answers[index] === 'maybe');
    });
    const restricted = servers?.filter((policies) => policies.length > 0) ?? [];
    const common = allow.filter((policy) => restricted.every((policies) => policies.includes(policy)));
    const policies = relevant.filter((entry) => entry.policy.action === 'DENY' || common.includes(entry));
    return { policies: policies.map(({ policy }) => policy), closed: restricted.length > 0 && common.length === 0 };
  }

  /** The parts of a cluster whose servers have different policies, if it is to be split. */
  #parts(name: string): readonly ClusterInfo[] | undefined {
    const known = this.#split.get(name);
    if (known) return known.length > 0 ? known : undefined;
    const cluster = this.#clusters.get(name);
    const groups = new Map<string, number[]>();
    if (cluster && !cluster.service.external && canSplit(cluster)) {
      const { service } = cluster;
      for (const [index, endpoint] of cluster.endpoints.entries()) {
        const answers = [...this.#policies, ...this.authentications.policies].map((policy) =>
          this.#selection.counts(policy, service, endpoint.labels, endpoint.labelsKnown),
        );
        const key = answers.map((answer) => (answer === 'no' ? '-' : '+')).join('');
        groups.set(key, [...(groups.get(key) ?? []), index]);
      }
    }
    const parts: ClusterInfo[] = [];
    if (cluster && groups.size > 1) {
      for (const indexes of groups.values()) {
        const part = partOf(cluster, `${name};group-${parts.length + 1}`, indexes);
        this.#inherit(cluster, part.json);
        this.#clusters.set(part.name, part);
        parts.push(part);
      }
    }
    this.#split.set(name, parts);
    return parts.length > 0 ? parts : undefined;
  }

  #judge(cluster: ClusterInfo): Judgement | undefined {
    const { policies, closed } = this.#select(cluster);
    const authentications = this.#authentications(cluster);
    if (policies.length === 0 && authentications.length === 0 && !closed) return undefined;
    const { port, endpoints } = cluster;
    const target = typeof port.targetPort === 'number' ? port.targetPort : port.number;
    const ports = new Set(endpoints.map((e) => e.ports.get(port.number) ?? target));
    const servers: Servers = {
      ports: ports.size > 0 ? [...ports] : [target],
      addresses: endpoints.map((e) => e.address),
      servicePort: port.number,
    };
    // Clusters with the same policies and servers that look the same share one object.
    const key = JSON.stringify([
      closed,
      policies.map((p) => `${p.document.namespace}/${p.document.name}`),
      authentications.map((p) => `${p.document.namespace}/${p.document.name}`),
      servers.ports,
      policies.some((p) => p.targets) ? servers.servicePort : 0,
      this.#usesAddress(policies) ? servers.addresses : [],
    ]);
    let judgement = this.#shared.get(key);
    if (!judgement) {
      judgement = this.#build(policies, authentications, servers, closed);
      this.#shared.set(key, judgement);
    }
    return judgement;
  }

  /** The RequestAuthentications of the cluster's servers: those of any of them, since a bad token must not come through. */
  #authentications(cluster: ClusterInfo): AuthenticationPolicy[] {
    return this.authentications.policies.filter((policy) => {
      const answers = this.#selection.answers(policy, cluster);
      if (answers.every((answer) => answer === 'no')) return false;
      this.#selection.explain(policy, cluster, answers);
      return true;
    });
  }

  /** Whether a policy counts, or may count, for servers of a cluster: it would judge their connections, too. */
  protectsServers(name: string): boolean {
    const cluster = this.#clusters.get(name);
    if (!cluster) return false;
    return this.#policies.some((policy) => this.#selection.answers(policy, cluster).some((answer) => answer !== 'no'));
  }

  /** The same for a gateway. */
  protectsGateway(workload: GatewayWorkload): boolean {
    return this.#policies.some((policy) => this.#selection.protects(policy, workload));
  }

  #usesAddress(policies: readonly Policy[]): boolean {
    return policies.some((p) => p.spec.rules?.some((rule) => rule.when?.some((when) => when.key === 'destination.ip')));
  }

  #build(
    policies: readonly Policy[],
    authentications: readonly AuthenticationPolicy[],
    servers: Servers,
    closed: boolean,
  ): Judgement {
    const context = this.#context;
    const looksAt = new Set<string>();
    const tokens = this.authentications.perRoute(authentications);
    const authenticated = tokens !== undefined;
    const rbac: Record<string, JsonObject> = {};
    for (const action of ['DENY', 'ALLOW'] as const) {
      const own = policies.filter((policy) => policy.action === action);
      const nobody = action === 'ALLOW' && closed;
      if (own.length === 0 && !nobody) continue;
      const translated: JsonObject = nobody ? { 'no-policy-of-all-servers': neverPolicy() } : {};
      for (const { document, spec, rules, targets } of own) {
        // A waypoint or gateway sees the port that clients mean.
        const seen = targets ? { ...servers, ports: [servers.servicePort] } : servers;
        const add = (index: number, json: JsonObject) => {
          translated[`ns[${document.namespace}]-policy[${document.name}]-rule[${index}]`] = json;
          rules[index]?.objects.push(json);
        };
        spec.rules?.forEach((rule, index) => {
          const builder = rules[index];
          if (!builder) return;
          const { identities } = this.around;
          const input = {
            context,
            document,
            rule: builder,
            deny: action === 'DENY',
            servers: seen,
            identities,
            authenticated,
            looksAt,
          };
          add(index, rbacPolicy(input, rule, ['spec', 'rules', index]));
        });
        if (!spec.rules?.length) add(0, context.origin(neverPolicy(), document, ['spec']));
      }
      rbac[action === 'DENY' ? RBAC_FILTERS.deny : RBAC_FILTERS.allow] = { rules: { action, policies: translated } };
    }
    const perRoute: JsonObject = tokens ? { [JWT_FILTER]: tokens } : {};
    for (const [name, config] of Object.entries(rbac)) {
      perRoute[name] = {
        '@type': 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute',
        rbac: config,
      };
    }
    return { rbac, perRoute, tokens, looksAt };
  }

  #of(name: unknown): Judgement | undefined {
    const cluster = this.#clusters.get(String(name));
    if (!cluster) return undefined;
    if (!this.#judgements.has(cluster.name)) this.#judgements.set(cluster.name, this.#judge(cluster));
    return this.#judgements.get(cluster.name);
  }

  /** Name of the copy of a cluster that judges requests after the route's changes. */
  #guarded(name: string, judgement: Judgement): string {
    const copy = `${name};authz`;
    const cluster = this.#clusters.get(name);
    if (!cluster || this.#clusters.has(copy)) return copy;
    const json = guardedCluster(cluster.json, copy, judgement.rbac);
    this.#inherit(cluster, json);
    this.#clusters.set(copy, { ...cluster, name: copy, json });
    return copy;
  }

  /** A cluster made of another one comes from the same place, and carries out the same traffic policies. */
  #inherit(cluster: ClusterInfo, json: JsonObject): void {
    const position = this.#context.provenance.get(cluster.json);
    if (position) this.#context.provenance.set(json, position);
    for (const rule of cluster.rules) rule.objects.push(json);
  }

  /** Adds to a route what the policies of its destinations ask for. */
  guard(route: JsonObject): void {
    const action = route.route as JsonObject | undefined;
    if (!action) return;
    for (const mirror of (action.request_mirror_policies as JsonObject[] | undefined) ?? []) {
      const judgement = this.#of(mirror.cluster);
      if (judgement) mirror.cluster = this.#guarded(String(mirror.cluster), judgement);
    }
    splitAction(action, (name) => this.#parts(name));
    const weighted = (action.weighted_clusters as JsonObject | undefined)?.clusters as JsonObject[] | undefined;
    const attach = (holder: JsonObject, judgement: Judgement) => {
      holder.typed_per_filter_config = {
        ...(holder.typed_per_filter_config as JsonObject | undefined),
        ...judgement.perRoute,
      };
    };
    const attachTokens = (holder: JsonObject, { tokens }: Judgement) => {
      if (!tokens) return;
      const own = holder.typed_per_filter_config as JsonObject | undefined;
      holder.typed_per_filter_config = { ...own, [JWT_FILTER]: tokens };
    };
    if (!weighted) {
      const judgement = this.#of(action.cluster);
      if (!judgement) return;
      if (changes(route, action, undefined, judgement.looksAt)) {
        action.cluster = this.#guarded(String(action.cluster), judgement);
        attachTokens(route, judgement);
      } else attach(route, judgement);
      return;
    }
    const judgements = weighted.map((cluster) => this.#of(cluster.name));
    const changed = weighted.map((cluster, index) =>
      changes(route, action, cluster, judgements[index]?.looksAt ?? new Set()),
    );
    const [first] = judgements;
    if (first && !changed.includes(true) && judgements.every((judgement) => judgement === first)) {
      attach(route, first);
      return;
    }
    for (const [index, cluster] of weighted.entries()) {
      const judgement = judgements[index];
      if (!judgement) continue;
      if (changed[index]) {
        cluster.name = this.#guarded(String(cluster.name), judgement);
        attachTokens(cluster, judgement);
      } else attach(cluster, judgement);
    }
  }

  /**
   * The filters of a gateway's listener: what the policies for its workload ask of every request.
   *
   * @param port the port that the workload opens
   */
  gatewayFilters(workload: GatewayWorkload, port: number): JsonObject[] {
    const policies = this.#policies.filter((policy) => this.#selection.protects(policy, workload));
    const authentications = this.authentications.policies.filter((policy) =>
      this.#selection.protects(policy, workload),
    );
    if (policies.length === 0 && authentications.length === 0) return [];
    const servers = { ports: [port], addresses: [], servicePort: port, edge: true };
    const { rbac, tokens } = this.#build(policies, authentications, servers, false);
    const first = tokens ? [{ name: `${JWT_FILTER}.gateway`, typed_config: gatewayJwtFilter(tokens) }] : [];
    const filters = Object.entries(rbac).map(([name, config]) => ({
      name: name.replace('rbac', 'rbac.gateway'),
      typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC', ...config },
    }));
    return [...first, ...filters];
  }

  /** Gives reasons to rules that protect nothing here. */
  explainUnused(): void {
    for (const policy of this.#policies) {
      for (const rule of policy.rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        if (policy.targets) {
          const message = 'nothing that it is attached to has a plain HTTP listener on this node';
          this.#context.unsupported(rule, ['spec', 'targetRefs'], 'target-ref', message);
          continue;
        }
        this.#context.unsupported(
          rule,
          ['spec', 'selector'],
          'no-workload',
          'no service with HTTP ports has servers that it selects',
        );
      }
    }
  }
}
