/** Buckets of rate limits for tests that count: they begin full, and take longer to get a token than any test. */
import { bucketTimes } from '../../src/agent/token-buckets.js';
import { FIGURE } from '../../src/layout/actions.js';
import { BUCKET_SHIFT, BucketSpec } from '../../src/layout/counts.js';
import { set } from '../../src/layout/struct.js';
import type { TokenBucket } from '../../src/plan/ir.js';
import type { Kernel } from './kernel.js';

/** The interpreter's. */
export class TestBuckets {
  readonly #left: number[];
  /** @param buckets by index */
  constructor(private readonly buckets: readonly TokenBucket[]) {
    this.#left = buckets.map(({ maxTokens }) => maxTokens);
  }
  #taken: number[] = [];

  /** Takes a token. @returns whether there is one */
  take(index: number): boolean {
    const left = (this.#left[index] ?? 0) > 0;
    if (left) {
      this.#left[index]!--;
      this.#taken.push(index);
    }
    return left;
  }

  /** What x-ratelimit headers say. @param of a FIGURE */
  figure(index: number, of: number): number {
    const { maxTokens, fillMs, tokensPerFill } = this.buckets[index]!;
    const left = this.#left[index]!;
    if (of === FIGURE.LIMIT) return maxTokens;
    if (of === FIGURE.REMAINING) return left;
    return left > 0 ? 0 : Math.ceil(fillMs / tokensPerFill / 1000);
  }

  /** A request is decided. @param proxys it is the proxy's, and has taken nothing */
  end(proxys: boolean): void {
    if (proxys) for (const index of this.#taken) this.#left[index]!++;
    this.#taken = [];
  }
}

/** The kernel's. */
export function fillBuckets(kernel: Kernel, buckets: readonly TokenBucket[]): void {
  // a clock that is behind bpf_ktime_get_ns by less than a bucket's token takes
  const now = process.hrtime.bigint() << BigInt(BUCKET_SHIFT);
  for (const [index, bucket] of buckets.entries()) {
    const { cost, most } = bucketTimes(bucket);
    const write = (field: string, value: bigint) =>
      set(kernel.buckets.view, index * BucketSpec.size, BucketSpec, field, BigInt.asUintN(64, value));
    write('cost', cost);
    write('most', most);
    write('at', now - most);
  }
}
