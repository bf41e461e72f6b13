/**
 * A client that sends the bytes it is told and reports the bytes it gets. Runs as a process of its own, so that it can
 * be started inside or outside the mesh: JSON lines on standard input (`Job`), JSON lines on standard output
 * (`JobResult`), any number of jobs at a time.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as tlsConnect } from 'node:tls';
import { sleep } from './processes.js';
import { type Answer, ByteQueue, headerValues, readAnswer } from './wire.js';

export interface Exchange {
  /** bytes to send, base64, in pieces with a pause (5 ms) between them */
  readonly pieces: readonly string[];
  /** methods of the requests that the pieces hold: one answer is read for each */
  readonly methods: readonly string[];
  /** after the answers, read this many bytes as they come (a protocol switched to) */
  readonly rawBytes?: number;
  /** wait so long before it; a connection that is closed meanwhile ends the job */
  readonly pauseMs?: number;
  /** instead of reading answers, leave: in order (`fin`) or with a reset, after `abandonAfterMs` */
  readonly abandon?: 'fin' | 'reset';
  readonly abandonAfterMs?: number;
}

/** How a client speaks TLS. */
export interface ClientTls {
  /** the name that it asks for */
  readonly name?: string;
  /** files of the client's own certificate */
  readonly cert?: string;
  readonly key?: string;
  /** protocols that it offers (ALPN) */
  readonly protocols?: readonly string[];
}

/** Exchanges on one new connection, one after the other. */
export interface Job {
  readonly id: number;
  readonly address: string;
  readonly port: number;
  readonly exchanges: readonly Exchange[];
  /** the client's own address, if it matters */
  readonly from?: string;
  /** speak TLS, and believe whoever answers */
  readonly tls?: ClientTls;
  /** for the whole job, milliseconds (default 10 s) */
  readonly timeoutMs?: number;
}

/** An `Answer` that survives JSON. */
export type WireAnswer = Omit<Answer, 'body'> & { readonly body: string };

export interface JobResult {
  readonly id: number;
  /** base64 bodies; fewer than asked for if the connection ended */
  readonly answers: readonly WireAnswer[];
  /** base64 of what `rawBytes` asked for */
  readonly raw?: string;
  /** why not all answers came: an errno, `closed`, `timeout` or a parser's words */
  readonly error?: string;
  /** an answer said `Connection: close`: later exchanges were not sent */
  readonly announcedClose: boolean;
  /** address and port of the peer as the client's socket sees it */
  readonly peer: string;
  /** microseconds from the first byte sent to the last answer read, or to the error */
  readonly micros: number;
}

/** Carries out one job. Never throws: what goes wrong is in the result. */
async function runJob(job: Job): Promise<JobResult> {
  const queue = new ByteQueue();
  const plain = connect({
    port: job.port,
    host: job.address,
    noDelay: true,
    ...(job.from === undefined ? {} : { localAddress: job.from }),
  });
  const socket = job.tls ? protect(plain, job.tls) : plain;
  let closed = false;
  let announcedClose = false;
  let timedOut = false;
  let peer = '';
  socket.on('data', (d) => queue.push(d));
  socket.on('end', () => {
    closed = true;
    queue.end('end');
  });
  socket.on('error', (e) => queue.end(e));
  const timer = setTimeout(() => {
    timedOut = true;
    queue.end(new Error('timeout'));
    socket.destroy();
  }, job.timeoutMs ?? 10_000);
  const answers: WireAnswer[] = [];
  let raw: string | undefined;
  let error: string | undefined;
  const start = process.hrtime.bigint();
  let micros = 0;
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once(job.tls ? 'secureConnect' : 'connect', resolve);
      socket.once('error', reject);
      // when the time is over before there is a connection
      socket.once('close', () => reject(new Error('never connected')));
    });
    peer = `${socket.remoteAddress}:${socket.remotePort}`;
    for (const exchange of job.exchanges) {
      if (announcedClose) break;
      if (exchange.pauseMs) {
        await sleep(exchange.pauseMs);
        if (closed) throw new Error('closed');
      }
      for (const [i, piece] of exchange.pieces.entries()) {
        if (i > 0) await sleep(5);
        socket.write(Buffer.from(piece, 'base64'));
      }
      if (exchange.abandon) {
        await sleep(exchange.abandonAfterMs ?? 0);
        if (exchange.abandon === 'reset') socket.resetAndDestroy();
        else socket.destroy();
        break;
      }
      for (const method of exchange.methods) {
        const answer = await readAnswer(queue, method);
        answers.push({ ...answer, body: answer.body.toString('base64') });
        announcedClose = /\bclose\b/i.test(headerValues(answer.headers, 'connection').join());
        if (announcedClose) break;
      }
      if (exchange.rawBytes) raw = (await queue.bytes(exchange.rawBytes)).toString('base64');
    }
    micros = Number((process.hrtime.bigint() - start) / 1000n);
  } catch (e) {
    const known = e as NodeJS.ErrnoException;
    micros = Number((process.hrtime.bigint() - start) / 1000n);
    error = timedOut ? 'timeout' : closed ? 'closed' : (known.code ?? known.message);
  }
  clearTimeout(timer);
  socket.destroy();
  return {
    id: job.id,
    answers,
    announcedClose,
    peer,
    micros,
    ...(raw === undefined ? {} : { raw }),
    ...(error === undefined ? {} : { error }),
  };
}

function protect(socket: Socket, { name, cert, key, protocols }: ClientTls): Socket {
  return tlsConnect({
    ...{ socket, rejectUnauthorized: false },
    ...(name ? { servername: name } : {}),
    ...(cert && key ? { cert: readFileSync(cert), key: readFileSync(key) } : {}),
    ...(protocols ? { ALPNProtocols: [...protocols] } : {}),
  });
}

if (process.argv[1]?.includes('raw-client')) {
  console.log('"raw-client"');
  createInterface({ input: process.stdin }).on('line', (line) => {
    void runJob(JSON.parse(line) as Job).then((result) => console.log(JSON.stringify(result)));
  });
}
