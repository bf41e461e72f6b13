/** The ids of a span: those that the server was told, or, where nobody was, such that nobody else has. */
import { randomBytes } from 'node:crypto';
import { sharesSpan } from '../plan/trace-context.js';
import { isTraced } from '../plan/trace-ids.js';
import type { TracePlan } from '../plan/tracing.js';
import { findHeader, type LogEntry } from './log-line.js';

/** Hexadecimal digits. */
export interface SpanIds {
  readonly traceId: string;
  readonly id: string;
  /** of the span before this one */
  readonly parentId?: string;
}

const made = (): string => randomBytes(8).toString('hex');

function zipkinIds(trace: TracePlan, e: LogEntry): SpanIds | undefined {
  const header = (name: string) => findHeader(e.request, name);
  const forwarded = e.upstream !== undefined;
  const sampled = header('x-b3-sampled') ?? (isTraced(header('x-request-id') ?? '') ? '1' : '0');
  if (sampled !== '1') return undefined;
  const [traceId, id] = [header('x-b3-traceid'), header('x-b3-spanid') ?? ''];
  const parentId = header('x-b3-parentspanid');
  if (traceId === undefined) {
    const own = made();
    return { traceId: (trace.long ? made() : '') + own, id: own };
  }
  if (!forwarded && !sharesSpan(trace)) return { traceId, id: made(), parentId: id };
  return { traceId, id, ...(parentId === undefined ? {} : { parentId }) };
}

function openTelemetryIds(e: LogEntry): SpanIds | undefined {
  const header = (name: string) => findHeader(e.request, name);
  const [, traceId, id, flag] = /^00-(.{32})-(.{16})-0(.)$/.exec(header('traceparent') ?? '') ?? [];
  const sampled = isTraced(header('x-request-id') ?? '') && flag !== '0';
  if (traceId === undefined || id === undefined) return sampled ? { traceId: made() + made(), id: made() } : undefined;
  if (e.upstream === undefined) return sampled ? { traceId, id: made(), parentId: id } : undefined;
  return flag === '1' ? { traceId, id, ...(e.parentSpan === undefined ? {} : { parentId: e.parentSpan }) } : undefined;
}

/** The ids of the span about a request; undefined: it is not sampled. */
export function spanIds(trace: TracePlan, e: LogEntry): SpanIds | undefined {
  return trace.tracer === 'zipkin' ? zipkinIds(trace, e) : openTelemetryIds(e);
}
