/**
 * A lab: a temporary directory and the processes that one demo, benchmark or test starts. Closing it ends all of them,
 * whatever went wrong before; a crash of this process ends them too.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const OUTPUT_LIMIT = 256 * 1024;

export interface SpawnOptions {
  readonly cwd?: string;
  /** added to this process's environment */
  readonly env?: Readonly<Record<string, string>>;
  /** keep standard input open for `child.stdin` */
  readonly stdin?: boolean;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Process groups that must not survive this process. */
const alive = new Set<LabProcess>();
process.on('exit', () => {
  for (const p of alive) p.signal('SIGKILL');
});

/** One process, leader of its own group, so that what it starts is ended with it. */
export class LabProcess {
  readonly name: string;
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  #out = '';
  #exit: Exit | undefined;
  readonly #watchers = new Set<() => void>();

  constructor(name: string, argv: readonly string[], options: SpawnOptions = {}) {
    this.name = name;
    const [command, ...args] = argv;
    this.child = spawn(command!, args, {
      detached: true,
      stdio: [options.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.cwd ? { cwd: options.cwd } : {}),
    });
    alive.add(this);
    const append = (text: string): void => {
      this.#out = (this.#out + text).slice(-OUTPUT_LIMIT);
      for (const w of this.#watchers) w();
    };
    this.child.stdout!.setEncoding('utf8').on('data', append);
    this.child.stderr!.setEncoding('utf8').on('data', append);
    this.exited = new Promise((resolve) => {
      const finish = (exit: Exit): void => {
        this.#exit = exit;
        alive.delete(this);
        for (const w of this.#watchers) w();
        resolve(exit);
      };
      this.child.on('error', (error) => {
        append(`${error.message}\n`);
        finish({ code: 127, signal: null });
      });
      this.child.on('exit', (code, signal) => finish({ code, signal }));
    });
  }

  /** Process id; 0 if it could not be started. */
  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** How it ended; undefined while it runs. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** The last 256 KiB of standard output and standard error together. */
  get output(): string {
    return this.#out;
  }

  /** Signals the whole process group; a group that is gone is not an error. */
  signal(signal: NodeJS.Signals): void {
    if (!this.child.pid) return;
    try {
      process.kill(-this.child.pid, signal);
    } catch {
      // the group is gone
    }
  }

  /**
   * Waits until the output matches.
   * @throws Error with the last output if the process ends or `timeoutMs` pass first
   */
  waitFor(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpMatchArray> {
    return new Promise((resolve, reject) => {
      const done = (act: () => void): void => {
        clearTimeout(timer);
        this.#watchers.delete(check);
        act();
      };
      const fail = (why: string): void =>
        done(() => reject(new Error(`${this.name} ${why}; its last output:\n${this.#out.slice(-4000)}`)));
      const check = (): void => {
        const match = this.#out.match(pattern);
        if (match) done(() => resolve(match));
        else if (this.#exit) fail(`ended (${this.#exit.signal ?? this.#exit.code}) before it printed ${pattern}`);
      };
      const timer = setTimeout(() => fail(`did not print ${pattern} within ${timeoutMs} ms`), timeoutMs);
      this.#watchers.add(check);
      check();
    });
  }

  /** SIGTERM to the process itself, SIGKILL to its group if it still runs after `graceMs`. Returns how it ended. */
  async stop(graceMs = 5000): Promise<Exit> {
    if (!this.#exit && this.child.pid) this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), graceMs);
    const exit = await this.exited;
    clearTimeout(timer);
    // what it left behind in its group
    this.signal('SIGKILL');
    return exit;
  }
}

/** Processes and clean-up actions with one lifetime. */
export class Lab {
  readonly #cleanups: { readonly name: string; readonly act: () => Promise<unknown> | unknown }[] = [];
  /** a temporary directory, removed at the end */
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Makes a lab with its own temporary directory `sidestep-NAME-*`. */
  static async open(name: string): Promise<Lab> {
    const dir = await mkdtemp(join(tmpdir(), `sidestep-${name}-`));
    const lab = new Lab(dir);
    lab.onClose('temporary directory', () => rm(dir, { recursive: true, force: true }));
    return lab;
  }

  /** Starts `argv` (no shell); ended with the lab. */
  start(name: string, argv: readonly string[], options: SpawnOptions = {}): LabProcess {
    const p = new LabProcess(name, argv, options);
    this.onClose(name, () => p.stop());
    return p;
  }

  /** Registers something to undo; the last registered is undone first. */
  onClose(name: string, act: () => Promise<unknown> | unknown): void {
    this.#cleanups.push({ name, act });
  }

  /** Undoes everything, also when a part of it fails (which is reported on standard error). */
  async close(): Promise<void> {
    for (let c = this.#cleanups.pop(); c; c = this.#cleanups.pop()) {
      try {
        await c.act();
      } catch (error) {
        console.error(`clean-up of ${c.name}: ${(error as Error).message}`);
      }
    }
  }
}

/**
 * Runs a command to its end.
 * @returns exit status and what it printed
 */
export function runCommand(
  argv: readonly string[],
  options: { readonly timeoutMs?: number; readonly input?: string; readonly cwd?: string } = {},
): Promise<Exit & { stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const [command, ...args] = argv;
    const child = spawn(command!, args, {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.cwd ? { cwd: options.cwd } : {}),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (d) => {
      stdout += d;
    });
    child.stderr.setEncoding('utf8').on('data', (d) => {
      stderr += d;
    });
    child.stdin.on('error', () => {}).end(options.input ?? '');
    const timer = setTimeout(() => {
      stderr += `\nstopped after ${options.timeoutMs} ms`;
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    }, options.timeoutMs ?? 60_000);
    child.on('error', (error) => {
      clearTimeout(timer);
      resolve({ code: 127, signal: null, stdout, stderr: `${stderr}${error.message}` });
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Resolves after `ms` milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
