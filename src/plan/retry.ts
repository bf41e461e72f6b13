/** Retry policies: what the first try in the kernel must do so that the proxy can carry out the rest. */
import type { JsonObject } from '../policy/resources.js';
import { durationMs, has, join, type Notes, num, onlyFields, str } from './notes.js';

export interface RetryPlan {
  /** a 503 answer is replayed through the proxy */
  readonly retry503: boolean;
  /** how often the proxy would try again */
  readonly retries: number;
  /** 0: none */
  readonly perTryTimeoutMs: number;
}

/**
 * Conditions that the kernel's first try meets by failing before an answer (the agent then replays the request through
 * the proxy), or that only a gRPC status can meet.
 */
const BEFORE_ANSWER = new Set([
  'connect-failure',
  'refused-stream',
  'reset-before-request',
  'unavailable',
  'cancelled',
]);

/** More retries than this are not counted by the fast path. */
const MAX_RETRIES = 16;

/** A RetryPolicy; what the fast path cannot do becomes a reason. */
export function retryPolicy(notes: Notes, policy: JsonObject | undefined, path: string): RetryPlan {
  if (!policy) return { retry503: false, retries: 0, perTryTimeoutMs: 0 };
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
  ]);
  if ((durationMs(policy, 'per_try_idle_timeout') ?? 0) > 0) {
    const at = join(path, 'per_try_idle_timeout');
    notes.add('timeout', 'per-try idle timeouts are enforced by the proxy', at, policy, 'per_try_idle_timeout');
  }
  const perTryTimeoutMs = durationMs(policy, 'per_try_timeout') ?? 0;
  // Envoy tries once more unless told otherwise
  const retries = has(policy, 'num_retries') ? num(policy, 'num_retries') : 1;
  if (retries === 0) return { retry503: false, retries, perTryTimeoutMs };
  const conditions = str(policy, 'retry_on')
    .split(',')
    .map((c) => c.trim())
    .filter((c) => c !== '');
  let retry503 = false;
  for (const condition of conditions) {
    if (BEFORE_ANSWER.has(condition)) continue;
    const codes = Array.isArray(policy.retriable_status_codes) ? policy.retriable_status_codes : [];
    if (condition === 'retriable-status-codes') {
      if (codes.every((c) => c === 503)) {
        retry503 ||= codes.length > 0;
        continue;
      }
      const at = join(path, 'retriable_status_codes');
      notes.add('retry', `retries on ${codes.join(', ')}`, at, policy, 'retriable_status_codes');
      continue;
    }
    notes.add('retry', `retries on ${condition}`, join(path, 'retry_on'), policy, 'retry_on');
  }
  if (retry503 && retries > MAX_RETRIES)
    notes.add('retry', `more than ${MAX_RETRIES} retries`, join(path, 'num_retries'), policy, 'num_retries');
  return { retry503, retries, perTryTimeoutMs };
}
