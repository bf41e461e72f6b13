/** From resources to an image. Pure; seconds of work for 10,000 routes. */

import { programsOf } from '../compile/answer-edits.js';
import { type CompiledImage, type CompileOptions, compileImage } from '../compile/image.js';
import { endText } from '../observe/log-line.js';
import { buildPlan } from '../plan/build.js';
import { alone, chainListeners } from '../plan/chains.js';
import { beforeDrain, type DownstreamIdle, downstreamIdle, HOUR_MS, shorter } from '../plan/idle-times.js';
import type { Breaker, ListenerPlan, Plan, TokenBucket } from '../plan/ir.js';
import { enforcedLimits, type LocalLimit } from '../plan/local-limits.js';
import type { MirrorPlan } from '../plan/mirrors.js';
import { report } from '../plan/report.js';
import { speaksHttp2 } from '../plan/streams.js';
import { reports } from '../plan/tracing.js';
import { forwardsOf, triedOf } from '../plan/tried.js';
import { relayId } from '../plan/upstream-tls.js';
import { asString, tcpProxies } from '../policy/envoy/walk.js';
import type { Intercept, JsonObject, Resources } from '../policy/resources.js';
import { ejectableAssignment, inboundPath, type NamedChain, prepareProxy } from '../proxy/index.js';
import { countsByItself } from '../proxy/own-counts.js';
import { isWildcard } from './address.js';
import { usedElsewhere } from './breaker-scope.js';
import { endpointOf } from './cluster-place.js';
import { compileStreams, placeOf } from './h2/policy.js';
import { loggedListeners } from './logged-routes.js';
import type { Generation, Numbers, NumbersWanted, PolicyTask } from './policy.js';
import { digestOf, type LoadedPolicy, problemOf } from './policy-load.js';
import { type Bounds, bounded } from './pool-bounds.js';
import { forProxy } from './proxy-resources.js';
import { stable } from './stable.js';

type At = { readonly address: string; readonly port: number };

/** A policy that was planned, and waits for numbers. */
export interface Planned {
  readonly task: PolicyTask;
  readonly loaded: LoadedPolicy;
  readonly digest: string;
  readonly plan: Plan;
  readonly startedAt: number;
  readonly proxies: ReadonlyMap<string, At>;
  readonly inbound: ReadonlyMap<string, string>;
  readonly chains: ReadonlyMap<string, NamedChain>;
  readonly elsewhere: ReadonlyMap<string, string>;
  readonly limits: ReadonlyMap<JsonObject, LocalLimit>;
  readonly wanted: NumbersWanted;
  /** for requests of HTTP/2 */
  readonly streams: Plan | undefined;
  /** what to tell the user */
  readonly notes: readonly string[];
}

const unique = <T>(list: readonly T[]): T[] => [
  ...new Map(list.map((item) => [JSON.stringify(item), item] as const)).values(),
];

/** Plans resources without errors. */
export function planPolicy(task: PolicyTask, loaded: LoadedPolicy, digest = digestOf(loaded.resources)): Planned {
  const { resources } = loaded;
  const startedAt = performance.now();
  // a proxy of its own has the agent's environment; somebody else's has any
  const plan = buildPlan(resources, {
    ...(typeof task.proxy === 'string' ? { environment: process.env, relays: task.proxy === 'own' } : {}),
    atListener: task.chains === undefined,
  });
  const streams =
    task.http2 && task.proxy !== 'none' && resources.clusters.some(speaksHttp2)
      ? buildPlan(resources, {
          ...(typeof task.proxy === 'string' ? { environment: process.env, relays: task.proxy === 'own' } : {}),
          atListener: true,
          http2: true,
          streams: true,
        })
      : undefined;
  const limits = enforcedLimits(resources, plan);
  const chains = new Map<string, NamedChain>();
  for (const { name, relay, offloaded } of plan.listeners) if (relay && offloaded) chains.set(name, { ...relay, name });
  const relayed = new Set([...chains.values()].map(({ listener }) => listener));
  const proxies = new Map<string, At>();
  for (const listener of plan.listeners) {
    const at = proxyAddress(task, listener);
    if (!at) continue;
    // connections that are relayed begin at the listener, which may have several chains
    for (const name of [listener.name, ...(listener.relay ? [listener.relay.listener] : [])])
      proxies.set(name, { ...at, address: reachable(at.address) });
  }
  const elsewhere = new Map<string, string>();
  for (const listener of task.proxy === 'own' ? resources.listeners : []) {
    const name = asString(listener.name);
    if (
      relayed.has(name) ||
      tcpProxies(listener).length > 0 ||
      countsByItself(listener, limits) ||
      problemOf(task, name, resources) !== undefined
    )
      continue;
    elsewhere.set(name, inboundPath(task.proxyFolder, name));
  }
  const inbound = new Map([...chains.keys()].map((name) => [name, inboundPath(task.proxyFolder, name)] as const));
  const notes: string[] = [];
  for (const { listener, inbound: whose } of resources.intercepts) {
    if (!whose || task.proxy === 'none' || inbound.has(listener) || relayed.has(listener)) continue;
    const problem = problemOf(task, listener, resources);
    if (problem === undefined) inbound.set(listener, inboundPath(task.proxyFolder, listener));
    else notes.push(`listener ${listener}: connections from outside the mesh are left to the proxy (${problem})`);
  }
  const servers = plan.clusters.flatMap(({ endpoints, relay }) =>
    endpoints.map(({ address, port }) => ({ address, port, ...(relay ? { relay: relayId(relay) } : {}) })),
  );
  // the kernel's connections to the proxy cannot say whose they are
  const behind = [...proxies].flatMap(([name, at]) => (inbound.has(name) || relayed.has(name) ? [] : [at]));
  const wanted: NumbersWanted = {
    listeners: plan.listeners.map(({ name }) => name),
    endpoints: [
      ...unique(servers).map((at) => ({ ...at, proxy: false })),
      ...unique(behind).map((at) => ({ ...at, proxy: true })),
    ],
    programs: unique([plan, ...(streams ? [streams] : [])].flatMap(programsOf)),
    // somebody else's proxy has buckets, and counts requests, of its own
    buckets: typeof task.proxy === 'string' ? unique(bucketsOf(plan)) : [],
    breakers: task.proxy === 'own' && !task.elsewhere ? breakersOf(plan, resources) : [],
    streams: unique((streams?.clusters ?? []).flatMap(({ endpoints }) => endpoints.map(placeOf))),
  };
  return {
    task,
    loaded,
    digest,
    plan,
    startedAt,
    proxies,
    inbound,
    chains,
    elsewhere,
    limits,
    wanted,
    streams,
    notes: unique(notes),
  };
}

function bucketsOf(plan: Plan): TokenBucket[] {
  const lists = plan.listeners
    .filter(({ offloaded }) => offloaded)
    .flatMap((l) => [l.rbac, ...l.virtualHosts.flatMap((v) => v.routes.flatMap((r) => (r.rbac ? [r.rbac] : [])))]);
  return [...new Set(lists)].flatMap((checks) => checks.flatMap(({ bucket }) => (bucket ? [bucket] : [])));
}

/** Clusters that spans of the kernel's requests go to. */
function collectorsOf(plan: Plan): string[] {
  const traced = plan.listeners.flatMap(({ trace }) => (trace && reports(trace) ? [trace] : []));
  return [...new Set(traced.flatMap(({ collector }) => (collector ? [collector.cluster] : [])))];
}

/** What the kernel hands copies of requests for. */
function mirrorsOf(plan: Plan): MirrorPlan[] {
  return forwardsOf(plan).flatMap(({ mirror }) => (mirror ? [mirror] : []));
}

function breakersOf(plan: Plan, resources: Resources): Breaker[] {
  const unseen = usedElsewhere(resources, plan);
  return unique(plan.clusters.flatMap(({ breaker }) => (breaker && !unseen(breaker.cluster) ? [breaker] : [])));
}

/** Compiles a planned policy. @throws RangeError when there are more endpoints than there is room for */
export function compilePolicy(planned: Planned, numbers: Numbers): Generation {
  const { task, loaded, plan, proxies, inbound, chains, elsewhere, limits, wanted } = planned;
  const { resources, texts } = loaded;
  const idle = new Map(
    resources.listeners.flatMap((l) => chainListeners(l).map((of) => [of.name, downstreamIdle(alone(l, of))] as const)),
  );
  const breakers = new Set<string>();
  const compiled = compileImage(stable(plan, numbers.listeners), {
    generation: task.number,
    ...numbersFor(planned, numbers, breakers),
  });
  const about = new Map(
    plan.listeners.flatMap((l) => {
      const how: Pick<Intercept, 'direct' | 'hello'> | undefined = l.connections
        ? { direct: true }
        : l.hellos && { hello: true };
      return l.offloaded && how ? [[l.name, how] as const] : [];
    }),
  );
  // what comes from everywhere is not heard at the client's socket
  const aboutOf = (i: Intercept) => (i.inbound && about.get(i.listener)?.hello ? undefined : about.get(i.listener));
  const compileMs = performance.now() - planned.startedAt;
  // connections to chains that are relayed are the proxy's to accept
  const numbered = [...chains.values()].map((chain) => ({ ...chain, index: numbers.listeners.get(chain.name) ?? 0 }));
  const offloaded = new Set(plan.listeners.filter((l) => l.offloaded && !l.relay).map((l) => l.name));
  const tokens = plan.listeners.flatMap((l) => (l.tokens ? [[l.name, l.tokens] as const] : []));
  const sources = tokens.flatMap(([, { providers }]) => Object.values(providers).map(({ keys }) => keys));
  const keyClusters = new Set(sources.flatMap((keys) => (keys.kind === 'remote' ? [keys.cluster] : [])));
  const keyServers = [...keyClusters].flatMap((name) => {
    const at = endpointOf(resources, name);
    return at ? [[name, at] as const] : [];
  });
  const { rules, kernel, proxy } = report(resources, plan, compiled.verdicts);
  const ejectable = ejectableOf(task, compiled, resources);
  const waiting = new Set(wanted.breakers.flatMap((b) => (b.waiting === undefined ? [] : [b.cluster])));
  const relays = new Map(plan.clusters.flatMap(({ relay }) => (relay ? [[relay.key, relay] as const] : [])));
  const mirrors = mirrorsOf(plan);
  const prepared =
    task.proxy === 'own'
      ? prepareProxy(
          forProxy(task, resources, {
            ...{ limits, breakers, waiting, ejectable, inbound, elsewhere, relays, chains: numbered },
            collectors: collectorsOf(plan),
            tried: new Set([plan, ...(planned.streams ? [planned.streams] : [])].flatMap(triedOf)),
            mirrors,
          }),
          task.proxyFolder,
        )
      : undefined;
  const { image, followed, stats } = compiled;
  const streams = planned.streams && compileStreams(planned.streams, planned, numbers);
  return {
    number: task.number,
    digest: planned.digest,
    compiled: { image, followed, stats },
    ...(streams ? { streams } : {}),
    mirrors: mirrors.length > 0,
    ruleNames: json(compiled.rules),
    ruleCount: compiled.rules.length,
    compileMs,
    report: { rules, kernel, proxy },
    wanted: resources.intercepts.map((i) => ({ ...i, ...aboutOf(i) })),
    // a workload's port is taken whatever the kernel can do with its listener: nobody else would keep the policy
    intercepts: resources.intercepts
      .filter((i) => offloaded.has(i.listener) || i.inbound === 'workload' || streams?.servers.has(i.listener))
      .map((i) => {
        const how = aboutOf(i);
        if (how) return { ...i, ...how };
        if (inbound.has(i.listener) || i.inbound !== 'proxy') return i;
        const { inbound: _, ...rest } = i;
        return rest;
      }),
    hosts: resources.hosts,
    inbound,
    chains,
    limits: [...limits.values()],
    breakers,
    ejectable,
    elsewhere,
    logged: loggedListeners(plan, compiled.rules),
    proxies,
    ...endpointLimits(plan, planned, numbers, idle),
    idle,
    tokens: new Map(tokens),
    keyServers: new Map(keyServers),
    ...(prepared ? { prepared } : {}),
    config: json({ listeners: resources.listeners, clusters: resources.clusters }, withoutKeys),
    sources: json([...texts]),
  };
}

/**
 * How long connections to endpoints may be idle; where several clusters lead to one, the shortest time counts. Those to the
 * proxy end before it would drain them, since a request would then end its client's connection. And how many there may be.
 */
function endpointLimits(
  { clusters }: Plan,
  { wanted, proxies }: Planned,
  numbers: Numbers,
  listeners: ReadonlyMap<string, DownstreamIdle>,
): Pick<Generation, 'endpoints' | 'bounds'> {
  const times = new Map<string, number>();
  const bounds = new Map<string, Bounds>();
  for (const [name, at] of proxies) times.set(endText(at), beforeDrain(listeners.get(name)?.idleMs ?? 0));
  const keyOf = (e: At, relay = ''): string => `${endText(e)}${relay}`;
  for (const { endpoints, idleMs = HOUR_MS, relay, breaker } of clusters)
    for (const e of endpoints) {
      const key = keyOf(e, relay && relayId(relay));
      times.set(key, shorter(times.get(key), idleMs));
      bounds.set(key, bounded(bounds.get(key), breaker));
    }
  const byId = <T>(byKey: ReadonlyMap<string, T>): Map<number, T> =>
    new Map(
      wanted.endpoints.flatMap((e, i) => {
        const [id, value] = [numbers.endpoints[i]!, byKey.get(keyOf(e, e.relay))];
        return id < 0 || value === undefined ? [] : [[id, value] as const];
      }),
    );
  return { endpoints: byId(times), bounds: byId(bounds) };
}

/** The agent's numbers, by what they are for. @param breakers is told which clusters' breakers are used */
function numbersFor(
  { task, proxies, inbound, wanted }: Planned,
  numbers: Numbers,
  breakers: Set<string>,
): Omit<CompileOptions, 'generation'> {
  const keyOf = (address: string, port: number, proxy: boolean, relay = '') => `${proxy} ${address} ${port} ${relay}`;
  const ids = new Map(
    wanted.endpoints.map((e, i) => [keyOf(e.address, e.port, e.proxy, e.relay), numbers.endpoints[i]!]),
  );
  const idOf = (...endpoint: Parameters<typeof keyOf>): number => {
    const id = ids.get(keyOf(...endpoint)) ?? -1;
    if (id < 0) throw new RangeError('too many endpoints');
    return id;
  };
  const byKey = <T>(items: readonly T[], given: readonly number[], key: (item: T) => string) => {
    const found = new Map(items.flatMap((item, i) => (given[i]! < 0 ? [] : [[key(item), given[i]!] as const])));
    return (item: T) => found.get(key(item));
  };
  const text = (item: unknown) => JSON.stringify(item);
  const program = byKey(wanted.programs, numbers.programs, text);
  const breaker = byKey(wanted.breakers, numbers.breakers, ({ cluster }) => cluster);
  return {
    endpointId: (address, port, relay) => idOf(address, port, false, relay),
    programNumber: (wants) => program(wants)!,
    delays: task.proxy === 'own',
    bucketIndex: byKey(wanted.buckets, numbers.buckets, ({ key }) => key),
    breakerIndex: (wants) => {
      const index = breaker(wants);
      if (index !== undefined) breakers.add(wants.cluster);
      return index;
    },
    proxyEndpointId: (name) => {
      const at = inbound.has(name) ? undefined : proxies.get(name);
      return at ? idOf(at.address, at.port, true) : -1;
    },
  };
}

/** The proxy's clusters of which the agent detects the outliers. */
function ejectableOf(task: PolicyTask, { followed }: CompiledImage, resources: Resources): Map<string, JsonObject> {
  const found = new Map<string, JsonObject>();
  for (const { plan } of task.proxy === 'own' ? followed.values() : []) {
    const { detection, cluster } = plan.followed;
    const assignment = detection && ejectableAssignment(resources, cluster);
    if (assignment) found.set(cluster, assignment);
  }
  return found;
}

/** Private keys are nobody's to see. */
const withoutKeys = (key: string, value: unknown): unknown =>
  key === 'private_key' && !(value as JsonObject | null)?.filename ? {} : value;

/** A value as JSON, in memory of its own. */
function json(value: unknown, replace?: (key: string, value: unknown) => unknown): Uint8Array {
  return new Uint8Array(Buffer.from(JSON.stringify(value, replace)));
}

function proxyAddress({ proxy }: PolicyTask, listener: ListenerPlan): At | undefined {
  if (proxy === 'none') return undefined;
  if (proxy === 'own') return listener.proxyAddress;
  return { address: proxy.address, port: proxy.port || listener.proxyAddress.port };
}

function reachable(address: string): string {
  if (!isWildcard(address)) return address;
  return address === '::' ? '::1' : '127.0.0.1';
}
