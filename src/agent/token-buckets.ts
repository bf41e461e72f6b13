/** The token buckets that the kernel's programs take from (bpf/bucket.h): who has which place, and what is in it. */
import type { Mapping } from '../kernel/libbpf.js';
import { BUCKET_SHIFT, BucketSpec, MAX_BUCKETS } from '../layout/counts.js';
import { getBig, set } from '../layout/struct.js';
import type { Figure, TokenBucket } from '../plan/ir.js';

/** What the data plane does for buckets. */
export interface BucketPlane {
  /** the map of buckets in this process's memory */
  readonly mapping: Mapping;
  /** takes a token of the bucket at a place. @returns whether there was one; undefined: ask again */
  draw(place: number): boolean | undefined;
  /** bpf_ktime_get_ns */
  now(): bigint;
}

const UNIT = 1n << BigInt(BUCKET_SHIFT);
const SECOND = 1_000_000_000n * UNIT;
const TRIES = 100;

/** The time in which a token comes, and in which the bucket fills, in 1/16 ns, so that a full one has just its tokens. */
export function bucketTimes({ maxTokens, tokensPerFill, fillMs }: TokenBucket): { cost: bigint; most: bigint } {
  const per = BigInt(tokensPerFill);
  const cost = (BigInt(Math.round(fillMs)) * 1_000_000n * UNIT + per / 2n) / per || 1n;
  return { cost, most: cost * BigInt(maxTokens) };
}

/** Buckets by key. A bucket begins full, and keeps what it has as long as some generation of the policy knows its key. */
export class TokenBuckets {
  readonly #places = new Map<string, number>();
  readonly #free: number[] = [];
  #used = 0;
  /** keys asked for since the last generation came into force, and of that one */
  #next = new Set<string>();
  #current = new Set<string>();

  constructor(private readonly plane: BucketPlane) {}

  /** Where a bucket is; it is made if it is not there. undefined: there is no room. */
  place(bucket: TokenBucket): number | undefined {
    const { key } = bucket;
    const known = this.#places.get(key);
    this.#next.add(key);
    if (known !== undefined) return known;
    const place = this.#free.pop() ?? (this.#used < MAX_BUCKETS ? this.#used++ : undefined);
    if (place === undefined) return undefined;
    const { cost, most } = bucketTimes(bucket);
    const { view } = this.plane.mapping;
    const base = place * BucketSpec.size;
    // nobody reads it yet: a place is given again when no program, and no request at the proxy, can mean the old one
    set(view, base, BucketSpec, 'cost', cost);
    set(view, base, BucketSpec, 'most', most);
    set(view, base, BucketSpec, 'at', BigInt.asUintN(64, this.plane.now() * UNIT - most));
    this.#places.set(key, place);
    return place;
  }

  /**
   * The generation for which places were asked since the last call is in force. Buckets that neither it nor the one before
   * knows are given up.
   */
  enforced(): void {
    const kept = new Set([...this.#next, ...this.#current]);
    for (const [key, place] of this.#places) {
      if (kept.has(key)) continue;
      this.#places.delete(key);
      this.#free.push(place);
    }
    this.#current = this.#next;
    this.#next = new Set();
  }

  /** A figure of the bucket at a place as Envoy reckons it, now. */
  figure(place: number, of: Figure): number {
    const { view } = this.plane.mapping;
    const read = (field: string) => getBig(view, place * BucketSpec.size, BucketSpec, field);
    const [cost, most] = [read('cost'), read('most')];
    if (of === 'limit' || cost === 0n) return Number(cost && most / cost);
    const since = this.plane.now() * UNIT - BigInt.asIntN(64, read('at'));
    const held = since < 0n ? 0n : since < most ? since : most;
    if (of === 'remaining') return Number(held / cost);
    return held >= cost ? 0 : Number((cost - held + SECOND - 1n) / SECOND);
  }

  /** The figures of a bucket; undefined: there is no such bucket */
  figures(key: string): Readonly<Record<Figure, number>> | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    const read = (of: Figure) => this.figure(place, of);
    return { limit: read('limit'), remaining: read('remaining'), reset: read('reset') };
  }

  /** Takes a token. @returns whether there was one; undefined: there is no such bucket */
  take(key: string): boolean | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    for (let i = 0; i < TRIES; i++) {
      const taken = this.plane.draw(place);
      if (taken !== undefined) return taken;
    }
    return undefined;
  }
}
