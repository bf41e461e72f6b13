/**
 * Suite `policy-size`: policies of 10 to 10,000 routes through one Envoy and through Sidestep, in interleaved rounds. For
 * Sidestep also the time of the kernel's program for each request, and what it takes to compile a policy and to swap it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compileImage } from '../compile/image.js';
import { startEnvoy } from '../lab/envoy.js';
import { freePort, freePorts } from '../lab/ports.js';
import { Lab, sleep } from '../lab/processes.js';
import { type SidestepHandle, type Status, startSidestep } from '../lab/sidestep.js';
import { buildPlan } from '../plan/build.js';
import { loadFiles } from '../policy/load.js';
import { measure, median, medians, type Row, startNginx, type Target } from './http1.js';
import { describeMachine, type Machine } from './machine.js';
import { freshProbes, policyOfSize, probes } from './policy-size-config.js';

export interface SizeRow extends Omit<Row, 'config'> {
  /** `sidestep-fresh`: hardly a path comes twice while it is remembered */
  readonly config: 'envoy1' | 'sidestep' | 'sidestep-fresh';
  readonly routes: number;
  /** Sidestep: run time of the program on requests, nanoseconds a request */
  readonly program_ns?: number;
}

/** What one policy costs before the first request. */
export interface PolicyRow {
  readonly routes: number;
  /** the file as JSON, in bytes */
  readonly file_bytes: number;
  readonly image_bytes: number;
  /** reading and checking the file, in milliseconds */
  readonly load_ms: number;
  /** from resources to image, in milliseconds */
  readonly compile_ms: number;
  /** putting a generation in force, in milliseconds */
  readonly swap_ms: number;
  /** for how long at most the agent could do nothing else during a reload, in milliseconds */
  readonly stall_ms: number;
  /** share of the routes that the kernel decides, 0 to 1 */
  readonly kernel_rules: number;
  /** share of the measured requests that the kernel decided, 0 to 1 */
  readonly kernel_share: number;
}

export interface SizeResult {
  readonly suite: 'policy-size';
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly SizeRow[];
  readonly policies: readonly PolicyRow[];
}

export interface SizeOptions {
  readonly sizes: readonly number[];
  readonly connections: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly progress: (text: string) => void;
}

/** Most different requests that are sent in turn. */
const PROBES = 198;
/** Different paths, more than are remembered. */
const FRESH = 30_000;
const STATS = '/proc/sys/kernel/bpf_stats_enabled';

/** Lets the kernel count run times until the returned function is called. */
function countRunTimes(): () => void {
  const before = readFileSync(STATS, 'utf8');
  writeFileSync(STATS, '1');
  return () => writeFileSync(STATS, before);
}

interface Policy {
  readonly routes: number;
  readonly file: string;
  readonly text: string;
  readonly sidestep: SidestepHandle;
  readonly targets: readonly (Omit<Target, 'config'> & { readonly config: SizeRow['config'] })[];
}

async function startPolicy(lab: Lab, routes: number, server: { pid: number; port: number }): Promise<Policy> {
  const [envoyPort, meshPort] = (await freePorts(2)) as [number, number];
  const envoy = await startEnvoy(lab, `envoy-${routes}`, policyOfSize(routes, '127.0.0.1', envoyPort, server.port));
  const file = join(lab.dir, `policy-${routes}.json`);
  const text = JSON.stringify(policyOfSize(routes, '127.0.0.1', meshPort, server.port));
  await writeFile(file, text);
  const sidestep = await startSidestep(lab, [file], { readyMs: 180_000 });
  const requests = probes(routes, PROBES);
  const url = (port: number): string => `http://127.0.0.1:${port}/`;
  const own = { url: url(meshPort), mesh: [sidestep.process.pid], server: server.pid };
  const wrap = (argv: readonly string[]) => sidestep.execCommand(argv);
  return {
    ...{ routes, file, text, sidestep },
    targets: [
      { config: 'envoy1', url: url(envoyPort), mesh: [envoy.process.pid], server: server.pid, requests },
      { config: 'sidestep', ...own, requests, wrap },
      { config: 'sidestep-fresh', ...own, requests: freshProbes(routes, FRESH), wrap },
    ],
  };
}

/** Reads and compiles the policy a few times, as `run` does on every change. */
async function timeCompiler(file: string): Promise<{ load: number; compile: number }> {
  const loads: number[] = [];
  const compiles: number[] = [];
  for (let i = 0; i < 3; i++) {
    const started = performance.now();
    const resources = await loadFiles([file]);
    const loaded = performance.now();
    compileImage(buildPlan(resources), {
      generation: 1,
      endpointId: (_, port) => port % 1024,
      proxyEndpointId: () => 0,
    });
    loads.push(loaded - started);
    compiles.push(performance.now() - loaded);
  }
  return { load: median(loads), compile: median(compiles) };
}

/** Changes the policy's file (one more header at a route that nobody asks for) and waits until it is in force. */
async function timeSwaps(policy: Policy): Promise<{ swap_ms: number; stall_ms: number }> {
  const swaps: number[] = [];
  const stalls: number[] = [];
  for (let i = 0; i < 3; i++) {
    const { generation } = await statusOf(policy.sidestep);
    const changed = policy.text.replace('"status":404', `"status":${405 + i}`);
    await writeFile(policy.file, changed);
    const end = Date.now() + 120_000;
    for (;;) {
      if ((await policy.sidestep.status()).generation > generation) {
        await sleep(100); // the reload is over a moment later
        const { policy: reloaded } = await policy.sidestep.status();
        swaps.push(reloaded.swapMs);
        stalls.push(reloaded.stallMs);
        break;
      }
      if (Date.now() > end) throw new Error(`the policy of ${policy.routes} routes was not reloaded`);
      await sleep(200);
    }
  }
  return { swap_ms: median(swaps), stall_ms: median(stalls) };
}

/** The status, also from an agent that is busy for a while. */
async function statusOf(sidestep: SidestepHandle): Promise<Status> {
  for (let tries = 0; ; tries++) {
    try {
      return await sidestep.status();
    } catch (error) {
      if (tries >= 20) throw error;
      await sleep(1000);
    }
  }
}

const share = (before: Status, after: Status): number => {
  const kernel = after.requests.kernel - before.requests.kernel;
  const rest = after.requests.proxy - before.requests.proxy + after.requests.agent - before.requests.agent;
  return kernel + rest ? kernel / (kernel + rest) : 0;
};

/**
 * Runs the suite. Needs root; sets kernel.bpf_stats_enabled while it runs.
 * @throws Error if a program is missing or a request fails
 */
export async function runPolicySize(options: SizeOptions): Promise<SizeResult> {
  const lab = await Lab.open('bench');
  let restore: (() => void) | undefined;
  try {
    const port = await freePort();
    const { pid } = await startNginx(lab, port, (name, argv) => lab.start(name, argv));
    const policies: Policy[] = [];
    for (const routes of options.sizes) {
      policies.push(await startPolicy(lab, routes, { pid, port }));
      options.progress(`${routes} routes: started`);
    }
    for (const { targets } of policies) for (const t of targets) await measureSize(lab, t, 16, 1);
    restore = countRunTimes();
    const rows: SizeRow[] = [];
    const starts = await Promise.all(policies.map(({ sidestep }) => statusOf(sidestep)));
    for (let round = 1; round <= options.rounds; round++)
      for (const connections of options.connections)
        for (const { routes, targets, sidestep } of policies)
          for (const target of targets) {
            const before = await statusOf(sidestep);
            const row = await measureSize(lab, target, connections, options.seconds);
            const { programs } = await statusOf(sidestep);
            const runs = programs.on_message!.runs - before.programs.on_message!.runs;
            const ns = programs.on_message!.ns - before.programs.on_message!.ns;
            const own = target.config !== 'envoy1' ? { program_ns: runs ? ns / runs : 0 } : {};
            rows.push({ ...row, config: target.config, routes, ...own });
            const time = own.program_ns === undefined ? '' : `, program ${own.program_ns.toFixed(0)} ns`;
            options.progress(
              `round ${round}: ${routes} routes, ${target.config} c=${connections}: p50 ${row.p50_us} us${time}`,
            );
            await sleep(100);
          }
    const ends = await Promise.all(policies.map(({ sidestep }) => statusOf(sidestep)));
    restore();
    restore = undefined;
    const costs: PolicyRow[] = [];
    for (const [i, policy] of policies.entries()) {
      const { load, compile } = await timeCompiler(policy.file);
      const { rules, policy: stored } = ends[i]!;
      costs.push({
        ...{ routes: policy.routes, file_bytes: policy.text.length, image_bytes: stored.bytes },
        ...{ load_ms: load, compile_ms: compile, ...(await timeSwaps(policy)) },
        kernel_rules: rules.kernel / (rules.kernel + rules.proxy),
        kernel_share: share(starts[i]!, ends[i]!),
      });
      options.progress(`${policy.routes} routes: compiled in ${compile} ms`);
    }
    const groups = options.connections.flatMap((connections) =>
      policies.flatMap(({ routes, targets }) => targets.map(({ config }) => ({ connections, routes, config }))),
    );
    return {
      ...{ suite: 'policy-size', machine: await describeMachine(), rounds: options.rounds, seconds: options.seconds },
      rows: groups.map(({ connections, routes, config }) => {
        const own = rows.filter((r) => r.connections === connections && r.routes === routes && r.config === config);
        const programs = own.flatMap((r) => (r.program_ns === undefined ? [] : [r.program_ns]));
        return {
          ...medians(own.map((r) => ({ ...r, config: 'sidestep' as const }))),
          ...{ config, routes },
          ...(programs.length > 0 ? { program_ns: median(programs) } : {}),
        };
      }),
      policies: costs,
    };
  } finally {
    restore?.();
    await lab.close();
  }
}

function measureSize(lab: Lab, target: Policy['targets'][number], connections: number, seconds: number): Promise<Row> {
  return measure(lab, { ...target, config: 'sidestep' }, connections, seconds, 0);
}

const thousands = (n: number): string => Math.round(n).toLocaleString('en-US');

function tables(result: SizeResult): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  const head = ['routes', 'connections', 'Envoy p50 us', 'Sidestep p50 us', 'Envoy requests/s', 'Sidestep requests/s'];
  const find = (config: string, row: SizeRow) =>
    result.rows.find((r) => r.config === config && r.routes === row.routes && r.connections === row.connections);
  const ours = result.rows.filter((r) => r.config === 'sidestep');
  const program = (row: SizeRow | undefined) => {
    const least = result.rows.find((r) => r.config === row?.config && r.connections === row.connections);
    return [Math.round(row?.program_ns ?? 0), ((row?.program_ns ?? 0) / (least?.program_ns ?? 1)).toFixed(2)];
  };
  const rates = ours.map((row) => {
    const envoy = find('envoy1', row);
    return line([
      ...[thousands(row.routes), row.connections, envoy?.p50_us ?? '', row.p50_us],
      ...[thousands(envoy?.rps ?? 0), thousands(row.rps)],
      ...[...program(row), ...program(find('sidestep-fresh', row))],
    ]);
  });
  const costs = result.policies.map((p) =>
    line([
      ...[thousands(p.routes), `${(100 * p.kernel_rules).toFixed(1)}%`, `${(100 * p.kernel_share).toFixed(2)}%`],
      ...[(p.file_bytes / 1024).toFixed(0), (p.image_bytes / 1024).toFixed(0)],
      ...[Math.round(p.load_ms), Math.round(p.compile_ms), p.swap_ms.toFixed(1), p.stall_ms.toFixed(1)],
    ]),
  );
  const rule = (n: number): string => line(Array.from({ length: n }, () => '---:'));
  return `${[line([...head, 'program ns/request', 'of the smallest', 'new paths: ns', 'of the smallest']), rule(10), ...rates].join('\n')}

${[
  line([
    'routes',
    'rules in the kernel',
    'requests in the kernel',
    'file KiB',
    'image KiB',
    'read ms',
    'compile ms',
    'swap ms',
    'standstill ms',
  ]),
  rule(9),
  ...costs,
].join('\n')}`;
}

/** The page docs/policy-size.md. */
export function sizeMarkdown(result: SizeResult): string {
  const m = result.machine;
  return `# The size of the policy

\`sidestep bench --suite policy-size --rounds ${result.rounds} --seconds ${result.seconds} --markdown\` writes this page: the same policies through one
Envoy (one worker thread) and through Sidestep, medians of ${result.rounds} interleaved rounds of ${result.seconds} s each. Client (wrk), mesh and server (nginx)
share one machine.

Half of the routes are regular expressions (some begin alike, some with a wildcard), the others exact paths and prefixes,
some with a condition on the method, over up to 20 hosts. ${PROBES} different requests are sent in turn, spread over the routes, as many of each
form in policies of every size. *Program* is the run time of the kernel's program on requests (BPF statistics, which
cost a little themselves); *of the smallest* compares it with the smallest policy. Where the kernel remembers where hosts and paths lead,
such requests are found again; *new paths* are of ${thousands(FRESH)} requests that differ in their paths, which are not. *Standstill* is the longest time in which the
agent could do nothing else during a reload.

Machine: ${m.cpu}, ${m.cores} cores, ${m.memory_gib} GiB; Linux ${m.kernel}; Envoy ${m.envoy}, nginx ${m.nginx}, wrk ${m.wrk}, Node ${m.node.replace(/^v/, '')}.

${tables(result)}
`;
}

/** The same for a terminal. */
export function sizeText(result: SizeResult): string {
  return tables(result);
}
