/**
 * EnvoyFilter, WasmPlugin and Telemetry change what Istio's proxies do in ways that are not translated. What they are
 * about is marked, so that no kernel decides it: the listeners of the clients they select, the clusters whose servers
 * they select (a server's sidecar would act there), and the listeners of gateways.
 */
import type { Document } from '../documents.js';
import type { JsonObject, LeftReason } from '../resources.js';
import type { ClusterInfo } from './clusters.js';
import { type Context, fieldPath, type Path, type RuleBuilder } from './context.js';
import { type GatewayWorkload, isGatewaySelector } from './gateways.js';
import { hostMatches } from './hosts.js';
import type { Typed } from './kubernetes-services.js';
import { labelsMatch } from './registry.js';
import type { ConfigPatch, EnvoyFilter, Telemetry, WasmPlugin } from './schema/extensions.js';

type Labels = Readonly<Record<string, string>>;

/** A listener with the port that clients connect to; that of a gateway with its workload. */
export interface KnownListener {
  readonly json: JsonObject;
  readonly port: number;
  readonly workload?: GatewayWorkload;
}

interface Selection {
  readonly document: Document;
  readonly labels: Labels;
  readonly targets: readonly { readonly kind: string; readonly name: string }[];
}

interface TargetRefs {
  readonly targetRef?: { kind: string; name: string } | undefined;
  readonly targetRefs?: { kind: string; name: string }[] | undefined;
}

const targetsOf = (spec: TargetRefs) => [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];

function virtualHosts(listener: JsonObject): JsonObject[] {
  const chain = (listener.filter_chains as JsonObject[] | undefined)?.[0];
  const manager = (chain?.filters as JsonObject[] | undefined)?.[0]?.typed_config as JsonObject | undefined;
  return ((manager?.route_config as JsonObject | undefined)?.virtual_hosts as JsonObject[] | undefined) ?? [];
}

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
      if (labelsMatch(labels, workload.labels)) return true;
      const contradicted = Object.entries(labels).some(
        ([k, v]) => workload.labels[k] !== undefined && workload.labels[k] !== v,
      );
      return isGatewaySelector(labels) && !contradicted;
    });
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

  envoyFilter({ document, spec }: Typed<EnvoyFilter>): void {
    const rule = this.#context.rule(document, ['spec'], 'spec');
    const selection = { document, labels: spec.workloadSelector?.labels ?? {}, targets: targetsOf(spec) };
    const objects = new Set<object>();
    for (const patch of spec.configPatches ?? [])
      for (const object of this.#patched(selection, patch)) objects.add(object);
    const message = `${document.name || 'an EnvoyFilter'} patches what Istio generates, which is not done here`;
    this.#leave(rule, objects, 'envoy-filter', ['spec', 'configPatches'], message);
  }

  *#patched(selection: Selection, patch: ConfigPatch): Iterable<object> {
    const { applyTo = '', match } = patch;
    const context = match?.context ?? 'ANY';
    const at = (name: string) => context === 'ANY' || context === name;
    if (applyTo === 'BOOTSTRAP' || applyTo === 'EXTENSION_CONFIG') return;
    if (at('SIDECAR_INBOUND') && !match?.routeConfiguration?.gateway) {
      const port = match?.listener?.portNumber ?? match?.routeConfiguration?.portNumber ?? match?.cluster?.portNumber;
      for (const { json, endpoints, port: own } of this.#inbound(selection)) {
        const ports = [own.number, own.targetPort, ...endpoints.map((e) => e.ports.get(own.number))];
        if (applyTo !== 'CLUSTER' || context === 'SIDECAR_INBOUND')
          if (port === undefined || ports.includes(port)) yield json;
      }
    }
    const listeners = [
      ...(at('SIDECAR_OUTBOUND') && !match?.routeConfiguration?.gateway ? this.#outbound(selection) : []),
      ...(at('GATEWAY') ? this.#gateways(selection) : []),
    ];
    if (applyTo === 'CLUSTER') {
      if (listeners.length === 0) return;
      const wanted = match?.cluster;
      for (const { json, name, service, port, subset } of this.#clusters) {
        if (wanted?.service && !hostMatches(wanted.service, service.host)) continue;
        if (wanted?.portNumber !== undefined && wanted.portNumber !== port.number) continue;
        if (wanted?.subset !== undefined && wanted.subset !== subset) continue;
        if (wanted?.name !== undefined && wanted.name !== name) continue;
        yield json;
      }
      return;
    }
    for (const listener of listeners) yield* this.#within(listener, patch);
  }

  /** What a patch is about in a listener: the listener, its virtual hosts, or routes of them. */
  *#within({ json, port, workload }: KnownListener, { applyTo = '', match, patch }: ConfigPatch): Iterable<object> {
    const { listener, routeConfiguration: routes } = match ?? {};
    if (listener?.portNumber !== undefined && listener.portNumber !== port) return;
    const filter = listener?.filterChain?.filter?.name;
    // only HTTP is intercepted: a filter for other connections is in none of these listeners
    if (filter !== undefined && !/http_connection_manager/.test(filter)) return;
    if (routes?.portNumber !== undefined && routes.portNumber !== port) return;
    if (routes?.gateway !== undefined && !workload?.servers.some((s) => s.gateway === routes.gateway)) return;
    const vhost = routes?.vhost;
    if (!/^(VIRTUAL_HOST|HTTP_ROUTE)$/.test(applyTo) || !vhost) {
      yield json;
      return;
    }
    for (const host of virtualHosts(json)) {
      if (vhost.name !== undefined && vhost.name !== host.name) continue;
      const named = applyTo === 'HTTP_ROUTE' && vhost.route?.name !== undefined && patch?.operation === 'MERGE';
      if (!named) yield host;
      else for (const route of host.routes as JsonObject[]) if (route.name === vhost.route?.name) yield route;
    }
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

  wasmPlugin({ document, spec }: Typed<WasmPlugin>): void {
    const rule = this.#context.rule(document, ['spec'], 'spec');
    const selection = { document, labels: spec.selector?.matchLabels ?? {}, targets: targetsOf(spec) };
    const objects = this.#acting(
      selection,
      (spec.match ?? []).map((match) => match.mode),
    );
    const message = `${document.name || 'a WasmPlugin'} runs a WebAssembly plugin, which is not done here`;
    this.#leave(rule, objects, 'wasm', ['spec'], message);
  }

  telemetry({ document, spec }: Typed<Telemetry>): void {
    const rule = this.#context.rule(document, ['spec'], 'spec');
    const selection = { document, labels: spec.selector?.matchLabels ?? {}, targets: targetsOf(spec) };
    const logs = (spec.accessLogging ?? []).filter((logging) => logging.disabled !== true);
    if (logs.length > 0) {
      const objects = this.#acting(
        selection,
        logs.map((logging) => logging.match?.mode),
      );
      this.#leave(rule, objects, 'access-log', ['spec', 'accessLogging'], 'every request is to be logged by a proxy');
    }
    const traces = (spec.tracing ?? []).filter(
      (t) => t.disableSpanReporting !== true && (t.randomSamplingPercentage ?? (t.providers?.length ? 1 : 0)) > 0,
    );
    if (traces.length > 0) {
      const objects = this.#acting(
        selection,
        traces.map((tracing) => tracing.match?.mode),
      );
      this.#leave(rule, objects, 'tracing', ['spec', 'tracing'], 'requests are to be traced by a proxy');
    }
    if (spec.metrics?.length) {
      const message = 'metrics of a proxy do not count what the kernel decides';
      this.#context.unsupported(rule, ['spec', 'metrics'], 'telemetry', message);
    }
  }
}
