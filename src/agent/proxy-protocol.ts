/** The header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, section 2.2): whose connection it is. */
import { isIPv4 } from 'node:net';
import { type Address, addressBytes } from './address.js';

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
