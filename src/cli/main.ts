/** The command line. One file a command (`status` has `off` as well), each exporting `register(program)`; a new command is one line in COMMANDS. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { EXIT, exitHelp } from './exit-codes.js';

/** In the order of `--help`. */
const COMMANDS: Readonly<Record<string, () => Promise<{ register(program: Command): void }>>> = {
  check: () => import('./check.js'),
  explain: () => import('./explain.js'),
  reasons: () => import('./reasons.js'),
  translate: () => import('./translate.js'),
  run: () => import('./run.js'),
  exec: () => import('./exec.js'),
  status: () => import('./status.js'),
  doctor: () => import('./doctor.js'),
  demo: () => import('./demo.js'),
  bench: () => import('./bench.js'),
};

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
// Only what is called, if that is certain: `exec` stands before every application, and all of Sidestep takes 0.3 s to load.
const named = Object.hasOwn(COMMANDS, process.argv[2] ?? '') ? COMMANDS[process.argv[2]!] : undefined;
for (const load of named ? [named] : Object.values(COMMANDS)) (await load()).register(program);

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
