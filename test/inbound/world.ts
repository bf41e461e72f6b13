/** Two hosts, a server with its proxy and agent on the first, clients on both. */
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { type Host, twoHosts } from '../../src/lab/netns.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { type InboundPolicy, inboundPolicy } from './policy.js';

/** The port of the tests' listener, and of the server; on their own hosts they are nobody else's. */
export const PORT = 8080;
export const SERVER_PORT = 9080;
/** Port of the plain Envoy with the same policy. */
export const ALONE_PORT = 8081;

export class InboundWorld {
  /** clients' processes by host */
  far!: Driver;
  near!: Driver;

  private constructor(
    readonly lab: Lab,
    readonly server: Host,
    readonly client: Host,
  ) {}

  static async open(name: string): Promise<InboundWorld> {
    const lab = await Lab.open(name);
    try {
      const [server, client] = await twoHosts(lab);
      const world = new InboundWorld(lab, server, client);
      [world.far, world.near] = await Promise.all([world.driver(client), world.driver(server)]);
      return world;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  async driver(host: Host): Promise<Driver> {
    const argv = host.command(RAW_CLIENT);
    const p = this.lab.start(`client on ${host.name}`, argv, { stdin: true });
    return Driver.of(p);
  }

  /** Servers that tell what they were asked, as NAME=ADDRESS:PORT. */
  async serve(...specs: string[]): Promise<void> {
    const script = nodeScript(join(packageRoot(), 'test/e2e/istio-server.ts'));
    await this.lab.start('server', this.server.command([...script, ...specs])).waitFor(/listening/);
  }

  get file(): string {
    return join(this.lab.dir, 'inbound.json');
  }

  /** The policy; by default a listener at the host's own address before a server on its loopback. */
  policy(changes: Partial<InboundPolicy> = {}): InboundPolicy {
    return {
      address: this.server.ipv4,
      port: PORT,
      server: '127.0.0.1',
      serverPort: SERVER_PORT,
      banned: this.client.ipv4,
      direction: 'INBOUND',
      ...changes,
    };
  }

  async write(policy: InboundPolicy): Promise<void> {
    await writeFile(`${this.file}.new`, JSON.stringify(inboundPolicy(policy)));
    await rename(`${this.file}.new`, this.file);
  }

  start(args: readonly string[] = [], name?: string): Promise<SidestepHandle> {
    return startSidestep(this.lab, [this.file], { args, prefix: this.server.command([]), ...(name ? { name } : {}) });
  }

  /** A plain Envoy in the same place, with the same policy on ALONE_PORT (which its rules see as the port). */
  async envoy(policy: InboundPolicy): Promise<void> {
    const bootstrap = inboundPolicy({ ...policy, port: ALONE_PORT });
    await startEnvoy(this.lab, 'envoy alone', bootstrap, 1, this.server.command([]));
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}
