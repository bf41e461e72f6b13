/**
 * The load of the chaos run: `node client.ts ADDRESS PORT CONNECTIONS SEED`. Each connection sends requests of many
 * kinds and checks every answer to the last byte. A line on standard input ends it; it then prints a `ChaosReport`.
 *
 * An exchange ends in one of three ways: the whole right answer; one clean error (an answer of the mesh with 502, 503 or
 * 504, the connection's reset, its end before a byte of the answer, or, as Envoy does it, its end within a body whose
 * length the client knows); or it is a fault, with what was wrong: another request's bytes, a mixture of two policies, an
 * end inside a head, or nothing at all for 15 seconds.
 */
import { createHash } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import { type Answer, ByteQueue, chunkedBytes, headerValues, readAnswer } from '../../src/lab/wire.js';
import { pattern, random, type Wish, wishText } from './pattern.js';

export interface ChaosReport {
  readonly requests: number;
  readonly right: number;
  /** clean errors by what they were */
  readonly errors: Readonly<Record<string, number>>;
  readonly faults: readonly string[];
  readonly faulty: number;
  /** `x-policy` of the answers -> how often */
  readonly policies: Readonly<Record<string, number>>;
  readonly servers: Readonly<Record<string, number>>;
  /** requests whose client left before the end, on purpose */
  readonly abandoned: number;
}

const HANG_MS = 15_000;
const [address = '', port = '', connections = '1', seed = '1'] = process.argv.slice(2);
const chance = random(Number(seed));
const errors: Record<string, number> = {};
const policies: Record<string, number> = {};
const servers: Record<string, number> = {};
const faults: string[] = [];
let faulty = 0;
let requests = 0;
let right = 0;
let abandoned = 0;
let stopping = false;

const add = (to: Record<string, number>, key: string): void => {
  to[key] = (to[key] ?? 0) + 1;
};
const pick = <T>(...of: readonly T[]): T => of[Math.floor(chance() * of.length)]!;
const often = (probability: number): boolean => chance() < probability;

interface Ask {
  readonly nonce: string;
  readonly method: string;
  readonly wish: Wish;
  readonly body: Buffer;
  readonly bytes: Buffer;
}

function ask(): Ask {
  const nonce = `${seed}.${++requests}`;
  const method = pick('GET', 'GET', 'GET', 'GET', 'POST', 'PUT', 'HEAD');
  const wish: Wish = {
    size: pick(0, 1, 20, 20, 200, 200, 2000, 20_000, often(0.05) ? 2_000_000 : 300),
    chunk: often(0.15) ? pick(7, 1000, 9000) : 0,
    delay: often(0.1) ? pick(1, 5, 30) : 0,
    slow: often(0.03),
    leave: often(0.04) ? pick('close', 'cut', 'vanish') : 'no',
  };
  const size = /P/.test(method) ? pick(0, 5, 500, 5000, often(0.05) ? 1_500_000 : 50) : 0;
  const body = pattern(`body-${nonce}`, size);
  const chunked = size > 0 && size < 10_000 && often(0.1);
  const path = pick('/kernel', '/kernel', '/kernel', '/kernel', '/kernel', '/proxy');
  const head = [
    `${method} ${path}?${wishText(wish)} HTTP/1.1`,
    'Host: chaos.test',
    `x-nonce: ${nonce}`,
    ...(chunked ? ['Transfer-Encoding: chunked'] : /P/.test(method) ? [`Content-Length: ${size}`] : []),
    ...(often(0.02) ? ['x-envoy-odd: 1'] : []),
  ];
  const bytes = Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), chunked ? chunkedBytes(body, 900) : body]);
  return { nonce, method, wish, body, bytes };
}

function fault(a: Ask, why: string): void {
  faulty++;
  const wish = wishText(a.wish);
  if (faults.length < 20) faults.push(`${a.nonce} ${a.method} ${a.body.length} ${wish}: ${why}`);
}

/** What is wrong with a complete answer; undefined: nothing. */
function judge(a: Ask, answer: Answer): string | undefined {
  const value = (name: string): string => headerValues(answer.headers, name).join('+');
  if (answer.status === 502 || answer.status === 503 || answer.status === 504) {
    if (value('x-nonce')) return `an error that names ${value('x-nonce')}`;
    add(errors, String(answer.status));
    return undefined;
  }
  if (answer.status !== 200) return `status ${answer.status}`;
  if (value('x-nonce') !== a.nonce) return `the answer of ${value('x-nonce')}`;
  const received = `${a.method} ${a.body.length} ${createHash('sha1').update(a.body).digest('hex')}`;
  if (value('x-received') !== received) return `the server received ${value('x-received')}`;
  const wanted = a.method === 'HEAD' ? Buffer.alloc(0) : pattern(a.nonce, a.wish.size);
  if (!answer.body.equals(wanted)) {
    let at = 0;
    while (at < wanted.length && answer.body[at] === wanted[at]) at++;
    const found = answer.body.subarray(at, at + 40).toString('latin1');
    return `body of ${answer.body.length} bytes differs from ${wanted.length} at ${at}: ${found}`;
  }
  const [one, two] = value('x-policy').split('/');
  if (!one || one !== two) return `a mixture of policies: ${value('x-policy')}`;
  if (a.wish.leave === 'cut' && a.method !== 'HEAD' && a.wish.size > 500) return 'a whole answer that was cut';
  right++;
  add(policies, one);
  add(servers, value('x-server'));
  return undefined;
}

async function deadline<T>(work: Promise<T>): Promise<T | 'hang'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'hang'>((resolve) => {
    timer = setTimeout(() => resolve('hang'), HANG_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Sends the bytes at once or in pieces. */
async function send(socket: Socket, bytes: Buffer): Promise<void> {
  if (!often(0.04) || bytes.length > 20_000) {
    socket.write(bytes);
    return;
  }
  for (let at = 0; at < bytes.length; ) {
    const n = 1 + Math.floor(chance() * bytes.length);
    socket.write(bytes.subarray(at, at + n));
    at += n;
    await sleep(1);
  }
}

/** One connection, until one side ends it. */
async function connection(): Promise<void> {
  const socket = createConnection({ host: address, port: Number(port), noDelay: true });
  const queue = new ByteQueue();
  let seen = 0;
  let orderly = false;
  socket.on('data', (d) => {
    seen += d.length;
    queue.push(d);
  });
  socket.on('end', () => {
    orderly = true;
    queue.end('end');
  });
  socket.on('error', (e) => queue.end(e));
  const connected = await deadline(
    new Promise<string>((resolve) => {
      socket.once('connect', () => resolve('yes'));
      socket.once('error', (e: NodeJS.ErrnoException) => resolve(e.code ?? 'error'));
    }),
  );
  if (connected !== 'yes') {
    add(errors, `connect ${connected}`);
    socket.destroy();
    await sleep(20);
    return;
  }
  try {
    for (let left = 1 + Math.floor(chance() * 60); left > 0 && !stopping && !orderly; left--) {
      const asks = often(0.03) ? [ask(), ask()] : [ask()];
      await send(socket, Buffer.concat(asks.map((a) => a.bytes)));
      if (often(0.01)) {
        abandoned += asks.length;
        if (often(0.5)) await sleep(2);
        if (often(0.5)) socket.resetAndDestroy();
        return;
      }
      if (often(0.01)) socket.end(); // no more requests; the answers are still wanted
      if (often(0.01)) {
        socket.pause();
        setTimeout(() => socket.resume(), 100);
      }
      for (const a of asks) {
        seen = queue.buffered;
        let headSeen = false;
        const answer = await deadline(
          readAnswer(queue, a.method, () => {
            headSeen = true;
          }).catch((e: NodeJS.ErrnoException) => ({ broken: e.code ?? e.message })),
        );
        if (answer === 'hang') return fault(a, `nothing for ${HANG_MS} ms`);
        if ('broken' in answer) {
          if (/^E/.test(answer.broken)) add(errors, answer.broken);
          else if (orderly && seen === 0) add(errors, 'closed before the answer');
          else if (orderly && headSeen) add(errors, 'cut short');
          else fault(a, `${answer.broken}, after ${seen} bytes`);
          return;
        }
        const wrong = judge(a, answer);
        if (wrong) return fault(a, wrong);
        if (answer.framing === 'close' || /close/i.test(headerValues(answer.headers, 'connection').join())) return;
      }
      if (socket.writableEnded) return;
    }
  } finally {
    socket.destroy();
  }
}

async function worker(): Promise<void> {
  while (!stopping) await connection();
}

process.stdin.once('data', () => {
  stopping = true;
});
console.log('loading');
await Promise.all(Array.from({ length: Number(connections) }, worker));
const report: ChaosReport = { requests, right, errors, faults, faulty, policies, servers, abandoned };
console.log(JSON.stringify(report));
process.exit(0);
