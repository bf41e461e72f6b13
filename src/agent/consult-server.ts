/**
 * The gRPC service that the proxy's ext_authz filters ask (envoy.service.auth.v3.Authorization), on a Unix socket. Calls
 * are unary, so the framing of gRPC (PROTOCOL-HTTP2) is five bytes before one message, and a status in the trailers.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Advice, Consultant, ConsultedRequest } from './consult.js';
import { decodeCheck, encodeAnswer } from './consult-messages.js';

const PREFIX = 5;
const OK = '0';
const UNAVAILABLE = '14';

function answer(stream: ServerHttp2Stream, message: Uint8Array | undefined): void {
  if (stream.destroyed) return;
  const head = { ':status': 200, 'content-type': 'application/grpc' };
  if (!message) {
    stream.respond({ ...head, 'grpc-status': UNAVAILABLE }, { endStream: true });
    return;
  }
  stream.respond(head, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': OK }));
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
}

function handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, consultant: Consultant): void {
  const chunks: Buffer[] = [];
  stream.on('error', () => undefined); // the proxy has given up: then it decides by itself
  stream.on('data', (bytes: Buffer) => chunks.push(bytes));
  stream.on('end', () => {
    let advice: Advice;
    try {
      const body = Buffer.concat(chunks);
      // one message, not compressed
      if (body.length >= PREFIX && body[0] === 0 && body.length === PREFIX + body.readUInt32BE(1)) {
        const request: ConsultedRequest = decodeCheck(body.subarray(PREFIX), headers);
        advice = consultant.ask(request);
      }
    } catch {
      advice = undefined;
    }
    answer(stream, advice && encodeAnswer(advice));
  });
}

/** Serves until it is closed. What is at `path` is replaced. Rejects when the socket cannot be made. */
export async function serveConsults(path: string, consultant: Consultant): Promise<Http2Server> {
  const server = createServer();
  server.on('stream', (stream, headers) => handle(stream, headers, consultant));
  server.on('sessionError', () => undefined);
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}
