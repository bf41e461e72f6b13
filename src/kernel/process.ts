/** Becoming another process in a mount namespace of its own. */
import koffi from 'koffi';
import { KernelError } from './errors.js';
import { libc } from './libc.js';

const CLONE_NEWNS = 0x20000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_PRIVATE = 0x40000;
const F_SETFD = 2;
const SIGPIPE = 13;
const SIGXFSZ = 25;

/**
 * Gives this thread, and what it executes, a private mount namespace in which `file` is seen at `target`. Nothing
 * changes for any other process.
 * @throws KernelError (EPERM without CAP_SYS_ADMIN)
 */
export function bindPrivately(file: string, target: string): void {
  const native = libc();
  if (native.unshare(CLONE_NEWNS) !== 0) throw new KernelError('make a mount namespace', koffi.errno());
  // Without this, a mount in the new namespace would propagate back to the host's.
  if (native.mount('none', '/', null, MS_REC | MS_PRIVATE, null) !== 0)
    throw new KernelError('make the mount namespace private', koffi.errno());
  if (native.mount(file, target, null, MS_BIND, null) !== 0)
    throw new KernelError(`show ${file} as ${target}`, koffi.errno());
}

/**
 * Replaces this process by a command (looked up in PATH): the command has this process's id, terminal, standard streams
 * and environment, so signals and the exit code need nobody in between.
 * @throws KernelError ENOENT, EACCES ...; on success it does not return
 */
export function replaceProcess(command: readonly string[]): never {
  const native = libc();
  // Node ignores these two, and what is ignored stays ignored across exec: a command must start with the defaults.
  native.signal(SIGPIPE, null);
  native.signal(SIGXFSZ, null);
  // It also marks every descriptor that it was started with close-on-exec, the standard streams included.
  for (const fd of [0, 1, 2]) native.fcntl(fd, F_SETFD, 0);
  native.execvp(command[0], [...command, null]);
  const errno = koffi.errno();
  throw new KernelError(`execute ${command[0]}`, errno);
}
