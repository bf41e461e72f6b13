/** One answer that the kernel left to the agent, from its upstream connection to the client's. */
import { PHASE, UPSTREAM_FLAG, WAY } from '../layout/exchanges.js';
import { AnswerPump, type PumpSink } from './answer-pump.js';
import type { ClientEnd, ConnectionContext } from './connection-context.js';
import type { DataPlane } from './data-plane.js';
import { BUFFERED, idleStrikes } from './exchange-activity.js';
import type { ExchangeRecords } from './exchange-records.js';
import { FAILURES, GONE } from './failures.js';
import { type Head, headerValues } from './http-framing.js';
import type { AgentEnd } from './log-entries.js';
import { LOST } from './outliers.js';
import { localReply, PROTOCOL_BODY, TERMINATED_BODY } from './replies.js';
import type { Slot } from './slot.js';

export class CarriedAnswer {
  readonly #pump: AnswerPump;
  readonly #flags: number;
  readonly #edits;
  /** how much of it may wait for the client, beyond what sockets take */
  readonly #ahead: number;
  #ready = false;
  #finished = false;
  #seen: Pick<AgentEnd, 'status' | 'answer' | 'answeredAt'> = {};

  constructor(
    readonly slot: Slot,
    private readonly client: ClientEnd,
    private readonly context: ConnectionContext,
    private readonly records: ExchangeRecords,
    /** tries the request again through the proxy, if that can be */
    private readonly replay: (slot: Slot) => boolean,
  ) {
    const { plane } = context;
    const handover = plane.slots.field(slot.slot, 'phase') === PHASE.HANDOVER;
    const flags = plane.slots.field(slot.slot, 'flags');
    const toHead = (flags & UPSTREAM_FLAG.HEAD) !== 0;
    const ending =
      (flags & UPSTREAM_FLAG.REQUEST_DONE) === 0 ? 'always' : flags & UPSTREAM_FLAG.PROXY ? 'with-server' : 'never';
    const sent = plane.envoyHeaders && !(flags & UPSTREAM_FLAG.PROXY) ? plane.slots.started(slot.slot) : undefined;
    this.#flags = flags;
    const strikes = idleStrikes(plane.slots.field(slot.slot, 'timeout_ms'), plane.slots.field(slot.slot, 'idle_ms'));
    this.#ahead = strikes ? BUFFERED : 0;
    this.#edits = records.edits(slot);
    if (plane.slots.field(slot.slot, 'way') & WAY.MISSED) context.pool.wantDummy(slot);
    const sink: PumpSink = {
      write: (bytes, last) => this.#write(bytes, last),
      fail: (started, reason) => this.#fail(started, reason),
      head: (status, head) => this.#head(status, head),
    };
    this.#pump = handover
      ? AnswerPump.resume(sink, restOf(plane, slot.slot))
      : new AnswerPump(sink, toHead, ending, sent, this.#edits);
    if (!(flags & UPSTREAM_FLAG.PROXY)) context.counted('carried');
  }

  /** Whether bytes of it were written to the client. */
  get started(): boolean {
    return this.#pump.started;
  }

  /** Whether the client has read what came before, so that nothing but the server holds it up. */
  get ready(): boolean {
    return this.#ready;
  }

  /** What has become of it so far; undefined when it is over. */
  get progress(): AgentEnd | undefined {
    return this.#finished ? undefined : { ...this.#seen, sent: this.#pump.body };
  }

  /** Carries it, as soon as the client has read what came through the kernel before. */
  async run(): Promise<void> {
    const { slot } = this;
    const work = (): void => {
      if (!this.#ready || this.#finished) return;
      for (let bytes = slot.inbox.shift(); bytes; bytes = slot.inbox.shift()) this.#pump.feed(bytes);
      if (slot.ended && !this.#pump.done) this.#pump.end();
    };
    slot.listener = work;
    if (!(await this.client.quiet())) {
      this.records.ended(slot, { ...this.#seen, ...GONE });
      this.#finish(false);
      return;
    }
    if (slot.listener !== work) return; // given up, or tried again, meanwhile
    this.#ready = true;
    if (this.#pump.started) slot.activity.wrote(); // what has led to the hand-over waits here
    slot.socket.resume();
    work();
  }

  /** `written`: how much the client will have been sent with the answer's last bytes, which follow. */
  #finish(reusable: boolean, written?: number): void {
    if (this.#finished) return;
    this.#finished = true;
    const { slot } = this;
    const { plane, pool } = this.context;
    // bytes that nobody asked for would be taken for the next answer
    const more = slot.inbox.length > 0 || slot.socket.readableLength > 0;
    slot.listener = undefined;
    slot.inbox = [];
    const again = reusable && !slot.ended && !more && this.#pump.reusable;
    if (written === undefined) plane.commands.finish(slot.slot, this.client.cookie, again);
    else plane.commands.complete(slot.slot, this.client.cookie, again, written);
    if (!again) pool.discard(slot);
    // a client that is gone takes nothing and will never be drained, which must not stop the answers to the next one
    else slot.socket.resume();
  }

  #write(bytes: Buffer, last: boolean): void {
    const { slot, client } = this;
    slot.activity.wrote();
    if (last) {
      // First the state, then the bytes: the next request may follow at once.
      this.records.ended(slot, { ...this.#seen, sent: this.#pump.body });
      this.#finish(true, client.written + bytes.length);
    }
    if (last && this.#pump.closing) {
      client.write(bytes);
      client.closeGracefully();
    } else if (!client.write(bytes, this.#ahead) && !last) {
      slot.socket.pause();
      void client.drained().then(() => void (this.#finished || client.closed || slot.socket.resume()));
    }
  }

  #fail(started: boolean, reason: 'protocol' | 'terminated'): void {
    const { slot, client, records } = this;
    records.tried(slot, LOST, true);
    if (!started && this.#flags & UPSTREAM_FLAG.RETRY_RESETS && this.replay(slot)) {
      this.#finished = true;
      return;
    }
    const [status, body] = reason === 'protocol' ? ([502, PROTOCOL_BODY] as const) : ([503, TERMINATED_BODY] as const);
    const reply = localReply(status, body, (this.#flags & UPSTREAM_FLAG.HEAD) !== 0, false, this.#edits);
    if (started) records.ended(slot, { ...this.#seen, ...FAILURES.cut, sent: this.#pump.body });
    else records.replied(slot, status, reply, reason);
    this.#finish(false);
    if (started) client.reset();
    else client.answer(reply);
  }

  #head(status: number, head: Head): boolean {
    const { plane } = this.context;
    if (status >= 200) this.records.tried(this.slot, status);
    this.#seen = { status, answer: head.headers, answeredAt: process.hrtime.bigint() };
    if (!(this.#flags & UPSTREAM_FLAG.RETRY) || !plane.slots.retries(this.slot.slot, status)) return false;
    // a rate limiter's answer is not retried
    if (headerValues(head, 'x-envoy-ratelimited').length > 0) return false;
    this.#finished = this.replay(this.slot);
    return this.#finished;
  }
}

/** How much of an answer's body is to come that the kernel began. */
function restOf(plane: DataPlane, slot: number): { chunkState: number; remaining: bigint } | { left: number } {
  const remaining = plane.slots.remaining(slot);
  return plane.slots.field(slot, 'flags') & UPSTREAM_FLAG.CHUNKED
    ? { chunkState: plane.slots.field(slot, 'chunk_state'), remaining }
    : { left: Number(remaining) };
}
