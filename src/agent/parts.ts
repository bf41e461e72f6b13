/** The parts of an agent that live as long as it does, whatever policy is in force, and how they know each other. */
import { join } from 'node:path';
import { bpfObjectPath, h2ObjectPath } from '../kernel/object-path.js';
import { UPSTREAM_FLAG } from '../layout/exchanges.js';
import {
  collectorPath,
  type EnvoyProxy,
  ejectableName,
  mirrorPath,
  type PreparedProxy,
  withEjections,
  withEndpoints,
} from '../proxy/index.js';
import { Breakers } from './breakers.js';
import type { ChainServer } from './chain-server.js';
import { Consultant } from './consult.js';
import { DataPlane } from './data-plane.js';
import { Discovery } from './discovery.js';
import { H2Plane } from './h2/plane.js';
import { Streams } from './h2/streams.js';
import { Hellos } from './hellos.js';
import type { InstanceOptions, InstancePaths } from './instance-options.js';
import { type Arrival, Listeners } from './listeners.js';
import { MirrorSender } from './mirror-sender.js';
import { Outliers } from './outliers.js';
import type { Generation } from './policy.js';
import { Relays } from './relays.js';
import { RequestLog } from './request-log.js';
import { SpanSender } from './span-sender.js';
import { TokenBuckets } from './token-buckets.js';
import { TokenCache } from './token-cache.js';
import { Traffic } from './traffic.js';

export interface AgentParts {
  readonly plane: DataPlane;
  readonly tokens: TokenCache;
  readonly log: RequestLog;
  readonly spans: SpanSender;
  readonly mirrors: MirrorSender;
  readonly buckets: TokenBuckets;
  readonly consultant: Consultant;
  readonly breakers: Breakers;
  readonly outliers: Outliers;
  readonly traffic: Traffic;
  readonly hellos: Hellos;
  readonly discovery: Discovery;
  readonly listeners: Listeners;
  readonly chains: ChainServer;
  readonly relays: Relays;
  /** not with `run --no-http2` */
  readonly streams: Streams | undefined;
}

export interface PartsContext {
  readonly options: InstanceOptions;
  readonly paths: InstancePaths;
  readonly intake: 'socket' | 'listener';
  /** what is in force, as soon as something is */
  readonly generation: () => Generation;
  readonly proxy: () => EnvoyProxy | undefined;
  readonly chains: ChainServer;
  /** see `relayName` */
  readonly relaySecret: string;
  /** the number of a listener in the image */
  readonly indexOf: (listener: string) => number;
}

/** Loads the programs into the kernel, and makes the rest. @throws KernelError */
export async function makeParts(context: PartsContext): Promise<AgentParts> {
  const { options, paths, intake, generation, proxy, chains, indexOf } = context;
  const plane = new DataPlane(bpfObjectPath(), options.envoyHeaders, intake, chains.port);
  const tokens = new TokenCache(plane.tokens, () => plane.commands.now());
  const outliers = new Outliers({
    words: new Int32Array(plane.map('detectors').mmap().buffer),
    enabled: options.proxy === 'own' || options.proxy === 'none',
    endpointId: (...endpoint) => traffic.pool.endpointId(...endpoint),
    setHosts: (...change) => plane.setHosts(...change),
    tell(cluster, ejected) {
      const assignment = generation().ejectable.get(cluster);
      if (!assignment) return;
      void proxy()
        ?.changeEndpoints(ejectableName(cluster), withEjections(assignment, ejected))
        .catch((error: Error) => options.log(`the proxy cannot be told what is ejected: ${error.message}`));
    },
    now: () => performance.now(),
    random: Math.random,
  });
  const spans = new SpanSender(collectorPath(paths.proxy), async () => {
    const info = await proxy()?.admin.call('GET', '/server_info');
    return String((JSON.parse(info?.body ?? '{}') as { version?: string }).version ?? '');
  });
  const mirrors = new MirrorSender(plane.map('mirror_ring'), mirrorPath(paths.proxy));
  const log = new RequestLog(
    plane,
    () => traffic.pool,
    (kind) => (options.proxy === 'own' ? join(paths.proxy, 'envoy.log') : `/dev/${kind}`),
    spans,
  );
  const buckets = new TokenBuckets({
    mapping: plane.map('buckets').mmap(),
    draw: (place) => plane.commands.draw(place),
    now: () => process.hrtime.bigint(),
  });
  const breakers = new Breakers({
    mapping: plane.map('breakers').mmap(),
    enter: (breaker) => plane.commands.enter(breaker),
    leave: (breaker) => plane.commands.leave(breaker),
    uncount: (slot) => plane.commands.uncount(slot),
    countOn: (slot, breaker) => plane.slots.countOn(slot, breaker),
    slotOf: (end) => traffic.pool.byLocalEnd(end),
    complete: (slot) => (plane.slots.field(slot, 'flags') & UPSTREAM_FLAG.REQUEST_DONE) !== 0,
  });
  const relays = new Relays({
    listeners: () =>
      proxy()
        ?.admin.call('GET', '/listeners?format=json')
        .then(({ body }) => body),
    secret: context.relaySecret,
  });
  const traffic: Traffic = new Traffic(
    plane,
    relays,
    (listener, elsewhere) => {
      const path = generation()[elsewhere ? 'elsewhere' : 'inbound'].get(listener);
      if (path !== undefined) return { path, tls: generation().chains.get(listener)?.tls ?? false };
      return elsewhere ? undefined : generation().proxies.get(listener);
    },
    indexOf,
    (listener, head) => tokens.offer(listener, head),
    log,
    outliers,
    (place, of) => buckets.figure(place, of),
    (event, end) => breakers.exchange(event, end),
  );
  const clusters = (filter: string): Promise<string> | undefined =>
    proxy()
      ?.admin.call('GET', `/clusters?format=json&filter=${encodeURIComponent(filter)}`)
      .then(({ body }) => body);
  const discovery = new Discovery({
    clusters,
    endpointId: (address, port, relay) => traffic.pool.endpointId(address, port, relay),
    setHosts: (cluster, room, hosts, states) => plane.setHosts(cluster, room, hosts, states),
    limits: (...limits) => traffic.pool.setLimits(...limits),
    retire: (endpoint) => traffic.pool.retire(endpoint),
  });
  const streams = options.http2
    ? new Streams(() => H2Plane.open(h2ObjectPath()), {
        indexOf,
        clusters,
        proxy: (listener) =>
          generation().inbound.has(listener) || generation().chains.has(listener)
            ? undefined
            : generation().proxies.get(listener),
        log,
        program: (number) => traffic.programs.get(number),
        decided: (cookie) => (plane.commands.query(cookie)?.requested ?? 0) > 0,
        closed: ({ client, cookie }) => {
          if (plane.steering.arrived(client)?.cookie === cookie) plane.steering.forget(client);
        },
      })
    : undefined;
  const hellos = new Hellos(plane, {
    proxy: (listener, elsewhere) => (elsewhere ? undefined : generation().proxies.get(listener)),
    placeOf: (endpoint) => traffic.pool.placeOf(endpoint),
  });
  const accept = (arrival: Arrival): void => traffic.accept(arrival);
  const listeners = new Listeners(plane, (arrival) => {
    if (arrival.hello) hellos.accept(arrival);
    else if (streams) streams.consider(arrival, accept);
    else accept(arrival);
  });
  const consultant = new Consultant(buckets);
  const ways = { traffic, hellos, discovery, listeners, chains, relays, streams };
  return { plane, tokens, log, spans, mirrors, buckets, consultant, breakers, outliers, ...ways };
}

/**
 * A generation is about to come into force: who takes traffic is written into its image, and limits are known.
 * @returns what the proxy is given, with what is ejected now; undefined: it is none of ours
 */
export function prepareParts(parts: AgentParts, generation: Generation): PreparedProxy | undefined {
  const { compiled, limits, prepared } = generation;
  parts.outliers.prepare(compiled);
  parts.consultant.prepare(limits);
  return prepared && withEjected(parts, generation, prepared);
}

/** What the proxy is given in a generation, with what is ejected now. */
export function withEjected(
  { outliers }: AgentParts,
  { ejectable }: Pick<Generation, 'ejectable'>,
  prepared: PreparedProxy,
): PreparedProxy {
  let changed = prepared;
  for (const [cluster, ejected] of outliers.toEject) {
    const assignment = ejectable.get(cluster);
    if (assignment && ejected.size > 0)
      changed = withEndpoints(changed, ejectableName(cluster), withEjections(assignment, ejected));
  }
  return changed;
}
