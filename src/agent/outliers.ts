/**
 * Outlier detection (Envoy: DetectorImpl) for kernel and proxy together: failures in a row are counted in the `detectors`
 * map, by the kernel where it sees answers, and here for what the agent and the proxy see. An endpoint that reaches a
 * limit is ejected for both, and comes back after its time.
 */

import type { FollowedCluster, FollowedHost, SetHosts } from '../compile/clusters.js';
import type { CompiledImage } from '../compile/image.js';
import { DetectorSpec, MAX_DETECTORS, TRIPPED } from '../layout/counts.js';
import type { HostState } from '../plan/host-sets.js';
import type { FollowedPlan } from '../plan/ir.js';
import type { Detection } from '../plan/outliers.js';
import { relayId } from '../plan/upstream-tls.js';
import { hostKey } from '../proxy/index.js';
import { HostRooms } from './host-rooms.js';
import type { TryReport } from './try-reports.js';

export interface OutliersContext {
  /** the `detectors` map */
  readonly words: Int32Array;
  /** the proxy has none of its own for these clusters; false: it is not ours, and they are left to it */
  readonly enabled: boolean;
  /** the id of an endpoint. @throws RangeError when there are too many */
  readonly endpointId: (address: string, port: number, relay?: string) => number;
  /** writes who takes traffic into a room of the image in force, and puts it in force */
  readonly setHosts: SetHosts;
  /** tells the proxy which hosts (`address port`) of one of its clusters are ejected */
  readonly tell: (cluster: string, ejected: ReadonlySet<string>) => void;
  /** milliseconds, monotonic */
  readonly now: () => number;
  /** from 0 to 1 */
  readonly random: () => number;
}

interface Watched {
  readonly index: number;
  /** when it was ejected */
  ejected: number | undefined;
  /** how often the base ejection time it stays away */
  backoff: number;
}

interface Detector {
  readonly detection: Detection;
  readonly key: string;
  /** by `address port` */
  readonly hosts: Map<string, Watched>;
  readonly clusters: HostRooms[];
  timer: NodeJS.Timeout | undefined;
  /** when a room was written last, and what waits to write the other */
  written: number;
  waiting: NodeJS.Timeout | undefined;
}

const WORDS = DetectorSpec.size / 4;
const at = (index: number, field: string): number => index * WORDS + DetectorSpec.at[field]!.offset / 4;
/** How long a program may still read the room that was given up. */
const REST_MS = 20;
const FREED_MS = 60_000;

export class Outliers {
  #detectors = new Map<string, Detector>();
  #prepared = new Map<string, Detector>();
  /** free elements of the map; 0 stands for all of them */
  readonly #free = Array.from({ length: MAX_DETECTORS - 1 }, (_, i) => MAX_DETECTORS - 1 - i);
  #seen = 0;
  /** ejections so far */
  ejections = 0;

  constructor(private readonly context: OutliersContext) {}

  /** Writes who takes traffic into an image that is not in force yet. */
  prepare(compiled: Pick<CompiledImage, 'image' | 'followed'>): void {
    const inForce = new Set([...this.#detectors.values()].flatMap(indexes));
    // a generation that came to nothing
    if (this.#prepared !== this.#detectors)
      this.#free.push(...[...this.#prepared.values()].flatMap(indexes).filter((index) => !inForce.has(index)));
    this.#prepared = new Map();
    if (!this.context.enabled) return;
    for (const cluster of compiled.followed.values()) {
      const { followed } = cluster.plan;
      if (!followed.detection) continue;
      const detector = this.#detectorOf(followed, followed.detection);
      const rooms = new HostRooms(cluster);
      detector.clusters.push(rooms);
      const { hosts, states } = this.#hostsOf(detector, cluster);
      rooms.prepare(compiled.image, hosts, states);
    }
  }

  /** The image that was prepared is in force. */
  enforce(): void {
    const before = this.#detectors;
    this.#detectors = this.#prepared;
    for (const [name, detector] of this.#detectors) {
      const old = before.get(name);
      detector.timer = old?.key === detector.key ? old.timer : this.#every(detector.detection.interval, name);
      if (old?.key === detector.key) old.timer = undefined;
    }
    for (const old of before.values()) this.#forget(old);
    // what was ejected since the image was prepared
    for (const [name, detector] of this.#detectors) if (before.has(name)) this.#apply(name, detector);
  }

  stop(): void {
    for (const detector of this.#detectors.values()) {
      clearInterval(detector.timer);
      clearTimeout(detector.waiting);
    }
  }

  /** The hosts that are ejected of each cluster of the generation that is prepared. */
  get toEject(): ReadonlyMap<string, ReadonlySet<string>> {
    return new Map([...this.#prepared].map(([name, detector]) => [name, ejectedOf(detector)]));
  }

  /** A try of the proxy's: a status of its answer, or what its failure counts as. */
  report(cluster: string, address: string, port: number, status: number): void {
    const host = this.#detectors.get(cluster)?.hosts.get(hostKey(address, port));
    if (host) this.count(host.index, status);
  }

  /** A try of the proxy's: its status counts, and its failure, too, if that came later. */
  tried({ cluster, address, port, status, lost, timedOut }: TryReport): void {
    if (status > 0) this.report(cluster, address, port, status);
    if (timedOut) this.report(cluster, address, port, TIMED_OUT);
    else if (lost) this.report(cluster, address, port, LOST);
  }

  /** A try whose failures are counted in element `index` (bpf/outlier.h does the same). */
  count(index: number, status: number): void {
    const { words } = this.context;
    if (index === 0) return;
    if (status < 500 || status > 599) {
      Atomics.store(words, at(index, 'failures'), 0);
      Atomics.store(words, at(index, 'gateway'), 0);
      return;
    }
    const reached = (counter: string, limit: string) =>
      Atomics.add(words, at(index, counter), 1) + 1 === words[at(index, limit)];
    let tripped = 0;
    if (status < 502 || status > 504) Atomics.store(words, at(index, 'gateway'), 0);
    else if (reached('gateway', 'gateway_limit')) tripped |= TRIPPED.GATEWAY;
    if (reached('failures', 'limit')) tripped |= TRIPPED.FAILURES;
    if (tripped === 0) return;
    Atomics.or(words, at(index, 'tripped'), tripped);
    Atomics.add(words, at(0, 'tripped'), 1);
    this.poll();
  }

  /** Deals with the endpoints that have reached a limit. Call often: it costs one read when there are none. */
  poll(): void {
    const { words } = this.context;
    const all = Atomics.load(words, at(0, 'tripped'));
    if (all === this.#seen) return;
    this.#seen = all;
    for (const [name, detector] of this.#detectors)
      for (const host of detector.hosts.values()) {
        const which = Atomics.load(words, at(host.index, 'tripped'));
        if (which !== 0) this.#tripped(name, detector, host, which);
      }
  }

  /** DetectorImpl::onConsecutiveErrorWorker */
  #tripped(name: string, detector: Detector, host: Watched, which: number): void {
    const { words } = this.context;
    const { detection } = detector;
    let ejects = false;
    if (host.ejected === undefined) {
      // the order in which the kernel and Envoy count
      if (which & TRIPPED.GATEWAY) {
        ejects = this.#ejects(detector, detection.enforcingGateway);
        Atomics.store(words, at(host.index, 'gateway'), 0);
      }
      if (which & TRIPPED.FAILURES && !ejects) {
        ejects = this.#ejects(detector, detection.enforcing5xx);
        Atomics.store(words, at(host.index, 'failures'), 0);
      }
    }
    if (!ejects) {
      Atomics.store(words, at(host.index, 'tripped'), 0);
      return;
    }
    host.ejected = this.context.now();
    if (host.backoff * detection.baseEjection < detection.maxEjection + detection.baseEjection) host.backoff++;
    this.ejections++;
    this.#apply(name, detector);
  }

  /** Whether one more host may be ejected, and the lot falls on it (DetectorImpl::ejectHost). */
  #ejects(detector: Detector, percent: number): boolean {
    const { maxPercent, alwaysOne } = detector.detection;
    const out = ejectedOf(detector).size;
    const may = (100 * (out + 1)) / detector.hosts.size <= maxPercent || (alwaysOne && out === 0);
    return may && this.context.random() * 100 < percent;
  }

  /** DetectorImpl::onIntervalTimer */
  #interval(name: string): void {
    const detector = this.#detectors.get(name);
    if (!detector) return;
    const { words, now } = this.context;
    const { baseEjection, maxEjection } = detector.detection;
    let changed = false;
    for (const host of detector.hosts.values()) {
      if (host.ejected === undefined) {
        // not in the moment in which it comes back
        if (host.backoff > 0) host.backoff--;
      } else if (Math.min(baseEjection * host.backoff, maxEjection) <= now() - host.ejected) {
        host.ejected = undefined;
        Atomics.store(words, at(host.index, 'failures'), 0);
        Atomics.store(words, at(host.index, 'gateway'), 0);
        changed = true;
      }
    }
    if (changed) this.#apply(name, detector);
  }

  #every(ms: number, name: string): NodeJS.Timeout {
    const timer = setInterval(() => this.#interval(name), ms);
    timer.unref();
    return timer;
  }

  /** Puts what is ejected in force, here and in the proxy. */
  #apply(name: string, detector: Detector): void {
    if (detector.waiting) return;
    const { now } = this.context;
    const rest = detector.written + REST_MS - now();
    if (rest > 0) {
      detector.waiting = setTimeout(() => {
        detector.waiting = undefined;
        this.#apply(name, detector);
      }, rest);
      return;
    }
    detector.written = now();
    for (const rooms of detector.clusters) {
      const { hosts, states } = this.#hostsOf(detector, rooms.cluster);
      rooms.change(this.context.setHosts, hosts, states);
    }
    // only now may the kernel choose the host again, if it is still among those that take traffic
    for (const host of detector.hosts.values()) Atomics.store(this.context.words, at(host.index, 'tripped'), 0);
    this.context.tell(name, ejectedOf(detector));
  }

  #hostsOf(detector: Detector, { plan }: FollowedCluster): { hosts: FollowedHost[]; states: HostState[] } {
    const watched = plan.endpoints.map((e) => detector.hosts.get(hostKey(e.address, e.port)));
    // more endpoints than can be watched: the proxy balances
    if (!watched.every((host) => host !== undefined)) return { hosts: [], states: [] };
    try {
      const hosts = plan.endpoints.map((e, i) => ({
        ...e,
        id: this.context.endpointId(e.address, e.port, plan.relay && relayId(plan.relay)),
        watch: watched[i]!.index,
      }));
      const states = plan.followed.hosts.map((state, i): HostState => {
        const out = watched[i]!.ejected !== undefined && state.health !== 'excluded';
        return out ? { ...state, health: 'unhealthy' } : state;
      });
      return { hosts, states };
    } catch {
      return { hosts: [], states: [] };
    }
  }

  /** The detector of one of the proxy's clusters in the generation that is prepared; hosts keep what is known of them. */
  #detectorOf({ cluster: name, all }: FollowedPlan, detection: Detection): Detector {
    const known = this.#prepared.get(name);
    if (known) return known;
    const key = JSON.stringify(detection);
    const before = this.#detectors.get(name);
    const detector: Detector = {
      detection,
      key,
      hosts: new Map(),
      clusters: [],
      timer: undefined,
      written: 0,
      waiting: undefined,
    };
    for (const { address, port } of all ?? []) {
      const host = hostKey(address, port);
      const old = before?.key === key ? before.hosts.get(host) : undefined;
      const kept = old ?? this.#watch(detection);
      if (!kept) continue;
      detector.hosts.set(host, kept);
    }
    this.#prepared.set(name, detector);
    return detector;
  }

  #watch(detection: Detection): Watched | undefined {
    const index = this.#free.pop();
    if (index === undefined) return undefined;
    const { words } = this.context;
    words.fill(0, index * WORDS, (index + 1) * WORDS);
    words[at(index, 'limit')] = detection.consecutive5xx;
    words[at(index, 'gateway_limit')] = detection.consecutiveGateway;
    return { index, ejected: undefined, backoff: 0 };
  }

  /** A detector of a generation that is not in force any more. */
  #forget(old: Detector): void {
    clearInterval(old.timer);
    clearTimeout(old.waiting);
    const kept = new Set([...this.#detectors.values()].flatMap(indexes));
    // an exchange that is under way may still count there
    for (const { index } of old.hosts.values())
      if (!kept.has(index)) setTimeout(() => this.#free.unshift(index), FREED_MS).unref();
  }
}

function indexes({ hosts }: Detector): number[] {
  return [...hosts.values()].map((host) => host.index);
}

function ejectedOf(detector: Detector): Set<string> {
  return new Set([...detector.hosts].flatMap(([key, host]) => (host.ejected === undefined ? [] : [key])));
}

/** What Envoy takes a failure of a try for that has no status (DetectorHostMonitorImpl::resultToHttpCode). */
export const LOST = 503;
export const TIMED_OUT = 504;
