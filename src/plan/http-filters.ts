/** The HTTP filter chain: which filters are understood, and what applies to a route with its per-route configuration. */
import type { JsonObject } from '../policy/resources.js';
import { faultOutcome } from './fault.js';
import type { RbacCheck, Reason, ReplyAction } from './ir.js';
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
  readonly kind: 'rbac' | 'inert' | 'descriptors' | 'foreign';
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

  constructor(base: Notes, hcm: JsonObject, context: RbacContext, path: string, faultsMayChange: boolean) {
    this.notes = base;
    this.#context = context;
    this.#faultsMayChange = faultsMayChange;
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
      const rbac = rbacOutcome(this.notes, config, this.#context, join(at, 'typed_config'));
      this.#seen(rbac);
      this.filters.push({ ...filter, kind: 'rbac', rbac });
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
    for (const filter of this.filters) {
      // a request that was answered is not checked any more
      if (abort && filter.kind === 'rbac') continue;
      const config = perRoute(filter.name, levels);
      if (config ? config.disabled : filter.disabled) {
        overridden ||= filter.kind === 'rbac' && !filter.disabled;
        continue;
      }
      const own = config && isObject(config.typed) ? config.typed : undefined;
      if (filter.kind === 'rbac') {
        overridden ||= own !== undefined || filter.disabled;
        const rbac = own ? this.#perRouteRbac(notes, own, config!.path) : filter.rbac!;
        notes.reasons.push(...rbac.notes.reasons);
        checks.push(...rbac.checks);
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
    return abort ? { checks, overridden: true, notes, abort } : { checks, overridden, notes };
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
