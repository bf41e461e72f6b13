/**
 * Dummy sockets: loopback connections of the agent to itself, one for each pooled connection to a server where there is
 * listener intake, or where heads of answers grow. The kernel sends a request whose head changes its length, or an answer
 * whose head grows, through the dummy of its connection, because only programs on sending sockets may do that
 * (bpf/intake-listener.h, answer-dummy.h). Nothing ever arrives at the other end, unless the kernel could not send
 * something on: then the pair is given up.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer, socketError } from '../kernel/syscalls.js';

/** Room for the largest body that the kernel sends. */
const SEND_BUFFER = 4 * 1024 * 1024;
const UNCLAIMED_MS = 1000;

export interface Dummy {
  /** the sending end */
  readonly fd: number;
  /** it cannot be used any more: what was on its way through it is lost */
  readonly broken: boolean;
  /** Looks whether it is: what could not be sent is an error that is pending. Tells it as anything else that breaks it. */
  look(): void;
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
    // The sending end is not read: a socket in a map does not say its error to who reads, but goes on waking him.
    const { socket, peer } = await this.pair(true);
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
    for (const event of ['end', 'error', 'close']) socket.on(event, fail);
    for (const event of ['data', 'end', 'error', 'close']) peer.on(event, fail);
    const look = (): void => {
      if (!told && socketError(fd) !== 0) fail();
    };
    const close = (): void => {
      told = true;
      socket.destroy();
      peer.destroy();
    };
    return {
      fd,
      close,
      look,
      get broken() {
        return told;
      },
    };
  }

  /** A connection of the agent to itself. @param unread the connecting end is never read */
  async pair(unread = false): Promise<{ socket: Socket; peer: Socket }> {
    const port = await this.#listening;
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true });
      if (unread) socket.pause();
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
