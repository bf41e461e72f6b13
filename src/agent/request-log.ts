/**
 * The access logs of what the kernel decides. The programs tell what happened by a ring buffer (bpf/log.h), the agent
 * what it did itself with an exchange that the kernel had begun; from both come the lines that the proxy would write.
 */
import { randomUUID } from 'node:crypto';
import { RingBuffer } from '../kernel/ring-buffer.js';
import { DETAILS_SHIFT, ORIGIN } from '../layout/actions.js';
import { LOG_RECORD, LogRecordSpec } from '../layout/log-records.js';
import { get, getBig } from '../layout/struct.js';
import { LogFile } from '../observe/log-file.js';
import { type LogEntry, logLine, passes } from '../observe/log-line.js';
import { spanOf } from '../observe/span.js';
import type { ListenerPlan } from '../plan/ir.js';
import { decidedId } from '../plan/trace-ids.js';
import { reports } from '../plan/tracing.js';
import { wordsAddress } from './address.js';
import type { DataPlane } from './data-plane.js';
import { parseHead } from './http-framing.js';
import { loggedRoute } from './logged-routes.js';
import type { Generation, LoggedListener, LoggedRoute } from './policy.js';
import type { SpanSender } from './span-sender.js';
import type { UpstreamPool } from './upstream-pool.js';

const DRAIN_MS = 5;
const FLUSH_MS = 100;
/** Exchanges may outlive their policy by a few. */
const GENERATIONS = 16;

type Headers = LogEntry['request'];

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
interface Pending {
  readonly cookie: bigint;
  readonly started: bigint;
  readonly table: LoggedListener;
  readonly operation?: string;
  readonly entry: Omit<
    LogEntry,
    'duration' | 'durationUs' | 'response' | 'answer' | 'status' | 'flags' | 'details' | 'sent'
  >;
  answer?: { readonly status: number; readonly headers: Headers; readonly at: bigint };
}

export class RequestLog {
  readonly #ring: RingBuffer;
  readonly #tables = new Map<number, Map<number, LoggedListener>>();
  readonly #pending = new Map<number, Pending>();
  readonly #files = new Map<string, LogFile>();
  #timers: NodeJS.Timeout[] = [];
  /** lines written, and missing because a record had no room or a file could not be written */
  readonly counts = { lines: 0, lost: 0 };

  /**
   * @param pool knows the connections to servers
   * @param stream the file that a stream of the proxy's process is
   * @param spans takes the spans of requests that are traced
   */
  constructor(
    plane: DataPlane,
    private readonly pool: () => UpstreamPool,
    private readonly stream: (kind: 'stdout' | 'stderr') => string,
    private readonly spans: SpanSender,
  ) {
    this.#ring = new RingBuffer(plane.map('request_log'));
  }

  /** A generation comes into force. @param index the number of each listener in the image */
  use(generation: Generation, index: ReadonlyMap<string, number>): void {
    const listeners = new Map<number, LoggedListener>();
    for (const logged of generation.logged) listeners.set(index.get(logged.listener.name) ?? -1, logged);
    this.#tables.set(generation.number, listeners);
    for (const old of this.#tables.keys()) if (old <= generation.number - GENERATIONS) this.#tables.delete(old);
    if (listeners.size === 0 || this.#timers.length > 0) return;
    this.#timers = [setInterval(() => this.drain(), DRAIN_MS), setInterval(() => this.flush(), FLUSH_MS)];
  }

  /** Takes in what the programs have told. */
  drain(): void {
    if (this.#timers.length === 0) return;
    const now = process.hrtime.bigint();
    const exact = performance.timeOrigin + performance.now();
    const wall = Math.abs(exact - Date.now()) < 5 ? exact : Date.now(); // the clock may have been set
    const at = (ns: bigint) => Math.round(wall * 1000 - Number(now - ns) / 1000);
    this.#ring.drain((record) => this.#take(record, at));
  }

  #take(record: DataView, at: (ns: bigint) => number): void {
    const number = (name: string, index = 0) => get(record, 0, LogRecordSpec, name, index);
    const kind = number('kind');
    const time = getBig(record, 0, LogRecordSpec, 'time');
    const cookie = getBig(record, 0, LogRecordSpec, 'cookie');
    const bytes = (from: number, length: number) =>
      Buffer.from(record.buffer, record.byteOffset + LogRecordSpec.size + from, length);
    if (kind & (LOG_RECORD.BEGIN | LOG_RECORD.REPLY)) {
      const table = this.#tables.get(number('generation'))?.get(number('listener'));
      if (!table) {
        this.counts.lost++;
        return;
      }
      const reply = (kind & LOG_RECORD.REPLY) !== 0;
      const answerLength = number('answer_len');
      const address = (name: string) => wordsAddress([0, 1, 2, 3].map((i) => number(name, i)));
      const route = loggedRoute(table, number('rule') - 1);
      const client = { address: address('source'), port: number('source_port') };
      const { log } = table.listener;
      const base = {
        startUs: at(time),
        request: requestOf(
          bytes(answerLength, number('request_len')),
          reply ? table.listener : undefined,
          client.address,
        ),
        ...(log && !log.edge ? { hops: log.trustedHops } : {}),
        received: number('received'),
        client,
        local: { address: address('original'), port: number('original_port') },
        ...(route && !route.guard ? { route: route.routeName ?? '' } : {}),
      };
      if (reply) {
        const given = replyOf(bytes(0, answerLength), number('body'), number('origin'), route, table.details);
        this.#write(table, { ...base, ...given }, route?.operation);
        return;
      }
      const slot = number('slot');
      if (this.#pending.has(slot)) this.counts.lost++;
      const action = route?.action;
      const choices = action?.kind === 'forward' ? action.clusters.filter(({ weight }) => weight > 0) : [];
      const cluster = choices[number('choice')]?.cluster;
      const upstream = { host: this.pool().addressOf(number('endpoint')), local: this.pool().localOf(slot) };
      const digits = bytes(LogRecordSpec.at.parent!.offset - LogRecordSpec.size, 16).toString('latin1');
      const parent = table.listener.trace && digits.charCodeAt(0) !== 0 ? { parentSpan: digits } : {};
      const entry = { ...base, upstream, ...parent, ...(cluster === undefined ? {} : { cluster }) };
      const operation = route?.operation;
      this.#pending.set(slot, {
        cookie,
        started: time,
        table,
        entry,
        ...(operation === undefined ? {} : { operation }),
      });
      return;
    }
    const slot = number('slot');
    const pending = this.#pending.get(slot);
    if (pending?.cookie !== cookie) return; // its beginning is missing, and was counted
    if (kind & LOG_RECORD.ANSWER) {
      const head = parseHead(bytes(0, number('answer_len')));
      pending.answer = { status: number('status'), headers: head?.headers ?? [], at: time };
    }
    if (kind & LOG_RECORD.END) {
      this.#pending.delete(slot);
      this.#finish(pending, time, number('body'), [], 'via_upstream');
    }
  }

  #finish(p: Pending, at: bigint, sent: number, flags: readonly string[], details: string, missing = 0): void {
    const ms = (ns: bigint) => Math.max(0, Number((ns - p.started) / 1_000_000n));
    const { answer } = p;
    const response = answer && ms(answer.at);
    const served = answer && answer.at > 0n;
    const entry: LogEntry = {
      ...p.entry,
      received: Math.max(0, p.entry.received - missing),
      duration: ms(at),
      durationUs: Math.max(0, Number((at - p.started) / 1000n)),
      ...(served ? { response, complete: flags.length === 0 } : {}),
      answer: answer
        ? answerHeaders(answer.status, answer.headers, served ? response : undefined, p.table.listener)
        : [],
      status: answer?.status ?? 0,
      flags,
      details,
      sent,
    };
    this.#write(p.table, entry, p.operation);
  }

  /**
   * The agent has ended an exchange, or is about to end it.
   * @param body bytes of the answer's body that the kernel has sent
   */
  ended(slot: number, cookie: bigint, body: number, end: AgentEnd): void {
    const p = this.#taken(slot, cookie);
    if (!p) return;
    if (end.status !== undefined)
      p.answer = { status: end.status, headers: end.answer ?? [], at: end.answeredAt ?? 0n };
    const now = process.hrtime.bigint();
    this.#finish(p, now, body + (end.sent ?? 0), end.flags ?? [], end.details ?? 'via_upstream', end.missing);
  }

  /** An exchange is over of which the proxy has written the line. */
  replayed(slot: number, cookie: bigint): void {
    this.#taken(slot, cookie);
  }

  #taken(slot: number, cookie: bigint): Pending | undefined {
    if (this.#timers.length === 0) return undefined;
    this.drain();
    const p = this.#pending.get(slot);
    if (p?.cookie !== cookie) return undefined;
    this.#pending.delete(slot);
    return p;
  }

  #write({ listener }: LoggedListener, entry: LogEntry, operation: string | undefined): void {
    const span = listener.trace && reports(listener.trace) && spanOf(listener.trace, entry, operation);
    if (listener.trace && span) this.spans.add(listener.trace, span);
    for (const log of listener.log?.logs ?? []) {
      if (!passes(log.filter, entry)) continue;
      const path = log.sink.kind === 'file' ? log.sink.path : this.stream(log.sink.kind);
      let file = this.#files.get(path);
      if (!file) {
        file = new LogFile(path);
        this.#files.set(path, file);
      }
      file.add(logLine(log, entry));
      this.counts.lines++;
    }
  }

  flush(): void {
    for (const file of this.#files.values()) {
      const failed = file.flush();
      this.counts.lost += failed;
      this.counts.lines -= failed;
    }
  }

  close(): void {
    this.drain();
    this.flush();
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    for (const file of this.#files.values()) file.close();
    this.#ring.close();
  }
}

/** Headers of a request as the proxy has them. @param local the listener, where it was not forwarded and so not changed */
function requestOf(bytes: Buffer, local: ListenerPlan | undefined, client: string): Headers {
  const head = bytes.length > 0 ? parseHead(bytes) : undefined;
  if (!head) return [];
  const [method = '', target = ''] = head.startLine.split(' ');
  const headers: (readonly [string, string])[] = [
    [':method', method],
    [':path', target],
    ...head.headers.map(([name, value]) => [name === 'host' ? ':authority' : name, value] as const),
  ];
  if (!local) return headers;
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

function replyOf(
  bytes: Buffer,
  sent: number,
  origin: number,
  route: LoggedRoute | undefined,
  details: readonly string[],
): Pick<LogEntry, 'duration' | 'durationUs' | 'answer' | 'status' | 'flags' | 'details' | 'sent' | 'cluster'> {
  const end = bytes.indexOf('\r\n\r\n');
  const head = parseHead(bytes.subarray(0, end + 4));
  const status = Number(head?.startLine.split(' ')[1] ?? 0);
  const by = origin & ((1 << DETAILS_SHIFT) - 1);
  const own = details[(origin >>> DETAILS_SHIFT) - 1];
  const cluster = route && by !== ORIGIN.ROUTE ? drawn(route) : undefined;
  return {
    duration: 0,
    durationUs: 0,
    // the length of nothing is the codec's
    answer: [[':status', String(status)], ...(head?.headers ?? []).filter((h) => h.join() !== 'content-length,0')],
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
