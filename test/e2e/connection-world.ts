/** Servers, and clients of them, for what is about connections: Envoy alone beside Sidestep. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Lab, LabProcess } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';

const HERE = dirname(fileURLToPath(import.meta.url));

export interface Job {
  readonly to?: string;
  readonly port?: number;
  /** the client's own address */
  readonly own?: string;
  /** an IPv6 socket, whatever the address */
  readonly six?: boolean;
  readonly send?: string;
  readonly times?: number;
  /** nothing more is sent afterwards */
  readonly half?: boolean;
  /** reads so many bytes instead of everything until the end */
  readonly most?: number;
  /** leaves the connection open under this name */
  readonly keep?: string;
  /** of a connection that was kept */
  readonly name?: string;
  readonly close?: boolean;
}

/** What tls-client.py does. */
export interface TlsJob {
  readonly to: string;
  readonly port: number;
  /** server name */
  readonly name?: string;
  /** ALPN */
  readonly protocols?: readonly string[];
  /** the ClientHello is sent in pieces of so many bytes */
  readonly cut?: number;
  readonly send?: string;
  readonly times?: number;
  /** bytes that the server sends first */
  readonly greeting?: number;
  readonly keep?: string;
  readonly of?: string;
  /** no TLS, but these messages (hexadecimal), after so many seconds */
  readonly pieces?: readonly string[];
  readonly wait?: number;
}

export interface Outcome {
  readonly error?: string;
  readonly size?: number;
  readonly digest?: string;
  readonly head?: string;
  readonly end?: 'end' | 'reset' | 'timeout' | 'open';
  readonly peer?: string;
  /** bytes of the ClientHello */
  readonly hello?: number;
  /** until an error */
  readonly seconds?: number;
}

/** A process that opens connections. */
export class Client {
  readonly #process: LabProcess;
  readonly #pending = new Map<number, (outcome: Outcome) => void>();
  #serial = 0;

  private constructor(process: LabProcess) {
    this.#process = process;
    createInterface({ input: process.child.stdout! }).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const { id, ...outcome } = JSON.parse(line) as Outcome & { id: number };
      this.#pending.get(id)?.(outcome);
      this.#pending.delete(id);
    });
  }

  /** @param sidestep the mesh that it is in; undefined: none. @param more options of `exec` */
  static async start(
    lab: Lab,
    sidestep?: SidestepHandle,
    more: readonly string[] = [],
    script = 'connection-client.py',
  ): Promise<Client> {
    const argv = ['python3', '-u', join(HERE, script)];
    const options = { stdin: true };
    const process = sidestep?.start('client', argv, options, more) ?? lab.start('client outside', argv, options);
    await process.waitFor(new RegExp(script.replace('.py', '')));
    return new Client(process);
  }

  run(job: Job | TlsJob): Promise<Outcome> {
    const id = ++this.#serial;
    return new Promise((resolve) => {
      this.#pending.set(id, resolve);
      this.#process.child.stdin!.write(`${JSON.stringify({ ...job, id })}\n`);
    });
  }
}

/** A server that speaks first (its name), and sends back what it gets. `RESET` and `CLOSE` are what they say. */
export class Echo {
  readonly open = new Set<Socket>();
  /** remote addresses of those who came */
  readonly seen: string[] = [];
  private constructor(
    readonly name: string,
    readonly server: Server,
  ) {}

  static async start(lab: Lab, name: string, host = '127.0.0.1', port = 0): Promise<Echo> {
    const server = createServer({ allowHalfOpen: true });
    const echo = new Echo(name, server);
    server.on('connection', (socket) => {
      echo.open.add(socket);
      echo.seen.push(socket.remoteAddress ?? '');
      socket.on('close', () => echo.open.delete(socket));
      socket.on('error', () => undefined);
      socket.write(`${name}\n`);
      socket.on('data', (data) => {
        if (data.subarray(0, 5).toString() === 'RESET') socket.resetAndDestroy();
        else if (data.subarray(0, 5).toString() === 'CLOSE') socket.end('bye');
        else if (!socket.write(data)) {
          socket.pause();
          socket.once('drain', () => socket.resume());
        }
      });
      socket.on('end', () => socket.end());
    });
    await new Promise<void>((resolve) => server.listen({ host, port }, resolve));
    lab.onClose(`server ${name}`, async () => {
      for (const socket of echo.open) socket.destroy();
      server.close();
    });
    return echo;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
}

/** A listener with one TCP proxy. */
export function tcpListener(name: string, address: string, port: number, proxy: JsonObject): JsonObject {
  const type = 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';
  const config = { '@type': type, stat_prefix: name, ...proxy };
  return {
    name,
    address: { socket_address: { address, port_value: port } },
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.tcp_proxy', typed_config: config }] }],
  };
}

/** A cluster of endpoints that the files name. */
export function cluster(
  name: string,
  endpoints: readonly (readonly [address: string, port: number])[],
  more: JsonObject = {},
): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '2s',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: endpoints.map(([address, port_value]) => ({
            endpoint: { address: { socket_address: { address, port_value } } },
          })),
        },
      ],
    },
    ...more,
  };
}
