/** A DNS server for tests: A records from a table that may change (RFC 1035, one question a message). */
import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import type { JsonObject } from '../../src/policy/resources.js';

export class DnsServer {
  /** IPv4 addresses by name; an empty list or no entry: the name does not exist */
  readonly answers = new Map<string, readonly string[]>();

  private constructor(
    readonly port: number,
    private readonly socket: Socket,
  ) {
    socket.on('message', (message, from) => {
      const answer = this.#answer(message);
      if (answer) socket.send(answer, from.port, from.address);
    });
  }

  /** A server at a free port of 127.0.0.1. */
  static async start(): Promise<DnsServer> {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    return new DnsServer((socket.address() as AddressInfo).port, socket);
  }

  #answer(query: Buffer): Buffer | undefined {
    if (query.length < 17) return undefined;
    const labels: string[] = [];
    let at = 12;
    for (let n = query[at]!; n > 0; n = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + n).toLowerCase());
      at += 1 + n;
    }
    const type = query.readUInt16BE(at + 1);
    const question = query.subarray(12, at + 5);
    const addresses = this.answers.get(labels.join('.')) ?? [];
    const found = type === 1 ? addresses : [];
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8580 | (addresses.length > 0 ? 0 : 3), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(found.length, 6);
    const records = found.map((address) => {
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0]);
      address.split('.').forEach((part, i) => {
        record[12 + i] = Number(part);
      });
      return record;
    });
    return Buffer.concat([head, question, ...records]);
  }

  close(): void {
    this.socket.close();
  }
}

/** What a cluster says whose names are looked up at such a server, and again five times a second. @param port the server's */
export function lookedUpAt(port: number): JsonObject {
  return {
    dns_refresh_rate: '0.2s',
    dns_lookup_family: 'V4_ONLY',
    typed_dns_resolver_config: {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
        resolvers: [{ socket_address: { protocol: 'UDP', address: '127.0.0.1', port_value: port } }],
        dns_resolver_options: { no_default_search_domain: true },
      },
    },
  };
}
