import type { Command } from 'commander';
import { REASONS } from '../plan/reasons.js';
import { GUIDES, reasonText } from '../report/guides.js';
import { reasonPage } from '../report/pages.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { toJsonText } from './input.js';

/** All reasons, or one with its example, for people. */
async function reasonsText(code: string | undefined): Promise<string | undefined> {
  if (code !== undefined) return code in REASONS ? await reasonPage(code) : undefined;
  const codes = Object.keys(REASONS);
  const width = Math.max(...codes.map((c) => c.length));
  return codes.map((c) => `${c.padEnd(width)}  ${reasonText(c).title}\n`).join('');
}

/** `reasons [CODE]`: why rules are left to the proxy, and what would change it. */
export function register(program: Command): void {
  program
    .command('reasons')
    .description('list the reasons for which rules are left to the proxy, or explain one, with an example')
    .argument('[code]', 'a reason, e.g. mirror')
    .option('--json', 'print the reasons as JSON')
    .addHelpText('after', exitHelp({ 0: 'done' }))
    .action(async (code: string | undefined, options: { json?: boolean }) => {
      const text = await reasonsText(code);
      if (text === undefined) {
        process.stderr.write(`error: there is no reason ${code}; \`sidestep reasons\` lists them\n`);
        process.exitCode = EXIT.USAGE;
        return;
      }
      const codes = code === undefined ? Object.keys(REASONS) : [code];
      const json = codes.map((c) => ({ code: c, ...reasonText(c), fix: GUIDES[c]?.fix ?? '' }));
      process.stdout.write(options.json ? `${toJsonText(json)}\n` : text);
    });
}
