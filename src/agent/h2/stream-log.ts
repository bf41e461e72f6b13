/**
 * The access logs of streams that the kernel decides: the programs tell what happened (bpf/h2-log.h), the agent what it did
 * itself with a stream, and the lines are written as those of HTTP/1.1.
 */
import { RingBuffer } from '../../kernel/ring-buffer.js';
import { LOG_RECORD, LogRecordSpec } from '../../layout/log-records.js';
import { get, getBig } from '../../layout/struct.js';
import type { LogEntry } from '../../observe/log-line.js';
import type { Address } from '../address.js';
import { type AgentEnd, finished, ownHeaders, type Pending, replyEntry } from '../log-entries.js';
import { loggedRoute } from '../logged-routes.js';
import type { LoggedListener, StreamPolicy } from '../policy.js';
import { decodeBlock, type Field, fragmentOf } from './block.js';
import { dataOf, ends } from './carried.js';
import { FRAME, type Frame } from './frames.js';
import type { End, H2Plane, KernelReply } from './plane.js';

const DRAIN_MS = 5;
const FLUSH_MS = 100;
/** Streams may outlive their policy by a few. */
const GENERATIONS = 16;

/** Who writes lines. */
export interface LineWriter {
  readonly counts: { lost: number };
  write(table: LoggedListener, entry: LogEntry, operation: string | undefined): void;
  flush(): void;
}

/** Whose streams are logged. */
export interface LoggedClient {
  readonly client: Address;
  /** the address that it asked for */
  readonly local: Address;
}

/** How a stream ends that its client has reset, or whose client is gone. */
export const RESET: AgentEnd = { flags: ['DR'], details: 'http2.remote_reset' };
const GONE: AgentEnd = { flags: ['DC'], details: 'downstream_remote_disconnect' };

/** How one ends whose server does. @param reason as Envoy says it to the client; @param begun the client has the answer's head */
export function lostServer(reason: string, begun: boolean): AgentEnd {
  const how = reason.replaceAll(' ', '_');
  const details = `upstream_reset_${begun ? 'after' : 'before'}_response_started{${how}}`;
  return { flags: [reason.startsWith('connection') ? 'UC' : 'UR'], details };
}

interface Logged {
  readonly pending: Pending;
  /** bytes of bodies that the agent has carried */
  up: number;
  down: number;
  /** when the agent carried the request's end */
  complete: bigint;
  /** it is tried again: the programs know it no more */
  taken: boolean;
}

const plain = (fields: readonly Field[]): Field[] => fields.filter(([name]) => !name.startsWith(':'));
const statusOf = (fields: readonly Field[]): number => Number(fields.find(([name]) => name === ':status')?.[1] ?? 0);

/** A request's fields; its cookies, which may come in pieces (RFC 9113, section 8.2.3), are one to Envoy. */
function requestFields(block: Buffer): Field[] | undefined {
  const fields = decodeBlock(block);
  const cookies = fields?.filter(([name]) => name === 'cookie').map(([, value]) => value) ?? [];
  if (!fields || cookies.length < 2) return fields;
  return [...fields.filter(([name]) => name !== 'cookie'), ['cookie', cookies.join('; ')]];
}

export class StreamLog {
  readonly #ring: RingBuffer;
  readonly #tables = new Map<number, ReadonlyMap<number, LoggedListener>>();
  readonly #clients = new Map<bigint, ClientLog>();
  #timers: NodeJS.Timeout[] = [];

  constructor(
    readonly plane: H2Plane,
    readonly writer: LineWriter,
  ) {
    this.#ring = new RingBuffer(plane.map('request_log'));
    plane.removing = () => this.drain();
  }

  /** A policy comes into force. @param indexOf the number of each listener in the image */
  use({ number, logged }: Pick<StreamPolicy, 'number' | 'logged'>, indexOf: (listener: string) => number): void {
    this.#tables.set(number, new Map(logged.map((one) => [indexOf(one.listener.name), one] as const)));
    for (const old of this.#tables.keys()) if (old <= number - GENERATIONS) this.#tables.delete(old);
    if (logged.length === 0 || this.#timers.length > 0) return;
    this.#timers = [setInterval(() => this.drain(), DRAIN_MS), setInterval(() => this.writer.flush(), FLUSH_MS)];
  }

  table(generation: number, listener: number): LoggedListener | undefined {
    return this.#tables.get(generation)?.get(listener);
  }

  /** A client whose streams may be logged, until it is closed. */
  client(end: End, of: LoggedClient): ClientLog {
    const log = new ClientLog(this, end, of, () => this.#clients.delete(end.cookie));
    this.#clients.set(end.cookie, log);
    return log;
  }

  /** Takes in what the programs have told. */
  drain(): void {
    if (this.#timers.length === 0) return;
    this.#ring.drain((record) => {
      const client = this.#clients.get(getBig(record, 0, LogRecordSpec, 'cookie'));
      if (client) client.take(record);
      else if (get(record, 0, LogRecordSpec, 'kind') & LOG_RECORD.BEGIN) this.writer.counts.lost++;
    });
  }

  close(): void {
    this.drain();
    this.writer.flush();
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    this.#ring.close();
  }
}

export class ClientLog {
  readonly #streams = new Map<number, Logged>();

  constructor(
    private readonly log: StreamLog,
    private readonly end: End,
    private readonly of: LoggedClient,
    private readonly closed: () => void,
  ) {}

  /** A record about a stream of this client's. */
  take(record: DataView): void {
    const number = (name: string) => get(record, 0, LogRecordSpec, name);
    const big = (name: string) => getBig(record, 0, LogRecordSpec, name);
    const kind = number('kind');
    const stream = number('slot');
    const block = (length: number): Buffer =>
      Buffer.from(record.buffer, record.byteOffset + LogRecordSpec.size, length);
    if (kind & LOG_RECORD.BEGIN) {
      const table = this.log.table(number('generation'), number('listener'));
      if (!table || this.#streams.has(stream)) this.log.writer.counts.lost++;
      if (!table) return;
      const route = loggedRoute(table, number('rule') - 1);
      const action = route?.action;
      const choices = action?.kind === 'forward' ? action.clusters.filter(({ weight }) => weight > 0) : [];
      const cluster = choices[number('choice')]?.cluster;
      const upstream = this.log.plane.servers.get(number('endpoint'));
      const entry = {
        ...this.#base(table, big('time'), route),
        request: requestFields(block(number('request_len'))) ?? [],
        received: 0,
        ...(upstream ? { upstream } : {}),
        ...(cluster === undefined ? {} : { cluster }),
      };
      const cookie = this.end.cookie;
      const { operation } = route ?? {};
      const pending = { cookie, started: big('time'), table, entry, ...(operation === undefined ? {} : { operation }) };
      this.#streams.set(stream, { pending, up: 0, down: 0, complete: 0n, taken: false });
      return;
    }
    const logged = this.#streams.get(stream);
    if (!logged) return; // its beginning is missing, or the agent has ended it
    if (kind & LOG_RECORD.ANSWER) this.#answer(logged, block(number('answer_len')), big('time'), big('received'));
    if (kind & LOG_RECORD.END) {
      const seen = { received: Number(big('received')), body: Number(big('body')) };
      this.#finish(stream, logged, big('time'), kind & LOG_RECORD.RESET ? RESET : {}, seen);
    }
  }

  #base(table: LoggedListener, at: bigint, route: ReturnType<typeof loggedRoute>) {
    const { log } = table.listener;
    const wall = performance.timeOrigin + performance.now();
    const now = Math.abs(wall - Date.now()) < 5 ? wall : Date.now(); // the clock may have been set
    return {
      startUs: Math.round(now * 1000 - Number(process.hrtime.bigint() - at) / 1000),
      ...(log && !log.edge ? { hops: log.trustedHops } : {}),
      ...this.of,
      http2: true as const,
      ...(route && !route.guard ? { route: route.routeName ?? '' } : {}),
    };
  }

  #answer({ pending, complete }: Logged, block: Buffer, at: bigint, known: bigint): void {
    const fields = decodeBlock(block) ?? [];
    const status = statusOf(fields);
    if (status < 200 || pending.answer) return;
    pending.answer = { status, headers: plain(fields), at };
    pending.complete = known > 0n ? known : complete;
  }

  #finish(
    stream: number,
    { pending, up, down }: Logged,
    at: bigint,
    end: AgentEnd,
    seen: { readonly received: number; readonly body: number },
  ): void {
    this.#streams.delete(stream);
    if (end.status !== undefined) pending.answer = { status: end.status, headers: end.answer ?? [], at: 0n };
    const sent = seen.body + down + (end.sent ?? 0);
    const own = { ...pending, entry: { ...pending.entry, received: seen.received + up } };
    const { flags = [], details = 'via_upstream' } = end;
    this.log.writer.write(pending.table, finished(own, at, { sent, flags, details }), pending.operation);
  }

  #find(stream: number): Logged | undefined {
    const known = this.#streams.get(stream);
    if (known) return known;
    this.log.drain();
    return this.#streams.get(stream);
  }

  /** The agent carries a frame of the client's, or one for it. */
  carried(f: Frame, up: boolean): void {
    if (f.type > FRAME.HEADERS) return;
    const logged = this.#find(f.stream);
    const bytes = f.type === FRAME.DATA ? fragmentOf(f).length : 0;
    if (logged && up) {
      logged.up += bytes;
      if (ends(f)) logged.complete = process.hrtime.bigint();
    } else if (logged) logged.down += bytes;
  }

  /** It carries the head of an answer. */
  answer(stream: number, block: Buffer): void {
    const logged = this.#find(stream);
    const complete = this.log.plane.stream(this.end, stream)?.complete ?? 0n;
    if (logged) this.#answer(logged, block, process.hrtime.bigint(), complete);
  }

  /** A stream is tried again. */
  taken(stream: number): void {
    const logged = this.#find(stream);
    if (!logged) return;
    logged.up += this.log.plane.stream(this.end, stream)?.received ?? 0;
    logged.taken = true;
  }

  /** The proxy has written the line. */
  dropped(stream: number): void {
    this.#streams.delete(stream);
  }

  /** The agent ends a stream; before it forgets it. @param reply frames of an answer of its own */
  ended(stream: number, end: AgentEnd, reply: readonly Frame[] = []): void {
    this.log.drain(); // it may have ended before
    const logged = this.#streams.get(stream);
    if (!logged) return;
    const known = logged.taken ? undefined : this.log.plane.stream(this.end, stream);
    const fields = reply[0] && decodeBlock(fragmentOf(reply[0]));
    const own = fields && {
      status: statusOf(fields),
      answer: plain(fields),
      sent: reply.reduce((sum, f) => sum + dataOf(f), 0),
    };
    const seen = { received: known?.received ?? 0, body: known?.body ?? 0 };
    this.#finish(stream, logged, process.hrtime.bigint(), { ...end, ...own }, seen);
  }

  /** The mesh itself answers. @param head the request's frame; @param frames the answer */
  replied(head: Frame, { log, generation, rule, origin }: KernelReply, frames: readonly Frame[]): void {
    if (!log) return;
    const table = this.log.table(generation, this.end.listener);
    const request = requestFields(fragmentOf(head));
    const answer = decodeBlock(fragmentOf(frames[0]!));
    if (!table || !request || !answer) {
      this.log.writer.counts.lost++;
      return;
    }
    const route = loggedRoute(table, rule - 1);
    const sent = frames.reduce((sum, f) => sum + dataOf(f), 0);
    const entry = {
      ...this.#base(table, process.hrtime.bigint(), route),
      request: ownHeaders(request, table.listener, this.of.client.address),
      received: 0,
      ...replyEntry(statusOf(answer), plain(answer), sent, origin, route, table.details),
    };
    this.log.writer.write(table, entry, route?.operation);
  }

  /** The client is gone, and with it what is under way. */
  close(): void {
    this.log.drain();
    for (const stream of [...this.#streams.keys()]) {
      if (this.#streams.get(stream)?.taken) this.dropped(stream);
      else this.ended(stream, GONE);
    }
    this.closed();
  }
}
