/**
 * Tables of consistent hashing, built as Envoy builds them (source/extensions/load_balancing_policies/ring_hash and
 * maglev), so that the same hash leads to the same endpoint.
 */
import type { EndpointPlan } from '../plan/ir.js';
import { xxh64 } from './xxhash.js';

export interface HashTable {
  /** ring: the hashes of the entries, ascending; Maglev: undefined, the index is the hash modulo the size */
  readonly hashes: BigUint64Array | undefined;
  /** index of the endpoint of each entry */
  readonly members: Uint16Array;
}

/** Share of each endpoint, the smallest and the largest of them. */
function normalise(endpoints: readonly EndpointPlan[]): { weights: number[]; min: number; max: number } {
  const sum = endpoints.reduce((total, e) => total + e.weight, 0);
  const weights = endpoints.map((e) => e.weight / sum);
  return { weights, min: Math.min(1, ...weights), max: Math.max(0, ...weights) };
}

/**
 * A ketama ring. The number of entries of an endpoint is its weight times a scale at which the smallest gets a whole
 * number of them and all at least `minimum`.
 *
 * @param limit most entries. @returns undefined when there would be more
 */
export function ringTable(
  endpoints: readonly EndpointPlan[],
  minimum: number,
  maximum: number,
  limit: number,
): HashTable | undefined {
  const { weights, min } = normalise(endpoints);
  const scale = Math.min(Math.ceil(min * minimum) / min, maximum);
  if (Math.ceil(scale) > limit) return undefined;
  const entries: { hash: bigint; member: number }[] = [];
  let current = 0;
  let target = 0;
  endpoints.forEach((endpoint, member) => {
    target += scale * weights[member]!;
    for (let i = 0; current < target; i++, current++)
      entries.push({ hash: xxh64(Buffer.from(`${endpoint.hashKey}_${i}`)), member });
  });
  entries.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.member - b.member));
  return {
    hashes: BigUint64Array.from(entries, (e) => e.hash),
    members: Uint16Array.from(entries, (e) => e.member),
  };
}

/** A Maglev table of `size` entries (a prime): endpoints, in the order of their names, take turns in proportion. */
export function maglevTable(endpoints: readonly EndpointPlan[], size: number): HashTable {
  const { weights, max } = normalise(endpoints);
  const builders = endpoints
    .map((endpoint, member) => {
      const key = Buffer.from(endpoint.hashKey ?? '');
      const offset = Number(xxh64(key) % BigInt(size));
      const skip = Number(xxh64(key, 1n) % BigInt(size - 1)) + 1;
      return { key, member, weight: weights[member]!, target: 0, at: offset, skip };
    })
    .sort((a, b) => Buffer.compare(a.key, b.key));
  const free = 0xffff;
  const members = new Uint16Array(size).fill(free);
  let filled = 0;
  for (let turn = 1; filled < size; turn++) {
    for (const b of builders) {
      if (filled === size) break;
      if (turn * b.weight < b.target) continue;
      b.target += max;
      while (members[b.at] !== free) b.at = (b.at + b.skip) % size;
      members[b.at] = b.member;
      b.at = (b.at + b.skip) % size;
      filled++;
    }
  }
  return { hashes: undefined, members };
}

/** The entry of a hash: the first of the ring that is not smaller, or the first of all. */
export function tableIndex(hash: bigint, size: number, hashAt: ((i: number) => bigint) | undefined): number {
  if (!hashAt) return Number(hash % BigInt(size));
  let low = 0;
  let high = size;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (hashAt(middle) < hash) low = middle + 1;
    else high = middle;
  }
  return low === size ? 0 : low;
}
