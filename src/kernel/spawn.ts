/**
 * Starting a program without forking. Node forks, which copies the page tables of the whole process and then every page
 * that is written meanwhile: a tenth of a second of standstill when a large policy has just been compiled. posix_spawn(3)
 * shares the memory until the program is executed, and only the thread that calls it waits.
 */
import { constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelError } from './errors.js';
import { libc } from './libc.js';

const WNOHANG = 1;
const SETSIGDEF = 0x04;
const SETSIGMASK = 0x08;
/** More than posix_spawn_file_actions_t, posix_spawnattr_t and sigset_t take. */
const OPAQUE = 1024;
const POLL_MS = 10;

/** How a program ended. */
export interface Ended {
  /** its exit code; undefined: a signal ended it */
  readonly code: number | undefined;
  readonly signal: number | undefined;
}

/**
 * Runs a program to its end. It gets this process's environment, and descriptors as Node opens them are closed in it.
 * @param path of the program, not looked up
 * @param argv its arguments, its own name not among them
 * @param output file that gets what it writes to standard output and standard error; made anew, for its owner only
 * @param timeoutMs after which it is killed
 * @throws KernelError when it cannot be started
 */
export async function runAside(
  path: string,
  argv: readonly string[],
  output: string,
  timeoutMs: number,
): Promise<Ended> {
  const pid = await start(path, argv, output);
  const end = Date.now() + timeoutMs;
  const status = [0];
  for (let killed = false; ; ) {
    const found = libc().waitpid(pid, status, WNOHANG) as number;
    if (found !== 0) break; // ended, or nobody's child any more
    if (!killed && Date.now() > end) {
      process.kill(pid, 'SIGKILL');
      killed = true;
    }
    await sleep(POLL_MS);
  }
  const signal = status[0]! & 0x7f;
  return signal === 0 ? { code: status[0]! >> 8, signal: undefined } : { code: undefined, signal };
}

async function start(path: string, argv: readonly string[], output: string): Promise<number> {
  const native = libc();
  const check = (result: number) => {
    if (result !== 0) throw new KernelError(`start ${path}`, result);
  };
  const actions = new Uint8Array(OPAQUE);
  const attr = new Uint8Array(OPAQUE);
  const every = new Uint8Array(OPAQUE).fill(0xff, 0, 8);
  check(native.spawnActionsInit(actions));
  try {
    check(native.spawnActionsOpen(actions, 0, '/dev/null', constants.O_RDONLY, 0));
    const { O_WRONLY, O_CREAT, O_TRUNC } = constants;
    check(native.spawnActionsOpen(actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600));
    check(native.spawnActionsDup(actions, 1, 2));
    check(native.spawnAttrInit(attr));
    // what Node blocks and ignores is its own affair
    check(native.spawnAttrFlags(attr, SETSIGDEF | SETSIGMASK));
    check(native.spawnAttrMask(attr, new Uint8Array(OPAQUE)));
    check(native.spawnAttrDefault(attr, every));
    const pid = [0];
    const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`);
    const call = native.posixSpawn as unknown as { async: (...args: unknown[]) => void };
    const result = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, code: number) => (error ? reject(error) : resolve(code));
      call.async(pid, path, actions, attr, [path, ...argv, null], [...environment, null], done);
    });
    check(result);
    return pid[0]!;
  } finally {
    native.spawnActionsDestroy(actions);
  }
}
