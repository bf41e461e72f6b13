import { type Command, InvalidArgumentError } from 'commander';
import { compileImage } from '../compile/image.js';
import { buildPlan } from '../plan/build.js';
import type { Plan } from '../plan/ir.js';
import { type CheckReport, type Refused, report } from '../plan/report.js';
import { EXIT, EXIT_HELP } from './exit-codes.js';
import { loadInput, toJsonText } from './input.js';

interface Options {
  readonly json?: boolean;
  readonly require?: number;
}

function share(text: string): number {
  const m = /^(\d+(?:\.\d+)?)%?$/.exec(text);
  const value = m ? Number(m[1]) : Number.NaN;
  if (!(value >= 0 && value <= 100)) throw new InvalidArgumentError('a share is a number from 0% to 100%.');
  return value;
}

/** What the plan offloads and the compiler has no room for, by route id. */
export function refusedByCompiler(plan: Plan): Refused {
  // no endpoint is contacted: any ids do
  const ids = new Map<string, number>();
  const idOf = (key: string): number => {
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    return id;
  };
  return compileImage(plan, {
    generation: 1,
    endpointId: (address, port) => idOf(`${address} ${port}`),
    proxyEndpointId: (listener) => idOf(listener),
  }).verdicts;
}

/** The share of rules in the kernel, in percent; 100 when there are no rules. */
export function offloaded(result: CheckReport): number {
  return result.rules === 0 ? 100 : (100 * result.kernel) / result.rules;
}

/** The report for people: one line a rule, its reasons below. */
export function checkText(result: CheckReport): string {
  const lines: string[] = [];
  for (const r of result.results) {
    const where = `${r.file}:${r.line}`;
    lines.push(`${r.verdict.padEnd(7)} ${where}  ${[r.kind, r.name, r.rule].filter((s) => s !== '').join(' ')}`);
    for (const reason of r.reasons) {
      const line = reason.line > 0 && reason.line !== r.line ? ` (line ${reason.line})` : '';
      lines.push(`        ${reason.code}: ${reason.message} [${reason.field}]${line}`);
    }
  }
  const percent = offloaded(result).toFixed(1);
  lines.push(
    `${result.rules} rules in ${result.documents} documents: ${result.kernel} in the kernel (${percent}%), ${result.proxy} through the proxy`,
  );
  if (result.errors.length > 0) lines.push(`${result.errors.length} errors: nothing would be loaded`);
  return `${lines.join('\n')}\n`;
}

/** `check FILES`: every rule, where it is enforced, and why. */
export function register(program: Command): void {
  program
    .command('check')
    .description('say for every rule whether the kernel or the proxy enforces it, and why')
    .argument('<files...>', 'files or folders with policies, - for standard input')
    .option('--json', 'print the report as JSON')
    .option('--require <share>', 'exit with 1 unless at least this share of the rules is offloaded, e.g. 95%', share)
    .addHelpText('after', EXIT_HELP)
    .action(async (files: string[], options: Options) => {
      const { resources, ok } = await loadInput(files, options.json, { assumeEndpoints: true });
      const plan = buildPlan(resources);
      const result = report(resources, plan, ok ? refusedByCompiler(plan) : undefined);
      process.stdout.write(options.json ? `${toJsonText(result)}\n` : checkText(result));
      const met = options.require === undefined || offloaded(result) >= options.require;
      if (!met)
        process.stderr.write(
          `${offloaded(result).toFixed(1)}% of the rules are offloaded, ${options.require}% are required\n`,
        );
      process.exitCode = ok && met ? EXIT.OK : EXIT.INVALID;
    });
}
