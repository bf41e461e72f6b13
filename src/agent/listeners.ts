/** The agent's listening sockets: where intercepted connections arrive. */
import { createServer, type Server, type Socket } from 'node:net';
import { fdOf } from '../kernel/syscalls.js';
import { endText } from '../observe/log-line.js';
import type { Intercept } from '../policy/resources.js';
import { type Address, isLocal, isWildcard, localAddresses, plainAddress } from './address.js';
import type { ChainFacts } from './chain-server.js';
import type { DataPlane } from './data-plane.js';

/** One intercepted address with the server that takes its connections. */
interface Entry {
  readonly intercept: Intercept;
  readonly server: Server;
  readonly bind: Address;
  readonly steered: Address[];
}

const BACKLOG = 4096;

export interface Arrival {
  readonly socket: Socket;
  readonly listener: string;
  /** of the client's socket; undefined: the requests are decided at the accepted one (listener intake) */
  readonly cookie: bigint | undefined;
  /** local end of the client's socket */
  readonly client: Address;
  /** the destination as the listener's rules see it */
  readonly asked: Address;
  /** cookie of the client's network namespace where it is not the agent's */
  readonly netns?: bigint;
  /** it comes from the proxy, from a chain that is relayed */
  readonly relay?: ChainFacts;
  /** what it says first tells where it goes */
  readonly hello?: true;
}

export class Listeners {
  readonly #entries = new Map<string, Entry>();
  /** steered addresses of those that nobody takes */
  #direct: readonly Address[] = [];

  constructor(
    private readonly plane: DataPlane,
    private readonly arrived: (arrival: Arrival) => void,
  ) {}

  /** Opens servers for the intercepts that have none yet. @throws Error when an address cannot be bound */
  async open(intercepts: readonly Intercept[]): Promise<void> {
    for (const intercept of intercepts) {
      if (intercept.direct) continue;
      const key = keyOf(intercept);
      if (this.#entries.has(key)) continue;
      const keep = isWildcard(intercept.address) || isLocal(intercept.address);
      const host = keep ? intercept.address : intercept.address.includes(':') ? '::1' : '127.0.0.1';
      const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) =>
        this.#accept(intercept, socket),
      );
      const port = await listen(server, host);
      this.#entries.set(key, { intercept, server, bind: { address: host, port }, steered: [] });
    }
  }

  /**
   * Steers exactly `intercepts`, whose listeners have the given indexes; servers that are not needed any more close
   * (connections that they accepted go on).
   */
  steer(intercepts: readonly Intercept[], indexOf: (listener: string) => number): void {
    const wanted = new Set(intercepts.filter((i) => !i.direct).map(keyOf));
    const direct: Address[] = [];
    for (const intercept of intercepts) {
      const addresses = isWildcard(intercept.address)
        ? localAddresses().filter((a) => a.includes(':') === (intercept.address === '::'))
        : [intercept.address];
      const steered = addresses.map((address) => ({ address, port: intercept.port }));
      if (intercept.direct) {
        for (const from of steered)
          this.plane.steering.steer('steers', from, from, false, indexOf(intercept.listener), 'home', true);
        direct.push(...steered);
        continue;
      }
      const entry = this.#entries.get(keyOf(intercept))!;
      const keep = isWildcard(intercept.address) || isLocal(intercept.address);
      for (const from of steered) {
        const index = indexOf(intercept.listener);
        this.plane.steering.steer('steers', from, entry.bind, keep, index, 'home', false, intercept.hello === true);
        if (intercept.inbound) this.plane.steering.takeInbound(from, fdOf(entry.server), intercept.inbound);
        entry.steered.push(from);
      }
    }
    const left = [...this.#entries].filter(([key]) => wanted.has(key)).flatMap(([, entry]) => entry.steered);
    const kept = new Set([...direct, ...left].map(endText));
    for (const [key, entry] of this.#entries) if (!wanted.has(key)) this.#close(key, entry, kept);
    this.#unsteer(this.#direct, kept);
    this.#direct = direct;
  }

  /** @param kept addresses that are steered for others now */
  #unsteer(steered: readonly Address[], kept: ReadonlySet<string>): void {
    for (const from of steered) if (!kept.has(endText(from))) this.plane.steering.unsteer('steers', from);
  }

  #close(key: string, entry: Entry, kept: ReadonlySet<string>): void {
    this.#unsteer(entry.steered, kept);
    if (entry.intercept.inbound) for (const from of entry.steered) this.plane.steering.leaveInbound(from);
    entry.server.close();
    this.#entries.delete(key);
  }

  closeAll(): void {
    const none = new Set<string>();
    for (const [key, entry] of this.#entries) this.#close(key, entry, none);
    this.#unsteer(this.#direct, none);
    this.#direct = [];
  }

  #accept(intercept: Intercept, socket: Socket): void {
    const client = { address: plainAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    const cookie = client.port ? this.plane.steering.arrived(client)?.cookie : undefined;
    if (cookie === undefined && !intercept.inbound) {
      socket.destroy(); // nobody whom the hooks sent here
      return;
    }
    // who came through the lookup sees the address that he asked for; the connect hook replaces it
    const asked =
      intercept.own ??
      (cookie === undefined || isWildcard(intercept.address)
        ? { address: plainAddress(socket.localAddress ?? intercept.address), port: intercept.port }
        : { address: intercept.address, port: intercept.port });
    const { listener } = intercept;
    const known = { socket, listener, cookie: cookie === 0n ? undefined : cookie, client, asked };
    this.arrived(intercept.hello ? { ...known, hello: true } : known);
  }
}

function keyOf(intercept: Intercept): string {
  return `${intercept.address} ${intercept.port} ${intercept.listener}`;
}

function listen(server: Server, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port: 0, backlog: BACKLOG, ipv6Only: host === '::' }, () => {
      server.off('error', reject);
      server.on('error', () => undefined);
      resolve((server.address() as { port: number }).port);
    });
  });
}
