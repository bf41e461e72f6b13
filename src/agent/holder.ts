/**
 * A process that does nothing but hold descriptors: the links of inbound steering. A link vanishes with its last
 * descriptor, and then a workload's port would be open; so while agent and proxy are both gone, this one keeps the
 * port closed. The next instance of the name ends it once its own hooks are there.
 */
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processStartTime } from '../kernel/instance.js';

const RECORD = 'holder.json';

export interface Holder {
  readonly pid: number;
  readonly startTime: number;
}

/** Starts one that holds `fds`; `folder`: the instance's. @throws Error when it cannot be started */
export function startHolder(folder: string, fds: readonly number[]): Holder {
  const child = spawn('sleep', ['infinity'], {
    argv0: `sidestep-holder ${folder}`,
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', ...fds],
  });
  child.on('error', () => undefined);
  child.unref();
  const startTime = child.pid === undefined ? undefined : processStartTime(child.pid);
  if (child.pid === undefined || startTime === undefined) throw new Error('the program sleep cannot be started');
  const holder = { pid: child.pid, startTime };
  writeFileSync(join(folder, RECORD), JSON.stringify(holder));
  return holder;
}

/** The one that an earlier instance has left. */
export function leftHolder(folder: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as Holder;
    return processStartTime(holder.pid) === holder.startTime ? holder : undefined;
  } catch {
    return undefined;
  }
}

/** Ends one: what it held is released, unless others hold it, too. */
export function endHolder(folder: string, holder: Holder): void {
  if (processStartTime(holder.pid) === holder.startTime) process.kill(holder.pid, 'SIGKILL');
  if (leftHolder(folder) === undefined) rmSync(join(folder, RECORD), { force: true });
}
