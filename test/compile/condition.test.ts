/** Conditions multiplied out say what they said. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compileCondition, type Product } from '../../src/compile/condition.js';
import type { Condition, Predicate } from '../../src/plan/ir.js';

const FACTS = 12;
/** Half of the facts in either word. */
const placeOf = (i: number) => ({ word: i % 2, bit: 3 * i });

const test = (i: number): Condition => ({
  op: 'test',
  predicate: { field: { kind: 'header', name: String(i) }, matcher: { kind: 'present' } },
});
const { condition } = fc.letrec<{ condition: Condition }>((tie) => ({
  condition: fc.oneof(
    { depthSize: 'medium', withCrossShrink: true },
    { weight: 3, arbitrary: fc.nat(FACTS - 1).map(test) },
    { weight: 1, arbitrary: fc.boolean().map((value): Condition => ({ op: 'const', value })) },
    { weight: 1, arbitrary: tie('condition').map((of): Condition => ({ op: 'not', of })) },
    { weight: 2, arbitrary: fc.array(tie('condition'), { maxLength: 4 }).map((of): Condition => ({ op: 'and', of })) },
    { weight: 3, arbitrary: fc.array(tie('condition'), { maxLength: 5 }).map((of): Condition => ({ op: 'or', of })) },
  ),
}));

const numberOf = ({ field }: Predicate): number => Number('name' in field ? field.name : -1);

function holds(of: Condition, facts: readonly boolean[]): boolean {
  if (of.op === 'const') return of.value;
  if (of.op === 'not') return !holds(of.of, facts);
  if (of.op === 'and') return of.of.every((part) => holds(part, facts));
  if (of.op === 'test') return facts[numberOf(of.predicate)]!;
  return of.of.some((part) => holds(part, facts));
}

function productHolds(product: Product, facts: readonly boolean[]): boolean {
  const words = [0n, 0n];
  facts.forEach((fact, i) => {
    const { word, bit } = placeOf(i);
    if (fact) words[word]! |= 1n << BigInt(bit);
  });
  return product.every(({ word, mask, want }) =>
    want === undefined ? (words[word]! & mask) !== 0n : (words[word]! & mask) === want,
  );
}

const compiled = (of: Condition) => compileCondition(of, (predicate) => placeOf(numberOf(predicate)), 4096);

describe('conditions', () => {
  it('hold for the same facts', () => {
    let choices = 0;
    const facts = fc.array(fc.boolean(), { minLength: FACTS, maxLength: FACTS });
    fc.assert(
      fc.property(condition, fc.array(facts, { minLength: 40, maxLength: 40 }), (of, samples) => {
        const found = compiled(of);
        if (found === undefined) return;
        if (typeof found !== 'boolean')
          for (const product of found) for (const { want } of product) if (want === undefined) choices++;
        for (const sample of samples) {
          const now: boolean =
            typeof found === 'boolean' ? found : found.some((product) => productHolds(product, sample));
          assert.equal(now, holds(of, sample), JSON.stringify([of, sample]));
        }
      }),
      { numRuns: 5000, seed: 20261126 },
    );
    assert.ok(choices > 500, `${choices} choices`);
  });

  it('of some of these and some of those are one product', () => {
    const some = (...of: number[]): Condition => ({ op: 'or', of: of.map(test) });
    const products = compiled({ op: 'and', of: [some(0, 2, 4), some(1, 3, 5, 7), { op: 'not', of: test(6) }] });
    assert.ok(Array.isArray(products), 'neither always nor never');
    assert.equal(products.length, 1);
    assert.equal(products[0]?.length, 3);
  });
});
