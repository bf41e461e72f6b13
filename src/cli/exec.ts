/** `sidestep exec`: runs a command inside the mesh. */
import { closeSync } from 'node:fs';
import { request } from 'node:http';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Command, Option } from 'commander';
import { instanceCgroups, isInstanceName, joinCgroup } from '../kernel/cgroups.js';
import { KernelError } from '../kernel/errors.js';
import { type InstanceState, readInstance } from '../kernel/instance.js';
import { enterNamespace, namespaceId, namespacePath, openNamespace } from '../kernel/netns.js';
import { bindPrivately, replaceProcess } from '../kernel/process.js';

/** Exit codes of `exec` itself; every other one is the command's. As env(1) and container tools have them. */
const EXIT = { FAILED: 125, NOT_EXECUTABLE: 126, NOT_FOUND: 127 } as const;

interface ExecOptions {
  readonly name: string;
  readonly bypass: boolean;
  readonly intake?: 'listener';
  readonly netns?: string;
}

/** Adds the command to the program. */
export function register(program: Command): void {
  // So that options after COMMAND belong to COMMAND even without `--`.
  program.enablePositionalOptions();
  program
    .command('exec')
    .description('run a command inside the mesh: in its cgroup, with the service names of the policy files')
    .argument('<command...>', 'the command and its arguments')
    .option('--name <name>', 'instance to join', 'default')
    .addOption(
      new Option('--intake <where>', 'where its requests are decided, if not where the instance says').choices([
        'listener',
      ]),
    )
    .option('--no-bypass', "as a server, keep TCP between it and the mesh's clients on this node")
    .option(
      '--netns <path|name>',
      'network namespace that the command runs in: a file such as /proc/PID/ns/net, or a name of `ip netns` (where it is not the one in which this command is started)',
    )
    .passThroughOptions()
    .addHelpText(
      'after',
      '\nThe command replaces this process, so signals reach it and its exit code is returned (128 + n in a shell when\nsignal n ended it). 125: no such instance, or no privilege; 126: not executable; 127: not found.\n\nExample: sidestep exec -- curl http://reviews/',
    )
    .action(async (command: string[], options: ExecOptions) => {
      process.exitCode = await runInside(options, command);
    });
}

/** @returns an exit code, when the command could not be started; otherwise it does not return. */
async function runInside({ name, bypass, intake, netns }: ExecOptions, command: readonly string[]): Promise<number> {
  const found = findInstance(name);
  if (typeof found === 'string') return fail(found);
  try {
    const path = netns === undefined ? undefined : resolve(namespacePath(netns));
    const namespace = openNamespace(path ?? '/proc/self/ns/net');
    const home = namespaceId(`/proc/${found.pid}/ns/net`);
    // who may not look at the agent may not join the mesh, either, and is told so below
    if (home !== undefined && namespaceId(namespace) !== home) {
      const problem = await askToServe(found, namespace, path);
      if (problem !== undefined) return fail(problem);
    }
    if (path !== undefined) enterNamespace(namespace);
    closeSync(namespace);
    const groups = instanceCgroups(name);
    joinCgroup(intake ? groups[intake] : bypass ? groups.apps : groups.plain);
    bindPrivately(found.hostsFile, '/etc/hosts');
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return fail(error.message);
  }
  try {
    replaceProcess(command);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.code === 'ENOENT') return fail(`${command[0]}: command not found`, EXIT.NOT_FOUND);
    return fail(`${command[0]}: cannot execute (${error.code})`, EXIT.NOT_EXECUTABLE);
  }
}

/** Has the agent listen in the namespace of an open file. @returns why it does not, else undefined */
function askToServe(
  { control }: InstanceState,
  namespace: number,
  path: string | undefined,
): Promise<string | undefined> {
  return new Promise((done) => {
    const asked = request({ socketPath: control, method: 'POST', path: '/namespaces' }, (answer) => {
      text(answer).then(
        (said) => done(answer.statusCode === 200 ? undefined : said.trim()),
        (error: Error) => done(error.message),
      );
    });
    asked.on('error', (error) => done(`the agent cannot be asked to serve the network namespace: ${error.message}`));
    asked.end(JSON.stringify({ file: `/proc/${process.pid}/fd/${namespace}`, path }));
  });
}

/** @returns the state of a running instance, or a sentence that says why there is none. */
function findInstance(name: string): InstanceState | string {
  if (!isInstanceName(name)) return `"${name}" cannot be the name of an instance`;
  const found = readInstance(name);
  const start = `start one with: sidestep run${name === 'default' ? '' : ` --name ${name}`} FILES`;
  switch (found.kind) {
    case 'running':
      if (process.getuid?.() !== 0) return 'exec needs root to join the mesh; try: sudo sidestep exec ...';
      return found.state;
    case 'stale':
      return `the instance "${name}" is not running (its agent, process ${found.state.pid}, is gone); ${start}`;
    case 'unreadable':
      return `${found.path} cannot be read: ${found.problem}`;
    case 'none':
      return `no instance "${name}" is running; ${start}`;
  }
}

function fail(message: string, code: number = EXIT.FAILED): number {
  process.stderr.write(`sidestep exec: ${message}\n`);
  return code;
}
