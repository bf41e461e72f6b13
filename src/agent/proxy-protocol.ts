/** The header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, section 2.2): whose connection it is. */
import { isIPv4 } from 'node:net';
import { type Address, addressBytes, addressText, plainAddress } from './address.js';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

/**
 * The bytes that stand before everything else on a connection on behalf of `from`, who had connected to `to`.
 * @param more type and value of what else is told (section 2.2.1)
 */
export function proxyHeader(from: Address, to: Address, more: readonly (readonly [number, Buffer])[] = []): Buffer {
  const v4 = isIPv4(from.address) && isIPv4(to.address);
  const bytes = (address: string): Uint8Array => {
    const plain = addressBytes(address);
    return v4 || plain.length === 16 ? plain : Buffer.concat([Buffer.from(`${'00'.repeat(10)}ffff`, 'hex'), plain]);
  };
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(from.port, 0);
  ports.writeUInt16BE(to.port, 2);
  const addresses = Buffer.concat([bytes(from.address), bytes(to.address), ports]);
  const told = more.map(([type, value]) =>
    Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]),
  );
  const rest = Buffer.concat([addresses, ...told]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(rest.length);
  const kind = Buffer.from([VERSION_2_PROXY, v4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6]);
  return Buffer.concat([SIGNATURE, kind, length, rest]);
}

/** Bytes of a header up to where its length is known. */
export const PROXY_HEAD = 16;

/** What a header says. */
export interface ProxyHeader {
  readonly from: Address;
  readonly to: Address;
  /** additional values by type */
  readonly values: ReadonlyMap<number, Buffer>;
}

/** How long a header is whose first PROXY_HEAD bytes these are. @throws RangeError when they begin none */
export function proxyHeaderLength(head: Buffer): number {
  if (!head.subarray(0, SIGNATURE.length).equals(SIGNATURE)) throw new RangeError('no header of the PROXY protocol');
  return PROXY_HEAD + head.readUInt16BE(14);
}

/** Reads a header on behalf of a TCP connection. @throws RangeError when it is none */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const size = bytes[13] === TCP_OVER_IPV4 ? 4 : 16;
  if (proxyHeaderLength(bytes) !== bytes.length || bytes[12] !== VERSION_2_PROXY)
    throw new RangeError('no header of the PROXY protocol');
  if (size === 16 && bytes[13] !== TCP_OVER_IPV6) throw new RangeError('not on behalf of a TCP connection');
  const address = (at: number) => plainAddress(addressText(bytes.subarray(at, at + size)));
  const ports = PROXY_HEAD + 2 * size;
  const values = new Map<number, Buffer>();
  for (let at = ports + 4; at < bytes.length; ) {
    const length = bytes.readUInt16BE(at + 1);
    values.set(bytes[at]!, bytes.subarray(at + 3, at + 3 + length));
    at += 3 + length;
  }
  return {
    from: { address: address(PROXY_HEAD), port: bytes.readUInt16BE(ports) },
    to: { address: address(PROXY_HEAD + size), port: bytes.readUInt16BE(ports + 2) },
    values,
  };
}
