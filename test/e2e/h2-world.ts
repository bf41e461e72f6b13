/** HTTP/2 through the kernel's programs: two servers, a real Envoy, and an agent's listener before them. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { addressWords } from '../../src/agent/address.js';
import { AnswerPrograms } from '../../src/agent/answer-programs.js';
import { H2Client } from '../../src/agent/h2/client.js';
import { H2Plane } from '../../src/agent/h2/plane.js';
import { compileImage } from '../../src/compile/image.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { packageRoot } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { buildPlan } from '../../src/plan/build.js';
import { triedOf } from '../../src/plan/tried.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { withReplayRoutes } from '../../src/proxy/index.js';
import { resourcesOf, TYPE } from '../plan/resources.js';

const HOST = '127.0.0.1';
const SERVERS = ['one', 'two'];
type Headers = http2.IncomingHttpHeaders;

/** Answers with what it was asked: `/…?down=N` with N bytes, else with the body; its trailers have the body's digest. */
async function server(name: string, settings: http2.Settings, scripted: Script): Promise<http2.Http2Server> {
  // Node counts what streams that were reset had still to send, and then refuses new ones
  const own = http2.createServer({ settings, maxSessionMemory: 1000 });
  own.on('sessionError', () => undefined);
  own.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    if (scripted(stream, headers, name)) return;
    const hash = createHash('sha256');
    const down = new URL(headers[':path']!, 'http://a').searchParams.get('down');
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-digest': hash.digest('hex') }));
    const saw = JSON.stringify(Object.entries(headers));
    stream.respond({ 'content-type': 'application/grpc', 'x-server': name, 'x-saw': saw }, { waitForTrailers: true });
    stream.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      if (down === null && !stream.write(chunk)) {
        stream.pause();
        stream.once('drain', () => stream.resume());
      }
    });
    stream.on('end', () => stream.end(down === null ? undefined : Buffer.alloc(Number(down), name)));
  });
  await once(own.listen(0, HOST), 'listening');
  return own;
}

/** Answers a stream itself, if it returns true. */
export type Script = (stream: http2.ServerHttp2Stream, headers: Headers, server: string) => boolean;

/** What a world may have beside its routes. */
export interface WorldOptions {
  /** further fields of the virtual host */
  readonly host?: JsonObject;
  /** of the clusters */
  readonly cluster?: JsonObject;
  readonly script?: Script;
  /** programs that are loaded, and stay so */
  readonly plane?: H2Plane;
  /** what the servers, and clusters of one of them each, are called, instead of `one` and `two` */
  readonly servers?: readonly string[];
  /** clusters of several */
  readonly clusters?: readonly Several[];
}

export interface Several {
  readonly name: string;
  /** names of servers; others are ports where nobody listens */
  readonly of: readonly string[];
  readonly more?: JsonObject;
  /** further fields of an endpoint, and the priority of its place */
  readonly endpoint?: (server: string) => JsonObject;
  readonly priority?: (server: string) => number;
}

export interface Answer {
  readonly headers: Headers;
  readonly trailers: Headers;
  readonly length: number;
  readonly digest: string;
}

/** One request, with its answer read to the end. @throws Error when the stream is reset */
export function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body: Buffer | undefined,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: !body });
    const hash = createHash('sha256');
    let [length, answer, trailers] = [0, {} as Headers, {} as Headers];
    stream.on('response', (h) => (answer = h));
    stream.on('trailers', (h) => (trailers = h));
    stream.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      length += chunk.length;
    });
    stream.on('error', reject);
    stream.on('end', () => resolve({ headers: answer, trailers, length, digest: hash.digest('hex') }));
    stream.on('close', () => reject(new Error(`the stream was closed (${stream.rstCode})`)));
    if (body) stream.end(body);
  });
}

/** The programs, which the kernel takes seconds to check. */
export const loadPlane = (): Promise<H2Plane> => H2Plane.open(join(packageRoot(), 'dist/h2.bpf.o'));

export class H2World {
  private constructor(
    readonly plane: H2Plane,
    private readonly planeStays: boolean,
    private readonly lab: Lab,
    readonly servers: readonly http2.Http2Server[],
    private readonly listener: Server,
    private readonly envoyPort: number,
    readonly clients: Set<H2Client>,
    names: readonly string[],
  ) {
    for (const [i, own] of servers.entries()) {
      const set = new Set<http2.ServerHttp2Session>();
      own.on('session', (session) => set.add(session));
      this.#sessions.set(names[i]!, set);
    }
  }

  /** @param routes of Envoy's route configuration; clusters are called like the servers */
  static async open(
    routes: JsonObject[],
    settings: http2.Settings = {},
    hcm: JsonObject = {},
    more: WorldOptions = {},
  ): Promise<H2World> {
    const lab = await Lab.open('h2');
    try {
      const names = more.servers ?? SERVERS;
      const servers = await Promise.all(names.map((name) => server(name, settings, more.script ?? (() => false))));
      const ports = servers.map((s) => (s.address() as AddressInfo).port);
      const envoyPort = await freePort();
      const place: Record<string, number> = Object.fromEntries(names.map((name, i) => [name, ports[i]!]));
      for (const name of (more.clusters ?? []).flatMap(({ of }) => of))
        if (place[name] === undefined) {
          place[name] = await freePort();
          ports.push(place[name]);
        }
      const all: readonly Several[] = [...names.map((name) => ({ name, of: [name] })), ...(more.clusters ?? [])];
      const clusters = all.map((one) => ({ ...clusterOf(one, place), ...more.cluster, ...one.more }));
      const listeners = [listenerOf(envoyPort, routes, hcm, more.host)];
      const resources = resourcesOf(listeners, clusters);
      const plan = buildPlan(resources, { http2: true, streams: true, relays: true });
      // what is tried again finds its routes there; for all other requests it is Envoy alone
      const proxy = withReplayRoutes(resources, {}, new Set(all.map(({ name }) => name)), new Set(triedOf(plan)));
      await startEnvoy(lab, 'proxy', { static_resources: { listeners: proxy.listeners, clusters: proxy.clusters } });
      const endpointId = (_: string, port: number) => ports.indexOf(port);
      const programs = new AnswerPrograms(() => 0);
      const { image } = compileImage(plan, {
        generation: 1,
        endpointId,
        proxyEndpointId: () => 1001,
        programNumber: (program) => programs.number(program),
      });
      const plane = more.plane ?? (await loadPlane());
      plane.map('image0').mmap().bytes.set(image);
      const clients = new Set<H2Client>();
      const listener = net.createServer({ pauseOnConnect: true }, (socket) => {
        const options = {
          listener: 0,
          source: addressWords({ address: HOST, port: 0 }),
          servers: () => ports.map((port, endpoint) => ({ address: HOST, port, endpoint })),
          proxy: () => ({ address: HOST, port: envoyPort }),
          program: (number: number) => programs.get(number),
        };
        H2Client.open(plane, socket, options).then(
          (client) => clients.add(client),
          () => socket.destroy(),
        );
      });
      await once(listener.listen(0, HOST), 'listening');
      return new H2World(plane, more.plane !== undefined, lab, servers, listener, envoyPort, clients, names);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** A client that does not wait for SETTINGS. @param by Envoy alone instead */
  hurry(by?: 'envoy'): http2.ClientHttp2Session {
    const port = by ? this.envoyPort : (this.listener.address() as AddressInfo).port;
    const session = http2.connect(`http://${HOST}:${port}`, { maxSessionMemory: 1000 });
    session.on('error', () => undefined); // its streams say so
    return session;
  }

  async connect(by?: 'envoy'): Promise<http2.ClientHttp2Session> {
    const session = this.hurry(by);
    await once(session, 'remoteSettings');
    return session;
  }

  /** Where clients connect, through the programs and to Envoy alone. */
  get ports(): { readonly own: number; readonly envoy: number } {
    return { own: (this.listener.address() as AddressInfo).port, envoy: this.envoyPort };
  }

  /** A connection on which nothing was said. */
  raw(): net.Socket {
    return net.connect((this.listener.address() as AddressInfo).port, HOST);
  }

  /** The connections that a server has. */
  sessions(name: string): http2.ServerHttp2Session[] {
    return [...(this.#sessions.get(name) ?? [])];
  }

  readonly #sessions = new Map<string, Set<http2.ServerHttp2Session>>();

  /** How many streams the kernel has begun since it was loaded. */
  decided(): number {
    return this.plane.begunStreams();
  }

  async close(): Promise<void> {
    for (const client of [...this.clients]) client.close();
    this.listener.close();
    for (const s of this.servers) s.close();
    if (!this.planeStays) this.plane.close();
    await this.lab.close();
  }
}

function clusterOf({ name, of, endpoint, priority }: Several, ports: Record<string, number>): JsonObject {
  const places = of.map((server) => {
    const address = { socket_address: { address: HOST, port_value: ports[server]! } };
    return {
      priority: priority?.(server) ?? 0,
      lb_endpoints: [{ endpoint: { address }, ...endpoint?.(server) }],
    };
  });
  return {
    name,
    type: 'STATIC',
    connect_timeout: '2s',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': TYPE.protocolOptions,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: { cluster_name: name, endpoints: places },
  };
}

function listenerOf(port: number, routes: JsonObject[], hcm: JsonObject, host: JsonObject = {}): JsonObject {
  const typed_config = {
    '@type': TYPE.hcm,
    stat_prefix: 'h2',
    stream_idle_timeout: '0s',
    http_filters: [{ name: 'envoy.filters.http.router', typed_config: { '@type': TYPE.router } }],
    ...hcm,
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes, ...host }] },
  };
  return {
    name: 'h2',
    address: { socket_address: { address: HOST, port_value: port } },
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config }] }],
  };
}
