/** From files to an image. Pure but for reading the files; seconds of work for 10,000 routes. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { programsOf } from '../compile/answer-edits.js';
import { compileImage } from '../compile/image.js';
import { buildPlan } from '../plan/build.js';
import { clusterInfo } from '../plan/clusters.js';
import type { ListenerPlan, Plan, TokenBucket } from '../plan/ir.js';
import { enforcedLimits } from '../plan/local-limits.js';
import { report } from '../plan/report.js';
import { tcpAddress } from '../policy/envoy/walk.js';
import { loadFiles } from '../policy/load.js';
import type { Resources } from '../policy/resources.js';
import {
  inboundPath,
  inboundProblem,
  prepareProxy,
  withConsults,
  withInboundListeners,
  withoutLimits,
  withReplayRoutes,
} from '../proxy/index.js';
import { isLocal, isWildcard } from './address.js';
import {
  errorsOf,
  type Generation,
  type LoggedListener,
  type Numbers,
  type NumbersWanted,
  type PolicyTask,
} from './policy.js';

/** Why connections from outside the mesh cannot be given to the proxy as they are. */
function problemOf(task: PolicyTask, name: string, resources: Resources): string | undefined {
  if (task.proxy === 'none') return undefined; // then there is nobody who could see them differently
  if (task.proxy !== 'own') return 'only an Envoy that this instance has started can be told who the client is';
  const listener = resources.listeners.find((l) => l.name === name);
  return listener && inboundProblem(listener, resources);
}

/** The files' resources, with the workloads' ports among what is intercepted. */
export async function loadPolicy(task: PolicyTask): Promise<Resources> {
  const { instance, identity, inbound, stdin } = task;
  const resources = await loadFiles([...task.files], {
    instance,
    ...(identity ? { identity } : {}),
    ...(stdin === undefined ? {} : { stdin: Readable.from([stdin]) }),
  });
  if (errorsOf(resources.diagnostics).length > 0) return resources;
  for (const { listener, away, address, port } of inbound) {
    const own = tcpAddress(resources.listeners.find((l) => l.name === listener)?.address);
    const problem = !own
      ? `there is no listener ${listener} with a TCP address`
      : isWildcard(own.address)
        ? `listener ${listener} has no address of its own that its rules could see as the destination`
        : isWildcard(address) || !isLocal(address)
          ? `${address} is not an address of this host`
          : problemOf(task, listener, resources);
    if (problem === undefined)
      resources.intercepts.push({ address, port, listener, inbound: 'workload', own: own!, away });
    else resources.diagnostics.push({ severity: 'error', code: 'inbound', message: `--inbound: ${problem}` });
  }
  return resources;
}

/** Equal digests: the resources say the same. */
export function digestOf(r: Resources): string {
  const text = JSON.stringify([
    r.listeners,
    r.routeConfigs,
    r.clusters,
    r.endpoints,
    r.bootstrap,
    r.intercepts,
    r.hosts,
  ]);
  return createHash('sha256').update(text).digest('hex');
}

/** A policy that was planned, and waits for numbers. */
export interface Planned {
  readonly task: PolicyTask;
  readonly resources: Resources;
  readonly digest: string;
  readonly plan: Plan;
  readonly startedAt: number;
  readonly proxies: ReadonlyMap<string, { readonly address: string; readonly port: number }>;
  readonly inbound: ReadonlyMap<string, string>;
  readonly elsewhere: ReadonlyMap<string, string>;
  readonly wanted: NumbersWanted;
  /** what to tell the user */
  readonly notes: readonly string[];
}

const unique = <T>(list: readonly T[]): T[] => [
  ...new Map(list.map((item) => [JSON.stringify(item), item] as const)).values(),
];

/** Plans resources without errors. */
export function planPolicy(task: PolicyTask, resources: Resources, digest: string): Planned {
  const startedAt = performance.now();
  const plan = buildPlan(resources);
  const proxies = new Map<string, { address: string; port: number }>();
  for (const listener of plan.listeners) {
    const at = proxyAddress(task, listener);
    if (at) proxies.set(listener.name, { ...at, address: reachable(at.address) });
  }
  const elsewhere = new Map<string, string>();
  if (task.proxy === 'own')
    for (const { name } of plan.listeners)
      if (problemOf(task, name, resources) === undefined) elsewhere.set(name, inboundPath(task.proxyFolder, name));
  const inbound = new Map<string, string>();
  const notes: string[] = [];
  for (const { listener, inbound: whose } of resources.intercepts) {
    if (!whose || task.proxy === 'none' || inbound.has(listener)) continue;
    const problem = problemOf(task, listener, resources);
    if (problem === undefined) inbound.set(listener, inboundPath(task.proxyFolder, listener));
    else notes.push(`listener ${listener}: connections from outside the mesh are left to the proxy (${problem})`);
  }
  const servers = plan.clusters.flatMap(({ endpoints }) => endpoints.map(({ address, port }) => ({ address, port })));
  // the kernel's connections to the proxy cannot say whose they are
  const behind = [...proxies].flatMap(([name, at]) => (inbound.has(name) ? [] : [at]));
  const wanted = {
    listeners: plan.listeners.map(({ name }) => name),
    endpoints: [
      ...unique(servers).map((at) => ({ ...at, proxy: false })),
      ...unique(behind).map((at) => ({ ...at, proxy: true })),
    ],
    programs: programsOf(plan),
    buckets: unique(bucketsOf(plan)),
  };
  return { task, resources, digest, plan, startedAt, proxies, inbound, elsewhere, wanted, notes: unique(notes) };
}

function bucketsOf(plan: Plan): TokenBucket[] {
  const lists = plan.listeners.flatMap((l) => [
    l.rbac,
    ...l.virtualHosts.flatMap((v) => v.routes.flatMap((r) => (r.rbac ? [r.rbac] : []))),
  ]);
  return [...new Set(lists)].flatMap((checks) => checks.flatMap(({ bucket }) => (bucket ? [bucket] : [])));
}

/** What access logs need of a listener that has some. */
function logged(plan: Plan, rules: readonly string[]): LoggedListener[] {
  return plan.listeners.flatMap((listener): LoggedListener[] => {
    if (!listener.log) return [];
    const routes = new Map(listener.virtualHosts.flatMap((host) => host.routes.map((route) => [route.id, route])));
    const of = (id: string) => {
      const route = routes.get(id);
      if (!route) return undefined;
      const { action, guard, routeName } = route;
      return { action, ...(guard ? { guard } : {}), ...(routeName === undefined ? {} : { routeName }) };
    };
    return [{ listener: { ...listener, virtualHosts: [], rbac: [] }, routes: rules.map(of) }];
  });
}

/** Compiles a planned policy. */
export function compilePolicy(planned: Planned, numbers: Numbers): Generation {
  const { task, resources, plan, proxies, inbound, elsewhere, wanted } = planned;
  const keyOf = (address: string, port: number, proxy: boolean) => `${proxy} ${address} ${port}`;
  const ids = new Map(wanted.endpoints.map((e, i) => [keyOf(e.address, e.port, e.proxy), numbers.endpoints[i]!]));
  const idOf = (address: string, port: number, proxy: boolean): number => {
    const id = ids.get(keyOf(address, port, proxy)) ?? -1;
    if (id < 0) throw new RangeError('too many endpoints');
    return id;
  };
  const programs = new Map(wanted.programs.map((p, i) => [JSON.stringify(p), numbers.programs[i]!]));
  const buckets = new Map(
    wanted.buckets.flatMap((b, i) =>
      numbers.buckets[i]! < 0 ? [] : [[JSON.stringify(b), numbers.buckets[i]!] as const],
    ),
  );
  const compiled = compileImage(stable(plan, numbers.listeners), {
    generation: task.number,
    endpointId: (address, port) => idOf(address, port, false),
    programNumber: (program) => programs.get(JSON.stringify(program))!,
    bucketIndex: (bucket) => buckets.get(JSON.stringify(bucket)),
    proxyEndpointId: (name) => {
      const at = inbound.has(name) ? undefined : proxies.get(name);
      return at ? idOf(at.address, at.port, true) : -1;
    },
  });
  const compileMs = performance.now() - planned.startedAt;
  const offloaded = new Set(plan.listeners.filter((l) => l.offloaded).map((l) => l.name));
  const tokens = plan.listeners.flatMap((l) => (l.tokens ? [[l.name, l.tokens] as const] : []));
  const sources = tokens.flatMap(([, { providers }]) => Object.values(providers).map(({ keys }) => keys));
  const keyClusters = new Set(sources.flatMap((keys) => (keys.kind === 'remote' ? [keys.cluster] : [])));
  const keyServers = [...keyClusters].flatMap((name) => {
    const at = endpointOf(resources, name);
    return at ? [[name, at] as const] : [];
  });
  const { rules, kernel, proxy } = report(resources, plan, compiled.verdicts);
  const limits = enforcedLimits(resources, plan);
  const own = () =>
    withInboundListeners(
      withReplayRoutes(
        withConsults(resources, limits, task.consultPath),
        limits.size > 0 ? withoutLimits(resources) : {},
      ),
      [...new Set([...inbound.keys(), ...(task.elsewhere ? elsewhere.keys() : [])])],
      task.proxyFolder,
    );
  const { image, followed, stats } = compiled;
  return {
    number: task.number,
    digest: planned.digest,
    compiled: { image, followed, stats },
    ruleNames: json(compiled.rules),
    ruleCount: compiled.rules.length,
    compileMs,
    report: { rules, kernel, proxy },
    wanted: resources.intercepts,
    // a workload's port is taken whatever the kernel can do with its listener: nobody else would keep the policy
    intercepts: resources.intercepts
      .filter((i) => offloaded.has(i.listener) || i.inbound === 'workload')
      .map((i) => {
        if (inbound.has(i.listener) || i.inbound !== 'proxy') return i;
        const { inbound: _, ...rest } = i;
        return rest;
      }),
    hosts: resources.hosts,
    inbound,
    limits: [...limits.values()],
    elsewhere,
    logged: logged(plan, compiled.rules),
    proxies,
    endpoints: numbers.endpoints.filter((id, i) => id >= 0 && !wanted.endpoints[i]!.proxy),
    tokens: new Map(tokens),
    keyServers: new Map(keyServers),
    ...(task.proxy === 'own' ? { prepared: prepareProxy(own(), task.proxyFolder) } : {}),
    config: json({ listeners: resources.listeners, clusters: resources.clusters }),
  };
}

/** A value as JSON, in memory of its own. */
function json(value: unknown): Uint8Array {
  const text = Buffer.from(JSON.stringify(value));
  const bytes = new Uint8Array(text.length);
  bytes.set(text);
  return bytes;
}

function proxyAddress({ proxy }: PolicyTask, listener: ListenerPlan): { address: string; port: number } | undefined {
  if (proxy === 'none') return undefined;
  if (proxy === 'own') return listener.proxyAddress;
  return { address: proxy.address, port: proxy.port || listener.proxyAddress.port };
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

/** The first endpoint of a cluster with addresses; undefined for one that is found by name. */
function endpointOf(resources: Resources, name: string): { address: string; port: number } | undefined {
  const cluster = resources.clusters.find((c) => c.name === name);
  const info = cluster && clusterInfo(cluster, resources);
  const [endpoint] = info?.endpoints ?? [];
  return endpoint && { address: endpoint.address, port: endpoint.port };
}
