/** Spans of requests, as Envoy's tracers make them: what access logs know of a request, with the tags of its tracing. */
import { randomBytes } from 'node:crypto';
import { OPERATION, type TracePlan } from '../plan/tracing.js';
import { findHeader, type LogEntry } from './log-line.js';

export interface Span {
  /** hexadecimal digits */
  readonly traceId: string;
  readonly id: string;
  readonly name: string;
  readonly startUs: number;
  readonly durationUs: number;
  readonly tags: readonly (readonly [name: string, value: string])[];
  readonly status: number;
}

/** The ids that the server was told, or, where nobody was, such that nobody else has. */
function idsOf({ tracer, long }: TracePlan, e: LogEntry): Pick<Span, 'traceId' | 'id'> {
  const header = (name: string) => findHeader(e.request, name);
  const [, parentTrace, parent] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(header('traceparent') ?? '') ?? [];
  if (tracer === 'opentelemetry' && parentTrace && parent) return { traceId: parentTrace, id: parent };
  const told = header('x-b3-traceid');
  if (tracer === 'zipkin' && told !== undefined) return { traceId: told, id: header('x-b3-spanid') ?? '' };
  const id = randomBytes(8).toString('hex');
  if (tracer === 'opentelemetry') return { traceId: randomBytes(16).toString('hex'), id };
  return { traceId: (long ? randomBytes(8).toString('hex') : '') + id, id };
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
 * The span of a request that is over.
 *
 * @param operation what its route calls it
 */
export function spanOf(trace: TracePlan, e: LogEntry, operation: string | undefined): Span {
  const header = (name: string) => findHeader(e.request, name);
  const path = header('x-envoy-original-path') ?? header(':path') ?? '';
  const scheme = header('x-forwarded-proto') ?? 'http';
  const tags: [string, string][] = [['component', 'proxy']];
  const { id, zone } = trace.node;
  if (id !== '') tags.push(['node_id', id]);
  if (zone !== '') tags.push(['zone', zone]);
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
    ...idsOf(trace, e),
    name: nameOf(trace, e, operation),
    startUs: e.startUs,
    durationUs: e.durationUs,
    tags,
    status: e.status,
  };
}
