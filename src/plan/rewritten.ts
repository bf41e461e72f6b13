/**
 * RBAC filters of a cluster (upstream HTTP filters) see the request as it leaves: rewritten and edited. The kernel checks
 * before it rewrites, so their conditions are turned into conditions on the request as received.
 */
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, NEVER, not, test } from './conditions.js';
import type { Condition, ForwardAction, Matcher, Predicate } from './ir.js';
import { asciiLower, matchesValue } from './matchers.js';
import { bool } from './notes.js';

/** What is known about the path: the prefix that the route matched, as it stands in the request; undefined: not known. */
function knownPrefix(match: JsonObject): string | undefined {
  if (!bool(match, 'case_sensitive', true)) return undefined;
  const prefix = match.prefix ?? match.path_separated_prefix;
  return typeof prefix === 'string' ? prefix : undefined;
}

/** What a matcher says about a value from the configuration, which (unlike requests) may have letters outside ASCII. */
function constant(m: Matcher, value: string): Condition | undefined {
  if (m.kind === 'regex' && /[^\0-\x7f]/.test(value)) return undefined;
  return matchesValue(m, value) ? ALWAYS : NEVER;
}

/** A test of `literal` + (what follows `matched` in the path) as a test of the path. */
function afterPrefix(m: Matcher, literal: string, matched: string): Condition | undefined {
  if (m.kind === 'present') return ALWAYS;
  if (m.kind !== 'exact' && m.kind !== 'prefix') return undefined;
  const fold = m.ignoreCase ? asciiLower : (s: string) => s;
  const wanted = fold(m.value);
  const start = fold(literal);
  if (m.kind === 'prefix' && start.startsWith(wanted)) return ALWAYS;
  if (!wanted.startsWith(start)) return NEVER;
  return test({ kind: 'path' }, { ...m, value: matched + m.value.slice(literal.length) });
}

function pathTest(p: Predicate, match: JsonObject, action: ForwardAction): Condition | undefined {
  const { target } = action;
  if (!target) return { op: 'test', predicate: p };
  if (p.field.kind !== 'path' || target.kind !== 'pieces') return undefined;
  const [first, second] = target.pieces;
  if (first?.kind !== 'literal') return undefined;
  if (second?.kind !== 'path') return constant(p.matcher, first.value);
  const matched = knownPrefix(match);
  return matched === undefined ? undefined : afterPrefix(p.matcher, first.value, matched);
}

function headerTest(p: Predicate & { field: { kind: 'header' } }, action: ForwardAction): Condition | undefined {
  const edits = action.edits.filter((e) => e.name === p.field.name);
  if (edits.length === 0) return { op: 'test', predicate: p };
  const only = edits.length === 1 ? edits[0]! : undefined;
  if (only?.op === 'remove') return NEVER;
  return only?.op === 'overwrite' && typeof only.value === 'string' ? constant(p.matcher, only.value) : undefined;
}

/**
 * A condition on the request as `action` forwards it, in terms of the request as received.
 * @param match the route's match, which the request is known to meet
 * @returns undefined if it cannot be said
 */
export function beforeRewrite(c: Condition, match: JsonObject, action: ForwardAction): Condition | undefined {
  switch (c.op) {
    case 'const':
      return c;
    case 'not': {
      const of = beforeRewrite(c.of, match, action);
      return of && not(of);
    }
    case 'and':
    case 'or': {
      const parts = c.of.map((p) => beforeRewrite(p, match, action));
      if (parts.includes(undefined)) return undefined;
      return (c.op === 'and' ? all : any)(parts as Condition[]);
    }
    case 'test': {
      const { field, matcher } = c.predicate;
      if (field.kind === 'path' || field.kind === 'target') return pathTest(c.predicate, match, action);
      if (field.kind === 'host') return action.host === undefined ? c : constant(matcher, action.host);
      if (field.kind === 'header') return headerTest({ field, matcher }, action);
      return c;
    }
  }
}
