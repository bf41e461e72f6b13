/** Retry policies: what the first try in the kernel must do so that the proxy can carry out the rest. */
import type { JsonObject } from '../policy/resources.js';
import { anyType, durationMs, has, join, type Notes, num, obj, onlyFields, str } from './notes.js';

export interface RetryPlan {
  /** statuses of answers that are replayed through the proxy */
  readonly statuses: readonly number[];
  /** a try that is reset, or takes too long, before its answer's head is complete is replayed, too */
  readonly resets: boolean;
  /** in HTTP/2: statuses of gRPC in the head of an answer that are replayed, and whether streams that are refused are */
  readonly grpc: readonly number[];
  readonly refused: boolean;
  /** how often the proxy would try again */
  readonly retries: number;
  /** 0: none */
  readonly perTryTimeoutMs: number;
  /** the first retry waits a random time shorter than this */
  readonly backoffMs: number;
  /** other endpoints than those that were tried are preferred */
  readonly avoidsTried: boolean;
  /** so are other priorities, where there are several */
  readonly avoidsPriorities: boolean;
}

/**
 * Conditions that the kernel's first try cannot meet, because its connection is there before the request, or that only
 * a gRPC status can meet.
 */
const NEVER = new Set([
  'connect-failure',
  'refused-stream',
  'reset-before-request',
  'http3-post-connect-failure',
  'unavailable',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
]);

/** gRPC's statuses by their conditions. */
const GRPC: Readonly<Record<string, number>> = {
  cancelled: 1,
  'deadline-exceeded': 4,
  'resource-exhausted': 8,
  internal: 13,
  unavailable: 14,
};

/** Retries go to other priorities than the tries before; where there is but one, to that. */
const PREVIOUS = 'envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig';

/** More retries than this are not counted by the fast path. */
export const MAX_RETRIES = 16;

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Statuses that a condition retries; undefined: the condition is not about the status alone. */
function statusesOf(condition: string, policy: JsonObject): readonly number[] | undefined {
  switch (condition) {
    case '5xx':
      return range(500, 599);
    case 'gateway-error':
      return range(502, 504);
    case 'retriable-4xx':
      return [409];
    case 'retriable-status-codes':
      return (Array.isArray(policy.retriable_status_codes) ? policy.retriable_status_codes : []).map(Number);
    default:
      return undefined;
  }
}

/** The conditions of `retry_on`. */
function conditionsOf(policy: JsonObject): string[] {
  return str(policy, 'retry_on')
    .split(',')
    .map((c) => c.trim())
    .filter((c) => c !== '');
}

/**
 * What is retried of a try that got as far as an endpoint (Envoy: RetryStateImpl::wouldRetryFromHeaders and
 * wouldRetryFromReset).
 */
export function retried(policy: JsonObject): Pick<RetryPlan, 'statuses' | 'resets' | 'grpc' | 'refused'> {
  const conditions = conditionsOf(policy);
  const statuses = new Set(conditions.flatMap((c) => statusesOf(c, policy) ?? []));
  const resets = conditions.some((c) => c === '5xx' || c === 'gateway-error' || c === 'reset');
  const grpc = [...new Set(conditions.flatMap((c) => GRPC[c] ?? []))].sort((a, b) => a - b);
  const refused = resets || conditions.includes('refused-stream');
  return { statuses: [...statuses].sort((a, b) => a - b), resets, grpc, refused };
}

/** Whether anything of a try that got as far as an endpoint is retried. @param streams in HTTP/2 */
export function triesAgain(
  { statuses, resets, grpc, refused }: Pick<RetryPlan, 'statuses' | 'resets' | 'grpc' | 'refused'>,
  streams: boolean,
): boolean {
  return statuses.length > 0 || resets || (streams && (grpc.length > 0 || refused));
}

/** How often a policy tries again; Envoy's default is once. */
export function retriesOf(policy: JsonObject): number {
  return has(policy, 'num_retries') ? num(policy, 'num_retries') : 1;
}

/** Envoy's back-off without a configuration: its longest interval is ten times the first. */
const BASE_MS = 25;
const MAX_FACTOR = 10;

/** The first and the longest interval of a policy's back-off, in milliseconds. */
export function backOffOf(policy: JsonObject): { base: number; max: number } {
  const own = obj(policy, 'retry_back_off');
  const base = Math.max(1, durationMs(own, 'base_interval') ?? BASE_MS);
  return { base, max: Math.max(base, durationMs(own, 'max_interval') ?? base * MAX_FACTOR) };
}

/** A RetryPolicy; what the fast path cannot do becomes a reason. @param streams for requests of HTTP/2 */
export function retryPolicy(notes: Notes, policy: JsonObject | undefined, path: string, streams: boolean): RetryPlan {
  const none = {
    statuses: [],
    resets: false,
    grpc: [],
    refused: false,
    avoidsTried: false,
    avoidsPriorities: false,
    backoffMs: 0,
  };
  if (!policy) return { ...none, retries: 0, perTryTimeoutMs: 0 };
  onlyFields(notes, policy, path, [
    'retry_on',
    'num_retries',
    'per_try_timeout',
    'per_try_idle_timeout',
    'retry_host_predicate',
    'host_selection_retry_max_attempts',
    'retriable_status_codes',
    'retry_back_off',
    'rate_limited_retry_back_off',
    'retry_priority',
  ]);
  if ((durationMs(policy, 'per_try_idle_timeout') ?? 0) > 0) {
    const at = join(path, 'per_try_idle_timeout');
    notes.add('timeout', 'per-try idle timeouts are enforced by the proxy', at, policy, 'per_try_idle_timeout');
  }
  const perTryTimeoutMs = durationMs(policy, 'per_try_timeout') ?? 0;
  const retries = retriesOf(policy);
  if (retries === 0) return { ...none, retries, perTryTimeoutMs };
  for (const condition of conditionsOf(policy)) {
    if (NEVER.has(condition) || condition === 'reset' || statusesOf(condition, policy)) continue;
    notes.add('retry', `retries on ${condition}`, join(path, 'retry_on'), policy, 'retry_on');
  }
  const found = retried(policy);
  const { statuses } = found;
  const needed = triesAgain(found, streams);
  if (statuses.some((status) => !(status >= 200 && status <= 599)))
    notes.add('retry', 'retries on statuses that are none', join(path, 'retriable_status_codes'), policy);
  if (needed && retries > MAX_RETRIES)
    notes.add('retry', `more than ${MAX_RETRIES} retries`, join(path, 'num_retries'), policy, 'num_retries');
  const priority = obj(policy, 'retry_priority');
  const previous = anyType(obj(priority, 'typed_config')) === PREVIOUS;
  for (const key of ['rate_limited_retry_back_off', ...(previous ? [] : ['retry_priority'])]) {
    if (needed && has(policy, key))
      notes.add('retry', `${key} depends on the try before`, join(path, key), policy, key);
  }
  const backOff = obj(policy, 'retry_back_off');
  if (backOff) onlyFields(notes, backOff, join(path, 'retry_back_off'), ['base_interval', 'max_interval']);
  const backoffMs = backOffOf(policy).base;
  const avoidsTried = has(policy, 'retry_host_predicate');
  return { ...found, retries, perTryTimeoutMs, avoidsTried, avoidsPriorities: previous, backoffMs };
}
