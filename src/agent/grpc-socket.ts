/** A server for gRPC calls of the proxy's (PROTOCOL-HTTP2), on a Unix socket that only this user may open. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';

/** Bytes before each message: whether it is compressed, and its length (32 bits, network order). */
export const GRPC_PREFIX = 5;

/** Serves calls until it is closed. What is at `path` is replaced. Rejects when the socket cannot be made. */
export async function serveGrpc(
  path: string,
  call: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
): Promise<Http2Server> {
  const server = createServer();
  server.on('stream', call);
  server.on('sessionError', () => undefined);
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}
