/** How the traffic of a cluster is spread over its endpoints, as structures of the image (bpf/balance.h reads them). */
import {
  EndpointListSpec,
  EndpointRefSpec,
  HostListSpec,
  HostSetSpec,
  HostSetsSpec,
  MAX_HOST_SETS,
  MAX_TABLE,
} from '../layout/clusters.js';
import { type StructSpec, set } from '../layout/struct.js';
import type { HostSet } from '../plan/host-sets.js';
import type { ClusterPlan, EndpointPlan } from '../plan/ir.js';
import { type HashTable, maglevTable, ringTable } from './hash-table.js';

/** Where structures are stored. `put` returns their offset. @throws RangeError (or ImageFull) when there is no room */
export interface Space {
  put(bytes: Uint8Array, align: 4 | 8): number;
}

/** What of the cluster's plan says how its endpoints are chosen. */
export type Chooser = Pick<ClusterPlan, 'lb' | 'table'>;

/** Longest schedule of weights. */
const MAX_SCHEDULE = 4096;

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/**
 * One round of weighted round robin: each member as often as its weight says (divided by what all have in common),
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

/** Indexes of a list's members in the order of their turns; only round robin observes weights there. */
function order(lb: ClusterPlan['lb'], members: readonly EndpointPlan[]): number[] | undefined {
  const weights = members.map((e) => e.weight);
  if (lb === 'round_robin' && new Set(weights).size > 1) return schedule(weights, MAX_SCHEDULE);
  return weights.map((_, i) => i);
}

function tableOf(table: NonNullable<ClusterPlan['table']>, endpoints: readonly EndpointPlan[]): HashTable | undefined {
  if (endpoints.some((e) => !e.hashKey)) return undefined;
  if (table.kind === 'ring') return ringTable(endpoints, table.minimum, table.maximum, MAX_TABLE);
  return table.size > MAX_TABLE ? undefined : maglevTable(endpoints, table.size);
}

type Row = Readonly<Record<string, number>>;

/** Structures one after the other, behind a header of their number if there is one. */
function bytesOf(spec: StructSpec, rows: readonly Row[], header?: StructSpec): Uint8Array {
  const start = header?.size ?? 0;
  const view = new DataView(new ArrayBuffer(start + spec.size * rows.length));
  if (header) set(view, 0, header, 'n', rows.length);
  rows.forEach((row, i) => {
    for (const [name, value] of Object.entries(row)) set(view, start + i * spec.size, spec, name, value);
  });
  return new Uint8Array(view.buffer);
}

/** All endpoints take turns. */
export function together(n: number): HostSet[] {
  return [{ share: 100, lists: [{ weight: 1, members: Array.from({ length: n }, (_, i) => i) }] }];
}

/**
 * Stores host sets.
 *
 * @param ids of the endpoints, in their order, and where their failures are counted
 * @param counters gives the index of a counter: that of list i of set k, or of the turns of its lists (i undefined)
 * @returns the offset of the host_sets, or what is too long
 */
export function storeHostSets(
  space: Space,
  cluster: Chooser,
  endpoints: readonly EndpointPlan[],
  ids: readonly { readonly id: number; readonly watch?: number }[],
  sets: readonly HostSet[],
  counters: (k: number, i?: number) => number,
): number | string {
  if (sets.length > MAX_HOST_SETS) return 'has too many sets of endpoints';
  const rows: Row[] = [];
  for (const [k, { share, lists }] of sets.entries()) {
    const stored: Row[] = [];
    for (const [i, { members }] of lists.entries()) {
      const turns = order(
        cluster.lb,
        members.map((m) => endpoints[m]!),
      );
      if (!turns) return 'has weights that make too long a schedule';
      const refs = turns.map((t) => {
        const { id, watch = 0 } = ids[members[t]!]!;
        return { id, watch };
      });
      stored.push({
        endpoints: space.put(bytesOf(EndpointRefSpec, refs, EndpointListSpec), 8),
        counter: counters(k, lists.length > 1 ? i : undefined),
      });
    }
    const turns = schedule(
      lists.map((list) => list.weight),
      MAX_SCHEDULE,
    );
    if (!turns) return 'has localities whose weights make too long a schedule';
    const row: Record<string, number> = {
      share,
      lists: space.put(
        bytesOf(
          HostListSpec,
          turns.map((t) => stored[t]!),
        ),
        8,
      ),
      n_lists: turns.length,
      counter: counters(k),
    };
    const members = lists[0]?.members ?? [];
    if (cluster.table && members.length > 0) {
      const table = tableOf(
        cluster.table,
        members.map((m) => endpoints[m]!),
      );
      if (!table) return 'has too large a hash table';
      const bytes = (array: { buffer: ArrayBufferLike }) => new Uint8Array(array.buffer);
      row.table = table.hashes ? space.put(bytes(table.hashes), 8) : 0;
      row.members = space.put(bytes(table.members), 4);
      row.n_table = table.members.length;
    }
    rows.push(row);
  }
  return space.put(bytesOf(HostSetSpec, rows, HostSetsSpec), 8);
}

/** A part of an image that is filled anew: equal pieces are stored once. */
export class Room implements Space {
  #used = 0;
  readonly #pieces = new Map<string, number>();

  constructor(
    private readonly image: Uint8Array,
    private readonly at: number,
    private readonly size: number,
  ) {}

  put(bytes: Uint8Array, align: 4 | 8): number {
    const key = `${align}:${Buffer.from(bytes).toString('latin1')}`;
    const known = this.#pieces.get(key);
    if (known !== undefined) return known;
    const start = Math.ceil((this.at + this.#used) / align) * align;
    if (start + bytes.length > this.at + this.size) throw new RangeError('no room');
    this.image.set(bytes, start);
    this.#used = start + bytes.length - this.at;
    this.#pieces.set(key, start);
    return start;
  }
}
