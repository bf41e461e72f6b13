/** What a client has sent and the agent has not dealt with yet; the client is not read while that is much. */
import type { Socket } from 'node:net';

/** Bytes of requests that wait in the agent at most, roughly. */
const MAX_PENDING = 128 * 1024;

export class PendingBytes {
  #pieces: Buffer[] = [];
  #length = 0;
  #held = false;

  constructor(private readonly socket: Socket) {}

  get empty(): boolean {
    return this.#length === 0;
  }

  /** The client is not read because enough of its requests wait. */
  get held(): boolean {
    return this.#held;
  }

  add(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }

  /** Stops reading when much waits. */
  limit(): void {
    if (this.#held || this.#length <= MAX_PENDING) return;
    this.#held = true;
    this.socket.pause();
  }

  /** Everything that waits. */
  peek(): Buffer {
    if (this.#pieces.length !== 1) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]!;
  }

  /** Puts a header line behind the first line of what waits. */
  insertLine(line: string): void {
    const bytes = this.peek();
    const at = bytes.indexOf('\r\n') + 2;
    this.#pieces = [Buffer.concat([bytes.subarray(0, at), Buffer.from(line, 'latin1'), bytes.subarray(at)])];
    this.#length += line.length;
  }

  /** Takes everything that waits. */
  takeAll(): Buffer {
    const bytes = this.peek();
    this.clear();
    this.#release();
    return bytes;
  }

  /** Takes at most `length` bytes; undefined when there are none. */
  take(length: number): Buffer | undefined {
    const bytes = this.#pieces.shift();
    this.#release();
    if (!bytes) return undefined;
    const piece = bytes.subarray(0, length);
    if (piece.length < bytes.length) this.#pieces.unshift(bytes.subarray(piece.length));
    this.#length -= piece.length;
    return piece;
  }

  /** Drops what waits. */
  clear(): void {
    this.#pieces = [];
    this.#length = 0;
  }

  /** Reads on, where it was stopped because much was pending. */
  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.socket.resume();
  }
}
