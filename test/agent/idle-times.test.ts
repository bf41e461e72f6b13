import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IdleTime, roundEvery } from '../../src/agent/idle-connections.js';
import { TokenBuckets } from '../../src/agent/token-buckets.js';
import { BucketSpec } from '../../src/layout/counts.js';
import { downstreamIdle, shorter, upstreamIdleMs } from '../../src/plan/idle-times.js';
import type { JsonObject } from '../../src/policy/resources.js';

const MS = 1_000_000n;

describe('idle times', () => {
  it('count from the first look that found what the last one finds', () => {
    const idle = new IdleTime();
    assert.equal(idle.look(0, 1000), 0);
    assert.equal(idle.look(0, 1500), 500);
    assert.equal(idle.look(3, 2000), 0);
    assert.equal(idle.look(undefined, 2500), 0); // in use
    assert.equal(idle.look(3, 3000), 0);
    assert.equal(idle.look(3, 3700), 700);
  });

  it('are looked at often enough', () => {
    assert.equal(roundEvery([]), 10_000);
    assert.equal(roundEvery([0, 3_600_000]), 10_000);
    assert.equal(roundEvery([3_600_000, 1000]), 125);
    assert.equal(roundEvery([1]), 20);
  });

  it('are an hour unless a configuration says otherwise, and 0 is for ever', () => {
    const common = (idle_timeout: string): JsonObject => ({ common_http_protocol_options: { idle_timeout } });
    assert.equal(upstreamIdleMs({}), 3_600_000);
    assert.equal(upstreamIdleMs(common('2s')), 2000);
    assert.equal(upstreamIdleMs({ typed_extension_protocol_options: { x: common('0s') } }), 0);
    const listener = (config: JsonObject): JsonObject => {
      const type =
        'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
      return { filter_chains: [{ filters: [{ typed_config: { '@type': type, ...config } }] }] };
    };
    assert.deepEqual(downstreamIdle(listener({})), { idleMs: 3_600_000, closingMs: 6000 });
    const short = { ...common('1.5s'), drain_timeout: '0.1s', delayed_close_timeout: '0s' };
    assert.deepEqual(downstreamIdle(listener(short)), { idleMs: 1500, closingMs: 100 });
    assert.deepEqual([shorter(undefined, 0), shorter(0, 5), shorter(5, 0), shorter(7, 5)], [0, 5, 5, 5]);
  });
});

describe('figures of a bucket', () => {
  it('are reckoned as Envoy does', () => {
    let now = 10n ** 12n;
    const bytes = new Uint8Array(BucketSpec.size);
    const buckets = new TokenBuckets({
      mapping: { bytes, view: new DataView(bytes.buffer) } as never,
      draw: () => undefined,
      now: () => now,
    });
    const view = new DataView(bytes.buffer);
    const at = BucketSpec.at.at!.offset;
    buckets.place({ key: 'a', maxTokens: 2, tokensPerFill: 1, fillMs: 10_000 });
    const take = () => view.setBigUint64(at, view.getBigUint64(at, true) + 10_000n * MS * 16n, true);
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 2, reset: 0 });
    take();
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 1, reset: 0 });
    take();
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 0, reset: 10 });
    now += 1n;
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 0, reset: 10 });
    now += 9000n * MS;
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 0, reset: 1 });
    now += 1000n * MS;
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 1, reset: 0 });
    now += 100_000n * MS;
    assert.deepEqual(buckets.figures('a'), { limit: 2, remaining: 2, reset: 0 });
    assert.equal(buckets.figures('b'), undefined);
  });
});
