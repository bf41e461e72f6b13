/**
 * Streams that are tried again: what the kernel, or the agent, has kept of the client's goes to the proxy, which carries out
 * what is left of the route's policy. They have a connection of their own there, because a stream's number may only grow.
 */
import { H2_STREAM } from '../../layout/streams.js';
import { REPLAY_HEADER, replayMark } from '../../proxy/replay.js';
import { TRIED_HEADER, triedAt } from '../../proxy/tried.js';
import { encodeBlock, fragmentOf } from './block.js';
import { type Carried, dataOf, ends } from './carried.js';
import { FIRST_WINDOW, FLAG, FRAME, type Frame, made, numberFrame, ofStream } from './frames.js';
import { claim, keptOf, type RetryRule } from './kept.js';
import type { End, H2Plane } from './plane.js';
import { retriesHead, retriesReset } from './retry-rule.js';
import type { Target, Upstream } from './upstream.js';

/** Bytes of bodies that the agent keeps for all clients together; beyond, what comes is not tried again. */
const ROOM = 256 * 1024 * 1024;
let used = 0;

export interface RetryContext {
  /** a connection to the proxy for streams that are tried again; undefined: there is none */
  readonly connection: () => Upstream | undefined;
  /** a longer body is not kept by Envoy, either: the first window of its streams */
  readonly most: () => number;
  /** tells the client of so much more room on a stream */
  readonly room: (stream: number, bytes: number) => void;
  /** a stream cannot be tried again after all */
  readonly lost: (retried: Retried) => void;
}

/** A stream that is tried again, on its way to the proxy. */
export class Retried implements Carried {
  readonly retried = this;
  readonly ofKernel = false;
  clientEnded = false;
  serverEnded = false;
  /** its number there; 0: it has not begun */
  number = 0;
  /** the client has the beginning of an answer */
  answered = false;
  /** ends it when its time is over */
  timer: NodeJS.Timeout | undefined;
  readonly #queue: Frame[] = [];
  /** what the proxy lets it send, and what of that was sent */
  #allowed = 0;
  #sent = 0;
  /** by WINDOW_UPDATE of the client's, before it begins */
  #room = 0;

  /** @param tried where the first try was; @param told what the client was told that it may send; @param room tells it of more */
  constructor(
    readonly stream: number,
    public upstream: Upstream,
    private readonly tried: Target,
    private readonly rule: RetryRule,
    private told: number,
    private readonly room: (bytes: number) => void,
  ) {}

  /** Something of the client's has still to leave. */
  get waits(): boolean {
    return this.number === 0 || this.#queue.length > 0 || this.upstream.waiting.has(this.number);
  }

  /** Begins at the proxy. @param kept the frames before those that were pushed; @param clientRoom allowed by WINDOW_UPDATE */
  begin(number: number, kept: readonly Frame[], clientRoom: number): void {
    this.number = number;
    const [head, ...more] = kept;
    const fields = encodeBlock([
      ['x-envoy-max-retries', String(this.rule.left)],
      [REPLAY_HEADER.name, replayMark(this.rule.choice)],
      [TRIED_HEADER, triedAt(this.tried.address, this.tried.port)],
    ]);
    const flags = FLAG.END_HEADERS | (head!.flags & FLAG.END_STREAM);
    this.upstream.send(made(FRAME.HEADERS, flags, number, Buffer.concat([fragmentOf(head!), fields])).bytes);
    this.#room += clientRoom;
    if (this.#room > 0) this.upstream.send(numberFrame(FRAME.WINDOW_UPDATE, number, this.#room));
    if (ends(head!)) this.clientEnded = true;
    this.#queue.unshift(...more.map((f) => ({ ...f, again: true as const })));
    if (more.some(ends)) this.clientEnded = true;
    this.allow(this.upstream.initial);
  }

  /** A frame of the client's: DATA, or trailers. */
  push(f: Frame): void {
    this.#queue.push(f);
    if (ends(f)) this.clientEnded = true;
    this.#flush();
  }

  /** A WINDOW_UPDATE of the client's. */
  clientAllows(f: Frame): void {
    if (this.number > 0) this.upstream.send(ofStream(f, this.number).bytes);
    else this.#room += f.payload.readUInt32BE(0) & 0x7fffffff;
  }

  /** The proxy lets the stream send so much more. */
  allow(bytes: number): void {
    this.#allowed += bytes;
    const more = this.#allowed - this.told;
    if (more > 0) {
      this.told += more;
      if (!this.clientEnded) this.room(more);
    }
    this.#flush();
  }

  #flush(): void {
    if (this.number === 0) return;
    for (let f = this.#queue[0]; f; f = this.#queue[0]) {
      if (this.#sent + dataOf(f) > this.#allowed) return;
      this.#sent += dataOf(f);
      this.#queue.shift();
      this.upstream.waiting.push(ofStream(f, this.number));
    }
  }

  /** Forgets what has not left. @returns bytes of DATA among it that were not counted as gone before */
  drop(): number {
    clearTimeout(this.timer);
    const bytes = this.#queue.reduce((sum, f) => sum + (f.again ? 0 : dataOf(f)), 0);
    this.#queue.length = 0;
    return bytes + (this.number > 0 ? this.upstream.waiting.drop(this.number) : 0);
  }
}

export class Retries {
  /** what the agent keeps of streams whose client's side it carries; none: too much */
  readonly #kept = new Map<number, { frames: Frame[]; bytes: number } | undefined>();
  readonly #ways = new Map<Upstream, Map<number, number>>();
  readonly #numbers = new WeakMap<Upstream, number>();
  readonly #timers = new Map<number, NodeJS.Timeout>();

  constructor(
    private readonly plane: H2Plane,
    private readonly client: End,
    private readonly context: RetryContext,
  ) {}

  /** Whether a stream may be tried again, as far as the programs know. */
  #isOpen(stream: number): boolean {
    const flags = this.plane.stream(this.client, stream)?.flags ?? 0;
    return (flags & (H2_STREAM.RETRY | H2_STREAM.ANSWERED | H2_STREAM.TAKEN)) === H2_STREAM.RETRY;
  }

  /** The policy of a stream, as long as it may be tried again. */
  #rule(stream: number): RetryRule | undefined {
    if (!this.#isOpen(stream)) return undefined;
    if (this.#kept.has(stream) && !this.#kept.get(stream)) return undefined;
    return keptOf(this.plane, this.client, stream)?.rule;
  }

  /** A frame of the client's that the agent carries to the server: it is to be kept, too. */
  note(f: Frame): void {
    if (f.type !== FRAME.DATA && f.type !== FRAME.HEADERS) return;
    const known = this.#kept.get(f.stream);
    if (!known && this.#kept.has(f.stream)) return;
    const before = known || !this.#isOpen(f.stream) ? undefined : keptOf(this.plane, this.client, f.stream);
    if (known ? !this.#isOpen(f.stream) : !before) {
      this.#drop(f.stream);
      this.#kept.set(f.stream, undefined);
      return;
    }
    const own = known ?? { frames: [...before!.frames], bytes: 0 };
    if (!known) this.#kept.set(f.stream, own);
    for (const more of [...(before?.frames ?? []), f]) {
      own.bytes += dataOf(more);
      used += dataOf(more);
    }
    own.frames.push(f);
    if (own.bytes > this.context.most() || used > ROOM) {
      this.#drop(f.stream);
      this.#kept.set(f.stream, undefined);
    }
  }

  #drop(stream: number): void {
    used -= this.#kept.get(stream)?.bytes ?? 0;
    this.#kept.delete(stream);
  }

  /** Whether a head of a server's is not for the client. The first one that is ends all keeping. */
  retriesHead(stream: number, block: Buffer): boolean {
    if (!this.#isOpen(stream)) return false;
    const rule = this.#rule(stream);
    if (rule && retriesHead(rule, block)) return true;
    this.answered(stream);
    return false;
  }

  /** A stream's answer is the client's. */
  answered(stream: number): void {
    claim(this.plane, this.client, stream, H2_STREAM.ANSWERED);
    this.#drop(stream);
  }

  /** Whether a reset, or the end of a connection, has the stream tried again. */
  retriesReset(stream: number, refused: boolean): boolean {
    const rule = this.#rule(stream);
    return rule !== undefined && retriesReset(rule, refused);
  }

  /**
   * Takes a stream from its server.
   * @param tried that server
   * @param told what the client was told that it may send, without WINDOW_UPDATE by the kernel
   * @returns undefined: it is answered, or there is no proxy
   */
  take(stream: number, tried: Target, told: number): Retried | undefined {
    const rule = this.#rule(stream);
    const upstream = rule && this.context.connection();
    if (!rule || !upstream) return undefined;
    const { had } = claim(this.plane, this.client, stream, H2_STREAM.TAKEN) ?? { had: H2_STREAM.ANSWERED };
    if (had & H2_STREAM.ANSWERED) return undefined;
    const { serverRoom = 0 } = this.plane.stream(this.client, stream) ?? {};
    const room = (bytes: number) => this.context.room(stream, bytes);
    const retried = new Retried(stream, upstream, tried, rule, told + serverRoom, room);
    this.#wait(retried, Math.floor(Math.random() * rule.backoffMs));
    return retried;
  }

  #wait(retried: Retried, ms: number): void {
    this.#timers.set(
      retried.stream,
      setTimeout(() => this.#begin(retried), ms),
    );
  }

  #begin(retried: Retried): void {
    const { stream } = retried;
    if (claim(this.plane, this.client, stream, 0)?.busy) {
      this.#wait(retried, 1);
      return;
    }
    this.#timers.delete(stream);
    const frames = this.#kept.get(stream)?.frames ?? keptOf(this.plane, this.client, stream)?.frames;
    const { clientRoom = 0 } = this.plane.stream(this.client, stream) ?? {};
    this.plane.forget(this.client, stream);
    this.#drop(stream);
    // the one that was opened ahead may have ended, or may be about to
    const upstream = this.context.connection();
    if (!upstream || !frames || frames.length === 0) {
      this.context.lost(retried);
      return;
    }
    retried.upstream = upstream;
    const number = (this.#numbers.get(upstream) ?? -1) + 2;
    this.#numbers.set(upstream, number);
    const ways = this.#ways.get(upstream) ?? new Map<number, number>();
    this.#ways.set(upstream, ways.set(number, stream));
    retried.begin(number, frames, clientRoom);
  }

  /** A frame from a connection as the client's stream has it; undefined: of a stream that is over. */
  own(f: Frame, from: Upstream): Frame | undefined {
    const ways = this.#ways.get(from);
    if (!ways) return f;
    const stream = ways.get(f.stream);
    return stream === undefined ? undefined : ofStream(f, stream);
  }

  /** Nothing of a stream is wanted any more. */
  forget(stream: number, retried?: Retried): void {
    clearTimeout(this.#timers.get(stream));
    this.#timers.delete(stream);
    this.#drop(stream);
    if (!retried) return;
    clearTimeout(retried.timer);
    if (retried.number === 0) this.plane.forget(this.client, stream);
    else this.#ways.get(retried.upstream)?.delete(retried.number);
  }

  /** A connection has ended. */
  gone(from: Upstream): void {
    this.#ways.delete(from);
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    for (const stream of [...this.#kept.keys()]) this.#drop(stream);
  }
}

/** What the client was told that it may send on a stream. @param initial the server's first window, if it was told of that */
export function toldOf(initial: number | undefined): number {
  return Math.max(FIRST_WINDOW, initial ?? 0);
}
