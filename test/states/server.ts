/**
 * The server of the state table, in the test's own process: the path `/TOKEN/POINT/EVENT` says when it ends and how. What
 * it saw of each token is kept.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import { ByteQueue, headerValues, parseHead } from '../../src/lab/wire.js';

export interface Saw {
  request: 'nothing' | 'part' | 'whole';
  connection: 'open' | 'ended';
}

const PLAIN = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood';

/** What is sent before the end, by point of the table. */
const BEFORE: Readonly<Record<string, string>> = {
  idle: PLAIN,
  behind: PLAIN,
  announced: 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood',
  before: '',
  head: 'HTTP/1.1 200 OK\r\nContent-Le',
  length: 'HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nhalf of the body is',
  chunk: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nhalf',
  chunks: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
  'close-delimited': 'HTTP/1.1 200 OK\r\n\r\nall that there is',
  body: '',
};

export class StateServer {
  readonly #server: Server;
  readonly #saw = new Map<string, Saw>();
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      this.#serve(socket).catch(() => socket.destroy());
    });
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve) => this.#server.listen(port, '127.0.0.1', () => resolve()));
  }

  /** What was seen of a token so far. */
  saw(token: string): Saw {
    return this.#saw.get(token) ?? { request: 'nothing', connection: 'open' };
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  async #serve(socket: Socket): Promise<void> {
    const queue = new ByteQueue();
    let current: Saw | undefined;
    const ended = (): void => {
      if (current) current.connection = 'ended';
      queue.end('end');
    };
    socket.on('data', (d) => queue.push(d));
    socket.on('end', () => {
      ended();
      socket.end();
    });
    socket.on('error', ended);
    while (!(await queue.atEnd())) {
      const { first, headers } = parseHead(await queue.until('\r\n\r\n'));
      const [, token = '', point = '', event = ''] = first[1].split('/');
      const saw: Saw = { request: 'part', connection: 'open' };
      current = saw;
      this.#saw.set(token, saw);
      const length = Number(headerValues(headers, 'content-length')[0] ?? 0);
      if (point === 'body') {
        await queue.bytes(Math.floor(length / 2));
        await sleep(30); // what was sent has come; the rest will not
        if (event.startsWith('answers')) socket.write(PLAIN);
        if (event !== 'answers-and-stays') return end(socket, event === 'resets' ? 'resets' : 'closes');
        continue;
      }
      await queue.bytes(length);
      saw.request = 'whole';
      if (point === 'held') {
        await sleep(150);
        if (saw.connection === 'ended') return;
        socket.write(PLAIN);
      } else if (point === 'halves') {
        const body = 'x'.repeat(3000);
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length * 2}\r\n\r\n${body}`);
        await sleep(150);
        if (saw.connection === 'ended') return;
        socket.write(body);
      } else if (point in BEFORE) {
        socket.write(BEFORE[point]!);
        if (event === 'behind' || point === 'behind') return void socket.end();
        if (point !== 'announced') await sleep(20);
        return end(socket, event);
      } else {
        socket.write(PLAIN);
      }
    }
  }
}

function end(socket: Socket, event: string): void {
  if (event === 'resets') socket.resetAndDestroy();
  else socket.end();
}
