import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BenchOptions, CONFIGS, type Config, runHttp1, SUITES, type Suite } from '../bench/http1.js';
import { markdown, plainText } from '../bench/report.js';
import { packageRoot } from '../lab/paths.js';
import { whyNoSidestep } from '../lab/sidestep.js';

interface Flags {
  readonly suite: Suite | 'policy-size';
  readonly json?: true;
  readonly markdown?: true | string;
  readonly rounds: number;
  readonly seconds: number;
  readonly connections: readonly number[];
  readonly configs?: readonly Config[];
  readonly sizes: readonly number[];
}

function positive(text: string): number {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('a positive whole number is needed');
  return n;
}

function configs(text: string): Config[] {
  return text.split(',').map((name) => {
    const known = CONFIGS.find((c) => c === name);
    if (!known) throw new InvalidArgumentError(`choose from ${CONFIGS.join(', ')}`);
    return known;
  });
}

/** Where the results of a suite are kept in a checkout. */
function pageOf(suite: Suite): string {
  return suite === 'netns' ? 'docs/benchmarks-netns.md' : 'docs/benchmarks.md';
}

async function policySize(flags: Flags): Promise<void> {
  const why = whyNoSidestep();
  try {
    if (why) throw new Error(why);
    const { runPolicySize, sizeMarkdown, sizeText } = await import('../bench/policy-size.js');
    const result = await runPolicySize({
      ...{ sizes: flags.sizes, connections: flags.connections, rounds: flags.rounds, seconds: flags.seconds },
      progress: (text) => process.stderr.write(`${text}\n`),
    });
    console.log(flags.json ? JSON.stringify(result, null, 2) : sizeText(result));
    if (flags.markdown) {
      const file = flags.markdown === true ? join(packageRoot(), 'docs/policy-size.md') : flags.markdown;
      await writeFile(file, sizeMarkdown(result));
      process.stderr.write(`written: ${file}\n`);
    }
  } catch (error) {
    console.error(`sidestep bench: ${(error as Error).message}`);
    process.exitCode = 3;
  }
}

/** Adds `sidestep bench`. Exit codes: 0 done, 2 wrong usage, 3 a program or privilege is missing or a request failed. */
export function register(program: Command): void {
  program
    .command('bench')
    .description('the same load through no mesh, the proxy, and Sidestep, side by side')
    .addOption(
      new Option('--suite <name>', 'what is measured')
        .choices([...Object.keys(SUITES), 'policy-size'])
        .default('http1'),
    )
    .option('--rounds <n>', 'interleaved rounds, of which medians are taken', positive, 5)
    .option('--seconds <n>', 'length of each measurement', positive, 3)
    .option(
      '--connections <list>',
      'numbers of connections',
      (text: string) => text.split(',').map(positive),
      [1, 16, 64],
    )
    .option('--configs <list>', `some of ${CONFIGS.join(',')}`, configs)
    .option(
      '--sizes <list>',
      'policy-size: numbers of routes',
      (text: string) => text.split(',').map(positive),
      [10, 100, 1000, 10_000],
    )
    .option('--json', 'print the result as JSON')
    .option(
      '--markdown [file]',
      'write the table to a file (docs/benchmarks.md, docs/benchmarks-netns.md, docs/policy-size.md)',
    )
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 2 wrong usage, 3 a program or privilege is missing, or a request failed.',
    )
    .action(async (flags: Flags) => {
      if (flags.suite === 'policy-size') return policySize(flags);
      const measured = flags.configs ?? SUITES[flags.suite];
      const why = measured.some((config) => config.startsWith('sidestep')) ? whyNoSidestep() : undefined;
      if (why) {
        console.error(`sidestep bench: ${why}`);
        process.exitCode = 3;
        return;
      }
      const options: BenchOptions = {
        ...{
          suite: flags.suite,
          configs: measured,
          connections: flags.connections,
          rounds: flags.rounds,
          seconds: flags.seconds,
        },
        progress: (text) => process.stderr.write(`${text}\n`),
      };
      try {
        const result = await runHttp1(options);
        console.log(flags.json ? JSON.stringify(result, null, 2) : plainText(result));
        if (flags.markdown) {
          const file = flags.markdown === true ? join(packageRoot(), pageOf(flags.suite)) : flags.markdown;
          await writeFile(file, markdown(result));
          process.stderr.write(`written: ${file}\n`);
        }
      } catch (error) {
        console.error(`sidestep bench: ${(error as Error).message}`);
        process.exitCode = 3;
      }
    });
}
