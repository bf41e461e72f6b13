/**
 * The `matcher` of an RBAC filter (xds.type.matcher.v3.Matcher over headers, with actions envoy.config.rbac.v3.Action) ->
 * the condition under which it lets a request pass. The first that matches decides; where none does, the request is denied.
 */
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, NEVER, not } from './conditions.js';
import { headerCondition } from './header-match.js';
import type { Condition } from './ir.js';
import { anyType, join, list, type Notes, obj, onlyFields, str } from './notes.js';

const HEADER_INPUT = 'envoy.type.matcher.v3.HttpRequestHeaderMatchInput';
const ACTION = 'envoy.config.rbac.v3.Action';

function unknown(notes: Notes, what: string, o: JsonObject, path: string): undefined {
  notes.add('rbac-rule', `${what} is evaluated by the proxy`, path, o);
  return undefined;
}

function predicate(notes: Notes, p: JsonObject, path: string): Condition | undefined {
  const several = (key: 'or_matcher' | 'and_matcher', combine: typeof any) => {
    const parts = list(obj(p, key), 'predicate').map((q, i) => predicate(notes, q, join(path, `${key}[${i}]`)));
    return parts.includes(undefined) ? undefined : combine(parts as Condition[]);
  };
  if (obj(p, 'or_matcher')) return several('or_matcher', any);
  if (obj(p, 'and_matcher')) return several('and_matcher', all);
  const negated = obj(p, 'not_matcher');
  if (negated) {
    const inner = predicate(notes, negated, join(path, 'not_matcher'));
    return inner && not(inner);
  }
  const single = obj(p, 'single_predicate') ?? {};
  const at = join(path, 'single_predicate');
  const input = obj(obj(single, 'input'), 'typed_config') ?? {};
  const value = obj(single, 'value_match');
  if (anyType(input) !== HEADER_INPUT || !value) return unknown(notes, 'what this matcher looks at', single, at);
  onlyFields(notes, single, at, ['input', 'value_match']);
  onlyFields(notes, input, join(at, 'input'), ['header_name']);
  return headerCondition(notes, { name: str(input, 'header_name'), string_match: value }, join(at, 'value_match'));
}

/** What an OnMatch says; without one, the request is denied. */
function verdict(notes: Notes, on: JsonObject | undefined, path: string): Condition | undefined {
  if (!on) return NEVER;
  onlyFields(notes, on, path, ['action']);
  const config = obj(obj(on, 'action'), 'typed_config') ?? {};
  const action = str(config, 'action') || 'ALLOW';
  if (anyType(config) !== ACTION || !['ALLOW', 'DENY', 'LOG'].includes(action))
    return unknown(notes, 'this action', on, path);
  onlyFields(notes, config, join(path, 'action'), ['name', 'action']);
  return action === 'DENY' ? NEVER : ALWAYS;
}

/** When a matcher lets a request pass; undefined, with reasons, if that cannot be computed. */
export function matcherAllows(notes: Notes, matcher: JsonObject, path: string): Condition | undefined {
  onlyFields(notes, matcher, path, ['matcher_list', 'on_no_match']);
  if (!obj(matcher, 'matcher_list')) return unknown(notes, 'a matcher without a list', matcher, path);
  const matchers = list(obj(matcher, 'matcher_list'), 'matchers').map((m, i) => {
    const at = join(path, `matcher_list.matchers[${i}]`);
    onlyFields(notes, m, at, ['predicate', 'on_match']);
    const when = predicate(notes, obj(m, 'predicate') ?? {}, join(at, 'predicate'));
    return { when, passes: verdict(notes, obj(m, 'on_match'), join(at, 'on_match')) };
  });
  let allowed = verdict(notes, obj(matcher, 'on_no_match'), join(path, 'on_no_match'));
  for (const { when, passes } of matchers.reverse()) {
    if (!when || !passes || !allowed) return undefined;
    allowed = any([all([when, passes]), all([not(when), allowed])]);
  }
  return allowed;
}
