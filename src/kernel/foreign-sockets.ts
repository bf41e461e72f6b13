/** Listening sockets of another process, for a socket map: found in /proc, duplicated with pidfd_getfd(2). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { KernelError } from './errors.js';
import { libc } from './libc.js';
import { closeFd } from './syscalls.js';

/** The same numbers on every architecture (they are younger than the tables were unified). */
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;
const LISTEN = '0A';

/**
 * A duplicate of a socket with which process `pid` listens at an address; the caller closes it.
 * @param bytes the address, 4 or 16 bytes in network order
 * @returns undefined when the process does not listen there
 * @throws KernelError when the socket is there, but not for us (EPERM) or the process ends meanwhile (ESRCH)
 */
export function listeningSocketOf(pid: number, bytes: Uint8Array, port: number): number | undefined {
  const inode = listeningInode(pid, bytes, port);
  if (inode === undefined) return undefined;
  for (const name of descriptors(pid)) {
    if (linkOf(pid, name) === `socket:[${inode}]`) return duplicateOf(pid, Number(name));
  }
  return undefined;
}

/** /proc/PID/net/tcp has addresses as 32-bit words in the host's order, ports as numbers, both in hexadecimal. */
function listeningInode(pid: number, bytes: Uint8Array, port: number): string | undefined {
  let address = '';
  for (let i = 0; i < bytes.length; i += 4)
    address += Buffer.from(bytes.slice(i, i + 4))
      .reverse()
      .toString('hex');
  const wanted = `${address}:${port.toString(16).padStart(4, '0')}`.toUpperCase();
  for (const line of read(`/proc/${pid}/net/${bytes.length === 4 ? 'tcp' : 'tcp6'}`).split('\n')) {
    const fields = line.trim().split(/\s+/);
    if (fields[1] === wanted && fields[3] === LISTEN) return fields[9];
  }
  return undefined;
}

function duplicateOf(pid: number, fd: number): number {
  const process = libc().syscall(SYS_PIDFD_OPEN, pid, 0, 0) as number;
  if (process < 0) throw new KernelError(`open process ${pid}`, koffi.errno());
  try {
    const copy = libc().syscall(SYS_PIDFD_GETFD, process, fd, 0) as number;
    if (copy < 0) throw new KernelError(`duplicate a descriptor of process ${pid}`, koffi.errno());
    return copy;
  } finally {
    closeFd(process);
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process is gone
  }
}

function descriptors(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function linkOf(pid: number, fd: string): string {
  try {
    return readlinkSync(join(`/proc/${pid}/fd`, fd));
  } catch {
    return '';
  }
}
