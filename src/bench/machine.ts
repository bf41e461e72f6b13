import { cpus, release, totalmem } from 'node:os';
import { envoyPath } from '../lab/paths.js';
import { runCommand } from '../lab/processes.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly kernel: string;
  readonly node: string;
  readonly envoy: string;
  readonly nginx: string;
  readonly wrk: string;
}

/** What measurements depend on, for the reader of a table. */
export async function describeMachine(): Promise<Machine> {
  const version = async (argv: string[], pattern: RegExp): Promise<string> => {
    const r = await runCommand(argv, { timeoutMs: 10_000 });
    return (r.stdout + r.stderr).match(pattern)?.[1] ?? 'unknown';
  };
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    envoy: await version([envoyPath(), '--version'], /\/(\d+\.\d+\.\d+)/),
    nginx: await version(['nginx', '-v'], /nginx\/(\S+)/),
    wrk: await version(['wrk', '-v'], /wrk \S*?(\d+\.\d+\.\d+)/),
  };
}
