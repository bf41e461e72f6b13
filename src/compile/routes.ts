/** The routes of a virtual host: path automaton, candidate lists, conditions, actions. */

import { MAX_RULES } from '../layout/counts.js';
import { MAX_CANDIDATES, ROUTE_FLAG, RouteSpec } from '../layout/image.js';
import type { Condition, Predicate, RoutePlan, VirtualHostPlan } from '../plan/ir.js';
import { forwardAction, replyAction } from './actions.js';
import type { Rows } from './blob.js';
import { type Compiled, compileCondition, forEachPredicate } from './condition.js';
import { Facts, type Job } from './facts.js';
import { pathAutomaton, type Split, splitPath } from './path.js';
import type { Refusal } from './refusals.js';
import { compileRegex } from './regex/nfa.js';
import { computable, lookUp, type Scope, storeCondition, storeRbac } from './scope.js';
import { sparseStates } from './sparse.js';

export interface RoutesResult {
  readonly path: Rows;
  readonly jobs: readonly Job[];
  readonly states: number;
  readonly routes: number;
}

/** Bytes that one virtual host's path automaton may have; an image has room for one such and much else. */
const PATH_BYTES = 10 * 1024 * 1024;

interface Entry {
  readonly route: RoutePlan;
  /** ids in the path automaton of which one must hold; undefined: any path */
  readonly paths: readonly number[] | undefined;
  readonly unknown: boolean;
  readonly condition: Exclude<Compiled, false>;
}

/** What the automaton over the path does not answer of a route's condition. */
function restOf(split: Split, match: Condition, fits: boolean): Condition {
  return fits ? split.rest : match;
}

/** Why a condition could not be computed. */
function blame(conditions: readonly Condition[]): [code: string, message: string] {
  let culprit: string | undefined;
  for (const condition of conditions)
    forEachPredicate(condition, ({ matcher }) => {
      if (matcher.kind === 'regex' && !compileRegex(matcher.pattern)) culprit ??= matcher.pattern;
    });
  if (culprit !== undefined) return ['regex', `regex ${culprit} is not supported`];
  return ['budget', 'the match needs more automata, header slots or terms than there is room for'];
}

function storeAction(route: RoutePlan, scope: Scope): number {
  const { action } = route;
  if (action.kind === 'proxy') return 0;
  const stored: number | Refusal =
    action.kind === 'forward' ? forwardAction(scope, action) : replyAction(scope, action);
  if (typeof stored === 'number') return stored;
  scope.report(route, stored.code, stored.message);
  return 0;
}

function storeRoute(entry: Entry, facts: Facts, scope: Scope): number {
  const { route, condition } = entry;
  const rule = Math.min(scope.rule(route), MAX_RULES - 1);
  if (entry.unknown) return scope.blob.structs(RouteSpec, [{ flags: ROUTE_FLAG.UNKNOWN, rule }]);
  let action = storeAction(route, scope);
  let rbac = 0;
  if (action !== 0 && route.rbac) {
    const stored = storeRbac(scope, route.rbac, facts);
    if (stored === undefined) {
      scope.report(route, ...blame(route.rbac.map((check) => check.condition)));
      action = 0;
    } else rbac = stored;
  }
  const at = condition === true ? 0 : storeCondition(scope.blob, condition);
  return scope.blob.structs(RouteSpec, [{ condition: at, rbac, action, rule }]);
}

/**
 * Compiles the routes of `host`.
 * @param listenerFacts facts that are computed for every request of the listener.
 * @throws ImageFull when the image has no room for them
 */
export function compileRoutes(host: VirtualHostPlan, listenerFacts: Facts, scope: Scope): RoutesResult {
  const { blob } = scope;
  const splits = host.routes.map(({ match }) => match && splitPath(match));
  const tests: Predicate[] = splits.flatMap((split) => split?.paths ?? []);
  const automaton = pathAutomaton(tests, PATH_BYTES);
  const fits = (split: Split) => split.paths?.every((test) => automaton.id(test) !== undefined) ?? true;

  const conditions: Condition[] = [];
  host.routes.forEach((route, i) => {
    const split = splits[i];
    if (split && route.match) conditions.push(restOf(split, route.match, fits(split)));
    for (const check of route.rbac ?? []) conditions.push(check.condition);
  });
  const facts = new Facts(computable(conditions, scope.slot), listenerFacts);

  const entries: Entry[] = [];
  host.routes.forEach((route, i) => {
    const split = splits[i];
    if (!split || !route.match) {
      entries.push({ route, paths: undefined, unknown: true, condition: true });
      return;
    }
    const fit = fits(split);
    const paths = fit ? split.paths?.map((test) => automaton.id(test)!) : undefined;
    const truncated = paths?.some((id) => automaton.truncated.has(id)) ?? false;
    const rest = restOf(split, route.match, fit);
    const condition = compileCondition(rest, lookUp(facts));
    if (condition === false) return;
    const unknown = condition === undefined || truncated;
    if (condition === undefined) scope.report(route, ...blame([rest]));
    else if (truncated)
      scope.report(route, 'budget', 'the paths of this virtual host need more states than there is room for');
    entries.push({ route, paths, unknown, condition: condition ?? true });
  });

  const always: number[] = [];
  const byPath = new Map<number, number[]>();
  entries.forEach((entry, i) => {
    if (!entry.paths) always.push(i);
    for (const id of new Set(entry.paths)) {
      const list = byPath.get(id);
      if (list) list.push(i);
      else byPath.set(id, [i]);
    }
  });
  const final = (i: number) => entries[i]!.unknown || entries[i]!.condition === true;
  const stored = new Map<number, number>();
  const offsetOf = (i: number): number => {
    let offset = stored.get(i);
    if (offset === undefined) {
      offset = storeRoute(entries[i]!, facts, scope);
      stored.set(i, offset);
    }
    return offset;
  };
  const path = blob.rows(automaton.automaton, (label) => {
    const indexes = new Set(always);
    for (const id of label) for (const i of byPath.get(id) ?? []) indexes.add(i);
    const sorted = [...indexes].sort((a, b) => a - b);
    const cut = sorted.findIndex(final);
    const candidates = cut < 0 ? sorted : sorted.slice(0, cut + 1);
    const offsets = candidates.slice(0, MAX_CANDIDATES).map(offsetOf);
    if (candidates.length > MAX_CANDIDATES) {
      // Nobody may be skipped: from here on the proxy decides.
      const rest = candidates.slice(MAX_CANDIDATES - 1).map((i) => entries[i]!.route);
      for (const route of rest)
        scope.report(route, 'budget', `more than ${MAX_CANDIDATES} routes come into question for one path`);
      const rule = Math.min(scope.rule(rest[0]!), MAX_RULES - 1);
      offsets[MAX_CANDIDATES - 1] = blob.structs(RouteSpec, [{ flags: ROUTE_FLAG.UNKNOWN, rule }]);
    }
    return blob.words([offsets.length, ...offsets]);
  });
  return { path, jobs: facts.jobs, states: sparseStates(automaton.automaton), routes: stored.size };
}
