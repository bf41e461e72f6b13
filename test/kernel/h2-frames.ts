/** Frames of HTTP/2 (RFC 9113) as bytes, for tests that speak it without a library. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const FRAME = { DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, PING: 6, GOAWAY: 7, WINDOW_UPDATE: 8 };
export const FLAG = { END_STREAM: 1, ACK: 1, END_HEADERS: 4 };
/** SETTINGS_HEADER_TABLE_SIZE 0 */
export const NO_TABLE = Buffer.from([0, 1, 0, 0, 0, 0]);

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Takes whole frames out of what arrives. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  /** @param skip bytes before the first frame, such as a preface */
  constructor(private skip = 0) {}

  push(chunk: Buffer): Frame[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    if (this.#rest.length < this.skip) return frames;
    this.#rest = this.#rest.subarray(this.skip);
    this.skip = 0;
    for (;;) {
      const length = this.#rest.length < 9 ? Number.POSITIVE_INFINITY : this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return frames;
      const [type, flags] = [this.#rest[3]!, this.#rest[4]!];
      const payload = this.#rest.subarray(9, 9 + length);
      frames.push({ type, flags, stream: this.#rest.readUInt32BE(5) & 0x7fffffff, payload });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}
