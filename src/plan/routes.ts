/** Virtual hosts and their routes. */
import type { JsonObject } from '../policy/resources.js';
import { type ListenerContext, proxied, type RouteContext, type Variant } from './actions.js';
import { hasEdits, headersIn, localReply } from './answers.js';
import { ALWAYS, all, any, headerPresent, headersOf, NEVER, test } from './conditions.js';
import type { FilterOutcome, TokenChange } from './filter-outcome.js';
import { forwardVariants } from './forward.js';
import { clusterLevel, responseEdits } from './header-edits.js';
import type { FilterChain } from './http-filters.js';
import type { Action, Condition, Piece, Reason, RoutePlan, VirtualHostPlan } from './ir.js';
import { writes } from './log-format.js';
import { bool, has, isObject, join, list, Notes, obj, onlyFields, str, strings } from './notes.js';
import { directResponseVariants, redirectVariants } from './replies.js';
import type { Rerouting } from './rerouting.js';
import { routeMatch } from './route-match.js';
import { streamVariant } from './streams.js';
import { continues, madeHeaders, saysMade, saysRandom, traceGuard, withMade } from './trace-context.js';
import { type Decoration, decorationOf } from './tracing.js';

/** Receives, for objects of the resources, why they are not offloaded (nothing: they are). */
export type Outcome = (object: JsonObject, reasons: readonly Reason[], routeIds?: readonly string[]) => void;

/** Everything that the routes of one listener depend on. */
export interface RoutesContext {
  readonly listener: ListenerContext;
  readonly name: string;
  readonly chain: FilterChain;
  readonly routeConfig: JsonObject;
  /** reasons that concern every route (from the route configuration) */
  readonly common: Notes;
  readonly outcome: Outcome;
  readonly rerouting: Rerouting;
}

const ACTIONS = ['route', 'redirect', 'direct_response', 'filter_action', 'non_forwarding_action'];

/** Reasons in the route configuration itself; they apply to every route. */
export function routeConfigNotes(notes: Notes, config: JsonObject): void {
  onlyFields(notes, config, 'route_config', [
    'name',
    'virtual_hosts',
    'request_headers_to_add',
    'request_headers_to_remove',
    'response_headers_to_add',
    'response_headers_to_remove',
    'most_specific_header_mutations_wins',
    'validate_clusters',
    'max_direct_response_body_size_bytes',
    'cluster_specifier_plugins',
    'request_mirror_policies',
    'ignore_port_in_host_matching',
    'typed_per_filter_config',
    'metadata',
  ]);
}

function virtualHostNotes(notes: Notes, vhost: JsonObject): void {
  const path = 'virtual_host';
  onlyFields(notes, vhost, path, [
    'name',
    'domains',
    'routes',
    'require_tls',
    'virtual_clusters',
    'rate_limits',
    'request_headers_to_add',
    'request_headers_to_remove',
    'response_headers_to_add',
    'response_headers_to_remove',
    'cors',
    'typed_per_filter_config',
    'include_request_attempt_count',
    'include_is_timeout_retry_header',
    'retry_policy',
    'hedge_policy',
    'per_request_buffer_limit_bytes',
    'request_body_buffer_limit',
    'request_mirror_policies',
    'metadata',
  ]);
  const tls = str(vhost, 'require_tls');
  if (tls !== '' && tls !== 'NONE')
    notes.add('require-tls', `require_tls is ${tls}`, join(path, 'require_tls'), vhost, 'require_tls');
}

function variantsOf(notes: Notes, ctx: RouteContext): Variant[] {
  const { route, path } = ctx;
  const kind = ACTIONS.find((k) => isObject(route[k]));
  const action = kind === undefined ? undefined : obj(route, kind);
  if (kind === 'route') return forwardVariants(notes, action!, ctx, join(path, 'route'));
  if (kind === 'redirect') return redirectVariants(notes, action!, ctx, join(path, 'redirect'));
  if (kind === 'direct_response') return directResponseVariants(notes, action!, join(path, 'direct_response'));
  notes.add('route-action', `the action is ${kind ?? 'missing'}`, join(path, kind ?? 'route'), route);
  return [proxied(notes, ALWAYS)];
}

function aborted(notes: Notes, abort: NonNullable<FilterOutcome['abort']>): Variant[] {
  if (!notes.clean) return [proxied(notes, ALWAYS)];
  return abort.map(({ when, action }) => ({ when, action, reasons: [], guard: false }));
}

/** The filters' edits of answers, and then those that say what spans are called. */
function decorated(filters: FilterOutcome, { answer }: Decoration): FilterOutcome {
  if (answer.length === 0) return filters;
  const cases = filters.cases.map(({ when, edits }) => ({
    when,
    edits: { ...edits, filters: [...edits.filters, ...answer] },
  }));
  return { ...filters, cases };
}

const isFigure = ({ kind }: Piece): boolean => kind === 'figure';

/** A variant with the edits of its answers, once for each case of them. */
function byAnswer(
  notes: Notes,
  v: Variant,
  filters: FilterOutcome,
  { logged, keepsCase, streams }: Pick<ListenerContext, 'logged' | 'keepsCase' | 'streams'>,
): Variant[] {
  const { action } = v;
  if (action.kind === 'proxy') return [v];
  const edited = filters.cases.flatMap(({ edits }) => [...edits.route, ...edits.filters]);
  const unknown = edited.find(({ name }) => logged.some((o) => writes(o, 'RESP', name)));
  // of streams, the agent edits what it logs
  if (unknown && action.kind === 'forward' && !streams) {
    const own = notes.fork();
    own.add('access-log', `the header ${unknown.name} of answers is edited and logged`, 'response_headers_to_add');
    return [{ ...proxied(own, v.when), guard: v.guard }];
  }
  return filters.cases.map(({ when, edits }): Variant => {
    const rewritten = [...edits.route, ...edits.filters].find(({ op }) => op !== 'remove' && op !== 'add_if_absent');
    if (keepsCase && action.kind === 'forward' && rewritten) {
      const own = notes.fork();
      own.add('response-headers', `${rewritten.name} is edited where names are spelled`, 'response_headers_to_add');
      return { ...proxied(own, all([v.when, when])), guard: v.guard };
    }
    if (!hasEdits(edits)) return when === ALWAYS ? v : { ...v, when: all([v.when, when]) };
    if (v.checks) {
      const own = notes.fork();
      own.add('response-headers', 'answers of a filter of the cluster are edited', 'response_headers_to_add');
      return { ...proxied(own, all([v.when, when])), guard: v.guard };
    }
    if (action.kind === 'forward' && action.retry && edits.filters.some(({ value }) => value.some(isFigure))) {
      const own = notes.fork();
      own.add('rate-limit', 'x-ratelimit headers of answers to requests that may be tried again', 'retry_policy');
      return { ...proxied(own, all([v.when, when])), guard: v.guard };
    }
    const answer: Action =
      action.kind === 'forward'
        ? { ...withMade(action, [...edits.route, ...edits.filters]), answer: edits }
        : localReply(
            action.status,
            action.body,
            edits,
            action.headers.filter((h) => h.name !== 'content-type'),
          );
    return { ...v, when: all([v.when, when]), action: answer };
  });
}

function routePlans(
  ctx: RoutesContext,
  vhost: JsonObject,
  vhostNotes: Notes,
  route: JsonObject,
  index: number,
  id: string,
): RoutePlan[] {
  const path = `route[${index}]`;
  const matchNotes = ctx.common.fork();
  const { condition, matched } = routeMatch(
    matchNotes,
    obj(route, 'match') ?? {},
    join(path, 'match'),
    ctx.listener.mayChange,
    ctx.rerouting.metadata,
    ctx.listener.http2,
  );
  if (isObject(obj(route, 'match')?.grpc) && !ctx.listener.http2)
    matchNotes.add('grpc', 'only gRPC requests match', join(path, 'match.grpc'), route);
  const unseen = condition && ctx.rerouting.unseen(matchNotes, condition, join(path, 'match'), route);

  const notes = ctx.common.fork();
  notes.reasons.push(...ctx.common.reasons, ...vhostNotes.reasons, ...(ctx.listener.left?.get(route) ?? []));
  onlyFields(notes, route, path, [
    ...ACTIONS,
    'name',
    'match',
    'metadata',
    'decorator',
    'typed_per_filter_config',
    'request_headers_to_add',
    'request_headers_to_remove',
    'response_headers_to_add',
    'response_headers_to_remove',
    'per_request_buffer_limit_bytes',
    'request_body_buffer_limit',
    'stat_prefix',
  ]);
  const levels = [
    { owner: route, path },
    { owner: vhost, path: 'virtual_host' },
    { owner: ctx.routeConfig, path: 'route_config' },
  ];
  const specificWins = bool(ctx.routeConfig, 'most_specific_header_mutations_wins');
  const made = madeHeaders(ctx.listener.trace, ctx.listener.requestIds);
  const edits = responseEdits(notes, levels, specificWins, clusterLevel(notes, route, path), made);
  const filters = ctx.chain.outcome({ levels, hasEntry: isObject(route.route), edits });
  notes.reasons.push(...filters.notes.reasons);
  const decoration = decorationOf(notes, ctx.listener.trace, route, path);
  if (
    decoration.answer.length > 0 &&
    decoration.operation !== undefined &&
    (filters.checks.length > 0 || filters.abort)
  )
    notes.add('tracing', 'answers of filters say what spans are called', join(path, 'decorator'), route, 'decorator');

  if (saysMade(edits) && (filters.checks.length > 0 || filters.abort || !isObject(route.route)))
    notes.add('header-format', 'answers of the mesh itself say what is made for a request', path, route);

  const domains = strings(vhost, 'domains').map((d) => d.toLowerCase());
  const plain: Variant[] = filters.abort
    ? aborted(notes, filters.abort)
    : variantsOf(notes, {
        listener: ctx.listener,
        routeConfig: ctx.routeConfig,
        virtualHost: vhost,
        domains,
        route,
        path,
        matched,
        filters,
        decoration,
      }).flatMap((v) => byAnswer(notes, v, decorated(filters, decoration), ctx.listener));
  const variants = plain
    .flatMap((v) => withTokens(notes, v, filters.changes))
    .map((v) => (ctx.listener.streams ? streamVariant(notes, v, path) : v));
  if (saysRandom(edits)) {
    const own = notes.fork();
    own.add('request-dependent', 'answers say ids of a trace to which the request belongs', 'response_headers_to_add');
    variants.unshift({ ...proxied(own, continues), guard: true });
  }
  const position = ctx.listener.provenance.get(route);
  const name = str(route, 'name') || `${str(vhost, 'name')}[${index}]`;
  const base = {
    name,
    ...(ctx.listener.logged.length > 0 && str(route, 'name') !== '' ? { routeName: str(route, 'name') } : {}),
    ...(decoration.operation === undefined ? {} : { operation: decoration.operation }),
    ...(position ? { position } : {}),
    ...(filters.overridden && filters.notes.clean ? { rbac: filters.checks } : {}),
  };

  const own = [...matchNotes.reasons, ...variants.filter((v) => !v.guard).flatMap((v) => v.reasons)];
  const idOf = (k: number) => (variants.length === 1 ? id : `${id}.${k}`);
  ctx.outcome(route, dedupe(own), unseen === undefined || condition === NEVER ? [id] : variants.map((_, k) => idOf(k)));
  if (condition === NEVER)
    return [{ ...base, id, match: NEVER, action: { kind: 'proxy' }, reasons: dedupe(notes.reasons) }];
  if (condition === undefined || unseen === undefined)
    return [{ ...base, id, action: { kind: 'proxy' }, reasons: dedupe(own) }];
  const guards: RoutePlan[] = unseen === NEVER ? [] : [reroutedGuard(notes, `${id}/rerouted`, unseen)];
  const plans = variants.map((v, k) => ({
    ...base,
    id: idOf(k),
    match: all([condition, v.when]),
    action: v.action,
    ...(v.checks ? { rbac: [...filters.checks, ...v.checks] } : {}),
    // a guard must not be answered by a check that it guards
    ...(v.action.kind === 'proxy' ? { rbac: [] } : {}),
    reasons: dedupe(v.reasons),
    ...(v.guard ? { guard: true } : {}),
  }));
  return [...guards, ...plans];
}

/** Leaves requests to the proxy whose headers are others when the proxy looks for their route once more. */
function reroutedGuard(notes: Notes, id: string, match: Condition): RoutePlan {
  const own = notes.fork();
  own.add('request-dependent', 'a good token changes a header that the match looks at', 'match.headers');
  return { id, name: 'guard', match, action: { kind: 'proxy' }, rbac: [], reasons: own.reasons, guard: true };
}

/** Names of the headers that what comes behind the filter chain looks at. */
function lookedAt({ action, checks = [] }: Variant): string[] {
  const names = checks.flatMap((check) => headersOf(check.condition));
  if (action.kind === 'reply') names.push(...action.headers.flatMap(({ value }) => headersIn(value)));
  if (action.kind === 'forward') {
    const edits = [...(action.answer?.route ?? []), ...(action.answer?.filters ?? [])];
    names.push(...edits.flatMap(({ value }) => headersIn(value)));
    for (const { of } of action.hash ?? []) {
      if (of.kind === 'header') names.push(of.name.toLowerCase());
      else if (of.kind === 'cookie') names.push('cookie');
    }
  }
  return names;
}

/** A variant behind a jwt_authn filter: the same once more for each thing that a good token does to a request. */
function withTokens(notes: Notes, variant: Variant, changes: readonly TokenChange[]): Variant[] {
  const { action } = variant;
  if (action.kind === 'proxy') return [variant];
  const looked = lookedAt(variant);
  const edited = action.kind === 'forward' ? action.edits : [];
  const changed = changes.flatMap(({ remove, adds, when }): Variant[] => {
    const both = all([variant.when, when]);
    const left = (message: string): Variant[] => {
      const unknown = notes.fork();
      unknown.add('request-dependent', message, 'jwt_authn');
      return [{ ...proxied(unknown, both), guard: true }];
    };
    if (looked.includes(remove)) return left('a header that goes with a good token is looked at afterwards');
    if (adds.some((name) => looked.includes(name)) || (adds.length > 0 && variant.checks))
      return left('a header with claims is looked at afterwards');
    // the filter itself takes each of them out once
    const more = adds.some((name) => edited.filter((edit) => edit.name === name).length > 1);
    if (more) return left('a header with claims is edited afterwards');
    if (action.kind === 'reply') return [];
    // the edits of filters before this one do not touch the header, and the router's come later
    const edits = remove === '' ? action.edits : [{ op: 'remove' as const, name: remove }, ...action.edits];
    return [
      { ...variant, when: both, action: { ...action, edits, ...(adds.length > 0 ? { tokenHeaders: true } : {}) } },
    ];
  });
  return [...changed, variant];
}

/** The same reasons, each once. */
export function dedupe(reasons: readonly Reason[]): Reason[] {
  const seen = new Set<string>();
  return reasons.filter((r) => {
    const key = `${r.code}\0${r.field}\0${r.message}`;
    return seen.has(key) ? false : seen.add(key);
  });
}

/** Requests that every virtual host leaves to the proxy because of their form. */
function guardRoute(ctx: RoutesContext, stripConditions: readonly Condition[], id: string): RoutePlan {
  const notes = ctx.common.fork();
  const conditions: Condition[] = [];
  // with HTTP/2 all replies are the proxy's, so a request need not be left to it for theirs
  if (!ctx.listener.http2) {
    conditions.push(
      test({ kind: 'header', name: 'content-type' }, { kind: 'prefix', value: 'application/grpc', ignoreCase: false }),
    );
    notes.add('grpc', 'gRPC requests are answered in their own form', 'content-type');
  }
  conditions.push(...stripConditions);
  const { edge, userAgent, trace } = ctx.listener;
  if (edge) {
    conditions.push(edge.guard);
    notes.add('request-dependent', 'use_remote_address changes what the request says about its client', 'request');
  }
  if (userAgent) {
    conditions.push(userAgent.guard);
    notes.add('request-dependent', 'add_user_agent speaks for clients that do not', 'user-agent');
  }
  if (trace) {
    conditions.push(traceGuard(trace));
    notes.add('request-dependent', 'what the request says of its trace, or of its id, is of an odd form', 'tracing');
  }
  if (ctx.chain.remoteIp && !edge?.direct) {
    conditions.push(headerPresent('x-forwarded-for'));
    notes.add('request-dependent', 'x-forwarded-for decides the remote address', 'x-forwarded-for');
  }
  if (stripConditions.length > 0) notes.add('request-dependent', 'the port in the host is stripped', 'host');
  return {
    id,
    name: 'guard',
    match: any(conditions),
    action: { kind: 'proxy' },
    rbac: [],
    reasons: notes.reasons,
    guard: true,
  };
}

/** A last route that leaves what no route matched to the proxy, for these reasons. */
function catchAll(id: string, reasons: readonly Reason[]): RoutePlan {
  return {
    id,
    name: 'rest',
    match: ALWAYS,
    action: { kind: 'proxy' },
    rbac: [],
    reasons: dedupe(reasons),
    guard: true,
  };
}

/**
 * The virtual hosts of a listener. Each begins with a guard; there always is one for every domain (`*`), so that the
 * guard holds for unknown hosts too.
 * @param strip conditions under which the proxy would change the Host header
 */
export function virtualHosts(ctx: RoutesContext, strip: readonly Condition[]): VirtualHostPlan[] {
  const unmatched = ctx.chain.outcome().notes;
  const rest = [...ctx.common.reasons, ...unmatched.reasons];
  const hosts = list(ctx.routeConfig, 'virtual_hosts');
  const drafts = hosts.map((vhost) => {
    const notes = new Notes(ctx.listener.provenance, ctx.chain.notes.environment);
    virtualHostNotes(notes, vhost);
    notes.reasons.push(...(ctx.listener.left?.get(vhost) ?? []));
    const name = str(vhost, 'name');
    const routes = list(vhost, 'routes').flatMap((r, i) =>
      routePlans(ctx, vhost, notes, r, i, `${ctx.name}/${name}/${i}`),
    );
    if (has(vhost, 'matcher')) notes.add('route-match', 'a matcher tree', 'virtual_host.matcher', vhost, 'matcher');
    ctx.outcome(vhost, notes.reasons);
    const tail = [...rest, ...notes.reasons];
    if (tail.length > 0) routes.push(catchAll(`${ctx.name}/${name}/rest`, tail));
    return { name, domains: strings(vhost, 'domains').map((d) => d.toLowerCase()), routes };
  });
  if (!drafts.some((d) => d.domains.includes('*'))) {
    const routes = rest.length > 0 ? [catchAll(`${ctx.name}//rest`, rest)] : [];
    drafts.push({ name: '', domains: ['*'], routes });
  }
  // guards last: only now is it known whether any rule looks at the remote address
  return drafts.map((d) => ({ ...d, routes: [guardRoute(ctx, strip, `${ctx.name}/${d.name}/guard`), ...d.routes] }));
}
