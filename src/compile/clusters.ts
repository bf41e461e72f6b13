/** Clusters of the plan as structures of the image. */

import { ClusterSpec, EndpointListSpec, EndpointRefSpec, HostListSpec, HostSetSpec, LB } from '../layout/clusters.js';
import { type HostState, hostSets } from '../plan/host-sets.js';
import type { Breaker, ClusterPlan, EndpointPlan, FollowedPlan } from '../plan/ir.js';
import { relayId } from '../plan/upstream-tls.js';
import type { Blob } from './blob.js';
import { type Chooser, Room, storeHostSets, together } from './host-sets.js';

/** A cluster of which only the running proxy knows who takes traffic, and where the image has that. */
export interface FollowedCluster {
  readonly plan: ClusterPlan & { readonly followed: FollowedPlan };
  /** of the cluster's `sets` member, which leads into one of the rooms, or to `nothing` */
  readonly pointer: number;
  /** host_sets without any: the proxy answers */
  readonly nothing: number;
  /** one is in force while the other is written */
  readonly rooms: readonly [number, number];
  /** bytes of a room */
  readonly room: number;
  /** index of the first counter of the cluster's own; there are COUNTERS of them */
  readonly counter: number;
}

/** A host as the proxy has it: where it is beside its address, and what is known of it. */
export interface FollowedHost extends EndpointPlan {
  readonly id: number;
  /** where its failures are counted */
  readonly watch?: number;
}

/** Writes who takes the traffic of a cluster into one of its two rooms in an image, and puts it in force. */
export type SetHosts = (
  cluster: FollowedCluster,
  room: 0 | 1,
  hosts: readonly FollowedHost[],
  states: readonly HostState[],
) => void;

/** Most endpoints of a cluster whose addresses are found out at run time; with more, the proxy balances. */
export const MAX_DISCOVERED = 128;
/** Priorities of such a cluster for which there is certainly room. */
const DISCOVERED_PRIORITIES = 4;
/** Turns of a weighted schedule for which there is room where the weights in force are found out at run time. */
const ROOM_FOR_TURNS = 512;
const LBS = {
  round_robin: LB.ROUND_ROBIN,
  random: LB.RANDOM,
  least_request: LB.LEAST_REQUEST,
  ring_hash: LB.RING_HASH,
  maglev: LB.MAGLEV,
};

/** Bytes for what may be in force of a followed cluster. What needs more is the proxy's meanwhile. */
function roomOf({ endpoints, table, followed }: FollowedCluster['plan']): number {
  const n = followed.names ? MAX_DISCOVERED : endpoints.length;
  const priorities = followed.names ? DISCOVERED_PRIORITIES : 1 + Math.max(0, ...followed.hosts.map((h) => h.priority));
  const sets = 2 * priorities;
  const weighted = new Set(endpoints.map((e) => e.weight)).size > 1;
  const turns = followed.balancing.localityWeights ? ROOM_FOR_TURNS + n : 1;
  const refs = 2 * n + (weighted ? priorities * ROOM_FOR_TURNS : 0);
  const lists = followed.balancing.localityWeights ? 2 * n : sets;
  let tables = 0;
  if (table?.kind === 'maglev') tables = (2 * table.size + 8) * priorities;
  // a ring has its smallest size, and more where hosts of little weight must have an entry
  else if (table) tables = 10 * (2 * table.minimum + 2 * n) * priorities;
  return (
    8 +
    sets * (HostSetSpec.size + turns * HostListSpec.size) +
    lists * EndpointListSpec.size +
    refs * EndpointRefSpec.size +
    tables
  );
}

/** Where the counters of the sets and lists of one cluster are, from its first one on. */
const COUNTERS = 16;
function countersFrom(first: number): (k: number, i?: number) => number {
  return (k, i) => (i === undefined ? first + (k % COUNTERS) : first + ((k + 1 + i) % COUNTERS));
}

/**
 * Writes who takes the traffic of a followed cluster into one of its rooms.
 * @returns the offset for the cluster's `sets` member; that of `nothing` where there is no room for it
 */
export function writeHostSets(
  image: Uint8Array,
  cluster: FollowedCluster,
  room: 0 | 1,
  hosts: readonly FollowedHost[],
  states: FollowedPlan['hosts'],
): number {
  const { plan } = cluster;
  const sets = hostSets(states, plan.followed.balancing);
  const space = new Room(image, cluster.rooms[room], cluster.room);
  try {
    const at = storeHostSets(space, plan, hosts, hosts, sets, countersFrom(cluster.counter));
    return typeof at === 'number' ? at : cluster.nothing;
  } catch (error) {
    if (error instanceof RangeError) return cluster.nothing;
    throw error;
  }
}

/** Puts host sets in force in an image that no program reads. */
export function useHostSets(image: Uint8Array, cluster: FollowedCluster, at: number): void {
  new DataView(image.buffer, image.byteOffset).setUint32(cluster.pointer, at, true);
}

/** The index of a breaker's counter; undefined: the proxy alone can count. */
export type BreakerIndex = (breaker: Breaker) => number | undefined;

interface Stored {
  readonly at: number;
  readonly followed?: FollowedCluster;
}

/** Stores clusters, each once. */
export class Clusters {
  readonly #stored = new Map<string, Stored>();
  #counters: number;

  constructor(
    private readonly blob: Blob,
    private readonly plans: ReadonlyMap<string, { readonly plan: ClusterPlan; readonly counter: number }>,
    private readonly endpointId: (address: string, port: number, relay?: string) => number,
    private readonly breakerIndex: BreakerIndex,
  ) {
    this.#counters = plans.size;
  }

  /** The offset of a cluster, or why it cannot be stored. @throws ImageFull */
  store(name: string): number | { readonly code: string; readonly message: string } {
    const known = this.#stored.get(name);
    if (known) return known.at;
    const found = this.plans.get(name);
    if (!found) return { code: 'cluster-unknown', message: `cluster ${name} is not known` };
    const { plan, counter } = found;
    const breaker = plan.breaker ? this.breakerIndex(plan.breaker) : -1;
    if (breaker === undefined)
      return { code: 'circuit-breaker', message: `requests of ${plan.name} in flight: ${plan.breaker?.most}` };
    const stored = isFollowed(plan) ? this.#followed(plan, breaker + 1) : this.#fixed(plan, counter, breaker + 1);
    if ('code' in stored) return stored;
    this.#stored.set(name, stored);
    return stored.at;
  }

  /** Forgets what was stored behind `mark`. */
  rollback(mark: number): void {
    for (const [name, { at, followed }] of this.#stored)
      if (at >= mark || (followed?.rooms[0] ?? 0) >= mark) this.#stored.delete(name);
  }

  /** Clusters that were stored without endpoints, by name. */
  followed(): ReadonlyMap<string, FollowedCluster> {
    const found = [...this.#stored.values()].flatMap(({ followed }) => (followed ? [followed] : []));
    return new Map(found.map((f) => [f.plan.name, f]));
  }

  /** Counters of a cluster's own. */
  #counter(): number {
    const first = this.#counters;
    this.#counters += COUNTERS;
    return first;
  }

  #followed(plan: FollowedCluster['plan'], breaker: number): Stored {
    const room = roomOf(plan);
    const rooms = [this.blob.allocate(room, 8), this.blob.allocate(room, 8)] as const;
    const nothing = this.#put(plan, [], [], 0) as number;
    // never shared with another cluster: it changes
    const own = { connect_ms: plan.connectMs ?? 0 };
    const at = this.blob.allocate(ClusterSpec.size, 8);
    this.blob.write(at, ClusterSpec, {
      lb: LBS[plan.lb],
      sets: nothing,
      max_requests: plan.maxRequests ?? 0,
      breaker,
      ...own,
    });
    const pointer = at + ClusterSpec.at.sets!.offset;
    return { at, followed: { plan, pointer, nothing, rooms, room, counter: this.#counter() } };
  }

  #put(
    plan: Chooser & Pick<ClusterPlan, 'relay'>,
    endpoints: readonly EndpointPlan[],
    sets: ClusterPlan['sets'] & object,
    counter: number,
  ) {
    const ids = endpoints.map((e) => ({ id: this.endpointId(e.address, e.port, plan.relay && relayId(plan.relay)) }));
    const space = { put: (bytes: Uint8Array, align: 4 | 8) => this.blob.intern(bytes, align) };
    return storeHostSets(space, plan, endpoints, ids, sets, countersFrom(counter));
  }

  #fixed(plan: ClusterPlan, counter: number, breaker: number): Stored | { code: string; message: string } {
    const { endpoints } = plan;
    const sets = plan.sets ?? (endpoints.length > 0 ? together(endpoints.length) : []);
    const stored = this.#put(plan, endpoints, sets, plan.sets ? this.#counter() : counter);
    if (typeof stored === 'string') return { code: 'budget', message: `the cluster ${plan.name} ${stored}` };
    const { maxRequests = 0, connectMs = 0 } = plan;
    return {
      at: this.blob.structs(ClusterSpec, [
        { lb: LBS[plan.lb], sets: stored, max_requests: maxRequests, breaker, connect_ms: connectMs },
      ]),
    };
  }
}

function isFollowed(plan: ClusterPlan): plan is FollowedCluster['plan'] {
  return plan.followed !== undefined;
}
