/**
 * The exchanges of one client connection that the kernel began and the agent has to go on with: answers that it carries,
 * requests that are tried again through the proxy, upstreams that broke, time that is over.
 */
import { PHASE, UPSTREAM_FLAG } from '../layout/exchanges.js';
import { REPLAY_HEADER, replayMark } from '../proxy/replay.js';
import { TRIED_HEADER, triedAt } from '../proxy/tried.js';
import { CarriedAnswer } from './carried-answer.js';
import { type ClientEnd, type ConnectionContext, POLL_MS, sleep } from './connection-context.js';
import { ExchangeRecords } from './exchange-records.js';
import { FAILURES, GONE, LOCAL_ANSWERS } from './failures.js';
import { LOST, TIMED_OUT } from './outliers.js';
import { localReply } from './replies.js';
import type { Slot } from './slot.js';

const EARLY_ANSWER_MS = 20;

export class KernelExchanges {
  readonly #records: ExchangeRecords;
  /** the answer that is being carried */
  #carried: CarriedAnswer | undefined;
  /**
   * The exchange whose request is tried again through the proxy. Its slot stays in flight, so that what the client sends
   * meanwhile waits, and that the route's timeout goes on.
   */
  #replaying: { readonly slot: Slot; started: boolean } | undefined;

  constructor(
    private readonly client: ClientEnd,
    private readonly context: ConnectionContext,
  ) {
    this.#records = new ExchangeRecords(context, client.cookie);
  }

  /** Carries the answer that the kernel left to the agent on `slot`. */
  async carry(slot: Slot): Promise<void> {
    const { plane } = this.context;
    slot.listener = () => undefined;
    slot.socket.pause();
    // An answer that is there before its request has come completely ends the connection, as with Envoy; but what is
    // on its way already (Envoy would have read it first) gets a moment to arrive.
    for (let waited = 0; waited < EARLY_ANSWER_MS && !this.client.closed; waited += POLL_MS) {
      if (plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.REQUEST_DONE) break;
      await sleep(POLL_MS);
    }
    if (plane.slots.owner(slot.slot) !== this.client.cookie) return;
    const carried = new CarriedAnswer(slot, this.client, this.context, this.#records, (of) => this.#replay(of));
    this.#carried = carried;
    await carried.run();
  }

  /**
   * Gives a request whose first try failed to the proxy, which carries out what is left of the retry policy, after the
   * time that it would have waited itself.
   * @returns false when the request was not kept
   */
  #replay(slot: Slot): boolean {
    const { plane } = this.context;
    const request = Buffer.from(plane.slots.replay(slot.slot));
    if (request.length === 0) return false;
    const left = plane.slots.field(slot.slot, 'flags') >>> UPSTREAM_FLAG.RETRIES_SHIFT;
    const end = request.indexOf('\r\n\r\n');
    // `x-envoy-max-retries` is for proxies of others that believe it; our own has routes for the mark.
    const mark = `${REPLAY_HEADER.name}: ${replayMark(plane.slots.field(slot.slot, 'choice'))}`;
    const { address = '', port = 0 } = this.context.pool.placeOf(slot.endpoint) ?? {};
    const tried = `${TRIED_HEADER}: ${triedAt(address, port)}`;
    const header = Buffer.from(`\r\nx-envoy-max-retries: ${Math.max(0, left)}\r\n${mark}\r\n${tried}`, 'latin1');
    const bytes = Buffer.concat([request.subarray(0, end), header, request.subarray(end)]);
    slot.listener = () => undefined;
    slot.inbox = [];
    slot.socket.destroy();
    const replaying = { slot, started: false };
    this.#replaying = replaying;
    this.#carried = undefined;
    const wait = Math.floor(Math.random() * plane.slots.field(slot.slot, 'backoff_ms'));
    void sleep(wait).then(async () => {
      if (!(await this.client.quiet()) || this.#replaying !== replaying) return;
      this.client.toProxy(bytes);
    });
    return true;
  }

  /** Bytes of the proxy's go to the client: of the answer to a request that was tried again, if there is one. */
  answering(): void {
    if (this.#replaying) this.#replaying.started = true;
  }

  /** The proxy's answer is complete with the next `length` bytes: so is the exchange that was tried again, if there is one. */
  answered(length: number): void {
    const slot = this.#replaying?.slot;
    if (!slot) return;
    // first the state, then the bytes: the next request may follow at once
    this.client.announce(length);
    this.#replaying = undefined;
    this.context.log.replayed(slot.slot, this.client.cookie);
    this.context.plane.commands.finish(slot.slot, this.client.cookie, false);
    this.context.pool.discard(slot);
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
      this.#stopReplay();
      if (started) this.client.reset();
      else await this.#breakOff(slot, 'timeout', true, false);
      return;
    }
    // what the agent carries may not have got as far as the client
    await this.#breakOff(slot, 'timeout', this.#holds(slot));
  }

  /** Nothing of the exchange on `slot` has moved for too long, in either direction. */
  async idle(slot: Slot): Promise<void> {
    const replayed = this.#replaying?.slot === slot;
    // an answer of the proxy's that has begun is the proxy's to end
    if (replayed && this.#replaying?.started) return;
    // behind what the client has not read yet, nothing can move
    if (this.#carried?.slot === slot && !this.#carried.ready) return;
    if (replayed) this.#stopReplay();
    const complete = this.context.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.REQUEST_DONE;
    await this.#breakOff(slot, complete ? 'idle answer' : 'idle', replayed || this.#holds(slot), false);
  }

  #stopReplay(): void {
    this.#replaying = undefined;
    this.client.dropProxy();
  }

  /** The first try of the exchange on `slot` took too long; from the head of its answer on, this does not matter. */
  async tryTimedOut(slot: Slot): Promise<void> {
    if (this.#replaying?.slot === slot || this.#tryAgain(slot, TIMED_OUT)) return;
    const phase = this.context.plane.slots.field(slot.slot, 'phase');
    const held = this.#holds(slot);
    if (phase === PHASE.AWAIT || held) await this.#breakOff(slot, 'try timeout', held);
  }

  /** The client is gone: ends what is in flight on `slot`. */
  abandon(slot: Slot): void {
    if (this.#giveUp(slot)) this.#records.ended(slot, GONE);
  }

  /** Nothing that is tried again matters any more. */
  forgetReplay(): void {
    this.#replaying = undefined;
  }

  /** Tries a request again whose first try was lost before the head of its answer, if its policy says so. */
  #tryAgain(slot: Slot, failure: number): boolean {
    const { plane } = this.context;
    const kept = plane.slots.field(slot.slot, 'replay_len') > 0;
    if (!kept || !(plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.RETRY_RESETS)) return false;
    if (!(this.#holds(slot) || plane.commands.takeOver(slot.slot, this.client.cookie)) || !this.#replay(slot))
      return false;
    this.#records.tried(slot, failure, true);
    return true;
  }

  /** Whether the agent has the answer on `slot`, and has written nothing of it yet. */
  #holds(slot: Slot): boolean {
    if (this.#carried?.slot !== slot || this.#carried.started) return false;
    return this.context.plane.slots.field(slot.slot, 'phase') === PHASE.AGENT;
  }

  /**
   * Ends an exchange that cannot be completed: with an answer if no byte of the server's has come (or the agent `held` it
   * back), else with a reset. If the request had not come as a whole, the connection ends, too, as with Envoy.
   */
  async #breakOff(
    slot: Slot,
    failure: keyof typeof LOCAL_ANSWERS,
    held = false,
    /** it is this server's failure (outlier detection) */
    counts = true,
  ): Promise<void> {
    const { plane } = this.context;
    const records = this.#records;
    const flags = plane.slots.field(slot.slot, 'flags');
    const edits = records.edits(slot);
    const { status, body } = LOCAL_ANSWERS[failure];
    const carried = this.#carried?.slot === slot ? this.#carried.progress : undefined;
    if (held ? this.#giveUp(slot) : plane.commands.giveUp(slot.slot, this.client.cookie)) {
      if (counts) records.tried(slot, status, true);
      const partly = (flags & UPSTREAM_FLAG.REQUEST_DONE) === 0;
      const reply = localReply(status, body, (flags & UPSTREAM_FLAG.HEAD) !== 0, partly, edits);
      const missing = partly ? Number(plane.commands.query(this.client.cookie)?.bodyLeft ?? 0n) : 0;
      records.replied(slot, status, reply, failure, missing);
      this.#drop(slot);
      if (!(await this.client.quiet())) return;
      this.client.answer(reply);
      if (partly) this.client.closeGracefully();
    } else if (this.#giveUp(slot)) {
      if (counts) records.tried(slot, status, true);
      records.ended(slot, { ...carried, ...FAILURES[failure === 'terminated' ? 'cut' : failure] });
      this.client.reset();
    } else {
      slot.listener = undefined; // the answer was complete in this very moment
    }
  }

  /** Ends the exchange on `slot` wherever it is. @returns false when it had ended already */
  #giveUp(slot: Slot): boolean {
    const ended = this.context.plane.commands.finish(slot.slot, this.client.cookie, false);
    if (ended) this.#drop(slot);
    return ended;
  }

  #drop(slot: Slot): void {
    slot.listener = () => undefined;
    this.context.pool.discard(slot);
  }
}
