/** Conditions as sums of products over facts. */
import { MAX_LITERALS } from '../layout/image.js';
import type { Condition, Predicate } from '../plan/ir.js';
import type { Fact } from './facts.js';

/** What one word of the facts must look like. */
export interface Literal {
  readonly word: number;
  readonly mask: bigint;
  readonly want: bigint;
}

/** A conjunction; no literals: always true. */
export type Product = readonly Literal[];

/** `true`, `false`, or the products of which one must hold. */
export type Compiled = boolean | readonly Product[];

/** Most products while a condition is multiplied out. */
const MAX_PRODUCTS = 512;

class Overflow extends Error {}

/** Calls `visit` for every predicate of `condition`. */
export function forEachPredicate(condition: Condition, visit: (predicate: Predicate) => void): void {
  if (condition.op === 'test') visit(condition.predicate);
  else if (condition.op === 'not') forEachPredicate(condition.of, visit);
  else if (condition.op !== 'const') for (const part of condition.of) forEachPredicate(part, visit);
}

/** Joins two products; undefined when they contradict each other. */
function conjoin(a: Product, b: Product): Product | undefined {
  const words = new Map<number, Literal>(a.map((literal) => [literal.word, literal]));
  for (const { word, mask, want } of b) {
    const other = words.get(word);
    if (!other) {
      words.set(word, { word, mask, want });
      continue;
    }
    const both = other.mask & mask;
    if ((other.want & both) !== (want & both)) return undefined;
    words.set(word, { word, mask: other.mask | mask, want: other.want | want });
  }
  return [...words.values()].sort((x, y) => x.word - y.word);
}

/** True when `a` holds whenever `b` does. */
function implied(a: Product, b: Product): boolean {
  return a.every((x) => {
    const y = b.find((literal) => literal.word === x.word);
    return y !== undefined && (y.mask & x.mask) === x.mask && (y.want & x.mask) === x.want;
  });
}

/** Leaves out products that say no more than another one. */
function simplify(products: readonly Product[]): Product[] {
  const kept: Product[] = [];
  for (const product of products) {
    if (kept.some((other) => implied(other, product))) continue;
    for (let i = kept.length - 1; i >= 0; i--) if (implied(product, kept[i]!)) kept.splice(i, 1);
    kept.push(product);
  }
  if (kept.length > MAX_PRODUCTS) throw new Overflow();
  return kept;
}

function expand(condition: Condition, negated: boolean, fact: (p: Predicate) => Fact | boolean): Product[] {
  switch (condition.op) {
    case 'const':
      return condition.value !== negated ? [[]] : [];
    case 'not':
      return expand(condition.of, !negated, fact);
    case 'test': {
      const found = fact(condition.predicate);
      if (typeof found === 'boolean') return found !== negated ? [[]] : [];
      const mask = 1n << BigInt(found.bit);
      return [[{ word: found.word, mask, want: negated ? 0n : mask }]];
    }
    default: {
      if ((condition.op === 'or') !== negated)
        return simplify(condition.of.flatMap((part) => expand(part, negated, fact)));
      let products: Product[] = [[]];
      for (const part of condition.of) {
        const factors = expand(part, negated, fact);
        if (products.length * factors.length > MAX_PRODUCTS * 8) throw new Overflow();
        const joined: Product[] = [];
        for (const a of products)
          for (const b of factors) {
            const both = conjoin(a, b);
            if (both) joined.push(both);
          }
        products = simplify(joined);
      }
      return products;
    }
  }
}

/**
 * Multiplies a condition out.
 * @param fact where a predicate's fact is, or its value when that is known, or undefined when it is not computed.
 * @param most literals
 * @returns undefined when a predicate has no fact or the result is over the budget of literals.
 */
export function compileCondition(
  condition: Condition,
  fact: (predicate: Predicate) => Fact | boolean | undefined,
  most = MAX_LITERALS,
): Compiled | undefined {
  try {
    const products = expand(condition, false, (predicate) => {
      const found = fact(predicate);
      if (found === undefined) throw new Overflow();
      return found;
    });
    if (products.length === 0) return false;
    if (products.some((product) => product.length === 0)) return true;
    if (products.reduce((sum, product) => sum + product.length, 0) > most) return undefined;
    return products;
  } catch (error) {
    if (error instanceof Overflow) return undefined;
    throw error;
  }
}
