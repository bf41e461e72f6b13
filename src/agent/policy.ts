/** From files to an image: what one generation of the policy consists of. Pure but for reading the files. */
import type { ProgramNumber } from '../compile/answer-edits.js';
import type { BreakerIndex } from '../compile/clusters.js';
import { type CompiledImage, compileImage } from '../compile/image.js';
import type { BucketIndex } from '../compile/scope.js';
import { buildPlan } from '../plan/build.js';
import { clusterInfo } from '../plan/clusters.js';
import type { ListenerPlan, Plan } from '../plan/ir.js';
import { enforcedLimits, type LocalLimit } from '../plan/local-limits.js';
import { type CheckReport, report } from '../plan/report.js';
import type { Diagnostic } from '../policy/diagnostics.js';
import { asObject, asObjects, clusterReferences, connectionManagers } from '../policy/envoy/walk.js';
import type { Intercept, JsonObject, Resources } from '../policy/resources.js';
import { isWildcard } from './address.js';
import type { TokenGeneration } from './token-cache.js';

export interface Generation {
  readonly number: number;
  readonly resources: Resources;
  readonly plan: Plan;
  readonly compiled: CompiledImage;
  /** time from resources to image, in milliseconds */
  readonly compileMs: number;
  readonly report: CheckReport;
  /** intercepts of offloaded listeners: the others' connections go to the proxy without us */
  readonly intercepts: readonly Intercept[];
  /** listeners that decide about connections from everywhere, with the Unix socket at which the proxy waits for the agent */
  readonly inbound: ReadonlyMap<string, string>;
  /** rate limits that the kernel enforces, by their configurations in `resources` */
  readonly limits: ReadonlyMap<JsonObject, LocalLimit>;
  /** clusters whose requests in flight the kernel counts, too */
  readonly breakers: ReadonlySet<string>;
  /** the Unix sockets at which the proxy waits on behalf of clients in other network namespaces, by listener */
  readonly elsewhere: ReadonlyMap<string, string>;
  /** where the proxy listens, by listener */
  readonly proxies: ReadonlyMap<string, { address: string; port: number }>;
}

export interface GenerationContext {
  /** an index for each listener name, the same in all generations */
  readonly listenerIndex: Map<string, number>;
  readonly endpointId: (address: string, port: number, proxy: boolean) => number;
  readonly programNumber: ProgramNumber;
  readonly bucketIndex: BucketIndex;
  /** undefined for what somebody else's proxy would have to count */
  readonly breakerIndex: BreakerIndex;
  /** overrides where the proxy listens; undefined: there is no proxy */
  readonly proxyAddress: (listener: ListenerPlan) => { address: string; port: number } | undefined;
  /** the Unix socket of an inbound listener; undefined: none, the listener is for the mesh's own applications only */
  readonly inboundPath: (listener: string, resources: Resources) => string | undefined;
  /** the same for clients in other network namespaces */
  readonly elsewherePath: (listener: string, resources: Resources) => string | undefined;
}

/** Makes generation `number` of the resources. @throws nothing for bad input: see `resources.diagnostics` before */
export function makeGeneration(number: number, resources: Resources, context: GenerationContext): Generation {
  const started = performance.now();
  const plan = buildPlan(resources);
  const proxies = new Map<string, { address: string; port: number }>();
  const elsewhere = new Map<string, string>();
  for (const listener of plan.listeners) {
    if (!context.listenerIndex.has(listener.name)) context.listenerIndex.set(listener.name, context.listenerIndex.size);
    const at = context.proxyAddress(listener);
    if (at) proxies.set(listener.name, { ...at, address: reachable(at.address) });
    const path = context.elsewherePath(listener.name, resources);
    if (path !== undefined) elsewhere.set(listener.name, path);
  }
  const inbound = new Map<string, string>();
  for (const { listener, inbound: whose } of resources.intercepts) {
    const path = whose && context.inboundPath(listener, resources);
    if (path !== undefined) inbound.set(listener, path);
  }
  const breakers = new Set<string>();
  const unseen = usedElsewhere(resources, plan);
  const compiled = compileImage(stable(plan, context.listenerIndex), {
    generation: number,
    endpointId: (address, port) => context.endpointId(address, port, false),
    programNumber: context.programNumber,
    bucketIndex: context.bucketIndex,
    breakerIndex: (breaker) => {
      const index = unseen(breaker.cluster) ? undefined : context.breakerIndex(breaker);
      if (index !== undefined) breakers.add(breaker.cluster);
      return index;
    },
    proxyEndpointId: (name) => {
      // the kernel's connections to the proxy cannot say whose they are
      const at = inbound.has(name) ? undefined : proxies.get(name);
      return at ? context.endpointId(at.address, at.port, true) : -1;
    },
  });
  const compileMs = performance.now() - started;
  const offloaded = new Set(plan.listeners.filter((l) => l.offloaded).map((l) => l.name));
  return {
    number,
    resources,
    plan,
    compiled,
    compileMs,
    report: report(resources, plan, compiled.verdicts),
    // a workload's port is taken whatever the kernel can do with its listener: nobody else would keep the policy
    intercepts: resources.intercepts
      .filter((i) => offloaded.has(i.listener) || i.inbound === 'workload')
      .map((i) => {
        if (inbound.has(i.listener) || i.inbound !== 'proxy') return i;
        const { inbound: _, ...rest } = i;
        return rest;
      }),
    inbound,
    limits: enforcedLimits(resources, plan),
    breakers,
    elsewhere,
    proxies,
  };
}

/**
 * Whether a cluster gets requests that the agent does not see end: from listeners that are the proxy's as a whole, from
 * clients of inbound listeners, and copies of requests. So are all clusters where something is logged.
 */
function usedElsewhere(resources: Resources, plan: Plan): (cluster: string) => boolean {
  if (!plan.clusters.some(({ breaker }) => breaker)) return () => false;
  // an access log calls what the agent refuses denied, not overflown
  if (plan.listeners.some(({ log }) => log)) return () => true;
  const offloaded = new Set(plan.listeners.filter((l) => l.offloaded).map((l) => l.name));
  const text = JSON.stringify([resources.listeners, resources.routeConfigs]);
  if (resources.intercepts.some((i) => i.inbound) || text.includes('request_mirror_policies')) return () => true;
  const named = new Set<string>();
  for (const listener of resources.listeners) {
    if (offloaded.has(String(listener.name))) continue;
    for (const hcm of connectionManagers(listener)) {
      const rds = asObject(hcm.rds)?.route_config_name;
      const config = asObject(hcm.route_config) ?? resources.routeConfigs.find((c) => c.name === rds);
      for (const host of asObjects(config?.virtual_hosts))
        for (const route of asObjects(host.routes)) for (const { name } of clusterReferences(route)) named.add(name);
    }
  }
  return (cluster) => named.has(cluster);
}

/** Connections remember their listener by index, so a listener keeps its place even when others come and go. */
function stable(plan: Plan, index: ReadonlyMap<string, number>): Plan {
  const absent = (name: string): ListenerPlan => ({
    name,
    proxyAddress: { address: '0.0.0.0', port: 0 },
    offloaded: false,
    reasons: [],
    paths: { normalize: false, mergeSlashes: false, escapedSlashes: false },
    stripPort: 'none',
    virtualHosts: [],
    rbac: [],
    generateRequestId: false,
    forwardedProto: 'http',
  });
  const byName = new Map(plan.listeners.map((l) => [l.name, l]));
  const names = [...index.entries()].sort((a, b) => a[1] - b[1]).map(([name]) => name);
  return { ...plan, listeners: names.map((name) => byName.get(name) ?? absent(name)) };
}

function reachable(address: string): string {
  if (!isWildcard(address)) return address;
  return address === '::' ? '::1' : '127.0.0.1';
}

export function errorsOf(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  return diagnostics.filter((d) => d.severity === 'error');
}

/** What the agent must know to verify tokens for a generation. */
export function tokenGeneration(generation: Generation, index: ReadonlyMap<string, number>): TokenGeneration {
  const listeners = generation.plan.listeners.flatMap(({ name, tokens }) =>
    tokens ? [[name, { index: index.get(name) ?? 0, plan: tokens }] as const] : [],
  );
  return {
    number: generation.number,
    listeners: new Map(listeners),
    reach: (cluster) => endpointOf(generation.resources, cluster),
  };
}

/** The first endpoint of a cluster with addresses; undefined for one that is found by name. */
function endpointOf(resources: Resources, name: string): { address: string; port: number } | undefined {
  const cluster = resources.clusters.find((c) => c.name === name);
  const info = cluster && clusterInfo(cluster, resources);
  const [endpoint] = info?.endpoints ?? [];
  return endpoint && { address: endpoint.address, port: endpoint.port };
}
