/** The command line. One file a command, each exporting `register(program)`; a new command is one line in COMMANDS. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { register as bench } from './bench.js';
import { register as check } from './check.js';
import { register as demo } from './demo.js';
import { register as doctor } from './doctor.js';
import { register as exec } from './exec.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { register as explain } from './explain.js';
import { register as reasons } from './reasons.js';
import { register as run } from './run.js';
import { register as status } from './status.js';
import { register as translate } from './translate.js';

const COMMANDS: readonly ((program: Command) => void)[] = [
  check,
  explain,
  reasons,
  translate,
  run,
  exec,
  status,
  doctor,
  demo,
  bench,
];

/** The version in package.json, which lies two folders above both the sources and the built files. */
function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

const program = new Command('sidestep')
  .description('Enforces a service mesh’s L7 policies inside the Linux kernel and leaves the rest to the proxy.')
  .version(version())
  .addHelpText(
    'after',
    exitHelp({
      [EXIT.OK]: 'done',
      [EXIT.INVALID]: 'invalid input, or a requirement that is not met',
      [EXIT.UNAVAILABLE]: 'a privilege, a program or a feature of the kernel is missing',
    }),
  )
  .showHelpAfterError('(--help says more)')
  // passed on to `exec -- COMMAND --its-options`
  .enablePositionalOptions();
for (const register of COMMANDS) register(program);

/** Commander ends with 1 for wrong usage; scripts are promised 2. */
function usageExit(command: Command): void {
  command.exitOverride((error) => {
    process.exit(error.exitCode === 0 ? EXIT.OK : EXIT.USAGE);
  });
  for (const sub of command.commands) usageExit(sub);
}
usageExit(program);

try {
  await program.parseAsync(process.argv);
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  if (process.env.SIDESTEP_DEBUG) process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
  process.exitCode = EXIT.INVALID;
}
