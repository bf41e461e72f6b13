/**
 * Where the proxy hands on the connections of relayed filter chains (src/proxy/chains.ts). Each begins with a header of the
 * PROXY protocol, which is read here to its last byte and not further: what follows is for the programs.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { fdOf, receive } from '../kernel/syscalls.js';
import { type ChainTarget, TLV } from '../proxy/index.js';
import { type Address, plainAddress } from './address.js';
import type { Arrival } from './listeners.js';
import { PROXY_HEAD, type ProxyHeader, proxyHeaderLength, readProxyHeader } from './proxy-protocol.js';

const BACKLOG = 4096;
const POLL_MS = 1;
/** The proxy sends the header as soon as the connection stands, and connects only where a policy says so. */
const PATIENCE_MS = 10_000;

export class ChainServer {
  #server: Server | undefined;
  #target: ChainTarget | undefined;
  readonly #waiting = new Set<Socket>();

  /** names in the plan of the chains that are relayed under the policy in force */
  #relayed: ReadonlyMap<string, unknown> = new Map();

  /** @param cookieOf what the hooks know of a socket of the proxy’s with this local end */
  constructor(
    private readonly arrived: (arrival: Arrival) => void,
    private readonly cookieOf: (end: Address) => bigint | undefined,
  ) {}

  /** Of the loopback; 0 before `open`. */
  get port(): number {
    return this.#target?.port ?? 0;
  }

  /** A policy has come into force. */
  enforce(relayed: ReadonlyMap<string, unknown>): void {
    this.#relayed = relayed;
  }

  /** What the proxy is to be told. @throws Error before `open` */
  get target(): ChainTarget {
    if (!this.#target) throw new Error('relayed connections are not waited for yet');
    return this.#target;
  }

  /** Begins to listen, at a port of the loopback that is free. @throws Error */
  async open(): Promise<void> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      void this.#accept(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: '127.0.0.1', port: 0, backlog: BACKLOG }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', () => undefined);
    this.#server = server;
    this.#target = { port: (server.address() as { port: number }).port, secret: randomBytes(16).toString('hex') };
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#waiting) socket.destroy();
  }

  async #accept(socket: Socket): Promise<void> {
    socket.on('error', () => undefined);
    this.#waiting.add(socket);
    const found = await this.#header(socket).catch(() => undefined);
    this.#waiting.delete(socket);
    if (!found || socket.destroyed) {
      socket.destroy();
      return;
    }
    const { header, listener } = found;
    const end = { address: plainAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    const cookie = this.cookieOf(end);
    if (!cookie) {
      socket.destroy(); // the hook has not seen it
      return;
    }
    this.arrived({
      socket,
      listener,
      cookie,
      client: header.from,
      asked: header.to,
      relay: { end },
    });
  }

  /** The header, once it is whole and the policy that it is about is in force; undefined: it is not the proxy’s. */
  async #header(socket: Socket): Promise<{ header: ProxyHeader; listener: string } | undefined> {
    const bytes: Buffer[] = [];
    let wanted = PROXY_HEAD;
    let header: ProxyHeader | undefined;
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end && !socket.destroyed; ) {
      const fd = fdOf(socket);
      if (fd === undefined) return undefined;
      if (!header) {
        const more = wanted > 0 ? receive(fd, wanted) : Buffer.alloc(0);
        if (more === 'ended') return undefined;
        if (more !== 'nothing') {
          bytes.push(more);
          wanted -= more.length;
        }
        const all = Buffer.concat(bytes);
        if (wanted === 0 && all.length === PROXY_HEAD) wanted = proxyHeaderLength(all) - all.length;
        if (wanted === 0) {
          header = readProxyHeader(all);
          if (!this.#isProxy(header.values.get(TLV.SECRET))) return undefined;
        } else if (more !== 'nothing') continue;
      }
      const listener = header?.values.get(TLV.LISTENER)?.toString();
      // a connection may be faster than the policy that it is for
      if (header && listener !== undefined && this.#relayed.has(listener)) return { header, listener };
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return undefined;
  }

  #isProxy(secret: Buffer | undefined): boolean {
    const own = Buffer.from(this.target.secret);
    return secret !== undefined && secret.length === own.length && timingSafeEqual(secret, own);
  }
}

/** What else is known of a relayed connection. */
export interface ChainFacts {
  /** local end of the proxy's socket */
  readonly end: Address;
}
