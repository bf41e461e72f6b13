/** What the proxy counts for each listener by itself, so that a copy of the listener would count another time. */
import type { Json, JsonObject } from '../policy/resources.js';

const COUNTING =
  /\/envoy\.extensions\.filters\.(http\.(local_ratelimit|adaptive_concurrency|admission_control|bandwidth_limit)|network\.(local_ratelimit|connection_limit))\.v3\./;

/**
 * Whether a listener (its own routes included; those that it gets by name are shared with its copies) has something that
 * counts over all of its connections.
 * @param shared configurations whose counts have one place for all (rate limits that the kernel enforces)
 */
export function countsByItself(value: Json | undefined, shared: ReadonlyMap<JsonObject, unknown>): boolean {
  if (Array.isArray(value)) return value.some((item) => countsByItself(item, shared));
  if (value === null || typeof value !== 'object') return false;
  if (typeof value['@type'] === 'string' && COUNTING.test(value['@type']) && !shared.has(value)) return true;
  if (value.max_active_faults !== undefined) return true;
  return Object.values(value).some((item) => countsByItself(item, shared));
}
