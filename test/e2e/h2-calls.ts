/** Requests of HTTP/2 on one connection: `h2-calls.ts URL`; a line of JSON for each, here and back. */
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { createInterface } from 'node:readline';
import type { LabProcess } from '../../src/lab/processes.js';

export interface Call {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  /** its end is never sent */
  readonly open?: boolean;
  /** bytes of its body; default: 5 */
  readonly size?: number;
  /** after so many milliseconds it is reset, or the client goes away */
  readonly resetMs?: number;
  readonly goneMs?: number;
}

/** What becomes of a call, but for what says when it was, and by whom. */
export interface Called {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: string;
  readonly reset: number;
}

const OWN = new Set(['date', 'server', 'x-envoy-upstream-service-time']);
/** The headers but for those. */
export const without = (all: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(all).filter(([name]) => !OWN.has(name)));

function call(session: ClientHttp2Session, { path, headers, open, size = 5, resetMs, goneMs }: Call): Promise<Called> {
  return new Promise((resolve) => {
    const own = {
      ':method': 'POST',
      ':path': path,
      ':authority': 'calls',
      te: 'trailers',
      'content-type': 'application/grpc',
    };
    const stream = session.request({ ...own, ...headers });
    let [answer, trailers, body]: [IncomingHttpHeaders, IncomingHttpHeaders, string] = [{}, {}, ''];
    stream.on('response', (found) => {
      answer = without(found);
    });
    stream.on('trailers', (found) => {
      trailers = without(found);
    });
    stream.on('data', (piece: Buffer) => {
      body += piece.toString('latin1');
    });
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ headers: answer, trailers, body, reset: stream.rstCode ?? 0 }));
    if (resetMs !== undefined) setTimeout(() => stream.close(8), resetMs);
    if (goneMs !== undefined) setTimeout(() => session.destroy(), goneMs);
    if (open) stream.write(Buffer.alloc(size));
    else stream.end(Buffer.alloc(size));
  });
}

/** Makes calls in a process of this program. Of those that are under way at the same time, answers come in any order. */
export async function callsOf(process: LabProcess): Promise<(call: Call) => Promise<Called>> {
  await process.waitFor(/calls:/);
  const waiting: ((called: Called) => void)[] = [];
  createInterface({ input: process.child.stdout! }).on('line', (line) => {
    if (line.startsWith('{')) waiting.shift()?.(JSON.parse(line) as Called);
  });
  return (one) =>
    new Promise((resolve, reject) => {
      waiting.push(resolve);
      void process.exited.then(() => reject(new Error(`the client ended: ${process.output}`)));
      process.child.stdin!.write(`${JSON.stringify(one)}\n`);
    });
}

if (process.argv[2]) {
  const session = connect(process.argv[2]);
  session.on('error', (error) => console.error(error));
  session.on('close', () => process.exit(1));
  console.log('calls:');
  for await (const line of createInterface({ input: process.stdin }))
    void call(session, JSON.parse(line) as Call).then((called) => console.log(JSON.stringify(called)));
}
