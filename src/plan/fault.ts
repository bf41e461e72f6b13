/** Fault injection: answers of a fixed status, to all requests, to those with certain headers, or to a share of them. */
import type { JsonObject } from '../policy/resources.js';
import { all } from './conditions.js';
import { headerCondition } from './header-match.js';
import type { Condition } from './ir.js';
import { has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

/** After such an answer of its own, Envoy closes a connection of HTTP/1.1, which may not be in order (tried). */
export const CLOSES = 400;

const SCALES: Record<string, number> = { '': 100, HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** How much of the requests a FractionalPercent means. */
export function share(percent: JsonObject | undefined): 'none' | 'some' | 'all' {
  const scale = SCALES[str(percent, 'denominator')];
  const numerator = num(percent, 'numerator');
  if (numerator === 0) return 'none';
  return scale !== undefined && numerator >= scale ? 'all' : 'some';
}

export interface Chance {
  readonly numerator: number;
  readonly denominator: number;
}

/** What a fault filter does to requests that meet `condition`; chances are drawn per request, undefined: all of them. */
export interface FaultPlan {
  readonly condition: Condition;
  /** before anything else: the proxy holds these */
  readonly delay?: { readonly chance?: Chance };
  /** these are answered */
  readonly abort?: { readonly status: number; readonly chance?: Chance };
}

/**
 * What an HTTPFault does, `none` if it lets every request pass, or undefined, with a reason in `notes`, if it is for
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
  const delayed = delay && !has(delay, 'header_delay') ? share(obj(delay, 'percentage')) : 'none';
  const matchers = list(fault, 'headers');
  if (delayed === 'all' && matchers.length === 0) leave('all requests are delayed', 'delay');
  const abort = obj(fault, 'abort');
  const aborted = abort && !has(abort, 'header_abort') ? share(obj(abort, 'percentage')) : 'none';
  const status = num(abort, 'http_status');
  if (aborted !== 'none') {
    if (!has(abort, 'http_status')) leave('the fault is not a fixed status', 'abort');
    else if (status <= CLOSES) leave(`status ${status}`, 'abort');
  }
  const chances = [
    [delay, delayed, 'delay'],
    [abort, aborted, 'abort'],
  ] as const;
  for (const [owner, found, key] of chances)
    if (found === 'some' && !chanceOf(owner)) leave('an unknown denominator', key);
  const conditions = matchers.map((h, i) => headerCondition(notes, h, join(path, `headers[${i}]`)));
  if (notes.reasons.length > before || conditions.includes(undefined)) return undefined;
  if (aborted === 'none' && delayed === 'none') return 'none';
  return {
    condition: all(conditions as Condition[]),
    ...(delayed === 'none' ? {} : { delay: delayed === 'some' ? { chance: chanceOf(delay)! } : {} }),
    ...(aborted === 'none' ? {} : { abort: { status, ...(aborted === 'some' ? { chance: chanceOf(abort)! } : {}) } }),
  };
}

/** The share that `owner[key]` means, undefined if its denominator is not known. */
export function chanceOf(owner: JsonObject | undefined, key = 'percentage'): Chance | undefined {
  const percentage = obj(owner, key);
  const denominator = SCALES[str(percentage, 'denominator')];
  return denominator === undefined ? undefined : { numerator: num(percentage, 'numerator'), denominator };
}
