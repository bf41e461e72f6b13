/**
 * Pooled connections to endpoints. The kernel takes idle ones and gives them back by itself; the agent opens them when
 * they were missed, and takes those away whose server has closed them.
 *
 * Connections are opened only on demand, one for each that was missed: a server that serves one connection at a time
 * would hang behind connections that nobody uses.
 */
import type { Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer, socketCookie } from '../kernel/syscalls.js';
import { PHASE, REPLY_ENDPOINT, UPSTREAM_FLAG } from '../layout/exchanges.js';
import { endText } from '../observe/log-line.js';
import { HOUR_MS } from '../plan/idle-times.js';
import { type Address, addressWords, localEnd } from './address.js';
import type { DataPlane } from './data-plane.js';
import { ExchangeActivity } from './exchange-activity.js';
import { IdleTime, Rounds } from './idle-connections.js';
import { openConnection } from './open-connection.js';
import { type Bounds, PoolBounds } from './pool-bounds.js';
import { type Endpoint, PoolEndpoints } from './pool-endpoints.js';
import type { Relays } from './relays.js';
import type { Slot } from './slot.js';
import { SlotDummies } from './slot-dummies.js';
import { SlotNumbers } from './slot-numbers.js';

/** Room for a head and the largest body that the kernel sends: a redirected send must never find the buffer full. */
const SEND_BUFFER = 4 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 5000;

export interface PoolEvents {
  /** The server ended a connection while a request of `owner` was in flight on it. */
  broken(slot: Slot, owner: bigint): void;
  /** Bytes of an answer came to the agent (phase AGENT or HANDOVER). */
  answer(slot: Slot, owner: bigint): void;
  /** The end of an answer for `owner` was lost in the kernel. */
  lost(owner: bigint): void;
}

export class UpstreamPool {
  readonly #endpoints: PoolEndpoints;
  readonly #slots = new Map<number, Slot>();
  readonly #locals = new Map<number, string>();
  /** slots of connections to the proxy, by their own end */
  readonly #toProxy = new Map<string, number>();
  #closed = false;
  #idleTimes: ReadonlyMap<number, number> = new Map();
  readonly #bounds = new PoolBounds();
  readonly #rounds = new Rounds();
  readonly #numbers: SlotNumbers;
  readonly #dummies: SlotDummies;
  /** each connection to a server gets a dummy socket before it is used */
  #allDummies = false;

  constructor(
    private readonly plane: DataPlane,
    private readonly events: PoolEvents,
    private readonly relays: Pick<Relays, 'open'>,
  ) {
    this.#numbers = new SlotNumbers(plane.slots);
    this.#dummies = new SlotDummies(plane, {
      has: (slot) => this.#slots.get(slot.slot) === slot,
      end: (slot) => this.#end(slot),
      lost: (owner) => events.lost(owner),
    });
    this.#endpoints = new PoolEndpoints(plane);
  }

  /**
   * The id of an endpoint, given out at its first mention and kept for the agent's life.
   * @param relay that connections to it lead through
   * @throws RangeError when there are too many
   */
  endpointId(address: string, port: number, relay?: string): number {
    return this.#endpoints.idOf(`${relay ?? ''} ${address} ${port}`, address, port, { relay });
  }

  /** The same of a place where the proxy listens. */
  proxyId(address: string, port: number): number {
    return this.#endpoints.idOf(`proxy ${address} ${port}`, address, port, { proxy: true });
  }

  /** What is known of a slot in use. */
  slot(index: number): Slot | undefined {
    return this.#slots.get(index);
  }

  /** How many connections there are. */
  get size(): number {
    return this.#slots.size;
  }

  /** Where an endpoint is. */
  placeOf(id: number): Address | undefined {
    return this.#endpoints.find(id);
  }

  /** An endpoint's address and port, as text. */
  addressOf(id: number): string {
    const endpoint = this.#endpoints.find(id);
    return endpoint ? endText(endpoint) : '-';
  }

  /** The own end of the connection that a slot has, or had last. */
  localOf(slot: number): string {
    return this.#locals.get(slot) ?? '-';
  }

  /** The slot whose exchange belongs to `owner`. Looks at the busy ones only. */
  findByOwner(owner: bigint): Slot | undefined {
    for (const slot of this.#slots.values()) if (this.plane.slots.owner(slot.slot) === owner) return slot;
    return undefined;
  }

  /** The connection to the proxy with this local end, as Envoy writes it, while an exchange is in flight on it. */
  byLocalEnd(end: string): number | undefined {
    const slot = this.#toProxy.get(end);
    return slot !== undefined && this.plane.slots.owner(slot) !== 0n ? slot : undefined;
  }

  /** Opens connections where idle ones were missed since the last call. Cheap: call it often. */
  grow(): void {
    for (const endpoint of this.#endpoints) {
      const missed = this.#endpoints.missed(endpoint);
      for (let i = 0; i < missed; i++) if (!this.#open(endpoint)) break;
    }
  }

  /** Slots in use, for sweeps. */
  *all(): IterableIterator<Slot> {
    yield* this.#slots.values();
  }

  #open(endpoint: Endpoint): boolean {
    if (this.#closed || !this.#mayOpen(endpoint)) return false;
    const index = this.#numbers.take(endpoint.id);
    if (index === undefined) return false;
    endpoint.connecting++;
    endpoint.open++;
    void this.#connect(endpoint).then((opened) => {
      endpoint.connecting--;
      if (opened) this.#adopt(endpoint, index, opened.socket, opened.local);
      else this.#free(endpoint, index);
    });
    return true;
  }

  /** Undefined: there is no connection. */
  async #connect(endpoint: Endpoint): Promise<{ readonly socket: Socket; readonly local?: string } | undefined> {
    if (endpoint.id === REPLY_ENDPOINT) return this.#openReply();
    if (endpoint.relay === undefined) return openConnection(endpoint, CONNECT_TIMEOUT_MS);
    const relayed = await this.relays.open(endpoint, endpoint.relay);
    if (!relayed) endpoint.pauses.failed();
    return relayed;
  }

  /** A slot that leads nowhere: only its dummy is used. */
  async #openReply(): Promise<{ readonly socket: Socket } | undefined> {
    const pair = await this.#dummies.pair().catch(() => undefined);
    if (!pair) return undefined;
    const { socket, peer } = pair;
    for (const event of ['end', 'error', 'close']) socket.on(event, () => peer.destroy());
    peer.on('error', () => socket.destroy());
    return { socket };
  }

  /** Whether there may be one more connection to an endpoint; an idle one to another endpoint makes room for it. */
  #mayOpen(endpoint: Endpoint): boolean {
    const open = (id: number): number => this.#endpoints.get(id).open;
    if (this.#bounds.allows(endpoint.id, open)) return true;
    for (const slot of this.#slots.values()) {
      if (open(slot.endpoint) <= endpoint.open + 1 || !this.#bounds.together(endpoint.id, slot.endpoint)) continue;
      if (!this.plane.commands.take(slot.slot)) continue;
      this.discard(slot);
      return true;
    }
    return false;
  }

  #free(endpoint: Endpoint, index: number): void {
    endpoint.open--;
    this.#numbers.release(index);
  }

  #adopt(endpoint: Endpoint, index: number, socket: Socket, local = localEnd(socket)): void {
    const fd = fdOf(socket);
    if (fd === undefined || this.#closed) {
      socket.destroy();
      this.#free(endpoint, index);
      return;
    }
    setNoDelay(fd);
    setSendBuffer(fd, SEND_BUFFER);
    const cookie = socketCookie(fd);
    if (endpoint.proxy && socket.localAddress) {
      const words = addressWords({ address: socket.localAddress, port: 0 });
      for (const [i, word] of words.entries()) this.plane.slots.setEndpoint(endpoint.id, 'source', word, i);
    }
    const slot: Slot = {
      slot: index,
      endpoint: endpoint.id,
      socket,
      cookie,
      ended: false,
      inbox: [],
      listener: undefined,
      dummy: undefined,
      idle: new IdleTime(),
      activity: new ExchangeActivity(),
    };
    this.#slots.set(index, slot);
    if (socket.localAddress && socket.localPort) this.#locals.set(index, local);
    if (endpoint.proxy) this.#toProxy.set(this.localOf(index), index);
    socket.on('data', (bytes: Buffer) => this.#data(slot, bytes));
    const end = (): void => this.#end(slot);
    socket.on('end', end);
    socket.on('error', end);
    socket.on('close', end);
    try {
      this.plane.slots.insert(index, fd, cookie, endpoint.id);
      this.plane.pair(index, cookie);
    } catch {
      this.discard(slot); // closed again already
      return;
    }
    if (this.#allDummies && !endpoint.proxy)
      void this.#dummies.add(slot).then(() => this.#slots.get(index) === slot && this.plane.commands.give(index));
    else this.plane.commands.give(index);
  }

  /** From now on each connection to a server has a dummy socket, by which requests reach it whose heads grow. */
  needDummies(): void {
    if (this.#allDummies || this.#closed) return;
    this.#allDummies = true;
    for (const slot of this.#slots.values())
      if (!this.#endpoints.get(slot.endpoint).proxy) void this.#dummies.add(slot);
  }

  /** A dummy socket for this connection, if it has none: the head of an answer grew on it, and so will the next ones'. */
  wantDummy(slot: Slot): void {
    if (!this.#closed && !slot.ended && !this.#endpoints.get(slot.endpoint).proxy) void this.#dummies.add(slot);
  }

  /** Finds dummies that the kernel has disabled. Call now and then. */
  lookAtDummies(): void {
    this.#dummies.look(this.#slots.values());
  }

  #data(slot: Slot, bytes: Buffer): void {
    const owner = this.plane.slots.owner(slot.slot);
    const phase = this.plane.slots.field(slot.slot, 'phase');
    if (owner === 0n || (phase !== PHASE.AGENT && phase !== PHASE.HANDOVER)) {
      if (slot.listener) return; // an exchange that was given up
      this.#end(slot);
      return;
    }
    slot.inbox.push(bytes);
    if (slot.listener) slot.listener('data');
    else this.events.answer(slot, owner);
  }

  #end(slot: Slot): void {
    if (slot.ended) return;
    slot.ended = true;
    const endpoint = this.#endpoints.get(slot.endpoint);
    if (endpoint.relay !== undefined) {
      if (this.plane.slots.field(slot.slot, 'served') > 0) endpoint.pauses.used();
      else endpoint.pauses.failed();
    }
    if (slot.listener) {
      slot.listener('end');
      return;
    }
    this.#retire(slot, 0);
  }

  /** Takes an ended connection away: at once when it was idle, else after what is in flight on it was dealt with. */
  #retire(slot: Slot, tries: number): void {
    if (!this.#slots.has(slot.slot)) return;
    if (this.plane.commands.take(slot.slot)) {
      this.discard(slot);
      return;
    }
    const owner = this.plane.slots.owner(slot.slot);
    const phase = this.plane.slots.field(slot.slot, 'phase');
    if (phase === PHASE.DEAD) {
      this.#noteClose(slot);
      this.discard(slot);
      this.#replace(slot);
    } else if (phase === PHASE.DELIVER && !slot.dummy?.broken) {
      // a complete answer, of which a part is on its way through the dummy
      setTimeout(() => this.#retire(slot, tries), 1);
    } else if (owner !== 0n && phase !== PHASE.IDLE) {
      this.events.broken(slot, owner);
    } else if (tries < 5) {
      // Somebody is taking it out of the pool right now: it finds the connection dead, or a request is on its way.
      setTimeout(() => this.#retire(slot, tries + 1), 2);
    } else {
      this.discard(slot);
    }
  }

  /** Notes that a server has closed a connection, if it said so in an answer. */
  #noteClose(slot: Slot): void {
    const endpoint = this.#endpoints.get(slot.endpoint);
    if (endpoint.proxy || !(this.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.CLOSE)) return;
    endpoint.closes.note(this.plane.slots.field(slot.slot, 'served'));
  }

  /** Closes a connection that no exchange uses any more. */
  discard(slot: Slot): void {
    if (!this.#slots.delete(slot.slot)) return;
    const endpoint = this.#endpoints.get(slot.endpoint);
    // the port may be another connection's already
    if (endpoint.proxy && this.#toProxy.get(this.localOf(slot.slot)) === slot.slot)
      this.#toProxy.delete(this.localOf(slot.slot));
    slot.ended = true;
    slot.listener = undefined;
    this.plane.commands.take(slot.slot);
    this.plane.commands.uncount(slot.slot);
    this.#dummies.drop(slot);
    this.plane.slots.remove(slot.slot, slot.cookie);
    slot.socket.destroy();
    this.#free(endpoint, slot.slot);
  }

  /**
   * How long connections to endpoints may be idle, by id (ms, 0: for ever).
   * @param bounds how many there may be
   */
  setLimits(times: ReadonlyMap<number, number>, bounds: ReadonlyMap<number, Bounds>): void {
    this.#bounds.use(bounds);
    this.#idleTimes = times;
    this.#rounds.set(times.values());
  }

  /** Closes connections to servers that nobody has used for as long as they may be idle. Cheap: call it often. */
  closeIdle(): void {
    const now = performance.now();
    if (!this.#rounds.due(now)) return;
    for (const slot of this.#slots.values()) {
      const ms = this.#idleTimes.get(slot.endpoint) ?? HOUR_MS;
      if (ms === 0 || slot.endpoint === REPLY_ENDPOINT) continue; // which leads nowhere
      const inUse =
        this.plane.slots.owner(slot.slot) !== 0n || this.plane.slots.field(slot.slot, 'phase') !== PHASE.IDLE;
      const served = inUse ? undefined : this.plane.slots.field(slot.slot, 'served');
      // who takes it out of the pool has it alone, so no request is on its way
      if (slot.idle.look(served, now) >= ms && this.plane.commands.take(slot.slot)) this.discard(slot);
    }
  }

  /** Closes what exchanges have left behind (answers with `Connection: close`). Call now and then. */
  reap(): void {
    for (const slot of this.#slots.values()) {
      if (slot.listener || this.plane.slots.field(slot.slot, 'phase') !== PHASE.DEAD) continue;
      if (this.plane.slots.owner(slot.slot) !== 0n) continue;
      this.#noteClose(slot);
      this.discard(slot);
      this.#replace(slot);
    }
  }

  /**
   * A connection that had served as many requests as it may is followed by another one: where that are few, the next
   * request would find none and be the proxy's.
   */
  #replace(slot: Slot): void {
    const endpoint = this.#endpoints.get(slot.endpoint);
    if (this.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.LIMIT && !endpoint.retired) this.#open(endpoint);
  }

  /** Replaces the connections to the proxy: the idle ones at once, the busy ones after their exchange. */
  retireProxies(): void {
    this.#retireWhere((endpoint) => endpoint.proxy);
  }

  /** Closes the connections to an endpoint: the idle ones at once, the busy ones after their exchange. */
  retire(id: number): void {
    this.#endpoints.get(id).retired = true;
    this.#retireWhere((endpoint) => endpoint.id === id);
  }

  #retireWhere(concerned: (endpoint: Endpoint) => boolean): void {
    for (const slot of this.#slots.values()) {
      if (!concerned(this.#endpoints.get(slot.endpoint))) continue;
      if (this.plane.commands.take(slot.slot)) this.discard(slot);
      else this.plane.slots.addFlags(slot.slot, UPSTREAM_FLAG.LIMIT);
    }
  }

  /** Closes all connections; none is opened afterwards. */
  close(): void {
    this.#closed = true;
    for (const slot of [...this.#slots.values()]) this.discard(slot);
    this.#dummies.close();
  }
}
