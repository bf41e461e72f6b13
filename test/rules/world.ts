/** What the tests of the rules need: a server that misbehaves on request, Sidestep before it, clients made of raw calls. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, type LabProcess, runCommand, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, type Status, startSidestep, whyNoSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';

const PROGRAMS = join(dirname(fileURLToPath(import.meta.url)), 'programs');

export const MESH = '127.0.0.4';
/** Why these tests are skipped here, or false. A missing build is no reason: then they fail. */
export const skip: string | false = whyNoSidestep()?.includes('root') ? 'needs root' : false;

/** The server inside the mesh for all tests, so that all that can goes from socket to socket. */
const INSIDE = process.env.SIDESTEP_SERVERS_INSIDE === '1';

/** What a client program prints. */
export interface Report {
  readonly failures: readonly string[];
  readonly failed: number;
  readonly [name: string]: unknown;
}

export interface ServerStats {
  readonly accepted: number;
  readonly requests: number;
  readonly overlaps: number;
  readonly open: number;
}

/**
 * Four kinds of routes: /denied is answered in the kernel, /p/ is the proxy's (it adds `x-way: proxy` to the answer),
 * /t/ has a short timeout, and everything else is forwarded in the kernel.
 */
function bootstrap(port: number, upstream: number): JsonObject {
  const route = { cluster: 'server', timeout: '60s' };
  const edit = { header: { key: 'x-way', value: 'proxy' } };
  const routes = [
    { match: { path: '/denied' }, direct_response: { status: 403, body: { inline_string: 'denied' } } },
    { match: { prefix: '/p/' }, route, response_headers_to_add: [edit] },
    { match: { prefix: '/t/' }, route: { ...route, timeout: '0.25s' } },
    { match: { prefix: '/' }, route },
  ];
  return plainBootstrap([{ name: 'rules', address: MESH, port, routes }], [{ name: 'server', ports: [upstream] }]);
}

export class RulesWorld {
  server!: LabProcess;
  sidestep!: SidestepHandle;
  #network: LabProcess | undefined;

  private constructor(
    readonly lab: Lab,
    readonly port: number,
    readonly upstream: number,
    readonly inside: boolean,
  ) {}

  /**
   * A server and Sidestep, both running. `ownNetwork`: in a network of their own, after this shell command; `inside`: the
   * server in the mesh, too; `args`: more of Sidestep's.
   */
  static async open(
    name: string,
    options: { readonly ownNetwork?: string; readonly inside?: boolean; readonly args?: readonly string[] } = {},
  ): Promise<RulesWorld> {
    const lab = await Lab.open(`rules-${name}`);
    try {
      const world = new RulesWorld(lab, await freePort(), await freePort(), options.inside ?? INSIDE);
      const file = join(lab.dir, 'bootstrap.json');
      await writeFile(file, JSON.stringify(bootstrap(world.port, world.upstream)));
      if (options.ownNetwork) {
        world.#network = lab.start('network', [
          'unshare',
          '--net',
          'sh',
          '-c',
          `ip link set lo up && ${options.ownNetwork} && echo up && sleep 600`,
        ]);
        await world.#network.waitFor(/^up$/m);
      }
      if (!world.inside) await world.startServer();
      world.sidestep = await startSidestep(lab, [file], { prefix: world.inNetwork(), args: options.args ?? [] });
      if (world.inside) await world.startServer();
      return world;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** What to put before a command so that it runs in the world's network. */
  inNetwork(): string[] {
    return this.#network ? ['nsenter', '--net', '--target', String(this.#network.pid)] : [];
  }

  get statsUrl(): string {
    return `http://127.0.0.1:${this.upstream}/control/stats`;
  }

  /** Starts the server, again after it was killed. */
  async startServer(): Promise<void> {
    const start = (argv: string[]): LabProcess =>
      this.inside ? this.sidestep.start('server', argv) : this.lab.start('server', argv);
    this.server = start([
      ...this.inNetwork(),
      ...['python3', join(PROGRAMS, 'server.py'), '127.0.0.1', String(this.upstream)],
    ]);
    await this.server.waitFor(/listening/);
  }

  /** Command line of a client program: `PROGRAM ADDRESS PORT ARGS`. */
  command(program: string, ...args: (string | number)[]): string[] {
    return [...this.inNetwork(), 'python3', join(PROGRAMS, program), MESH, String(this.port), ...args.map(String)];
  }

  /** Runs a client program inside the mesh; what it reports. @throws when it ends in any other way */
  async client(program: string, args: readonly (string | number)[] = [], timeoutMs = 60_000): Promise<Report> {
    const r = await this.sidestep.run(this.command(program, ...args), { timeoutMs });
    assert.equal(r.code, 0, `${program}: ${r.signal ?? r.code} ${r.stderr.slice(-3000)}${r.stdout.slice(-500)}`);
    return JSON.parse(r.stdout.trim().split('\n').at(-1)!) as Report;
  }

  /** Starts a client program inside the mesh. */
  start(program: string, ...args: (string | number)[]): LabProcess {
    return this.sidestep.start(program, this.command(program, ...args), { stdin: true });
  }

  async serverStats(): Promise<ServerStats> {
    return (await (await fetch(this.statsUrl)).json()) as ServerStats;
  }

  /** The server closes the connections on which no request is under way; how many. */
  async closeIdle(): Promise<number> {
    return Number(await (await fetch(`http://127.0.0.1:${this.upstream}/control/close-idle`)).text());
  }

  /** What the instance counts. */
  status(): Promise<Status> {
    return this.sidestep.status();
  }

  /** One of the programs' counters. */
  async counter(name: string): Promise<number> {
    return (await this.status()).counters?.[name] ?? Number.NaN;
  }

  /** What `connections` of the agent comes down to within `ms`. */
  async settledConnections(ms = 5000): Promise<number> {
    for (const end = Date.now() + ms; ; await sleep(100)) {
      const { connections } = (await this.status()) as Status & { connections: number };
      if (connections === 0 || Date.now() > end) return connections;
    }
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** A client program's report must have no failures. */
export function assertNoFailures(report: Report): void {
  assert.deepEqual(report.failures, [], `${report.failed} failures`);
}

/** Output of a command that must succeed. */
export async function output(argv: readonly string[]): Promise<string> {
  const r = await runCommand(argv, { timeoutMs: 20_000 });
  assert.equal(r.code, 0, `${argv.join(' ')}: ${r.stderr}${r.stdout.slice(-300)}`);
  return r.stdout;
}
