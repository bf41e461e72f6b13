/** The HTTP filter chain: which filters are understood, and what applies to a route with its per-route configuration. */
import type { JsonObject } from '../policy/resources.js';
import { any, headersOf, NEVER } from './conditions.js';
import { faultOutcome } from './fault.js';
import type { Condition, RbacCheck, Reason, ReplyAction } from './ir.js';
import { JWT_TYPE, type JwtCase, JwtFilter, valueMatch } from './jwt.js';
import { anyType, bool, has, isObject, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import { type RbacContext, type RbacOutcome, rbacOutcome } from './rbac.js';

const FILTERS = 'envoy.extensions.filters.http.';

/** Filters that do nothing to a request unless a route configures them (when their own configuration is empty). */
const INERT: Record<string, readonly string[]> = {
  [`${FILTERS}cors.v3.Cors`]: [],
  [`${FILTERS}fault.v3.HTTPFault`]: [],
  [`${FILTERS}header_mutation.v3.HeaderMutation`]: [],
  [`${FILTERS}local_ratelimit.v3.LocalRateLimit`]: ['stat_prefix'],
  [`${FILTERS}set_metadata.v3.Config`]: [],
  [`${FILTERS}stateful_session.v3.StatefulSession`]: [],
};

interface Filter {
  readonly name: string;
  readonly type: string;
  readonly kind: 'rbac' | 'jwt' | 'inert' | 'descriptors' | 'foreign';
  readonly disabled: boolean;
  readonly resource: JsonObject;
  readonly rbac?: RbacOutcome;
}

export interface FilterOutcome {
  readonly checks: readonly RbacCheck[];
  /** a per-route configuration changed the checks */
  readonly overridden: boolean;
  readonly notes: Notes;
  /** what a fault filter answers every request with; `checks` are those before it */
  readonly abort?: ReplyAction;
  /** what a jwt_authn filter does: requests that it leaves to the proxy, and headers that go with a good token */
  readonly jwt?: JwtEffect;
}

export interface JwtEffect {
  readonly undecided: Condition;
  readonly removals: readonly { readonly name: string; readonly when: Condition }[];
}

/** The filters of one HTTP connection manager. */
export class FilterChain {
  readonly notes: Notes;
  readonly filters: Filter[] = [];
  /** RBAC policies met so far, with why their filter is left to the proxy (empty: it is not) */
  readonly policies = new Map<JsonObject, readonly Reason[]>();
  suppressEnvoyHeaders = false;
  /** some RBAC rule looks at the remote address */
  remoteIp = false;
  readonly #context: RbacContext;
  readonly #faultsMayChange: boolean;
  readonly #runtimeLayers: boolean;
  /** the jwt_authn filter: there is one at most */
  #jwt: JwtFilter | undefined;

  constructor(
    base: Notes,
    hcm: JsonObject,
    context: RbacContext,
    path: string,
    faultsMayChange: boolean,
    runtimeLayers: boolean,
  ) {
    this.notes = base;
    this.#context = context;
    this.#faultsMayChange = faultsMayChange;
    this.#runtimeLayers = runtimeLayers;
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
    if (type === `${FILTERS}router.v3.Router`) {
      onlyFields(this.notes, config, join(at, 'typed_config'), [
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
    const disabled = bool(f, 'disabled');
    const filter = { name, type, disabled, resource: f };
    if (type === `${FILTERS}rbac.v3.RBAC`) {
      const claims = this.#claims(this.#jwt && !disabled ? this.#jwt.outcome(undefined, at).cases : []);
      const rbac = rbacOutcome(this.notes, config, { ...this.#context, claims }, join(at, 'typed_config'));
      this.#seen(rbac);
      this.filters.push({ ...filter, kind: 'rbac', rbac });
    } else if (type === JWT_TYPE && !this.#jwt) {
      this.#jwt = new JwtFilter(this.notes, config, join(at, 'typed_config'), this.#runtimeLayers);
      this.filters.push({ ...filter, kind: 'jwt' });
    } else if (type === `${FILTERS}ratelimit.v3.RateLimit`) {
      this.filters.push({ ...filter, kind: 'descriptors' });
    } else {
      const known = INERT[type];
      const idle =
        known !== undefined && Object.keys(config).every((k) => k === '@type' || known.includes(k) || !has(config, k));
      this.filters.push({ ...filter, kind: idle ? 'inert' : 'foreign' });
    }
  }

  has(type: string): boolean {
    return this.filters.some((f) => f.type.startsWith(`${FILTERS}${type}.`));
  }

  /**
   * What the filters do to requests of a route.
   * @param levels the resources that may configure filters, most specific first: route, virtual host, route configuration
   */
  outcome(levels: readonly { readonly owner: JsonObject; readonly path: string }[]): FilterOutcome {
    const notes = this.notes.fork();
    const checks: RbacCheck[] = [];
    let overridden = false;
    let abort: ReplyAction | undefined;
    let jwt: JwtEffect | undefined;
    let cases: readonly JwtCase[] = [];
    for (const filter of this.filters) {
      // a request that was answered is not checked any more
      if (abort && (filter.kind === 'rbac' || filter.kind === 'jwt')) continue;
      const config = perRoute(filter.name, levels);
      if (config ? config.disabled : filter.disabled) {
        overridden ||= filter.kind === 'rbac' && !filter.disabled;
        continue;
      }
      const own = config && isObject(config.typed) ? config.typed : undefined;
      if (filter.kind === 'rbac') {
        overridden ||= own !== undefined || filter.disabled || this.#jwt !== undefined;
        const context = { ...this.#context, claims: this.#claims(cases) };
        const rbac = own
          ? this.#perRouteRbac(notes, own, config!.path, context)
          : this.#jwt
            ? rbacOutcome(this.notes, obj(filter.resource, 'typed_config') ?? {}, context, filter.name)
            : filter.rbac!;
        if (jwt) jwt = withoutRemoved(jwt, rbac.checks);
        notes.reasons.push(...rbac.notes.reasons);
        checks.push(...rbac.checks);
      } else if (filter.kind === 'jwt') {
        const found = this.#jwt!.outcome(own, config?.path ?? 'http_filters');
        notes.reasons.push(...found.notes.reasons);
        cases = found.cases;
        const undecided = this.#jwt!.undecided(notes, cases);
        jwt = { undecided, removals: this.#jwt!.removals(notes, cases) };
      } else if (filter.kind === 'foreign') {
        notes.add(
          'http-filter',
          `the filter ${filter.name} (${filter.type}) is run by the proxy`,
          'http_filters',
          filter.resource,
        );
      } else if (own && filter.type === `${FILTERS}fault.v3.HTTPFault` && anyType(own) === filter.type) {
        const found = faultOutcome(notes, own, config!.path, this.#faultsMayChange);
        if (found && found !== 'none') abort ??= found;
      } else if (own) {
        notes.add('per-route-filter', `the filter ${filter.name} is configured here`, config!.path, config!.owner);
      }
    }
    const effect = jwt && (jwt.undecided !== NEVER || jwt.removals.length > 0) ? { jwt } : {};
    return abort ? { checks, overridden: true, notes, abort, ...effect } : { checks, overridden, notes, ...effect };
  }

  /** Tests of what the jwt_authn filter has written by now: nothing, where it comes later or does not apply. */
  #claims(cases: readonly JwtCase[]): RbacContext['claims'] {
    const jwt = this.#jwt;
    return (notes, path, value, at) =>
      jwt ? jwt.claim(notes, cases, path, value, at) : valueMatch(notes, value, at) && NEVER;
  }

  get tokens(): ReturnType<JwtFilter['plan']> {
    return this.#jwt?.plan();
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

/** Rules that look at a header which a good token took with it see another request: those with a token are the proxy's. */
function withoutRemoved(jwt: JwtEffect, checks: readonly RbacCheck[]): JwtEffect {
  const looked = new Set(checks.flatMap((check) => headersOf(check.condition)));
  const touched = jwt.removals.filter(({ name }) => looked.has(name)).map(({ when }) => when);
  return { ...jwt, undecided: any([jwt.undecided, ...touched]) };
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
