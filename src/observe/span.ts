/** Spans of requests, as Envoy's tracers make them: what access logs know of a request, with the tags of its tracing. */
import { OPERATION, type TracePlan } from '../plan/tracing.js';
import { findHeader, type LogEntry } from './log-line.js';
import { type SpanIds, spanIds } from './span-ids.js';

export interface Span extends SpanIds {
  readonly name: string;
  /** what other tracers say of the trace (`tracestate`) */
  readonly state: string;
  readonly startUs: number;
  readonly durationUs: number;
  readonly tags: readonly (readonly [name: string, value: string])[];
  readonly status: number;
}

function nameOf({ tracer, egress }: TracePlan, e: LogEntry, operation: string | undefined): string {
  const server = egress ? findHeader(e.answer, OPERATION) : undefined;
  if (server) return server;
  if (operation !== undefined) return operation;
  const host = findHeader(e.request, 'x-envoy-original-host') ?? findHeader(e.request, ':authority') ?? '';
  if (tracer === 'zipkin') return host;
  return egress ? `egress ${host}` : 'ingress';
}

/**
 * The span of a request that is over; undefined: it is not sampled.
 *
 * @param operation what its route calls it
 */
export function spanOf(trace: TracePlan, e: LogEntry, operation: string | undefined): Span | undefined {
  const ids = spanIds(trace, e);
  if (!ids) return undefined;
  const header = (name: string) => findHeader(e.request, name);
  const path = header('x-envoy-original-path') ?? header(':path') ?? '';
  const scheme = header('x-forwarded-proto') ?? 'http';
  const tags: [string, string][] = [['component', 'proxy']];
  const { id, zone } = trace.node;
  tags.push(['node_id', id], ['zone', zone]);
  const requestId = header('x-request-id');
  if (requestId !== undefined) tags.push(['guid:x-request-id', requestId]);
  tags.push(
    ['http.url', `${scheme}://${header(':authority') ?? ''}${path.slice(0, trace.maxPath)}`],
    ['http.method', header(':method') ?? ''],
    ['downstream_cluster', header('x-envoy-downstream-service-cluster') ?? '-'],
    ['user_agent', header('user-agent') ?? '-'],
    ['http.protocol', 'HTTP/1.1'],
    ['peer.address', e.client.address],
    ['request_size', String(e.received)],
    ['response_size', String(e.sent)],
    ['http.status_code', String(e.status)],
    ['response_flags', e.flags.length === 0 ? '-' : e.flags.join(',')],
  );
  if (e.cluster !== undefined)
    tags.push(['upstream_cluster', e.cluster], ['upstream_cluster.name', trace.statNames[e.cluster] ?? e.cluster]);
  if (e.status === 0 || e.status >= 500) tags.push(['error', 'true']);
  for (const { tag, header: name, value } of trace.tags) {
    const found = (name === undefined ? undefined : header(name)) ?? value;
    if (found !== '') tags.push([tag, found]);
  }
  return {
    ...ids,
    name: nameOf(trace, e, operation),
    state: header('tracestate') ?? '',
    startUs: e.startUs,
    durationUs: e.durationUs,
    tags,
    status: e.status,
  };
}
