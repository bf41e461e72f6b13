/** What the programs keep of streams that may be tried again (bpf/h2-retry.h), and how the agent takes such a stream. */
import { STATUS_WORDS } from '../../layout/actions.js';
import { H2_CLAIM, H2KeptSpec } from '../../layout/streams.js';
import { get, getBig } from '../../layout/struct.js';
import { type Frame, FrameReader } from './frames.js';
import type { End, H2Plane } from './plane.js';

/** What has a stream tried again, and how. */
export interface RetryRule {
  readonly retries: (status: number) => boolean;
  /** RETRY_STREAMS, and gRPC's statuses as bits */
  readonly streams: number;
  readonly resets: boolean;
  /** retries after the first */
  readonly left: number;
  readonly backoffMs: number;
  /** which of the clusters with a weight the first try went to */
  readonly choice: number;
}

export interface Kept {
  readonly rule: RetryRule;
  /** the client's frames as they came, the head first */
  readonly frames: readonly Frame[];
}

/** @returns undefined: the stream is answered, or is never tried again */
export function keptOf(plane: H2Plane, client: End, stream: number): Kept | undefined {
  const value = plane.map('h2_kept').lookup(new Uint8Array(new Uint32Array([client.id, stream]).buffer));
  if (!value || value.length < H2KeptSpec.size) return undefined;
  const view = new DataView(value.buffer, value.byteOffset);
  const field = (name: 'streams' | 'resets' | 'left' | 'backoff_ms' | 'choice' | 'len') =>
    get(view, 0, H2KeptSpec, name);
  const words = Array.from({ length: STATUS_WORDS }, (_, i) => getBig(view, 0, H2KeptSpec, 'retry', i));
  const retries = (status: number): boolean =>
    status >= 200 && status <= 599 && ((words[(status - 200) >> 6]! >> BigInt((status - 200) & 63)) & 1n) === 1n;
  const { offset: at } = H2KeptSpec.at.bytes!;
  const frames = new FrameReader().push(Buffer.from(value.subarray(at, at + field('len'))));
  const rule = {
    retries,
    streams: field('streams'),
    resets: field('resets') !== 0,
    left: field('left'),
    backoffMs: field('backoff_ms'),
    choice: field('choice'),
  };
  return { rule, frames };
}

/**
 * Sets flags (H2_STREAM) of a stream.
 * @returns those it had, undefined: the programs know no such stream; and whether one of them may still be at a frame of it
 */
export function claim(
  plane: H2Plane,
  client: End,
  stream: number,
  flags: number,
): { readonly had: number; readonly busy: boolean } | undefined {
  const packet = Buffer.alloc(28);
  packet.writeUInt32LE(client.id, 16);
  packet.writeUInt32LE(stream, 20);
  packet.writeUInt32LE(flags, 24);
  const answer = plane.object.program('h2_claim').testRun(packet).retval >>> 0;
  if (!(answer & H2_CLAIM.FOUND)) return undefined;
  return { had: answer & ~(H2_CLAIM.FOUND | H2_CLAIM.BUSY), busy: (answer & H2_CLAIM.BUSY) !== 0 };
}
