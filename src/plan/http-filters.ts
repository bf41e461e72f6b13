/** The HTTP filter chain: which filters are understood, and what applies to a route with its per-route configuration. */
import type { JsonObject } from '../policy/resources.js';
import { filterReply, hasEdits, localReply } from './answers.js';
import { ALWAYS, all, not } from './conditions.js';
import { type FilterSteps, READERS, type Step, stopsAll } from './filter-steps.js';
import type { AnswerEdit, AnswerEdits, Condition, HeaderEdit, RbacCheck, Reason, ReplyAction } from './ir.js';
import { anyType, bool, isObject, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import { type RbacContext, type RbacOutcome, rbacOutcome } from './rbac.js';
import { policiesOf, rememberPolicies } from './rbac-policies.js';

const FILTERS = 'envoy.extensions.filters.http.';
const DENIED = { status: 403, body: 'RBAC: access denied' };

interface Filter {
  readonly name: string;
  readonly type: string;
  readonly kind: 'rbac' | 'known' | 'descriptors' | 'foreign';
  readonly disabled: boolean;
  readonly resource: JsonObject;
  readonly config: JsonObject;
  readonly path: string;
  readonly rbac?: RbacOutcome;
  /** why its own configuration is left to the proxy */
  readonly own?: Notes;
}

/** Settings that the filters of a chain depend on. */
export interface ChainContext extends RbacContext {
  readonly faultsMayChange: boolean;
  readonly runtimeLayers: boolean;
}

/** What is known about the route that filters act on. */
export interface RouteView {
  /** the resources that may configure filters, most specific first: route, virtual host, route configuration */
  readonly levels: readonly { readonly owner: JsonObject; readonly path: string }[];
  /** its action forwards (redirects and direct responses have no route entry) */
  readonly hasEntry: boolean;
  /** the router's edits of answers */
  readonly edits: readonly AnswerEdit[];
}

/** What the filters and the router do to the answers of requests that meet `when`; the first that is met counts. */
export interface AnswerCase {
  readonly when: Condition;
  readonly edits: AnswerEdits;
}

export interface FilterOutcome {
  readonly checks: readonly RbacCheck[];
  /** the checks are not those of requests without a route */
  readonly overridden: boolean;
  readonly notes: Notes;
  /** edits of the request before the route's own */
  readonly request: readonly HeaderEdit[];
  /** the last one holds always */
  readonly cases: readonly AnswerCase[];
  readonly whole: boolean;
  /** what every request is answered with that gets past `checks`, by case */
  readonly abort?: readonly { readonly when: Condition; readonly action: ReplyAction }[];
}

const NO_ROUTE: RouteView = { levels: [], hasEntry: false, edits: [] };

/** The filters of one HTTP connection manager. */
export class FilterChain {
  readonly notes: Notes;
  readonly filters: Filter[] = [];
  /** RBAC policies met so far, with why their filter is left to the proxy (empty: it is not) */
  readonly policies = new Map<JsonObject, readonly Reason[]>();
  suppressEnvoyHeaders = false;
  /** some RBAC rule looks at the remote address */
  remoteIp = false;
  readonly #context: ChainContext;

  constructor(base: Notes, hcm: JsonObject, context: ChainContext, path: string) {
    this.notes = base;
    this.#context = context;
    const filters = list(hcm, 'http_filters');
    filters.forEach((f, i) => {
      this.#read(f, join(path, `http_filters[${i}]`), i === filters.length - 1);
    });
  }

  #read(f: JsonObject, at: string, last: boolean): void {
    onlyFields(this.notes, f, at, ['name', 'typed_config', 'is_optional', 'disabled']);
    const name = str(f, 'name');
    const config = obj(f, 'typed_config') ?? {};
    const type = anyType(config);
    const path = join(at, 'typed_config');
    if (type === `${FILTERS}router.v3.Router`) {
      onlyFields(this.notes, config, path, [
        'dynamic_stats',
        'start_child_span',
        'suppress_envoy_headers',
        'suppress_grpc_request_failure_code_stats',
        'respect_expected_rq_timeout',
        'upstream_log_options',
        'reject_connect_request_early_data',
      ]);
      this.suppressEnvoyHeaders = bool(config, 'suppress_envoy_headers');
      return;
    }
    if (last) {
      this.notes.add('http-filter', `the last filter is ${name}, not the router`, at, f);
      return;
    }
    const filter = { name, type, disabled: bool(f, 'disabled'), resource: f, config, path };
    if (type === `${FILTERS}rbac.v3.RBAC`) {
      const rbac = rbacOutcome(this.notes, config, this.#context, path);
      this.#seen(rbac);
      this.filters.push({ ...filter, kind: 'rbac', rbac });
    } else if (type === `${FILTERS}ratelimit.v3.RateLimit`) {
      this.filters.push({ ...filter, kind: 'descriptors' });
    } else if (READERS[type]) {
      const own = this.notes.fork();
      READERS[type]!(own, { config, path, levels: [], legacyCors: [], hasEntry: false }, this.#context);
      this.filters.push({ ...filter, kind: 'known', own });
    } else {
      this.filters.push({ ...filter, kind: 'foreign' });
    }
  }

  has(type: string): boolean {
    return this.filters.some((f) => f.type.startsWith(`${FILTERS}${type}.`));
  }

  /** What the filters do to requests of a route, or to those without one. */
  outcome(view: RouteView = NO_ROUTE): FilterOutcome {
    const { levels } = view;
    const notes = this.notes.fork();
    let overridden = view.edits.length > 0;
    let stopped = false;
    const acts: FilterSteps[] = [];
    const edited = new Set<string>();
    for (const filter of this.filters) {
      // a request that was answered is not checked any more
      if (stopped && filter.kind === 'rbac') continue;
      const config = perRoute(filter.name, levels);
      const changes = filter.kind === 'rbac' || filter.kind === 'known';
      if (config ? config.disabled : filter.disabled) {
        overridden ||= changes && !filter.disabled;
        continue;
      }
      const own = config && isObject(config.typed) ? config.typed : undefined;
      overridden ||= changes && (own !== undefined || filter.disabled);
      let act: FilterSteps = { steps: [], request: [], answer: [] };
      if (filter.kind === 'rbac') {
        const rbac = own ? this.#perRouteRbac(notes, own, config!.path) : filter.rbac!;
        notes.reasons.push(...rbac.notes.reasons);
        act = {
          ...act,
          steps: rbac.checks.map((check) => ({ action: check.action, condition: check.condition, rbac: check })),
        };
      } else if (filter.kind === 'foreign') {
        notes.add(
          'http-filter',
          `the filter ${filter.name} (${filter.type}) is run by the proxy`,
          'http_filters',
          filter.resource,
        );
      } else if (filter.kind === 'known') {
        act = this.#known(notes, filter, view);
      } else if (own) {
        notes.add('per-route-filter', `the filter ${filter.name} is configured here`, config!.path, config!.owner);
      }
      // the answer of a filter that never saw the request is edited by those behind it all the same
      if (stopped) act = { steps: [], request: [], answer: act.answer };
      const seen = [...act.steps.map((s) => s.condition), ...(act.cors ? [act.cors.allowed] : [])];
      if (seen.some((c) => mentions(c, edited)))
        notes.add('header-edit', `the filter ${filter.name} looks at a header that one before it edits`, filter.path);
      for (const { name } of act.request) edited.add(name);
      acts.push(act);
      stopped ||= act.steps.some(stopsAll);
    }
    if (acts.filter((a) => a.cors).length > 1) notes.add('per-route-filter', 'several CORS filters', 'http_filters');
    overridden ||= acts.some((a) => a.cors !== undefined);
    return { ...answered(acts, view), overridden, notes };
  }

  #known(notes: Notes, filter: Filter, { levels, hasEntry }: RouteView): FilterSteps {
    const configs = levels.flatMap((level) => perRoute(filter.name, [level]) ?? []);
    const input = {
      config: filter.config,
      path: filter.path,
      levels: configs.flatMap(({ typed, path }) => (typed ? [{ config: typed, path }] : [])),
      legacyCors: levels.flatMap(({ owner, path }) => {
        const policy = obj(obj(owner, 'route') ?? owner, 'cors');
        return policy ? [{ policy, path: join(path, 'cors') }] : [];
      }),
      hasEntry,
    };
    return READERS[filter.type]!(notes, input, this.#context);
  }

  #perRouteRbac(notes: Notes, config: JsonObject, path: string): RbacOutcome {
    if (anyType(config) !== `${FILTERS}rbac.v3.RBACPerRoute`) {
      notes.add('per-route-filter', `unknown configuration ${anyType(config)}`, path, config);
    }
    onlyFields(notes, config, path, ['rbac']);
    const rbac = rbacOutcome(notes, obj(config, 'rbac') ?? {}, this.#context, join(path, 'rbac'));
    this.#seen(rbac);
    return rbac;
  }

  #seen(rbac: RbacOutcome): void {
    this.remoteIp ||= rbac.remoteIp;
    for (const policy of rbac.policies) this.policies.set(policy, rbac.notes.reasons);
  }
}

/** Whether a condition looks at one of these headers. */
function mentions(c: Condition, names: ReadonlySet<string>): boolean {
  if (c.op === 'test') return c.predicate.field.kind === 'header' && names.has(c.predicate.field.name);
  if (c.op === 'not') return mentions(c.of, names);
  return c.op !== 'const' && c.of.some((part) => mentions(part, names));
}

/** Steps in the order of the chain -> checks with the answers that clients get, which all filters may edit. */
function answered(acts: readonly FilterSteps[], view: RouteView): Omit<FilterOutcome, 'overridden' | 'notes'> {
  const corsAt = acts.findIndex((a) => a.cors);
  const cors = acts[corsAt]?.cors;
  const route = view.hasEntry ? view.edits : [];
  // the last filter sees an answer first; CORS only knows of requests that it has seen
  const filterEdits = (allowed: boolean): AnswerEdit[] =>
    [...acts].reverse().flatMap((a) => [...a.answer, ...(allowed && a.cors ? a.cors.edits : [])]);
  const checks: RbacCheck[] = [];
  let abort: FilterOutcome['abort'];
  acts.forEach((act, at) => {
    if (abort) return;
    for (const { condition, headers, allowed } of act.cors?.preflights ?? [])
      checks.push({ action: 'deny', condition, reply: filterReply(200, headers, filterEdits(allowed)) });
    for (const step of act.steps) {
      const knownToCors = cors && corsAt < at ? cors : undefined;
      const reply = (allowed: boolean) => replyOf(step, { route, filters: filterEdits(allowed) });
      if (stopsAll(step) && step.reply && step.reply !== 'proxy') {
        const whole = (when: Condition, allowed: boolean) => ({ when, action: reply(allowed) as ReplyAction });
        abort = [...(knownToCors ? [whole(knownToCors.allowed, true)] : []), whole(ALWAYS, false)];
        return;
      }
      checks.push(...checksOf(step, knownToCors?.allowed, reply));
    }
  });
  const edits = (allowed: boolean): AnswerEdits => ({ route: view.edits, filters: filterEdits(allowed) });
  return {
    checks,
    request: acts.flatMap((a) => a.request),
    cases: [...(cors ? [{ when: cors.allowed, edits: edits(true) }] : []), { when: ALWAYS, edits: edits(false) }],
    whole: acts.some((a) => a.whole),
    ...(abort ? { abort } : {}),
  };
}

function replyOf(step: Step, edits: AnswerEdits): RbacCheck['reply'] {
  if (step.reply === 'proxy') return { kind: 'proxy' };
  if (!step.reply && !hasEdits(edits)) return undefined;
  const { status, body } = step.reply ?? DENIED;
  return localReply(status, body, edits);
}

/** A step as checks; two where CORS adds to the answers for the origins that it allows. */
function checksOf(
  step: Step,
  allowed: Condition | undefined,
  reply: (allowed: boolean) => RbacCheck['reply'],
): RbacCheck[] {
  const check = (action: RbacCheck['action'], condition: Condition, isAllowed: boolean): RbacCheck => {
    const answer = reply(isAllowed);
    if (!answer && step.rbac && condition === step.condition) return step.rbac;
    const made: RbacCheck = {
      action,
      condition,
      ...(answer ? { reply: answer } : {}),
      ...(step.chance ? { chance: step.chance } : {}),
    };
    if (step.rbac && condition === step.condition) rememberPolicies(made, policiesOf(step.rbac));
    return made;
  };
  if (!allowed || step.reply === 'proxy') return [check(step.action, step.condition, false)];
  const stops = step.action === 'deny' ? step.condition : not(step.condition);
  // a chance must not be drawn twice
  const rest = step.chance
    ? check('deny', all([stops, not(allowed)]), false)
    : check(step.action, step.condition, false);
  return [check('deny', all([stops, allowed]), true), rest];
}

interface PerRoute {
  readonly disabled: boolean;
  readonly typed: JsonObject | undefined;
  readonly path: string;
  readonly owner: JsonObject;
}

/** The most specific configuration of a filter, unwrapped from a FilterConfig. */
function perRoute(
  name: string,
  levels: readonly { readonly owner: JsonObject; readonly path: string }[],
): PerRoute | undefined {
  for (const { owner, path } of levels) {
    const config = obj(obj(owner, 'typed_per_filter_config'), name);
    if (!config) continue;
    const at = join(path, `typed_per_filter_config["${name}"]`);
    if (anyType(config) === 'envoy.config.route.v3.FilterConfig') {
      return { disabled: bool(config, 'disabled'), typed: obj(config, 'config'), path: at, owner };
    }
    return { disabled: false, typed: config, path: at, owner };
  }
  return undefined;
}
