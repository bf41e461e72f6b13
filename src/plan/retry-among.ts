/** Retries among several endpoints: what matters of where the tries before went. */
import type { JsonObject } from '../policy/resources.js';
import type { RouteContext } from './actions.js';
import type { Choice } from './destinations.js';
import { join, type Notes } from './notes.js';
import type { RetryPlan } from './retry.js';
import { isAmongSeveral, tooMany, untoldOf, untoldUnder } from './tried.js';

/** Retries at a time that the pools of the fast path do not reach. */
const MANY_RETRIES = 1024;

/**
 * The proxy, which makes the tries after the kernel's first one, does not count that among its retries at a time, and does
 * not know where it went unless it is told: where either could matter the proxy makes them all.
 * @returns the clusters of whose endpoints those that were tried are avoided, if it is to be told
 */
export function retryAmong(
  notes: Notes,
  chosen: readonly Choice[],
  retry: RetryPlan,
  policy: JsonObject | undefined,
  ctx: RouteContext,
  path: string,
): readonly string[] | undefined {
  const at = join(path, 'retry_policy');
  const several = chosen.some(({ cluster }) => cluster.followed?.names || cluster.endpoints.length > 1);
  const among = isAmongSeveral(countsOf(chosen));
  const avoids = retry.avoidsTried && (several || among);
  const untold = avoids ? untoldBecause(chosen, policy ?? {}, ctx) : undefined;
  if (avoids && several && untold !== undefined) {
    const message = `retries go to other endpoints than the tries before, ${untold}`;
    notes.add('retry', message, at, policy, 'retry_host_predicate');
  }
  // where the endpoints are looked up, so are their priorities
  const priorities = chosen.some(({ info }) => info.discovered || info.endpoints.some((e) => e.state.priority > 0));
  if (retry.avoidsPriorities && priorities)
    notes.add('retry', 'retry_priority depends on the try before', at, policy, 'retry_priority');
  for (const { info } of chosen) {
    if (info.maxRetries < MANY_RETRIES)
      notes.add('retry', `cluster ${info.name} allows ${info.maxRetries} retries at a time`, at, policy, 'retry_on');
  }
  return avoids && untold === undefined ? [...new Set(chosen.map(({ info }) => info.name))] : undefined;
}

const countsOf = (chosen: readonly Choice[]): number[] => chosen.map(({ info }) => info.endpoints.length);

/** Why the proxy cannot be told where the first try was; undefined: it can. */
function untoldBecause(
  chosen: readonly Choice[],
  policy: JsonObject,
  { listener, routeConfig }: RouteContext,
): string | undefined {
  if (!listener.ownProxy) return 'which the proxy is not told of';
  if (listener.logsCopies) return 'whose cluster is logged';
  return (
    untoldUnder(policy) ??
    chosen.map(({ info }) => untoldOf(info)).find((why) => why !== undefined) ??
    tooMany(countsOf(chosen), routeConfig ?? {})
  );
}
