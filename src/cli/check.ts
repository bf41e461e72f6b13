import { writeFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { type CheckOutput, check, offloaded } from '../report/check.js';
import { checkHtml } from '../report/html.js';
import { type Paint, paintFor } from '../report/paint.js';
import { checkText, findingText } from '../report/text.js';
import { type ClientsOptions, clientsOf, withClients } from './clients.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { toJsonText } from './input.js';

interface Options extends ClientsOptions {
  readonly json?: boolean;
  readonly html?: string;
  readonly require?: number;
  readonly verbose?: boolean;
}

/** Findings that are printed unless --verbose asks for all. */
const FINDINGS = 40;

function share(text: string): number {
  const m = /^(\d+(?:\.\d+)?)%?$/.exec(text);
  const value = m ? Number(m[1]) : Number.NaN;
  if (!(value >= 0 && value <= 100)) throw new InvalidArgumentError('a share is a number from 0% to 100%.');
  return value;
}

function findings(output: CheckOutput, verbose: boolean, paint: Paint): string {
  const lines = [
    ...output.errors.map((f) => findingText('error', f, paint)),
    ...output.warnings.map((f) => findingText('warning', f, paint)),
  ];
  const shown = verbose ? lines : lines.slice(0, FINDINGS);
  if (shown.length < lines.length) shown.push(`and ${lines.length - shown.length} more (--verbose shows them)`);
  return shown.map((line) => `${line}\n`).join('');
}

/** `check FILES`: every rule, where it is enforced, and why. */
export function register(program: Command): void {
  withClients(program.command('check'))
    .description('say for every rule whether the kernel or the proxy enforces it, and why')
    .argument('<files...>', 'files or folders with policies, - for standard input')
    .option('--json', 'print the report as JSON (docs/check-report.schema.json describes it)')
    .option('--html <file>', 'write the report as one HTML page, with the annotated sources')
    .option('--require <share>', 'exit with 1 unless at least this share of the rules is offloaded, e.g. 95%', share)
    .option('-v, --verbose', 'show every rule, reason and warning, however many')
    .addHelpText('after', exitHelp({ 0: 'done', 1: 'invalid input, or less is offloaded than --require asks for' }))
    .action(async (files: string[], options: Options) => {
      const { output, sources } = await check(files, clientsOf(options));
      const verbose = options.verbose === true;
      if (!options.json) process.stderr.write(findings(output, verbose, paintFor(process.stderr)));
      if (options.html !== undefined) {
        try {
          writeFileSync(options.html, checkHtml(output, sources));
        } catch (error) {
          process.stderr.write(`error: ${options.html} cannot be written: ${(error as Error).message}\n`);
          process.exitCode = EXIT.USAGE;
          return;
        }
      }
      const width = process.stdout.columns;
      const paint = paintFor(process.stdout);
      process.stdout.write(
        options.json
          ? `${toJsonText(output)}\n`
          : checkText(output, { verbose, paint, ...(width === undefined ? {} : { width }) }),
      );
      const met = options.require === undefined || offloaded(output) >= options.require;
      if (!met)
        process.stderr.write(
          `${offloaded(output).toFixed(1)}% of the rules are offloaded, ${options.require}% are required\n`,
        );
      process.exitCode = output.errors.length === 0 && met ? EXIT.OK : EXIT.INVALID;
    });
}
