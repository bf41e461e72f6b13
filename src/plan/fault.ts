/** Fault injection: answers of a fixed status, to all requests, to those with certain headers, or to a share of them. */
import type { JsonObject } from '../policy/resources.js';
import { all } from './conditions.js';
import { headerCondition } from './header-match.js';
import type { Condition } from './ir.js';
import { has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

const SCALES: Record<string, number> = { '': 100, HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** How much of the requests a FractionalPercent means. */
export function share(percent: JsonObject | undefined): 'none' | 'some' | 'all' {
  const scale = SCALES[str(percent, 'denominator')];
  const numerator = num(percent, 'numerator');
  if (numerator === 0) return 'none';
  return scale !== undefined && numerator >= scale ? 'all' : 'some';
}

/** Requests that are answered by a fault filter. */
export interface FaultPlan {
  readonly status: number;
  readonly condition: Condition;
  /** drawn per request; undefined: all of them */
  readonly chance?: { readonly numerator: number; readonly denominator: number };
}

/**
 * What an HTTPFault answers, `none` if it lets every request pass, or undefined, with a reason in `notes`, if it is for
 * the proxy to decide. Faults that a request asks for by its headers are not seen here: such requests (x-envoy-*) go to
 * the proxy in any case.
 */
export function faultOutcome(
  notes: Notes,
  fault: JsonObject,
  path: string,
  runtimeMayChange: boolean,
): FaultPlan | 'none' | undefined {
  const before = notes.reasons.length;
  onlyFields(notes, fault, path, [
    '@type',
    'delay',
    'abort',
    'headers',
    'disable_downstream_cluster_stats',
    'filter_metadata',
  ]);
  const leave = (message: string, key: string) => notes.add('per-route-filter', message, join(path, key), fault, key);
  if (runtimeMayChange) notes.add('per-route-filter', 'the runtime may change faults', path, fault);
  const delay = obj(fault, 'delay');
  if (delay && !has(delay, 'header_delay') && share(obj(delay, 'percentage')) !== 'none')
    leave('requests are delayed', 'delay');
  const abort = obj(fault, 'abort');
  const percentage = obj(abort, 'percentage');
  const aborted = abort && !has(abort, 'header_abort') ? share(percentage) : 'none';
  const status = num(abort, 'http_status');
  const denominator = SCALES[str(percentage, 'denominator')];
  if (aborted !== 'none') {
    if (!has(abort, 'http_status')) leave('the fault is not a fixed status', 'abort');
    else if (status < 400) leave(`status ${status}`, 'abort');
    if (denominator === undefined) leave('an unknown denominator', 'abort');
  }
  const conditions = list(fault, 'headers').map((h, i) => headerCondition(notes, h, join(path, `headers[${i}]`)));
  if (notes.reasons.length > before || conditions.includes(undefined)) return undefined;
  if (aborted === 'none') return 'none';
  const condition = all(conditions as Condition[]);
  if (aborted === 'all') return { status, condition };
  return { status, condition, chance: { numerator: num(percentage, 'numerator'), denominator: denominator! } };
}
