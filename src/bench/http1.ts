/** Suite `http1`: the same load through no mesh, one Envoy, two Envoys, and Sidestep, in interleaved rounds. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../lab/envoy.js';
import { freePorts, waitForPort } from '../lab/ports.js';
import { Lab, sleep } from '../lab/processes.js';
import { type SidestepHandle, startSidestep } from '../lab/sidestep.js';
import { busyMicros, processMicros, processTree, userProcesses } from './cpu.js';
import { nginxConfig, onePolicyPoint, REQUEST, twoSidecars } from './http1-config.js';
import { describeMachine, type Machine } from './machine.js';
import { runWrk } from './wrk.js';

export const CONFIGS = ['direct', 'envoy1', 'envoy2', 'sidestep'] as const;
export type Config = (typeof CONFIGS)[number];

/** CPU time per request in microseconds, by who used it. */
export interface CpuShare {
  readonly client: number;
  readonly server: number;
  /** Envoys; for Sidestep its agent and its Envoy */
  readonly mesh: number;
  /** what the machine was busy with beyond processes: interrupts, kernel threads */
  readonly kernel: number;
}

export interface Row {
  readonly config: Config;
  readonly protocol: 'http1';
  readonly connections: number;
  readonly rps: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** of all processes and the kernel */
  readonly cpu_us_per_request: number;
  readonly cpu_us: CpuShare;
}

export interface BenchResult {
  readonly suite: 'http1';
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly Row[];
  /** one connection, a request every 10 ms */
  readonly low_rate: readonly Row[];
  /** share of the measured requests that Sidestep decided in the kernel, 0 to 1; undefined if it was not measured */
  readonly kernel_share?: number;
}

export interface BenchOptions {
  readonly configs: readonly Config[];
  readonly connections: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly progress: (text: string) => void;
}

export interface Target {
  readonly config: Config;
  readonly url: string;
  /** roots of the mesh's processes */
  readonly mesh: readonly number[];
  readonly wrap?: (argv: readonly string[]) => string[];
  /** what is asked for in turn instead of the one request of this suite */
  readonly requests?: readonly { readonly host: string; readonly path: string }[];
}

const LOW_RATE_PAUSE_MS = 10;

async function startTargets(
  lab: Lab,
  wanted: readonly Config[],
): Promise<{ targets: Target[]; server: number; sidestep?: SidestepHandle }> {
  const [nginxPort, one, two, inner, mesh] = (await freePorts(5)) as [number, number, number, number, number];
  const file = join(lab.dir, 'nginx.conf');
  await writeFile(file, nginxConfig(lab.dir, nginxPort));
  const nginx = lab.start('nginx', ['nginx', '-c', file, '-e', 'stderr', '-p', lab.dir]);
  await waitForPort('127.0.0.1', nginxPort);
  const url = (port: number): string => `http://127.0.0.1:${port}${REQUEST.path}`;
  const targets: Target[] = [];
  let sidestep: SidestepHandle | undefined;
  for (const config of wanted) {
    if (config === 'direct') targets.push({ config, url: url(nginxPort), mesh: [] });
    if (config === 'envoy1') {
      const envoy = await startEnvoy(lab, 'envoy', onePolicyPoint('127.0.0.1', one, nginxPort));
      targets.push({ config, url: url(one), mesh: [envoy.process.pid] });
    }
    if (config === 'envoy2') {
      const sidecars = twoSidecars('127.0.0.1', two, inner, nginxPort);
      const b = await startEnvoy(lab, 'server sidecar', sidecars.server);
      const a = await startEnvoy(lab, 'client sidecar', sidecars.client);
      targets.push({ config, url: url(two), mesh: [a.process.pid, b.process.pid] });
    }
    if (config === 'sidestep') {
      const policies = join(lab.dir, 'bootstrap.json');
      await writeFile(policies, JSON.stringify(onePolicyPoint('127.0.0.1', mesh, nginxPort)));
      const handle = await startSidestep(lab, [policies]);
      sidestep = handle;
      targets.push({ config, url: url(mesh), mesh: [handle.process.pid], wrap: (argv) => handle.execCommand(argv) });
    }
  }
  return { targets, server: nginx.pid, ...(sidestep ? { sidestep } : {}) };
}

/** Measures one target under one load. */
export async function measure(
  lab: Lab,
  target: Target,
  server: number,
  connections: number,
  seconds: number,
  pauseMs: number,
): Promise<Row> {
  const servers = processTree([server]);
  const mesh = processTree(target.mesh);
  const foreign = (): Map<number, number> => {
    const pids = userProcesses().filter((pid) => !servers.includes(pid) && !mesh.includes(pid));
    return new Map(pids.map((pid) => [pid, processMicros([pid])]));
  };
  const use = (): { server: number; mesh: number; foreign: Map<number, number>; busy: number } => ({
    server: processMicros(servers),
    mesh: processMicros(mesh),
    foreign: foreign(),
    busy: busyMicros(),
  });
  const before = use();
  const wrk = await runWrk({
    ...{ url: target.url, host: REQUEST.host, connections, seconds, pauseMs, dir: lab.dir },
    ...(target.wrap ? { wrap: target.wrap } : {}),
    ...(target.requests ? { requests: target.requests } : {}),
  });
  const after = use();
  const each = (micros: number): number => Math.max(0, micros) / wrk.requests;
  const client = each(wrk.cpuUs);
  const serverCpu = each(after.server - before.server);
  const meshCpu = each(after.mesh - before.mesh);
  // what other programs on the machine used is nobody's cost here (one that ended meanwhile is missed)
  let others = 0;
  for (const [pid, micros] of after.foreign) others += micros - (before.foreign.get(pid) ?? 0);
  const busy = each(after.busy - before.busy - others);
  const kernel = Math.max(0, busy - client - serverCpu - meshCpu);
  return {
    ...{ config: target.config, protocol: 'http1', connections },
    ...{ rps: wrk.rps, p50_us: wrk.p50Us, p99_us: wrk.p99Us },
    cpu_us_per_request: client + serverCpu + meshCpu + kernel,
    cpu_us: { client, server: serverCpu, mesh: meshCpu, kernel },
  };
}

/** The median, rounded to hundredths. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const value = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return Math.round(value * 100) / 100;
}

/** One row from the rounds of one config and load: each figure's median. */
export function medians(rows: readonly Row[]): Row {
  const of = (pick: (r: Row) => number): number => median(rows.map(pick));
  return {
    ...rows[0]!,
    ...{ rps: of((r) => r.rps), p50_us: of((r) => r.p50_us), p99_us: of((r) => r.p99_us) },
    cpu_us_per_request: of((r) => r.cpu_us_per_request),
    cpu_us: {
      client: of((r) => r.cpu_us.client),
      server: of((r) => r.cpu_us.server),
      mesh: of((r) => r.cpu_us.mesh),
      kernel: of((r) => r.cpu_us.kernel),
    },
  };
}

/**
 * Runs the suite.
 * @throws Error if a program is missing or a request fails
 */
export async function runHttp1(options: BenchOptions): Promise<BenchResult> {
  const lab = await Lab.open('bench');
  try {
    const { targets, server, sidestep } = await startTargets(lab, options.configs);
    for (const t of targets) await measure(lab, t, server, 16, 1, 0);
    const before = await sidestep?.status();
    const fast: Row[] = [];
    const slow: Row[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      for (const connections of options.connections) {
        for (const t of targets) {
          const row = await measure(lab, t, server, connections, options.seconds, 0);
          fast.push(row);
          options.progress(
            `round ${round}: ${t.config} c=${connections}: ${Math.round(row.rps)} requests/s, p50 ${row.p50_us} us`,
          );
          // the next config must not meet this one's connections being closed
          await sleep(100);
        }
      }
      for (const t of targets) {
        const row = await measure(lab, t, server, 1, options.seconds, LOW_RATE_PAUSE_MS);
        slow.push(row);
        options.progress(`round ${round}: ${t.config} at a low rate: p50 ${row.p50_us} us`);
      }
    }
    const after = await sidestep?.status();
    const group = (rows: readonly Row[], connections: readonly number[]): Row[] =>
      connections.flatMap((c) =>
        targets.map((t) => medians(rows.filter((r) => r.config === t.config && r.connections === c))),
      );
    return {
      ...{ suite: 'http1', machine: await describeMachine(), rounds: options.rounds, seconds: options.seconds },
      rows: group(fast, options.connections),
      low_rate: group(slow, [1]),
      ...(before && after ? { kernel_share: share(before.requests, after.requests) } : {}),
    };
  } finally {
    await lab.close();
  }
}

type Counts = { readonly kernel: number; readonly proxy: number; readonly agent: number };

function share(before: Counts, after: Counts): number {
  const kernel = after.kernel - before.kernel;
  const all = kernel + after.proxy - before.proxy + after.agent - before.agent;
  return all ? kernel / all : 0;
}
