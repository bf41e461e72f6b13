/** Streams that the agent carries for a client, or of which it has carried something. */
import { H2_STREAM } from '../../layout/streams.js';
import { FLAG, FRAME, type Frame } from './frames.js';
import type { Retried } from './retry.js';
import type { Upstream } from './upstream.js';

export interface Carried {
  readonly upstream: Upstream;
  /** the kernel has begun it */
  readonly ofKernel: boolean;
  clientEnded: boolean;
  serverEnded: boolean;
  /** the head of its answer was edited; frames from the server that the agent was given */
  edited?: boolean;
  given?: number;
  /** it is tried again */
  readonly retried?: Retried;
}

/** A stream of which only what waits is still to leave. */
export const leftover = (upstream: Upstream): Carried => ({
  upstream,
  ofKernel: false,
  clientEnded: true,
  serverEnded: true,
});

/** Whether a frame is the last of its sender's on its stream. */
export const ends = (f: Frame): boolean =>
  (f.type === FRAME.DATA || f.type === FRAME.HEADERS) && (f.flags & FLAG.END_STREAM) > 0;

/** The bytes that a frame takes of windows. */
export const dataOf = (f: Frame): number => (f.type === FRAME.DATA ? f.payload.length : 0);

const BOTH_ENDED = H2_STREAM.CLIENT_ENDED | H2_STREAM.SERVER_ENDED;

/**
 * Whether both sides have ended: of what the agent carries, it has seen the end itself.
 * @param known flags of the stream in the kernel, if it has it (still)
 */
export function isOver({ ofKernel, clientEnded, serverEnded }: Carried, known: () => number | undefined): boolean {
  if (!ofKernel) return clientEnded && serverEnded;
  const flags = known() ?? BOTH_ENDED;
  const client = flags & H2_STREAM.CLIENT_HELD ? clientEnded : (flags & H2_STREAM.CLIENT_ENDED) > 0;
  const server = flags & H2_STREAM.SERVER_HELD ? serverEnded : (flags & H2_STREAM.SERVER_ENDED) > 0;
  return client && server;
}

/** Whether something of the client's has still to leave. */
export function waits(stream: number, { upstream, retried }: Carried): boolean {
  return retried ? retried.waits : upstream.waiting.has(stream);
}
