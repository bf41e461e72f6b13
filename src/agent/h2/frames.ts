/** Frames of HTTP/2 (RFC 9113, section 4) as bytes. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const FRAME = {
  ...{ DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, PING: 6, GOAWAY: 7, WINDOW_UPDATE: 8, CONTINUATION: 9 },
} as const;
export const FLAG = { END_STREAM: 1, ACK: 1, END_HEADERS: 4 } as const;
export const SETTING = { HEADER_TABLE_SIZE: 1, ENABLE_PUSH: 2, INITIAL_WINDOW_SIZE: 4 } as const;
export const ERROR = { NO_ERROR: 0, INTERNAL_ERROR: 2, FLOW_CONTROL_ERROR: 3, CANCEL: 8 } as const;
/** The window that every connection and stream begins with. */
export const FIRST_WINDOW = 65535;
/** SETTINGS_HEADER_TABLE_SIZE 0: header blocks then come without a dynamic table. */
export const NO_TABLE = settings([[SETTING.HEADER_TABLE_SIZE, 0]]);

/** @param payload at most 16,384 bytes. @returns a whole frame */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
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

/** @returns what a SETTINGS frame's payload says, the last of several values; undefined when it is malformed */
export function readSettings(payload: Buffer): Map<number, number> | undefined {
  if (payload.length % 6) return undefined;
  const found = new Map<number, number>();
  for (let i = 0; i < payload.length; i += 6) found.set(payload.readUInt16BE(i), payload.readUInt32BE(i + 2));
  return found;
}

/** A frame that says a number of 32 bits: WINDOW_UPDATE, RST_STREAM. */
export function numberFrame(type: number, stream: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(value);
  return frame(type, 0, stream, payload);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
  /** the frame as it came */
  readonly bytes: Buffer;
}

/** Takes whole frames out of what arrives. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  /** @param skip bytes before the first frame: those of a preface */
  constructor(private skip = 0) {}

  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const frames: Frame[] = [];
    if (this.#rest.length < this.skip) return frames;
    this.#rest = this.#rest.subarray(this.skip);
    this.skip = 0;
    for (;;) {
      const whole = this.#rest.length < 9 ? Number.POSITIVE_INFINITY : 9 + this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < whole) return frames;
      const bytes = this.#rest.subarray(0, whole);
      this.#rest = this.#rest.subarray(whole);
      const stream = bytes.readUInt32BE(5) & 0x7fffffff;
      frames.push({ type: bytes[3]!, flags: bytes[4]!, stream, payload: bytes.subarray(9), bytes });
    }
  }
}
