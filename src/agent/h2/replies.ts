/** Answers that the agent gives itself on streams, as Envoy words them. */
import { H2_STREAM } from '../../layout/streams.js';
import { encodeBlock } from './block.js';
import { FLAG, FRAME, type Frame, made } from './frames.js';

/**
 * An answer of the mesh's own, in gRPC's form where the request is gRPC.
 * @param flags H2_STREAM; @param body less than 128 bytes long
 */
export function localReply(
  stream: number,
  flags: number,
  { status, grpc, body }: { readonly status: number; readonly grpc: number; readonly body: string },
): Frame[] {
  const own = [
    ['date', new Date().toUTCString()],
    ['server', 'envoy'],
  ] as const;
  const ends = FLAG.END_HEADERS | FLAG.END_STREAM;
  if (flags & H2_STREAM.GRPC) {
    const told = [
      ['grpc-status', String(grpc)],
      ['grpc-message', body],
    ] as const;
    return [
      made(
        FRAME.HEADERS,
        ends,
        stream,
        encodeBlock([[':status', '200'], ['content-type', 'application/grpc'], ...told, ...own]),
      ),
    ];
  }
  const length = ['content-length', String(body.length)] as const;
  const fields = encodeBlock([[':status', String(status)], length, ['content-type', 'text/plain'], ...own]);
  if (flags & H2_STREAM.HEAD) return [made(FRAME.HEADERS, ends, stream, fields)];
  return [
    made(FRAME.HEADERS, FLAG.END_HEADERS, stream, fields),
    made(FRAME.DATA, FLAG.END_STREAM, stream, Buffer.from(body)),
  ];
}

/**
 * 503, or in gRPC's form UNAVAILABLE, when a server has not answered.
 * @param flags H2_STREAM; @param reason of the reset
 */
export function unavailable(stream: number, flags: number, reason: string): Frame[] {
  const body = `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`;
  return localReply(stream, flags, { status: 503, grpc: 14, body });
}
