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
import { CONN_FLAG, UPSTREAM_FLAG } from '../layout/exchanges.js';
import { beforeDrain } from '../plan/idle-times.js';
import { DELAY_LINE } from '../proxy/index.js';
import type { ConnectionState } from './commands.js';
import { type ClientEnd, type ConnectionContext, POLL_MS, sleep } from './connection-context.js';
import { drained } from './drained.js';
import { IdleClient } from './idle-client.js';
import { KernelExchanges } from './kernel-exchanges.js';
import { PendingBytes } from './pending-bytes.js';
import { ProxySession } from './proxy-session.js';
import { localReply } from './replies.js';
import type { Slot } from './slot.js';

const DELAYED_CLOSE_MS = 1000;
const GONE_MS = 20;

export class ClientConnection implements ClientEnd {
  /** what the kernel began and the agent goes on with */
  readonly exchanges: KernelExchanges;
  #read = 0;
  #written = 0;
  readonly #pending: PendingBytes;
  #session: ProxySession | undefined;
  /** when (ms) it was opened, or its last answer was complete */
  #sessionUsed = 0;
  /** the kernel passes everything on this connection to the agent (as far as the agent knows) */
  #agentMode = false;
  #busy = false;
  #ended = false;
  #closed = false;
  #draining = false;
  #closing = false;
  readonly #idle: IdleClient;

  constructor(
    private readonly socket: Socket,
    /** of the client's socket */
    readonly cookie: bigint,
    private readonly source: string,
    private readonly context: ConnectionContext,
  ) {
    this.exchanges = new KernelExchanges(this, context);
    this.#pending = new PendingBytes(socket);
    this.#idle = new IdleClient(
      {
        cookie,
        ending: () => this.#closed || this.#closing,
        done: (state) => this.#done(state),
        close: () => this.closeGracefully(),
        giveBack: (state) => {
          if (state.gate & 1 && !this.#agentMode) context.plane.commands.resume(cookie, this.#read, this.#written);
        },
      },
      context,
    );
    socket.on('data', (bytes: Buffer) => this.#data(bytes));
    socket.on('end', () => this.#end());
    socket.on('drain', () => this.#session?.drained());
    socket.on('error', () => this.#gone());
    socket.on('close', () => this.#gone());
  }

  #data(bytes: Buffer): void {
    if (this.#closing) return;
    this.#read += bytes.length;
    this.#pending.add(bytes);
    void this.#step();
    this.#pending.limit();
  }

  /** Works off what has come. One at a time; whatever comes meanwhile is seen by the loop. */
  async #step(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (!this.#pending.empty && !this.#closed) {
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
    if (!session || this.#pending.empty) return;
    const bytes = this.#pending.takeAll();
    if (!session.send(bytes, () => void (this.#pending.held || this.socket.resume()))) this.socket.pause();
  }

  /** Waits until the kernel has nothing under way for this connection, then opens a way to the proxy. */
  async #takeOver(): Promise<boolean> {
    this.context.pool.grow();
    for (let quiet = 0; ; ) {
      if (this.#closed) return false;
      const state = this.context.plane.commands.query(this.cookie);
      if (!state) break; // never in the map (or gone): everything comes this way
      if (state.flags & CONN_FLAG.BROKEN) {
        this.reset();
        return false;
      }
      const slot = this.#slotOf(state);
      if (state.bodyLeft > 0n) {
        if (!slot) quiet = state.inFlight || state.queued ? 0 : quiet + 1;
        if (quiet === 2) {
          // The answer is there, the rest of the request's body is not wanted: Envoy closes, too. Twice quiet, because who
          // breaks an exchange off waits for that before it writes its answer.
          this.closeGracefully();
          return false;
        }
        // what becomes of an exchange whose upstream has ended is decided elsewhere
        if (!slot || slot.ended || state.underway) {
          await sleep(POLL_MS);
          continue;
        }
        await this.#sendBody(slot, Number(state.bodyLeft));
        if (this.#pending.empty) return false;
        continue;
      }
      if (!slot && !state.inFlight && !state.queued) {
        if (!this.#agentMode && state.flags & CONN_FLAG.DELAYED) this.#pending.insertLine(DELAY_LINE);
        break;
      }
      await sleep(POLL_MS);
    }
    this.#agentMode = true;
    return this.#session !== undefined || this.#openSession();
  }

  #slotOf(state: ConnectionState): Slot | undefined {
    const slot = this.context.pool.slot(state.upstream);
    return slot && this.context.plane.slots.owner(slot.slot) === this.cookie ? slot : undefined;
  }

  /**
   * The rest of a request's body that came together with other bytes goes to the upstream that has its beginning. When that
   * ends before, the rest stays with what is pending: nobody wants it, least of all as the beginning of another request.
   */
  async #sendBody(slot: Slot, left: number): Promise<void> {
    const { plane } = this.context;
    // Part of the request may have gone straight to the server's socket: the next one must not meet these bytes there.
    plane.slots.addFlags(slot.slot, UPSTREAM_FLAG.CLOSE);
    for (let missing = left; missing > 0; ) {
      if (this.#closed || slot.ended) return;
      const piece = this.#pending.take(missing);
      if (!piece) {
        await sleep(POLL_MS);
        continue;
      }
      missing -= piece.length;
      plane.slots.touch(slot.slot);
      if (!slot.socket.write(piece)) await drained(slot.socket);
    }
    if (plane.slots.owner(slot.slot) === this.cookie) {
      plane.slots.touch(slot.slot);
      plane.slots.addFlags(slot.slot, UPSTREAM_FLAG.REQUEST_DONE);
    }
    plane.commands.bodySent(this.cookie);
  }

  #openSession(): boolean {
    const target = this.context.proxy();
    if (!target) {
      const toHead = this.#pending.peek().toString('latin1', 0, 5) === 'HEAD ';
      this.#answer(localReply(503, 'no proxy stands behind this listener', toHead, true), 'refused');
      this.closeGracefully();
      return false;
    }
    this.#sessionUsed = performance.now();
    this.#session = new ProxySession(
      {
        ...target,
        source: this.source,
        ...('path' in target ? { prologue: this.context.prologue() } : {}),
      },
      {
        toClient: (bytes) => {
          this.exchanges.answering();
          return this.write(bytes);
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
    if (graceful) this.closeGracefully();
    else this.reset();
  }

  /** Nothing is under way once `length` more bytes are written: gives the connection back to the kernel. */
  #tryResume(length: number): void {
    this.exchanges.answered(length);
    this.#sessionUsed = performance.now();
    if (!this.#pending.empty) return;
    if (this.#draining || this.#ended) {
      setImmediate(() => this.closeGracefully());
      return;
    }
    if (this.context.plane.commands.resume(this.cookie, this.#read, this.#written + length)) this.#agentMode = false;
  }

  /** the chain that it was relayed from, if it was */
  get relayed(): string | undefined {
    return this.context.relayed?.chain;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get written(): number {
    return this.#written;
  }

  announce(length: number): void {
    this.context.plane.commands.native(this.cookie, this.#written + length);
  }

  write(bytes: Buffer, ahead = 0): boolean {
    if (this.#closed) return true;
    this.#written += bytes.length;
    return this.socket.write(bytes) || this.socket.writableLength <= ahead;
  }

  drained(): Promise<void> {
    return drained(this.socket);
  }

  answer(bytes: Buffer): void {
    this.#answer(bytes, 'answered');
  }

  #answer(bytes: Buffer, as: 'answered' | 'refused'): void {
    this.context.counted(as);
    this.announce(bytes.length);
    this.write(bytes);
  }

  toProxy(bytes: Buffer): void {
    if (!this.#session && !this.#openSession()) return;
    this.announce(0);
    this.#session?.send(bytes, () => undefined);
  }

  dropProxy(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  async quiet(): Promise<boolean> {
    for (;;) {
      if (this.#closed) return false;
      const state = this.context.plane.commands.query(this.cookie);
      if (!state) return !this.#closed;
      if (!state.queued) return true;
      await sleep(POLL_MS);
    }
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
    const state = this.context.plane.commands.query(this.cookie);
    const slot = state && this.#slotOf(state);
    if (slot) {
      this.exchanges.forgetReplay();
      this.exchanges.abandon(slot);
    }
    this.dropProxy();
  }

  /**
   * The client sends no more: what is in flight is still answered, then the connection is closed. Never before the client
   * has read all that was redirected: our FIN would look like the end of the file to it. Twice quiet, because an answer
   * is complete for its upstream a moment before it is queued for the client.
   */
  async #finishEnd(): Promise<void> {
    for (let quiet = 0; ; ) {
      if (this.#closed || !this.#pending.empty) return;
      const state = this.context.plane.commands.query(this.cookie);
      if (!state) {
        // closed, not half-closed: nobody will read an answer
        this.#session?.destroy();
        this.closeGracefully();
        return;
      }
      if (this.context.atListener) {
        this.#breakAway();
      } else if (this.#session?.busy) {
        if (this.#session.opaque) this.#session.end();
        return; // closed at the next boundary
      }
      quiet = state.inFlight || this.#slotOf(state) || state.queued ? 0 : quiet + 1;
      if (quiet === 2) break;
      await sleep(quiet ? POLL_MS : 5);
    }
    this.closeGracefully();
  }

  /**
   * Closes the connection, or its spare way to the proxy, if it has been idle for as long as it may be.
   * @param now in milliseconds
   */
  closeIfIdle(now: number): void {
    const { idleMs } = this.context.idle();
    const spare = idleMs > 0 && this.#session && !this.#session.busy && !this.#busy && this.#pending.empty;
    if (spare && now - this.#sessionUsed >= beforeDrain(idleMs)) this.dropProxy();
    this.#idle.look(now);
  }

  /** How much has come so far, as one number; undefined: something is under way. */
  #done(state: ConnectionState | undefined): number | undefined {
    if (this.#busy || !this.#pending.empty || this.#session?.busy) return undefined;
    if (!state) return this.#read;
    const done = this.#read + state.requested + state.replied;
    // before its first bytes, listener intake cannot say what is queued
    if (done === 0 && state.passed === 0n) return 0;
    const underway = state.inFlight || this.#slotOf(state) || state.queued || state.underway || state.bodyLeft > 0n;
    if (underway || state.passed !== BigInt(this.#read)) return undefined;
    return done;
  }

  closeGracefully(): void {
    if (this.#closed) return;
    if (this.#closing) return;
    this.#closing = true;
    this.#pending.clear();
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
    const state = this.context.plane.commands.query(this.cookie);
    if (!this.#session?.busy && !this.#busy && (!state || !(state.inFlight || this.#slotOf(state) || state.queued)))
      this.closeGracefully();
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
    this.context.closed();
    // A port may be used again before the agent has accepted its first connection, which is then taken for the second
    // one's: what is in flight is given up only if no other connection turns out to be the owner.
    setTimeout(() => {
      if (this.context.known(this.cookie)) return;
      const slot = this.context.pool.findByOwner(this.cookie);
      if (slot) this.exchanges.abandon(slot);
    }, GONE_MS);
  }
}
