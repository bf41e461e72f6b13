/**
 * Connections to servers through the proxy's relays (src/proxy/relays.ts): the proxy opens TLS to the server that the first
 * bytes name, and tells in its access log when the handshake is over. Only then is the connection used: one whose
 * handshake fails ends here, and the request that missed it gets the proxy's own answer.
 */
import { connect, isIPv6, type Socket } from 'node:net';
import { asObject, asObjects } from '../policy/envoy/walk.js';
import type { JsonObject } from '../policy/resources.js';
import { RELAY_LISTENER, RELAY_TLV, relayName } from '../proxy/index.js';
import type { Address } from './address.js';
import { sleep } from './connection-context.js';
import { proxyHeader } from './proxy-protocol.js';
import type { RelayReport } from './try-reports.js';

const OPEN_TIMEOUT_MS = 5000;
/**
 * With TLS 1.3 a server judges the client's certificate when the handshake is over for the client. Its refusal comes
 * within a round trip, of which the handshake has had two.
 */
const SETTLE_MS = 20;
const SETTLE_HANDSHAKES = 1.5;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;

/** A connection that carries bytes to a server. */
export interface Relayed {
  readonly socket: Socket;
  /** the proxy's end towards the server, as Envoy writes addresses */
  readonly local: string;
}

export interface RelayContext {
  /** the proxy's `/listeners?format=json`; undefined: there is none */
  readonly listeners: () => Promise<string> | undefined;
  /** see `relayName` */
  readonly secret: string;
}

/** Opens connections through relays. */
export class Relays {
  #port: Promise<number | undefined> | undefined;
  /** who waits for the end of a handshake, by the port of the connection's own end */
  readonly #waiting = new Map<number, (local: string) => void>();

  constructor(private readonly context: RelayContext) {}

  /** The proxy's listeners may have changed. */
  renew(): void {
    this.#port = undefined;
  }

  /** The proxy has told of a connection. */
  reported({ port, local, connected }: RelayReport): void {
    if (connected) this.#waiting.get(port)?.(local);
  }

  async #findPort(): Promise<number | undefined> {
    const text = await this.context.listeners()?.catch(() => undefined);
    if (text === undefined) return undefined;
    const found = asObjects((JSON.parse(text) as JsonObject).listener_statuses).find((l) => l.name === RELAY_LISTENER);
    const port = asObject(asObject(found?.local_address)?.socket_address)?.port_value;
    return typeof port === 'number' ? port : undefined;
  }

  /**
   * Opens a connection to a server.
   * @param relay see `relayId`
   * @returns undefined when there is none: nobody answers, the handshake fails, or the server ends it at once
   */
  async open(to: Address, relay: string): Promise<Relayed | undefined> {
    this.#port ??= this.#findPort();
    const port = await this.#port;
    if (port === undefined) {
      this.#port = undefined;
      return undefined;
    }
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    const ended = new Promise<undefined>((resolve) => {
      // no server speaks first
      for (const event of ['error', 'close', 'end', 'data']) socket.once(event, () => resolve(undefined));
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), OPEN_TIMEOUT_MS);
    });
    const connected = new Promise<number>((resolve) => socket.once('connect', () => resolve(socket.localPort ?? 0)));
    const own = await Promise.race([connected, ended, late]);
    const local = own ? await Promise.race([this.#handshake(socket, own, to, relay), ended, late]) : undefined;
    clearTimeout(timer);
    if (own) this.#waiting.delete(own);
    else this.renew();
    if (local !== undefined && !socket.destroyed) {
      for (const event of ['close', 'end', 'data']) socket.removeAllListeners(event);
      return { socket, local };
    }
    socket.destroy();
    return undefined;
  }

  async #handshake(socket: Socket, own: number, to: Address, relay: string): Promise<string> {
    const begun = performance.now();
    const [key = '', sni = '', san = ''] = relay.split('/');
    const told = [
      [RELAY_TLV.relay, relayName(key, this.context.secret)],
      [RELAY_TLV.sni, sni],
      [RELAY_TLV.san, san],
    ] as const;
    const local = await new Promise<string>((resolve) => {
      this.#waiting.set(own, resolve);
      const from = { address: isIPv6(to.address) ? '::1' : '127.0.0.1', port: own };
      const values = told.flatMap(([type, text]) => (text ? [[type, Buffer.from(text)] as const] : []));
      socket.write(proxyHeader(from, to, values));
    });
    await sleep(Math.max(SETTLE_MS, SETTLE_HANDSHAKES * (performance.now() - begun)));
    return local;
  }
}

/** When connections to a server that could not be opened, or ended unused, are tried again: ever less often. */
export class RelayPauses {
  #pauseMs = FIRST_PAUSE_MS;
  #until = 0;

  /** A connection could not be opened, or ended before anything was sent. */
  failed(): void {
    const now = performance.now();
    if (now < this.#until) return; // one of several at a time
    this.#until = now + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }

  /** An answer came. */
  used(): void {
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  paused(): boolean {
    return performance.now() < this.#until;
  }
}
