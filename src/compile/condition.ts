/** Conditions as sums of products over facts. */
import { MAX_LITERALS } from '../layout/image.js';
import type { Condition, Predicate } from '../plan/ir.js';
import type { Fact } from './facts.js';

/** What one word of the facts must look like. */
export interface Literal {
  readonly word: number;
  readonly mask: bigint;
  /** the facts of the mask must be these; undefined: one of them must hold, whichever */
  readonly want: bigint | undefined;
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

const single = (mask: bigint): boolean => (mask & (mask - 1n)) === 0n;

/** The facts of which one must hold for `literal`, undefined: it says something else. */
function alternatives({ mask, want }: Literal): bigint | undefined {
  return want === undefined || (want === mask && single(mask)) ? mask : undefined;
}

/** What `any` still says where `exact` holds, on the same word: true, false, or a literal. */
function given(any: Literal, exact: Literal | undefined): Literal | boolean {
  const { word, mask: known, want } = exact ?? { word: any.word, mask: 0n, want: 0n };
  if (any.mask & want!) return true;
  const mask = any.mask & ~known;
  return mask !== 0n && { word, mask, want: single(mask) ? mask : undefined };
}

/** Joins two products; undefined when they contradict each other. */
function conjoin(a: Product, b: Product): Product | undefined {
  const exact = new Map<number, Literal>();
  let rest: Literal[] = [];
  for (const literal of [...a, ...b]) {
    const { word, mask, want } = literal;
    const other = exact.get(word);
    if (want === undefined) rest.push(literal);
    else if (!other) exact.set(word, literal);
    else {
      const both = other.mask & mask;
      if ((other.want! & both) !== (want & both)) return undefined;
      exact.set(word, { word, mask: other.mask | mask, want: other.want! | want });
    }
  }
  // a choice of which one fact is left is as good as that fact, and may decide about others
  for (let again = true; again; ) {
    again = false;
    const left: Literal[] = [];
    for (const any of rest) {
      const found = given(any, exact.get(any.word));
      if (found === false) return undefined;
      if (found === true) continue;
      if (found.want === undefined) left.push(found);
      else {
        const { word, mask, want } = exact.get(any.word) ?? { word: any.word, mask: 0n, want: 0n };
        exact.set(word, { word, mask: mask | found.mask, want: want! | found.want });
        again = true;
      }
    }
    rest = left;
  }
  const distinct = rest.filter((x, i) => !rest.some((y, j) => j !== i && implies(y, x) && (j < i || !implies(x, y))));
  return [...exact.values(), ...distinct].sort((x, y) => x.word - y.word);
}

/** True when `x` holds whenever `y` does. */
function implies(y: Literal, x: Literal): boolean {
  if (x.word !== y.word) return false;
  if (x.want === undefined) return y.want === undefined ? (y.mask & ~x.mask) === 0n : (y.want & x.mask) !== 0n;
  return y.want !== undefined && (y.mask & x.mask) === x.mask && (y.want & x.mask) === x.want;
}

/** True when `a` holds whenever `b` does. */
function implied(a: Product, b: Product): boolean {
  return a.every((x) => b.some((y) => implies(y, x)));
}

/** Joins products that each ask for one fact, of which one must hold, as far as these facts share words. */
function choices(products: readonly Product[]): Product[] {
  const masks = new Map<number, bigint>();
  const others: Product[] = [];
  for (const product of products) {
    const mask = product.length === 1 ? alternatives(product[0]!) : undefined;
    const word = product[0]?.word;
    if (mask === undefined || word === undefined) others.push(product);
    else masks.set(word, (masks.get(word) ?? 0n) | mask);
  }
  const joined = [...masks].map(([word, mask]): Product => [{ word, mask, want: single(mask) ? mask : undefined }]);
  return [...joined, ...others];
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
        return simplify(choices(condition.of.flatMap((part) => expand(part, negated, fact))));
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
