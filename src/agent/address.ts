/** IP addresses as the maps hold them. */
import { BlockList, isIPv4, isIPv6, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { endText } from '../observe/log-line.js';

export interface Address {
  /** IPv4 or IPv6 literal */
  readonly address: string;
  readonly port: number;
}

/** Takes the IPv4-mapped form (::ffff:1.2.3.4) for what it means. */
export function plainAddress(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  return mapped ? mapped[1]! : address;
}

/** The local end of a connection as Envoy writes addresses. */
export function localEnd({ localAddress = '', localPort = 0 }: Socket): string {
  return endText({ address: plainAddress(localAddress), port: localPort });
}

/** The bytes of an address in network order: 4 or 16. @throws RangeError when it is no IP literal */
export function addressBytes(text: string): Uint8Array {
  const address = plainAddress(text);
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number));
  if (!isIPv6(address)) throw new RangeError(`${text} is not an IP address`);
  const bare = address.split('%')[0]!;
  // A dotted tail stands for the last two groups.
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(bare);
  const hex = (high: string, low: string): string => ((Number(high) << 8) | Number(low)).toString(16);
  const groups = dotted ? `${dotted[1]}${hex(dotted[2]!, dotted[3]!)}:${hex(dotted[4]!, dotted[5]!)}` : bare;
  const [head, tail] = groups.split('::') as [string, string?];
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  const middle = tail === undefined ? [] : new Array<string>(8 - left.length - right.length).fill('0');
  const out = new Uint8Array(16);
  [...left, ...middle, ...right].forEach((group, i) => {
    const value = Number.parseInt(group, 16);
    out[i * 2] = value >> 8;
    out[i * 2 + 1] = value & 0xff;
  });
  return out;
}

/** Four words whose bytes in memory are the address in network order; IPv4 in the first. */
export function addressWords(address: Address): number[] {
  const bytes = addressBytes(address.address);
  const words = [0, 0, 0, 0];
  for (let i = 0; i < bytes.length; i += 4)
    words[i / 4] = (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)) >>> 0;
  return words;
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** The text of an address of 4 or 16 bytes, in network order. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2]! << 8) | bytes[i * 2 + 1]!).toString(16));
  return groups.join(':');
}

/** Whether the address means another socket in every network namespace: 127/8 and ::1. */
export function isLoopback(text: string): boolean {
  const address = plainAddress(text);
  return loopback.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** Whether connections to the address stay on this host: the whole 127/8, and what the interfaces have. */
export function isLocal(text: string): boolean {
  const address = plainAddress(text);
  if (isLoopback(address)) return true;
  const wanted = addressBytes(address).join();
  return localAddresses().some((own) => addressBytes(own).join() === wanted);
}

/** Addresses of this host's interfaces, and 127.0.0.1 and ::1. */
export function localAddresses(): string[] {
  const found = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((entry) => entry.address));
  return [...new Set(['127.0.0.1', '::1', ...found])];
}

export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}

/** The text of an address as the maps hold it. IPv6 as RFC 5952 writes it. */
export function wordsAddress(words: readonly number[]): string {
  const bytes = words.flatMap((word) => [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24]);
  if (words.slice(1).every((word) => word === 0)) return bytes.slice(0, 4).join('.');
  return new URL(`http://[${addressText(Uint8Array.from(bytes))}]/`).hostname.slice(1, -1);
}
