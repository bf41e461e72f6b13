import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Dfa } from '../../src/compile/dfa.js';
import { equivalent } from '../../src/compile/partition.js';

/** Moore's refinement, round by round. */
function rounds({ accept, next, width }: Dfa): number[] {
  let part = [...accept];
  for (let count = new Set(part).size; ; ) {
    const blocks = new Map<string, number>();
    part = part.map((own, s) => {
      const key = [own, ...Array.from({ length: width }, (_, c) => part[next[s * width + c]!])].join();
      if (!blocks.has(key)) blocks.set(key, blocks.size);
      return blocks.get(key)!;
    });
    if (blocks.size === count) return part;
    count = blocks.size;
  }
}

const automaton = (width: number, next: readonly number[], accept: readonly number[]): Dfa => ({
  ...{
    classes: new Uint8Array(256),
    width,
    start: 0,
    labels: [...new Set(accept), 0].map((_, i) => (i > 0 ? [i] : [])),
  },
  ...{ next: Int32Array.from(next), accept: Int32Array.from(accept) },
});

test('states are equivalent as Moore has them', () => {
  const shape = fc.tuple(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 1, max: 3 }));
  const any = shape.chain(([n, width]) => {
    const next = fc.array(fc.nat({ max: n - 1 }), { minLength: n * width, maxLength: n * width });
    const accept = fc.array(fc.nat({ max: 2 }), { minLength: n, maxLength: n });
    return fc.tuple(fc.constant(width), next, accept);
  });
  fc.assert(
    fc.property(any, ([width, next, accept]) => {
      const dfa = automaton(width, next, [...accept]);
      const { part, count } = equivalent({ ...dfa, labels: [[], [1], [2]] });
      const theirs = rounds(dfa);
      assert.equal(new Set(part).size, count);
      const pairs = new Set([...part].map((p, s) => `${p} ${theirs[s]}`));
      assert.deepEqual([count, pairs.size], [new Set(theirs).size, count]);
    }),
    { numRuns: 2000, seed: 3 },
  );
});

test('a long chain of states that are alike for long takes no round for each of them', () => {
  const n = 100_000;
  // two labels in turn, so that only the end tells them apart
  const accept = Array.from({ length: n }, (_, s) => (s === n - 1 ? 0 : 1 + (s % 2)));
  const dfa = automaton(
    1,
    accept.map((_, s) => Math.min(s + 1, n - 1)),
    accept,
  );
  assert.equal(equivalent({ ...dfa, labels: [[], [1], [2]] }).count, n);
});
