/**
 * The agent's end of one intercepted connection (A). While the kernel decides, no byte comes here. The agent steps in
 * when the kernel passes a request on (odd, split, pipelined, no idle upstream), leaves an answer to it, or when an
 * upstream breaks; and gives the connection back when nothing is under way.
 *
 * Two rules keep the bytes in order. Bytes that the kernel redirected are read by the client before bytes that came
 * through the connection itself, so the agent writes only when nothing redirected is unread (`quiet`). And the kernel
 * redirects only when the client has read all that the agent wrote (`native` in the connection's state).
 */
import type { Socket } from 'node:net';
import { fdOf, setLinger } from '../kernel/syscalls.js';
import { CONN_FLAG, PHASE, UPSTREAM_FLAG, WAY } from '../layout/runtime.js';
import { REPLAY_HEADER, replayMark } from '../proxy/replay.js';
import type { AnswerPrograms, ExchangeEdits } from './answer-programs.js';
import { AnswerPump } from './answer-pump.js';
import type { AgentCounts } from './counts.js';
import type { ConnectionState, DataPlane } from './data-plane.js';
import { type Head, headerValues, parseHead } from './http-framing.js';
import { LOST, TIMED_OUT } from './outliers.js';
import { ProxySession, type ProxyTarget } from './proxy-session.js';
import { IDLE_BODY, localReply, PROTOCOL_BODY, TERMINATED_BODY, TIMEOUT_BODY } from './replies.js';
import type { AgentEnd, RequestLog } from './request-log.js';
import type { Slot, UpstreamPool } from './upstream-pool.js';

export interface ConnectionContext {
  readonly plane: DataPlane;
  readonly pool: UpstreamPool;
  /** where the proxy listens for this listener; undefined: there is none */
  readonly proxy: () => ProxyTarget | undefined;
  /** what the proxy is told first where it listens at a Unix socket */
  readonly prologue: () => Buffer;
  /** a request's head that goes to the proxy */
  readonly head: (head: Head) => void;
  /** what becomes of the exchanges of a connection to the proxy */
  readonly exchange: (event: 'opened' | 'answered' | 'closed', end: string) => void;
  readonly programs: AnswerPrograms;
  readonly log: RequestLog;
  readonly counted: (what: keyof AgentCounts) => void;
  readonly closed: (connection: ClientConnection) => void;
  /** the requests are decided at the agent's own end (listener intake) */
  readonly atListener: boolean;
  /** what became of a try, for outlier detection: the status of its answer, or what its failure counts as */
  readonly tried: (watch: number, status: number) => void;
  /** whether a connection with this cookie is there */
  readonly known: (cookie: bigint) => boolean;
}

/** What Envoy's access log says of failures: response flags and response code details (tried with 1.40). */
const FAILURES = {
  terminated: { flags: ['UC'], details: 'upstream_reset_before_response_started{connection_termination}' },
  protocol: { flags: ['UPE'], details: 'upstream_reset_before_response_started{protocol_error}' },
  /** an answer that ends before it is complete, in order or by a reset */
  cut: { flags: ['UPE'], details: 'upstream_reset_after_response_started{protocol_error}' },
  timeout: { flags: ['UT'], details: 'response_timeout' },
  idle: { flags: ['SI'], details: 'stream_idle_timeout' },
  'try timeout': { flags: ['UT'], details: 'upstream_per_try_timeout' },
} as const;
type Failure = keyof typeof FAILURES;

/** What is answered when no byte of the server's answer has come. */
const LOCAL_ANSWERS = {
  terminated: { status: 503, body: TERMINATED_BODY },
  timeout: { status: 504, body: TIMEOUT_BODY },
  'try timeout': { status: 504, body: TIMEOUT_BODY },
  idle: { status: 408, body: IDLE_BODY },
} as const;

const GONE: AgentEnd = { flags: ['DC'], details: 'downstream_remote_disconnect' };

const POLL_MS = 1;
const DELAYED_CLOSE_MS = 1000;
const EARLY_ANSWER_MS = 20;
const GONE_MS = 20;
/** Bytes of requests that wait in the agent at most, roughly. */
const MAX_PENDING = 128 * 1024;

export class ClientConnection {
  #read = 0;
  #written = 0;
  #pending: Buffer[] = [];
  /** the client is not read while enough of its requests wait */
  #held = false;
  #session: ProxySession | undefined;
  /** the answer that is being carried */
  #carried: { readonly slot: Slot; readonly pump: AnswerPump } | undefined;
  /**
   * The exchange whose request is tried again through the proxy. Its slot stays in flight, so that what the client sends
   * meanwhile waits, and that the route's timeout goes on.
   */
  #replaying: { readonly slot: Slot; started: boolean } | undefined;
  /** the kernel passes everything on this connection to the agent (as far as the agent knows) */
  #agentMode = false;
  #busy = false;
  #ended = false;
  #closed = false;
  #draining = false;
  #closing = false;

  constructor(
    private readonly socket: Socket,
    /** of the client's socket */
    readonly cookie: bigint,
    private readonly source: string,
    private readonly context: ConnectionContext,
  ) {
    socket.on('data', (bytes: Buffer) => this.#data(bytes));
    socket.on('end', () => this.#end());
    socket.on('drain', () => this.#session?.drained());
    socket.on('error', () => this.#gone());
    socket.on('close', () => this.#gone());
  }

  #data(bytes: Buffer): void {
    if (this.#closing) return;
    this.#read += bytes.length;
    this.#pending.push(bytes);
    void this.#step();
    if (!this.#held && this.#pending.reduce((sum, b) => sum + b.length, 0) > MAX_PENDING) {
      this.#held = true;
      this.socket.pause();
    }
  }

  /** Reads on, where it was stopped because much was pending. */
  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.socket.resume();
  }

  /** Works off what has come. One at a time; whatever comes meanwhile is seen by the loop. */
  async #step(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#pending.length > 0 && !this.#closed) {
        if (!(this.#agentMode && this.#session) && !(await this.#takeOver())) return;
        this.#forward();
      }
    } finally {
      this.#busy = false;
    }
    if (this.#ended && !this.#closed) await this.#finishEnd();
  }

  #forward(): void {
    const session = this.#session;
    if (!session || this.#pending.length === 0) return;
    const bytes = this.#pending.length === 1 ? this.#pending[0]! : Buffer.concat(this.#pending);
    this.#pending = [];
    this.#release();
    if (!session.send(bytes, () => void (this.#held || this.socket.resume()))) this.socket.pause();
  }

  /** Waits until the kernel has nothing under way for this connection, then opens a way to the proxy. */
  async #takeOver(): Promise<boolean> {
    this.context.pool.grow();
    for (;;) {
      if (this.#closed) return false;
      const state = this.context.plane.query(this.cookie);
      if (!state) break; // never in the map (or gone): everything comes this way
      if (state.flags & CONN_FLAG.BROKEN) {
        this.reset();
        return false;
      }
      const slot = this.#slotOf(state);
      if (state.bodyLeft > 0n) {
        if (!slot) {
          // The answer is there, the rest of the request's body is not wanted: Envoy closes, too.
          this.#closeGracefully();
          return false;
        }
        if (state.underway) {
          await sleep(POLL_MS);
          continue;
        }
        await this.#sendBody(slot, Number(state.bodyLeft));
        if (this.#pending.length === 0) return false;
        continue;
      }
      if (!slot && !state.queued) break;
      await sleep(POLL_MS);
    }
    this.#agentMode = true;
    return this.#session !== undefined || this.#openSession();
  }

  #slotOf(state: ConnectionState): Slot | undefined {
    const slot = this.context.pool.slot(state.upstream);
    return slot && this.context.plane.owner(slot.slot) === this.cookie ? slot : undefined;
  }

  /** The rest of a request's body that came together with other bytes goes to the upstream that has its beginning. */
  async #sendBody(slot: Slot, left: number): Promise<void> {
    // Part of the request may have gone straight to the server's socket: the next one must not meet these bytes there.
    this.context.plane.addFlags(slot.slot, UPSTREAM_FLAG.CLOSE);
    let missing = left;
    while (missing > 0 && !this.#closed && !slot.ended) {
      const bytes = this.#pending.shift();
      this.#release();
      if (!bytes) {
        await sleep(POLL_MS);
        continue;
      }
      const piece = bytes.subarray(0, missing);
      if (piece.length < bytes.length) this.#pending.unshift(bytes.subarray(piece.length));
      missing -= piece.length;
      this.context.plane.touch(slot.slot);
      if (!slot.socket.write(piece)) await new Promise((resolve) => slot.socket.once('drain', resolve));
    }
    this.context.plane.touch(slot.slot);
    this.context.plane.addFlags(slot.slot, UPSTREAM_FLAG.REQUEST_DONE);
    this.context.plane.bodySent(this.cookie);
  }

  #openSession(): boolean {
    const target = this.context.proxy();
    if (!target) {
      const toHead = Buffer.concat(this.#pending).toString('latin1', 0, 5) === 'HEAD ';
      this.#answer(localReply(503, 'no proxy stands behind this listener', toHead, true), false);
      this.#closeGracefully();
      return false;
    }
    this.#session = new ProxySession(
      { ...target, source: this.source, ...('path' in target ? { prologue: this.context.prologue() } : {}) },
      {
        toClient: (bytes) => {
          if (this.#replaying) this.#replaying.started = true;
          return this.#write(bytes);
        },
        head: (head) => this.context.head(head),
        request: () => this.context.counted('proxied'),
        boundary: (length) => this.#tryResume(length),
        exchange: (event, end) => this.context.exchange(event, end),
        closed: (graceful, idle) => this.#sessionClosed(graceful, idle),
      },
    );
    return true;
  }

  #sessionClosed(graceful: boolean, idle: boolean): void {
    this.#session = undefined;
    if (this.#closed) return;
    if (idle && graceful && !this.#agentMode) return; // an idle spare connection
    if (graceful) this.#closeGracefully();
    else this.reset();
  }

  /** Nothing is under way once `length` more bytes are written: gives the connection back to the kernel. */
  #tryResume(length: number): void {
    if (this.#replaying) {
      // first the state, then the bytes: the next request may follow at once
      this.context.plane.native(this.cookie, this.#written + length);
      this.#endReplay();
    }
    if (this.#pending.length > 0) return;
    if (this.#draining || this.#ended) {
      setImmediate(() => this.#closeGracefully());
      return;
    }
    if (this.context.plane.resume(this.cookie, this.#read, this.#written + length)) this.#agentMode = false;
  }

  #write(bytes: Buffer): boolean {
    if (this.#closed) return true;
    this.#written += bytes.length;
    return this.socket.write(bytes);
  }

  /** An answer of the agent's own, to a request that the kernel had counted as its own or not. */
  #answer(bytes: Buffer, kernels = true): void {
    this.context.counted(kernels ? 'answered' : 'refused');
    this.context.plane.native(this.cookie, this.#written + bytes.length);
    this.#write(bytes);
  }

  /** What became of the try on a slot; a status only once, a failure even after it. */
  #tried(slot: Slot, status: number, failure = false): void {
    const { plane, tried } = this.context;
    const watch = plane.upstream(slot.slot, 'watch');
    if (watch === 0 || (!failure && plane.upstream(slot.slot, 'counted') === 1)) return;
    tried(watch, status);
  }

  /** For the access log: how an exchange ended. Before its slot can be taken again. */
  #logEnd(slot: Slot, end: AgentEnd): void {
    this.context.log.ended(slot.slot, this.cookie, Number(this.context.plane.sentBody(slot.slot)), end);
  }

  /** The same with an answer of the agent's own. */
  #logReply(slot: Slot, status: number, reply: Buffer, failure: Failure, missing = 0): void {
    const end = reply.indexOf('\r\n\r\n') + 4;
    const answer = parseHead(reply.subarray(0, end))?.headers ?? [];
    this.#logEnd(slot, { ...FAILURES[failure], status, answer, sent: reply.length - end, missing });
  }

  /** The edits of the answer on a slot. */
  #edits(slot: Slot): ExchangeEdits | undefined {
    const { plane, programs } = this.context;
    const program = programs.get(plane.upstream(slot.slot, 'edits'));
    return program && { program, variables: plane.variables(slot.slot) };
  }

  /** Carries the answer that the kernel left to the agent on `slot`. */
  async carry(slot: Slot): Promise<void> {
    const { plane, pool } = this.context;
    slot.listener = () => undefined;
    slot.socket.pause();
    // An answer that is there before its request has come completely ends the connection, as with Envoy; but what is
    // on its way already (Envoy would have read it first) gets a moment to arrive.
    for (let waited = 0; waited < EARLY_ANSWER_MS && !this.#closed; waited += POLL_MS) {
      if (plane.upstream(slot.slot, 'flags') & UPSTREAM_FLAG.REQUEST_DONE) break;
      await sleep(POLL_MS);
    }
    if (plane.owner(slot.slot) !== this.cookie) return;
    const handover = plane.upstream(slot.slot, 'phase') === PHASE.HANDOVER;
    const flags = plane.upstream(slot.slot, 'flags');
    const toHead = (flags & UPSTREAM_FLAG.HEAD) !== 0;
    const ending =
      (flags & UPSTREAM_FLAG.REQUEST_DONE) === 0 ? 'always' : flags & UPSTREAM_FLAG.PROXY ? 'with-server' : 'never';
    const sent = plane.envoyHeaders && !(flags & UPSTREAM_FLAG.PROXY) ? plane.started(slot.slot) : undefined;
    const edits = this.#edits(slot);
    if (plane.upstream(slot.slot, 'way') & WAY.MISSED) pool.wantDummy(slot);
    let finished = false;
    let seen: Pick<AgentEnd, 'status' | 'answer' | 'answeredAt'> = {};
    const finish = (reusable: boolean, written?: number): void => {
      if (finished) return;
      finished = true;
      slot.listener = undefined;
      slot.inbox = [];
      const again = reusable && !slot.ended && pump.reusable;
      if (written === undefined) plane.finish(slot.slot, this.cookie, again);
      else plane.complete(slot.slot, this.cookie, again, written);
      if (!again) pool.discard(slot);
      // a client that is gone takes nothing and will never be drained, which must not stop the answers to the next one
      else slot.socket.resume();
    };
    const sink = {
      write: (bytes: Buffer, last: boolean): void => {
        if (last) {
          // First the state, then the bytes: the next request may follow at once.
          this.#logEnd(slot, { ...seen, sent: pump.body });
          finish(true, this.#written + bytes.length);
        }
        if (last && pump.closing) {
          this.#write(bytes);
          this.#closeGracefully();
        } else if (!this.#write(bytes) && !last) {
          slot.socket.pause();
          this.socket.once('drain', () => finished || slot.socket.resume());
        }
      },
      fail: (started: boolean, reason: 'protocol' | 'terminated'): void => {
        this.#tried(slot, LOST, true);
        if (!started && flags & UPSTREAM_FLAG.RETRY_RESETS && this.#replay(slot)) {
          finished = true;
          return;
        }
        const reply =
          reason === 'protocol'
            ? localReply(502, PROTOCOL_BODY, toHead, false, edits)
            : localReply(503, TERMINATED_BODY, toHead, false, edits);
        if (started) this.#logEnd(slot, { ...seen, ...FAILURES.cut, sent: pump.body });
        else this.#logReply(slot, reason === 'protocol' ? 502 : 503, reply, reason);
        finish(false);
        if (started) this.reset();
        else this.#answer(reply);
      },
      head: (status: number, head: Head): boolean => {
        if (status >= 200) this.#tried(slot, status);
        seen = { status, answer: head.headers, answeredAt: process.hrtime.bigint() };
        if (!(flags & UPSTREAM_FLAG.RETRY) || !plane.retries(slot.slot, status)) return false;
        // a rate limiter's answer is not retried
        if (headerValues(head, 'x-envoy-ratelimited').length > 0) return false;
        finished = this.#replay(slot);
        return finished;
      },
    };
    const pump = handover
      ? AnswerPump.resume(sink, restOf(plane, slot.slot))
      : new AnswerPump(sink, toHead, ending, sent, edits);
    this.#carried = { slot, pump };
    if (!(flags & UPSTREAM_FLAG.PROXY)) this.context.counted('carried');
    let ready = false;
    const work = (): void => {
      if (!ready || finished) return;
      for (const bytes of slot.inbox.splice(0)) pump.feed(bytes);
      if (slot.ended && !pump.done) pump.end();
    };
    slot.listener = work;
    if (!(await this.#quiet())) {
      this.#logEnd(slot, { ...seen, ...GONE });
      finish(false);
      return;
    }
    if (slot.listener !== work) return; // given up, or tried again, meanwhile
    ready = true;
    slot.socket.resume();
    work();
  }

  /**
   * Gives a request whose first try failed to the proxy, which carries out what is left of the retry policy, after the
   * time that it would have waited itself.
   * @returns false when the request was not kept
   */
  #replay(slot: Slot): boolean {
    const { plane } = this.context;
    const request = Buffer.from(plane.replay(slot.slot));
    if (request.length === 0) return false;
    const left = plane.upstream(slot.slot, 'flags') >>> UPSTREAM_FLAG.RETRIES_SHIFT;
    const end = request.indexOf('\r\n\r\n');
    // `x-envoy-max-retries` is for proxies of others that believe it; our own has routes for the mark.
    const mark = `${REPLAY_HEADER.name}: ${replayMark(plane.upstream(slot.slot, 'choice'))}`;
    const header = Buffer.from(`\r\nx-envoy-max-retries: ${Math.max(0, left)}\r\n${mark}`, 'latin1');
    const bytes = Buffer.concat([request.subarray(0, end), header, request.subarray(end)]);
    slot.listener = () => undefined;
    slot.inbox = [];
    slot.socket.destroy();
    const replaying = { slot, started: false };
    this.#replaying = replaying;
    this.#carried = undefined;
    const wait = Math.floor(Math.random() * plane.upstream(slot.slot, 'backoff_ms'));
    void sleep(wait).then(async () => {
      if (!(await this.#quiet()) || this.#replaying !== replaying) return;
      if (!this.#session && !this.#openSession()) return;
      plane.native(this.cookie, this.#written);
      this.#session?.send(bytes, () => undefined);
    });
    return true;
  }

  /** The exchange that was tried again is over. */
  #endReplay(): void {
    const slot = this.#replaying?.slot;
    this.#replaying = undefined;
    if (!slot) return;
    this.context.log.replayed(slot.slot, this.cookie);
    this.context.plane.finish(slot.slot, this.cookie, false);
    this.context.pool.discard(slot);
  }

  /** Resolves when the client has read all that the kernel redirected; false when it is gone. */
  async #quiet(): Promise<boolean> {
    for (;;) {
      if (this.#closed) return false;
      const state = this.context.plane.query(this.cookie);
      if (!state) return !this.#closed;
      if (!state.queued) return true;
      await sleep(POLL_MS);
    }
  }

  /** The upstream broke while a request of this connection was in flight on it. */
  async upstreamBroken(slot: Slot): Promise<void> {
    if (this.#tryAgain(slot, LOST)) return;
    await this.#breakOff(slot, 'terminated');
  }

  /** The exchange on `slot` took too long. */
  async timedOut(slot: Slot): Promise<void> {
    if (this.#replaying?.slot === slot) {
      const { started } = this.#replaying;
      this.#replaying = undefined;
      this.#session?.destroy();
      this.#session = undefined;
      if (started) this.reset();
      else await this.#breakOff(slot, 'timeout', true, false);
      return;
    }
    // what the agent carries may not have got as far as the client
    const held = this.#carried?.slot === slot && !this.#carried.pump.started && this.#isAgents(slot);
    await this.#breakOff(slot, 'timeout', held);
  }

  /** The client has not gone on with the body of its request for too long. */
  async bodyTimedOut(slot: Slot): Promise<void> {
    const held = this.#carried?.slot === slot && !this.#carried.pump.started && this.#isAgents(slot);
    await this.#breakOff(slot, 'idle', held, false);
  }

  /** The first try of the exchange on `slot` took too long; from the head of its answer on, this does not matter. */
  async tryTimedOut(slot: Slot): Promise<void> {
    if (this.#replaying?.slot === slot || this.#tryAgain(slot, TIMED_OUT)) return;
    const phase = this.context.plane.upstream(slot.slot, 'phase');
    const held = this.#carried?.slot === slot && !this.#carried.pump.started && this.#isAgents(slot);
    if (phase === PHASE.AWAIT || held) await this.#breakOff(slot, 'try timeout', held);
  }

  /** Tries a request again whose first try was lost before the head of its answer, if its policy says so. */
  #tryAgain(slot: Slot, failure: number): boolean {
    const { plane } = this.context;
    const kept = plane.upstream(slot.slot, 'replay_len') > 0;
    if (!kept || !(plane.upstream(slot.slot, 'flags') & UPSTREAM_FLAG.RETRY_RESETS)) return false;
    const held = this.#carried?.slot === slot && !this.#carried.pump.started && this.#isAgents(slot);
    if (!(held || plane.takeOver(slot.slot, this.cookie)) || !this.#replay(slot)) return false;
    this.#tried(slot, failure, true);
    return true;
  }

  #isAgents(slot: Slot): boolean {
    return this.context.plane.upstream(slot.slot, 'phase') === PHASE.AGENT;
  }

  /**
   * Ends an exchange that cannot be completed: with `status` if no byte of the answer has come (or the agent `held` it
   * back), else with a reset. If the request had not come as a whole, the connection ends, too, as with Envoy.
   */
  async #breakOff(
    slot: Slot,
    failure: 'terminated' | 'timeout' | 'try timeout' | 'idle',
    held = false,
    /** it is this server's failure (outlier detection) */
    counts = true,
  ): Promise<void> {
    const { plane } = this.context;
    const flags = plane.upstream(slot.slot, 'flags');
    const edits = this.#edits(slot);
    const { status, body } = LOCAL_ANSWERS[failure];
    if (held ? this.#giveUp(slot) : plane.giveUp(slot.slot, this.cookie)) {
      if (counts) this.#tried(slot, status, true);
      const partly = (flags & UPSTREAM_FLAG.REQUEST_DONE) === 0;
      const reply = localReply(status, body, (flags & UPSTREAM_FLAG.HEAD) !== 0, partly, edits);
      const missing = partly ? Number(plane.query(this.cookie)?.bodyLeft ?? 0n) : 0;
      this.#logReply(slot, status, reply, failure, missing);
      this.#drop(slot);
      if (!(await this.#quiet())) return;
      this.#answer(reply);
      if (partly) this.#closeGracefully();
    } else if (this.#giveUp(slot)) {
      if (counts) this.#tried(slot, status, true);
      this.#logEnd(slot, FAILURES[failure === 'terminated' ? 'cut' : failure]);
      this.reset();
    } else {
      slot.listener = undefined; // the answer was complete in this very moment
    }
  }

  /** Ends the exchange on `slot` wherever it is. @returns false when it had ended already */
  #giveUp(slot: Slot): boolean {
    const ended = this.context.plane.finish(slot.slot, this.cookie, false);
    if (ended) this.#drop(slot);
    return ended;
  }

  #drop(slot: Slot): void {
    slot.listener = () => undefined;
    this.context.pool.discard(slot);
  }

  #end(): void {
    this.#ended = true;
    if (this.#closing) {
      this.socket.destroySoon();
      return;
    }
    if (this.context.atListener) this.#breakAway();
    if (!this.#busy) void this.#finishEnd();
  }

  /**
   * The client of listener intake has ended its side. Closed or half-closed is the same on the wire, and where its socket
   * is cannot be looked at: what is under way ends at once, as with Envoy.
   */
  #breakAway(): void {
    const state = this.context.plane.query(this.cookie);
    const slot = state && this.#slotOf(state);
    if (slot) {
      this.#replaying = undefined;
      if (this.#giveUp(slot)) this.#logEnd(slot, GONE);
    }
    this.#session?.destroy();
    this.#session = undefined;
  }

  /**
   * The client sends no more: what is in flight is still answered, then the connection is closed. Never before the client
   * has read all that was redirected: our FIN would look like the end of the file to it. Twice quiet, because an answer
   * is complete for its upstream a moment before it is queued for the client.
   */
  async #finishEnd(): Promise<void> {
    for (let quiet = 0; ; ) {
      if (this.#closed || this.#pending.length > 0) return;
      const state = this.context.plane.query(this.cookie);
      if (!state) {
        // closed, not half-closed: nobody will read an answer
        this.#session?.destroy();
        this.#closeGracefully();
        return;
      }
      if (this.context.atListener) {
        this.#breakAway();
      } else if (this.#session?.busy) {
        if (this.#session.opaque) this.#session.end();
        return; // closed at the next boundary
      }
      quiet = this.#slotOf(state) || state.queued ? 0 : quiet + 1;
      if (quiet === 2) break;
      await sleep(quiet ? POLL_MS : 5);
    }
    this.#closeGracefully();
  }

  #closeGracefully(): void {
    if (this.#closed) return;
    if (this.#closing) return;
    this.#closing = true;
    this.#pending = [];
    const fd = fdOf(this.socket);
    if (fd !== undefined) setLinger(fd, undefined);
    // Closing with unread bytes would reset the connection and take the answer with it, so what still comes is read and
    // dropped for a while (Envoy's delayed_close_timeout).
    this.socket.end();
    this.socket.resume();
    if (this.#ended) this.socket.destroySoon();
    else setTimeout(() => this.socket.destroy(), DELAYED_CLOSE_MS).unref();
  }

  /** No more requests after the one under way; then the connection is closed. */
  drain(): void {
    this.#draining = true;
    const state = this.context.plane.query(this.cookie);
    if (!this.#session?.busy && !this.#busy && (!state || !(this.#slotOf(state) || state.queued)))
      this.#closeGracefully();
  }

  /** Ends the connection at once; the client sees a reset. */
  reset(): void {
    const fd = fdOf(this.socket);
    if (fd !== undefined) setLinger(fd, 0);
    this.socket.destroy();
  }

  #gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#session?.destroy();
    this.context.closed(this);
    // A port may be used again before the agent has accepted its first connection, which is then taken for the second
    // one's: what is in flight is given up only if no other connection turns out to be the owner.
    setTimeout(() => {
      if (this.context.known(this.cookie)) return;
      const slot = this.context.pool.findByOwner(this.cookie);
      if (slot && this.#giveUp(slot)) this.#logEnd(slot, GONE);
    }, GONE_MS);
  }
}

function restOf(plane: DataPlane, slot: number): { chunkState: number; remaining: bigint } | { left: number } {
  const remaining = plane.remaining(slot);
  return plane.upstream(slot, 'flags') & UPSTREAM_FLAG.CHUNKED
    ? { chunkState: plane.upstream(slot, 'chunk_state'), remaining }
    : { left: Number(remaining) };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
