/**
 * Upstreams that answer with exactly what they received. `node echo-server.ts NAME=PORT...` listens on 127.0.0.1;
 * prints `listening` once all do. The header `x-answer` of a request chooses the form of the answer:
 * `length` (default), `chunked`, `close` (delimited by the end of the connection), `interim` (103 first), a status
 * code (`204`, `304`, `404`, `503` ...), or `big:BYTES` (that many more bytes in the answer).
 */
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import {
  ByteQueue,
  chunkedBytes,
  formatHead,
  type HeaderList,
  headerValues,
  parseHead,
  readChunked,
} from '../../src/lab/wire.js';

/** What an upstream received, as its answer's body says. */
export interface Echo {
  readonly upstream: string;
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly headers: HeaderList;
  readonly bodyLength: number;
  readonly bodySha1: string;
  readonly chunked: boolean;
}

async function serve(socket: Socket, name: string): Promise<void> {
  const queue = new ByteQueue();
  socket.on('data', (d) => queue.push(d));
  socket.on('end', () => queue.end('end'));
  socket.on('error', (e) => queue.end(e));
  while (!(await queue.atEnd())) {
    // a ClientHello that was only to lead the connection here is skipped
    const head = await queue.until('\r\n\r\n');
    const { first, headers } = parseHead(head.startsWith('\u0016') ? head.slice(head.indexOf('GET ')) : head);
    const [method, target, version] = first;
    if (/100-continue/i.test(headerValues(headers, 'expect').join())) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    const chunked = headerValues(headers, 'transfer-encoding').length > 0;
    const body = chunked
      ? (await readChunked(queue)).body
      : await queue.bytes(Number(headerValues(headers, 'content-length')[0] ?? 0));
    const echo: Echo = {
      ...{ upstream: name, method, target, version, headers, chunked },
      bodyLength: body.length,
      bodySha1: createHash('sha1').update(body).digest('hex'),
    };
    const form = headerValues(headers, 'x-answer')[0] ?? 'length';
    const close = /close/i.test(headerValues(headers, 'connection').join());
    answer(socket, name, method, form, Buffer.from(JSON.stringify(echo)));
    if (close || form === 'close') return void socket.end();
  }
  socket.end();
}

/** The headers of every answer of the upstream of this name, besides those about its form. */
export const headersOf = (name: string): HeaderList => [
  ['Content-Type', 'application/json'],
  ['X-Upstream', name],
  ['X-Powered-By', 'an echo server that names itself at length'],
  ['Cache-Control', 'no-cache'],
  ['Vary', 'Accept'],
];

function answer(socket: Socket, name: string, method: string, form: string, echo: Buffer): void {
  const headers = headersOf(name);
  const head = method === 'HEAD';
  let body = echo;
  let status = 200;
  if (form.startsWith('big:')) body = Buffer.concat([echo, Buffer.alloc(Number(form.slice(4)), ' ')]);
  if (form === 'interim') socket.write('HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n');
  if (/^\d{3}$/.test(form)) status = Number(form);
  const bodiless = head || status === 204 || status === 304;
  // what was received must be visible even when the answer has no body
  if (bodiless) headers.push(['X-Received', echo.toString('base64')]);
  const line = `HTTP/1.1 ${status} Whatever`;
  if (form === 'chunked') {
    const bytes = bodiless ? Buffer.alloc(0) : chunkedBytes(body, 100);
    socket.write(Buffer.concat([Buffer.from(formatHead(line, [...headers, ['Transfer-Encoding', 'chunked']])), bytes]));
  } else if (form === 'close') {
    socket.write(
      Buffer.concat([
        Buffer.from(formatHead(line, [...headers, ['Connection', 'close']])),
        head ? Buffer.alloc(0) : body,
      ]),
    );
  } else {
    if (status !== 204) headers.push(['Content-Length', String(body.length)]);
    socket.write(Buffer.concat([Buffer.from(formatHead(line, headers)), bodiless ? Buffer.alloc(0) : body]));
  }
}

if (process.argv[1]?.includes('echo-server')) {
  const wanted = process.argv.slice(2).map((a) => a.split('=') as [string, string]);
  let up = 0;
  for (const [name, port] of wanted) {
    const server = createServer({ noDelay: true }, (socket) => {
      serve(socket, name).catch(() => socket.destroy());
    });
    server.listen(Number(port), '127.0.0.1', 4096, () => {
      if (++up === wanted.length) console.log('listening');
    });
  }
}
