/**
 * A client connection's bytes carried to the proxy and back, unchanged. It follows the messages only to find the
 * moments at which nothing is under way, when the connection may go back to the kernel.
 */
import { connect, isIPv6, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { localEnd } from './address.js';
import type { SessionEvent } from './breakers.js';
import { type Head, headerValues, MessageTracker, requestBody, responseBody, statusOf } from './http-framing.js';

/** Where the proxy listens: at an address, or at a Unix socket, where it is told whose connection it is, perhaps by TLS. */
export type ProxyTarget =
  | { readonly address: string; readonly port: number }
  | { readonly path: string; readonly tls: boolean };

export interface ProxySessionEvents {
  /** Bytes for the client. @returns false when it cannot take more now (call `drained` then) */
  toClient(bytes: Buffer): boolean;
  /** A request's head goes to the proxy. */
  head(head: Head): void;
  /** A request was seen completely. */
  request(): void;
  /** Every request so far is answered completely with the next `length` bytes for the client. */
  boundary(length: number): void;
  /** What becomes of the exchanges of the connection with this local end. */
  exchange(event: SessionEvent, end: string): void;
  /** The proxy has closed the connection: gracefully, or not. `idle`: nothing was under way. */
  closed(graceful: boolean, idle: boolean): void;
}

export class ProxySession {
  readonly #socket: Socket;
  readonly #requests: MessageTracker;
  readonly #responses: MessageTracker;
  /** methods of the requests that wait for their answers */
  #methods: string[] = [];
  #closed = false;
  #end = '';
  /** requests that were complete before there was a connection */
  #early = 0;
  #requestPaused: (() => void) | undefined;

  constructor(
    options: ProxyTarget & { source: string | undefined; prologue?: Buffer },
    private readonly events: ProxySessionEvents,
  ) {
    this.#requests = new MessageTracker(
      (head) => this.#requestHead(head),
      () => this.#requestEnd(),
    );
    this.#responses = new MessageTracker(
      (head) => this.#responseHead(head),
      () => this.#responseEnd(),
    );
    const socket =
      'path' in options
        ? connect({ path: options.path })
        : connect({
            host: options.address,
            port: options.port,
            noDelay: true,
            // Always bound: so it is told from a pooled connection (bpf/proxy-end.h). A proxy of the other address family
            // cannot be told where the client is.
            localAddress:
              options.source && isIPv6(options.source) === isIPv6(options.address)
                ? options.source
                : isIPv6(options.address)
                  ? '::'
                  : '0.0.0.0',
          });
    if (options.prologue) socket.write(options.prologue);
    this.#socket = 'path' in options && options.tls ? protect(socket) : socket;
    socket.once('connect', () => {
      this.#end = localEnd(socket);
      if (this.#closed) return;
      this.events.exchange('opened', this.#end);
      for (; this.#early > 0; this.#early--) this.events.exchange('sent', this.#end);
    });
    this.#socket.once('close', () => this.events.exchange('closed', this.#end));
    this.#socket.on('data', (bytes: Buffer) => {
      this.#responses.feed(bytes);
      // Told before the bytes go out: the client's next request may follow them at once.
      if (this.#atBoundary()) this.events.boundary(bytes.length);
      if (!this.events.toClient(bytes)) this.#socket.pause();
    });
    this.#socket.on('drain', () => {
      const resume = this.#requestPaused;
      this.#requestPaused = undefined;
      resume?.();
    });
    this.#socket.on('end', () => this.#close(true));
    this.#socket.on('error', () => this.#close(false));
    this.#socket.on('close', () => this.#close(true));
  }

  /** True when the connection is carried blindly from now on (upgrades, CONNECT, what could not be followed). */
  get opaque(): boolean {
    return this.#requests.opaque || this.#responses.opaque;
  }

  /** True while a request or its answer is under way. */
  get busy(): boolean {
    return !this.#atBoundary();
  }

  /** Bytes from the client. `resume` is called when the proxy can take more, if it cannot now. @returns whether it can */
  send(bytes: Buffer, resume: () => void): boolean {
    const room = this.#socket.write(bytes);
    this.#requests.feed(bytes);
    if (!room) this.#requestPaused = resume;
    return room;
  }

  /** The client can take bytes again. */
  drained(): void {
    this.#socket.resume();
  }

  /** The client has ended its side. */
  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#closed = true;
    this.events.exchange('closed', this.#end);
    this.#end = '';
    this.#socket.destroy();
  }

  #atBoundary(): boolean {
    return !this.opaque && this.#methods.length === 0 && this.#requests.idle && this.#responses.idle;
  }

  #requestHead(head: Head): ReturnType<typeof requestBody> {
    this.events.head(head);
    const body = requestBody(head);
    if (!body) {
      if (/ HTTP\/1\.0$/.test(head.startLine)) this.#requestEnd();
      else this.events.request();
      return undefined;
    }
    this.#methods.push(head.startLine.split(' ')[0]!);
    return body;
  }

  #requestEnd(): void {
    this.events.request();
    if (this.#end === '') this.#early++;
    else this.events.exchange('sent', this.#end);
  }

  #responseHead(head: Head): ReturnType<typeof responseBody> {
    const body = responseBody(head, this.#methods[0] ?? '');
    if (!body || headerValues(head, 'connection').some((value) => /\bclose\b/i.test(value))) return undefined;
    if (statusOf(head) >= 200) this.#finalHead = true;
    return body;
  }

  #finalHead = false;

  #responseEnd(): void {
    if (this.#finalHead) {
      this.#methods.shift();
      this.events.exchange('answered', this.#end);
    }
    this.#finalHead = false;
  }

  #close(graceful: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.events.closed(graceful, this.#atBoundary());
  }
}

/** TLS to a copy of a chain that has it. There is nothing to prove: the socket is one that only root may open. */
function protect(socket: Socket): Socket {
  socket.on('error', () => undefined); // said by what is around it
  const ciphers = 'DEFAULT@SECLEVEL=0'; // whatever keys the certificate has
  return tlsConnect({ socket, ciphers, rejectUnauthorized: false });
}
