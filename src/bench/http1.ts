/**
 * Suites `http1` and `bypass`: the same load through no mesh, one Envoy, two Envoys, and Sidestep, in interleaved rounds;
 * `bypass` has the server inside the mesh, too, so that requests and answers go from socket to socket; `netns` is the same
 * with client and server in network namespaces of their own (netns.ts). `slow-path` has requests that the proxy must decide,
 * `rbac` a hundred rules of access.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../lab/envoy.js';
import { freePort, waitForPort } from '../lab/ports.js';
import { Lab, type LabProcess, sleep } from '../lab/processes.js';
import { type SidestepHandle, type Status, startSidestep } from '../lab/sidestep.js';
import { kernelThreads, processMicros, processTree } from './cpu.js';
import { onePolicyPoint, REQUEST, twoSidecars } from './http1-config.js';
import { describeMachine, type Machine } from './machine.js';
import { startNetnsTargets } from './netns.js';
import { nginxConfig } from './nginx.js';
import { accessRules, type PolicyPoint, slowPath } from './suite-policies.js';
import { runWrk } from './wrk.js';

export const CONFIGS = ['direct', 'envoy1', 'envoy2', 'sidestep', 'sidestep-bypass', 'sidestep-odd'] as const;
export type Config = (typeof CONFIGS)[number];

/** The suites, and what each measures unless told otherwise. */
export const SUITES = {
  http1: ['direct', 'envoy1', 'envoy2', 'sidestep'],
  bypass: ['direct', 'envoy1', 'envoy2', 'sidestep', 'sidestep-bypass'],
  netns: ['direct', 'envoy1', 'envoy2', 'sidestep', 'sidestep-bypass'],
  'slow-path': ['envoy1', 'sidestep', 'sidestep-odd'],
  rbac: ['direct', 'envoy1', 'sidestep', 'sidestep-bypass'],
} as const satisfies Record<string, readonly Config[]>;
export type Suite = keyof typeof SUITES;

/** CPU time per request in microseconds, by who used it. */
export interface CpuShare {
  readonly client: number;
  readonly server: number;
  /** Envoys; for Sidestep its agent and its Envoy */
  readonly mesh: number;
  /** the kernel's threads; what it does in calls and interrupts counts for the process that called or was interrupted */
  readonly kernel: number;
}

export interface Row {
  readonly config: Config;
  readonly protocol: 'http1';
  readonly connections: number;
  readonly rps: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** of all of these */
  readonly cpu_us_per_request: number;
  readonly cpu_us: CpuShare;
}

export interface BenchResult {
  readonly suite: Suite;
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly Row[];
  /** one connection, a request every 10 ms */
  readonly low_rate: readonly Row[];
  /** share of the measured requests that Sidestep decided in the kernel, 0 to 1; undefined if it was not measured */
  readonly kernel_share?: number;
  /** share of the requests of `sidestep-bypass` that went from socket to socket */
  readonly bypass_share?: number;
}

export interface BenchOptions {
  readonly suite: Suite;
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
  /** root of the server's processes */
  readonly server: number;
  readonly sidestep?: SidestepHandle;
  readonly wrap?: (argv: readonly string[]) => string[];
  /** what is asked for in turn instead of the one request of this suite */
  readonly requests?: readonly { readonly host: string; readonly path: string }[];
  /** more lines of each request's head */
  readonly headers?: readonly string[];
}

const LOW_RATE_PAUSE_MS = 10;

/** A small answer from memory. */
const ANSWER = `location / { default_type application/json; return 200 '{"id":42,"name":"a thing"}\\n'; }`;

/** nginx at `port`, started by `start` (inside a mesh, or just so); `open` waits until it listens. */
export async function startNginx(
  lab: Lab,
  port: number,
  start: (name: string, argv: readonly string[]) => LabProcess,
  address = '127.0.0.1',
  open: () => Promise<void> = () => waitForPort(address, port),
): Promise<LabProcess> {
  const dir = join(lab.dir, `nginx-${port}`);
  await mkdir(dir);
  const file = join(dir, 'nginx.conf');
  await writeFile(file, nginxConfig(dir, `${address}:${port}`, ANSWER));
  const nginx = start('nginx', ['nginx', '-c', file, '-e', 'stderr', '-p', dir]);
  await open();
  return nginx;
}

/** The policies of the suites that have others than `http1`. */
const POLICIES: Partial<Record<Suite, PolicyPoint>> = { 'slow-path': slowPath, rbac: accessRules };

async function startTargets(lab: Lab, wanted: readonly Config[], suite: Suite): Promise<Target[]> {
  const policy = POLICIES[suite] ?? onePolicyPoint;
  const nginxPort = await freePort();
  const { pid: server } = await startNginx(lab, nginxPort, (name, argv) => lab.start(name, argv));
  const url = (port: number): string => `http://127.0.0.1:${port}${REQUEST.path}`;
  const withSidestep = async (config: Config, upstream: number): Promise<Target & { sidestep: SidestepHandle }> => {
    const port = await freePort();
    const policies = join(lab.dir, `${config}.json`);
    await writeFile(policies, JSON.stringify(policy('127.0.0.1', port, upstream)));
    const sidestep = await startSidestep(lab, [policies]);
    const wrap = (argv: readonly string[]): string[] => sidestep.execCommand(argv);
    return { config, url: url(port), mesh: [sidestep.process.pid], server, sidestep, wrap };
  };
  const targets: Target[] = [];
  for (const config of wanted) {
    const port = await freePort();
    if (config === 'direct') targets.push({ config, url: url(nginxPort), mesh: [], server });
    if (config === 'envoy1') {
      const envoy = await startEnvoy(lab, 'envoy', policy('127.0.0.1', port, nginxPort));
      targets.push({ config, url: url(port), mesh: [envoy.process.pid], server });
    }
    if (config === 'envoy2') {
      const sidecars = twoSidecars('127.0.0.1', port, await freePort(), nginxPort);
      const b = await startEnvoy(lab, 'server sidecar', sidecars.server);
      const a = await startEnvoy(lab, 'client sidecar', sidecars.client);
      targets.push({ config, url: url(port), mesh: [a.process.pid, b.process.pid], server });
    }
    if (config === 'sidestep') targets.push(await withSidestep(config, nginxPort));
    // what the kernel does not follow: the agent carries it to the proxy
    if (config === 'sidestep-odd')
      targets.push({ ...(await withSidestep(config, nginxPort)), headers: ['Proxy-Connection: keep-alive'] });
    if (config === 'sidestep-bypass') {
      const inside = await freePort();
      const target = await withSidestep(config, inside);
      const nginx = await startNginx(lab, inside, (name, argv) => target.sidestep.start(name, argv));
      targets.push({ ...target, server: nginx.pid });
    }
  }
  return targets;
}

/** Measures one target under one load. */
export async function measure(
  lab: Lab,
  target: Target,
  connections: number,
  seconds: number,
  pauseMs: number,
): Promise<Row> {
  const servers = processTree([target.server]);
  const mesh = processTree(target.mesh);
  const kernelsOwn = kernelThreads();
  const use = (): { server: number; mesh: number; kernel: number } => ({
    server: processMicros(servers),
    mesh: processMicros(mesh),
    kernel: processMicros(kernelsOwn),
  });
  const before = use();
  const wrk = await runWrk({
    ...{ url: target.url, host: REQUEST.host, connections, seconds, pauseMs, dir: lab.dir },
    ...(target.wrap ? { wrap: target.wrap } : {}),
    ...(target.requests ? { requests: target.requests } : {}),
    ...(target.headers ? { headers: target.headers } : {}),
  });
  const after = use();
  const each = (micros: number): number => Math.max(0, micros) / wrk.requests;
  const client = each(wrk.cpuUs);
  const serverCpu = each(after.server - before.server);
  const meshCpu = each(after.mesh - before.mesh);
  const kernel = each(after.kernel - before.kernel);
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
 * Runs a suite.
 * @throws Error if a program is missing or a request fails
 */
export async function runHttp1(options: BenchOptions): Promise<BenchResult> {
  const lab = await Lab.open('bench');
  try {
    const targets =
      options.suite === 'netns'
        ? await startNetnsTargets(lab, options.configs)
        : await startTargets(lab, options.configs, options.suite);
    const meshes = targets.flatMap((t) => t.sidestep ?? []);
    for (const t of targets) await measure(lab, t, 16, 1, 0);
    const before = await Promise.all(meshes.map((m) => m.status()));
    const fast: Row[] = [];
    const slow: Row[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      for (const connections of options.connections) {
        for (const t of targets) {
          const row = await measure(lab, t, connections, options.seconds, 0);
          fast.push(row);
          options.progress(
            `round ${round}: ${t.config} c=${connections}: ${Math.round(row.rps)} requests/s, p50 ${row.p50_us} us`,
          );
          // the next config must not meet this one's connections being closed
          await sleep(100);
        }
      }
      for (const t of targets) {
        const row = await measure(lab, t, 1, options.seconds, LOW_RATE_PAUSE_MS);
        slow.push(row);
        options.progress(`round ${round}: ${t.config} at a low rate: p50 ${row.p50_us} us`);
      }
    }
    const after = await Promise.all(meshes.map((m) => m.status()));
    const bypass = targets.find((t) => t.config === 'sidestep-bypass')?.sidestep;
    const inside = bypass ? meshes.indexOf(bypass) : -1;
    const group = (rows: readonly Row[], connections: readonly number[]): Row[] =>
      connections.flatMap((c) =>
        targets.map((t) => medians(rows.filter((r) => r.config === t.config && r.connections === c))),
      );
    return {
      ...{ suite: options.suite, machine: await describeMachine(), rounds: options.rounds, seconds: options.seconds },
      rows: group(fast, options.connections),
      low_rate: group(slow, [1]),
      ...(meshes.length ? { kernel_share: share(before, after, (s) => s.requests.kernel) } : {}),
      ...(inside >= 0 ? { bypass_share: share([before[inside]!], [after[inside]!], (s) => s.bypassed) } : {}),
    };
  } finally {
    await lab.close();
  }
}

/** Which part of all requests between two readings of some instances' counters is what `of` counts. */
function share(before: readonly Status[], after: readonly Status[], of: (s: Status) => number): number {
  const sum = (all: readonly Status[], count: (s: Status) => number): number =>
    all.reduce((total, s) => total + count(s), 0);
  const grown = (count: (s: Status) => number): number => sum(after, count) - sum(before, count);
  const all = grown((s) => s.requests.kernel + s.requests.proxy + s.requests.agent);
  return all ? grown(of) / all : 0;
}
