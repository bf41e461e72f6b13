/** Connections and upstreams while traffic flows: the agent's part of the data path. */
import { fdOf, setLinger, setNotSentLowat, socketCookie } from '../kernel/syscalls.js';
import { PHASE, UPSTREAM_FLAG } from '../layout/exchanges.js';
import type { DownstreamIdle } from '../plan/idle-times.js';
import { AnswerPrograms, type BucketFigure } from './answer-programs.js';
import type { SessionEvent } from './breakers.js';
import { ClientConnection } from './client-connection.js';
import type { AgentCounts } from './counts.js';
import type { DataPlane } from './data-plane.js';
import { idleStrikes } from './exchange-activity.js';
import type { Head } from './http-framing.js';
import { Rounds } from './idle-connections.js';
import type { Arrival } from './listeners.js';
import type { Outliers } from './outliers.js';
import { proxyHeader } from './proxy-protocol.js';
import type { ProxyTarget } from './proxy-session.js';
import type { Relays } from './relays.js';
import type { RequestLog } from './request-log.js';
import type { Slot } from './slot.js';
import { type PoolEvents, UpstreamPool } from './upstream-pool.js';

/** Bytes that wait in the send queue of a client beyond what its window takes. */
const UNSENT_AT_MOST = 128 * 1024;
const NEVER: DownstreamIdle = { idleMs: 0, closingMs: 0 };
const GROW_MS = 5;
const SWEEP_MS = 20;

export class Traffic {
  readonly pool: UpstreamPool;
  readonly programs: AnswerPrograms;
  #idle: ReadonlyMap<string, DownstreamIdle> = new Map();
  readonly #rounds = new Rounds();
  readonly counts: AgentCounts = { proxied: 0, answered: 0, refused: 0, carried: 0 };
  readonly #connections = new Map<bigint, ClientConnection>();
  readonly #timers: NodeJS.Timeout[];

  constructor(
    private readonly plane: DataPlane,
    relays: Relays,
    /** where the proxy listens for a listener; `elsewhere`: for a client in another network namespace than ours */
    private readonly proxyOf: (listener: string, elsewhere: boolean) => ProxyTarget | undefined,
    /** the number of a listener in the image */
    private readonly indexOf: (listener: string) => number,
    /** the head of a request that is carried to the proxy */
    private readonly head: (listener: string, head: Head) => void,
    private readonly log: RequestLog,
    private readonly outliers: Pick<Outliers, 'count' | 'poll'>,
    figure: BucketFigure,
    /** what becomes of the exchanges of a connection to the proxy, by its local end */
    private readonly exchange: (event: SessionEvent, end: string) => void = () => undefined,
  ) {
    this.programs = new AnswerPrograms(figure);
    const events: PoolEvents = {
      broken: (slot, owner) => this.#withConnection(slot, owner, (c) => void c.exchanges.upstreamBroken(slot)),
      answer: (slot, owner) => this.#withConnection(slot, owner, (c) => void c.exchanges.carry(slot)),
      lost: (owner) => this.#connections.get(owner)?.reset(),
    };
    this.pool = new UpstreamPool(plane, events, relays);
    this.#timers = [setInterval(() => this.#work(), GROW_MS), setInterval(() => this.#sweep(), SWEEP_MS)];
  }

  #work(): void {
    this.pool.grow();
    this.outliers.poll();
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** How long clients' connections may be idle, by listener. */
  setIdleTimes(times: ReadonlyMap<string, DownstreamIdle>): void {
    this.#idle = times;
    this.#rounds.set([...times.values()].map(({ idleMs }) => idleMs));
  }

  /** Ends the relayed connections of other chains than these, each once nothing is under way. */
  keepChains(chains: ReadonlyMap<string, unknown>): void {
    for (const connection of this.#connections.values())
      if (connection.relayed !== undefined && !chains.has(connection.relayed)) connection.drain();
  }

  #closeIdle(): void {
    const now = performance.now();
    if (!this.#rounds.due(now)) return;
    for (const connection of this.#connections.values()) connection.closeIfIdle(now);
  }

  /** A client's connection has arrived. */
  accept(arrival: Arrival): void {
    const { socket, client, asked, listener, netns, relay } = arrival;
    const fd = fdOf(socket);
    if (fd === undefined) return; // closed already
    // Killed, the agent must not look like the end of an answer: its connections are reset.
    setLinger(fd, 0);
    const end = relay?.end ?? client;
    const atListener = arrival.cookie === undefined;
    // What a slow client does not take waits where it comes from. (With listener intake the kernel sends, too, and would
    // only try again every few milliseconds.)
    if (!atListener) setNotSentLowat(fd, UNSENT_AT_MOST);
    const cookie = arrival.cookie ?? socketCookie(fd);
    const connection = new ClientConnection(socket, cookie, client.address, {
      plane: this.plane,
      pool: this.pool,
      programs: this.programs,
      log: this.log,
      proxy: () => this.proxyOf(listener, netns !== undefined),
      head: (head) => this.head(listener, head),
      exchange: (event, end) => this.exchange(event, end),
      prologue: () => proxyHeader(client, asked),
      ...(relay ? { relayed: { ...relay, chain: listener } } : {}),
      idle: () => this.#idle.get(listener) ?? NEVER,
      counted: (what) => {
        this.counts[what]++;
      },
      atListener,
      tried: (watch, status) => this.outliers.count(watch, status),
      known: (of) => this.#connections.has(of),
      closed: () => {
        if (atListener) this.plane.release(cookie);
        else if (this.plane.steering.arrived(end, netns)?.cookie === cookie) this.plane.steering.forget(end, netns);
        if (this.#connections.get(cookie) === connection) this.#connections.delete(cookie);
      },
    });
    this.#connections.set(cookie, connection);
    if (atListener) {
      this.pool.needDummies();
      try {
        this.plane.adopt(fd, cookie, this.indexOf(listener), client, asked);
      } catch {
        // closed again already, or the map is full: the agent carries everything
      }
    }
    socket.resume(); // nothing was read before: the programs must see it first
  }

  /**
   * Does something with the connection that an exchange belongs to. The kernel answers requests on connections that the
   * agent has not accepted yet, so an unknown owner is waited for as long as its socket lives.
   */
  #withConnection(slot: Slot, owner: bigint, action: (connection: ClientConnection) => void): void {
    if (this.pool.slot(slot.slot) !== slot || this.plane.slots.owner(slot.slot) !== owner) return; // dealt with already
    const connection = this.#connections.get(owner);
    if (connection) {
      action(connection);
      return;
    }
    // Meanwhile what comes on the upstream waits in its own queue.
    slot.listener ??= () => undefined;
    slot.socket.pause();
    if (!this.plane.commands.query(owner)) this.#abandon(slot.slot, owner);
    else setTimeout(() => this.#withConnection(slot, owner, action), 1);
  }

  #abandon(index: number, owner: bigint): void {
    const slot = this.pool.slot(index);
    if (!slot) return;
    slot.listener = () => undefined;
    const sent = Number(this.plane.slots.sentBody(index));
    this.log.ended(index, owner, sent, { flags: ['DC'], details: 'downstream_remote_disconnect' });
    this.plane.commands.finish(index, owner, false);
    this.pool.discard(slot);
  }

  #sweep(): void {
    const now = process.hrtime.bigint();
    for (const slot of this.pool.all()) {
      const timeout = this.plane.slots.field(slot.slot, 'timeout_ms');
      const perTry = this.plane.slots.field(slot.slot, 'per_try_ms');
      const idle = this.plane.slots.field(slot.slot, 'idle_ms');
      if (timeout === 0 && perTry === 0 && idle === 0) continue;
      const owner = this.plane.slots.owner(slot.slot);
      const phase = this.plane.slots.field(slot.slot, 'phase');
      if (owner === 0n || phase === PHASE.IDLE) continue;
      const complete = (this.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.REQUEST_DONE) !== 0;
      const started = this.plane.slots.started(slot.slot);
      const passed = now - started;
      const over = (ms: number): boolean => ms > 0 && passed >= BigInt(ms) * 1_000_000n;
      // an answer that is on its way through a dummy is complete
      const watched = phase !== PHASE.DELIVER && (complete ? idleStrikes(timeout, idle) : idle > 0);
      const moves = { started, phase, body: this.plane.slots.sentBody(slot.slot) };
      const quiet = watched && slot.activity.quietFor(now, moves) >= BigInt(idle) * 1_000_000n;
      // the times of a route begin when the request has come
      if (complete && over(timeout)) this.#withConnection(slot, owner, (c) => void c.exchanges.timedOut(slot));
      else if (quiet) this.#withConnection(slot, owner, (c) => void c.exchanges.idle(slot));
      else if (!complete) continue;
      else if (over(perTry)) this.#withConnection(slot, owner, (c) => void c.exchanges.tryTimedOut(slot));
    }
    this.pool.lookAtDummies();
    this.pool.reap();
    this.pool.closeIdle();
    this.#closeIdle();
  }

  /** Lets what is in flight finish, at most `ms` long, and closes everything. */
  async drain(ms: number): Promise<void> {
    const end = Date.now() + ms;
    while (this.#connections.size > 0 && Date.now() < end) {
      for (const connection of this.#connections.values()) connection.drain();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const connection of this.#connections.values()) connection.reset();
    for (const timer of this.#timers) clearInterval(timer);
    this.pool.close();
  }
}
