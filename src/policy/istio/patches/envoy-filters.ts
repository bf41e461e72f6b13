/**
 * EnvoyFilters: their patches are applied to what is generated here as istiod applies them to what it generates
 * (pilot/pkg/networking/core/envoyfilter). What cannot be patched here (servers' own sidecars, listeners for other
 * connections than HTTP, values that Envoy refuses) is left as it is, and so is marked as the proxy's.
 */
import { LineCounter, parseDocument, type Document as YamlDocument } from 'yaml';
import type { Diagnostic } from '../../diagnostics.js';
import { Converter } from '../../envoy/convert.js';
import { envoyMessage } from '../../envoy/descriptors.js';
import { mergeAny, mergeMessage } from '../../envoy/merge-message.js';
import { type JsonObject, Provenance } from '../../resources.js';
import type { ClusterInfo } from '../clusters.js';
import type { Context, RuleBuilder } from '../context.js';
import { workloadPort } from '../gateways.js';
import { metadata, type Typed } from '../kubernetes-services.js';
import type { KnownListener, Selection } from '../left-to-proxy.js';
import { ANY_HOST } from '../listeners.js';
import type { EnvoyFilter } from '../schema/extensions.js';
import { type Effect, patchHttpFilters } from './filters.js';
import { clusterMatches, listenerMatches, MANAGER, managerMatches, type Place, proxyMatches } from './match.js';
import { type Patch, readPatch, replacesLists, TARGETS } from './patch.js';
import { patchRouteConfig } from './routes.js';

/** What an EnvoyFilter is about. */
export interface Selected {
  /** the clients' own listeners count */
  readonly clients: boolean;
  /** listeners of gateways that may be meant, and whether they surely are */
  readonly gateways: ReadonlyMap<KnownListener, boolean>;
}

/** An EnvoyFilter with what it selects. */
interface Filter {
  readonly patches: readonly Patch[];
  readonly selected: Selected;
}

export interface PatchInput {
  readonly context: Context;
  readonly listeners: readonly KnownListener[];
  readonly clusters: readonly ClusterInfo[];
  /** clusters that patches add go here */
  readonly added: JsonObject[];
  readonly select: (selection: Selection) => Selected;
  /** marks objects as the proxy's, and the rule as not carried out */
  readonly leave: (patch: Patch, objects: readonly object[], why: string) => void;
}

/** Lower priorities first, then the root namespace's, then by age and name, as istiod orders them. */
function inOrder(context: Context, documents: readonly Typed<EnvoyFilter>[]): Typed<EnvoyFilter>[] {
  const key = ({ document, spec }: Typed<EnvoyFilter>) => {
    const created = metadata(document).creationTimestamp;
    return {
      priority: spec.priority ?? 0,
      root: document.namespace === context.rootNamespace ? 0 : 1,
      created: typeof created === 'string' ? created : '',
      name: `${document.name}.${document.namespace}`,
    };
  };
  const order = <T>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0);
  return [...documents].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return (
      order(x.priority, y.priority) || order(x.root, y.root) || order(x.created, y.created) || order(x.name, y.name)
    );
  });
}

/** What Envoy would say of a message; undefined if nothing. */
function complaint(type: string, json: JsonObject): string | undefined {
  const lineCounter = new LineCounter();
  const doc = parseDocument(JSON.stringify(json), { lineCounter }) as YamlDocument.Parsed;
  const found: Diagnostic[] = [];
  const source = { file: '', doc, lineCounter, syntax: 'json' as const };
  new Converter(source, new Provenance(), found).message(envoyMessage(type), doc.contents, '');
  const wrong = found.find(({ severity }) => severity === 'error');
  return wrong && `${wrong.field ?? ''}: ${wrong.message}`;
}

/** A patch counts for a context if it names it, or none. */
const isFor = ({ match }: Patch, context: string): boolean =>
  (match.context ?? 'ANY') === 'ANY' || match.context === context;

/** The only filter chain of a listener, and the only filter in it. */
function parts(listener: JsonObject): { chain: JsonObject; filter: JsonObject } {
  const chain = (listener.filter_chains as JsonObject[])[0] ?? {};
  return { chain, filter: (chain.filters as JsonObject[])[0] ?? {} };
}

/** The configuration of a listener's HTTP connection manager. */
export const managerOf = (listener: JsonObject): JsonObject =>
  (parts(listener).filter.typed_config ?? {}) as JsonObject;

/** The filter chain with another configuration of its HTTP connection manager. */
function withManager(listener: JsonObject, config: JsonObject): JsonObject {
  const { chain, filter } = parts(listener);
  return { ...chain, filters: [{ ...filter, typed_config: config }] };
}

export class EnvoyFilters {
  readonly #input: PatchInput;
  readonly #filters: Filter[];
  readonly #owners = new Map<object, RuleBuilder[]>();
  /** patches that did something, or that were left */
  readonly #met = new Set<Patch>();

  constructor(input: PatchInput, documents: readonly Typed<EnvoyFilter>[]) {
    this.#input = input;
    const { context } = input;
    this.#filters = inOrder(context, documents).map(({ document, spec }) => {
      const rule = context.rule(document, ['spec'], 'spec');
      const targets = [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];
      const selected = input.select({ document, labels: spec.workloadSelector?.labels ?? {}, targets });
      return { selected, patches: (spec.configPatches ?? []).map((entry, i) => readPatch(context, rule, i, entry)) };
    });
    for (const rule of context.rules)
      for (const object of rule.objects) this.#owners.set(object, [...(this.#owners.get(object) ?? []), rule]);
  }

  /** All patches, with whether they are about other proxies than are stood for. */
  *patches(): Iterable<Patch> {
    for (const { patches } of this.#filters) yield* patches;
  }

  #copied(copy: JsonObject, of: JsonObject): void {
    this.#input.context.provenance.derive(copy, of);
    const owners = this.#owners.get(of);
    if (!owners) return;
    this.#owners.set(copy, owners);
    for (const rule of owners) rule.objects.push(copy);
  }

  #leave(patch: Patch, objects: readonly object[], why: string): void {
    this.#met.add(patch);
    this.#input.leave(patch, objects, why);
  }

  /** Those of the patches that can be used; the others leave `objects` to the proxy. */
  #usable(patches: readonly Patch[], objects: readonly object[]): Patch[] {
    return patches.filter((patch) => {
      const answer = proxyMatches(patch);
      if (answer === 'no') return false;
      if (answer === 'yes' && patch.problem === undefined) return true;
      this.#leave(patch, objects, patch.problem ?? 'which proxies it is for is not known here');
      return false;
    });
  }

  /** Applies every patch to everything that it is about. */
  apply(): void {
    for (const listener of this.#input.listeners) this.#listener(listener);
    for (const cluster of this.#input.clusters) this.#cluster(cluster);
    this.#add();
  }

  #selecting(listener: KnownListener): Patch[] {
    const context = listener.workload ? 'GATEWAY' : 'SIDECAR_OUTBOUND';
    return this.#filters
      .filter(({ selected }) => (listener.workload ? selected.gateways.get(listener) === true : selected.clients))
      .flatMap(({ patches }) => patches.filter((patch) => isFor(patch, context)));
  }

  #listener(known: KnownListener): void {
    const { json, port, workload } = known;
    const [host, ...hosts] = (managerOf(json).route_config as JsonObject).virtual_hosts as JsonObject[];
    const alone = !workload && hosts.length === 0 && host?.name === ANY_HOST;
    const own = alone ? `${String(json.name).split('|').at(-1)}:${port}` : String(host?.name ?? '');
    const place: Place = {
      gateway: workload !== undefined,
      port: workload ? workloadPort(workload, port) : port,
      servicePort: port,
      ...(alone ? { table: own } : {}),
    };
    const about = this.#selecting(known).filter(({ applyTo }) => applyTo !== 'CLUSTER');
    for (const { selected, patches: all } of this.#filters) {
      if (selected.gateways.get(known) !== false) continue;
      for (const patch of all)
        if (isFor(patch, 'GATEWAY') && proxyMatches(patch) !== 'no')
          this.#leave(patch, [json], 'it is not certain that this gateway is meant');
    }
    const patches = this.#usable(
      about.filter((patch) => {
        if (/^(HTTP|NETWORK)_FILTER$/.test(patch.applyTo) && !managerMatches(patch)) return false;
        const answer = proxyMatches(patch) === 'no' ? 'no' : listenerMatches(patch, place);
        if (answer === 'maybe') this.#leave(patch, [json], 'the names of filter chains are not those of Istio here');
        return answer === 'yes';
      }),
      [json],
    );
    const of = (target: string) => patches.filter((patch) => patch.applyTo === target);
    for (const patch of [...of('LISTENER'), ...of('LISTENER_FILTER'), ...of('FILTER_CHAIN')]) {
      if (patch.applyTo === 'LISTENER' && patch.operation === 'ADD') continue;
      this.#leave(patch, [json], `listeners and their filter chains are not patched here`);
    }
    const effects: Effect[] = [];
    const manager = this.#manager(managerOf(json), of('NETWORK_FILTER'), json, effects);
    const chain = patchHttpFilters(manager.http_filters as JsonObject[], place.gateway, of('HTTP_FILTER'), (name) =>
      this.#isCluster(name),
    );
    // a filter is what it says, and what the listener says of its chain
    effects.push(...chain.effects.map((e) => ({ ...e, objects: e.left ? [json] : [...e.objects, json] })));
    const routes = patchRouteConfig(manager.route_config as JsonObject, {
      ...{ place, patches, provenance: this.#input.context.provenance },
      copied: (copy, from) => this.#copied(copy, from),
      // what counts for any host counts as the service's own
      nameOf: ({ name }) => (name === ANY_HOST ? own : String(name)),
    });
    effects.push(...routes.effects);
    if (effects.length === 0) return;
    const config = { ...manager, http_filters: chain.filters, route_config: routes.config };
    this.#input.context.provenance.derive(config, manager);
    const filterChains = [withManager(json, config)];
    const problem = complaint(TARGETS.LISTENER ?? '', { ...json, filter_chains: filterChains });
    if (problem === undefined) json.filter_chains = filterChains;
    for (const { patch, objects, left } of effects) {
      if (left !== undefined) this.#leave(patch, [json], left);
      else if (problem !== undefined) this.#leave(patch, [json], `Envoy refuses what becomes of it: ${problem}`);
      else this.#done(patch, objects);
    }
  }

  #done(patch: Patch, objects: readonly object[]): void {
    this.#met.add(patch);
    for (const object of objects) {
      if (!patch.rule.objects.includes(object)) patch.rule.objects.push(object);
    }
  }

  /** The HTTP connection manager after the patches of network filters. */
  #manager(manager: JsonObject, patches: readonly Patch[], listener: JsonObject, effects: Effect[]): JsonObject {
    let out = manager;
    for (const patch of patches) {
      const named = patch.match.listener?.filterChain?.filter !== undefined;
      if (!managerMatches(patch)) continue;
      if (!/^MERGE/.test(patch.operation)) {
        if (named || !/^(REMOVE|REPLACE)$/.test(patch.operation))
          effects.push({
            patch,
            objects: [],
            left: 'network filters beside the HTTP connection manager are not run here',
          });
        continue;
      }
      const config = patch.value.typed_config as JsonObject | undefined;
      const merged = config ? mergeAny(out, config) : undefined;
      if (config && ['route_config', 'rds', 'scoped_routes', 'http_filters'].some((key) => config[key] !== undefined)) {
        effects.push({ patch, objects: [], left: 'routes and filters are merged with the HTTP connection manager' });
        continue;
      }
      if (patch.value.name && patch.value.name !== MANAGER) {
        effects.push({ patch, objects: [], left: 'the HTTP connection manager gets another name' });
        continue;
      }
      if (!merged) continue;
      this.#input.context.provenance.derive(merged, out);
      for (const key of Object.keys(config ?? {}))
        this.#input.context.provenance.set(merged, patch.document.at([...patch.path, 'patch', 'value']), key);
      out = merged;
      effects.push({ patch, objects: [listener] });
    }
    return out;
  }

  #isCluster(name: string): boolean {
    const { clusters, added } = this.#input;
    const adds = (patch: Patch) =>
      patch.applyTo === 'CLUSTER' && patch.operation === 'ADD' && patch.value.name === name;
    return (
      clusters.some((c) => c.name === name) || added.some((c) => c.name === name) || [...this.patches()].some(adds)
    );
  }

  #cluster({ json, name, service, port, subset }: ClusterInfo): void {
    const { listeners } = this.#input;
    const base = { name, host: service.host, port: port.number, subset };
    // a cluster is one for all that forward to it: all of them must be patched alike
    const each = listeners.map((listener) => this.#selecting(listener));
    const all = new Set(each.flat());
    const about = [...all].filter(
      (patch) =>
        patch.applyTo === 'CLUSTER' &&
        patch.operation !== 'ADD' &&
        proxyMatches(patch) !== 'no' &&
        clusterMatches(patch, base),
    );
    if (about.length === 0) return;
    const before = { ...json };
    const done: Patch[] = [];
    for (const patch of this.#usable(about, [json])) {
      if (!each.every((patches) => patches.includes(patch)))
        this.#leave(patch, [json], 'only some of those that forward to the cluster are meant');
      else if (!/^MERGE/.test(patch.operation) || patch.value.transport_socket)
        this.#leave(patch, [json], 'clusters are only merged with, and not their transport');
      else {
        const merged = mergeMessage(
          envoyMessage(TARGETS.CLUSTER ?? ''),
          json,
          structuredClone(patch.value),
          replacesLists(patch),
        );
        for (const key of Object.keys(json)) delete json[key];
        Object.assign(json, merged);
        done.push(patch);
      }
    }
    const problem = done.length > 0 ? complaint(TARGETS.CLUSTER ?? '', json) : undefined;
    if (problem !== undefined) {
      for (const key of Object.keys(json)) delete json[key];
      Object.assign(json, before);
      for (const patch of done) this.#leave(patch, [json], `Envoy refuses what becomes of it: ${problem}`);
      return;
    }
    for (const patch of done) this.#done(patch, [json]);
  }

  /** Clusters that patches add for clients or gateways; where nobody is selected there is nothing to add. */
  #add(): void {
    const { listeners, clusters, added, context } = this.#input;
    for (const patch of new Set(listeners.flatMap((listener) => this.#selecting(listener)))) {
      if (patch.applyTo !== 'CLUSTER' || patch.operation !== 'ADD') continue;
      if (this.#usable([patch], []).length === 0) continue;
      const json = structuredClone(patch.value);
      const taken = clusters.some((c) => c.name === json.name) || added.some((c) => c.name === json.name);
      const problem = taken ? 'there is a cluster of this name' : complaint(TARGETS.CLUSTER ?? '', json);
      if (problem !== undefined) {
        this.#leave(patch, [], problem);
        continue;
      }
      added.push(context.origin(json, patch.document, [...patch.path, 'patch', 'value']));
      this.#done(patch, [json]);
    }
  }

  /** Whether a patch did something here, or was left. */
  met(patch: Patch): boolean {
    return this.#met.has(patch);
  }
}
