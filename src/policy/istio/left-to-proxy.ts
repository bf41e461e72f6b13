/**
 * EnvoyFilter, WasmPlugin and Telemetry change what Istio's proxies do in ways of which only some patches of EnvoyFilters,
 * and logs, are translated. What the others are about is marked, so that no kernel decides it: the listeners of the clients they select, the clusters whose servers
 * they select (a server's sidecar would act there), and the listeners of gateways.
 */
import type { Document } from '../documents.js';
import { asObject } from '../envoy/walk.js';
import type { Clients, JsonObject, LeftReason } from '../resources.js';
import type { AttachedPolicies } from './attached-policies.js';
import type { ClusterInfo } from './clusters.js';
import { type Context, fieldPath, type Path, type RuleBuilder } from './context.js';
import { isGatewaySelector, mayMean, selectsGateway, tellUsual } from './gateway-labels.js';
import type { GatewayWorkload } from './gateways.js';
import type { Typed } from './kubernetes-services.js';
import { absentAtServers, extensionsAreUsed, type FilterSources, neededFilter } from './patches/absent.js';
import { EnvoyFilters } from './patches/envoy-filters.js';
import { MANAGER, proxyMatches } from './patches/match.js';
import { ISTIO_VERSION, type Patch } from './patches/patch.js';
import { isHttp, labelsMatch } from './registry.js';
import type { EnvoyFilter, Telemetry, WasmPlugin } from './schema/extensions.js';
import { type Telemetered, Telemetries } from './telemetry.js';

type Labels = Readonly<Record<string, string>>;

/** A listener with the port that clients connect to; that of a gateway with its workload. */
export interface KnownListener {
  readonly json: JsonObject;
  readonly port: number;
  readonly workload?: GatewayWorkload;
  /** it is about connections */
  readonly connections?: true;
  /** stands before servers, for everybody */
  readonly inbound?: boolean;
}

export interface Selection {
  readonly document: Document;
  readonly labels: Labels;
  readonly targets: readonly { readonly kind: string; readonly name: string }[];
}

/** What becomes of a patch that is not simply done. */
type Fate =
  | { readonly nothing: string }
  | { readonly left: string; readonly objects?: readonly object[] }
  | { readonly clients: Clients };

interface TargetRefs {
  readonly targetRef?: { kind: string; name: string } | undefined;
  readonly targetRefs?: { kind: string; name: string }[] | undefined;
}

/** Whether a patch is about nothing but how names of headers are spelled: servers get them as they were sent. */
function spellsOnly({ applyTo, operation, value }: Patch): boolean {
  const config = asObject(value.typed_config) ?? {};
  const inner = asObject(config.http_protocol_options) ?? {};
  const only = (of: JsonObject, ...keys: string[]) => Object.keys(of).every((key) => keys.includes(key));
  return (
    applyTo === 'NETWORK_FILTER' &&
    operation === 'MERGE' &&
    only(value, 'name', 'typed_config') &&
    only(config, '@type', 'http_protocol_options') &&
    only(inner, 'header_key_format')
  );
}

const targetsOf = (spec: TargetRefs) => [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];

export class LeftToProxy {
  /** objects of the resources with why they are left to the proxy */
  readonly reasons = new Map<object, LeftReason[]>();
  readonly #context: Context;
  readonly #listeners: readonly KnownListener[];
  readonly #clusters: readonly ClusterInfo[];

  constructor(context: Context, listeners: readonly KnownListener[], clusters: Iterable<ClusterInfo>) {
    this.#context = context;
    this.#listeners = listeners;
    this.#clusters = [...clusters];
  }

  #leave(rule: RuleBuilder, objects: Iterable<object>, code: LeftReason['code'], path: Path, message: string): void {
    const reason: LeftReason = { code, message, field: fieldPath(path), position: rule.document.at(path) };
    this.#context.unsupported(rule, path, code, message);
    for (const object of objects) {
      const known = this.reasons.get(object);
      if (known) known.push(reason);
      else this.reasons.set(object, [reason]);
    }
  }

  #inNamespace({ document }: Selection, namespace: string): boolean {
    return document.namespace === this.#context.rootNamespace || document.namespace === namespace;
  }

  /** Listeners of the mesh's clients, if they are selected. */
  #outbound(selection: Selection): KnownListener[] {
    const { namespace, labels } = this.#context;
    if (selection.targets.length > 0) return [];
    if (!this.#inNamespace(selection, namespace) || !labelsMatch(selection.labels, labels)) return [];
    return this.#listeners.filter((listener) => !listener.workload);
  }

  /** Listeners of the gateways that are selected. */
  #gateways(selection: Selection): KnownListener[] {
    const { labels, targets, document } = selection;
    return this.#listeners.filter(({ workload }) => {
      if (!workload) return false;
      if (targets.length > 0) {
        return targets.some((t) => t.kind === 'Gateway' && workload.gatewayApi === `${document.namespace}/${t.name}`);
      }
      // Where a gateway runs is only known if a Service stands in front of it.
      const near = !workload.service || this.#inNamespace(selection, workload.service.namespace);
      if (!near) return false;
      return mayMean(labels, workload);
    });
  }

  /** Listeners of gateways that may be selected, and whether they surely are. */
  #sureGateways(selection: Selection): Map<KnownListener, boolean> {
    return new Map(this.#gateways(selection).map((listener) => [listener, this.#isSure(selection, listener)]));
  }

  /** Clusters with servers that are, or may be, selected. */
  #inbound(selection: Selection): ClusterInfo[] {
    const { labels, targets, document } = selection;
    if (isGatewaySelector(labels)) return [];
    return this.#clusters.filter(({ service, endpoints }) => {
      if (service.external || !this.#inNamespace(selection, service.namespace)) return false;
      if (targets.length > 0) {
        const host = (name: string) => `${name}.${document.namespace}.svc.${this.#context.domain}`;
        return targets.some((t) => t.kind === 'Service' && host(t.name) === service.host);
      }
      const servers = endpoints.length > 0 ? endpoints : [{ labels: service.selector, labelsKnown: false }];
      return servers.some(
        (server) =>
          labelsMatch(labels, server.labels) ||
          (!server.labelsKnown &&
            !service.assumed &&
            Object.entries(labels).every(([k, v]) => (server.labels[k] ?? v) === v)),
      );
    });
  }

  /**
   * Applies the EnvoyFilters, and marks what they are about and was not patched.
   *
   * @param added clusters that they add go here
   * @param sources what may make servers' sidecars have filters
   */
  envoyFilters(documents: readonly Typed<EnvoyFilter>[], added: JsonObject[], sources: FilterSources): void {
    const filters = new EnvoyFilters(
      {
        context: this.#context,
        listeners: this.#listeners.filter((listener) => !listener.inbound && !listener.connections),
        clusters: this.#clusters,
        added,
        select: (selection) => ({
          clients: this.#isClient(selection),
          gateways: this.#sureGateways(selection),
        }),
        leave: (patch, objects, why) => this.#leavePatch(patch, objects, why),
      },
      documents,
    );
    filters.apply();
    for (const { document, spec } of documents) {
      const selection = { document, labels: spec.workloadSelector?.labels ?? {}, targets: targetsOf(spec) };
      for (const patch of filters.patches())
        if (patch.document === document)
          this.#explainPatch(selection, patch, filters.met(patch), sources, [...filters.patches()]);
    }
  }

  #leavePatch(patch: Patch, objects: Iterable<object>, why: string): void {
    const message = `${patch.document.name || 'an EnvoyFilter'} patches what is not patched here: ${why}`;
    this.#leave(patch.rule, objects, 'envoy-filter', patch.path, message);
  }

  #isClient(selection: Selection): boolean {
    const { namespace, labels } = this.#context;
    const { targets } = selection;
    return targets.length === 0 && this.#inNamespace(selection, namespace) && labelsMatch(selection.labels, labels);
  }

  /** Whether a gateway that may be selected surely is: its labels, and where it runs, are known. */
  #isSure(selection: Selection, { workload }: KnownListener): boolean {
    const { document, labels, targets } = selection;
    if (!workload) return false;
    if (targets.length > 0) return true;
    const near = document.namespace === this.#context.rootNamespace || document.namespace === workload.namespace;
    if (!near) return false;
    const { endpoints = [] } = workload.service ?? {};
    if (labelsMatch(labels, workload.labels)) return true;
    if (selectsGateway(labels, workload) === 'usual') {
      tellUsual(this.#context, document, 'workloadSelector', workload);
      return true;
    }
    return endpoints.length > 0 && endpoints.every((endpoint) => labelsMatch(labels, endpoint.labels));
  }

  /** Says what becomes of a patch besides what it did to listeners and clusters here. */
  #explainPatch(selection: Selection, patch: Patch, met: boolean, sources: FilterSources, all: readonly Patch[]): void {
    const { rule, document, path } = patch;
    const absent = absentAtServers(patch, selection.labels, sources, all, this.#context.rootNamespace);
    const idle = patch.applyTo === 'EXTENSION_CONFIG' && !extensionsAreUsed(all);
    const fate = idle
      ? { nothing: 'no filter takes its configuration from there' }
      : this.#fate(selection, patch, met, absent);
    if (!fate) return;
    if ('left' in fate) this.#leavePatch(patch, fate.objects ?? [], fate.left);
    else if ('clients' in fate) {
      const message = `counts only for clients of namespace ${fate.clients.namespace} with the labels of its workloadSelector`;
      this.#context.elsewhere(rule, ['spec', 'workloadSelector'], message, fate.clients);
    } else {
      const message = `changes nothing of what Istio generates: ${fate.nothing}`;
      this.#context.warn(document, path, 'no-effect', message);
    }
  }

  /** @param absent a filter that servers' sidecars do not have, and without which the patch does nothing there */
  #fate(selection: Selection, patch: Patch, met: boolean, absent: string | undefined): Fate | undefined {
    const { document, applyTo, match } = patch;
    const context = match.context ?? 'ANY';
    const filter = match.listener?.filterChain?.filter?.name;
    if (proxyMatches(patch) === 'no')
      return { nothing: `it is for other proxies than those of Istio ${ISTIO_VERSION}` };
    if (/^(BOOTSTRAP|EXTENSION_CONFIG)$/.test(applyTo)) return { left: `${applyTo} is not generated` };
    if (context === 'WAYPOINT') return { left: 'waypoints do not run on this node' };
    if (applyTo === 'LISTENER' && patch.operation === 'ADD')
      return { left: 'connections to a listener that it adds are not intercepted' };
    // names that filters had once
    if (filter !== undefined && /^envoy\.(?!filters\.)/.test(filter))
      return { nothing: `no filter has the name ${filter}` };
    if (match.listener?.filterChain?.name?.startsWith('envoy.')) return { nothing: 'no filter chain has this name' };
    const elsewhere = applyTo === 'CLUSTER' || spellsOnly(patch) || absent !== undefined;
    if (absent !== undefined && context === 'SIDECAR_INBOUND')
      return { nothing: `the sidecars of servers have no filter ${absent}` };
    if (/^(ANY|SIDECAR_INBOUND)$/.test(context) && !(elsewhere && context === 'ANY')) {
      const objects = match.routeConfiguration?.gateway ? [] : [...this.#patchedServers(selection, patch)];
      if (objects.length > 0 || context === 'SIDECAR_INBOUND')
        return { left: 'sidecars of servers do not run on this node', objects };
    }
    if (met) return undefined;
    if (filter !== undefined && filter !== MANAGER) return { left: 'only HTTP is intercepted' };
    if (patch.problem !== undefined) return { left: patch.problem };
    const gateway = isGatewaySelector(selection.labels) || selection.targets.length > 0;
    if (context === 'GATEWAY' || (context === 'ANY' && gateway)) {
      const gateways = this.#gateways(selection);
      const described = gateways.some(({ workload }) => workload?.assumed === false);
      if (described) return { nothing: 'no gateway has what it is about' };
      // of one that is only assumed, the filters are known
      const needed = neededFilter(patch);
      if (needed !== undefined && gateways.length > 0) return { nothing: `gateways have no filter ${needed}` };
      return { left: 'no gateway of the files is meant that speaks plain HTTP' };
    }
    const table = match.routeConfiguration?.name ?? '';
    if (!/^\d*$/.test(table)) return { left: `there is no route configuration ${table}` };
    if (this.#isClient(selection)) return { nothing: 'nothing that clients are given is what it is about' };
    const root = document.namespace === this.#context.rootNamespace;
    return { clients: { namespace: root ? this.#context.namespace : document.namespace, labels: selection.labels } };
  }

  /** Clusters whose servers' sidecars a patch is about, and listeners here that stand before servers. */
  *#patchedServers(selection: Selection, { applyTo, match }: Patch): Iterable<object> {
    const port = match.listener?.portNumber ?? match.routeConfiguration?.portNumber ?? match.cluster?.portNumber;
    const clusters = this.#inbound(selection);
    // before other ports there are none of these filters
    const http = applyTo === 'HTTP_FILTER' || match.listener?.filterChain?.filter?.name === MANAGER;
    for (const { json, endpoints, port: own } of clusters) {
      if (http && !isHttp(own.protocol)) continue;
      const ports = [own.number, own.targetPort, ...endpoints.map((e) => e.ports.get(own.number))];
      if (applyTo !== 'CLUSTER' || match.context === 'SIDECAR_INBOUND')
        if (port === undefined || ports.includes(port)) yield json;
    }
    if (clusters.length > 0) for (const { json, inbound } of this.#listeners) if (inbound) yield json;
  }

  /** Listeners and clusters that a plugin or a setting for clients, servers or both acts on. */
  #acting(selection: Selection, modes: readonly (string | undefined)[]): Set<object> {
    const on = (name: string) =>
      modes.length === 0 || modes.some((m) => m === undefined || m === name || !/^(CLIENT|SERVER)$/.test(m));
    return new Set<object>([
      ...(on('CLIENT') ? this.#outbound(selection).map(({ json }) => json) : []),
      ...this.#gateways(selection).map(({ json }) => json),
      ...(on('SERVER') ? this.#inbound(selection).map(({ json }) => json) : []),
    ]);
  }

  /** Leaves what foreign policies are attached to. */
  attached(policies: AttachedPolicies): void {
    policies.apply(
      (document, { kind, name }) => {
        const selection = { document, labels: {}, targets: [{ kind, name }] };
        return [...this.#gateways(selection), ...this.#inbound(selection)].map(({ json }) => json);
      },
      (document, objects, message) =>
        this.#leave(this.#context.rule(document, ['spec'], 'spec'), objects, 'unsupported-kind', ['spec'], message),
    );
  }

  wasmPlugin({ document, spec }: Typed<WasmPlugin>): void {
    const rule = this.#context.rule(document, ['spec'], 'spec');
    const selection = { document, labels: spec.selector?.matchLabels ?? {}, targets: targetsOf(spec) };
    const objects = this.#acting(
      selection,
      (spec.match ?? []).map((match) => match.mode),
    );
    const lua = document.kind === 'TrafficExtension' && spec.lua !== undefined;
    const message = `${document.name || `a ${document.kind}`} runs ${lua ? 'a Lua script' : 'a WebAssembly plugin'}, which is not done here`;
    this.#leave(rule, objects, 'wasm', ['spec'], message);
  }

  /** Does what Telemetries say of logs, and marks what they say else; before patches, which may change it. */
  telemetry(documents: readonly Typed<Telemetry>[], providers: ReadonlyMap<string, JsonObject>): void {
    const input: Telemetered = {
      context: this.#context,
      listeners: this.#listeners,
      providers,
      gateways: (selection) => this.#sureGateways(selection),
      hasServers: (selection) => this.#inbound(selection).length > 0,
      leave: (...left) => this.#leave(...left),
    };
    new Telemetries(input, documents).apply();
  }
}
