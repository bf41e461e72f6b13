/** `sidestep status` and `sidestep off`. */
import type { Command } from 'commander';
import { askControl } from '../agent/control-client.js';
import type { Status } from '../agent/status.js';
import { isInstanceName } from '../kernel/cgroups.js';
import { type InstanceState, processStartTime, readInstance } from '../kernel/instance.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { toJsonText } from './input.js';

const OFF_TIMEOUT_MS = 20_000;

/** Adds the commands to the program. */
export function register(program: Command): void {
  program
    .command('status')
    .description('what is in force, and how many requests went which way')
    .option('--name <name>', 'instance', 'default')
    .option('--json', 'print the status as JSON')
    .addHelpText('after', exitHelp({ 0: 'done', 1: 'no such instance is running' }))
    .action(async (options: { name: string; json?: boolean }) => {
      process.exitCode = await status(options.name, options.json === true);
    });
  program
    .command('off')
    .description('stop an instance as SIGTERM does: drain, detach everything')
    .option('--name <name>', 'instance', 'default')
    .addHelpText('after', exitHelp({ 0: 'stopped', 1: 'no such instance is running, or it has not ended within 20 s' }))
    .action(async (options: { name: string }) => {
      process.exitCode = await off(options.name);
    });
}

function running(name: string): InstanceState | undefined {
  const found = isInstanceName(name) ? readInstance(name) : { kind: 'none' as const };
  if (found.kind === 'running') return found.state;
  process.stderr.write(`error: no instance named "${name}" is running\n`);
  return undefined;
}

async function status(name: string, json: boolean): Promise<number> {
  const state = running(name);
  if (!state?.control) return EXIT.INVALID;
  const text = await askControl(state.control, '/status');
  const found = JSON.parse(text) as Status;
  process.stdout.write(json ? `${toJsonText(found)}\n` : describe(found));
  return EXIT.OK;
}

function describe(s: Status): string {
  const all = s.requests.kernel + s.requests.proxy + s.requests.agent;
  const share = (n: number): string => (all === 0 ? '' : ` (${((100 * n) / all).toFixed(1)}%)`);
  const lines = [
    `${s.name}: generation ${s.generation}, up ${s.uptimeSeconds} s, agent ${s.pid}, proxy ${s.proxyPid ?? 'none'}, admin ${s.admin}`,
    `rules     ${s.rules.kernel} in the kernel, ${s.rules.proxy} left to the proxy; intake at the ${s.intake}`,
    `requests  kernel ${s.requests.kernel}${share(s.requests.kernel)}, proxy ${s.requests.proxy}${share(s.requests.proxy)}, agent ${s.requests.agent}${share(s.requests.agent)}`,
    ...(s.streams
      ? [`streams   ${s.streams.kernel} requests of HTTP/2 in the kernel, ${s.streams.proxy} left to the proxy`]
      : []),
    ...(s.routed.kernel + s.routed.proxy === 0
      ? []
      : [`routed    ${s.routed.kernel} connections in the kernel, ${s.routed.proxy} left to the proxy`]),
    `sockets   ${s.connections} clients, ${s.upstreams} pooled upstreams`,
    ...(s.log.lines + s.log.lost === 0
      ? []
      : [`log       ${s.log.lines} lines, ${s.log.lost} lost, ${s.log.proxied} requests left to the proxy meanwhile`]),
    ...(s.spans.sent + s.spans.lost === 0 ? [] : [`spans     ${s.spans.sent} sent, ${s.spans.lost} lost`]),
    ...s.hits.map((hit) => `  ${String(hit.requests).padStart(9)}  ${hit.route}`),
  ];
  return `${lines.join('\n')}\n`;
}

async function off(name: string): Promise<number> {
  const state = running(name);
  if (!state) return EXIT.INVALID;
  process.kill(state.pid, 'SIGTERM');
  const end = Date.now() + OFF_TIMEOUT_MS;
  while (processStartTime(state.pid) === state.startTime) {
    if (Date.now() > end) {
      process.stderr.write(`error: process ${state.pid} has not ended within ${OFF_TIMEOUT_MS / 1000} s\n`);
      return EXIT.INVALID;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return EXIT.OK;
}
