/** Makes gRPC calls over plain-text HTTP/2: `grpc-client.ts CALLS`, a JSON array; prints what came back, a JSON array. */
import { connect } from 'node:http2';

export interface Call {
  readonly address: string;
  readonly port: number;
  /** the name that is asked for */
  readonly host: string;
  /** `/service/method` */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a caller sees; trailers and headers alike. */
export interface Called {
  readonly status: number;
  readonly grpcStatus: string;
  /** what the server tells of the call */
  readonly body: string;
  readonly answered: string;
}

/** One call on a connection of its own, with an empty message. */
export function call({ address, port, host, path, headers }: Call): Promise<Called> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${address}:${port}`);
    session.on('error', reject);
    const stream = session.request({
      ...{ ':method': 'POST', ':path': path, ':authority': host, 'content-type': 'application/grpc', te: 'trailers' },
      ...headers,
    });
    let found: Record<string, unknown> = {};
    let body = '';
    stream.on('response', (received) => {
      found = { ...found, ...received };
    });
    stream.on('trailers', (received) => {
      found = { ...found, ...received };
    });
    stream.on('data', (piece: Buffer) => {
      body += piece.subarray(5).toString();
    });
    stream.on('error', reject);
    stream.on('close', () => {
      session.close();
      const text = (name: string) => String(found[name] ?? '');
      resolve({
        status: Number(found[':status']),
        grpcStatus: text('grpc-status'),
        body,
        answered: text('x-answered'),
      });
    });
    stream.end(Buffer.alloc(5));
  });
}

if (process.argv[2]) {
  const calls = JSON.parse(process.argv[2]) as Call[];
  const results: Called[] = [];
  for (const one of calls) results.push(await call(one));
  console.log(JSON.stringify(results));
}
