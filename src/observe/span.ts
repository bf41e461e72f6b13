/** Spans of requests, as Envoy's tracers make them: what access logs know of a request, with the tags of its tracing. */
import { OPERATION, type TracePlan } from '../plan/tracing.js';
import { findHeader, type LogEntry } from './log-line.js';
import { type SpanIds, spanIds } from './span-ids.js';

export interface Span extends SpanIds {
  readonly name: string;
  /** what other tracers say of the trace (`tracestate`) */
  readonly state: string;
  /** the path of the request, and the client's address */
  readonly path: string;
  readonly peer: string;
  /** the span of the try */
  readonly child?: Child;
  readonly startUs: number;
  readonly durationUs: number;
  readonly tags: readonly (readonly [name: string, value: string])[];
  readonly status: number;
}

export interface Child {
  readonly path: string;
  /** the server's address */
  readonly peer: string;
  readonly tags: Span['tags'];
  readonly failed: boolean;
}

const REASONS: Readonly<Record<string, string>> = { UPE: 'protocol error', UC: 'connection termination' };

/** The span of the one try, which ends with the request. */
function childOf(e: LogEntry, upstream: NonNullable<LogEntry['upstream']>, cluster: Span['tags']): Child {
  const status = e.response === undefined ? 0 : e.status;
  const [flag = ''] = e.flags;
  const reason = REASONS[flag];
  const bad = status === 0 || status >= 500;
  const tags: [string, string][] = [];
  if (reason !== undefined) tags.push(['error', 'true'], ['error.reason', reason]);
  else if (flag !== '') tags.push(['canceled', 'true']);
  tags.push(
    ['http.protocol', 'HTTP/1.1'],
    ['upstream_address', upstream.host],
    ['component', 'proxy'],
    ...cluster.map(([name, value]): [string, string] => [name, value]),
    ['http.status_code', String(status)],
    ['response_flags', reason === undefined ? '-' : flag],
  );
  if (bad) tags.push(['error', 'true']);
  const failed = bad || reason !== undefined;
  return { path: findHeader(e.request, ':path') ?? '', peer: upstream.host, tags, failed };
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
  const cluster: [string, string][] =
    e.cluster === undefined
      ? []
      : [['upstream_cluster', e.cluster], ['upstream_cluster.name', trace.statNames[e.cluster] ?? e.cluster]]; // biome-ignore format: short
  tags.push(...cluster);
  if (e.status === 0 || e.status >= 500) tags.push(['error', 'true']);
  for (const { tag, header: name, value } of trace.tags) {
    const found = (name === undefined ? undefined : header(name)) ?? value;
    if (found !== '') tags.push([tag, found]);
  }
  return {
    ...ids,
    name: nameOf(trace, e, operation),
    state: header('tracestate') ?? '',
    ...{ path, peer: e.client.address },
    ...(trace.child && e.upstream ? { child: childOf(e, e.upstream, cluster) } : {}),
    startUs: e.startUs,
    durationUs: e.durationUs,
    tags,
    status: e.status,
  };
}
