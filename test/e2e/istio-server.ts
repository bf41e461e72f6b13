/**
 * An upstream that tells what it was asked: `node istio-server.ts NAME=ADDRESS:PORT…`; prints `listening`.
 *
 * /fail/STATUS/N/KEY   answers STATUS to the first N requests with this key, then 200
 * /reset/N/KEY         resets the connections of the first N requests with this key, then answers 200
 * /slow/MS/N/KEY       answers the first N requests with this key after MS milliseconds, then at once
 * /tries/KEY           how many requests with this key have come, as JSON
 * /tried/KEY           which of the servers of the process they have come to
 * /sleep/MS            answers after MS milliseconds
 *
 * Everything else is answered at once: with JSON that says what was received (`Received`). The paths count anywhere in
 * the target, so that policies may put prefixes before them.
 */
import { createServer } from 'node:http';
import { sleep } from '../../src/lab/processes.js';

export interface Received {
  readonly server: string;
  readonly method: string;
  readonly target: string;
  /** x-token, for the load client */
  readonly token?: string;
  /** raw, in order */
  readonly headers: readonly (readonly [string, string])[];
}

/** One process may be several servers; the counts are shared. */
const tries = new Map<string, number>();
const places = new Map<string, string[]>();

async function serve(name: string, address: string, port: number): Promise<void> {
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const target = request.url ?? '';
    const headers: [string, string][] = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      headers.push([request.rawHeaders[i] ?? '', request.rawHeaders[i + 1] ?? '']);
    }
    const answer = (status: number, body: unknown): void => {
      const text = JSON.stringify(body);
      response.writeHead(status, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        'x-upstream': name,
        ...(target.endsWith('/peer') ? { 'x-peer': `${request.socket.remotePort}` } : {}),
      });
      response.end(text);
    };
    const token = request.headers['x-token'];
    const received: Received = {
      ...{ server: name, method: request.method ?? '', target, headers },
      ...(typeof token === 'string' ? { token } : {}),
    };
    request.on('error', () => undefined).resume();
    request.on('end', () => {
      const counted = (key: string): number => {
        const count = (tries.get(key) ?? 0) + 1;
        tries.set(key, count);
        places.set(key, [...(places.get(key) ?? []), name]);
        return count;
      };
      const reset = /\/reset\/(\d+)\/([^/?]+)/.exec(target);
      const late = /\/slow\/(\d+)\/(\d+)\/([^/?]+)/.exec(target);
      const fail = /\/fail\/(\d+)\/(\d+)\/([^/?]+)/.exec(target);
      const asked = /\/tries\/([^/?]+)/.exec(target);
      const tried = /\/tried\/([^/?]+)/.exec(target);
      const slow = /\/sleep\/(\d+)/.exec(target);
      if (fail) {
        const count = counted(fail[3] ?? '');
        answer(count <= Number(fail[2]) ? Number(fail[1]) : 200, { ...received, count });
      } else if (reset) {
        if (counted(reset[2] ?? '') <= Number(reset[1])) request.socket.resetAndDestroy();
        else answer(200, received);
      } else if (late) {
        const wait = counted(late[3] ?? '') <= Number(late[2]) ? Number(late[1]) : 0;
        void sleep(wait).then(() => answer(200, received));
      } else if (asked) answer(200, tries.get(asked[1] ?? '') ?? 0);
      else if (tried) answer(200, places.get(tried[1] ?? '') ?? []);
      else void sleep(Number(slow?.[1] ?? 0)).then(() => answer(200, received));
    });
  });
  await new Promise<void>((resolve) => server.listen({ host: address, port, backlog: 1024 }, resolve));
}

if (process.argv[1]?.includes('istio-server')) {
  await Promise.all(
    process.argv.slice(2).map((spec) => {
      const match = /^([^=]+)=(.+):(\d+)$/.exec(spec);
      if (!match) throw new Error(`not NAME=ADDRESS:PORT: ${spec}`);
      return serve(match[1]!, match[2]!, Number(match[3]));
    }),
  );
  console.log('listening');
}
