/** wrk, and what it prints. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../lab/processes.js';

export interface WrkResult {
  readonly requests: number;
  readonly rps: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of wrk itself, microseconds */
  readonly cpuUs: number;
}

export interface WrkOptions {
  readonly url: string;
  readonly host: string;
  readonly connections: number;
  readonly seconds: number;
  /** pause before each request in milliseconds (low rate); 0: as fast as answers come */
  readonly pauseMs: number;
  /** requests to send in turn instead of `url`'s path */
  readonly requests?: readonly { readonly host: string; readonly path: string }[];
  /** more lines of each request's head, unless `requests` are given */
  readonly headers?: readonly string[];
  /** a directory for the script */
  readonly dir: string;
  /** puts the command into the mesh */
  readonly wrap?: (argv: readonly string[]) => string[];
}

const UNITS: Readonly<Record<string, number>> = { us: 1, ms: 1000, s: 1_000_000, m: 60_000_000 };

function latency(text: string, percentile: string): number {
  const match = text.match(new RegExp(`^\\s+${percentile}%\\s+([0-9.]+)(us|ms|s|m)\\s*$`, 'm'));
  if (!match) throw new Error(`wrk printed no ${percentile}% latency:\n${text}`);
  return Number(match[1]) * UNITS[match[2]!]!;
}

function luaOf({ pauseMs, requests }: WrkOptions): string {
  const delay = pauseMs ? `function delay() return ${pauseMs} end\n` : '';
  if (!requests) return delay;
  const texts = requests.map(({ host, path }) => JSON.stringify(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
  return `${delay}local all = {${texts.join(',\n')}}
local at = 0
function request()
  at = at % #all + 1
  return all[at]
end
`;
}

/**
 * Runs wrk with one thread.
 * @throws Error if wrk fails, or if any request failed or was not answered with 2xx: such a measurement means nothing
 */
export async function runWrk(options: WrkOptions): Promise<WrkResult> {
  const script = join(options.dir, 'pause.lua');
  await writeFile(script, luaOf(options));
  const wrk = [
    ...['wrk', '-t1', `-c${options.connections}`, `-d${options.seconds}s`, '--latency', '--timeout', '5s'],
    ...[`Host: ${options.host}`, ...(options.headers ?? [])].flatMap((line) => ['-H', line]),
    ...(options.pauseMs || options.requests ? ['-s', script] : []),
    options.url,
  ];
  // bash's `time` knows the CPU time of what it waited for
  const timed = ['bash', '-c', 'TIMEFORMAT="cpu %U %S"; time "$@"', 'bash', ...wrk];
  const r = await runCommand(options.wrap?.(timed) ?? timed, { timeoutMs: (options.seconds + 20) * 1000 });
  const text = r.stdout;
  const counted = text.match(/(\d+) requests in/);
  const cpu = r.stderr.match(/cpu ([0-9.]+) ([0-9.]+)/);
  if (r.code !== 0 || !counted || !cpu) throw new Error(`wrk failed (${r.code}): ${r.stderr}${text}`);
  const bad = text.match(/Non-2xx.*|Socket errors.*/);
  if (bad) throw new Error(`wrk against ${options.url}: ${bad[0]}`);
  return {
    requests: Number(counted[1]),
    rps: Number(text.match(/Requests\/sec:\s+([0-9.]+)/)?.[1]),
    p50Us: latency(text, '50'),
    p99Us: latency(text, '99'),
    cpuUs: (Number(cpu[1]) + Number(cpu[2])) * 1_000_000,
  };
}
