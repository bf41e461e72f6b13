/** A connection of HTTP/2 that belongs to one client: to a server, by way of the kernel, or to the proxy, by the agent's own. */
import { connect, type Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer, unacknowledgedBytes } from '../../kernel/syscalls.js';
import { endText } from '../../observe/log-line.js';
import {
  FIRST_WINDOW,
  FLAG,
  FRAME,
  type Frame,
  FrameReader,
  frame,
  isMalformed,
  MAX_STREAMS,
  numberFrame,
  PREFACE,
  readSettings,
  SETTING,
  settings,
} from './frames.js';
import type { End, H2Plane } from './plane.js';
import { Waiting } from './window.js';

/** What the agent lets a server send on a connection before it has gone on: the most of it that waits in memory. */
const ROOM = 1024 * 1024;

/**
 * Room in a server's connection (the kernel doubles it). No more DATA than that is on its way, whatever the server's window
 * allows: a dummy that finds no room has its program run again for the same bytes.
 */
const SEND_BUFFER = 4 * 1024 * 1024;

export interface Target {
  readonly address: string;
  readonly port: number;
  /** of a server; the proxy has none */
  readonly endpoint?: number;
  /** the local address of the connection */
  readonly from?: string;
}

/** What an upstream tells the connection of its client. */
export interface UpstreamEvents {
  /** a frame has left for it */
  left(frame: Frame): void;
  /** a frame of a stream */
  frame(frame: Frame, from: Upstream): void;
  /** it says how much each stream may send at first, now or by a change: so much more than was known */
  room(more: number, from: Upstream): void;
  /** it has taken over the client's settings */
  settled(): void;
  /** it takes no more streams, and has not taken those after `last` */
  leaving(last: number, from: Upstream): void;
  /** it says that what it was sent breaks the protocol (ERROR) */
  broken(error: number, from: Upstream): void;
  /** it is closed, or cannot be used */
  gone(from: Upstream): void;
}

export class Upstream {
  /** of a server's connection, once the programs know it */
  end: End | undefined;
  /** the first window of its streams */
  initial = FIRST_WINDOW;
  /** the server's SETTINGS have come */
  ready = false;
  gone = false;
  /** settings of the client's that it has not acknowledged */
  unsettled = 1;
  /** what goes there and waits for its window */
  readonly waiting: Waiting;
  readonly #socket: Socket;
  readonly #reader = new FrameReader();
  /** bytes of DATA from it that the agent has sent on, and those that it was told of */
  #moved = 0;
  #returned = 0;
  /** bytes of DATA that the server has allowed so far */
  #allowed = FIRST_WINDOW;
  /** the proxy's window */
  #window = FIRST_WINDOW;

  /** @param list the client's settings, which become the agent's own there */
  constructor(
    private readonly plane: H2Plane,
    private readonly client: End,
    readonly target: Target,
    list: ReadonlyMap<number, number>,
    private readonly events: UpstreamEvents,
  ) {
    const { address: host, port, from } = target;
    this.#socket = connect({ host, port, noDelay: true, ...(from === undefined ? {} : { localAddress: from }) });
    this.waiting = new Waiting(
      (bytes) => this.#take(bytes),
      (f) => {
        this.send(f.bytes);
        events.left(f);
      },
    );
    const first = Buffer.concat([PREFACE, ownSettings(list), numberFrame(FRAME.WINDOW_UPDATE, 0, ROOM)]);
    this.#returned = ROOM;
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => this.close());
    if (target.endpoint === undefined) {
      this.#socket.on('data', (chunk) => this.#read(chunk));
      this.#socket.write(first);
    } else {
      this.#socket.pause();
      this.#socket.once('connect', () => void this.#enter(first));
    }
  }

  async #enter(first: Buffer): Promise<void> {
    try {
      const fd = fdOf(this.#socket);
      if (fd === undefined) throw new Error('the connection is closed');
      setNoDelay(fd);
      setSendBuffer(fd, SEND_BUFFER);
      // before the kernel writes there; all later frames go by the door
      await new Promise<void>((resolve, reject) => this.#socket.write(first, (e) => (e ? reject(e) : resolve())));
      const early: Buffer[] = [];
      let read = (chunk: Buffer): void => void early.push(chunk);
      const broken = (): void => this.close();
      this.end = await this.plane.server(this.#socket, this.client, FIRST_WINDOW, (chunk) => read(chunk), broken);
      const { localAddress: address = '', localPort: port = 0 } = this.#socket;
      this.plane.servers.set(this.end.id, { host: endText(this.target), local: endText({ address, port }) });
      if (this.gone) this.plane.remove(this.end);
      read = (chunk) => this.#read(chunk);
      for (const chunk of early) read(chunk);
      this.#socket.resume(); // to see its end
    } catch {
      this.close();
    }
  }

  /** Sends a frame that needs no window, or has had it. */
  send(bytes: Uint8Array): void {
    if (this.end) this.plane.send(this.end, bytes);
    else this.#socket.write(bytes);
  }

  /** The client's settings have changed. */
  tell(list: ReadonlyMap<number, number>): void {
    this.unsettled++;
    this.send(ownSettings(list));
  }

  /** So many bytes of its DATA have left the agent, or were dropped. */
  moved(bytes: number): void {
    this.#moved += bytes;
  }

  /** Gives back the window that was used, a good part at a time. */
  refresh(): void {
    if (this.gone) return;
    if (this.end) this.#grant(this.end);
    const through = this.#moved + (this.end ? this.plane.came(this.end) : 0);
    const more = through + ROOM - this.#returned;
    if (more < ROOM / 4) return;
    this.#returned += more;
    this.send(numberFrame(FRAME.WINDOW_UPDATE, 0, more));
  }

  /** Lets so much be sent as the server allows and there is room for. */
  #grant(end: End): void {
    const granted = this.plane.granted(end);
    const fd = fdOf(this.#socket);
    if (granted >= this.#allowed || fd === undefined) return;
    // in this order: what is passed on meanwhile is not taken to have arrived
    const passed = this.plane.passed(end);
    const more = Math.min(this.#allowed, passed - unacknowledgedBytes(fd) + SEND_BUFFER) - granted;
    if (more <= 0) return;
    this.plane.grant(end, more);
    this.waiting.flush();
  }

  #take(bytes: number): boolean {
    if (this.end) return this.plane.take(this.end, bytes);
    if (this.#window < bytes) return false;
    this.#window -= bytes;
    return true;
  }

  #read(chunk: Buffer): void {
    for (const f of this.#reader.push(chunk)) if (!this.gone) this.#receive(f);
  }

  #receive(f: Frame): void {
    if (isMalformed(f)) this.close();
    else if (f.stream !== 0) this.events.frame(f, this);
    else if (f.type === FRAME.SETTINGS && f.flags & FLAG.ACK) {
      if (this.unsettled > 0) {
        this.unsettled--;
        this.events.settled();
      }
    } else if (f.type === FRAME.SETTINGS) this.#settings(f);
    else if (f.type === FRAME.PING && !(f.flags & FLAG.ACK)) this.send(frame(FRAME.PING, FLAG.ACK, 0, f.payload));
    else if (f.type === FRAME.WINDOW_UPDATE) {
      const more = f.payload.readUInt32BE(0) & 0x7fffffff;
      if (this.end) {
        this.#allowed += more;
        this.#grant(this.end);
      } else {
        this.#window += more;
        this.waiting.flush();
      }
    } else if (f.type === FRAME.GOAWAY) {
      this.shut();
      const error = f.payload.length < 8 ? 0 : f.payload.readUInt32BE(4);
      if (error > 0) this.events.broken(error, this);
      if (!this.gone) this.events.leaving(f.payload.length < 8 ? 0 : f.payload.readUInt32BE(0) & 0x7fffffff, this);
    }
  }

  #settings(f: Frame): void {
    const list = readSettings(f.payload);
    const initial = list.get(SETTING.INITIAL_WINDOW_SIZE) ?? this.initial;
    // others are the proxy's, as Envoy would open another connection
    const streams = list.get(SETTING.MAX_CONCURRENT_STREAMS);
    if (this.end && (streams !== undefined || !this.ready)) this.plane.allow(this.end, streams ?? MAX_STREAMS);
    this.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
    const more = initial - this.initial;
    this.initial = initial;
    // the client was told of the usual window: a smaller one could be exceeded
    if (initial < FIRST_WINDOW) {
      this.close();
      return;
    }
    this.ready = true;
    const { end, target } = this;
    if (end && target.endpoint !== undefined && !this.#shut) this.plane.open(this.client, end, target.endpoint);
    if (more > 0) this.events.room(more, this);
  }

  #shut = false;

  /** No more streams begin here. */
  shut(): void {
    if (this.#shut) return;
    this.#shut = true;
    if (this.end && this.target.endpoint !== undefined) this.plane.shut(this.client, this.end, this.target.endpoint);
  }

  close(): void {
    if (this.gone) return;
    this.gone = true;
    this.shut();
    if (this.end) this.plane.remove(this.end);
    this.#socket.destroy();
    this.events.gone(this);
  }
}

/** The agent's SETTINGS for a server: the client's, without pushes and without a dynamic table. */
function ownSettings(list: ReadonlyMap<number, number>): Buffer {
  const own = new Map(list).set(SETTING.HEADER_TABLE_SIZE, 0).set(SETTING.ENABLE_PUSH, 0);
  return frame(FRAME.SETTINGS, 0, 0, settings(own));
}
