import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { nodeScript, packageRoot } from './paths.js';
import type { LabProcess } from './processes.js';
import type { Job, JobResult } from './raw-client.js';

/** The command line of a `raw-client`. */
export const RAW_CLIENT: readonly string[] = nodeScript(join(packageRoot(), 'src/lab/raw-client.ts'));

/** The other end of a `raw-client` process. */
export class Driver {
  readonly #process: LabProcess;
  readonly #pending = new Map<number, (result: JobResult) => void>();
  #serial = 0;

  /** @param process started with `stdin: true` */
  constructor(process: LabProcess) {
    this.#process = process;
    createInterface({ input: process.child.stdout! }).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const result = JSON.parse(line) as JobResult;
      this.#pending.get(result.id)?.(result);
      this.#pending.delete(result.id);
    });
    void process.exited.then(() => {
      for (const [id, resolve] of this.#pending) {
        resolve({ id, answers: [], announcedClose: false, peer: '', micros: 0, error: 'the client process ended' });
      }
      this.#pending.clear();
    });
  }

  /** The same, once the process is there. */
  static async of(process: LabProcess): Promise<Driver> {
    await process.waitFor(/raw-client/);
    return new Driver(process);
  }

  /** Carries out one job in that process. */
  run(job: Omit<Job, 'id'>): Promise<JobResult> {
    const id = ++this.#serial;
    return new Promise((resolve) => {
      this.#pending.set(id, resolve);
      this.#process.child.stdin!.write(`${JSON.stringify({ ...job, id })}\n`);
    });
  }
}
