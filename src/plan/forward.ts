/** RouteAction -> forward actions, with the edits that Envoy's router makes by itself. */

import type { JsonObject } from '../policy/resources.js';
import { proxied, type RouteContext, type Variant } from './actions.js';
import { ALWAYS, headerPresent, test } from './conditions.js';
import { type Choice, choices } from './destinations.js';
import { usesDns } from './endpoints.js';
import { hashPolicies } from './hash-policy.js';
import { respelled } from './header-case.js';
import { clusterLevel, requestEdits } from './header-edits.js';
import type { ForwardAction, HeaderEdit, Piece, RbacCheck, RetryAction } from './ir.js';
import { mirrorPlan } from './mirrors.js';
import { byHost } from './named-by-request.js';
import { bool, durationMs, has, join, type Notes, obj, onlyFields, str } from './notes.js';
import { rbacOutcome } from './rbac.js';
import { type PolicyPart, policiesOf, rememberPolicies } from './rbac-policies.js';
import { type RetryPlan, retryPolicy, triesAgain } from './retry.js';
import { retryAmong } from './retry-among.js';
import { beforeRewrite } from './rewritten.js';
import { streamTimes } from './stream-times.js';
import { targetRewrite } from './target.js';
import { traceEdits } from './trace-context.js';
import { reports } from './tracing.js';

const DEFAULT_TIMEOUT_MS = 15_000;
/** Domains of a virtual host for which a variant of a host rewrite is made, at most. */
const MAX_HOSTS = 24;

const KNOWN = [
  'cluster',
  'weighted_clusters',
  'cluster_not_found_response_code',
  'metadata_match',
  'prefix_rewrite',
  'regex_rewrite',
  'host_rewrite_literal',
  'auto_host_rewrite',
  'append_x_forwarded_host',
  'timeout',
  'idle_timeout',
  'flush_timeout',
  'retry_policy',
  'hedge_policy',
  'hash_policy',
  'upgrade_configs',
  // for gRPC requests only, which a guard leaves to the proxy
  'max_grpc_timeout',
  'grpc_timeout_offset',
  'max_stream_duration',
  'priority',
  'cors',
  'rate_limits',
  'include_vh_rate_limits',
  'request_mirror_policies',
  'early_data_policy',
];

/** The time for the complete answer, for the head of a try's, and for which nothing may move; 0: none. */
function timeouts(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  retry: RetryPlan,
  chosen: readonly Choice[],
  path: string,
): { timeout: number; perTry: number; idle: number } {
  // with max_stream_duration, the router has no timeout of its own
  const timeout = has(action, 'max_stream_duration') ? 0 : (durationMs(action, 'timeout') ?? DEFAULT_TIMEOUT_MS);
  const perTry = timeout > 0 && retry.perTryTimeoutMs >= timeout ? 0 : retry.perTryTimeoutMs;
  const idle = durationMs(action, 'idle_timeout') ?? ctx.listener.streamIdleTimeoutMs;
  const duration = obj(action, 'max_stream_duration');
  const at = join(path, 'max_stream_duration');
  // the other fields are about gRPC's own timeout header
  const fields = ['grpc_timeout_header_max', 'grpc_timeout_header_offset', 'max_stream_duration'];
  if (duration) onlyFields(notes, duration, at, fields);
  if (ctx.listener.streams) return { timeout, perTry, idle };
  if ((durationMs(duration, 'max_stream_duration') ?? 0) > 0)
    notes.add('timeout', 'max_stream_duration', at, action, 'max_stream_duration');
  else if (idle > 0 && (timeout === 0 || idle < timeout)) {
    // how much of a body moves while nobody reads it depends on the proxy's buffers; the agent has Envoy's own
    const limit = 'per_connection_buffer_limit_bytes';
    const key = has(action, 'timeout') ? 'timeout' : 'idle_timeout';
    if (ctx.listener.otherBuffers || chosen.some(({ info }) => has(info.resource, limit)))
      notes.add('idle-timeout', `an idle timeout of ${idle} ms beside ${limit}`, join(path, key), action, key);
  }
  return { timeout, perTry, idle };
}

function otherFields(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  chosen: readonly Choice[],
  path: string,
): void {
  for (const key of ['host_rewrite_header', 'host_rewrite_path_regex', 'host_rewrite']) {
    if (has(action, key)) notes.add('host-rewrite', key, join(path, key), action, key);
  }
  for (const key of ['path_rewrite_policy', 'path_rewrite']) {
    if (has(action, key)) notes.add('path-rewrite', key, join(path, key), action, key);
  }
  if (bool(action, 'auto_host_rewrite')) {
    const named = chosen.some(({ info }) => usesDns(info.resource) || info.endpoints.some((e) => e.hostname !== ''));
    if (named)
      notes.add(
        'host-rewrite',
        'the host becomes the endpoint’s name',
        join(path, 'auto_host_rewrite'),
        action,
        'auto_host_rewrite',
      );
  }
  const priority = str(action, 'priority');
  if (priority !== '' && priority !== 'DEFAULT')
    notes.add('unsupported-field', `priority ${priority}`, join(path, 'priority'), action, 'priority');
  if (ctx.listener.hasRateLimitFilter && (has(action, 'rate_limits') || has(ctx.virtualHost, 'rate_limits'))) {
    notes.add('rate-limit', 'rate limit descriptors', join(path, 'rate_limits'), action, 'rate_limits');
  }
}

/** Variants of a host rewrite: the proxy tells the upstream the old host, which is known for exact domains only. */
function hostVariants(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  forward: ForwardAction,
  path: string,
): Variant[] {
  const host = str(action, 'host_rewrite_literal');
  const kernel = (when: Variant['when'], a: ForwardAction): Variant => ({ when, action: a, reasons: [], guard: false });
  if (host === '') return [kernel(ALWAYS, forward)];
  const forwardedHost = bool(action, 'append_x_forwarded_host');
  const suppress = ctx.listener.suppressEnvoyHeaders;
  if (suppress && !forwardedHost) return [kernel(ALWAYS, { ...forward, host })];

  const exact = ctx.domains.filter((d) => !d.includes('*'));
  // where ports are ignored, clients that name the port are the other common case
  const bare = ctx.listener.stripPort === 'none' ? [] : exact.filter((d) => !/:\d+$/.test(d));
  const withPort = bare.flatMap((d) => ctx.listener.clientPorts.map((port) => `${d}:${port}`));
  const hosts = [...new Set([...exact, ...withPort])];
  if (hosts.length === 0 || hosts.length > MAX_HOSTS || exact.length < ctx.domains.length) {
    notes.add(
      'host-rewrite',
      'the host is rewritten on wildcard domains',
      join(path, 'host_rewrite_literal'),
      action,
      'host_rewrite_literal',
    );
    return [proxied(notes, ALWAYS)];
  }
  const variants: Variant[] = [];
  if (forwardedHost) {
    const guard = notes.fork();
    guard.add('request-dependent', 'x-forwarded-host is appended to', join(path, 'append_x_forwarded_host'), action);
    variants.push({ ...proxied(guard, headerPresent('x-forwarded-host')), guard: true });
  }
  for (const old of hosts) {
    const edits: HeaderEdit[] = [...forward.edits];
    if (forwardedHost) edits.push({ op: 'append', name: 'x-forwarded-host', value: old });
    if (!suppress) edits.push({ op: 'overwrite', name: 'x-envoy-original-host', value: old });
    variants.push(
      kernel(test({ kind: 'host' }, { kind: 'exact', value: old, ignoreCase: false }), { ...forward, host, edits }),
    );
  }
  const rest = notes.fork();
  rest.add(
    'request-dependent',
    'the host is written in another way than in the domains',
    join(path, 'host_rewrite_literal'),
    action,
  );
  return [...variants, { ...proxied(rest, ALWAYS), guard: true }];
}

const NAMED = { kind: 'proxy', why: 'it is logged which policy of the cluster stops a request' } as const;

/**
 * The checks of RBAC filters that the chosen clusters have, in terms of the request as received. Weighted clusters must
 * agree, since the choice between them is made after the check.
 */
function upstreamChecks(
  notes: Notes,
  ctx: RouteContext,
  chosen: readonly Choice[],
  forward: ForwardAction,
  path: string,
): RbacCheck[] {
  const { listener } = ctx;
  const configs = chosen.map(({ info }) => JSON.stringify(info.upstreamRbac));
  if (new Set(configs).size > 1) {
    notes.add('rbac-rule', 'the clusters have different RBAC filters', join(path, 'weighted_clusters'), ctx.route);
    return [];
  }
  const checks: RbacCheck[] = [];
  for (const config of chosen[0]?.info.upstreamRbac ?? []) {
    const name = chosen[0]!.info.name;
    const rbac = rbacOutcome(notes, config, listener, `cluster ${name}: rbac`);
    notes.reasons.push(...rbac.notes.reasons);
    if (rbac.remoteIp) listener.usesRemoteIp();
    for (const original of rbac.checks) {
      const { action, condition, details } = original;
      const match = obj(ctx.route, 'match') ?? {};
      const before = beforeRewrite(condition, match, forward);
      if (before) {
        const check: RbacCheck = { action, condition: before, ...(details === undefined ? {} : { reply: NAMED }) };
        const parts = policiesOf(original).map((p) => ({
          ...p,
          condition: beforeRewrite(p.condition, match, forward),
        }));
        if (parts.every((p): p is PolicyPart => p.condition !== undefined)) rememberPolicies(check, parts);
        checks.push(check);
      } else notes.add('rbac-rule', 'a rule on the rewritten request', `cluster ${name}: rbac`, ctx.route);
    }
  }
  return checks;
}

function retryAction(
  { statuses, resets, grpc, refused, retries, backoffMs }: RetryPlan,
  streams: boolean,
  tried: readonly string[] | undefined,
): RetryAction {
  return {
    ...{ statuses, resets, retries, backoffMs },
    ...(streams ? { streams: { grpc, refused } } : {}),
    ...(tried ? { tried } : {}),
  };
}

/** Of streams, what Envoy keeps of a body is what one may send at first, unless these say otherwise. */
function keptBodies(notes: Notes, ctx: RouteContext): void {
  for (const [owner, path] of [
    [ctx.route, ctx.path],
    [ctx.virtualHost, 'virtual_host'],
  ] as const)
    for (const key of ['per_request_buffer_limit_bytes', 'request_body_buffer_limit'])
      if (has(owner, key)) notes.add('retry', `${key} of streams that may be tried again`, join(path, key), owner, key);
}

/** A second try beside a first one that takes too long (hedge_policy) is made where a try may take too long only. */
function hedging(notes: Notes, ctx: RouteContext, action: JsonObject, perTry: number, path: string): void {
  const own = obj(action, 'hedge_policy');
  const hedge = own ?? obj(ctx.virtualHost, 'hedge_policy');
  if (!hedge) return;
  const at = own ? join(path, 'hedge_policy') : 'virtual_host.hedge_policy';
  onlyFields(notes, hedge, at, ['hedge_on_per_try_timeout']);
  if (perTry > 0 && bool(hedge, 'hedge_on_per_try_timeout'))
    notes.add('retry', 'tries that take too long go on beside the next one', at, hedge, 'hedge_on_per_try_timeout');
}

/** A RouteAction as variants; `notes` may already hold reasons, and then the only variant is the proxy. */
export function forwardVariants(notes: Notes, action: JsonObject, ctx: RouteContext, path: string): Variant[] {
  const { listener } = ctx;
  onlyFields(notes, action, path, [
    ...KNOWN,
    'host_rewrite_header',
    'host_rewrite_path_regex',
    'host_rewrite',
    'path_rewrite_policy',
    'path_rewrite',
    'cluster_header',
    'cluster_specifier_plugin',
    'inline_cluster_specifier_plugin',
  ]);
  const chosen = choices(notes, ctx, action, path);
  const own = obj(action, 'retry_policy');
  const retry = retryPolicy(
    notes,
    own ?? obj(ctx.virtualHost, 'retry_policy'),
    own ? join(path, 'retry_policy') : 'virtual_host.retry_policy',
    ctx.listener.streams,
  );
  const retries = retry.retries > 0 && triesAgain(retry, ctx.listener.streams);
  const policy = own ?? obj(ctx.virtualHost, 'retry_policy');
  const tried = retries ? retryAmong(notes, chosen, retry, policy, ctx, path) : undefined;
  if (retries && ctx.listener.streams) keptBodies(notes, ctx);
  const { timeout: timeoutMs, perTry, idle } = timeouts(notes, ctx, action, retry, chosen, path);
  hedging(notes, ctx, action, perTry, path);
  const target = targetRewrite(notes, ctx, action, path);
  otherFields(notes, ctx, action, chosen, path);
  const mirror = mirrorPlan(notes, ctx, action, path, { timeoutMs, weighted: chosen.length > 1 });
  const levels = [
    { owner: ctx.route, path: ctx.path },
    { owner: ctx.virtualHost, path: 'virtual_host' },
    { owner: ctx.routeConfig, path: 'route_config' },
  ];
  const edits: HeaderEdit[] = [];
  if (listener.removeClientCert) edits.push({ op: 'remove', name: 'x-forwarded-client-cert' });
  edits.push(
    ...requestEdits(
      notes,
      levels,
      bool(ctx.routeConfig, 'most_specific_header_mutations_wins'),
      clusterLevel(notes, ctx.route, ctx.path),
      ctx.filters.request,
      listener.streams ? 'HTTP/2' : 'HTTP/1.1',
    ),
  );
  if (edits.some((e) => e.op !== 'remove' && typeof e.value !== 'string')) listener.usesRemoteIp();
  edits.push(...(listener.userAgent?.edits ?? []));
  const source: Piece[] = [{ kind: 'source_ip' }];
  if (listener.edge?.append) edits.push({ op: 'join', name: 'x-forwarded-for', value: source });
  if (listener.edge) edits.push({ op: 'overwrite', name: 'x-envoy-external-address', value: source });
  if (!listener.suppressEnvoyHeaders && (perTry > 0 || timeoutMs > 0)) {
    edits.push({ op: 'overwrite', name: 'x-envoy-expected-rq-timeout-ms', value: String(perTry || timeoutMs) });
  }
  if (bool(ctx.virtualHost, 'include_request_attempt_count')) {
    edits.push({ op: 'overwrite', name: 'x-envoy-attempt-count', value: '1' });
  }
  if (listener.trace) {
    edits.push(...ctx.decoration.request, ...traceEdits(listener.trace));
    const [field, owner] = own ? [join(path, 'retry_policy'), own] : ['virtual_host.retry_policy', ctx.virtualHost];
    if (reports(listener.trace) && retries)
      notes.add('tracing', 'requests that may be tried again are traced as one', field, owner);
    if (listener.trace.tracer === 'skywalking' && listener.suppressEnvoyHeaders && target !== undefined)
      notes.add('tracing', 'spans are called by the path that is rewritten', path, action);
    if (reports(listener.trace) && listener.suppressEnvoyHeaders && has(action, 'host_rewrite_literal'))
      notes.add(
        'tracing',
        'spans are called by the host that is rewritten',
        join(path, 'host_rewrite_literal'),
        action,
      );
  }
  const times = listener.streams
    ? streamTimes(notes, action, path, {
        edits,
        tries: [retry.perTryTimeoutMs, perTry],
        quiet: listener.suppressEnvoyHeaders,
      })
    : undefined;
  const hashing = chosen.some(({ cluster }) => cluster.table);
  const host = str(action, 'host_rewrite_literal');
  // the id of a request that is traced says so
  const hashed: HeaderEdit[] = listener.trace ? [...edits, { op: 'remove', name: 'x-request-id' }] : edits;
  const changes = { edits: hashed, target: target !== undefined, host: host !== '' };
  const hash = hashing ? hashPolicies(notes, ctx, action, path, changes) : [];
  if (!notes.clean) return [proxied(notes, ALWAYS)];
  const forward: ForwardAction = {
    kind: 'forward',
    clusters: chosen.map(({ cluster, weight }) => ({ cluster: cluster.name, weight })),
    ...(target ? { target } : {}),
    edits,
    originalPath: target !== undefined && !listener.suppressEnvoyHeaders,
    timeoutMs,
    ...(perTry > 0 ? { perTryTimeoutMs: perTry } : {}),
    ...(idle > 0 ? { idleTimeoutMs: idle } : {}),
    ...(times ? { streamTimes: times } : {}),
    ...(retries ? { retry: retryAction(retry, ctx.listener.streams, tried) } : {}),
    ...(hash.length > 0 ? { hash } : {}),
    ...(ctx.filters.whole || mirror ? { whole: true } : {}),
    ...(mirror ? { mirror } : {}),
  };
  const checks = upstreamChecks(notes, ctx, chosen, host === '' ? forward : { ...forward, host }, path);
  if (!notes.clean) return [proxied(notes, ALWAYS)];
  const changed = listener.keepsCase ? respelled(host === '' ? forward : { ...forward, host }) : undefined;
  if (changed !== undefined)
    notes.add('header-edit', `${changed} is edited where names are spelled as they came`, path, ctx.route);
  if (!notes.clean) return [proxied(notes, ALWAYS)];
  const variants = hostVariants(notes, ctx, action, forward, path).map((v) =>
    checks.length > 0 && v.action.kind === 'forward' ? { ...v, checks } : v,
  );
  return variants.flatMap((v) => byHost(notes, ctx, chosen, v, (cluster) => listener.used.set(cluster.name, cluster)));
}
