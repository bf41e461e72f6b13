/** How requests are traced, as a structure of the image; and what bpf/trace.h makes of one, for the interpreter. */
import { ActionSpec, TRACER, TraceSpec } from '../layout/actions.js';
import { SLOT } from '../layout/image.js';
import { get } from '../layout/struct.js';
import type { ListenerPlan } from '../plan/ir.js';
import { SAMPLED_BY } from '../plan/trace-context.js';
import { decidedId, isTraced } from '../plan/trace-ids.js';
import type { Blob } from './blob.js';
import { type Head, headerValue } from './head.js';

const TRACERS = {
  none: TRACER.NONE,
  zipkin: TRACER.ZIPKIN,
  opentelemetry: TRACER.OPENTELEMETRY,
  skywalking: TRACER.NONE,
} as const;

/** Stores how requests are traced. Returns its offset, 0: they are not; undefined: a header has no slot. */
export function traceOf(
  blob: Blob,
  { trace, generateRequestId }: Pick<ListenerPlan, 'trace' | 'generateRequestId'>,
  slot: (name: string) => number | undefined,
): number | undefined {
  if (!trace) return 0;
  const { tracer, random, overall } = trace;
  const name = SAMPLED_BY[tracer];
  const own = name === undefined ? 0 : slot(name);
  if (own === undefined) return undefined;
  return blob.structs(TraceSpec, [
    { random, overall, tracer: TRACERS[tracer], slot: own, ids: generateRequestId ? 1 : 0 },
  ]);
}

/** In `traceparent`: the last digit of the flags. */
const PARENT_SAMPLED = 54;

/** What bpf/trace.h decides about a request. @param uuid the id that is made where there is none */
export function tracedOf(image: DataView, action: number, head: Head, uuid: string): Head['traced'] {
  const trace = get(image, action, ActionSpec, 'trace');
  if (trace === 0) return undefined;
  const field = (name: string) => get(image, trace, TraceSpec, name);
  const text = (slot: number) => {
    const value = headerValue(head, slot);
    return value && Buffer.from(value).toString('latin1');
  };
  const brought = text(SLOT.X_REQUEST_ID);
  const found = brought ?? (field('ids') === 0 ? '' : `${uuid.slice(0, 14)}4${uuid.slice(15)}`);
  const id = found === '' ? '' : decidedId(found, { random: field('random'), overall: field('overall') });
  const traced = isTraced(id);
  const context = field('tracer') === TRACER.NONE ? undefined : text(field('slot'));
  if (context === undefined) return { id, sampled: traced };
  if (field('tracer') === TRACER.ZIPKIN) return { id, sampled: context === '1' };
  return { id, sampled: traced && context.charAt(PARENT_SAMPLED) === '1' };
}
