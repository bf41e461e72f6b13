/**
 * Dummy sockets: loopback connections of the agent to itself, one for each pooled connection to a server where there is
 * listener intake. The kernel sends a request whose head changes its length through the dummy of its connection,
 * because only programs on sending sockets may do that (bpf/intake-listener.h). Nothing ever arrives at the other end,
 * unless the kernel could not send a request on: then the pair is given up.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { fdOf, setNoDelay, setSendBuffer } from '../kernel/syscalls.js';

/** Room for the largest body that the kernel sends. */
const SEND_BUFFER = 4 * 1024 * 1024;
const UNCLAIMED_MS = 1000;

export interface Dummy {
  /** the sending end */
  readonly fd: number;
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
    const port = await this.#listening;
    return new Promise((resolve, reject) => {
      let peer: Socket | undefined;
      const socket = connect({ host: '127.0.0.1', port, noDelay: true });
      const close = (): void => {
        told = true;
        socket.destroy();
        peer?.destroy();
      };
      let told = false;
      const fail = (): void => {
        if (!told) {
          told = true;
          broken();
        }
      };
      socket.once('error', reject);
      socket.once('connect', () => {
        const fd = fdOf(socket);
        const own = socket.localPort;
        if (fd === undefined || own === undefined) {
          reject(new Error('the dummy socket is closed'));
          return;
        }
        const claim = (other: Socket): void => {
          this.#expected.delete(own);
          peer = other;
          setNoDelay(fd);
          setSendBuffer(fd, SEND_BUFFER);
          for (const end of [socket, other]) for (const event of ['data', 'end', 'error', 'close']) end.on(event, fail);
          resolve({ fd, close });
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
