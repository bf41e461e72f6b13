/** Waiting until a stream can take more. */
import type { Writable } from 'node:stream';

/**
 * Resolves when a stream to which `write` has returned false can take more, or will take nothing any more: one that is
 * destroyed refuses what is written, too, and never says `drain`.
 */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (!stream.writableNeedDrain) return resolve();
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}
