/**
 * Load that notices everything: `node load-client.ts ADDRESS PORT CONNECTIONS PATH` sends one request after the other on
 * each connection, every one with its own token, and checks that the answer is its own. A connection that ends is made
 * anew after 2 ms. Prints `loading` after the first answer; a line on standard input ends it, and it prints a
 * `LoadReport` as JSON.
 */
import { createConnection } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import { ByteQueue, readAnswer } from '../../src/lab/wire.js';
import type { OddEcho } from './odd-server.js';

export interface LoadFailure {
  /** milliseconds since the start */
  readonly at: number;
  /** `connect`: no connection; `answer`: the request was sent and no whole answer came; `wrong`: not the right answer */
  readonly phase: 'connect' | 'answer' | 'wrong';
  /** errno, `closed` (an orderly end), or what was wrong */
  readonly why: string;
  /** bytes of the answer that had come */
  readonly received: number;
}

export interface LoadReport {
  readonly answers: number;
  readonly failures: readonly LoadFailure[];
  /** `SERVER/GEN` of the answers -> how often */
  readonly variants: Readonly<Record<string, number>>;
  /** the longest time in which no request was answered, milliseconds */
  readonly longestGapMs: number;
  /** when the first answer came after the last failure, milliseconds since the start; undefined without a failure */
  readonly recoveredAt?: number;
}

const [address = '', port = '', connections = '1', path = '/echo'] = process.argv.slice(2);
const start = process.hrtime.bigint();
const now = (): number => Number((process.hrtime.bigint() - start) / 1_000_000n);
const failures: LoadFailure[] = [];
const variants: Record<string, number> = {};
let answers = 0;
let last = 0;
let longestGapMs = 0;
let recoveredAt: number | undefined;
let stopping = false;
let token = 0;

function fail(phase: LoadFailure['phase'], why: string, received = 0): void {
  failures.push({ at: now(), phase, why, received });
  recoveredAt = undefined;
}

function success(echo: OddEcho): void {
  const variant = `${echo.server}/${echo.gen}`;
  variants[variant] = (variants[variant] ?? 0) + 1;
  if (answers++ === 0) console.log('loading');
  else longestGapMs = Math.max(longestGapMs, now() - last);
  last = now();
  if (failures.length) recoveredAt ??= last;
}

async function connection(): Promise<void> {
  const socket = createConnection({ host: address, port: Number(port), noDelay: true });
  const queue = new ByteQueue();
  let orderly = false;
  let received = 0;
  socket.on('data', (d) => {
    received += d.length;
    queue.push(d);
  });
  socket.on('end', () => {
    orderly = true;
    queue.end('end');
  });
  socket.on('error', (e) => queue.end(e));
  try {
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  } catch (error) {
    fail('connect', (error as NodeJS.ErrnoException).code ?? String(error));
    socket.destroy();
    return;
  }
  try {
    // between requests the connection may end in order: that is no failure
    while (!stopping && !orderly) {
      const mine = `t${++token}`;
      received = 0;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: load.test\r\nx-token: ${mine}\r\n\r\n`);
      const answer = await readAnswer(queue, 'GET');
      const text = answer.body.toString();
      const echo = answer.status === 200 ? (JSON.parse(text) as OddEcho) : undefined;
      if (!echo || echo.token !== mine) return fail('wrong', `${answer.status} ${text.slice(0, 200)}`);
      success(echo);
      if (answer.headers.some(([n, v]) => /^connection$/i.test(n) && /close/i.test(v))) return;
    }
  } catch (error) {
    fail('answer', orderly ? 'closed' : ((error as NodeJS.ErrnoException).code ?? String(error)), received);
  } finally {
    socket.destroy();
  }
}

async function worker(): Promise<void> {
  while (!stopping) {
    await connection();
    await sleep(2);
  }
}

process.stdin.once('data', () => {
  stopping = true;
  // nothing may hide behind the last answer
  longestGapMs = Math.max(longestGapMs, now() - last);
});
await Promise.all(Array.from({ length: Number(connections) }, worker));
const report: LoadReport = { answers, failures, variants, longestGapMs, ...(recoveredAt ? { recoveredAt } : {}) };
console.log(JSON.stringify(report));
process.exit(0);
