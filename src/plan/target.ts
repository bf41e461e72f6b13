/** How a RouteAction rewrites the target. */
import type { JsonObject } from '../policy/resources.js';
import type { RouteContext } from './actions.js';
import type { TargetRewrite } from './ir.js';
import { regexProblem } from './matchers.js';
import { join, type Notes, obj, onlyFields, str } from './notes.js';
import { joinLiterals } from './replies.js';

/** True if what the substitution produces cannot be empty: it has a literal, or a group that starts with a slash. */
function neverEmpty(pattern: string, substitution: string): boolean {
  if (substitution.replace(/\\\d/g, '') !== '') return true;
  const group = /\((\/[^()|]*)\)(?![*?{])/.exec(pattern);
  return substitution === '\\1' && pattern.indexOf('(') === group?.index && !/^\/[*?{]/.test(group?.[1] ?? '');
}

/** prefix_rewrite and regex_rewrite of a RouteAction; undefined: the target stays. */
export function targetRewrite(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  path: string,
): TargetRewrite | undefined {
  const prefix = str(action, 'prefix_rewrite');
  if (prefix !== '') {
    const kept = ctx.matched === 'whole' ? [] : [{ kind: 'path', from: ctx.matched } as const];
    return { kind: 'pieces', pieces: joinLiterals([{ kind: 'literal', value: prefix }, ...kept, { kind: 'query' }]) };
  }
  const rewrite = obj(action, 'regex_rewrite');
  if (!rewrite) return undefined;
  const at = join(path, 'regex_rewrite');
  onlyFields(notes, rewrite, at, ['pattern', 'substitution']);
  const regex = obj(rewrite, 'pattern') ?? {};
  onlyFields(notes, regex, join(at, 'pattern'), ['google_re2', 'regex']);
  const pattern = str(regex, 'regex');
  const substitution = str(rewrite, 'substitution');
  const problem = regexProblem(pattern);
  if (problem !== undefined) notes.add('regex', problem, join(at, 'pattern.regex'), regex, 'regex');
  else if (!neverEmpty(pattern, substitution)) {
    // an empty result means no rewrite at all to the proxy
    notes.add('path-rewrite', 'the rewritten path could be empty', join(at, 'substitution'), rewrite, 'substitution');
  }
  return { kind: 'regex', pattern, substitution };
}
