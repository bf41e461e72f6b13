/** What a benchmark's result looks like to people. */
import type { BenchResult, Config, Row, Suite } from './http1.js';
import { RBAC_RULES } from './suite-policies.js';
import { WAYS_OF_ANSWERS } from './ways-of-answers.js';

const NAMES: Readonly<Record<Config, string>> = {
  direct: 'no mesh',
  envoy1: 'one Envoy',
  envoy2: 'two Envoys',
  sidestep: 'Sidestep',
  'sidestep-bypass': 'Sidestep, server inside',
  'sidestep-odd': 'Sidestep, odd requests',
};

function fixed(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function table(rows: readonly Row[], withLoad: boolean): string[] {
  const head = ['', ...(withLoad ? ['connections'] : []), 'requests/s', 'p50 us', 'p99 us'];
  const cpu = ['CPU us/request', 'client', 'server', 'mesh', 'kernel'];
  const cells = rows.map((r) => [
    NAMES[r.config],
    ...(withLoad ? [String(r.connections)] : []),
    ...[r.rps, r.p50_us, r.p99_us, r.cpu_us_per_request].map(fixed),
    ...[r.cpu_us.client, r.cpu_us.server, r.cpu_us.mesh, r.cpu_us.kernel].map(fixed),
  ]);
  const header = [...head, ...cpu];
  const line = (c: readonly string[]): string => `| ${c.join(' | ')} |`;
  return [line(header), line(header.map((_, i) => (i === 0 ? '---' : '---:'))), ...cells.map(line)];
}

/** How configurations compare, one sentence a line. */
function ratios(result: BenchResult): string[] {
  const find = (rows: readonly Row[], config: Config, connections: number): Row | undefined =>
    rows.find((r) => r.config === config && r.connections === connections);
  const lines: string[] = [];
  const add = (what: string, a: number | undefined, b: number | undefined): void => {
    if (a !== undefined && b) lines.push(`${what}: ${(a / b).toFixed(2)}`);
  };
  const ours = (['sidestep', 'sidestep-bypass', 'sidestep-odd'] as const).filter((c) =>
    result.rows.some((r) => r.config === c),
  );
  for (const config of ours) {
    const name = NAMES[config];
    for (const c of [...new Set(result.rows.map((r) => r.connections))]) {
      const row = find(result.rows, config, c);
      const envoys = find(result.rows, 'envoy2', c);
      add(`c=${c}: throughput of ${name} / two Envoys`, row?.rps, envoys?.rps);
      add(`c=${c}: throughput of ${name} / one Envoy`, row?.rps, find(result.rows, 'envoy1', c)?.rps);
      add(`c=${c}: throughput of ${name} / no mesh`, row?.rps, find(result.rows, 'direct', c)?.rps);
      add(`c=${c}: p50 of ${name} / no mesh`, row?.p50_us, find(result.rows, 'direct', c)?.p50_us);
      if (!envoys) {
        const envoy = find(result.rows, 'envoy1', c);
        add(`c=${c}: p50 of ${name} / one Envoy`, row?.p50_us, envoy?.p50_us);
        add(`c=${c}: CPU per request of ${name} / one Envoy`, row?.cpu_us_per_request, envoy?.cpu_us_per_request);
      }
      add(`c=${c}: CPU per request of ${name} / two Envoys`, row?.cpu_us_per_request, envoys?.cpu_us_per_request);
    }
    const slow = find(result.low_rate, config, 1);
    add(`low rate: p50 of ${name} / two Envoys`, slow?.p50_us, find(result.low_rate, 'envoy2', 1)?.p50_us);
    if (!find(result.rows, 'envoy2', 1))
      add(`low rate: p50 of ${name} / one Envoy`, slow?.p50_us, find(result.low_rate, 'envoy1', 1)?.p50_us);
    add(`low rate: p50 of ${name} / no mesh`, slow?.p50_us, find(result.low_rate, 'direct', 1)?.p50_us);
  }
  if (result.kernel_share !== undefined) {
    lines.push(`requests that Sidestep decided in the kernel: ${(100 * result.kernel_share).toFixed(2)}%`);
  }
  if (result.bypass_share !== undefined) {
    lines.push(`requests that went from socket to socket (server inside): ${(100 * result.bypass_share).toFixed(2)}%`);
  }
  return lines;
}

const NAMESPACES = `

Client and server are in network namespaces of their own, each joined to the node's by a veth pair. *One Envoy* and the
client's sidecar are in the client's namespace, the server's sidecar in the server's; Sidestep's agent and its Envoy are on
the node, and \`exec --netns\` starts the client (and the server) in their namespaces. Goals: p50 of *Sidestep, server
inside* within 1.15 of *no mesh*, five times the throughput of *two Envoys*.`;

/** What the suites with policies of their own compare. */
const COMPARED: Partial<Record<Suite, string>> = {
  'slow-path': `- *one Envoy*: one route; each request gets a header whose value only the proxy can compute (\`%START_TIME%\`).
- *Sidestep*: the same configuration; the kernel sends each request over a pooled connection to Sidestep's Envoy.
- *Sidestep, odd requests*: the same with requests that the kernel does not follow (\`Proxy-Connection: keep-alive\`); the agent carries them.

The goal is 1.1 times what one Envoy takes.`,
  rbac: `- *no mesh*: wrk -> nginx.
- *one Envoy*: one route behind an access policy of ${RBAC_RULES} rules (methods, two paths, addresses), of which the last one allows the request.
- *Sidestep*: the same configuration; *server inside*: nginx in \`sidestep exec\`, too.`,
};

/** What the other suites compare. */
function meshes(suite: Suite): string {
  return `- *no mesh*: wrk -> nginx.
- *one Envoy*: ten routes (the request takes the seventh, which adds a header) and an access policy in one Envoy, one worker thread.
- *two Envoys*: the two sidecars of a mesh: the routes in the client's, the access policy in the server's, one worker thread each.
- *Sidestep*: the configuration of *one Envoy*, given to \`sidestep run\`; wrk in \`sidestep exec\`.${
    suite === 'http1' ? '' : '\n- *Sidestep, server inside*: nginx in `sidestep exec`, too: the same-node bypass.'
  }${suite === 'netns' ? NAMESPACES : ''}`;
}

/** The page of a suite: docs/benchmarks.md, or docs/benchmarks-NAME.md for a suite with policies of its own. */
export function markdown(result: BenchResult): string {
  const m = result.machine;
  const title = result.suite in COMPARED ? `Benchmarks: ${result.suite}` : 'Benchmarks';
  return `# ${title}

\`sidestep bench --suite ${result.suite} --rounds ${result.rounds} --seconds ${result.seconds} --markdown\` writes this page. Client (wrk, one
thread), mesh and server (nginx, one worker, a small answer from memory) share one machine, so what the mesh uses is taken
from the client and the server. Figures are medians of ${result.rounds} interleaved rounds of ${result.seconds} s each.

Machine: ${m.cpu}, ${m.cores} cores, ${m.memory_gib} GiB; Linux ${m.kernel}; Envoy ${m.envoy}, nginx ${m.nginx}, wrk ${m.wrk}, Node ${m.node.replace(/^v/, '')}.

${COMPARED[result.suite] ?? meshes(result.suite)}

CPU time is what all processes and the kernel use for a request: *mesh* are the Envoys, or Sidestep's agent and its Envoy;
*kernel* are the kernel's threads (what it does in calls and interrupts counts for the process that called or was interrupted).

## As fast as answers come

${table(result.rows, true).join('\n')}

## One request every 10 ms on one connection

Here wake-ups of idle cores dominate.

${table(result.low_rate, false).join('\n')}

## Ratios

${ratios(result)
  .map((l) => `- ${l}`)
  .join('\n')}
${result.suite === 'bypass' ? `\n${WAYS_OF_ANSWERS}` : ''}`;
}

/** The same for a terminal. */
export function plainText(result: BenchResult): string {
  const aligned = (rows: readonly string[]): string => {
    const cells = rows.filter((_, i) => i !== 1).map((r) => r.slice(2, -2).split(' | '));
    const widths = cells[0]!.map((_, i) => Math.max(...cells.map((c) => c[i]!.length)));
    return cells
      .map((c) => c.map((x, i) => (i === 0 ? x.padEnd(widths[i]!) : x.padStart(widths[i]!))).join('  '))
      .join('\n');
  };
  return [
    aligned(table(result.rows, true)),
    'one request every 10 ms:',
    aligned(table(result.low_rate, false)),
    ratios(result).join('\n'),
  ].join('\n\n');
}
