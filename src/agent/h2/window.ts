/** Frames that wait for room in a connection's window, stream by stream, so that no stream stands behind another. */
import { FRAME, type Frame } from './frames.js';

export class Waiting {
  readonly #streams = new Map<number, Frame[]>();

  /** @param take takes bytes of DATA out of the window, or says that it has less; @param sent told of each that left */
  constructor(
    private readonly take: (bytes: number) => boolean,
    private readonly sent: (frame: Frame) => void,
  ) {}

  /** Sends the frame, now or when there is room. */
  push(frame: Frame): void {
    const before = this.#streams.get(frame.stream);
    if (before) before.push(frame);
    else if (!this.#send(frame)) this.#streams.set(frame.stream, [frame]);
  }

  /** There may be room. */
  flush(): void {
    for (const [stream, frames] of this.#streams) {
      let n = 0;
      while (n < frames.length && this.#send(frames[n]!)) n++;
      frames.splice(0, n);
      if (frames.length === 0) this.#streams.delete(stream);
    }
  }

  /** Whether anything of a stream waits. */
  has(stream: number): boolean {
    return this.#streams.has(stream);
  }

  /** Forgets what waits of a stream. @returns the bytes of DATA among it */
  drop(stream: number): number {
    const frames = this.#streams.get(stream) ?? [];
    this.#streams.delete(stream);
    return frames.reduce((sum, { type, payload }) => sum + (type === FRAME.DATA ? payload.length : 0), 0);
  }

  #send(frame: Frame): boolean {
    if (frame.type === FRAME.DATA && frame.payload.length > 0 && !this.take(frame.payload.length)) return false;
    this.sent(frame);
    return true;
  }
}
