/** h2load, and what it writes. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../lab/processes.js';
import type { WrkResult } from './wrk.js';

export interface H2loadOptions {
  readonly url: string;
  readonly connections: number;
  /** under way at once on each connection */
  readonly streams: number;
  readonly seconds: number;
  /** lines of each request's head */
  readonly headers: readonly string[];
  /** of each request; undefined: GET without one */
  readonly body?: Buffer;
  /** a directory for its files */
  readonly dir: string;
  /** puts the command into the mesh */
  readonly wrap?: (argv: readonly string[]) => string[];
}

/** Time for connections to servers to be opened, which is not measured. */
const WARM_UP_S = 1;

/**
 * Runs h2load with one thread, in clear text with prior knowledge.
 * @throws Error if it fails, or if any request was not answered with 2xx: such a measurement means nothing
 */
export async function runH2load(options: H2loadOptions): Promise<WrkResult> {
  const log = join(options.dir, 'h2load.tsv');
  await rm(log, { force: true });
  const body = join(options.dir, 'h2load.body');
  if (options.body) await writeFile(body, options.body);
  const argv = [
    ...['h2load', '-t1', `-c${options.connections}`, `-m${options.streams}`, `-D${options.seconds}`],
    ...[`--warm-up-time=${WARM_UP_S}`, `--log-file=${log}`],
    ...options.headers.flatMap((line) => ['-H', line]),
    ...(options.body ? ['-d', body] : []),
    options.url,
  ];
  const timed = ['bash', '-c', 'TIMEFORMAT="cpu %U %S"; time "$@"', 'bash', ...argv];
  const r = await runCommand(options.wrap?.(timed) ?? timed, { timeoutMs: (options.seconds + 20) * 1000 });
  const cpu = r.stderr.match(/cpu ([0-9.]+) ([0-9.]+)/);
  if (r.code !== 0 || !cpu) throw new Error(`h2load failed (${r.code}): ${r.stderr}${r.stdout}`);
  // lines of: when it began, status, how long it took; microseconds
  const lines = (await readFile(log, 'utf8')).trimEnd().split('\n');
  const requests = lines.map((line) => line.split('\t').map(Number)).filter(([, status]) => status === 200);
  // what was under way at the end is in the file, but not counted
  const [, failed, errors] = r.stdout.match(/(\d+) failed, (\d+) errored/)?.map(Number) ?? [];
  if (failed !== 0 || errors !== 0 || requests.length < 2)
    throw new Error(`h2load against ${options.url}: ${r.stdout}`);
  const times = requests.map(([, , micros]) => micros!).sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))]!;
  return {
    requests: requests.length,
    rps: requests.length / options.seconds,
    ...{ p50Us: at(0.5), p99Us: at(0.99) },
    // of the warm-up, too, which is as busy
    cpuUs: ((Number(cpu[1]) + Number(cpu[2])) * 1_000_000 * options.seconds) / (options.seconds + WARM_UP_S),
  };
}
