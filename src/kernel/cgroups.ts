/**
 * The cgroups of an instance: `sidestep-NAME/apps` for the applications of the mesh, `sidestep-NAME/plain` for those that
 * are to be clients only in the eyes of the mesh (no same-node bypass), `sidestep-NAME/listener` for those whose sockets
 * must not be in a map at all (listener intake), and `sidestep-NAME/agent` for the agent itself (its sockets need the
 * hooks that watch upstream connections). Programs are attached to these and never to an ancestor, so that nothing
 * outside them is touched.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KernelError } from './errors.js';

const PREFIX = 'sidestep-';

/** Directories of an instance's cgroups. */
export interface InstanceCgroups {
  readonly name: string;
  readonly root: string;
  readonly apps: string;
  /** applications with listener intake */
  readonly listener: string;
  /** applications whose sockets as a server stay as they are (no same-node bypass) */
  readonly plain: string;
  readonly agent: string;
}

/** Whether `name` can name an instance: letters, digits, `.`, `_`, `-`, at most 48, starting with a letter or digit. */
export function isInstanceName(name: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,47}$/.test(name);
}

/** The mount point of the unified hierarchy. @throws KernelError with a hint when there is none. */
function cgroup2Mount(mounts: string = readFileSync('/proc/self/mounts', 'utf8')): string {
  for (const line of mounts.split('\n')) {
    const [, point, type] = line.split(' ');
    // Blanks in a mount point are written as octal escapes.
    if (type === 'cgroup2' && point)
      return point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  }
  throw new KernelError('find a cgroup2 mount (mount one: mount -t cgroup2 none /sys/fs/cgroup/unified)', 0);
}

/** The directories of an instance, whether they exist or not. @throws RangeError for a bad name. */
export function instanceCgroups(name: string): InstanceCgroups {
  if (!isInstanceName(name)) throw new RangeError(`"${name}" cannot be the name of an instance`);
  const root = join(cgroup2Mount(), PREFIX + name);
  const inside = (part: string): string => join(root, part);
  return {
    ...{
      name,
      root,
      apps: inside('apps'),
      plain: inside('plain'),
      listener: inside('listener'),
      agent: inside('agent'),
    },
  };
}

/** Creates what is missing of an instance's cgroups. @throws KernelError EPERM, EROFS ... */
export function createCgroups(name: string): InstanceCgroups {
  const groups = instanceCgroups(name);
  for (const path of [groups.root, groups.apps, groups.plain, groups.listener, groups.agent]) {
    attempt(`create the cgroup ${path}`, () => {
      if (!existsSync(path)) mkdirSync(path);
    });
  }
  return groups;
}

/** Moves a process (all its threads) into a cgroup; its future children start there too. */
export function joinCgroup(path: string, pid: number = process.pid): void {
  attempt(`move process ${pid} into the cgroup ${path}`, () => writeFileSync(join(path, 'cgroup.procs'), `${pid}`));
}

/** The cgroup2 directory of a process: where to move it back to. */
export function currentCgroup(pid: number | 'self' = 'self'): string {
  const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .find((l) => l.startsWith('0::'));
  return join(cgroup2Mount(), line?.slice(3) ?? '/');
}

/** The processes directly in a cgroup; empty when it does not exist. */
export function cgroupProcesses(path: string): number[] {
  try {
    return readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** A descriptor of the directory, for attaching programs. */
export function openCgroup(path: string): number {
  return attempt(`open the cgroup ${path}`, () => openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
}

/**
 * Removes an instance's cgroups. Processes that are still in them are moved to the parent of the instance's root first:
 * they run on outside the mesh, exactly as if they had never been in it.
 * @returns the processes that were moved
 */
export function removeCgroups(name: string): number[] {
  const groups = instanceCgroups(name);
  const moved: number[] = [];
  for (const path of [groups.apps, groups.plain, groups.listener, groups.agent, groups.root]) {
    if (!existsSync(path)) continue;
    for (const pid of cgroupProcesses(path)) {
      // It may have exited since the list was read.
      if (!existsSync(`/proc/${pid}`)) continue;
      joinCgroup(join(groups.root, '..'), pid);
      moved.push(pid);
    }
    removeWhenEmpty(path);
  }
  return moved;
}

/** rmdir, a few times: a cgroup stays busy for a moment after its last process was killed. */
function removeWhenEmpty(path: string): void {
  for (let tries = 0; ; tries++) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || tries === 50) throw fsError(`remove the cgroup ${path}`, error);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

function attempt<T>(action: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw fsError(action, error);
  }
}

function fsError(action: string, error: unknown): KernelError {
  return new KernelError(action, Math.abs((error as NodeJS.ErrnoException).errno ?? 0));
}

/** Closes a descriptor made by openCgroup. */
export function closeCgroup(fd: number): void {
  closeSync(fd);
}
