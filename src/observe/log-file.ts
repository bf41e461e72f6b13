/** Files of access logs, which the proxy writes as well: opened for appending, whole lines at a time. */
import { closeSync, fstatSync, openSync, statSync, writeSync } from 'node:fs';

/** Looks whether the file was renamed (rotated) at most so often. */
const ROTATION_MS = 1000;

export class LogFile {
  #fd: number | undefined;
  #looked = 0;
  #lines: string[] = [];

  constructor(readonly path: string) {}

  add(line: string): void {
    this.#lines.push(line);
  }

  /** Writes what was added. @returns the number of lines that could not be written */
  flush(): number {
    const lines = this.#lines;
    if (lines.length === 0) return 0;
    this.#lines = [];
    try {
      const bytes = Buffer.from(lines.join(''), 'latin1');
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#open(), bytes, at);
      return 0;
    } catch {
      return lines.length;
    }
  }

  #open(): number {
    const now = Date.now();
    if (this.#fd !== undefined && now - this.#looked > ROTATION_MS) {
      this.#looked = now;
      const own = fstatSync(this.#fd);
      const there = statSync(this.path, { throwIfNoEntry: false });
      if (there && (there.ino !== own.ino || there.dev !== own.dev)) this.close();
    }
    this.#fd ??= openSync(this.path, 'a', 0o644);
    return this.#fd;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
