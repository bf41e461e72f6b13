/** Proofs that one condition holds whenever another does. Sound, not complete: `false` means that there is no proof. */
import { type Dfa, stateCount } from '../compile/dfa.js';
import { matcherDfa } from '../compile/matcher.js';
import type { Condition, Field, Matcher } from '../plan/ir.js';
import { asciiLower, matchesValue } from '../plan/matchers.js';

/** Most pairs of states that an inclusion of languages is looked for in. */
const MAX_PAIRS = 20_000;

/** A text that is equal for equal conditions. */
export function conditionKey(condition: Condition): string {
  return JSON.stringify(condition, (_, v) => (typeof v === 'bigint' ? `${v}n` : v));
}

function sameField(a: Field, b: Field): boolean {
  if (a.kind !== b.kind) return false;
  return a.kind === 'header' || a.kind === 'query' ? a.name === (b as { name: string }).name : true;
}

/** Whether every input that `a` accepts is accepted by `b`. */
function included(a: Dfa, b: Dfa): boolean {
  const nb = stateCount(b);
  const seen = new Set<number>([a.start * nb + b.start]);
  const queue: number[] = [...seen];
  const classes = new Map<number, readonly [number, number]>();
  for (let byte = 0; byte < 256; byte++)
    classes.set(a.classes[byte]! * 256 + b.classes[byte]!, [a.classes[byte]!, b.classes[byte]!]);
  for (let pair = queue.pop(); pair !== undefined; pair = queue.pop()) {
    const [sa, sb] = [Math.floor(pair / nb), pair % nb];
    if (a.accept[sa] !== 0 && b.accept[sb] === 0) return false;
    for (const [ca, cb] of classes.values()) {
      const next = a.next[sa * a.width + ca]! * nb + b.next[sb * b.width + cb]!;
      if (seen.has(next)) continue;
      if (seen.size >= MAX_PAIRS) return false;
      seen.add(next);
      queue.push(next);
    }
  }
  return true;
}

/** The matcher's value as it is compared, if it is compared without regard to case by neither or by both. */
function plain(m: Matcher): { value: string; ignoreCase: boolean } | undefined {
  return 'value' in m ? { value: m.ignoreCase ? asciiLower(m.value) : m.value, ignoreCase: m.ignoreCase } : undefined;
}

/** Whether every value that meets `a` meets `b`. */
function matcherImplies(a: Matcher, b: Matcher): boolean {
  if (b.kind === 'present') return true;
  if (a.kind === 'present') return false;
  if (a.kind === 'cidr' || b.kind === 'cidr') {
    return a.kind === 'cidr' && b.kind === 'cidr' && a.prefixLength >= b.prefixLength && matchesValue(b, a.address);
  }
  const [va, vb] = [plain(a), plain(b)];
  if (va && vb && !va.ignoreCase && a.kind === 'exact') {
    return matchesValue(b, Buffer.from(va.value, 'utf8').toString('latin1'));
  }
  if (va && vb && va.ignoreCase === vb.ignoreCase) {
    if (a.kind === 'exact' && b.kind === 'exact') return va.value === vb.value;
    if (b.kind === 'exact') return false;
    if (b.kind === 'prefix') return (a.kind === 'prefix' || a.kind === 'exact') && va.value.startsWith(vb.value);
    if (b.kind === 'suffix') return (a.kind === 'suffix' || a.kind === 'exact') && va.value.endsWith(vb.value);
    return va.value.includes(vb.value);
  }
  const [da, db] = [matcherDfa(a), matcherDfa(b)];
  return da !== undefined && db !== undefined && included(da, db);
}

/** True if it is proven that `b` holds for every request for which `a` does. */
export function implies(a: Condition, b: Condition): boolean {
  if (b.op === 'const') return b.value || (a.op === 'const' && !a.value);
  if (a.op === 'const') return !a.value;
  if (b.op === 'and') return b.of.every((part) => implies(a, part));
  if (a.op === 'or') return a.of.every((part) => implies(part, b));
  if (a.op === 'and' && a.of.some((part) => implies(part, b))) return true;
  if (b.op === 'or' && b.of.some((part) => implies(a, part))) return true;
  if (a.op === 'not' && b.op === 'not') return implies(b.of, a.of);
  if (a.op !== 'test' || b.op !== 'test') return false;
  return sameField(a.predicate.field, b.predicate.field) && matcherImplies(a.predicate.matcher, b.predicate.matcher);
}
