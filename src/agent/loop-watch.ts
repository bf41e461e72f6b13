/** For how long an event loop could do nothing else, without the time in which the machine was busy with others. */
import { openSync, readSync } from 'node:fs';
import { closeFd } from '../kernel/syscalls.js';

const SAMPLE_MS = 2;

/** Watches this thread's loop from now on. It must be the process's first thread. */
export class LoopWatch {
  readonly #fd = openSync('/proc/self/schedstat', 'r');
  readonly #buffer = Buffer.alloc(128);
  readonly #timer: NodeJS.Timeout;
  #last = performance.now();
  #waited = this.#runDelay();
  #longest = 0;

  constructor() {
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  /** Ends it. @returns the longest time, in milliseconds */
  end(): number {
    clearInterval(this.#timer);
    this.#sample();
    closeFd(this.#fd);
    return this.#longest;
  }

  #sample(): void {
    const now = performance.now();
    const waited = this.#runDelay();
    this.#longest = Math.max(this.#longest, now - this.#last - (waited - this.#waited) - SAMPLE_MS);
    [this.#last, this.#waited] = [now, waited];
  }

  /** Milliseconds that the thread has waited for a CPU (proc(5): the second number of schedstat). */
  #runDelay(): number {
    const length = readSync(this.#fd, this.#buffer, 0, this.#buffer.length, 0);
    return Number(this.#buffer.toString('latin1', 0, length).split(' ')[1] ?? 0) / 1e6;
  }
}
