/** Warnings about the routes of virtual hosts. */
import type { Condition, Matcher } from '../plan/ir.js';
import { matchesValue } from '../plan/matchers.js';
import { bool, durationMs, has, list, Notes, num, obj, str } from '../plan/notes.js';
import { routeMatch } from '../plan/route-match.js';
import { type MayChange, runtimeMayChange } from '../plan/runtime.js';
import type { Position } from '../policy/diagnostics.js';
import type { JsonObject, Provenance, Resources } from '../policy/resources.js';
import { conditionKey, implies } from './implies.js';
import type { Findings } from './report.js';
import { problemsOf } from './values.js';

/** Of the earlier routes that a path leads to, how many are compared at most. */
const MAX_COMPARED = 500;

interface Route {
  readonly json: JsonObject;
  readonly position: Position | undefined;
  readonly name: string;
  /** undefined: not known */
  readonly condition: Condition | undefined;
}

/** The test of the path in a conjunction, if there is one. */
function pathTest(condition: Condition): Matcher | undefined {
  const parts = condition.op === 'and' ? condition.of : [condition];
  for (const p of parts) if (p.op === 'test' && p.predicate.field.kind === 'path') return p.predicate.matcher;
  return undefined;
}

function hasPathTest(condition: Condition): boolean {
  if (condition.op === 'test') return condition.predicate.field.kind === 'path';
  if (condition.op === 'not') return hasPathTest(condition.of);
  return condition.op !== 'const' && condition.of.some(hasPathTest);
}

/**
 * What every path that the matcher accepts begins with, as far as it can be seen. One matcher can only cover another
 * whose paths begin with all of this.
 */
function beginning(matcher: Matcher | undefined): string {
  if (!matcher) return '';
  if (matcher.kind === 'exact' || matcher.kind === 'prefix') return matcher.ignoreCase ? '' : matcher.value;
  if (matcher.kind !== 'regex' || matcher.pattern.includes('|')) return '';
  const literal = /^\^?([A-Za-z0-9_/-]*)(.?)/.exec(matcher.pattern);
  // the last letter may be optional
  return '?*{'.includes(literal?.[2] || ' ') ? literal![1]!.slice(0, -1) : (literal?.[1] ?? '');
}

/** Earlier routes by the beginning of their path, so that a virtual host of thousands is not compared pair by pair. */
class Earlier {
  readonly #byStart = new Map<string, Route[]>();
  readonly #others: Route[] = [];
  #shortest = Number.POSITIVE_INFINITY;
  #longest = 0;

  add(route: Route): void {
    if (!route.condition) return;
    const start = beginning(pathTest(route.condition));
    if (start === '') {
      this.#others.push(route);
      return;
    }
    const list = this.#byStart.get(start);
    if (list) list.push(route);
    else this.#byStart.set(start, [route]);
    this.#shortest = Math.min(this.#shortest, start.length);
    this.#longest = Math.max(this.#longest, start.length);
  }

  /** Those that could match everything that a route with this condition does. */
  *candidates(condition: Condition): Generator<Route> {
    const start = beginning(pathTest(condition));
    for (let n = this.#shortest; n <= Math.min(this.#longest, start.length); n++)
      yield* this.#byStart.get(start.slice(0, n)) ?? [];
    yield* this.#others;
  }
}

function read(json: JsonObject, provenance: Provenance, layers: MayChange): Route {
  const notes = new Notes(provenance);
  const match = obj(json, 'match') ?? {};
  // the plan leaves these to guards, so that its conditions say less than the match
  const partial = has(match, 'grpc') || has(match, 'connect_matcher') || has(match, 'runtime_fraction');
  const { condition } = routeMatch(notes, match, 'match', layers);
  return {
    json,
    position: provenance.get(json),
    name: str(json, 'name'),
    condition: partial ? undefined : condition,
  };
}

function where(route: Route, from: Position): string {
  const p = route.position;
  if (!p) return '';
  return p.file === from.file ? ` (line ${p.line})` : ` (${p.file}:${p.line})`;
}

function shadows(findings: Findings, route: Route, earlier: Earlier, catchAll: Route | undefined): void {
  const at = route.position;
  if (!at) return;
  const match = obj(route.json, 'match') ?? {};
  if (has(match, 'connect_matcher') || str(match, 'path').startsWith('*')) return;
  const warn = (by: Route) => {
    const same = by.condition && route.condition && conditionKey(by.condition) === conditionKey(route.condition);
    const code = same ? 'duplicate-match' : 'unreachable-route';
    const how = same ? 'has the same match' : 'matches all of it';
    const message = `never reached: ${by.name === '' ? 'an earlier route' : by.name}${where(by, at)} ${how}`;
    findings.hold(at, { code, message, field: 'match' });
  };
  if (catchAll) {
    warn(catchAll);
    return;
  }
  if (!route.condition || route.condition.op === 'const') return;
  let compared = 0;
  for (const by of earlier.candidates(route.condition)) {
    if (++compared > MAX_COMPARED) return;
    if (implies(route.condition, by.condition!)) {
      warn(by);
      return;
    }
  }
}

function values(findings: Findings, route: Route, provenance: Provenance): void {
  const { condition, position } = route;
  if (!condition || !position) return;
  const match = obj(route.json, 'match') ?? {};
  const walk = (c: Condition): void => {
    if (c.op === 'not') walk(c.of);
    else if (c.op === 'and' || c.op === 'or') c.of.forEach(walk);
    else if (c.op === 'test') {
      const { field, matcher } = c.predicate;
      // a separated prefix is two tests of one field
      for (const p of problemsOf(field, matcher)) {
        const name = 'name' in field ? `${field.kind} ${field.name}` : field.kind;
        const key = ['path', 'prefix', 'safe_regex'].find((k) => has(match, k));
        const at = field.kind === 'path' && key ? provenance.get(match, key) : undefined;
        findings.hold(position, { ...p, field: `match: ${name}`, at }, p.message);
      }
    }
  };
  walk(condition);
}

function rewrites(findings: Findings, route: Route, provenance: Provenance): void {
  const action = obj(route.json, 'route') ?? obj(route.json, 'redirect');
  const match = obj(route.json, 'match') ?? {};
  const to = str(action, 'prefix_rewrite');
  const at = route.position;
  if (!at || !action || to === '') return;
  const shown = { field: 'prefix_rewrite', at: provenance.get(action, 'prefix_rewrite') };
  const from = str(match, 'prefix');
  if (obj(match, 'safe_regex')) {
    const message = `the whole path becomes ${JSON.stringify(to)}, since the match is a regular expression`;
    const hint = 'use a regex rewrite to keep a part of it';
    findings.hold(at, { ...shown, code: 'rewrite-whole-path', message, hint });
  } else if (from.length > 1 && from.startsWith('/') && from.endsWith('/') !== to.endsWith('/')) {
    const sample = from.endsWith('/') ? `${from}x` : `${from}/x`;
    const message = `${sample} becomes ${to}${sample.slice(from.length)}`;
    findings.hold(at, { ...shown, code: 'rewrite-slash', message, hint: 'let both end with a slash, or neither' });
  }
}

/** Whether an earlier route might take a path that begins with this; sure only for exact paths and prefixes. */
function mightTake(route: Route, path: string, whole: boolean): boolean {
  const test = route.condition && pathTest(route.condition);
  if (!test) return true;
  if (test.kind !== 'exact' && test.kind !== 'prefix') return !whole || matchesValue(test, path);
  if (whole) return matchesValue(test, path);
  const [a, b] = [test.value.toLowerCase(), path.toLowerCase()];
  return a.startsWith(b) || b.startsWith(a);
}

function redirectLoop(findings: Findings, route: Route, before: readonly Route[], provenance: Provenance): void {
  const redirect = obj(route.json, 'redirect');
  const { condition, position } = route;
  if (!redirect || !condition || !position) return;
  for (const key of [
    'https_redirect',
    'scheme_redirect',
    'host_redirect',
    'port_redirect',
    'regex_rewrite',
    'strip_query',
  ])
    if (has(redirect, key) && redirect[key] !== false && redirect[key] !== '') return;
  const [path, prefix] = [str(redirect, 'path_redirect'), str(redirect, 'prefix_rewrite')];
  const test = pathTest(condition);
  if (!test && hasPathTest(condition)) return;
  const at = provenance.get(route.json, 'redirect');
  const warn = (message: string) => findings.hold(position, { code: 'redirect-loop', message, field: 'redirect', at });
  if (path === '' && prefix === '') {
    warn('the location is the URL that was asked for');
  } else if (path !== '' && !path.includes('?')) {
    if (test && !matchesValue(test, path)) return;
    if (before.some((r) => mightTake(r, path, true))) return;
    warn(`${path} meets the same route again`);
  } else if (prefix !== '' && test?.kind === 'prefix' && !test.ignoreCase && prefix.startsWith(test.value)) {
    if (before.some((r) => mightTake(r, prefix, false))) return;
    warn(`${prefix}... meets the same route again`);
  }
}

function timeouts(findings: Findings, route: Route, provenance: Provenance): void {
  const action = obj(route.json, 'route');
  const retry = obj(action, 'retry_policy');
  const at = route.position;
  if (!at || !action || !retry || durationMs(action, 'timeout') !== 0) return;
  // what the translation itself sets has no place in a file
  const shown = provenance.get(action, 'timeout');
  if (!shown || !provenance.get(action, 'retry_policy')) return;
  if ((durationMs(retry, 'per_try_timeout') ?? 0) > 0 || num(retry, 'num_retries', 1) === 0) return;
  const message =
    '0s switches the timeout off, and no per-try timeout is set: a server that hangs is never tried again';
  findings.hold(at, { code: 'timeout-zero', message, field: 'timeout', at: shown });
}

function virtualHost(findings: Findings, vhost: JsonObject, provenance: Provenance, layers: MayChange): void {
  const earlier = new Earlier();
  const before: Route[] = [];
  let catchAll: Route | undefined;
  const redirects = list(vhost, 'routes').some((r) => has(r, 'redirect'));
  for (const json of list(vhost, 'routes')) {
    const route = read(json, provenance, layers);
    if (route.position) findings.look(route.position);
    shadows(findings, route, earlier, catchAll);
    values(findings, route, provenance);
    rewrites(findings, route, provenance);
    timeouts(findings, route, provenance);
    if (redirects) redirectLoop(findings, route, before, provenance);
    earlier.add(route);
    if (redirects) before.push(route);
    if (route.condition?.op === 'const' && route.condition.value) catchAll ??= route;
  }
}

/** Adds warnings about all routes of the resources. */
export function lintRoutes(findings: Findings, resources: Resources): void {
  const { provenance } = resources;
  const layers: MayChange = (key) => runtimeMayChange(resources.bootstrap, key);
  const configs: JsonObject[] = [...resources.routeConfigs];
  for (const listener of resources.listeners) {
    for (const chain of [...list(listener, 'filter_chains'), obj(listener, 'default_filter_chain') ?? {}]) {
      for (const filter of list(chain, 'filters')) {
        const config = obj(obj(filter, 'typed_config'), 'route_config');
        if (config) configs.push(config);
      }
    }
  }
  for (const config of configs) {
    for (const vhost of list(config, 'virtual_hosts')) {
      if (bool(vhost, 'matcher')) continue;
      virtualHost(findings, vhost, provenance, layers);
    }
  }
}
