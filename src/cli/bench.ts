import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BenchOptions, CONFIGS, type Config, runHttp1, SUITES, type Suite } from '../bench/http1.js';
import { markdown, plainText } from '../bench/report.js';
import { packageRoot } from '../lab/paths.js';
import { whyNoSidestep } from '../lab/sidestep.js';
import { EXIT, exitHelp } from './exit-codes.js';

interface Flags {
  readonly suite: Suite | 'policy-size' | 'answers' | 'http2';
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
  return suite === 'http1' || suite === 'bypass' ? 'docs/benchmarks.md' : `docs/benchmarks-${suite}.md`;
}

/** A suite with a result of its own: prints it, and writes its page if that is asked for. */
async function own<T>(
  flags: Flags,
  page: string,
  suite: () => Promise<{ result: T; text: (r: T) => string; markdown: (r: T) => string }>,
): Promise<void> {
  const why = whyNoSidestep();
  try {
    if (why) throw new Error(why);
    const { result, text, markdown } = await suite();
    console.log(flags.json ? JSON.stringify(result, null, 2) : text(result));
    if (flags.markdown) {
      const file = flags.markdown === true ? join(packageRoot(), page) : flags.markdown;
      await writeFile(file, markdown(result));
      process.stderr.write(`written: ${file}\n`);
    }
  } catch (error) {
    console.error(`sidestep bench: ${(error as Error).message}`);
    process.exitCode = EXIT.UNAVAILABLE;
  }
}

const progress = (text: string): void => void process.stderr.write(`${text}\n`);

function policySize(flags: Flags): Promise<void> {
  return own(flags, 'docs/policy-size.md', async () => {
    const { runPolicySize, sizeMarkdown, sizeText } = await import('../bench/policy-size.js');
    const { sizes, connections, rounds, seconds } = flags;
    const result = await runPolicySize({ sizes, connections, rounds, seconds, progress });
    return { result, text: sizeText, markdown: sizeMarkdown };
  });
}

function answers(flags: Flags): Promise<void> {
  return own(flags, 'docs/benchmarks-answers.md', async () => {
    const { runAnswers, answersMarkdown, answersText } = await import('../bench/answers.js');
    const { connections, rounds, seconds } = flags;
    const result = await runAnswers({ connections, rounds, seconds, progress });
    return { result, text: answersText, markdown: answersMarkdown };
  });
}

function http2(flags: Flags): Promise<void> {
  return own(flags, 'docs/benchmarks-http2.md', async () => {
    const { runHttp2, http2Markdown, http2Text } = await import('../bench/http2.js');
    const result = await runHttp2({ rounds: flags.rounds, seconds: flags.seconds, progress });
    return { result, text: http2Text, markdown: http2Markdown };
  });
}

/** Adds `sidestep bench`. */
export function register(program: Command): void {
  program
    .command('bench')
    .description('the same load through no mesh, the proxy, and Sidestep, side by side')
    .addOption(
      new Option('--suite <name>', 'what is measured')
        .choices([...Object.keys(SUITES), 'policy-size', 'answers', 'http2'])
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
      'write the table to a file (docs/benchmarks.md, docs/benchmarks-SUITE.md, docs/policy-size.md)',
    )
    .addHelpText('after', exitHelp({ 0: 'done', 3: 'a program or a privilege is missing, or a request failed' }))
    .action(async (flags: Flags) => {
      if (flags.suite === 'policy-size') return policySize(flags);
      if (flags.suite === 'answers') return answers(flags);
      if (flags.suite === 'http2') return http2(flags);
      const measured = flags.configs ?? SUITES[flags.suite];
      const why = measured.some((config) => config.startsWith('sidestep')) ? whyNoSidestep() : undefined;
      if (why) {
        console.error(`sidestep bench: ${why}`);
        process.exitCode = EXIT.UNAVAILABLE;
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
        progress,
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
        process.exitCode = EXIT.UNAVAILABLE;
      }
    });
}
