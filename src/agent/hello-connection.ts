/**
 * The agent's part in one connection that was decided by its first message: it opens the other half and joins the two.
 * Afterwards it only sees what the kernel has no room for (the other end is slow), which it carries, and the ends.
 */
import { connect, type Socket } from 'node:net';
import { fdOf, setLinger, setNotSentLowat, setSendBuffer, socketCookie } from '../kernel/syscalls.js';
import { CONN_FLAG } from '../layout/exchanges.js';
import type { Address } from './address.js';
import { POLL_MS, sleep } from './connection-context.js';
import type { DataPlane } from './data-plane.js';
import { drained } from './drained.js';

/** Who says nothing for so long is left to the proxy, which has times of its own for that. */
const SILENT_MS = 1000;
const CONNECT_MS = 5000;
const NOBODY = 0xffffffff;
/** The kernel sends while half of it is free. */
const SEND_BUFFER = 4 * 1024 * 1024;
/** Bytes that wait in a send queue beyond what the window takes. */
const UNSENT_AT_MOST = 128 * 1024;

export interface HelloTarget extends Address {
  readonly localAddress: string;
}

export interface HelloContext {
  readonly endpoint: (id: number) => HelloTarget | undefined;
  readonly proxy: () => HelloTarget | undefined;
  readonly closed: () => void;
}

export class HelloConnection {
  #other: Socket | undefined;
  #own = 0n;
  /** endpoint that counts it as active */
  #endpoint: number | undefined;
  readonly #silent: NodeJS.Timeout;
  #connecting: NodeJS.Timeout | undefined;
  #pending: Buffer[] = [];
  /** bytes read from the client, and of those that the other end's socket has taken */
  #read = 0;
  #sent = 0;
  /** bytes written to the client */
  #written = 0;
  #joined = false;
  #ended = false;
  #closed = false;

  constructor(
    private readonly plane: DataPlane,
    private readonly client: Socket,
    /** of the client's socket; undefined: it is in no map */
    private readonly cookie: bigint | undefined,
    private readonly context: HelloContext,
  ) {
    const fd = fdOf(client);
    if (fd !== undefined) {
      setLinger(fd, 0); // an agent that is killed must not look like an end
      setNotSentLowat(fd, UNSENT_AT_MOST);
    }
    this.#silent = setTimeout(() => this.#tooLong(), SILENT_MS);
    client.on('data', (bytes: Buffer) => this.#fromClient(bytes));
    client.on('end', () => this.#clientEnded());
    client.on('error', () => this.reset());
    client.on('close', () => this.#gone());
    client.resume();
  }

  #fromClient(bytes: Buffer): void {
    this.#read += bytes.length;
    if (!this.#other) {
      this.#pending.push(bytes);
      this.client.pause();
      this.#open(this.#decided());
      return;
    }
    this.#send(bytes);
  }

  /** Where the kernel leads the connection. */
  #decided(): { target: HelloTarget | undefined; ms: number } {
    const state = this.cookie === undefined ? undefined : this.plane.commands.query(this.cookie);
    if (state && state.flags & CONN_FLAG.HEARD && state.upstream !== NOBODY) {
      this.#endpoint = state.upstream;
      return { target: this.context.endpoint(state.upstream), ms: state.connectMs || CONNECT_MS };
    }
    return { target: this.context.proxy(), ms: CONNECT_MS };
  }

  #tooLong(): void {
    if (this.#other || this.#closed) return;
    // from now on nothing is decided; what was decided in this moment comes with its message
    if (this.cookie !== undefined) {
      this.plane.commands.hold(this.cookie);
      if (this.plane.commands.query(this.cookie)?.passed) return;
    }
    this.#open({ target: this.context.proxy(), ms: CONNECT_MS });
  }

  #open({ target, ms }: { target: HelloTarget | undefined; ms: number }): void {
    clearTimeout(this.#silent);
    if (!target) {
      this.reset();
      return;
    }
    const { address, port, localAddress } = target;
    const other = connect({ host: address, port, localAddress, noDelay: true, allowHalfOpen: true });
    other.pause(); // its bytes are the kernel's as soon as it is joined
    this.#other = other;
    this.#connecting = setTimeout(() => this.reset(), ms);
    other.once('connect', () => this.#connected(other));
    other.on('error', () => this.reset());
    other.on('close', () => this.#otherClosed());
    other.on('end', () => void this.#otherEnded());
    other.on('data', (bytes: Buffer) => void this.#fromOther(bytes));
  }

  #connected(other: Socket): void {
    clearTimeout(this.#connecting);
    const fd = fdOf(other);
    if (fd === undefined || this.#closed) return;
    setSendBuffer(fd, SEND_BUFFER);
    this.#own = socketCookie(fd);
    if (this.cookie !== undefined) {
      try {
        this.#joined = this.plane.join(this.cookie, fd, this.#own);
      } catch {
        // closed again already, or the map is full: the agent carries everything
      }
    }
    other.resume();
    for (const bytes of this.#pending.splice(0)) this.#send(bytes);
    if (this.#ended) other.end();
    this.client.resume();
  }

  #send(bytes: Buffer): void {
    const other = this.#other!;
    const room = other.write(bytes, () => {
      this.#sent += bytes.length;
      this.#giveBack();
    });
    if (room) return;
    this.client.pause();
    void drained(other).then(() => this.client.resume());
  }

  /** What the client has sent is on its way: the next message may follow by itself. */
  #giveBack(): void {
    if (!this.#joined || this.#closed || this.cookie === undefined || this.#sent !== this.#read) return;
    this.plane.commands.resume(this.cookie, this.#read, this.#written);
  }

  #clientEnded(): void {
    this.#ended = true;
    clearTimeout(this.#silent);
    if (!this.#other) this.#open({ target: this.context.proxy(), ms: CONNECT_MS });
    else if (!this.#other.connecting) this.#other.end();
  }

  /** What the kernel has left to the agent. Never before the client has read what was redirected. */
  async #fromOther(bytes: Buffer): Promise<void> {
    const other = this.#other!;
    other.pause();
    await this.#quiet();
    if (this.#closed) return;
    this.#written += bytes.length;
    if (!this.client.write(bytes)) await drained(this.client);
    other.resume();
  }

  async #otherEnded(): Promise<void> {
    await this.#quiet();
    if (!this.#closed) this.client.end();
  }

  /** Resolves when nothing redirected is unread at the client, seen twice: a verdict queues a moment after it has decided. */
  async #quiet(): Promise<void> {
    for (let quiet = 0; this.#joined && !this.#closed && quiet < 2; ) {
      const state = this.plane.commands.query(this.cookie!);
      if (!state) return;
      quiet = state.queued ? 0 : quiet + 1;
      if (quiet < 2) await sleep(POLL_MS);
    }
  }

  #otherClosed(): void {
    if (this.#closed || !this.#other) return;
    // both directions have ended, or the connection broke, of which `error` has told
    if (!this.#other.readableEnded) this.reset();
  }

  /** Ends both halves at once. */
  reset(): void {
    if (this.#closed) return;
    const fd = fdOf(this.client);
    if (fd !== undefined) setLinger(fd, 0);
    this.client.destroy();
    this.#gone();
  }

  #gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#silent);
    clearTimeout(this.#connecting);
    const other = this.#other;
    if (other && !other.destroyed) {
      // what an ended client has sent is still delivered
      if (this.#ended && other.readableEnded) other.destroySoon();
      else other.resetAndDestroy();
    }
    if (this.#endpoint !== undefined) this.plane.slots.leaveEndpoint(this.#endpoint);
    if (this.#joined) this.plane.part(this.cookie!, this.#own);
    this.context.closed();
  }
}
