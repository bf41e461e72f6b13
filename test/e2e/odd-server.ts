/**
 * An upstream that misbehaves on request: the path says how. `node odd-server.ts ADDRESS PORT NAME`; prints `listening`.
 * Every ordinary answer is JSON with the server's name, the request's method, path, `x-token`, `x-gen`, and the length
 * and SHA-1 of the body received.
 *
 * /echo                   answers at once
 * /hold/MS                answers after MS milliseconds
 * /vanish                 closes without an answer; /vanish-head in the middle of the head
 * /vanish-length          after half of a body of known length; /vanish-chunked inside a chunk
 * /reset                  resets the connection; /reset-body in the middle of a body
 * /close                  an answer that ends with the connection, without saying so
 * /interim                100, 102 and 103 before the answer
 * /chunks/SIZE/COUNT      a chunked answer; /trailers one with trailers
 * /dribble                an answer of 60 bytes, sent a byte at a time
 * /halves/MS              an answer whose head comes in two pieces, the second after MS ms
 * /drip/HOW/COUNT/MS      COUNT pieces of 10 bytes, each MS ms after the one before; HOW: length, chunked or close
 * /stall/HOW              half of such an answer, and nothing more for four seconds
 * /hint/MS                103 after MS ms, and the answer after twice as long; /hold-vanish/MS closes without one
 * /bytes/N                an answer of N bytes, content-length given
 * /early                  answers before the body was read, and closes
 * /garbage                something that is not HTTP
 * /raw/BASE64URL          these bytes ({N}: N times a y)
 */
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import {
  ByteQueue,
  chunkedBytes,
  formatHead,
  type HeaderList,
  headerValues,
  parseHead,
  readChunked,
} from '../../src/lab/wire.js';

/** What an ordinary answer says. */
export interface OddEcho {
  readonly server: string;
  readonly method: string;
  readonly path: string;
  readonly token: string;
  readonly gen: string;
  readonly length: number;
  readonly sha1: string;
}

/** The bytes that `/bytes/N` and `/chunks` answer with: the digits over and over. */
export function digits(n: number): Buffer {
  return Buffer.alloc(n, '0123456789');
}

async function serve(socket: Socket, server: string): Promise<void> {
  const queue = new ByteQueue();
  socket.on('data', (d) => queue.push(d));
  socket.on('end', () => queue.end('end'));
  socket.on('error', (e) => queue.end(e));
  while (!(await queue.atEnd())) {
    const { first, headers } = parseHead(await queue.until('\r\n\r\n'));
    const [method, path] = first;
    if (/websocket/i.test(headerValues(headers, 'upgrade').join())) return websocket(socket, queue);
    if (path === '/early') {
      socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n');
      await sleep(50);
      return void socket.end();
    }
    if (/100-continue/i.test(headerValues(headers, 'expect').join())) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    const chunked = headerValues(headers, 'transfer-encoding').length > 0;
    const body = chunked
      ? (await readChunked(queue)).body
      : await queue.bytes(Number(headerValues(headers, 'content-length')[0] ?? 0));
    const echo: OddEcho = {
      ...{ server, method, path },
      token: headerValues(headers, 'x-token').join(),
      gen: headerValues(headers, 'x-gen').join(),
      length: body.length,
      sha1: createHash('sha1').update(body).digest('hex'),
    };
    const close = /close/i.test(headerValues(headers, 'connection').join());
    if (!(await answer(socket, method, path, Buffer.from(JSON.stringify(echo)))) || close) return void socket.end();
  }
  socket.end();
}

/** Echoes whatever comes after the switch. */
async function websocket(socket: Socket, queue: ByteQueue): Promise<void> {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
  for (;;) socket.write(await queue.bytes(1));
}

function ordinary(body: Buffer, extra: HeaderList = []): Buffer {
  const headers: HeaderList = [['Content-Type', 'application/json'], ...extra, ['Content-Length', String(body.length)]];
  return Buffer.concat([Buffer.from(formatHead('HTTP/1.1 200 OK', headers)), body]);
}

/** Answers one request. Returns whether the connection may be used again. */
async function answer(socket: Socket, method: string, path: string, echo: Buffer): Promise<boolean> {
  const [, what = '', a = '', b = '', c = ''] = path.split('?')[0]!.split('/');
  const write = (...parts: (string | Buffer)[]): boolean =>
    socket.write(Buffer.concat(parts.map((p) => Buffer.from(p))));
  const chunkedHead = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  switch (what) {
    case 'hold':
      await sleep(Number(a));
      write(ordinary(echo));
      return true;
    case 'vanish':
      return false;
    case 'vanish-head':
      write('HTTP/1.1 200 OK\r\nContent-Le');
      return false;
    case 'vanish-length':
      write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n', digits(500));
      await sleep(20);
      return false;
    case 'vanish-chunked':
      write(chunkedHead, 'a\r\n0123456789\r\na\r\n012');
      await sleep(20);
      return false;
    case 'reset':
      socket.resetAndDestroy();
      return false;
    case 'reset-body':
      write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n', digits(500));
      await sleep(20);
      socket.resetAndDestroy();
      return false;
    case 'close':
      write('HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n', method === 'HEAD' ? '' : echo);
      return false;
    case 'interim':
      write('HTTP/1.1 102 Processing\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n');
      await sleep(5);
      write(ordinary(echo));
      return true;
    case 'chunks':
      write(chunkedHead, chunkedBytes(digits(Number(a) * Number(b)), Number(a)));
      return true;
    case 'trailers':
      write(chunkedHead, 'a;name=value\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n');
      return true;
    case 'dribble':
      for (const byte of 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789') {
        write(byte);
        await sleep(1);
      }
      return true;
    case 'drip':
    case 'stall': {
      const pieces = what === 'drip' ? Number(b) : 2;
      const framing = {
        length: `Content-Length: ${pieces * 10}\r\n`,
        chunked: 'Transfer-Encoding: chunked\r\n',
        close: '',
      };
      write(`HTTP/1.1 200 OK\r\n${framing[a as keyof typeof framing]}\r\n`);
      for (let k = 0; k < pieces; k++) {
        if (what === 'drip') await sleep(Number(c));
        else if (k > 0) await sleep(4000);
        write(a === 'chunked' ? `a\r\n${digits(10)}\r\n` : digits(10));
      }
      if (a === 'chunked') write('0\r\n\r\n');
      return a !== 'close';
    }
    case 'hint':
      await sleep(Number(a));
      write('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n');
      await sleep(Number(a));
      write(ordinary(echo));
      return true;
    case 'hold-vanish':
      await sleep(Number(a));
      return false;
    case 'halves':
      write('HTTP/1.1 200 OK\r\nContent-');
      await sleep(Number(a));
      write('Length: 10\r\n\r\n0123456789');
      return true;
    case 'bytes':
      write(`HTTP/1.1 200 OK\r\nContent-Length: ${a}\r\n\r\n`, method === 'HEAD' ? '' : digits(Number(a)));
      return true;
    case 'raw': {
      const text = Buffer.from(a, 'base64url').toString('latin1');
      write(
        Buffer.from(
          text.replace(/\{(\d+)\}/, (_, n) => 'y'.repeat(Number(n))),
          'latin1',
        ),
      );
      return true;
    }
    case 'garbage':
      write('220 mail.example ESMTP\r\n');
      await sleep(20);
      return false;
    default:
      write(method === 'HEAD' ? ordinary(echo).subarray(0, ordinary(echo).length - echo.length) : ordinary(echo));
      return true;
  }
}

if (process.argv[1]?.includes('odd-server')) {
  const [address, port, name = 'odd'] = process.argv.slice(2);
  createServer({ noDelay: true }, (socket) => {
    serve(socket, name).catch(() => socket.destroy());
  }).listen({ host: address, port: Number(port), backlog: 4096 }, () => console.log('listening'));
}
