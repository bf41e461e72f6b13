/** Building conditions, with constants folded. */
import type { Condition, Field, Matcher } from './ir.js';

export const ALWAYS: Condition = { op: 'const', value: true };
export const NEVER: Condition = { op: 'const', value: false };

/** The field is there and matches. */
export function test(field: Field, matcher: Matcher): Condition {
  return { op: 'test', predicate: { field, matcher } };
}

/** The header (lower case name) is there, with any value. */
export function headerPresent(name: string): Condition {
  return test({ kind: 'header', name }, { kind: 'present' });
}

/** All of them. */
export function all(of: readonly Condition[]): Condition {
  const flat = of.flatMap((c) => (c.op === 'and' ? c.of : [c])).filter((c) => !(c.op === 'const' && c.value));
  if (flat.some((c) => c.op === 'const')) return NEVER;
  if (flat.length === 0) return ALWAYS;
  return flat.length === 1 ? flat[0]! : { op: 'and', of: flat };
}

/** At least one of them. */
export function any(of: readonly Condition[]): Condition {
  const flat = of.flatMap((c) => (c.op === 'or' ? c.of : [c])).filter((c) => !(c.op === 'const' && !c.value));
  if (flat.some((c) => c.op === 'const')) return ALWAYS;
  if (flat.length === 0) return NEVER;
  return flat.length === 1 ? flat[0]! : { op: 'or', of: flat };
}

/** The contrary. */
export function not(of: Condition): Condition {
  if (of.op === 'const') return of.value ? NEVER : ALWAYS;
  return of.op === 'not' ? of.of : { op: 'not', of };
}

/** A condition that holds whenever `c` holds for some values of these headers. */
export function whatever(c: Condition, headers: ReadonlySet<string>): Condition {
  if (c.op === 'and' || c.op === 'or') {
    const of = c.of.map((part) => whatever(part, headers));
    return c.op === 'and' ? all(of) : any(of);
  }
  return headersOf(c).some((name) => headers.has(name)) ? ALWAYS : c;
}

/** Names of the headers that a condition looks at. */
export function headersOf(c: Condition): string[] {
  if (c.op === 'test') return c.predicate.field.kind === 'header' ? [c.predicate.field.name] : [];
  if (c.op === 'not') return headersOf(c.of);
  return c.op === 'const' ? [] : c.of.flatMap(headersOf);
}
