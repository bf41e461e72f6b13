/**
 * What one HTTP filter does, before it is known what happens to the answers: steps that may answer a request, edits of
 * the request, edits of answers. Each filter sees the request as those before it have left it.
 */
import type { JsonObject } from '../policy/resources.js';
import { compressor, decompressor } from './compressor.js';
import { ALWAYS, all, any, test } from './conditions.js';
import { type CorsPlan, type CorsPolicy, corsPlan, enabled } from './cors.js';
import { looksAtAddress } from './descriptors.js';
import { faultOutcome } from './fault.js';
import { headerCondition } from './header-match.js';
import { mutationsOf } from './header-mutation.js';
import type { AnswerEdit, Condition, HeaderEdit, RbacCheck, ReplyAction } from './ir.js';
import { type LimitContext, LOCAL_LIMIT, localLimit } from './local-limits.js';
import { anyType, bool, has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';
import type { NamedCheck } from './rbac.js';
import type { MayChange } from './runtime.js';

/** A step that may stop a request. */
export interface Step {
  readonly action: RbacCheck['action'];
  readonly condition: Condition;
  readonly chance?: RbacCheck['chance'];
  /** what is stopped: a local reply, the proxy's business, a delay by the proxy, or (undefined) RBAC's own 403 */
  readonly reply?:
    | { readonly status: number; readonly body: string; readonly headers?: ReplyAction['headers'] }
    | 'proxy'
    | 'delayed';
  /** what is stopped takes a token instead, as long as there is one */
  readonly bucket?: RbacCheck['bucket'];
  /** why, in words, what is stopped is left to the proxy */
  readonly why?: string;
  /** the check of an RBAC filter that it is */
  readonly rbac?: NamedCheck;
}

export interface FilterSteps {
  readonly steps: readonly Step[];
  readonly request: readonly HeaderEdit[];
  readonly answer: readonly AnswerEdit[];
  /** a rate limit whose figures the answers have to requests that it counted */
  readonly figures?: boolean;
  readonly cors?: CorsPlan;
  readonly whole?: boolean;
  /** a condition is about the client's address, which x-forwarded-for may change */
  readonly remoteIp?: boolean;
}

/** A configuration of the filter at one level, the most specific first. */
export interface LevelConfig {
  readonly config: JsonObject;
  readonly path: string;
}

/** What filters are read against. */
export interface StepContext {
  readonly faultsMayChange: boolean;
  readonly mayChange: MayChange;
  /** a runtime layer may say something about this key */
  readonly limits: LimitContext;
}

/** Everything about a filter that decides what it does to a route. */
export interface FilterInput {
  /** the filter's own configuration */
  readonly config: JsonObject;
  readonly path: string;
  /** per-route configurations, the most specific first */
  readonly levels: readonly LevelConfig[];
  /** CORS policies in the fields of the route and the virtual host, for filters without a per-route configuration */
  readonly legacyCors: readonly CorsPolicy[];
  /** the request has a route that forwards: CORS and some others look at such only */
  readonly hasEntry: boolean;
}

const FILTERS = 'envoy.extensions.filters.http.';
/** Bodies over this are the proxy's in any case (MAX_KERNEL_BODY of the data plane). */
const KERNEL_BODY = 1_048_576;
/** Why requests that a fault delays are the proxy's. */
export const HELD = 'the proxy holds requests that are delayed';
const NOTHING: FilterSteps = { steps: [], request: [], answer: [] };

type Reader = (notes: Notes, input: FilterInput, context: StepContext) => FilterSteps;

/** Per-route configurations of a type, reasons for others. */
function typed(notes: Notes, levels: readonly LevelConfig[], type: string): LevelConfig[] {
  return levels.filter(({ config, path }) => {
    if (anyType(config) === type) return true;
    notes.add('per-route-filter', `unknown configuration ${anyType(config)}`, path, config);
    return false;
  });
}

function cors(notes: Notes, input: FilterInput, context: StepContext): FilterSteps {
  onlyFields(notes, input.config, input.path, []);
  if (!input.hasEntry) return NOTHING;
  const own = typed(notes, input.levels, `${FILTERS}cors.v3.CorsPolicy`).map(({ config, path }) => ({
    policy: config,
    path,
  }));
  const plan = corsPlan(notes, own.length > 0 ? own : input.legacyCors, context.mayChange);
  return plan ? { ...NOTHING, cors: plan } : NOTHING;
}

function fault(notes: Notes, input: FilterInput, context: StepContext): FilterSteps {
  const type = `${FILTERS}fault.v3.HTTPFault`;
  const { config, path } = typed(notes, input.levels.slice(0, 1), type)[0] ?? input;
  const found = faultOutcome(notes, config, path, context.faultsMayChange);
  if (!found || found === 'none') return NOTHING;
  const { condition, delay, abort } = found;
  const steps: Step[] = [];
  if (delay) {
    const { chance } = delay;
    steps.push({
      action: 'deny',
      condition,
      ...(chance ? { reply: 'delayed', chance } : { reply: 'proxy', why: HELD }),
    });
  }
  if (abort) {
    const { status, chance } = abort;
    const reply = { status, body: 'fault filter abort' };
    steps.push({ action: 'deny', condition, reply, ...(chance ? { chance } : {}) });
  }
  return { ...NOTHING, steps };
}

function headerMutation(notes: Notes, input: FilterInput): FilterSteps {
  onlyFields(notes, input.config, input.path, ['mutations', 'most_specific_header_mutations_wins']);
  const levels = typed(notes, input.levels, `${FILTERS}header_mutation.v3.HeaderMutationPerRoute`);
  for (const { config, path } of levels) onlyFields(notes, config, path, ['mutations']);
  const wins = bool(input.config, 'most_specific_header_mutations_wins');
  const order = [input, ...(wins ? [...levels].reverse() : levels)];
  const found = order.map(({ config, path }) => mutationsOf(notes, config, path));
  return { steps: [], request: found.flatMap((m) => m.request), answer: found.flatMap((m) => m.answer) };
}

/** CSRF compares the host of Origin with the target's: for methods that change something, the proxy does. */
function csrf(notes: Notes, input: FilterInput, context: StepContext): FilterSteps {
  const type = `${FILTERS}csrf.v3.CsrfPolicy`;
  const { config, path } = typed(notes, input.levels.slice(0, 1), type)[0] ?? input;
  onlyFields(notes, config, path, ['filter_enabled', 'shadow_enabled', 'additional_origins']);
  if (!enabled(notes, config, 'filter_enabled', path, context.mayChange)) return NOTHING;
  const methods = ['POST', 'PUT', 'DELETE', 'PATCH'].map((value) =>
    test({ kind: 'method' }, { kind: 'exact', value, ignoreCase: false }),
  );
  return { ...NOTHING, steps: [{ action: 'deny', condition: any(methods), reply: 'proxy' }] };
}

function buffer(notes: Notes, input: FilterInput): FilterSteps {
  const own = typed(notes, input.levels.slice(0, 1), `${FILTERS}buffer.v3.BufferPerRoute`)[0];
  if (own) onlyFields(notes, own.config, own.path, ['disabled', 'buffer']);
  if (own && bool(own.config, 'disabled')) return NOTHING;
  const config = own ? (obj(own.config, 'buffer') ?? {}) : input.config;
  onlyFields(notes, config, own ? join(own.path, 'buffer') : input.path, ['max_request_bytes']);
  const most = num(config, 'max_request_bytes');
  if (most >= KERNEL_BODY) return { ...NOTHING, whole: true };
  const longer = test(
    { kind: 'header', name: 'content-length' },
    { kind: 'range', start: BigInt(most + 1), end: 1n << 62n },
  );
  return { ...NOTHING, steps: [{ action: 'deny', condition: longer, reply: 'proxy' }], whole: true };
}

/** Health checks are answered by what the proxy alone knows (its admin may have declared it unhealthy). */
function healthCheck(notes: Notes, input: FilterInput): FilterSteps {
  const { config, path } = input;
  for (const level of input.levels)
    notes.add('per-route-filter', 'the health check filter is configured here', level.path, level.config);
  onlyFields(notes, config, path, ['pass_through_mode', 'cache_time', 'cluster_min_healthy_percentages', 'headers']);
  const conditions = list(config, 'headers').map((h, i) => headerCondition(notes, h, join(path, `headers[${i}]`)));
  if (conditions.includes(undefined)) return NOTHING;
  return { ...NOTHING, steps: [{ action: 'deny', condition: all(conditions as Condition[]), reply: 'proxy' }] };
}

/** A token for each request, else 429. */
function localRateLimit(notes: Notes, input: FilterInput, { limits }: StepContext): FilterSteps {
  const { config, path } = typed(notes, input.levels.slice(0, 1), LOCAL_LIMIT)[0] ?? input;
  const found = localLimit(notes, config, path, limits);
  if (!found || found === 'none') return NOTHING;
  const steps = found.steps.map(
    ({ when, bucket }): Step => ({ action: 'deny', condition: when, bucket, reply: found.reply }),
  );
  return {
    ...NOTHING,
    steps,
    ...(found.figures ? { figures: true } : {}),
    remoteIp: found.steps.some(({ when }) => looksAtAddress(when)),
  };
}

/** A filter that acts only where it is configured per route, which the proxy then does. */
function inert(known: readonly string[]): Reader {
  return (notes, { config, path, levels }) => {
    const idle = Object.keys(config).every((k) => k === '@type' || known.includes(k) || !has(config, k));
    if (!idle) notes.add('http-filter', `the filter (${anyType(config)}) is run by the proxy`, path, config);
    const own = levels[0];
    if (own)
      notes.add('per-route-filter', `the filter ${anyType(own.config)} is configured here`, own.path, own.config);
    return NOTHING;
  };
}

/**
 * Filters for gRPC: whatever has a gRPC content type is the proxy's in any case (the guard of each virtual host).
 * @param known settings of what it does to such requests
 */
function grpcOnly(known: readonly string[] = []): Reader {
  return (notes, input) => {
    onlyFields(notes, input.config, input.path, known);
    for (const { config, path } of input.levels)
      notes.add('per-route-filter', `the filter ${anyType(config)} is configured here`, path, config);
    return NOTHING;
  };
}

/** Turns what is not gRPC, but Protocol Buffers, into gRPC, if it is told to. */
function grpcBridge(notes: Notes, input: FilterInput, context: StepContext): FilterSteps {
  grpcOnly(['upgrade_protobuf_to_grpc', 'ignore_query_parameters'])(notes, input, context);
  if (!bool(input.config, 'upgrade_protobuf_to_grpc')) return NOTHING;
  const matcher = { kind: 'prefix', value: 'application/x-protobuf', ignoreCase: true } as const;
  const condition = test({ kind: 'header', name: 'content-type' }, matcher);
  return { ...NOTHING, steps: [{ action: 'deny', condition, reply: 'proxy' }] };
}

/** Metadata that something other than another filter of the proxy's may read: where a request goes, and who sends it. */
const READ = new Set(['envoy.lb', 'envoy.filters.http.jwt_authn']);

/** What is written there is not seen by anything that is decided here. */
function unread(notes: Notes, names: readonly string[], path: string, owner: JsonObject): void {
  const known = names.find((name) => READ.has(name));
  if (known !== undefined) notes.add('http-filter', `metadata of ${known} is set by the proxy`, path, owner);
}

function setMetadata(notes: Notes, { config, path, levels }: FilterInput): FilterSteps {
  onlyFields(notes, config, path, ['metadata_namespace', 'value', 'metadata']);
  for (const level of levels)
    notes.add('per-route-filter', `the filter ${anyType(level.config)} is configured here`, level.path, level.config);
  const entries = list(config, 'metadata');
  entries.forEach((entry, i) => {
    const fields = ['metadata_namespace', 'allow_overwrite', 'value', 'typed_value'];
    onlyFields(notes, entry, join(path, `metadata[${i}]`), fields);
  });
  unread(
    notes,
    [config, ...entries].map((entry) => str(entry, 'metadata_namespace')),
    path,
    config,
  );
  return NOTHING;
}

/** Headers become metadata; that they are taken away with it is the proxy's. */
function headerToMetadata(notes: Notes, input: FilterInput): FilterSteps {
  const own = typed(notes, input.levels.slice(0, 1), `${FILTERS}header_to_metadata.v3.Config`)[0];
  const { config, path } = own ?? input;
  onlyFields(notes, config, path, ['request_rules', 'response_rules', 'stat_prefix']);
  for (const key of ['request_rules', 'response_rules'])
    list(config, key).forEach((rule, i) => {
      const at = join(path, `${key}[${i}]`);
      onlyFields(notes, rule, at, ['header', 'cookie', 'on_header_present', 'on_header_missing', 'remove']);
      if (bool(rule, 'remove')) notes.add('http-filter', 'headers that become metadata are removed', at, rule);
      const values = ['on_header_present', 'on_header_missing'].map((when) => obj(rule, when));
      unread(
        notes,
        values.map((value) => str(value, 'metadata_namespace')),
        at,
        rule,
      );
    });
  return NOTHING;
}

/** Filters that are understood beside RBAC and the router, by type. */
export const READERS: Readonly<Record<string, Reader>> = {
  [`${FILTERS}cors.v3.Cors`]: cors,
  [`${FILTERS}fault.v3.HTTPFault`]: fault,
  [`${FILTERS}header_mutation.v3.HeaderMutation`]: headerMutation,
  [`${FILTERS}compressor.v3.Compressor`]: (notes, input, { mayChange }) => {
    const own = typed(notes, input.levels.slice(0, 1), `${FILTERS}compressor.v3.CompressorPerRoute`)[0];
    return compressor(notes, input, own, mayChange);
  },
  [`${FILTERS}decompressor.v3.Decompressor`]: (notes, input, { mayChange }) => decompressor(notes, input, mayChange),
  [`${FILTERS}csrf.v3.CsrfPolicy`]: csrf,
  [`${FILTERS}buffer.v3.Buffer`]: buffer,
  [`${FILTERS}health_check.v3.HealthCheck`]: healthCheck,
  [`${FILTERS}grpc_web.v3.GrpcWeb`]: grpcOnly(),
  [`${FILTERS}grpc_http1_bridge.v3.Config`]: grpcBridge,
  [`${FILTERS}grpc_stats.v3.FilterConfig`]: grpcOnly([
    'emit_filter_state',
    'individual_method_stats_allowlist',
    'stats_for_all_methods',
    'enable_upstream_stats',
    'replace_dots_in_grpc_service_name',
  ]),
  [`${FILTERS}grpc_http1_reverse_bridge.v3.FilterConfig`]: grpcOnly([
    'content_type',
    'withhold_grpc_frames',
    'response_size_header',
  ]),
  [`${FILTERS}local_ratelimit.v3.LocalRateLimit`]: localRateLimit,
  [`${FILTERS}set_metadata.v3.Config`]: setMetadata,
  [`${FILTERS}header_to_metadata.v3.Config`]: headerToMetadata,
  [`${FILTERS}stateful_session.v3.StatefulSession`]: inert([]),
};

/** Whether a step stops every request that reaches it. */
export function stopsAll(step: Step): boolean {
  return step.action === 'deny' && step.condition === ALWAYS && !step.chance && !step.bucket;
}
