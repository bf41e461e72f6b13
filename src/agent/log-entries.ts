/** What lines of access logs say of a request that is over, from what the programs and the agent know of it. */
import { randomUUID } from 'node:crypto';
import { DETAILS_SHIFT, ORIGIN } from '../layout/actions.js';
import type { LogEntry } from '../observe/log-line.js';
import type { ListenerPlan } from '../plan/ir.js';
import { decidedId } from '../plan/trace-ids.js';
import { parseHead } from './http-framing.js';
import type { LoggedListener, LoggedRoute } from './policy.js';

export type Headers = LogEntry['request'];

/** How an exchange ended that the agent ended. */
export interface AgentEnd {
  /** the answer's, where the kernel has not seen its head */
  readonly status?: number;
  readonly answer?: Headers;
  readonly flags?: readonly string[];
  readonly details?: string;
  /** bytes of the body that the agent wrote itself, and of the request's that never came */
  readonly sent?: number;
  readonly missing?: number;
  /** when the head of a server's answer came (monotonic, ns) */
  readonly answeredAt?: bigint;
}

/** A request that was forwarded and whose end is not known. */
export interface Pending {
  readonly cookie: bigint;
  readonly started: bigint;
  readonly table: LoggedListener;
  readonly operation?: string;
  readonly entry: Omit<
    LogEntry,
    'duration' | 'durationUs' | 'response' | 'answer' | 'status' | 'flags' | 'details' | 'sent'
  >;
  /** when the request was complete (monotonic, ns), 0: it is not; absent: at its beginning */
  complete?: bigint;
  answer?: { readonly status: number; readonly headers: Headers; readonly at: bigint };
}

/**
 * What is logged of a request that was forwarded and is over.
 * @param at when (monotonic, ns); @param sent bytes of the answer's body; @param missing bytes of the request's that never came
 */
export function finished(
  p: Pending,
  at: bigint,
  { sent, flags, details, missing = 0 }: Pick<LogEntry, 'sent' | 'flags' | 'details'> & { readonly missing?: number },
): LogEntry {
  const ms = (ns: bigint) => Math.max(0, Number((ns - p.started) / 1_000_000n));
  const { answer } = p;
  const response = answer && ms(answer.at);
  const served = answer && answer.at > 0n;
  const serviceTime = !served || p.complete === 0n ? undefined : ms(answer.at - (p.complete ?? p.started) + p.started);
  return {
    ...p.entry,
    received: Math.max(0, p.entry.received - missing),
    duration: ms(at),
    durationUs: Math.max(0, Number((at - p.started) / 1000n)),
    ...(served ? { response, complete: details === 'via_upstream' } : {}),
    answer: answer ? answerHeaders(answer.status, answer.headers, serviceTime, p.table.listener) : [],
    status: answer?.status ?? 0,
    flags,
    details,
    sent,
  };
}

/** Headers of a request as the proxy has them. @param local the listener, where it was not forwarded and so not changed */
export function requestOf(bytes: Buffer, local: ListenerPlan | undefined, client: string): Headers {
  const head = bytes.length > 0 ? parseHead(bytes) : undefined;
  if (!head) return [];
  const [method = '', target = ''] = head.startLine.split(' ');
  const headers: (readonly [string, string])[] = [
    [':method', method],
    [':path', target],
    ...head.headers.map(([name, value]) => [name === 'host' ? ':authority' : name, value] as const),
  ];
  return local ? ownHeaders(headers, local, client) : headers;
}

/** The headers of a request that was not forwarded, with those that the proxy adds to any. */
export function ownHeaders(given: Headers, local: ListenerPlan, client: string): Headers {
  const headers = [...given];
  const has = (name: string) => headers.some(([n]) => n === name);
  const { trace } = local;
  if (local.generateRequestId && !has('x-request-id')) headers.push(['x-request-id', randomUUID()]);
  if (trace) {
    const at = headers.findIndex(([n]) => n === 'x-request-id');
    if (at >= 0) headers[at] = ['x-request-id', decidedId(headers[at]![1], trace)];
  }
  if (!has('x-forwarded-proto')) headers.push(['x-forwarded-proto', local.forwardedProto]);
  const edge = local.log?.edge;
  if (edge) headers.push(['x-envoy-external-address', client]);
  if (edge?.append) {
    const at = headers.findIndex(([n]) => n === 'x-forwarded-for');
    if (at < 0) headers.push(['x-forwarded-for', client]);
    else headers[at] = ['x-forwarded-for', `${headers[at]![1]},${client}`];
  }
  return headers;
}

function answerHeaders(
  status: number,
  headers: Headers,
  serviceTime: number | undefined,
  { log }: ListenerPlan,
): Headers {
  const added = log?.serviceTime && serviceTime !== undefined;
  const kept = headers.filter(
    // an answer without content has no length (RFC 9110, 8.6); Envoy takes it away
    ([name]) => !(added && name === 'x-envoy-upstream-service-time') && !(status === 204 && name === 'content-length'),
  );
  return [
    [':status', String(status)],
    ...kept,
    ...(added ? [['x-envoy-upstream-service-time', String(serviceTime)] as const] : []),
  ];
}

const ORIGINS: Record<number, { readonly flags: readonly string[]; readonly details: string }> = {
  [ORIGIN.ROUTE]: { flags: [], details: 'direct_response' },
  [ORIGIN.NO_ROUTE]: { flags: ['NR'], details: 'route_not_found' },
  [ORIGIN.RBAC]: { flags: [], details: 'rbac_access_denied' },
  [ORIGIN.FAULT]: { flags: ['FI'], details: 'fault_filter_abort' },
  [ORIGIN.FILTER]: { flags: [], details: 'cors_response' },
};

/** The mesh's own answer of HTTP/1.1 as bytes. */
export function replyOf(
  bytes: Buffer,
  ...by: readonly [sent: number, origin: number, route: LoggedRoute | undefined, details: readonly string[]]
): ReplyEntry {
  const end = bytes.indexOf('\r\n\r\n');
  const head = parseHead(bytes.subarray(0, end + 4));
  return replyEntry(Number(head?.startLine.split(' ')[1] ?? 0), head?.headers ?? [], ...by);
}

type ReplyEntry = Pick<
  LogEntry,
  'duration' | 'durationUs' | 'answer' | 'status' | 'flags' | 'details' | 'sent' | 'cluster'
>;

/** What is logged of an answer of the mesh's own. @param origin ORIGIN; @param details see `replyDetails` */
export function replyEntry(
  status: number,
  headers: Headers,
  sent: number,
  origin: number,
  route: LoggedRoute | undefined,
  details: readonly string[],
): ReplyEntry {
  const by = origin & ((1 << DETAILS_SHIFT) - 1);
  const own = details[(origin >>> DETAILS_SHIFT) - 1];
  const cluster = route && by !== ORIGIN.ROUTE ? drawn(route) : undefined;
  return {
    duration: 0,
    durationUs: 0,
    // the length of nothing is the codec's
    answer: [[':status', String(status)], ...headers.filter((h) => h.join() !== 'content-length,0')],
    status,
    ...ORIGINS[by]!,
    ...(own === undefined ? {} : { details: own }),
    sent,
    ...(cluster === undefined ? {} : { cluster }),
  };
}

/** The cluster that the route would have led to: the proxy draws it before its filters answer. */
function drawn({ action }: LoggedRoute): string | undefined {
  if (action.kind !== 'forward') return undefined;
  const total = action.clusters.reduce((sum, { weight }) => sum + weight, 0);
  let at = Math.random() * total;
  return action.clusters.find(({ weight }) => {
    at -= weight;
    return at < 0;
  })?.cluster;
}
