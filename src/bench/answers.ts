/**
 * Suite `answers`: answers of several kinds by the ways that they can take: redirected by the kernel, or carried by the
 * agent (which carries all of them with `--answer-headers envoy`), beside no mesh and one Envoy.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../lab/envoy.js';
import { plainBootstrap } from '../lab/plain-bootstrap.js';
import { freePort, waitForPort } from '../lab/ports.js';
import { Lab, sleep } from '../lab/processes.js';
import { startSidestep } from '../lab/sidestep.js';
import type { JsonObject } from '../policy/resources.js';
import { measure, medians, type Row, type Target } from './http1.js';
import { describeMachine, type Machine } from './machine.js';
import { nginxConfig } from './nginx.js';

/** The kinds of answers: what is asked for. */
export const ANSWERS = {
  '200 bytes': '/small',
  '200 bytes, head grows by edits': '/edited/small',
  '64 KiB': '/k64',
  '256 KiB': '/k256',
  '1000 KiB': '/k1000',
  '256 KiB, length unknown': '/chunked/k256',
} as const;
export type Answer = keyof typeof ANSWERS;

export const WAYS = ['direct', 'envoy1', 'sidestep', 'sidestep-agent'] as const;
export type Way = (typeof WAYS)[number];

export interface AnswerRow extends Omit<Row, 'config'> {
  readonly config: Way;
  readonly answer: Answer;
  /** share of the answers that the agent carried, 0 to 1 */
  readonly carried?: number;
}

export interface AnswersResult {
  readonly suite: 'answers';
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly AnswerRow[];
}

export interface AnswersOptions {
  readonly connections: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly progress: (text: string) => void;
}

function policy(address: string, port: number, server: number): JsonObject {
  const route = { cluster: 'files', timeout: '30s' };
  const long = { header: { key: 'x-answered-by', value: 'a header that makes the head longer' } };
  const routes = [
    {
      match: { prefix: '/edited/' },
      route: { ...route, prefix_rewrite: '/' },
      response_headers_to_add: [long],
    },
    { match: { prefix: '/' }, route },
  ];
  return plainBootstrap([{ name: 'files', address, port, routes }], [{ name: 'files', ports: [server] }]);
}

/** Files; below /chunked/ through a filter that may change the length, so that the answer is chunked. */
const FILES = (dir: string): string =>
  `root ${dir}/files; location /chunked/ { alias ${dir}/files/; sub_filter_types *; sub_filter 'never there' ''; }`;

async function startFiles(lab: Lab): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const dir = join(lab.dir, 'nginx');
  await mkdir(join(dir, 'files'), { recursive: true });
  await chmod(lab.dir, 0o755); // nginx's worker is another user
  await writeFile(join(dir, 'files/small'), Buffer.alloc(200, 'x'));
  for (const kib of [64, 256, 1000]) await writeFile(join(dir, `files/k${kib}`), Buffer.alloc(kib * 1024, 'x'));
  const config = join(dir, 'nginx.conf');
  await writeFile(config, nginxConfig(dir, `127.0.0.1:${port}`, FILES(dir), 'sendfile on; tcp_nopush on;'));
  const { pid } = lab.start('nginx', ['nginx', '-c', config, '-e', 'stderr', '-p', dir]);
  await waitForPort('127.0.0.1', port);
  return { port, pid };
}

type WayTarget = Omit<Target, 'config' | 'url'> & { readonly way: Way; readonly origin: string };

async function startWays(lab: Lab): Promise<WayTarget[]> {
  const { port: upstream, pid: server } = await startFiles(lab);
  const origin = (port: number): string => `http://127.0.0.1:${port}`;
  const envoyPort = await freePort();
  const envoy = await startEnvoy(lab, 'envoy', policy('127.0.0.1', envoyPort, upstream));
  const targets: WayTarget[] = [
    { way: 'direct', origin: origin(upstream), mesh: [], server },
    { way: 'envoy1', origin: origin(envoyPort), mesh: [envoy.process.pid], server },
  ];
  for (const way of ['sidestep', 'sidestep-agent'] as const) {
    const port = await freePort();
    const file = join(lab.dir, `${way}.json`);
    await writeFile(file, JSON.stringify(policy('127.0.0.1', port, upstream)));
    const args = way === 'sidestep' ? [] : ['--answer-headers', 'envoy'];
    const sidestep = await startSidestep(lab, [file], { args });
    const wrap = (argv: readonly string[]): string[] => sidestep.execCommand(argv);
    targets.push({ way, origin: origin(port), mesh: [sidestep.process.pid], server, sidestep, wrap });
  }
  return targets;
}

/** Runs the suite. @throws Error if a program is missing or a request fails */
export async function runAnswers(options: AnswersOptions): Promise<AnswersResult> {
  const lab = await Lab.open('bench');
  try {
    const targets = await startWays(lab);
    const measured: AnswerRow[] = [];
    for (let round = 1; round <= options.rounds; round++)
      for (const [answer, path] of Object.entries(ANSWERS) as [Answer, string][])
        for (const connections of options.connections)
          for (const { way, origin, ...target } of targets) {
            // there is nothing to edit for whoever asks nginx itself
            const url = origin + (way === 'direct' ? path.replace('/edited', '') : path);
            const before = await target.sidestep?.status();
            const row = await measure(lab, { ...target, config: 'sidestep', url }, connections, options.seconds, 0);
            const after = await target.sidestep?.status();
            const all = (s: typeof after): number => (s ? s.requests.kernel + s.requests.agent : 0);
            const carried = (s: typeof after): number => s?.requests.agent ?? 0;
            const share = after
              ? (carried(after) - carried(before)) / Math.max(1, all(after) - all(before))
              : undefined;
            measured.push({ ...row, config: way, answer, ...(share === undefined ? {} : { carried: share }) });
            options.progress(`round ${round}: ${answer}, ${way} c=${connections}: ${Math.round(row.rps)} requests/s`);
            await sleep(100);
          }
    const rows = (Object.keys(ANSWERS) as Answer[]).flatMap((answer) =>
      options.connections.flatMap((connections) =>
        targets.map(({ way }) => {
          const same = measured.filter((r) => r.answer === answer && r.connections === connections && r.config === way);
          const { config: _, ...row } = medians(same.map((r) => ({ ...r, config: 'sidestep' as const })));
          return { ...row, config: way, answer } as AnswerRow;
        }),
      ),
    );
    const { rounds, seconds } = options;
    return { suite: 'answers', machine: await describeMachine(), rounds, seconds, rows };
  } finally {
    await lab.close();
  }
}

const NAMES: Readonly<Record<Way, string>> = {
  direct: 'no mesh',
  envoy1: 'one Envoy',
  sidestep: 'Sidestep',
  'sidestep-agent': 'Sidestep, by the agent',
};

function figure(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
}

/** The table, Markdown, for a page or a terminal. */
export function answersText(result: AnswersResult): string {
  const head = ['answer', 'connections', '', 'requests/s', 'p50 us', 'p99 us', 'CPU us/request', 'by the agent'];
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(head),
    line(head.map((_, i) => (i === 0 || i === 2 ? '---' : '---:'))),
    ...result.rows.map((r) =>
      line([
        ...[r.answer, String(r.connections), NAMES[r.config]],
        ...[r.rps, r.p50_us, r.p99_us, r.cpu_us_per_request].map(figure),
        r.carried === undefined ? '' : `${(100 * r.carried).toFixed(0)}%`,
      ]),
    ),
  ].join('\n');
}

/** The page docs/benchmarks-answers.md. */
export function answersMarkdown(result: AnswersResult): string {
  const m = result.machine;
  return `# Benchmarks: answers

\`sidestep bench --suite answers --rounds ${result.rounds} --seconds ${result.seconds} --markdown\` writes this page: answers of several kinds, as fast as
they come, from files that nginx sends. *Sidestep* redirects what it can in the kernel; *by the agent* is the same with
\`--answer-headers envoy\`, where the agent's pump carries every answer (and adds Envoy's headers). The last column is the share
that the agent carried. [Choices](benchmarks.md#ways-of-answers) that follow from such figures are in docs/benchmarks.md.

Machine: ${m.cpu}, ${m.cores} cores, ${m.memory_gib} GiB; Linux ${m.kernel}; Envoy ${m.envoy}, nginx ${m.nginx}, wrk ${m.wrk}, Node ${m.node.replace(/^v/, '')}.

${answersText(result)}
`;
}
