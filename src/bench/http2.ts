/** Suite `http2`: requests of HTTP/2, plain ones and gRPC's, through no mesh, one Envoy, two Envoys, and Sidestep. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../lab/envoy.js';
import { freePort, waitForPort } from '../lab/ports.js';
import { Lab, sleep } from '../lab/processes.js';
import { type SidestepHandle, startSidestep } from '../lab/sidestep.js';
import type { JsonObject } from '../policy/resources.js';
import { kernelThreads, processMicros, processTree } from './cpu.js';
import { runH2load } from './h2load.js';
import { median, medians, type Row } from './http1.js';
import { onePolicyPoint, REQUEST, twoSidecars } from './http1-config.js';
import { describeMachine, type Machine } from './machine.js';
import { nginxConfig } from './nginx.js';

export const CONFIGS = ['direct', 'envoy1', 'envoy2', 'sidestep'] as const;
export type Http2Config = (typeof CONFIGS)[number];

/** What is asked for: a GET, or a POST with what a small call of gRPC brings. */
export const KINDS = { h2: undefined, grpc: Buffer.alloc(105, 'm') } as const;
export type Kind = keyof typeof KINDS;

/** Connections, and requests under way at once on each. */
export const LOADS = [
  { connections: 1, streams: 1 },
  { connections: 1, streams: 16 },
  { connections: 16, streams: 1 },
  { connections: 16, streams: 16 },
] as const;

export interface Http2Row extends Omit<Row, 'config' | 'protocol'> {
  readonly config: Http2Config;
  readonly protocol: Kind;
  readonly streams: number;
}

export interface Http2Result {
  readonly suite: 'http2';
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly Http2Row[];
  /** share of the requests to Sidestep that the kernel decided, 0 to 1 */
  readonly kernel_share: number;
}

export interface Http2Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly progress: (text: string) => void;
}

interface Target {
  readonly config: Http2Config;
  readonly port: number;
  readonly mesh: readonly number[];
  readonly sidestep?: SidestepHandle;
}

/** The mesh of `http1` for servers that speak HTTP/2, and whose access policy allows POST, too. */
function spoken(bootstrap: JsonObject): JsonObject {
  const text = JSON.stringify(bootstrap).replace('{"exact":"GET"}', '{"safe_regex":{"regex":"GET|POST"}}');
  const own = JSON.parse(text) as { static_resources: { clusters: JsonObject[] } };
  for (const cluster of own.static_resources.clusters)
    cluster.typed_extension_protocol_options = {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    };
  return own as unknown as JsonObject;
}

const ANSWER = `location / { default_type application/json; return 200 '{"id":42,"name":"a thing"}\\n'; }`;

async function startServer(lab: Lab): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const dir = join(lab.dir, 'nginx');
  await mkdir(dir);
  const file = join(dir, 'nginx.conf');
  await writeFile(file, nginxConfig(dir, `127.0.0.1:${port} http2`, ANSWER));
  const { pid } = lab.start('nginx', ['nginx', '-c', file, '-e', 'stderr', '-p', dir]);
  await waitForPort('127.0.0.1', port);
  return { port, pid };
}

async function startTargets(lab: Lab, server: number): Promise<Target[]> {
  const [one, client, inner, mesh] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const envoy = await startEnvoy(lab, 'envoy', spoken(onePolicyPoint('127.0.0.1', one, server)));
  const sidecars = twoSidecars('127.0.0.1', client, inner, server);
  const b = await startEnvoy(lab, 'server sidecar', spoken(sidecars.server));
  const a = await startEnvoy(lab, 'client sidecar', spoken(sidecars.client));
  const policies = join(lab.dir, 'sidestep.json');
  await writeFile(policies, JSON.stringify(spoken(onePolicyPoint('127.0.0.1', mesh, server))));
  const sidestep = await startSidestep(lab, [policies], { args: ['--http2'] });
  return [
    { config: 'direct', port: server, mesh: [] },
    { config: 'envoy1', port: one, mesh: [envoy.process.pid] },
    { config: 'envoy2', port: client, mesh: [a.process.pid, b.process.pid] },
    { config: 'sidestep', port: mesh, mesh: [sidestep.process.pid], sidestep },
  ];
}

async function measure(
  lab: Lab,
  target: Target,
  server: number,
  kind: Kind,
  load: (typeof LOADS)[number],
  seconds: number,
): Promise<Http2Row> {
  const groups = { server: processTree([server]), mesh: processTree(target.mesh), kernel: kernelThreads() };
  const use = (): Record<keyof typeof groups, number> => ({
    server: processMicros(groups.server),
    mesh: processMicros(groups.mesh),
    kernel: processMicros(groups.kernel),
  });
  const before = use();
  const began = performance.now();
  const body = KINDS[kind];
  const result = await runH2load({
    ...{ url: `http://127.0.0.1:${target.port}${REQUEST.path}`, ...load, seconds, dir: lab.dir },
    headers: [`:authority: ${REQUEST.host}`, ...(body ? ['content-type: application/grpc', 'te: trailers'] : [])],
    ...(body ? { body } : {}),
    ...(target.sidestep ? { wrap: (argv: readonly string[]) => target.sidestep!.execCommand(argv) } : {}),
  });
  const after = use();
  // of all that it ran, with its warm-up, which is as busy
  const all = (result.requests * (performance.now() - began)) / 1000 / seconds;
  const each = (group: keyof typeof groups): number => Math.max(0, after[group] - before[group]) / all;
  const cpu = {
    client: result.cpuUs / result.requests,
    server: each('server'),
    mesh: each('mesh'),
    kernel: each('kernel'),
  };
  return {
    ...{ config: target.config, protocol: kind, ...load, rps: result.rps, p50_us: result.p50Us, p99_us: result.p99Us },
    cpu_us_per_request: cpu.client + cpu.server + cpu.mesh + cpu.kernel,
    cpu_us: cpu,
  };
}

/** @throws Error if a program is missing or a request fails */
export async function runHttp2({ rounds, seconds, progress }: Http2Options): Promise<Http2Result> {
  const lab = await Lab.open('bench');
  try {
    const server = await startServer(lab);
    const targets = await startTargets(lab, server.port);
    const kinds = Object.keys(KINDS) as Kind[];
    const mesh = targets.find(({ sidestep }) => sidestep)!.sidestep!;
    const rows: Http2Row[] = [];
    const before = (await mesh.status()).streams!;
    for (let round = 1; round <= rounds; round++)
      for (const load of LOADS)
        for (const kind of kinds)
          for (const target of targets) {
            const row = await measure(lab, target, server.pid, kind, load, seconds);
            rows.push(row);
            const what = `${target.config} ${kind} c=${load.connections} m=${load.streams}`;
            progress(`round ${round}: ${what}: ${Math.round(row.rps)} requests/s, p50 ${row.p50_us} us`);
            await sleep(100);
          }
    const after = (await mesh.status()).streams!;
    const [kernel, proxy] = [after.kernel - before.kernel, after.proxy - before.proxy];
    const of = (config: Http2Config, kind: Kind, load: (typeof LOADS)[number]): Http2Row => {
      const own = rows.filter(
        (r) =>
          r.config === config &&
          r.protocol === kind &&
          r.connections === load.connections &&
          r.streams === load.streams,
      );
      const middle = medians(own as unknown as Row[]);
      return { ...own[0]!, ...middle, config, protocol: kind };
    };
    return {
      ...{ suite: 'http2', machine: await describeMachine(), rounds, seconds },
      rows: kinds.flatMap((kind) => LOADS.flatMap((load) => CONFIGS.map((config) => of(config, kind, load)))),
      kernel_share: median([kernel / Math.max(1, kernel + proxy)]),
    };
  } finally {
    await lab.close();
  }
}

const NAMES: Readonly<Record<Http2Config, string>> = {
  direct: 'no mesh',
  envoy1: 'one Envoy',
  envoy2: 'two Envoys',
  sidestep: 'Sidestep',
};

const number = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : value >= 100 ? value.toFixed(0) : value.toFixed(1);

function table(rows: readonly Http2Row[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = ['', 'connections', 'streams each', 'requests/s', 'p50 us', 'p99 us', 'CPU us/request'];
  const shares = ['client', 'server', 'mesh', 'kernel'] as const;
  return [
    line([...head, ...shares]),
    line([...head, ...shares].map((_, i) => (i === 0 ? '---' : '---:'))),
    ...rows.map((r) =>
      line([
        NAMES[r.config],
        ...[r.connections, r.streams].map(String),
        ...[r.rps, r.p50_us, r.p99_us, r.cpu_us_per_request].map(number),
        ...shares.map((who) => number(r.cpu_us[who])),
      ]),
    ),
  ];
}

function ratios({ rows, kernel_share }: Http2Result): string[] {
  const lines: string[] = [];
  for (const own of rows.filter(({ config }) => config === 'sidestep')) {
    const { protocol, connections, streams } = own;
    for (const config of ['envoy1', 'envoy2', 'direct'] as const) {
      const other = rows.find(
        (r) => r.config === config && r.protocol === protocol && r.connections === connections && r.streams === streams,
      )!;
      const said = (what: string, a: number, b: number): string => `${what} ${(a / b).toFixed(2)}`;
      const load = `${protocol === 'grpc' ? 'gRPC' : 'GET'}, c=${connections} m=${streams}`;
      const all = [
        said('throughput', own.rps, other.rps),
        said('p50', own.p50_us, other.p50_us),
        said('CPU per request', own.cpu_us_per_request, other.cpu_us_per_request),
      ];
      lines.push(`${load}, Sidestep / ${NAMES[config]}: ${all.join(', ')}`);
    }
  }
  return [...lines, `requests that Sidestep decided in the kernel: ${(100 * kernel_share).toFixed(0)}%`];
}

/** The page docs/benchmarks-http2.md. */
export function http2Markdown(result: Http2Result): string {
  const { machine: m, rounds, seconds } = result;
  const of = (kind: Kind): string => table(result.rows.filter(({ protocol }) => protocol === kind)).join('\n');
  return `# Benchmarks: http2

\`sidestep bench --suite http2 --rounds ${rounds} --seconds ${seconds} --markdown\` writes this page. The routes and the access policy of
[the others](benchmarks.md), with HTTP/2 in plain text on both sides: h2load (one thread) -> mesh -> nginx (one worker), on one machine.
Figures are medians of ${rounds} interleaved rounds of ${seconds} s each, behind a second for warming up.

Machine: ${m.cpu}, ${m.cores} cores, ${m.memory_gib} GiB; Linux ${m.kernel}; Envoy ${m.envoy}, nginx ${m.nginx}, Node ${m.node.replace(/^v/, '')}.

## GET

${of('h2')}

## POST with 105 bytes, as a call of gRPC

${of('grpc')}

## Ratios

${ratios(result)
  .map((l) => `- ${l}`)
  .join('\n')}
`;
}

/** The same for a terminal. */
export function http2Text(result: Http2Result): string {
  return [
    ...(Object.keys(KINDS) as Kind[]).flatMap((k) => [k, ...table(result.rows.filter((r) => r.protocol === k)), '']),
    ...ratios(result),
  ].join('\n');
}
