/**
 * Dummy sockets: loopback connections of the agent to itself, one for each pooled connection to a server where there is
 * listener intake, or where heads of answers grow. The kernel sends a request whose head changes its length, or an answer
 * whose head grows, through the dummy of its connection, because only programs on sending sockets may do that
 * (bpf/intake-listener.h, answer-dummy.h). Nothing ever arrives at the other end, unless the kernel could not send
 * something on: then the pair is given up.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer } from '../kernel/syscalls.js';

/** Room for the largest body that the kernel sends. */
const SEND_BUFFER = 4 * 1024 * 1024;
const UNCLAIMED_MS = 1000;

export interface Dummy {
  /** the sending end */
  readonly fd: number;
  /** it cannot be used any more: what was on its way through it is lost */
  readonly broken: boolean;
  close(): void;
}

export class Dummies {
  readonly #server: Server;
  readonly #listening: Promise<number>;
  /** who waits for the other end of a connection, by the port of its first end */
  readonly #expected = new Map<number, (peer: Socket) => void>();
  /** other ends that came before their first end was told that it is connected */
  readonly #early = new Map<number, Socket>();

  constructor() {
    this.#server = createServer((peer) => {
      const port = peer.remotePort ?? 0;
      const claim = this.#expected.get(port);
      if (claim) {
        claim(peer);
        return;
      }
      this.#early.set(port, peer);
      peer.on('error', () => undefined);
      setTimeout(() => {
        if (this.#early.get(port) !== peer) return;
        this.#early.delete(port);
        peer.destroy(); // somebody else's
      }, UNCLAIMED_MS);
    });
    this.#listening = new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () =>
        resolve((this.#server.address() as { port: number }).port),
      );
    });
    this.#listening.catch(() => undefined);
  }

  /** Opens one. @param broken called once when it cannot be used any more */
  async open(broken: () => void): Promise<Dummy> {
    const { socket, peer } = await this.pair();
    const fd = fdOf(socket);
    if (fd === undefined) throw new Error('the dummy socket is closed');
    setNoDelay(fd);
    setSendBuffer(fd, SEND_BUFFER);
    let told = false;
    const fail = (): void => {
      if (told) return;
      told = true;
      broken();
    };
    for (const end of [socket, peer]) for (const event of ['data', 'end', 'error', 'close']) end.on(event, fail);
    const close = (): void => {
      told = true;
      socket.destroy();
      peer.destroy();
    };
    return {
      fd,
      close,
      get broken() {
        return told;
      },
    };
  }

  /** A connection of the agent to itself. */
  async pair(): Promise<{ socket: Socket; peer: Socket }> {
    const port = await this.#listening;
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        const own = socket.localPort;
        if (own === undefined) {
          reject(new Error('the connection is closed'));
          return;
        }
        const claim = (peer: Socket): void => {
          this.#expected.delete(own);
          resolve({ socket, peer });
        };
        const early = this.#early.get(own);
        this.#early.delete(own);
        if (early) claim(early);
        else this.#expected.set(own, claim);
      });
    });
  }

  /** No more are opened; those that are open stay. */
  close(): void {
    this.#server.close();
  }
}
