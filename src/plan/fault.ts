/** Fault injection: what strikes every request or none is known beforehand; the rest is the proxy's dice. */
import type { JsonObject } from '../policy/resources.js';
import type { ReplyAction } from './ir.js';
import { has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

const SCALES: Record<string, number> = { '': 100, HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** How much of the requests a FractionalPercent means. */
function share(percent: JsonObject | undefined): 'none' | 'some' | 'all' {
  const scale = SCALES[str(percent, 'denominator')];
  const numerator = num(percent, 'numerator');
  if (numerator === 0) return 'none';
  return scale !== undefined && numerator >= scale ? 'all' : 'some';
}

/** True if a runtime layer says something about faults, or can come to say it. */
export function runtimeMayChangeFaults(bootstrap: JsonObject): boolean {
  return list(obj(bootstrap, 'layered_runtime'), 'layers').some((layer) => {
    const fixed = obj(layer, 'static_layer');
    return !fixed || Object.keys(fixed).some((key) => key === 'fault' || key.startsWith('fault.'));
  });
}

/**
 * The answer of an HTTPFault to every request, `none` if it lets every request pass, or undefined, with a reason in
 * `notes`, if it is for the proxy to decide.
 */
export function faultOutcome(
  notes: Notes,
  fault: JsonObject,
  path: string,
  runtimeMayChange: boolean,
): ReplyAction | 'none' | undefined {
  const before = notes.reasons.length;
  onlyFields(notes, fault, path, ['@type', 'delay', 'abort', 'disable_downstream_cluster_stats', 'filter_metadata']);
  const leave = (message: string, key: string) => notes.add('per-route-filter', message, join(path, key), fault, key);
  if (runtimeMayChange) notes.add('per-route-filter', 'the runtime may change faults', path, fault);
  const delay = obj(fault, 'delay');
  const delayed = share(obj(delay, 'percentage'));
  if (delay && (has(delay, 'header_delay') || delayed !== 'none')) leave('requests are delayed', 'delay');
  const abort = obj(fault, 'abort');
  const aborted = abort ? share(obj(abort, 'percentage')) : 'none';
  if (abort && !has(abort, 'http_status') && (has(abort, 'header_abort') || aborted !== 'none'))
    leave('the fault is not a fixed status', 'abort');
  else if (abort && aborted === 'all' && num(abort, 'http_status') < 400)
    leave(`status ${num(abort, 'http_status')}`, 'abort');
  else if (aborted === 'some') leave('only some requests are answered with a fault', 'abort');
  if (notes.reasons.length > before) return undefined;
  if (!abort || aborted === 'none') return 'none';
  return {
    kind: 'reply',
    status: num(abort, 'http_status'),
    headers: [{ name: 'content-type', value: [{ kind: 'literal', value: 'text/plain' }] }],
    body: 'fault filter abort',
  };
}
