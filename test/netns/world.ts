/** A node with pods, each in a network namespace of its own: the mesh's agent on the node, applications in the pods. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { type Host, type Node, nodeWithPods } from '../../src/lab/netns.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { Lab } from '../../src/lab/processes.js';
import type { JobResult } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { request } from '../e2e/world.js';

const SERVER = join(packageRoot(), 'test/e2e/istio-server.ts');
/** The first of the ports at which the plain Envoy has the same listeners, at the node's address. */
const ALONE_PORT = 21000;

export class PodsWorld {
  sidestep!: SidestepHandle;
  resources!: Resources;
  readonly #alone = new Map<string, number>();

  private constructor(
    readonly lab: Lab,
    readonly node: Host,
    readonly pods: readonly Host[],
  ) {}

  static async open(name: string, count: number): Promise<PodsWorld> {
    const lab = await Lab.open(name);
    try {
      const { node, pods }: Node = await nodeWithPods(lab, count);
      return new PodsWorld(lab, node, pods);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  get file(): string {
    return join(this.lab.dir, 'mesh.yaml');
  }

  /** Sidestep on the node with a policy, and beside it a plain Envoy with what it translates to. */
  async start(policy: string, args: readonly string[] = []): Promise<void> {
    await writeFile(this.file, policy);
    this.resources = await loadFiles([this.file]);
    const wrong = this.resources.diagnostics.filter((d) => d.severity === 'error');
    if (wrong.length > 0) throw new Error(JSON.stringify(wrong));
    this.sidestep = await startSidestep(this.lab, [this.file], { args, prefix: this.node.command([]) });
    await this.envoy();
  }

  /** The plain Envoy, which pods can reach. */
  async envoy(): Promise<void> {
    const listeners = this.resources.listeners.map((listener, i): JsonObject => {
      this.#alone.set(String(listener.name), ALONE_PORT + i);
      return {
        ...listener,
        address: {
          socket_address: { address: '::', ipv4_compat: true, port_value: ALONE_PORT + i },
        },
      };
    });
    const bootstrap = buildStaticBootstrap({ ...this.resources, listeners });
    await startEnvoy(this.lab, 'envoy alone', bootstrap, 1, this.node.command([]));
  }

  /** Command line of a server NAME=ADDRESS:PORT that tells what it was asked. */
  serverCommand(...specs: string[]): string[] {
    return [...nodeScript(SERVER), ...specs];
  }

  async serve(host: Host, ...specs: string[]): Promise<void> {
    const process = this.lab.start(`server on ${host.name}`, host.command(this.serverCommand(...specs)));
    await process.waitFor(/listening/);
  }

  /** The same inside the mesh. */
  async serveInside(host: Host, ...specs: string[]): Promise<void> {
    const process = this.sidestep.start(`server in ${host.name}`, this.serverCommand(...specs), {}, [
      '--netns',
      host.name,
    ]);
    await process.waitFor(/listening/);
  }

  /** A client in a pod: inside the mesh, or plain. */
  async client(host: Host, inside = true, options: readonly string[] = []): Promise<Driver> {
    const p = inside
      ? this.sidestep.start(`client in ${host.name}`, RAW_CLIENT, { stdin: true }, ['--netns', host.name, ...options])
      : this.lab.start(`client on ${host.name}`, host.command(RAW_CLIENT), { stdin: true });
    return Driver.of(p);
  }

  /** The address that the mesh gives a name of the files. */
  address(name: string): string {
    const entry = this.resources.hosts.find((h) => h.names.includes(name));
    if (!entry) throw new Error(`the files have no ${name}`);
    return entry.address;
  }

  /** Where the plain Envoy has the listener of a service. */
  alonePort(name: string, port = 80): number {
    const address = this.address(name);
    const listener = this.resources.intercepts.find((i) => i.address === address && i.port === port)?.listener;
    return this.#alone.get(listener ?? '') ?? 0;
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** One GET. */
export function get(
  driver: Driver,
  address: string,
  port: number,
  host: string,
  path: string,
  headers: HeaderList = [],
): Promise<JobResult> {
  return driver.run({
    ...{ address, port },
    exchanges: [{ pieces: [request(`GET ${path} HTTP/1.1`, [['Host', host], ...headers])], methods: ['GET'] }],
  });
}
