/** Sidestep as a user runs it: through its command line only. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './paths.js';
import { freePort } from './ports.js';
import { type Lab, type LabProcess, runCommand } from './processes.js';

/** What `sidestep status --json` promises. */
export interface Status {
  readonly requests: { readonly kernel: number; readonly proxy: number; readonly agent: number };
  readonly generation: number;
  readonly rules: { readonly kernel: number; readonly proxy: number };
  readonly intake: string;
}

/** The command line `sidestep ARGS`. */
export function sidestepCommand(...args: string[]): string[] {
  return [process.execPath, join(packageRoot(), 'bin/sidestep.mjs'), ...args];
}

/** Why Sidestep cannot run here (no privilege, not built), or undefined. */
export function whyNoSidestep(): string | undefined {
  if (!existsSync(join(packageRoot(), 'bin/sidestep.mjs'))) return 'bin/sidestep.mjs is missing';
  if (process.getuid?.() !== 0) return 'needs root: eBPF programs are loaded';
  return undefined;
}

let serial = 0;

/** One `sidestep run` and the commands that belong to it. */
export class SidestepHandle {
  readonly name: string;
  readonly process: LabProcess;
  readonly #lab: Lab;

  constructor(lab: Lab, name: string, process: LabProcess) {
    this.#lab = lab;
    this.name = name;
    this.process = process;
  }

  /** Command line that runs `argv` inside the mesh. */
  execCommand(argv: readonly string[]): string[] {
    return sidestepCommand('exec', '--name', this.name, '--', ...argv);
  }

  /** Starts `argv` inside the mesh; ended with the lab. */
  start(name: string, argv: readonly string[], options: Parameters<Lab['start']>[2] = {}): LabProcess {
    return this.#lab.start(name, this.execCommand(argv), options);
  }

  /** Runs `argv` inside the mesh to its end. */
  run(argv: readonly string[], options: Parameters<typeof runCommand>[1] = {}): ReturnType<typeof runCommand> {
    return runCommand(this.execCommand(argv), options);
  }

  /**
   * What the instance counts so far.
   * @throws Error with the command's own words if it fails
   */
  async status(): Promise<Status> {
    const r = await runCommand(sidestepCommand('status', '--json', '--name', this.name), { timeoutMs: 15_000 });
    if (r.code !== 0) throw new Error(`sidestep status: ${r.stderr.trim() || r.stdout.trim()}`);
    return JSON.parse(r.stdout) as Status;
  }

  /** SIGTERM; waits until it has drained and ended. Returns its exit code (null: killed after 15 s). */
  async stop(): Promise<number | null> {
    return (await this.process.stop(15_000)).code;
  }
}

/** A name for an instance that no other test or demo of this machine uses. */
export function instanceName(prefix: string): string {
  return `${prefix}-${process.pid}-${++serial}`;
}

/**
 * `sidestep run FILES` until it says `ready`. The lab ends it, also what it leaves if it was killed.
 * @throws Error with its output if it does not become ready within 30 s
 */
export async function startSidestep(
  lab: Lab,
  files: readonly string[],
  options: { readonly name?: string; readonly args?: readonly string[] } = {},
): Promise<SidestepHandle> {
  const name = options.name ?? instanceName('lab');
  lab.onClose(`instance ${name}`, async () => {
    // after a clean end there is nothing to do; after a kill the proxy and the state file are still there
    await runCommand(sidestepCommand('off', '--name', name), { timeoutMs: 15_000 });
  });
  // every instance of a machine needs an admin address of its own
  const admin = `127.0.0.1:${await freePort()}`;
  const args = ['run', ...files, '--name', name, '--admin', admin, ...(options.args ?? [])];
  const process = lab.start(`sidestep ${name}`, sidestepCommand(...args));
  await process.waitFor(/\bready\b/, 30_000);
  return new SidestepHandle(lab, name, process);
}
