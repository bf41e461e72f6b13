/** Answers that the agent gives itself on streams, in Envoy's words and form (Utility::sendLocalReply). */

import type { AnswerProgram } from '../../compile/answer-edits.js';
import { H2_STREAM } from '../../layout/streams.js';
import { type ExchangeEdits, editAnswer, editLocalReply } from '../answer-programs.js';
import { parseHead } from '../http-framing.js';
import { decodeBlock, encodeBlock, type Field } from './block.js';
import { FLAG, FRAME, type Frame, made } from './frames.js';

export interface LocalReply {
  readonly status: number;
  /** gRPC's status; absent: the one that stands for `status` */
  readonly grpc?: number;
  readonly body: string;
  /** besides; what they say of the content's length counts for nothing. Absent: text */
  readonly headers?: readonly Field[];
  /** what is said of the body's length, where it is not there */
  readonly length?: string;
}

const TEXT: readonly Field[] = [['content-type', 'text/plain']];
const GRPC: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};
const UNKNOWN = 2;

/** What a header of gRPC's can hold (PROTOCOL-HTTP2.md, "Responses"), as Envoy writes it. */
function percentEncoded(text: string): string {
  const escaped = (c: string): string => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  return text.replace(/[^ -}]|%/g, escaped);
}

/**
 * An answer of the mesh's own, in gRPC's form where the request is gRPC.
 * @param flags H2_STREAM; `body`: bytes as characters
 */
export function localReply(stream: number, flags: number, reply: LocalReply): Frame[] {
  const { status, body, headers = body === '' ? [] : TEXT } = reply;
  const own: Field[] = [
    ['date', new Date().toUTCString()],
    ['server', 'envoy'],
  ];
  const fields = headers.filter(([name]) => name !== 'content-length');
  const ends = FLAG.END_HEADERS | FLAG.END_STREAM;
  const head = (flags: number, list: readonly Field[]): Frame =>
    made(FRAME.HEADERS, flags, stream, encodeBlock([...list, ...own]));
  if (flags & H2_STREAM.GRPC) {
    const others = fields.filter(([name]) => name !== 'content-type');
    const code = others.some(([name]) => name === 'grpc-status') ? [] : [reply.grpc ?? GRPC[status] ?? UNKNOWN];
    return [
      head(ends, [
        [':status', '200'],
        ['content-type', 'application/grpc'],
        ...others,
        ...code.map((n) => ['grpc-status', String(n)] as const),
        ...(body === '' ? [] : [['grpc-message', percentEncoded(body)] as const]),
      ]),
    ];
  }
  const said = reply.length ?? (body === '' ? undefined : String(body.length));
  const length: Field[] = said === undefined ? [] : [['content-length', said]];
  const all: Field[] = [[':status', String(status)], ...length, ...fields];
  if (body === '' || flags & H2_STREAM.HEAD) return [head(ends, all)];
  return [head(FLAG.END_HEADERS, all), made(FRAME.DATA, FLAG.END_STREAM, stream, Buffer.from(body, 'latin1'))];
}

/**
 * What the kernel says that the mesh answers.
 * @param flags H2_STREAM; @param text a whole answer of HTTP/1.1
 * @returns undefined: it has no such form
 */
export function meshReply(stream: number, flags: number, text: Buffer): Frame[] | undefined {
  const at = text.indexOf('\r\n\r\n') + 4;
  const head = at < 4 ? undefined : parseHead(text.subarray(0, at));
  if (!head) return undefined;
  const status = Number(head.startLine.split(' ')[1]);
  const said = head.headers.find(([name]) => name === 'content-length')?.[1] ?? '0';
  const body = text.toString('latin1', at);
  // of a HEAD, only the length of what is not sent, which gRPC would have in a header
  const absent = (flags & H2_STREAM.HEAD) !== 0 && said !== '0';
  if (absent ? flags & H2_STREAM.GRPC : Number(said) !== body.length) return undefined;
  const reply = { status, body, headers: head.headers };
  return localReply(stream, flags, absent ? { ...reply, length: said } : reply);
}

/** The headers of an answer of the agent's own, with a route's edits. */
export function withEdits(
  status: number,
  body: string,
  program: AnswerProgram | undefined,
): { headers?: readonly Field[] } {
  return program ? { headers: editLocalReply(status, body, fixed(program)).headers } : {};
}

/** Edits of literals alone. */
const fixed = (program: AnswerProgram): ExchangeEdits => ({ program, variables: [], figure: () => 0 });

/** The block of an answer's head with a route's edits. @returns undefined: it is malformed; as it is: one of 1xx */
export function editedBlock(block: Buffer, program: AnswerProgram): Buffer | undefined {
  const fields = decodeBlock(block);
  const status = Number(fields?.find(([name]) => name === ':status')?.[1]);
  if (!fields || !(status >= 100)) return undefined;
  if (status < 200) return block;
  const plain = fields.filter(([name]) => !name.startsWith(':'));
  return encodeBlock([[':status', String(status)], ...editAnswer(plain, fixed(program))]);
}

/**
 * 503, or in gRPC's form UNAVAILABLE, when a server has not answered.
 * @param flags H2_STREAM; @param reason of the reset; @param program the route's edits
 */
export function unavailable(stream: number, flags: number, reason: string, program?: AnswerProgram): Frame[] {
  const body = `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`;
  return localReply(stream, flags, { status: 503, body, ...withEdits(503, body, program) });
}
