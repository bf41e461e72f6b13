/**
 * Network namespaces of other processes. setns(2) moves one thread only, and everything here is done by the thread that
 * runs JavaScript, at one go: nothing else can happen on it in between.
 */
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { errnoNumber, KernelError } from './errors.js';
import { libc } from './libc.js';
import { netnsCookieOf, setsockopt } from './syscalls.js';

const CLONE_NEWNET = 0x40000000;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const NAMED = '/run/netns';

/** The file of a namespace: `NAME` as `ip netns` has it, or a path. */
export function namespacePath(text: string): string {
  return text.includes('/') ? text : join(NAMED, text);
}

/** Opens a namespace's file; the namespace lives as long as the descriptor. @throws KernelError ENOENT, EACCES ... */
export function openNamespace(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw new KernelError(`find the network namespace ${path}`, Math.abs((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

/** What tells a namespace's file from others while somebody holds it open; undefined when there is no such file. */
export function namespaceId(file: string | number): string | undefined {
  try {
    const { dev, ino } = typeof file === 'number' ? fstatSync(file) : statSync(file);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** Moves the calling thread, and what it executes, into a network namespace. @throws KernelError (EINVAL: not one) */
export function enterNamespace(fd: number): void {
  if (libc().setns(fd, CLONE_NEWNET) !== 0) throw new KernelError('enter the network namespace', koffi.errno());
}

/**
 * Does something, synchronous, in another network namespace. A thread that could not come back would open every later
 * socket in the wrong place, so that ends the process.
 */
export function inNamespace<T>(fd: number, action: () => T): T {
  const home = openSync('/proc/self/ns/net', constants.O_RDONLY);
  try {
    enterNamespace(fd);
    try {
      return action();
    } finally {
      if (libc().setns(home, CLONE_NEWNET) !== 0) process.abort();
    }
  } finally {
    closeSync(home);
  }
}

function socket(family: number, type: number): number {
  const fd = libc().socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) as number;
  if (fd < 0) throw new KernelError('open a socket', koffi.errno());
  return fd;
}

/** struct sockaddr_in or sockaddr_in6. @param bytes the address, 4 or 16 bytes */
function socketAddress(bytes: Uint8Array, port: number): Uint8Array {
  const v6 = bytes.length === 16;
  const out = new Uint8Array(v6 ? 28 : 16);
  const view = new DataView(out.buffer);
  view.setUint16(0, v6 ? AF_INET6 : AF_INET, true);
  view.setUint16(2, port);
  out.set(bytes, v6 ? 8 : 4);
  return out;
}

/** The cookie of the calling thread's network namespace. */
export function currentNetnsCookie(): bigint {
  const fd = socket(AF_INET, SOCK_DGRAM);
  try {
    return netnsCookieOf(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * A TCP socket bound to an address of the calling thread's namespace, port 0 for any, that does not listen yet.
 * @param bytes the address, 4 or 16 bytes
 * @returns undefined where the namespace does not have this family, or not this address
 */
export function boundSocket(bytes: Uint8Array, port = 0): { fd: number; port: number } | undefined {
  const v6 = bytes.length === 16;
  let fd: number;
  try {
    fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM);
  } catch (error) {
    if (error instanceof KernelError && error.code === 'EAFNOSUPPORT') return undefined;
    throw error;
  }
  try {
    if (v6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, new Uint8Array([1, 0, 0, 0]));
    const address = socketAddress(bytes, port);
    if (libc().bind(fd, address, address.length) !== 0) {
      const errno = koffi.errno() as number;
      if (errno !== errnoNumber('EADDRNOTAVAIL')) throw new KernelError('bind a socket', errno);
      closeSync(fd);
      return undefined;
    }
    const bound = new Uint8Array(28);
    if (libc().getsockname(fd, bound, [bound.length]) !== 0)
      throw new KernelError('ask for the address of a socket', koffi.errno());
    return { fd, port: new DataView(bound.buffer).getUint16(2) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * The address from which the calling thread's namespace would connect to another one; nothing is sent.
 * @param bytes the destination, 4 or 16 bytes
 * @returns 4 or 16 bytes, undefined when there is no way there
 */
export function sourceTowards(bytes: Uint8Array): Uint8Array | undefined {
  const v6 = bytes.length === 16;
  let fd: number | undefined;
  try {
    fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    const address = socketAddress(bytes, 9);
    if (libc().connect(fd, address, address.length) !== 0) return undefined;
    const own = new Uint8Array(28);
    if (libc().getsockname(fd, own, [own.length]) !== 0) return undefined;
    return own.slice(v6 ? 8 : 4, v6 ? 24 : 8);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Addresses of the calling thread's namespace's interfaces; link-local ones without their zone. */
export function interfaceAddresses(): { readonly address: string; readonly internal: boolean }[] {
  return Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map(({ address, internal }) => ({ address: address.split('%')[0]!, internal })),
  );
}
