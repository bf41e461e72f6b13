/** Which DestinationRule counts for a service, and what it says for one port and subset. */
import type { Document } from '../documents.js';
import type { Context, Path, RuleBuilder } from './context.js';
import { hostMatches, mostSpecific, resolveHost } from './hosts.js';
import { exportTo, type Typed, visible } from './kubernetes-services.js';
import { labelsMatch, type Service } from './registry.js';
import type { ConsistentHash, DestinationRule, TrafficPolicy } from './schema/destination-rule.js';

type Fields = Pick<
  TrafficPolicy,
  'loadBalancer' | 'connectionPool' | 'outlierDetection' | 'tls' | 'proxyProtocol' | 'retryBudget'
>;

/** One block of settings as written, with the source rule that it is. */
interface Block {
  readonly fields: Fields;
  readonly rule: RuleBuilder;
  readonly path: Path;
}

/** What only whole rules and subsets say: ports' settings neither have nor replace it. */
const WHOLE_NAMES = ['proxyProtocol', 'retryBudget'] as const;

interface PolicyBlocks {
  readonly whole?: Block;
  readonly tunnel?: TrafficPolicy['tunnel'];
  readonly document: Document;
  readonly path: Path;
  readonly byPort: ReadonlyMap<number, Block>;
}

export interface Subset {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly policy?: PolicyBlocks;
  readonly document: Document;
  readonly path: Path;
}

interface Merged {
  readonly host: string;
  readonly namespace: string;
  readonly exportTo: readonly string[];
  policy?: PolicyBlocks;
  readonly subsets: Map<string, Subset>;
}

/** What counts for one cluster, field by field, and the rules that said it. */
export interface EffectivePolicy extends Fields {
  readonly blocks: readonly Block[];
}

const NAMES = ['loadBalancer', 'connectionPool', 'outlierDetection', 'tls'] as const;

function blocks(context: Context, document: Document, policy: TrafficPolicy, path: Path, name: string): PolicyBlocks {
  const byPort = new Map<number, Block>();
  // A block that only holds settings of ports is no rule by itself: those are.
  const own = Object.keys(policy).some((key) => key !== 'portLevelSettings') || !policy.portLevelSettings?.length;
  const whole = own ? { fields: policy, rule: context.rule(document, path, name), path } : undefined;
  if (whole && policy.tunnel !== undefined)
    context.unsupported(whole.rule, [...path, 'tunnel'], 'traffic-policy', 'connections go through a tunnel');
  policy.portLevelSettings?.forEach((settings, index) => {
    const number = settings.port?.number;
    const where = [...path, 'portLevelSettings', index];
    const rule = context.rule(document, where, `${name}.portLevelSettings[${index}]`);
    if (number !== undefined && !byPort.has(number)) byPort.set(number, { fields: settings, rule, path: where });
  });
  return { ...(whole ? { whole } : {}), ...(policy.tunnel && { tunnel: policy.tunnel }), byPort, document, path };
}

function combine(base: EffectivePolicy, block: Block | undefined, replace: boolean): EffectivePolicy {
  if (!block) return base;
  const fields: Record<string, unknown> = {};
  for (const name of NAMES) fields[name] = block.fields[name] ?? (replace ? undefined : base[name]);
  const overridden = NAMES.every((name) => fields[name] !== base[name] || base[name] === undefined);
  return { ...(fields as Fields), blocks: [...(replace || overridden ? [] : base.blocks), block] };
}

const NOTHING: EffectivePolicy = { blocks: [] };

/** All DestinationRules of the input. */
export class DestinationRules {
  readonly #byNamespace = new Map<string, Map<string, Merged>>();
  readonly #context: Context;
  /** lookups so far; all rules are there before the first one */
  readonly #found = new Map<string, Merged | undefined>();

  constructor(context: Context, documents: readonly Typed<DestinationRule>[]) {
    this.#context = context;
    for (const { document, spec } of documents) this.#add(document, spec);
  }

  #add(document: Document, spec: DestinationRule): void {
    const context = this.#context;
    const host = resolveHost(spec.host.toLowerCase(), document.namespace, context.domain);
    const policy = spec.trafficPolicy
      ? blocks(context, document, spec.trafficPolicy, ['spec', 'trafficPolicy'], 'trafficPolicy')
      : undefined;
    const subsets = (spec.subsets ?? []).map((subset, index): Subset => {
      const path = ['spec', 'subsets', index];
      const own = subset.trafficPolicy
        ? blocks(context, document, subset.trafficPolicy, [...path, 'trafficPolicy'], `subsets[${index}].trafficPolicy`)
        : undefined;
      return { name: subset.name, labels: subset.labels ?? {}, ...(own ? { policy: own } : {}), document, path };
    });
    const workload = spec.workloadSelector?.matchLabels;
    const { namespace } = document;
    // it selects among the clients of its own namespace
    if (workload && !(namespace === context.namespace && labelsMatch(workload, context.labels))) {
      for (const block of [policy, ...subsets.map((s) => s.policy)].flatMap((p) => [
        p?.whole,
        ...(p?.byPort.values() ?? []),
      ])) {
        if (!block) continue;
        const message = 'counts only for the clients that workloadSelector names, which this one is not';
        context.elsewhere(block.rule, ['spec', 'workloadSelector'], message, { namespace, labels: workload });
      }
      return;
    }
    let hosts = this.#byNamespace.get(document.namespace);
    if (!hosts) {
      hosts = new Map();
      this.#byNamespace.set(document.namespace, hosts);
    }
    let merged = hosts.get(host);
    if (!merged) {
      merged = {
        host,
        namespace: document.namespace,
        exportTo: exportTo(spec.exportTo, document.namespace),
        subsets: new Map(),
      };
      hosts.set(host, merged);
    }
    // Rules for one host are merged: the first trafficPolicy and the first subset of a name count.
    if (policy && merged.policy) {
      context.warn(
        document,
        ['spec', 'trafficPolicy'],
        'duplicate-policy',
        `another rule already sets the policy of ${host}`,
      );
    } else if (policy) merged.policy = policy;
    for (const subset of subsets) {
      if (merged.subsets.has(subset.name)) {
        context.warn(
          document,
          [...subset.path, 'name'],
          'duplicate-subset',
          `subset "${subset.name}" of ${host} is already defined`,
        );
      } else merged.subsets.set(subset.name, subset);
    }
  }

  /** Hosts that rules are about, with the rule's namespace. */
  *hosts(): Iterable<{ host: string; subsets: readonly Subset[]; policy?: PolicyBlocks }> {
    for (const merged of [...this.#byNamespace.values()].flatMap((hosts) => [...hosts.values()])) {
      yield {
        host: merged.host,
        subsets: [...merged.subsets.values()],
        ...(merged.policy ? { policy: merged.policy } : {}),
      };
    }
  }

  /** Gives reasons to blocks that no cluster uses. */
  explainUnused(services: readonly Service[]): void {
    for (const merged of [...this.#byNamespace.values()].flatMap((hosts) => [...hosts.values()])) {
      const covered = services.some((service) => hostMatches(merged.host, service.host));
      const policies = [merged.policy, ...[...merged.subsets.values()].map((subset) => subset.policy)];
      for (const block of policies.flatMap((p) => [p?.whole, ...(p?.byPort.values() ?? [])])) {
        if (!block || block.rule.objects.length > 0 || block.rule.unsupported.length > 0) continue;
        if (!covered) {
          this.#context.unsupported(block.rule, block.path, 'no-service', 'no service has this host');
          continue;
        }
        const message = 'decides nothing: another DestinationRule, or the settings of ports or subsets, count instead';
        this.#context.warn(block.rule.document, block.path, 'superseded', message);
      }
    }
  }

  /** Looked up in the client's namespace, then the service's, then the root namespace. */
  #find(host: string, namespace: string): Merged | undefined {
    const key = `${namespace}/${host}`;
    if (!this.#found.has(key)) this.#found.set(key, this.#search(host, namespace));
    return this.#found.get(key);
  }

  #search(host: string, namespace: string): Merged | undefined {
    const { namespace: client, rootNamespace } = this.#context;
    for (const place of new Set([client, namespace, rootNamespace])) {
      const rules = this.#byNamespace.get(place);
      if (!rules) continue;
      const seen = [...rules.values()]
        .filter((r) => place === client || visible(r.exportTo, client))
        .map((r) => r.host);
      const best = mostSpecific(seen, host);
      if (best !== undefined) return rules.get(best);
    }
    return undefined;
  }

  /** Subsets of a service, by name. */
  subsets(host: string, namespace: string): ReadonlyMap<string, Subset> {
    return this.#find(host, namespace)?.subsets ?? new Map();
  }

  /**
   * The settings of a cluster. A port's settings replace those of its level as a whole; a subset's replace the
   * service's field by field.
   *
   * @param port service port; undefined leaves port settings out
   * @param subset name of the subset, `''` for the whole service
   */
  effective(host: string, namespace: string, port: number | undefined, subset: string): EffectivePolicy {
    const merged = this.#find(host, namespace);
    if (!merged) return NOTHING;
    const forPort = (blocks: PolicyBlocks | undefined) => (port === undefined ? undefined : blocks?.byPort.get(port));
    let policy = combine(NOTHING, merged.policy?.whole, false);
    policy = combine(policy, forPort(merged.policy), true);
    const own = merged.subsets.get(subset)?.policy;
    policy = combine(policy, own?.whole, false);
    policy = combine(policy, forPort(own), true);
    for (const name of WHOLE_NAMES) {
      const [said] = [own, merged.policy]
        .filter((blocks) => !forPort(blocks))
        .flatMap((blocks) => (blocks?.whole?.fields[name] ? [blocks.whole] : []));
      if (!said) continue;
      const blocks = policy.blocks.includes(said) ? policy.blocks : [...policy.blocks, said];
      policy = { ...policy, [name]: said.fields[name], blocks };
    }
    return policy;
  }

  /** The tunnel through which connections to a host lead: a subset's own, or that of the whole service. */
  tunnel(host: string, namespace: string, subset: string): TrafficPolicy['tunnel'] {
    const merged = this.#find(host, namespace);
    return (subset ? merged?.subsets.get(subset)?.policy : merged?.policy)?.tunnel;
  }

  /** The consistent hash that routes to a destination use. Port settings count only if the destination names its port. */
  hash(host: string, namespace: string, port: number | undefined, subset: string): ConsistentHash | undefined {
    const merged = this.#find(host, namespace);
    const of = (block: Block | undefined) => block?.fields.loadBalancer?.consistentHash;
    const own = merged?.subsets.get(subset)?.policy;
    const at = (policy: PolicyBlocks | undefined) => (port === undefined ? undefined : policy?.byPort.get(port));
    return of(at(own)) ?? of(own?.whole) ?? of(at(merged?.policy)) ?? of(merged?.policy?.whole);
  }
}
