/** The connections that belong to one client: to the servers, and to the proxy. */
import { ERROR, FIRST_WINDOW, FLAG, FRAME, type Frame, frame, readSettings, SETTING } from './frames.js';
import type { End, H2Plane } from './plane.js';
import { type Target, Upstream, type UpstreamEvents } from './upstream.js';

/** So often connections that have ended are opened again. */
const REOPEN_MS = 1000;

/** What programs or frames on their way may still be about is over by then. */
const SETTLED_MS = 500;

/** What the connections tell the streams of their client. */
export interface ConnectionsEvents extends Omit<UpstreamEvents, 'settled' | 'gone'> {
  /** a frame for the client itself */
  send(bytes: Uint8Array): void;
  /** the proxy's connection has ended: whether another one can take its place */
  replaceable(ready: boolean): boolean;
  /** it is closed. @returns how many streams it had */
  gone(from: Upstream): number;
  /** how many streams it has */
  streams(of: Upstream): number;
  /** nothing can be done for the client any more */
  hopeless(): void;
}

export class Connections {
  readonly #servers = new Map<number, Upstream>();
  /** connections that take no new streams: the proxy's, and those of servers */
  readonly #left = new Set<Upstream>();
  /** those of them that lead where no stream goes any more, with when that was seen */
  readonly #unused = new Map<Upstream, number>();
  #proxy: Upstream | undefined;
  /** another one to the proxy, for streams that are tried again */
  #again: Upstream | undefined;
  /** the proxy's connection has ended with streams on it, and without a word */
  #refused = false;
  #servedAt = 0;
  #settings: Map<number, number> | undefined;
  /** how many have still to take over the client's last settings */
  #unsettled = 0;
  #acknowledge = 0;
  #closed = false;

  constructor(
    private readonly plane: H2Plane,
    private readonly client: End,
    private readonly targets: { readonly servers: () => readonly Target[]; readonly proxy: () => Target | undefined },
    private readonly events: ConnectionsEvents,
  ) {}

  /** What a client lets each stream be sent at first. */
  get firstWindow(): number {
    return this.#settings?.get(SETTING.INITIAL_WINDOW_SIZE) ?? FIRST_WINDOW;
  }

  /** The proxy's connection, if it takes streams. */
  get proxy(): Upstream | undefined {
    return this.#proxy?.gone ? undefined : this.#proxy;
  }

  /** A connection to the proxy for streams that are tried again, opened when it is needed; undefined: there is no proxy. */
  again(): Upstream | undefined {
    const target = this.targets.proxy();
    if (!this.#again && target && this.#settings) this.#again = this.#open(target);
    return this.#again;
  }

  *all(): Generator<Upstream> {
    if (this.#proxy) yield this.#proxy;
    if (this.#again) yield this.#again;
    yield* this.#left;
    yield* this.#servers.values();
  }

  /** SETTINGS of the client's: with its first ones the connections are opened. */
  settings(f: Frame): void {
    const list = readSettings(f.payload);
    const first = !this.#settings;
    this.#settings = new Map([...(this.#settings ?? []), ...list]);
    if (first) {
      this.#openProxy();
      this.serve();
      this.events.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
      return;
    }
    // what the client says it has taken over only when everybody else has: windows may have become smaller
    this.#acknowledge++;
    for (const upstream of this.all()) {
      this.#unsettled++;
      upstream.tell(this.#settings);
    }
  }

  #openProxy(): void {
    if (this.#proxy) this.#left.add(this.#proxy);
    const target = this.targets.proxy();
    this.#proxy = target && this.#open(target);
  }

  /** Opens connections to the servers that there are now, where there are none; others take no new streams. */
  serve(): void {
    if (!this.#settings || this.#closed) return;
    this.#servedAt = performance.now();
    const targets = new Map(this.targets.servers().map((target) => [target.endpoint!, target]));
    for (const [endpoint, upstream] of this.#servers) {
      if (targets.has(endpoint)) continue;
      upstream.shut();
      this.#servers.delete(endpoint);
      this.#left.add(upstream);
      this.#unused.set(upstream, this.#servedAt);
    }
    for (const [endpoint, target] of targets) if (!this.#servers.has(endpoint)) this.#open(target);
  }

  /** Closes connections to where no stream goes any more when their last ones have ended. */
  #closeUnused(): void {
    const now = performance.now();
    for (const [upstream, since] of this.#unused) {
      if (now - since < SETTLED_MS) continue;
      if (this.events.streams(upstream) === 0) upstream.close();
      else this.#unused.set(upstream, now);
    }
  }

  #open(target: Target): Upstream {
    this.#unsettled++;
    const upstream = new Upstream(this.plane, this.client, target, this.#settings!, {
      left: (f) => this.events.left(f),
      frame: (f, from) => this.events.frame(f, from),
      room: (more, from) => this.events.room(more, from),
      settled: () => {
        this.#settled();
        // Envoy lives: it has closed the one before for what the client had sent there
        if (upstream === this.#proxy && this.#refused) this.events.broken(ERROR.PROTOCOL_ERROR, upstream);
      },
      leaving: (last, from) => this.#leaving(last, from),
      // what the proxy cannot read is as the client has sent it
      broken: (error, from) => {
        if (from === this.#proxy) this.events.broken(error, from);
      },
      gone: (from) => this.#gone(from),
    });
    if (target.endpoint !== undefined) this.#servers.set(target.endpoint, upstream);
    return upstream;
  }

  #settled(): void {
    if (--this.#unsettled > 0) return;
    for (; this.#acknowledge > 0; this.#acknowledge--) this.events.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  }

  /** Gives windows back, and opens what has ended. */
  tick(): void {
    for (const upstream of this.all()) upstream.refresh();
    this.#closeUnused();
    if (performance.now() - this.#servedAt > REOPEN_MS) this.serve();
  }

  /** New streams need another connection. */
  #leaving(last: number, from: Upstream): void {
    if (this.#closed) return;
    this.events.leaving(last, from);
    if (from === this.#proxy) this.#openProxy();
    else if (from === this.#again) {
      this.#again = undefined;
      this.#left.add(from);
    } else if (from.target.endpoint !== undefined && this.#servers.get(from.target.endpoint) === from) {
      this.#servers.delete(from.target.endpoint);
      this.#left.add(from);
    }
  }

  /** A connection has ended: its streams, too. */
  #gone(from: Upstream): void {
    if (this.#closed) return;
    for (; from.unsettled > 0; from.unsettled--) this.#settled();
    const streams = this.events.gone(from);
    this.#left.delete(from);
    this.#unused.delete(from);
    const { endpoint } = from.target;
    if (from === this.#again) this.#again = undefined;
    else if (from === this.#proxy) {
      this.#proxy = undefined;
      this.#refused = streams > 0;
      if (this.events.replaceable(from.ready)) this.#openProxy();
      else this.events.hopeless();
    } else if (endpoint !== undefined && this.#servers.get(endpoint) === from) this.#servers.delete(endpoint);
  }

  close(): void {
    this.#closed = true;
    for (const upstream of [...this.all()]) upstream.close();
  }
}
