/**
 * The access logs of what the kernel decides. The programs tell what happened by a ring buffer (bpf/log.h), the agent
 * what it did itself with an exchange that the kernel had begun; from both come the lines that the proxy would write.
 */
import { RingBuffer } from '../kernel/ring-buffer.js';
import { LOG_RECORD, LogRecordSpec } from '../layout/log-records.js';
import { get, getBig } from '../layout/struct.js';
import { LogFile } from '../observe/log-file.js';
import { type LogEntry, logLine, passes } from '../observe/log-line.js';
import { spanOf } from '../observe/span.js';
import { reports } from '../plan/tracing.js';
import { wordsAddress } from './address.js';
import type { DataPlane } from './data-plane.js';
import { parseHead } from './http-framing.js';
import { type AgentEnd, finished, type Pending, replyOf, requestOf } from './log-entries.js';
import { loggedRoute } from './logged-routes.js';
import type { Generation, LoggedListener } from './policy.js';
import type { SpanSender } from './span-sender.js';
import type { UpstreamPool } from './upstream-pool.js';

const DRAIN_MS = 5;
const FLUSH_MS = 100;
/** Exchanges may outlive their policy by a few. */
const GENERATIONS = 16;

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
        this.write(table, { ...base, ...given }, route?.operation);
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
    this.write(p.table, finished(p, at, { sent, flags, details, missing }), p.operation);
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

  /** Writes what the logs of a listener say of a request, and its span. */
  write({ listener }: LoggedListener, entry: LogEntry, operation: string | undefined): void {
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
