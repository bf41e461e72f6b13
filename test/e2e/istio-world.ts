/** Istio's files in force through `sidestep run`, and beside it a plain Envoy with the same resources. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { type EnvoyHandle, startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { ClientTls, Job, JobResult } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { parseIdentity } from '../../src/policy/istio/identities.js';
import { loadFiles } from '../../src/policy/load.js';
import type { Clients, JsonObject, Resources } from '../../src/policy/resources.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { untilKernel } from './in-kernel.js';
import type { Received } from './istio-server.js';
import { request } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));
/** Where the plain Envoy listens: other addresses than those of the proxy behind Sidestep. */
const ALONE = '127.0.0.2';

export interface Upstream {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

/** One service: an endpoint slice for each upstream, labelled `version: <its name>`. */
export function service(name: string, spec: string, upstreams: readonly Upstream[], labels = ''): string {
  const slices = upstreams.map(
    ({ name: version, address, port }) => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}-${version}
  labels: { kubernetes.io/service-name: ${name}, version: ${version}, app: ${name}${labels} }
addressType: ${address.includes(':') ? 'IPv6' : 'IPv4'}
ports: [{ name: http, port: ${port}, protocol: TCP }]
endpoints: [{ addresses: ["${address}"] }]
`,
  );
  return `---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { ${spec}, selector: { app: ${name} }, ports: [{ name: http, port: 80, targetPort: ${upstreams[0]?.port ?? 80} }] }
${slices.join('')}`;
}

/** A DestinationRule with a subset for each version of a service. */
export function subsets(host: string, ...versions: readonly string[]): string {
  return `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ${host} }
spec:
  host: ${host}
  subsets:
${versions.map((version) => `    - { name: ${version}, labels: { version: ${version} } }\n`).join('')}`;
}

/** Moves listeners to free ports at another address; the new places by listener's name. */
export async function moved(resources: Resources): Promise<{ bootstrap: JsonObject; at: Map<string, number> }> {
  const at = new Map<string, number>();
  const listeners: JsonObject[] = [];
  for (const listener of resources.listeners) {
    const port = await freePort();
    at.set(String(listener.name), port);
    listeners.push({ ...listener, address: { socket_address: { address: ALONE, port_value: port } } });
  }
  return { bootstrap: buildStaticBootstrap({ ...resources, listeners }), at };
}

/** What one request led to, as far as both sides must agree. */
export interface Outcome {
  readonly status: number | undefined;
  readonly headers: readonly string[];
  readonly upstream: string;
  readonly received: unknown;
  readonly body: string;
  readonly error: string | undefined;
}

const ANSWER_IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time', 'content-length']);
const REQUEST_IGNORED = new Set(['x-envoy-expected-rq-timeout-ms']);

function normal(headers: readonly (readonly [string, string])[], ignored: ReadonlySet<string>): string[] {
  return headers
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .filter(([name]) => !ignored.has(name))
    .map(([name, value]) => (name === 'x-request-id' ? `${name}: <id of ${value.length}>` : `${name}: ${value}`))
    .sort();
}

export function outcome(result: JobResult): Outcome {
  const answer = result.answers[0];
  const body = Buffer.from(answer?.body ?? '', 'base64').toString();
  const upstream = answer?.headers.find(([name]) => name.toLowerCase() === 'x-upstream')?.[1] ?? '';
  const received = upstream ? (JSON.parse(body) as Received) : undefined;
  return {
    status: answer?.status,
    headers: normal(answer?.headers ?? [], ANSWER_IGNORED),
    upstream,
    received: received && { ...received, headers: normal(received.headers ?? [], REQUEST_IGNORED) },
    body: received ? '' : body,
    error: result.error,
  };
}

export interface Ask {
  /** `host` or `host:port` of a service of the files */
  readonly host: string;
  /** the name of the files to connect to, if it is not `host` */
  readonly to?: string;
  readonly method?: string;
  readonly path: string;
  readonly headers?: HeaderList;
  readonly body?: string;
  /** the client's own address */
  readonly from?: string;
  readonly tls?: ClientTls;
}

export class IstioWorld {
  readonly lab: Lab;
  resources!: Resources;
  sidestep!: SidestepHandle;
  envoy!: EnvoyHandle;
  readonly #file: string;
  #alone = new Map<string, number>();
  #inside!: Driver;
  #outside!: Driver;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.#file = join(lab.dir, 'mesh.yaml');
  }

  static async open(name: string): Promise<IstioWorld> {
    return new IstioWorld(await Lab.open(name));
  }

  /** Upstreams of the given names at addresses of their own; all are one process and share their counts. */
  async upstreams(...names: string[]): Promise<Upstream[]> {
    const all: Upstream[] = [];
    for (const [i, name] of names.entries()) {
      all.push({ name, address: name.startsWith('six') ? '::1' : `127.0.1.${i + 1}`, port: await freePort() });
    }
    const specs = all.map(({ name, address, port }) => `${name}=${address}:${port}`);
    const process = this.lab.start('upstreams', [...nodeScript(join(HERE, 'istio-server.ts')), ...specs]);
    await process.waitFor(/listening/);
    return all;
  }

  /** Replaces the policy file. */
  async write(text: string): Promise<void> {
    await writeFile(this.#file, text);
  }

  /** Sidestep on the written file, for an identity or clients if some are given, and a plain Envoy with what it translates to. */
  async start(identity?: string, clients?: Clients): Promise<void> {
    const who = identity === undefined ? undefined : parseIdentity(identity);
    this.resources = await loadFiles([this.#file], {
      ...(who ? { identity: who } : {}),
      ...(clients ? { workload: clients } : {}),
    });
    const wrong = this.resources.diagnostics.filter((d) => d.severity === 'error');
    if (wrong.length > 0) throw new Error(JSON.stringify(wrong));
    const { bootstrap, at } = await moved(this.resources);
    this.#alone = at;
    const labels = Object.entries(clients?.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    const args = [
      ...(identity === undefined ? [] : ['--identity', identity]),
      ...(clients ? ['--namespace', clients.namespace, '--labels', labels.join(',')] : []),
    ];
    [this.sidestep, this.#outside, this.envoy] = await Promise.all([
      startSidestep(this.lab, [this.#file], { args }),
      Driver.of(this.lab.start('client outside', RAW_CLIENT, { stdin: true })),
      startEnvoy(this.lab, 'envoy-alone', bootstrap),
    ]);
    this.#inside = await Driver.of(this.sidestep.start('client in the mesh', RAW_CLIENT, { stdin: true }));
  }

  /** The address that the mesh gives a name of the files. */
  address(name: string): string {
    const entry = this.resources.hosts.find((h) => h.names.includes(name));
    if (!entry) throw new Error(`the files have no ${name}`);
    return entry.address;
  }

  #job(ask: Ask, address: string, port: number): Omit<Job, 'id'> {
    const method = ask.method ?? 'GET';
    const length: HeaderList = ask.body === undefined ? [] : [['Content-Length', String(ask.body.length)]];
    const headers: HeaderList = [['Host', ask.host], ...length, ...(ask.headers ?? [])];
    return {
      address,
      port,
      ...(ask.from === undefined ? {} : { from: ask.from }),
      ...(ask.tls ? { tls: ask.tls } : {}),
      exchanges: [{ pieces: [request(`${method} ${ask.path} HTTP/1.1`, headers, ask.body ?? '')], methods: [method] }],
    };
  }

  /** Sends a request through Sidestep, to the service's own address. */
  mesh(ask: Ask): Promise<JobResult> {
    const [name = '', port = '80'] = (ask.to ?? ask.host).split(':');
    return this.#inside.run(this.#job(ask, this.address(name), Number(port)));
  }

  /** Sends the same request to the plain Envoy. */
  alone(ask: Ask): Promise<JobResult> {
    const { address, port } = this.placeAlone(ask.to ?? ask.host);
    return this.#outside.run(this.#job(ask, address, port));
  }

  /** Where the plain Envoy listens for `name` or `name:port` of the files. */
  placeAlone(host: string): { address: string; port: number } {
    const [name = '', port = '80'] = host.split(':');
    const address = this.address(name);
    const listener = this.resources.intercepts.find((i) => i.address === address && i.port === Number(port))?.listener;
    return { address: ALONE, port: this.#alone.get(listener ?? '') ?? 0 };
  }

  /** Asks until the kernel decides (`wanted`: it is expected to); every answer is Envoy's. Returns whether it did. */
  async inKernel(ask: Ask, expected: number, wanted = true): Promise<boolean> {
    const alone = outcome(await this.alone(ask));
    assert.equal(alone.status, expected, `Envoy alone: ${JSON.stringify(alone)}`);
    const send = async () => assert.deepEqual(outcome(await this.mesh(ask)), alone, JSON.stringify(ask));
    return await untilKernel(this.sidestep, send, wanted);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}
