/** Answers that the agent gives itself on streams, as Envoy words them. */
import { H2_STREAM } from '../../layout/streams.js';
import { FLAG, FRAME, type Frame, frame } from './frames.js';

/** Literals without indexing (RFC 7541, section 6.2.2); names and values are short. */
function block(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1');
    const { length } = bytes;
    return Buffer.concat([length < 127 ? Buffer.from([length]) : Buffer.from([127, length - 127]), bytes]);
  };
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function made(type: number, flags: number, stream: number, payload: Buffer): Frame {
  return { type, flags, stream, payload, bytes: frame(type, flags, stream, payload) };
}

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
        block([[':status', '200'], ['content-type', 'application/grpc'], ...told, ...own]),
      ),
    ];
  }
  const length = ['content-length', String(body.length)] as const;
  const fields = block([[':status', String(status)], length, ['content-type', 'text/plain'], ...own]);
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
