import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { BpfObject } from '../../src/kernel/libbpf.js';
import { bpfObjectPath } from '../../src/kernel/object-path.js';
import { CtlSpec } from '../../src/layout/control.js';
import { COUNTER } from '../../src/layout/counts.js';
import { ConnSpec, EndpointSpec, MAX_UPSTREAMS, UpstreamSpec } from '../../src/layout/exchanges.js';
import { IMAGE_SIZE, IMAGE_SLACK } from '../../src/layout/image.js';
import { ArrivalSpec, NetnsSpec, SteerKeySpec, SteerSpec, TupleSpec } from '../../src/layout/steering.js';
import type { StructSpec } from '../../src/layout/struct.js';
import { needsRoot } from './compile-bpf.js';

/**
 * The verifier gives up at one million instructions; a program that comes near would fail on another kernel. Every start of an
 * instance takes 1.5 s for a million of them, too.
 */
const BUDGET = 400_000;

describe('the shipped object', { skip: needsRoot }, () => {
  let object: BpfObject;
  before(() => {
    execFileSync(new URL('../../script/build-bpf', import.meta.url).pathname);
    object = BpfObject.open(bpfObjectPath());
    object.load();
  });
  after(() => object.close());

  it("leaves room below the verifier's limit", (t) => {
    for (const name of object.programNames()) {
      const { verifiedInstructions, jitedBytes } = object.program(name).info();
      t.diagnostic(`${name}: ${verifiedInstructions} instructions verified, ${jitedBytes} bytes of machine code`);
      assert.ok(verifiedInstructions < BUDGET, name);
      assert.ok(jitedBytes > 0, `${name} is not compiled to machine code`);
    }
  });

  it('has maps of the sizes that TypeScript reads and writes', () => {
    const sizes: [map: string, key: number, value: number | StructSpec][] = [
      ['upstreams', 4, UpstreamSpec],
      ['endpoints', 4, EndpointSpec],
      ['conns', 4, ConnSpec],
      ['steers', SteerKeySpec.size, SteerSpec],
      ['namespaces', 8, NetnsSpec],
      ['tuples', TupleSpec.size, ArrivalSpec],
      ['image0', 4, IMAGE_SIZE + IMAGE_SLACK],
    ];
    for (const [name, key, value] of sizes) {
      const { shape } = object.map(name);
      assert.equal(shape.keySize, key, `key of ${name}`);
      assert.equal(shape.valueSize, typeof value === 'number' ? value : value.size, `value of ${name}`);
    }
    assert.equal(object.map('upstreams').shape.maxEntries, MAX_UPSTREAMS);
    assert.ok(object.map('counters').shape.maxEntries > Math.max(...Object.values(COUNTER)));
    assert.ok(CtlSpec.size <= 256);
  });

  it('shares the pools with this process', () => {
    for (const name of ['upstreams', 'blocks', 'endpoints', 'replays']) {
      const map = object.map(name);
      const memory = map.mmap();
      assert.ok(memory.bytes.length >= map.stride * map.shape.maxEntries);
      assert.ok(
        memory.bytes.every((b) => b === 0),
        `${name} starts empty`,
      );
      memory.unmap();
    }
  });
});
