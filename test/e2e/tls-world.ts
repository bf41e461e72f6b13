/** TLS servers for connections that are routed by their ClientHello. */
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import type { Lab } from '../../src/lab/processes.js';

/** Bytes that such a server sends first. */
export const GREETING = 64;

/** A server that says its name, what it was asked for, and the protocol, and sends back what it gets. @returns its port */
export async function tlsServer(
  lab: Lab,
  name: string,
  certificate: { readonly cert: Buffer; readonly key: Buffer },
  host = '127.0.0.1',
): Promise<number> {
  const server = createServer({ ...certificate, ALPNProtocols: ['h2', 'http/1.1', 'other'] }, (socket) => {
    socket.on('error', () => undefined);
    const { servername } = socket as TLSSocket & { servername?: string };
    socket.write(`${name} ${String(servername || '-')} ${String(socket.alpnProtocol)}\n`.padEnd(GREETING, '.'));
    socket.pipe(socket);
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen({ host, port: 0 }, resolve));
  lab.onClose(name, async () => void server.close());
  return (server.address() as AddressInfo).port;
}
