/** Sidestep as a user runs it: through its command line (what it counts is asked of the agent itself, without a process). */
import { existsSync, readFileSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { askControl } from '../agent/control-client.js';
import { instanceFolder, readInstance } from '../kernel/instance.js';
import { packageRoot } from './paths.js';
import { freePort } from './ports.js';
import { type Lab, type LabProcess, runCommand, sleep } from './processes.js';

/** What `sidestep status --json` promises. */
export interface Status {
  readonly requests: { readonly kernel: number; readonly proxy: number; readonly agent: number };
  /** requests that went straight to the socket of a server on this node (part of `requests.kernel`) */
  readonly bypassed: number;
  /** requests of HTTP/2, where a policy has servers that speak it */
  readonly streams?: { readonly kernel: number; readonly proxy: number };
  /** connections of listeners that are about connections */
  readonly routed: { readonly kernel: number; readonly proxy: number };
  /** requests by the rule that has decided them in the kernel */
  readonly hits: readonly { readonly route: string; readonly requests: number }[];
  readonly generation: number;
  readonly rules: { readonly kernel: number; readonly proxy: number };
  readonly intake: string;
  /** what the programs counted */
  readonly mirrors?: { readonly sent: number; readonly lost: number };
  readonly counters?: Readonly<Record<string, number>>;
  readonly policy: {
    readonly bytes: number;
    readonly compileMs: number;
    readonly swapMs: number;
    readonly stallMs: number;
  };
  readonly programs: Readonly<Record<string, { readonly runs: number; readonly ns: number }>>;
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

/** What a killed agent leaves: its proxy, its cgroups, its folder. After a clean end there is nothing to do. */
async function stopLeftovers(name: string): Promise<void> {
  const found = readInstance(name);
  if (found.kind === 'running') {
    await runCommand(sidestepCommand('off', '--name', name), { timeoutMs: 25_000 });
    return;
  }
  if (found.kind !== 'stale') return;
  // a process id may have been given to somebody else: the proxy's command line names the instance's folder
  const folder = instanceFolder(name);
  const { proxy, holder } = found.state as { proxy?: number; holder?: number };
  for (const pid of [proxy, holder]) {
    if (!pid || !readCommandLine(pid).includes(folder)) continue;
    process.kill(pid, 'SIGTERM');
    for (let i = 0; i < 50 && readCommandLine(pid).includes(folder); i++) await sleep(100);
    if (readCommandLine(pid).includes(folder)) process.kill(pid, 'SIGKILL');
  }
  await rm(folder, { recursive: true, force: true });
  for (const part of ['apps', 'plain', 'listener', 'agent', ''])
    await rmdir(join(found.state.cgroup, part)).catch(() => {});
}

function readCommandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
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

  /** Command line that runs `argv` inside the mesh; `options`: more of exec's own. */
  execCommand(argv: readonly string[], options: readonly string[] = []): string[] {
    return sidestepCommand('exec', '--name', this.name, ...options, '--', ...argv);
  }

  /** Starts `argv` inside the mesh; ended with the lab. */
  start(
    name: string,
    argv: readonly string[],
    options: Parameters<Lab['start']>[2] = {},
    more: readonly string[] = [],
  ): LabProcess {
    return this.#lab.start(name, this.execCommand(argv, more), options);
  }

  /** Runs `argv` inside the mesh to its end. */
  run(argv: readonly string[], options: Parameters<typeof runCommand>[1] = {}): ReturnType<typeof runCommand> {
    return runCommand(this.execCommand(argv), options);
  }

  /**
   * What the instance counts so far, as `sidestep status --json` prints it.
   * @throws Error when it does not run or does not answer
   */
  async status(): Promise<Status> {
    const found = readInstance(this.name);
    if (found.kind !== 'running') throw new Error(`the instance ${this.name} is not running`);
    return JSON.parse(await askControl(found.state.control!, '/status')) as Status;
  }

  /**
   * Waits until a later generation than this one is in force.
   * @returns which
   * @throws Error with its output if there is none after `timeoutMs`
   */
  async generationAfter(generation: number, timeoutMs = 30_000): Promise<number> {
    for (const end = Date.now() + timeoutMs; ; await sleep(20)) {
      const now = (await this.status()).generation;
      if (now > generation) return now;
      if (Date.now() > end) throw new Error(`still generation ${now}: ${this.process.output.slice(-1000)}`);
    }
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
 * @throws Error with its output if it does not become ready in time
 */
export async function startSidestep(
  lab: Lab,
  files: readonly string[],
  options: {
    readonly name?: string;
    readonly args?: readonly string[];
    /** a command that runs its arguments somewhere else, as `nsenter` does */
    readonly prefix?: readonly string[];
    /** how long it may take to become ready, in milliseconds (90 s) */
    readonly readyMs?: number;
  } = {},
): Promise<SidestepHandle> {
  const name = options.name ?? instanceName('lab');
  lab.onClose(`instance ${name}`, () => stopLeftovers(name));
  // every instance of a machine needs an admin address of its own
  const admin = `127.0.0.1:${await freePort()}`;
  // tests of traffic are run once more with listener intake
  const intake = globalThis.process.env.SIDESTEP_TEST_INTAKE;
  const more = [...(intake ? ['--intake', intake] : []), ...(options.args ?? [])];
  const args = ['run', ...files, '--name', name, '--admin', admin, ...more];
  const process = lab.start(`sidestep ${name}`, [...(options.prefix ?? []), ...sidestepCommand(...args)]);
  await process.waitFor(/\bready\b/, options.readyMs ?? 90_000);
  void process.exited.then(({ code, signal }) => {
    // SIGKILL is what tests do; anything else but 0 is a crash that must not pass unseen
    if (code !== 0 && signal !== 'SIGKILL')
      console.error(`instance ${name} ended (${code}): ${process.output.slice(-4000)}`);
  });
  return new SidestepHandle(lab, name, process);
}
