/** Socket options and other system calls on file descriptors that Node owns but does not let us reach. */
import { closeSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import koffi from 'koffi';
import { KernelError } from './errors.js';
import { libc } from './libc.js';

const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const SO_ERROR = 4;
const SO_LINGER = 13;
const SO_RCVLOWAT = 18;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_COOKIE = 57;
const SO_NETNS_COOKIE = 71;
const TCP_NODELAY = 1;
const TCP_NOTSENT_LOWAT = 25;
const MSG_PEEK = 2;
const MSG_DONTWAIT = 0x40;
const EINTR = 4;
const EAGAIN = 11;
const SIOCINQ = 0x541b;
const SIOCOUTQ = 0x5411;

/**
 * The file descriptor behind a Node socket or listening server.
 * @returns undefined when it is closed (or was never connected). The descriptor stays Node's: never close it, and do
 * not keep it beyond the socket's `close` event, since the number is reused.
 */
export function fdOf(socket: Socket | Server): number | undefined {
  const handle = (socket as unknown as { _handle?: { fd?: number } | null })._handle;
  return handle && typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}

/** setsockopt(2) with an option of raw bytes. @throws KernelError */
export function setsockopt(fd: number, level: number, name: number, value: Uint8Array): void {
  if (libc().setsockopt(fd, level, name, value, value.length) !== 0)
    throw new KernelError(`set socket option ${level}/${name}`, koffi.errno());
}

/** getsockopt(2) of at most `size` bytes. @throws KernelError */
function getsockopt(fd: number, level: number, name: number, size: number): Uint8Array {
  const value = new Uint8Array(size);
  const length = [size];
  if (libc().getsockopt(fd, level, name, value, length) !== 0)
    throw new KernelError(`get socket option ${level}/${name}`, koffi.errno());
  return value.subarray(0, length[0]);
}

const ints = (...values: number[]): Uint8Array => new Uint8Array(new Int32Array(values).buffer);

/**
 * SO_LINGER. With `seconds` 0 the socket is reset instead of closed whenever its last descriptor goes, also by SIGKILL:
 * the peer sees ECONNRESET, not an end of file. `undefined` turns lingering off, for a graceful close.
 */
export function setLinger(fd: number, seconds: number | undefined): void {
  setsockopt(fd, SOL_SOCKET, SO_LINGER, seconds === undefined ? ints(0, 0) : ints(1, seconds));
}

/** Send buffer in bytes, beyond net.core.wmem_max (needs CAP_NET_ADMIN); the kernel doubles it. */
export function setSendBuffer(fd: number, bytes: number): void {
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, ints(bytes));
}

/** Receive buffer in bytes, beyond net.core.rmem_max (needs CAP_NET_ADMIN); the kernel doubles it. */
export function setReceiveBuffer(fd: number, bytes: number): void {
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, ints(bytes));
}

/** TCP_NODELAY. */
export function setNoDelay(fd: number, on = true): void {
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, ints(on ? 1 : 0));
}

/** TCP_NOTSENT_LOWAT: the socket takes no more while this many bytes could not be sent yet. */
export function setNotSentLowat(fd: number, bytes: number): void {
  setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, ints(bytes));
}

/**
 * Sets SO_RCVLOWAT to what it is by default, 1. As a side effect Linux tells whoever owns the socket's data callback
 * that data is there, if there is: a verdict program then sees what came before it was attached.
 */
export function announceData(fd: number): void {
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, ints(1));
}

/** SO_ERROR: the error that is pending on the socket, 0: none. It is none afterwards. */
export function socketError(fd: number): number {
  const bytes = getsockopt(fd, SOL_SOCKET, SO_ERROR, 4);
  return new DataView(bytes.buffer).getInt32(0, true);
}

/** The socket's cookie: what bpf_get_socket_cookie returns for it, unique until the next boot. */
export function socketCookie(fd: number): bigint {
  const bytes = getsockopt(fd, SOL_SOCKET, SO_COOKIE, 8);
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

/** The cookie of the network namespace that a socket belongs to: unique until the next boot. */
export function netnsCookieOf(fd: number): bigint {
  const bytes = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, 8);
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

/** Reads up to `length` bytes that are there, past Node, which must not have begun to read. @throws KernelError */
export function receive(fd: number, length: number): Buffer | 'nothing' | 'ended' {
  const bytes = Buffer.alloc(length);
  const got = Number(libc().recv(fd, bytes, length, MSG_DONTWAIT));
  if (got > 0) return bytes.subarray(0, got);
  if (got === 0) return 'ended';
  const error = koffi.errno();
  if (error === EAGAIN || error === EINTR) return 'nothing';
  throw new KernelError('receive', error);
}

/** Bytes that the peer sent and nobody read yet. */
export function unreadBytes(fd: number): number {
  const value = [0];
  if (libc().ioctl(fd, SIOCINQ, value) !== 0) throw new KernelError('ask for the queue length', koffi.errno());
  return value[0] ?? 0;
}

/** Bytes that were sent and that the peer's TCP has not acknowledged. @throws KernelError */
export function unacknowledgedBytes(fd: number): number {
  const value = [0];
  if (libc().ioctl(fd, SIOCOUTQ, value) !== 0) throw new KernelError('ask for the queue length', koffi.errno());
  return value[0] ?? 0;
}

/** The first bytes that nobody read yet, at most `size`: none at the end. @returns undefined: there are none so far, or an error */
export function peek(fd: number, size: number): Uint8Array | undefined {
  const bytes = new Uint8Array(size);
  const n = Number(libc().recv(fd, bytes, size, MSG_PEEK | MSG_DONTWAIT));
  return n < 0 ? undefined : bytes.subarray(0, n);
}

/** Closes a descriptor of ours (BPF map, link, program, cgroup); closing one twice is an error of the caller. */
export function closeFd(fd: number): void {
  closeSync(fd);
}
