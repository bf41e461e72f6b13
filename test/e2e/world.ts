/** What most end-to-end tests need: upstreams, a policy file, Sidestep, and clients inside the mesh. */
import { rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { type EnvoyHandle, startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, type LabProcess } from '../../src/lab/processes.js';
import type { Job, JobResult } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep, whyNoSidestep } from '../../src/lab/sidestep.js';
import { formatHead, type HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import type { LoadReport } from './load-client.js';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Address of Sidestep's listener, and of a plain Envoy's with the same configuration and port. */
export const MESH = '127.0.0.3';
export const ALONE = '127.0.0.2';

/** Every server of these tests inside the mesh, so that all that can goes from socket to socket. */
const INSIDE = process.env.SIDESTEP_SERVERS_INSIDE === '1';

/** Why end-to-end tests are skipped here, or false. A missing build is no reason: then they fail. */
export const skip: string | false = whyNoSidestep()?.includes('root') ? 'needs root' : false;

/** What the generated bootstrap says. */
export interface Policy {
  readonly address: string;
  readonly port: number;
  /** port of the upstream at 127.0.0.1 */
  readonly upstream: number;
  /** a header `x-gen` with this value is added to requests */
  readonly gen?: string;
  /** true: the listener lets connections upgrade to websocket */
  readonly websocket?: boolean;
}

/** A bootstrap with one listener and one route to one upstream. */
export function bootstrap(p: Policy): JsonObject {
  const route = {
    match: { prefix: '/' },
    route: { cluster: `upstream-${p.upstream}`, timeout: '30s' },
    ...(p.gen
      ? {
          request_headers_to_add: [
            { header: { key: 'x-gen', value: p.gen }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
          ],
        }
      : {}),
  };
  const denied = { match: { path: '/denied' }, direct_response: { status: 403, body: { inline_string: 'no' } } };
  return plainBootstrap(
    [
      {
        ...{ name: 'test', address: p.address, port: p.port, routes: [denied, route] },
        manager: p.websocket ? { upgrade_configs: [{ upgrade_type: 'websocket' }] } : {},
      },
    ],
    [{ name: `upstream-${p.upstream}`, ports: [p.upstream] }],
  );
}

/** A lab with the pieces. */
export class World {
  readonly lab: Lab;
  readonly port: number;
  readonly upstream: number;
  readonly file: string;
  #first: LabProcess | undefined;
  #sidestep: SidestepHandle | undefined;

  private constructor(lab: Lab, port: number, upstream: number) {
    this.lab = lab;
    this.port = port;
    this.upstream = upstream;
    this.file = join(lab.dir, 'bootstrap.json');
  }

  /** A world with one upstream called `one`; nothing else runs yet. */
  static async open(name: string): Promise<World> {
    const lab = await Lab.open(name);
    try {
      const world = new World(lab, await freePort(), await freePort());
      world.#first = await world.startUpstream('one', world.upstream);
      return world;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  async startUpstream(name: string, port: number): Promise<LabProcess> {
    const argv = [...nodeScript(join(HERE, 'odd-server.ts')), '127.0.0.1', String(port), name];
    const p = this.#sidestep?.start(`upstream ${name}`, argv) ?? this.lab.start(`upstream ${name}`, argv);
    await p.waitFor(/listening/);
    return p;
  }

  /** Replaces the policy file in one step. */
  async writePolicy(changes: Partial<Policy> = {}): Promise<void> {
    await this.writeText(
      JSON.stringify(bootstrap({ address: MESH, port: this.port, upstream: this.upstream, ...changes })),
    );
  }

  /** Replaces the policy file with any text. */
  async writeText(text: string): Promise<void> {
    await writeFile(`${this.file}.new`, text);
    await rename(`${this.file}.new`, this.file);
  }

  /** `sidestep run` on the policy file, which must be written. */
  async startSidestep(name?: string): Promise<SidestepHandle> {
    const sidestep = await startSidestep(this.lab, [this.file], name ? { name } : {});
    if (INSIDE) {
      this.#sidestep = sidestep;
      await this.#first?.stop();
      this.#first = await this.startUpstream('one', this.upstream);
    }
    return sidestep;
  }

  /** The upstream once more, as a server of the mesh. */
  async moveUpstreamInside(sidestep: SidestepHandle): Promise<void> {
    if (INSIDE) return;
    this.#sidestep = sidestep;
    await this.#first?.stop();
    this.#first = await this.startUpstream('one', this.upstream);
  }

  /** A plain Envoy at ALONE with the same policy. */
  startEnvoy(changes: Partial<Policy> = {}): Promise<EnvoyHandle> {
    const policy = { address: ALONE, port: this.port, upstream: this.upstream, ...changes };
    return startEnvoy(this.lab, 'envoy alone', bootstrap(policy));
  }

  /** A raw client, inside the mesh of `sidestep` or outside. */
  async driver(sidestep?: SidestepHandle): Promise<Driver> {
    const p = sidestep
      ? sidestep.start('raw client in the mesh', RAW_CLIENT, { stdin: true })
      : this.lab.start('raw client outside', RAW_CLIENT, { stdin: true });
    return Driver.of(p);
  }

  /** Load inside the mesh, once its first answer came. */
  async load(sidestep: SidestepHandle, connections: number, path = '/echo'): Promise<Load> {
    const argv = [...nodeScript(join(HERE, 'load-client.ts')), MESH, String(this.port), String(connections), path];
    const p = sidestep.start('load', argv, { stdin: true });
    await p.waitFor(/loading/);
    return new Load(p);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** A running load-client. */
export class Load {
  readonly #process: LabProcess;

  constructor(process: LabProcess) {
    this.#process = process;
  }

  /** Ends it; what it saw. */
  async finish(): Promise<LoadReport> {
    this.#process.child.stdin!.write('stop\n');
    const match = await this.#process.waitFor(/^\{"answers".*\}$/m);
    return JSON.parse(match[0]) as LoadReport;
  }
}

/** base64 bytes of a request; `Host: load.test` unless the headers have one. */
export function request(first: string, headers: HeaderList = [], body: string | Buffer = ''): string {
  const host: HeaderList = headers.some(([n]) => n === 'Host') ? [] : [['Host', 'load.test']];
  const head = formatHead(first, [...host, ...headers]);
  return Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body)]).toString('base64');
}

/** A job of one request. */
export function one(
  address: string,
  port: number,
  method: string,
  path: string,
  headers: HeaderList = [],
): Omit<Job, 'id'> {
  return {
    address,
    port,
    exchanges: [{ pieces: [request(`${method} ${path} HTTP/1.1`, headers)], methods: [method] }],
  };
}

/** The JSON of an answer's body. */
export function bodyOf<T>(result: JobResult, answer = 0): T {
  return JSON.parse(Buffer.from(result.answers[answer]?.body ?? '', 'base64').toString()) as T;
}
