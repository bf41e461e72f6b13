/** Clusters of the plan as structures of the image: endpoints, schedules of weights, hash tables. */
import { ClusterSpec, EndpointListSpec, EndpointRefSpec, LB, MAX_TABLE } from '../layout/image.js';
import { set } from '../layout/struct.js';
import type { ClusterPlan, EndpointPlan } from '../plan/ir.js';
import type { Blob } from './blob.js';
import { type HashTable, maglevTable, ringTable } from './hash-table.js';

/** A cluster whose endpoints are found out at run time, and where the image has them. */
export interface DiscoveredCluster {
  readonly plan: ClusterPlan;
  /** of the cluster's `endpoints` member, which says which of the two lists is in force */
  readonly pointer: number;
  /** two lists with room for MAX_DISCOVERED endpoints: one is in force while the other is written */
  readonly lists: readonly [number, number];
}

/** Most endpoints of a cluster that are found out at run time; with more, the proxy balances. */
export const MAX_DISCOVERED = 128;
/** Longest schedule of weights. */
const MAX_SCHEDULE = 4096;
const LBS = {
  round_robin: LB.ROUND_ROBIN,
  random: LB.RANDOM,
  least_request: LB.LEAST_REQUEST,
  ring_hash: LB.RING_HASH,
  maglev: LB.MAGLEV,
};

/** Writes an endpoint_list with room for MAX_DISCOVERED endpoints into an image. @throws RangeError when there are more */
export function writeEndpointList(image: Uint8Array, at: number, ids: readonly number[]): void {
  if (ids.length > MAX_DISCOVERED) throw new RangeError(`${ids.length} endpoints`);
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  ids.forEach((id, i) => {
    set(view, at + EndpointListSpec.size + i * EndpointRefSpec.size, EndpointRefSpec, 'id', id);
  });
  set(view, at, EndpointListSpec, 'n', ids.length);
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/**
 * One round of weighted round robin: each endpoint as often as its weight says (divided by what all have in common),
 * spread as an earliest-deadline-first schedule spreads them.
 * @returns undefined when the round would be longer than `limit`
 */
export function schedule(weights: readonly number[], limit: number): number[] | undefined {
  const common = weights.reduce(divisor, 0);
  const shares = weights.map((weight) => weight / common);
  const length = shares.reduce((sum, share) => sum + share, 0);
  if (length > limit) return undefined;
  const deadlines = shares.map((share) => 1 / share);
  const turns: number[] = [];
  for (let i = 0; i < length; i++) {
    let first = 0;
    for (let k = 1; k < deadlines.length; k++) if (deadlines[k]! < deadlines[first]! - 1e-9) first = k;
    turns.push(first);
    deadlines[first]! += 1 / shares[first]!;
  }
  return turns;
}

/** Stores clusters, each once. */
export class Clusters {
  readonly #stored = new Map<string, { at: number; discovered?: DiscoveredCluster }>();

  constructor(
    private readonly blob: Blob,
    private readonly plans: ReadonlyMap<string, { readonly plan: ClusterPlan; readonly counter: number }>,
    private readonly endpointId: (address: string, port: number) => number,
  ) {}

  /** The offset of a cluster, or why it cannot be stored. @throws ImageFull */
  store(name: string): number | { readonly code: string; readonly message: string } {
    const known = this.#stored.get(name);
    if (known) return known.at;
    const found = this.plans.get(name);
    if (!found) return { code: 'cluster-unknown', message: `cluster ${name} is not known` };
    const { plan, counter } = found;
    const stored = plan.discovered ? this.#discovered(plan, counter) : this.#fixed(plan, counter);
    if ('code' in stored) return stored;
    this.#stored.set(name, stored);
    return stored.at;
  }

  /** Forgets what was stored behind `mark`. */
  rollback(mark: number): void {
    for (const [name, { at, discovered }] of this.#stored)
      if (at >= mark || (discovered?.lists[0] ?? 0) >= mark) this.#stored.delete(name);
  }

  /** Clusters that were stored without endpoints, by name. */
  discovered(): ReadonlyMap<string, DiscoveredCluster> {
    const found = [...this.#stored.values()].flatMap(({ discovered }) => (discovered ? [discovered] : []));
    return new Map(found.map((d) => [d.plan.name, d]));
  }

  #discovered(plan: ClusterPlan, counter: number): { at: number; discovered: DiscoveredCluster } {
    const room = EndpointListSpec.size + MAX_DISCOVERED * EndpointRefSpec.size;
    const lists = [this.blob.allocate(room, 8), this.blob.allocate(room, 8)] as const;
    // never shared with another cluster: it changes
    const at = this.blob.allocate(ClusterSpec.size, 8);
    const max_requests = plan.maxRequests ?? 0;
    this.blob.write(at, ClusterSpec, { lb: LBS[plan.lb], endpoints: lists[0], counter, max_requests });
    return { at, discovered: { plan, pointer: at + ClusterSpec.at.endpoints!.offset, lists } };
  }

  #fixed(plan: ClusterPlan, counter: number): { at: number } | { code: string; message: string } {
    const { endpoints } = plan;
    const ids = endpoints.map((e) => this.endpointId(e.address, e.port));
    const list = order(plan);
    if (!list) return { code: 'budget', message: `the weights of cluster ${plan.name} make too long a schedule` };
    const head = new Uint8Array(EndpointListSpec.size);
    new DataView(head.buffer).setUint32(0, list.length, true);
    const refs = list.map((i) => ({ id: ids[i]! }));
    const at = {
      lb: LBS[plan.lb],
      endpoints: this.blob.structs(EndpointRefSpec, refs, head),
      counter,
      max_requests: plan.maxRequests ?? 0,
    };
    if (!plan.table || endpoints.length === 0) return { at: this.blob.structs(ClusterSpec, [at]) };
    const table = tableOf(plan.table, endpoints);
    if (!table) return { code: 'budget', message: `the hash table of cluster ${plan.name} is too large` };
    const bytes = (array: { buffer: ArrayBufferLike }) => new Uint8Array(array.buffer);
    return {
      at: this.blob.structs(ClusterSpec, [
        {
          ...at,
          table: table.hashes ? this.blob.intern(bytes(table.hashes), 8) : 0,
          members: this.blob.intern(bytes(table.members)),
          n_table: table.members.length,
        },
      ]),
    };
  }
}

/** Indexes of the endpoints in the order of the list; only round robin observes weights there. */
function order(plan: ClusterPlan): number[] | undefined {
  const weights = plan.endpoints.map((e) => e.weight);
  if (plan.lb === 'round_robin' && new Set(weights).size > 1) return schedule(weights, MAX_SCHEDULE);
  return weights.map((_, i) => i);
}

function tableOf(table: NonNullable<ClusterPlan['table']>, endpoints: readonly EndpointPlan[]): HashTable | undefined {
  if (endpoints.some((e) => !e.hashKey)) return undefined;
  if (table.kind === 'ring') return ringTable(endpoints, table.minimum, table.maximum, MAX_TABLE);
  return table.size > MAX_TABLE ? undefined : maglevTable(endpoints, table.size);
}
