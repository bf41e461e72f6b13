/**
 * The gRPC service that the proxy's ext_authz filters ask (envoy.service.auth.v3.Authorization), on a Unix socket. Calls
 * are unary, so the framing of gRPC (PROTOCOL-HTTP2) is five bytes before one message, and a status in the trailers.
 */
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Advice, ConsultedRequest } from './consult.js';
import { decodeCheck, encodeAnswer } from './consult-messages.js';
import { GRPC_PREFIX, serveGrpc } from './grpc-socket.js';

/** What is said about a request. */
export type Ask = (request: ConsultedRequest) => Advice;

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
  const prefix = Buffer.alloc(GRPC_PREFIX);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
}

function handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ask: Ask): void {
  const chunks: Buffer[] = [];
  stream.on('error', () => undefined); // the proxy has given up: then it decides by itself
  stream.on('data', (bytes: Buffer) => chunks.push(bytes));
  stream.on('end', () => {
    let advice: Advice;
    try {
      const body = Buffer.concat(chunks);
      // one message, not compressed
      if (body.length >= GRPC_PREFIX && body[0] === 0 && body.length === GRPC_PREFIX + body.readUInt32BE(1)) {
        const request: ConsultedRequest = decodeCheck(body.subarray(GRPC_PREFIX), headers);
        advice = ask(request);
      }
    } catch {
      advice = undefined;
    }
    answer(stream, advice && encodeAnswer(advice));
  });
}

/** Serves until it is closed. What is at `path` is replaced. Rejects when the socket cannot be made. */
export function serveConsults(path: string, ask: Ask): Promise<Http2Server> {
  return serveGrpc(path, (stream, headers) => handle(stream, headers, ask));
}
