/**
 * The gRPC service that the proxy's ext_authz filters ask (envoy.service.auth.v3.Authorization) and tell the headers of
 * answers (envoy.service.ext_proc.v3.ExternalProcessor), on a Unix socket. One message goes each way, so the framing of gRPC (PROTOCOL-HTTP2) is five bytes before one message, and a status in the trailers.
 */
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Advice, ConsultedRequest, Figures } from './consult.js';
import { decodeCheck, decodeProcessing, encodeAdditions, encodeAnswer } from './consult-messages.js';
import { GRPC_PREFIX, serveGrpc } from './grpc-socket.js';

/** What is said about a request; `gone` calls what it is given when nobody waits for that any more. */
export type Ask = (request: ConsultedRequest, gone: (then: () => void) => void) => Advice | Promise<Advice>;
/** How a bucket stands that an answer is to tell of. */
export type Tell = (bucket: string) => Figures;

const PROCESS = '/envoy.service.ext_proc.v3.ExternalProcessor/Process';

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
    let advice: ReturnType<Ask>;
    try {
      const body = Buffer.concat(chunks);
      // one message, not compressed
      if (body.length >= GRPC_PREFIX && body[0] === 0 && body.length === GRPC_PREFIX + body.readUInt32BE(1)) {
        const request: ConsultedRequest = decodeCheck(body.subarray(GRPC_PREFIX), headers);
        advice = ask(request, (then) => stream.once('close', then));
      }
    } catch {
      advice = undefined;
    }
    const say = (said: Advice): void => answer(stream, said && encodeAnswer(said));
    if (advice instanceof Promise) void advice.then(say);
    else say(advice);
  });
}

/** A stream of one message each way (Envoy's own end comes behind it): the headers of an answer, and what is added. */
function tellOf(stream: ServerHttp2Stream, tell: Tell): void {
  let received = Buffer.alloc(0);
  stream.on('error', () => undefined);
  stream.on('data', (bytes: Buffer) => {
    if (stream.headersSent) return;
    received = Buffer.concat([received, bytes]);
    if (received.length < GRPC_PREFIX || received.length < GRPC_PREFIX + received.readUInt32BE(1)) return;
    let figures: Figures;
    try {
      figures = tell(decodeProcessing(received.subarray(GRPC_PREFIX)));
    } catch {
      figures = undefined;
    }
    const lines = Object.entries(figures ?? {}).map(([of, value]) => [`x-ratelimit-${of}`, String(value)] as const);
    answer(stream, encodeAdditions(lines));
  });
}

/** Serves until it is closed. What is at `path` is replaced. Rejects when the socket cannot be made. */
export function serveConsults(path: string, ask: Ask, tell: Tell): Promise<Http2Server> {
  return serveGrpc(path, (stream, headers) =>
    headers[':path'] === PROCESS ? tellOf(stream, tell) : handle(stream, headers, ask),
  );
}
