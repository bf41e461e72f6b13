/** Answers as scripts: what a server sends after the request `/NAME`, in the test's own process. */
import { createServer, type Server, type Socket } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import { chunkedBytes, formatHead, type HeaderList } from '../../src/lab/wire.js';

/** Bytes to send, a pause in milliseconds, or how the connection ends. */
type Step = string | Buffer | number | 'FIN' | 'RESET';

export interface Script {
  readonly steps: readonly Step[];
  readonly method?: 'HEAD';
  /**
   * Who edits a longer head when the answer comes over a pooled connection: the kernel, the agent, or (undefined) either,
   * by how the bytes fall.
   */
  readonly by?: 'kernel' | 'agent';
  /** the same where requests are decided at the listener, if that differs */
  readonly atListener?: 'agent';
}

/** The digits over and over. */
const digits = (n: number): Buffer => Buffer.alloc(n, '0123456789');

const head = (length: number, headers: HeaderList = [], status = '200 OK'): string =>
  formatHead(`HTTP/1.1 ${status}`, [...headers, ['Content-Length', String(length)]]);
const chunkedHead = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const lines = (n: number, length: number): HeaderList =>
  Array.from({ length: n }, (_, i) => [`x-line-${i}`, 'v'.repeat(length - 13)]);
const join = (...parts: (string | Buffer)[]): Buffer => Buffer.concat(parts.map((p) => Buffer.from(p)));
const pieces = (bytes: Buffer, n: number): Step[] =>
  Array.from({ length: n }, (_, i) => [
    bytes.subarray(Math.floor((i * bytes.length) / n), Math.floor(((i + 1) * bytes.length) / n)),
    2,
  ]).flat();

export const SCRIPTS: Readonly<Record<string, Script>> = {
  small: { steps: [join(head(2), 'ok')], by: 'kernel' },
  'less-and-more': { steps: [join(head(2, [['X-Gone', 'a b']]), 'ok')], by: 'kernel' },
  empty: { steps: [head(0)], by: 'kernel' },
  'to-head': { steps: [head(100)], method: 'HEAD', by: 'kernel' },
  'to-head-chunked': { steps: [chunkedHead], method: 'HEAD', by: 'kernel' },
  'no-content': { steps: ['HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n'], by: 'kernel' },
  'no-content-with-length': { steps: [head(0, [], '204 No Content')], by: 'kernel' },
  'not-modified': { steps: [head(50, [['ETag', '"e"']], '304 Not Modified')], by: 'kernel' },
  'hop-by-hop': { steps: [join(head(2, [['Keep-Alive', 'timeout=5']]), 'ok')], by: 'kernel' },
  'not-found': { steps: [join(head(2, [], '404 Not Found'), 'no')], by: 'kernel' },
  'http-1.0': { steps: [`${head(2, [['Connection', 'keep-alive']]).replace('HTTP/1.1', 'HTTP/1.0')}ok`] },
  'body-16k': { steps: [join(head(16_000), digits(16_000))], by: 'kernel' },
  'body-60k': { steps: [join(head(60_000), digits(60_000))], by: 'kernel', atListener: 'agent' },
  'body-apart': { steps: [head(5000), 5, digits(5000)], by: 'kernel', atListener: 'agent' },
  'body-in-pieces': { steps: [head(60_000), ...pieces(digits(60_000), 12)], by: 'kernel', atListener: 'agent' },
  'body-300k': { steps: [join(head(300_000), digits(300_000))] },
  chunked: { steps: [join(chunkedHead, chunkedBytes(digits(1000), 300))], by: 'kernel' },
  'chunked-in-pieces': {
    steps: [chunkedHead, ...pieces(chunkedBytes(digits(1000), 90), 6)],
    by: 'kernel',
    atListener: 'agent',
  },
  'chunked-with-trailers': { steps: [join(chunkedHead, '4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n')], by: 'agent' },
  'chunked-trailers-behind': { steps: [join(chunkedHead, '4\r\nbody\r\n'), 5, '0\r\nx-sum: 1\r\n\r\n'] },
  // more than the kernel carries of unknown length: the agent goes on where the dummy socket has stopped
  'chunked-long': {
    steps: [join(chunkedHead, '400\r\n', digits(1024), '\r\n'), 5, chunkedBytes(digits(30_000), 4000)],
  },
  'chunked-long-at-once': {
    steps: [join(chunkedHead, '400\r\n', digits(1024), '\r\n'), chunkedBytes(digits(30_000), 4000)],
  },
  'to-the-end': { steps: [join('HTTP/1.1 200 OK\r\n\r\n', digits(3000)), 'FIN'], by: 'agent' },
  interim: { steps: ['HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 5, join(head(2), 'ok')], by: 'agent' },
  'interim-at-once': { steps: [join('HTTP/1.1 102 Processing\r\n\r\n', head(2), 'ok')], by: 'agent' },
  'head-in-halves': { steps: [head(2).slice(0, 20), 5, `${head(2).slice(20)}ok`], by: 'agent' },
  'head-in-bytes': { steps: [...[...head(2)].flatMap((c) => [c, 1]), 'ok'], by: 'agent' },
  'behind-it-the-end': { steps: [join(head(2), 'ok'), 'FIN'], by: 'kernel' },
  'behind-it-a-reset': { steps: [join(head(2), 'ok'), 5, 'RESET'], by: 'kernel' },
  'announced-end': { steps: [join(head(2, [['Connection', 'close']]), 'ok'), 'FIN'], by: 'kernel' },
  'long-and-the-end': { steps: [join(head(60_000), digits(60_000)), 'FIN'], by: 'kernel', atListener: 'agent' },
  'more-than-announced': { steps: [join(head(2), 'ok'), 5, 'and more'] },
  'a-head-of-3k': { steps: [join(head(2, lines(30, 100)), 'ok')], by: 'kernel' },
  'a-head-of-5k': { steps: [join(head(2, lines(50, 100)), 'ok')], by: 'agent' },
  'a-head-of-20k': { steps: [join(head(2, lines(40, 500)), 'ok')], by: 'agent' },
  'a-head-of-3k-and-a-body': {
    steps: [join(head(50_000, lines(30, 100)), digits(50_000))],
    by: 'kernel',
    atListener: 'agent',
  },
};

async function play(socket: Socket, script: Script): Promise<void> {
  for (const step of script.steps) {
    if (typeof step === 'number') await sleep(step);
    else if (step === 'FIN') socket.end();
    else if (step === 'RESET') socket.resetAndDestroy();
    else socket.write(step);
  }
}

/** The server of the scripts: the last part of a path is a script's name. */
export function scriptServer(): Server {
  return createServer({ noDelay: true }, (socket) => {
    let text = '';
    let last = Promise.resolve();
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const name = text.split(' ')[1]!.split('/').at(-1)!;
        text = text.slice(end + 4);
        last = last.then(() => play(socket, SCRIPTS[name] ?? SCRIPTS.small!));
      }
    });
  });
}
