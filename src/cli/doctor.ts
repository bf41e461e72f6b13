/** `sidestep doctor`: what this machine can do, by trying it. */
import type { Command } from 'commander';
import { type Check, probeAll } from '../kernel/probes.js';
import { EXIT, exitHelp } from './exit-codes.js';

/** Adds the command to the program. */
export function register(program: Command): void {
  program
    .command('doctor')
    .description('find out, by trying, what this kernel and this user can do')
    .option('--json', 'print what was found out as JSON')
    .addHelpText(
      'after',
      exitHelp({ 0: 'the fast path works here', 3: 'something is missing, and the hint says what' }),
    )
    .action(async (options: { json?: boolean }) => {
      const checks = await probeAll();
      const ok = checks.every((c) => c.ok);
      process.stdout.write(options.json ? `${JSON.stringify({ ok, checks }, null, 2)}\n` : format(checks));
      process.exitCode = ok ? 0 : EXIT.UNAVAILABLE;
    });
}

function format(checks: readonly Check[]): string {
  const width = Math.max(...checks.map((c) => c.name.length));
  const lines = checks.map((c) => {
    const hint = c.ok || !c.hint ? '' : `\n      ${' '.repeat(width)}${c.hint}`;
    return `${c.ok ? 'ok  ' : 'FAIL'}  ${c.name.padEnd(width)}${c.detail ? `  ${c.detail}` : ''}${hint}`;
  });
  const failed = checks.filter((c) => !c.ok).length;
  lines.push(failed === 0 ? 'The fast path works here.' : `${failed} of ${checks.length} checks failed.`);
  return `${lines.join('\n')}\n`;
}
