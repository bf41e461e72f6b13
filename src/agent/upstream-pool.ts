/**
 * Pooled connections to endpoints. The kernel takes idle ones and gives them back by itself; the agent opens them when
 * they were missed, and takes those away whose server has closed them.
 *
 * Connections are opened only on demand, one for each that was missed: a server that serves one connection at a time
 * would hang behind connections that nobody uses.
 */
import { connect, type Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer, socketCookie } from '../kernel/syscalls.js';
import {
  BLOCK_SIZE,
  ENDPOINT_BLOCKS,
  ENDPOINT_FLAG,
  MAX_BLOCKS,
  MAX_ENDPOINTS,
  PHASE,
  REPLY_ENDPOINT,
  UPSTREAM_FLAG,
} from '../layout/exchanges.js';
import { endText } from '../observe/log-line.js';
import { HOUR_MS } from '../plan/idle-times.js';
import { type Address, addressWords, plainAddress } from './address.js';
import type { DataPlane } from './data-plane.js';
import { Dummies, type Dummy } from './dummies.js';
import { IdleTime, Rounds } from './idle-connections.js';

/** Room for a head and the largest body that the kernel sends: a redirected send must never find the buffer full. */
const SEND_BUFFER = 4 * 1024 * 1024;
/** A slot rests this long before another connection gets it, so that no program still means the old one. */
const QUARANTINE_MS = 200;
const CONNECT_TIMEOUT_MS = 5000;
/** So many connections in a row that close after their first answer are a server's way, and no accident. */
const CLOSES_IN_A_ROW = 2;
/** A server of that kind is left to the proxy for this long, twice as long each further time. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;

export interface Slot {
  readonly slot: number;
  readonly endpoint: number;
  readonly socket: Socket;
  readonly cookie: bigint;
  /** the server has closed its side, or the connection broke */
  ended: boolean;
  /** bytes that came to the agent and that no exchange has claimed yet */
  inbox: Buffer[];
  /** told when something happens while the agent owns the answer */
  listener: ((event: 'data' | 'end') => void) | undefined;
  /** its dummy socket, where there is listener intake, or where heads of answers grow */
  dummy: Dummy | undefined;
  dummyWanted: boolean;
  /** when the dummy was used last, as of the last look, and for how many looks that has been so */
  dummyUsed: bigint;
  dummyLooks: number;
  readonly idle: IdleTime;
}

/** The local end of a connection as Envoy writes addresses. */
export function localEnd({ localAddress = '', localPort = 0 }: Socket): string {
  return endText({ address: plainAddress(localAddress), port: localPort });
}

interface Endpoint extends Address {
  readonly id: number;
  readonly proxy: boolean;
  blocks: number[];
  connecting: number;
  wanted: number;
  open: number;
  /** connections in a row whose first answer was their last */
  closes: number;
  /** how long it is left to the proxy when that happens again, and until when it is; ms, the latter of performance.now() */
  pauseMs: number;
  pausedUntil: number;
  /** no cluster leads to it any more */
  retired: boolean;
}

const NOTHING_OPEN = {
  ...{ connecting: 0, wanted: 0, open: 0, retired: false },
  ...{ closes: 0, pauseMs: FIRST_PAUSE_MS, pausedUntil: 0 },
};

export interface PoolEvents {
  /** The server ended a connection while a request of `owner` was in flight on it. */
  broken(slot: Slot, owner: bigint): void;
  /** Bytes of an answer came to the agent (phase AGENT or HANDOVER). */
  answer(slot: Slot, owner: bigint): void;
  /** The end of an answer for `owner` was lost in the kernel. */
  lost(owner: bigint): void;
}

export class UpstreamPool {
  readonly #byKey = new Map<string, Endpoint>();
  readonly #endpoints: Endpoint[] = [];
  readonly #slots = new Map<number, Slot>();
  readonly #freeSlots: number[][] = [];
  readonly #freeBlocks = Array.from({ length: MAX_BLOCKS }, (_, i) => i).reverse();
  readonly #locals = new Map<number, string>();
  /** slots of connections to the proxy, by their own end */
  readonly #toProxy = new Map<string, number>();
  #closed = false;
  #idleTimes: ReadonlyMap<number, number> = new Map();
  readonly #rounds = new Rounds();
  #dummies: Dummies | undefined;
  /** each connection to a server gets a dummy socket before it is used */
  #allDummies = false;

  constructor(
    private readonly plane: DataPlane,
    private readonly events: PoolEvents,
  ) {
    this.#endpoints.push({
      ...{ id: REPLY_ENDPOINT, address: '', port: 0, proxy: false, ...NOTHING_OPEN, blocks: [] },
    });
  }

  /** The id of an endpoint, given out at its first mention and kept for the agent's life. */
  endpointId(address: string, port: number, proxy = false): number {
    const key = `${proxy ? 'proxy ' : ''}${address} ${port}`;
    let endpoint = this.#byKey.get(key);
    if (!endpoint) {
      const id = this.#endpoints.length;
      if (id >= MAX_ENDPOINTS) throw new RangeError(`more than ${MAX_ENDPOINTS} endpoints`);
      endpoint = { id, address, port, proxy, ...NOTHING_OPEN, blocks: [] };
      this.#endpoints.push(endpoint);
      this.#byKey.set(key, endpoint);
      if (proxy) this.plane.steering.pairProxy(endpoint);
    }
    endpoint.retired = false;
    return endpoint.id;
  }

  slot(index: number): Slot | undefined {
    return this.#slots.get(index);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** An endpoint's address and port, as text. */
  addressOf(id: number): string {
    const endpoint = this.#endpoints[id];
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
      if (this.#isPaused(endpoint)) continue;
      const wanted = this.plane.slots.endpoint(endpoint.id, 'wanted');
      let missed = (wanted - endpoint.wanted) | 0;
      if (missed <= 0) continue;
      endpoint.wanted = wanted;
      missed -= endpoint.connecting;
      for (let i = 0; i < missed; i++) if (!this.#open(endpoint)) break;
    }
  }

  /** Slots in use, for sweeps. */
  *all(): IterableIterator<Slot> {
    yield* this.#slots.values();
  }

  #takeSlot(endpoint: Endpoint): number | undefined {
    const limit = Math.min(ENDPOINT_BLOCKS, 16);
    for (const block of endpoint.blocks) {
      const free = this.#freeSlots[block]?.pop();
      if (free !== undefined) return free;
    }
    if (endpoint.blocks.length >= limit) return undefined;
    const block = this.#freeBlocks.pop();
    if (block === undefined) return undefined;
    this.#freeSlots[block] = Array.from({ length: BLOCK_SIZE }, (_, i) => block * BLOCK_SIZE + i).reverse();
    this.plane.slots.setEndpoint(endpoint.id, 'blocks', block, endpoint.blocks.length);
    endpoint.blocks.push(block);
    this.plane.slots.setEndpoint(endpoint.id, 'n_blocks', endpoint.blocks.length);
    return this.#freeSlots[block]!.pop();
  }

  #open(endpoint: Endpoint): boolean {
    if (this.#closed) return false;
    const index = this.#takeSlot(endpoint);
    if (index === undefined) return false;
    endpoint.connecting++;
    if (endpoint.id === REPLY_ENDPOINT) {
      void this.#openReply(endpoint, index);
      return true;
    }
    const socket = connect({ host: endpoint.address, port: endpoint.port, noDelay: true });
    let settled = false;
    const timer = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    const fail = (): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      endpoint.connecting--;
      this.#release(index);
    };
    socket.on('error', fail);
    socket.on('close', fail);
    socket.once('connect', () => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      endpoint.connecting--;
      socket.off('close', fail);
      this.#adopt(endpoint, index, socket);
    });
    return true;
  }

  /** A slot that leads nowhere: only its dummy is used. */
  async #openReply(endpoint: Endpoint, index: number): Promise<void> {
    try {
      const { socket, peer } = await this.#dummies!.pair();
      for (const event of ['end', 'error', 'close']) socket.on(event, () => peer.destroy());
      peer.on('error', () => socket.destroy());
      endpoint.connecting--;
      this.#adopt(endpoint, index, socket);
    } catch {
      endpoint.connecting--;
      this.#release(index);
    }
  }

  #adopt(endpoint: Endpoint, index: number, socket: Socket): void {
    const fd = fdOf(socket);
    if (fd === undefined || this.#closed) {
      socket.destroy();
      this.#release(index);
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
      dummyWanted: false,
      dummyUsed: 0n,
      dummyLooks: 0,
      idle: new IdleTime(),
    };
    this.#slots.set(index, slot);
    if (socket.localAddress && socket.localPort) this.#locals.set(index, localEnd(socket));
    if (endpoint.proxy) this.#toProxy.set(this.localOf(index), index);
    endpoint.open++;
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
      void this.#addDummy(slot).then(() => this.#slots.get(index) === slot && this.plane.commands.give(index));
    else this.plane.commands.give(index);
  }

  /** From now on each connection to a server has a dummy socket, by which requests reach it whose heads grow. */
  needDummies(): void {
    if (this.#allDummies || this.#closed) return;
    this.#allDummies = true;
    for (const slot of this.#slots.values()) if (!this.#endpoints[slot.endpoint]!.proxy) void this.#addDummy(slot);
  }

  /** A dummy socket for this connection, if it has none: the head of an answer grew on it, and so will the next ones'. */
  wantDummy(slot: Slot): void {
    if (!this.#closed && !slot.ended && !this.#endpoints[slot.endpoint]!.proxy) void this.#addDummy(slot);
  }

  async #addDummy(slot: Slot): Promise<void> {
    if (slot.dummyWanted) return;
    slot.dummyWanted = true;
    this.#dummies ??= new Dummies();
    const dummy = await this.#dummies.open(() => this.#dummyBroken(slot)).catch(() => undefined);
    if (!dummy) return;
    if (this.#slots.get(slot.slot) !== slot) {
      dummy.close();
      return;
    }
    slot.dummy = dummy;
    try {
      this.plane.slots.insertDummy(slot.slot, dummy.fd);
    } catch {
      this.#end(slot);
    }
  }

  /** The kernel could not send something on: whose it was cannot go on, and the connection is not used again. */
  #dummyBroken(slot: Slot): void {
    if (this.#slots.get(slot.slot) !== slot) return;
    this.plane.slots.removeDummy(slot.slot);
    slot.dummy?.close();
    // its exchange may be over already: the kernel sends after it has decided
    const last = this.plane.slots.dummyOwner(slot.slot);
    if (last !== 0n && last !== this.plane.slots.owner(slot.slot)) this.events.lost(last);
    this.#end(slot);
  }

  /** Finds dummies that the kernel has disabled. Call now and then. */
  lookAtDummies(): void {
    for (const slot of this.#slots.values()) {
      if (!slot.dummy || slot.dummy.broken) continue;
      const { given, taken, used, broken } = this.plane.slots.dummyState(slot.slot);
      slot.dummyLooks = used === slot.dummyUsed ? slot.dummyLooks + 1 : 0;
      slot.dummyUsed = used;
      if (broken) this.#dummyBroken(slot);
      // while it is used, the programs find out; afterwards once, and as long as something is in it
      else if (slot.dummyLooks === 1 || (slot.dummyLooks > 1 && given !== taken)) slot.dummy.look();
    }
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

  /**
   * A server that closes connections after their first answer, twice in a row, is left to the proxy, which is no slower
   * then. It may have been chance (a restart, an answer with `Connection: close` now and then), so it is tried again, ever
   * less often. One that closes them after many answers (nginx: keepalive_requests) is not meant.
   */
  #noteClose(slot: Slot): void {
    const endpoint = this.#endpoints[slot.endpoint]!;
    if (endpoint.proxy || !(this.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.CLOSE)) return;
    if (this.plane.slots.field(slot.slot, 'served') > 0) {
      endpoint.closes = 0;
      endpoint.pauseMs = FIRST_PAUSE_MS;
      return;
    }
    endpoint.closes++;
    if (endpoint.closes < CLOSES_IN_A_ROW) return;
    this.plane.slots.setEndpoint(endpoint.id, 'flags', ENDPOINT_FLAG.NO_POOL);
    endpoint.pausedUntil = performance.now() + endpoint.pauseMs;
    endpoint.pauseMs = Math.min(2 * endpoint.pauseMs, LONGEST_PAUSE_MS);
  }

  /** Whether an endpoint is left to the proxy; what it missed meanwhile is no reason to open connections afterwards. */
  #isPaused(endpoint: Endpoint): boolean {
    if (!endpoint.pausedUntil) return false;
    if (performance.now() < endpoint.pausedUntil) return true;
    endpoint.pausedUntil = 0;
    this.plane.slots.setEndpoint(endpoint.id, 'flags', 0);
    return false;
  }

  /** Closes a connection that no exchange uses any more. */
  discard(slot: Slot): void {
    if (!this.#slots.delete(slot.slot)) return;
    const endpoint = this.#endpoints[slot.endpoint]!;
    // the port may be another connection's already
    if (endpoint.proxy && this.#toProxy.get(this.localOf(slot.slot)) === slot.slot)
      this.#toProxy.delete(this.localOf(slot.slot));
    endpoint.open--;
    slot.ended = true;
    slot.listener = undefined;
    this.plane.commands.take(slot.slot);
    this.plane.commands.uncount(slot.slot);
    if (slot.dummy) {
      this.plane.slots.removeDummy(slot.slot);
      slot.dummy.close();
    }
    this.plane.slots.remove(slot.slot, slot.cookie);
    slot.socket.destroy();
    this.#release(slot.slot);
  }

  #release(index: number): void {
    const block = Math.floor(index / BLOCK_SIZE);
    setTimeout(() => this.#freeSlots[block]!.push(index), QUARANTINE_MS).unref();
  }

  /** How long connections to endpoints may be idle, by id (ms, 0: for ever). */
  setIdleTimes(times: ReadonlyMap<number, number>): void {
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
    const endpoint = this.#endpoints[slot.endpoint]!;
    if (this.plane.slots.field(slot.slot, 'flags') & UPSTREAM_FLAG.LIMIT && !endpoint.retired) this.#open(endpoint);
  }

  /** Replaces the connections to the proxy: the idle ones at once, the busy ones after their exchange. */
  retireProxies(): void {
    this.#retireWhere((endpoint) => endpoint.proxy);
  }

  /** Closes the connections to an endpoint: the idle ones at once, the busy ones after their exchange. */
  retire(id: number): void {
    this.#endpoints[id]!.retired = true;
    this.#retireWhere((endpoint) => endpoint.id === id);
  }

  #retireWhere(concerned: (endpoint: Endpoint) => boolean): void {
    for (const slot of this.#slots.values()) {
      if (!concerned(this.#endpoints[slot.endpoint]!)) continue;
      if (this.plane.commands.take(slot.slot)) this.discard(slot);
      else this.plane.slots.addFlags(slot.slot, UPSTREAM_FLAG.LIMIT);
    }
  }

  close(): void {
    this.#closed = true;
    for (const slot of [...this.#slots.values()]) this.discard(slot);
    this.#dummies?.close();
  }
}
