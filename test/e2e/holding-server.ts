/** A server in the test's own process that answers when it is told to, and knows how many wait for it. */
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export class HoldingServer {
  readonly #server: Server;
  #held: ServerResponse[] = [];
  /** most requests that were there at once, and most connections */
  peak = 0;
  peakConnections = 0;
  #connections = 0;
  /** headers of the requests, in the order in which they came */
  readonly seen: IncomingHttpHeaders[] = [];
  /** true: answers are held */
  holds = true;

  private constructor() {
    this.#server = createServer((req, res) => {
      this.seen.push(req.headers);
      req.resume();
      this.#held.push(res);
      res.on('close', () => {
        this.#held = this.#held.filter((other) => other !== res);
      });
      this.peak = Math.max(this.peak, this.#held.length);
      // a moment, so that requests meet
      if (!this.holds) setTimeout(() => this.#answer(res), 2);
    });
    this.#server.keepAliveTimeout = 0;
    this.#server.on('connection', (socket) => {
      this.peakConnections = Math.max(this.peakConnections, ++this.#connections);
      socket.on('close', () => this.#connections--);
    });
  }

  /** One that listens at 127.0.0.1. */
  static async open(): Promise<HoldingServer> {
    const made = new HoldingServer();
    await new Promise<void>((resolve) => made.#server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** How many requests are there now. */
  get active(): number {
    return this.#held.length;
  }

  #answer(res: ServerResponse): void {
    res.end('ok');
    this.#held = this.#held.filter((other) => other !== res);
  }

  /** Answers the oldest requests. */
  release(n = Number.POSITIVE_INFINITY): void {
    for (const res of this.#held.slice(0, n)) this.#answer(res);
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
