/** Frames of HTTP/2 (RFC 9113, section 4) as bytes. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const FRAME = {
  ...{
    DATA: 0,
    HEADERS: 1,
    PRIORITY: 2,
    RST_STREAM: 3,
    SETTINGS: 4,
    PING: 6,
    GOAWAY: 7,
    WINDOW_UPDATE: 8,
    CONTINUATION: 9,
  },
} as const;
export const FLAG = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const;
export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
} as const;
export const ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
} as const;
/** The window that every connection and stream begins with. */
export const FIRST_WINDOW = 65535;
/** Streams that a client may have at once, which is what Envoy allows. */
export const MAX_STREAMS = 1024;
/** The agent's SETTINGS for clients. A table of size 0: header blocks then come without a dynamic table. */
export const OWN_SETTINGS = settings([
  [SETTING.HEADER_TABLE_SIZE, 0],
  [SETTING.MAX_CONCURRENT_STREAMS, MAX_STREAMS],
]);

/** @param payload at most 16,384 bytes. @returns a whole frame */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A frame as value. @param payload at most 16,384 bytes */
export function made(type: number, flags: number, stream: number, payload: Buffer): Frame {
  return { type, flags, stream, payload, bytes: frame(type, flags, stream, payload) };
}

/** A head in as many frames as it needs. @param ends FLAG.END_STREAM or 0 */
export function headOf(stream: number, ends: number, block: Buffer): Frame {
  const pieces: Frame[] = [];
  for (let at = 0; at === 0 || at < block.length; at += MAX_PAYLOAD) {
    const last = at + MAX_PAYLOAD >= block.length ? FLAG.END_HEADERS : 0;
    const payload = block.subarray(at, at + MAX_PAYLOAD);
    pieces.push(made(at === 0 ? FRAME.HEADERS : FRAME.CONTINUATION, at === 0 ? last | ends : last, stream, payload));
  }
  return { ...pieces[0]!, bytes: Buffer.concat(pieces.map(({ bytes }) => bytes)) };
}

/** The payload of a SETTINGS frame. */
export function settings(list: Iterable<readonly [id: number, value: number]>): Buffer {
  const entries = [...list].map(([id, value]) => {
    const entry = Buffer.alloc(6);
    entry.writeUInt16BE(id);
    entry.writeUInt32BE(value, 2);
    return entry;
  });
  return Buffer.concat(entries);
}

/** @returns what a SETTINGS frame's payload says (isMalformed looks at its size), the last of several values */
export function readSettings(payload: Buffer): Map<number, number> {
  const found = new Map<number, number>();
  for (let i = 0; i < payload.length; i += 6) found.set(payload.readUInt16BE(i), payload.readUInt32BE(i + 2));
  return found;
}

/** A frame as another stream's. */
export function ofStream(f: Frame, stream: number): Frame {
  const bytes = Buffer.from(f.bytes);
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) bytes.writeUInt32BE(stream, at + 5);
  return { ...f, stream, bytes, payload: bytes.subarray(bytes.length - f.payload.length) };
}

/** A frame that says a number of 32 bits: WINDOW_UPDATE, RST_STREAM. */
export function numberFrame(type: number, stream: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(value);
  return frame(type, 0, stream, payload);
}

/** What is wrong with a peer's settings (RFC 9113, section 6.5.2): an ERROR; 0: nothing. */
export function settingsError(list: ReadonlyMap<number, number>): number {
  const push = list.get(SETTING.ENABLE_PUSH) ?? 0;
  const frame = list.get(SETTING.MAX_FRAME_SIZE) ?? MAX_PAYLOAD;
  if ((list.get(SETTING.INITIAL_WINDOW_SIZE) ?? 0) > 0x7fffffff) return ERROR.FLOW_CONTROL_ERROR;
  return push > 1 || frame < MAX_PAYLOAD || frame > 0xffffff ? ERROR.PROTOCOL_ERROR : 0;
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
  /** the frame as it came; of a head in several frames, all of them */
  readonly bytes: Buffer;
  /** its bytes have left the agent once before */
  readonly again?: true;
}

/** The largest payload that one may send to who has not said more. */
const MAX_PAYLOAD = 16384;
/** Stands for what is no frame at all. */
const NO_FRAME = -1;

/** Takes whole frames out of what arrives. What is no frame is one that isMalformed, and the last. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  #over = false;

  /** @param expected bytes before the first frame: a preface */
  constructor(private expected: Buffer = Buffer.alloc(0)) {}

  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    if (this.#over) return [];
    const n = this.expected.length;
    if (!this.#rest.subarray(0, n).equals(this.expected.subarray(0, this.#rest.length))) return [this.#end()];
    if (this.#rest.length < n) return [];
    this.#rest = this.#rest.subarray(n);
    this.expected = this.expected.subarray(0, 0);
    const frames: Frame[] = [];
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (length > MAX_PAYLOAD) return [...frames, this.#end()];
      if (this.#rest.length < 9 + length) break;
      const bytes = this.#rest.subarray(0, 9 + length);
      this.#rest = this.#rest.subarray(9 + length);
      const stream = bytes.readUInt32BE(5) & 0x7fffffff;
      frames.push({ type: bytes[3]!, flags: bytes[4]!, stream, payload: bytes.subarray(9), bytes });
    }
    return frames;
  }

  #end(): Frame {
    this.#over = true;
    const nothing = Buffer.alloc(0);
    return { type: NO_FRAME, flags: 0, stream: 0, payload: nothing, bytes: nothing };
  }
}

const SIZES: Readonly<Record<number, number>> = { [FRAME.RST_STREAM]: 4, [FRAME.PING]: 8, [FRAME.WINDOW_UPDATE]: 4 };

/** Whether a frame has not the size that its type has, or is for a stream where that cannot be, or the contrary. */
export function isMalformed({ type, stream, payload }: Frame): boolean {
  if (type === NO_FRAME) return true;
  if (SIZES[type] !== undefined && payload.length !== SIZES[type]) return true;
  if (type === FRAME.SETTINGS) return stream !== 0 || payload.length % 6 !== 0;
  if (type === FRAME.PING || type === FRAME.GOAWAY) return stream !== 0;
  const ofStream = type <= FRAME.CONTINUATION && type !== FRAME.WINDOW_UPDATE;
  return ofStream && stream === 0;
}
