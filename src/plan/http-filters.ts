/** The HTTP filter chain: which filters are understood, and what applies to a route with its per-route configuration. */
import type { JsonObject } from '../policy/resources.js';
import { headersIn } from './answers.js';
import { any, headersOf, NEVER } from './conditions.js';
import { answered, type FilterOutcome, type RouteView, type TokenChange } from './filter-outcome.js';
import { type FilterSteps, HELD, READERS, type Step, stopsAll } from './filter-steps.js';
import type { Condition, Reason } from './ir.js';
import { JWT_TYPE, type JwtCase, JwtFilter } from './jwt.js';
import type { LimitContext } from './local-limits.js';
import { type LocalReplies, readLocalReplies } from './local-replies.js';
import { anyType, bool, isObject, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import { type RbacContext, type RbacOutcome, rbacOutcome } from './rbac.js';
import { Rerouting } from './rerouting.js';
import type { MayChange } from './runtime.js';
import { valueMatch } from './value-match.js';

const FILTERS = 'envoy.extensions.filters.http.';
const NOTHING: FilterSteps = { steps: [], request: [], answer: [] };
/** Why requests that a jwt_authn filter leaves to the proxy are. */
const UNKNOWN_TOKENS =
  'a token is missing, or not known to be good: the proxy decides, and the next request may know it';
const NAMED = 'it is logged which policy stops a request, which the proxy knows';
interface Filter {
  readonly name: string;
  readonly type: string;
  readonly kind: 'rbac' | 'jwt' | 'known' | 'descriptors' | 'foreign';
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
  readonly mayChange: MayChange;
  readonly limits: LimitContext;
}

const NO_ROUTE: RouteView = { levels: [], hasEntry: false, edits: [] };

/** The filters of one HTTP connection manager. */
export class FilterChain {
  readonly notes: Notes;
  readonly filters: Filter[] = [];
  /** RBAC policies met so far, with why their filter is left to the proxy (empty: it is not) */
  readonly policies = new Map<JsonObject, readonly Reason[]>();
  suppressEnvoyHeaders = false;
  /** each try has a span of its own */
  childSpans = false;
  /** some RBAC rule looks at the remote address */
  remoteIp = false;
  readonly #context: ChainContext;
  readonly #replies: LocalReplies | undefined;
  /** the jwt_authn filter: there is one at most */
  #jwt: JwtFilter | undefined;

  constructor(base: Notes, hcm: JsonObject, context: ChainContext, path: string) {
    this.notes = base;
    this.#context = context;
    this.#replies = readLocalReplies(base, hcm, path, context.mayChange);
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
      this.childSpans = bool(config, 'start_child_span');
      return;
    }
    if (last) {
      this.notes.add('http-filter', `the last filter is ${name}, not the router`, at, f);
      return;
    }
    const filter = { name, type, disabled: bool(f, 'disabled'), resource: f, config, path };
    if (type === `${FILTERS}rbac.v3.RBAC`) {
      const claims = this.#claims(this.#jwt?.outcome(undefined, at).cases ?? []);
      const rbac = rbacOutcome(this.notes, config, { ...this.#context, claims }, path);
      this.#seen(rbac);
      this.filters.push({ ...filter, kind: 'rbac', rbac });
    } else if (type === JWT_TYPE && !this.#jwt) {
      this.#jwt = new JwtFilter(this.notes, config, path, this.#context.mayChange);
      this.filters.push({ ...filter, kind: 'jwt' });
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
    let cases: readonly JwtCase[] = [];
    let changes: readonly TokenChange[] = [];
    for (const filter of this.filters) {
      // a request that was answered is not checked any more
      if (stopped && (filter.kind === 'rbac' || filter.kind === 'jwt')) continue;
      const config = perRoute(filter.name, levels);
      if (config ? config.disabled : filter.disabled) {
        overridden ||= !filter.disabled;
        continue;
      }
      const own = config && isObject(config.typed) ? config.typed : undefined;
      overridden ||= own !== undefined || filter.disabled;
      let act = NOTHING;
      const looked = new Set<string>();
      if (filter.kind === 'rbac') {
        const rbac = this.#rbac(notes, filter, own, config?.path ?? filter.path, cases);
        notes.reasons.push(...rbac.notes.reasons);
        act = {
          ...act,
          steps: rbac.checks.map((check) => ({
            ...{ action: check.action, condition: check.condition, rbac: check },
            ...(check.details === '' ? { reply: 'proxy' as const, why: NAMED } : {}),
          })),
        };
      } else if (filter.kind === 'jwt') {
        const found = this.#jwt!.outcome(own, config?.path ?? filter.path);
        notes.reasons.push(...found.notes.reasons);
        cases = found.cases;
        act = leave(this.#jwt!.undecided(notes, cases));
        changes = this.#jwt!.changes(notes, cases);
        const filled = [...this.#jwt!.filled].map((name) => ({ op: 'remove', name }) as const);
        act = { ...act, request: filled };
        for (const name of cases.length > 0 ? this.#jwt!.headers : []) looked.add(name);
      } else if (filter.kind === 'foreign') {
        notes.add(
          'http-filter',
          `the filter ${filter.name} (${filter.type}) is run by the proxy`,
          'http_filters',
          filter.resource,
        );
      } else if (filter.kind === 'known') {
        act = this.#known(notes, filter, view);
        this.remoteIp ||= act.remoteIp === true;
      } else if (own) {
        notes.add('per-route-filter', `the filter ${filter.name} is configured here`, config!.path, config!.owner);
      }
      const delays = act.steps.some(({ reply }) => reply === 'delayed');
      overridden ||= delays;
      // the proxy has routes for requests whose delay was drawn here, and none for those that have no route
      if (delays && view === NO_ROUTE) act = { ...act, steps: act.steps.map(undrawn) };
      // the answer of a filter that never saw the request is edited by those behind it all the same
      if (stopped) act = { ...NOTHING, answer: act.answer };
      for (const name of lookedAt(act)) looked.add(name);
      if ([...looked].some((name) => edited.has(name)))
        notes.add('header-edit', `the filter ${filter.name} looks at a header that one before it edits`, filter.path);
      for (const { name } of act.request) edited.add(name);
      // what looks at a header that a good token took with it sees another request
      const gone = filter.kind === 'jwt' ? [] : changes.filter(({ remove }) => looked.has(remove));
      if (gone.length > 0) acts.push(leave(any(gone.map(({ when }) => when))));
      acts.push(act);
      stopped ||= act.steps.some(stopsAll);
    }
    if (acts.filter((a) => a.cors).length > 1) notes.add('per-route-filter', 'several CORS filters', 'http_filters');
    if (acts.some((a) => a.figures) && acts.filter((a) => a.steps.some(({ bucket }) => bucket)).length > 1)
      notes.add('rate-limit', 'x-ratelimit headers beside another rate limit', 'http_filters');
    overridden ||= acts.some((a) => a.cors !== undefined);
    return { ...answered(acts, view, this.#replies), overridden, notes, changes };
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

  /** The rules of an RBAC filter behind a jwt_authn filter with these cases. */
  #rbac(
    notes: Notes,
    filter: Filter,
    own: JsonObject | undefined,
    path: string,
    cases: readonly JwtCase[],
  ): RbacOutcome {
    const context = { ...this.#context, claims: this.#claims(cases) };
    if (own) return this.#perRouteRbac(notes, own, path, context);
    return this.#jwt ? rbacOutcome(this.notes, filter.config, context, filter.path) : filter.rbac!;
  }

  /** Tests of what the jwt_authn filter has written by now: nothing, where it comes later or does not apply. */
  #claims(cases: readonly JwtCase[]): RbacContext['claims'] {
    const jwt = this.#jwt;
    return (notes, path, value, at) =>
      jwt ? jwt.claim(notes, cases, path, value, at) : valueMatch(notes, value, at) && NEVER;
  }

  /** What the listener asks about tokens; undefined: nothing. */
  get tokens(): ReturnType<JwtFilter['plan']> {
    return this.#jwt?.plan();
  }

  /** What the matches of these routes see of tokens. */
  rerouting(routeConfig: JsonObject): Rerouting {
    const at = this.filters.findIndex((f) => f.kind === 'jwt');
    const filter = this.filters[at];
    if (!filter || !this.#jwt) return new Rerouting(undefined, routeConfig);
    const { name, disabled } = filter;
    return new Rerouting({ jwt: this.#jwt, name, first: at === 0, disabled }, routeConfig);
  }

  /** The jwt_authn filter's providers with why they are left to the proxy. */
  providers(): Iterable<readonly [JsonObject, Notes]> {
    return this.#jwt?.outcomes() ?? [];
  }

  #perRouteRbac(notes: Notes, config: JsonObject, path: string, context: RbacContext): RbacOutcome {
    if (anyType(config) !== `${FILTERS}rbac.v3.RBACPerRoute`) {
      notes.add('per-route-filter', `unknown configuration ${anyType(config)}`, path, config);
    }
    onlyFields(notes, config, path, ['rbac']);
    const rbac = rbacOutcome(notes, obj(config, 'rbac') ?? {}, context, join(path, 'rbac'));
    this.#seen(rbac);
    return rbac;
  }

  #seen(rbac: RbacOutcome): void {
    this.remoteIp ||= rbac.remoteIp;
    for (const policy of rbac.policies) this.policies.set(policy, rbac.notes.reasons);
  }
}

/** Steps of a filter that leaves these requests to the proxy. */
function leave(condition: Condition): FilterSteps {
  if (condition === NEVER) return NOTHING;
  return { ...NOTHING, steps: [{ action: 'deny', condition, reply: 'proxy', why: UNKNOWN_TOKENS }] };
}

/** A step that would draw a delay, for the proxy to draw. */
function undrawn(step: Step): Step {
  return step.reply === 'delayed'
    ? { action: step.action, condition: step.condition, reply: 'proxy', why: HELD }
    : step;
}

/** Names of the request's headers that a filter looks at. */
function lookedAt({ steps, answer, cors }: FilterSteps): string[] {
  return [
    ...steps.flatMap(({ condition }) => headersOf(condition)),
    ...[...answer, ...(cors?.edits ?? [])].flatMap(({ value }) => headersIn(value)),
    ...(cors ? headersOf(cors.allowed) : []),
    ...(cors?.preflights ?? []).flatMap(({ condition, headers }) => [
      ...headersOf(condition),
      ...headers.flatMap(({ value }) => headersIn(value)),
    ]),
  ];
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
