import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { demoPage, demoText } from '../demo/report.js';
import { type RunningDemo, runDemo } from '../demo/run.js';
import { Lab } from '../lab/processes.js';
import { whyNoSidestep } from '../lab/sidestep.js';
import { EXIT, exitHelp } from './exit-codes.js';

interface Flags {
  readonly keep?: true;
  readonly json?: true;
  readonly policies: 'istio' | 'envoy';
  readonly page: string;
}

const TIME_LIMIT_MS = 120_000;
const REQUESTS_PER_KIND = 200;

/** Adds `sidestep demo`. */
export function register(program: Command): void {
  program
    .command('demo')
    .description('a real small application with policies, proxy and fast path on this machine, in one command')
    .option('--keep', 'leave it running until interrupted')
    .option('--json', 'print the report as JSON')
    .addOption(
      new Option('--policies <form>', 'which form of the same policies').choices(['istio', 'envoy']).default('istio'),
    )
    .option('--page <file>', 'where the page is written', 'sidestep-demo.html')
    .addHelpText(
      'after',
      exitHelp({ 0: 'every answer was right', 1: 'some answer was wrong', 3: 'something could not be started' }),
    )
    .action(async (flags: Flags) => {
      const why = whyNoSidestep();
      if (why) {
        console.error(`sidestep demo: ${why}`);
        process.exitCode = EXIT.UNAVAILABLE;
        return;
      }
      const lab = await Lab.open('demo');
      let stopped: string | undefined;
      const stop = (reason: string): void => {
        stopped ??= reason;
        // what the demo waits for fails when its processes end
        void lab.close();
      };
      const limit = setTimeout(() => stop(`not done after ${TIME_LIMIT_MS / 1000} s`), TIME_LIMIT_MS);
      const interrupted = (): void => stop('interrupted');
      process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
      try {
        const demo = await runDemo(lab, {
          policies: flags.policies,
          requests: REQUESTS_PER_KIND,
          ...(flags.keep ? { name: 'demo' } : {}),
          progress: (text) => process.stderr.write(`${text}\n`),
        });
        clearTimeout(limit);
        process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
        await finish(demo, flags);
      } catch (error) {
        console.error(`sidestep demo: ${stopped ?? (error as Error).message}`);
        process.exitCode = EXIT.UNAVAILABLE;
      } finally {
        clearTimeout(limit);
        await lab.close();
      }
    });
}

async function finish({ report, sidestep }: RunningDemo, flags: Flags): Promise<void> {
  const page = resolve(flags.page);
  await writeFile(page, demoPage(report));
  console.log(flags.json ? JSON.stringify({ ...report, page }, null, 2) : `${demoText(report)}\npage: ${page}`);
  process.exitCode = report.failures ? 1 : 0;
  if (!flags.keep) return;
  process.stderr.write(
    `running until interrupted; try: sidestep exec --name ${sidestep.name} -- curl -i http://catalog/old/3\n`,
  );
  await new Promise<void>((done) => {
    process.once('SIGINT', done).once('SIGTERM', done);
  });
}
