/**
 * Endpoints that the proxy finds out while it runs (DNS), and the health of those that it checks. It is asked what it has
 * found, so that both paths lead to the same servers whatever the resolver, the checks, their settings and their
 * failures; who takes traffic is changed in the image in force. Until the first answer, and when there is no proxy to
 * ask, such clusters have no endpoints here and their requests are the proxy's.
 */

import { type FollowedCluster, type FollowedHost, MAX_DISCOVERED, type SetHosts } from '../compile/clusters.js';
import type { CompiledImage } from '../compile/image.js';
import { healthOf } from '../plan/endpoints.js';
import type { Health, HostState } from '../plan/host-sets.js';
import { HOUR_MS, shorter } from '../plan/idle-times.js';
import { relayId } from '../plan/upstream-tls.js';
import { asObject, asObjects, asString } from '../policy/envoy/walk.js';
import type { JsonObject } from '../policy/resources.js';
import { hostKey } from '../proxy/index.js';
import { HostRooms } from './host-rooms.js';
import { type Bounds, bounded } from './pool-bounds.js';

/** What is asked of the rest of the agent. */
export interface DiscoveryContext {
  /** the proxy's `/clusters?format=json` of clusters whose names match; undefined: there is no proxy that can be asked */
  readonly clusters: (filter: string) => Promise<string> | undefined;
  /** the id of an endpoint. @throws RangeError when there are too many */
  readonly endpointId: (address: string, port: number, relay?: string) => number;
  /** writes who takes traffic into a room of the image in force, and puts it in force */
  readonly setHosts: SetHosts;
  /** how long connections to endpoints may be idle (ms, 0: for ever), and how many there may be, by id */
  readonly limits: (times: ReadonlyMap<number, number>, bounds: ReadonlyMap<number, Bounds>) => void;
  /** no cluster leads to this endpoint any more */
  readonly retire: (endpoint: number) => void;
}

/** A host as the proxy tells of it. */
export interface Host {
  readonly address: string;
  readonly port: number;
  readonly health: Health;
  readonly priority: number;
}

/** Addresses change rarely, health must be followed at once. */
const NAMES_MS = 500;
const HEALTH_MS = 50;
/** The proxy is to spend no more than a twentieth of its main thread on answering. */
const SPARING = 20;
/** A longer one is left out: the proxy tells of all its clusters then. */
const MAX_FILTER = 8192;

/** Envoy: HostUtility and Host::coarseHealth, from what admin.v3.HostHealthStatus says. */
function healthStatus(status: JsonObject): Health {
  if (status.pending_active_hc === true || status.excluded_via_immediate_hc_fail === true) return 'excluded';
  const degraded = 'failed_active_degraded_check';
  const failed = Object.entries(status).some(([k, v]) => k.startsWith('failed_') && k !== degraded && v === true);
  const reported = healthOf(asString(status.eds_health_status));
  if (failed && reported !== 'excluded') return 'unhealthy';
  return reported === 'healthy' && status[degraded] === true ? 'degraded' : reported;
}

function hostOf(status: JsonObject): Host | undefined {
  const socket = asObject(asObject(status.address)?.socket_address);
  if (!socket) return undefined;
  return {
    address: asString(socket.address),
    port: Number(socket.port_value),
    health: healthStatus(asObject(status.health_status) ?? {}),
    priority: Number(status.priority ?? 0),
  };
}

/** The hosts of each cluster; those of a cluster with a host that the kernel cannot use are left out. */
export function parseClusters(text: string): Map<string, Host[]> {
  const found = new Map<string, Host[]>();
  const statuses = asObject(JSON.parse(text) as JsonObject)?.cluster_statuses;
  for (const status of asObjects(statuses)) {
    const hosts = asObjects(status.host_statuses).map(hostOf);
    if (hosts.every((host) => host !== undefined)) found.set(asString(status.name), hosts);
  }
  return found;
}

interface Found {
  readonly hosts: readonly FollowedHost[];
  readonly states: readonly HostState[];
}

interface InForce extends Found {
  readonly rooms: HostRooms;
}

const NOTHING: Found = { hosts: [], states: [] };

function same(a: Found, b: Found): boolean {
  return (
    a.hosts.length === b.hosts.length &&
    a.hosts.every(({ id }, i) => id === b.hosts[i]!.id) &&
    a.states.every((s, i) => s.health === b.states[i]!.health && s.priority === b.states[i]!.priority)
  );
}

/** The clusters that the proxy is asked about. */
function asked({ followed }: Pick<CompiledImage, 'followed'>): Map<string, FollowedCluster> {
  return new Map([...followed].filter(([, { plan }]) => !plan.followed.detection));
}

export class Discovery {
  #hosts = new Map<string, Host[]>();
  #clusters: ReadonlyMap<string, FollowedCluster> = new Map();
  #inForce = new Map<string, InForce>();
  #prepared = new Map<string, InForce>();
  #fixed: ReadonlyMap<number, number> = new Map();
  #bounds: ReadonlyMap<number, Bounds> = new Map();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly context: DiscoveryContext) {}

  /** Asks the proxy, and writes what it knows into an image that is not in force yet. */
  async prepare(compiled: Pick<CompiledImage, 'image' | 'followed'>): Promise<void> {
    this.#prepared = new Map();
    const followed = asked(compiled);
    if (followed.size === 0) return;
    await this.#ask(followed);
    for (const [name, cluster] of followed) {
      const now = this.#now(cluster);
      const rooms = new HostRooms(cluster);
      rooms.prepare(compiled.image, now.hosts, now.states);
      this.#prepared.set(name, { ...now, rooms });
    }
  }

  /**
   * An image that was prepared is in force.
   * @param fixed endpoints that its clusters lead to whatever the proxy finds, with how long connections may be idle
   * @param bounds how many connections there may be to these
   */
  enforce(
    compiled: Pick<CompiledImage, 'image' | 'followed'>,
    fixed: ReadonlyMap<number, number>,
    bounds: ReadonlyMap<number, Bounds>,
  ): void {
    this.#fixed = fixed;
    this.#bounds = bounds;
    this.#clusters = asked(compiled);
    const before = this.#inForce;
    this.#inForce = this.#prepared;
    this.#retire([...before.values()].flatMap(({ hosts }) => hosts));
    this.#tellLimits();
    this.#schedule(this.#period());
  }

  /** Who may take the traffic of a cluster of the image in force. */
  hosts(cluster: string): readonly FollowedHost[] {
    return this.#inForce.get(cluster)?.hosts ?? [];
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #period(): number {
    return [...this.#clusters.values()].some(({ plan }) => !plan.followed.names) ? HEALTH_MS : NAMES_MS;
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#clusters.size === 0) return;
    this.#timer = setTimeout(() => void this.#poll(), ms);
    this.#timer.unref();
  }

  async #poll(): Promise<void> {
    const clusters = this.#clusters;
    const begun = performance.now();
    await this.#ask(clusters);
    const took = performance.now() - begun;
    if (this.#stopped || this.#clusters !== clusters) return; // the next generation asks for itself
    for (const [name, cluster] of clusters) {
      const before = this.#inForce.get(name);
      const now = this.#now(cluster);
      if (before && same(before, now)) continue;
      const rooms = before?.rooms ?? new HostRooms(cluster);
      rooms.change(this.context.setHosts, now.hosts, now.states);
      this.#inForce.set(name, { ...now, rooms });
      if (before) this.#retire(before.hosts);
      this.#tellLimits();
    }
    this.#schedule(Math.max(this.#period(), took * SPARING));
  }

  async #ask(clusters: ReadonlyMap<string, FollowedCluster>): Promise<void> {
    const names = new Set([...clusters.values()].map(({ plan }) => plan.followed.cluster));
    const filter = `^(${[...names].map((name) => name.replace(/[^\w]/g, '\\$&')).join('|')})$`;
    try {
      const text = await this.context.clusters(filter.length > MAX_FILTER ? '' : filter);
      if (text !== undefined) this.#hosts = parseClusters(text);
    } catch {
      // a proxy that does not answer knows nothing new
    }
  }

  #now({ plan }: FollowedCluster): Found {
    const found = this.#hosts.get(plan.followed.cluster);
    if (!found) return NOTHING;
    try {
      return plan.followed.names ? this.#found(plan, found) : this.#checked(plan, found);
    } catch {
      return NOTHING; // no more room for endpoints: the proxy balances
    }
  }

  #found({ relay, breaker }: FollowedCluster['plan'], found: readonly Host[]): Found {
    // a connection to each is opened whatever is allowed
    const waiting = breaker?.waiting !== undefined;
    if (found.length > MAX_DISCOVERED || (waiting && found.length > breaker.most)) return NOTHING;
    const hosts = found.map(({ address, port }) => {
      return { address, port, weight: 1, id: this.context.endpointId(address, port, relay && relayId(relay)) };
    });
    return { hosts, states: found.map(({ health, priority }) => ({ health, priority, locality: 0 })) };
  }

  /** Addresses that the files name, with the health that the proxy has found. */
  #checked({ endpoints, followed, relay }: FollowedCluster['plan'], found: readonly Host[]): Found {
    const byAddress = new Map(found.map((host) => [hostKey(host.address, host.port), host]));
    const states = endpoints.map(({ address, port }, i): HostState | undefined => {
      const host = byAddress.get(hostKey(address, port));
      return host && { ...followed.hosts[i]!, health: host.health, priority: host.priority };
    });
    // while it has others than the files say, it balances alone
    if (!states.every((state) => state !== undefined)) return NOTHING;
    return {
      hosts: endpoints.map((e) => ({ ...e, id: this.context.endpointId(e.address, e.port, relay && relayId(relay)) })),
      states,
    };
  }

  #tellLimits(): void {
    const times = new Map(this.#fixed);
    const bounds = new Map(this.#bounds);
    for (const [name, { hosts }] of this.#inForce) {
      const { idleMs = HOUR_MS, breaker } = this.#clusters.get(name)?.plan ?? {};
      for (const { id } of hosts) {
        times.set(id, shorter(times.get(id), idleMs));
        bounds.set(id, bounded(bounds.get(id), breaker));
      }
    }
    this.context.limits(times, bounds);
  }

  #retire(hosts: readonly FollowedHost[]): void {
    const used = new Set([...this.#inForce.values()].flatMap((f) => f.hosts.map(({ id }) => id)));
    for (const id of new Set(hosts.map((host) => host.id)))
      if (!used.has(id) && !this.#fixed.has(id)) this.context.retire(id);
  }
}
