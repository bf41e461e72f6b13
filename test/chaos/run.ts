/**
 * The chaos run: load of every kind while servers, clients and the agent are killed, policies swapped, endpoints changed.
 * What happens when follows from the seed alone (how the processes interleave does not).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort, freePorts } from '../../src/lab/ports.js';
import { Lab, type LabProcess, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, type Status, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { heldBy, poolState, size } from '../rules/kernel-state.js';
import type { ChaosReport } from './client.js';
import { random } from './pattern.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const MESH = '127.0.0.6';
const CLIENTS = 3;
const CONNECTIONS = 12;
/** Load goes on for this long after the last blow, so that what came back is seen to work. */
const CALM_MS = 3000;

export interface ChaosOptions {
  readonly seconds: number;
  readonly seed: number;
  /** kill the agent now and then */
  readonly agent: boolean;
  /** start the servers inside the mesh, too */
  readonly serversInside?: boolean;
  readonly log: (text: string) => void;
}

export interface ChaosResult {
  readonly reports: readonly ChaosReport[];
  readonly events: Readonly<Record<string, number>>;
  /** of the agent that was there at the end */
  readonly requests: Status['requests'];
  readonly bypassed: number;
  readonly left: {
    readonly connections: number;
    readonly owned: number;
    readonly broken: readonly string[];
    readonly clients: number;
    readonly descriptors: number;
    readonly residentMb: number;
  };
}

/** Generation `n` of the policy: both headers say it, and it knows the servers with these ports. */
function policy(port: number, servers: readonly number[], n: number): JsonObject {
  const both = ['x-policy-a', 'x-policy-b'].map((key) => ({ header: { key, value: `g${n}` } }));
  // a value that only the proxy can compute leaves its route to it
  const when = { header: { key: 'x-when', value: '%START_TIME%' } };
  const route = { cluster: 'servers', timeout: '10s' };
  const routes = [
    { match: { prefix: '/proxy' }, route, request_headers_to_add: [...both, when] },
    { match: { prefix: '/' }, route, request_headers_to_add: both },
  ];
  return plainBootstrap([{ name: 'chaos', address: MESH, port, routes }], [{ name: 'servers', ports: servers }]);
}

class World {
  readonly events: Record<string, number> = {};
  readonly reports: ChaosReport[] = [];
  readonly #servers = new Map<number, LabProcess>();
  readonly #clients = new Set<LabProcess>();
  readonly #chance: () => number;
  #sidestep!: SidestepHandle;
  #generation = 1;
  #known: number[];
  #clientSeed = 0;

  constructor(
    private readonly lab: Lab,
    private readonly options: ChaosOptions,
    private readonly file: string,
    private readonly port: number,
    private readonly ports: readonly number[],
    private readonly name: string,
  ) {
    this.#chance = random(options.seed);
    this.#known = [...ports];
  }

  get sidestep(): SidestepHandle {
    return this.#sidestep;
  }

  #pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.#chance() * of.length)]!;
  }

  async open(): Promise<void> {
    this.#writePolicy();
    this.#sidestep = await startSidestep(this.lab, [this.file], { name: this.name });
    for (const port of this.ports) await this.#startServer(port);
    for (let i = 0; i < CLIENTS; i++) await this.#startClient();
  }

  #writePolicy(): void {
    writeFileSync(this.file, JSON.stringify(policy(this.port, this.#known, this.#generation)));
  }

  async #startServer(port: number): Promise<void> {
    const argv = [...script('server.ts'), '127.0.0.1', String(port), `s${port}`];
    const server = this.options.serversInside ? this.#sidestep.start('server', argv) : this.lab.start('server', argv);
    await server.waitFor(/listening/);
    this.#servers.set(port, server);
  }

  async #startClient(): Promise<void> {
    const seed = this.options.seed * 1000 + ++this.#clientSeed;
    const argv = [...script('client.ts'), MESH, String(this.port), String(CONNECTIONS), String(seed)];
    const client = this.#sidestep.start('client', argv, { stdin: true });
    await client.waitFor(/loading/);
    this.#clients.add(client);
  }

  /** One blow. */
  async strike(): Promise<void> {
    const kinds = ['server', 'client', 'policy', 'policy', 'endpoints', 'pause'];
    if (this.options.agent) kinds.push('agent');
    const kind = this.#pick(kinds);
    this.events[kind] = (this.events[kind] ?? 0) + 1;
    this.options.log(kind);
    if (kind === 'server') {
      const port = this.#pick(this.ports);
      this.#servers.get(port)!.signal('SIGKILL');
      await this.#servers.get(port)!.exited;
      await sleep(100 * this.#chance());
      await this.#startServer(port);
    } else if (kind === 'client') {
      const client = this.#pick([...this.#clients]);
      this.#clients.delete(client);
      client.signal('SIGKILL');
      await this.#startClient();
    } else if (kind === 'policy') {
      this.#generation++;
      this.#writePolicy();
    } else if (kind === 'endpoints') {
      const without = this.#pick([0, ...this.ports]);
      this.#known = this.ports.filter((p) => p !== without);
      this.#generation++;
      this.#writePolicy();
    } else if (kind === 'pause') {
      const server = this.#servers.get(this.#pick(this.ports))!;
      server.signal('SIGSTOP');
      await sleep(200);
      server.signal('SIGCONT');
    } else {
      this.#sidestep.process.signal('SIGKILL');
      await this.#sidestep.process.exited;
      await sleep(300 * this.#chance());
      this.#sidestep = await startSidestep(this.lab, [this.file], { name: this.name });
    }
  }

  /** Ends the load in order and takes the reports. */
  async settle(): Promise<void> {
    await Promise.all(
      [...this.#clients].map(async (client) => {
        client.child.stdin!.write('\n');
        const exit = await client.exited;
        if (exit.code !== 0) throw new Error(`a client ended with ${exit.code}: ${client.output.slice(-3000)}`);
        this.reports.push(JSON.parse(client.output.trim().split('\n').at(-1)!) as ChaosReport);
      }),
    );
  }
}

function script(name: string): string[] {
  return [process.execPath, '--import', 'tsx', join(HERE, name)];
}

function resident(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

/** What is left of all that when no client is there any more. */
async function leftovers(world: World): Promise<Pick<ChaosResult, 'left' | 'requests' | 'bypassed'>> {
  const pid = world.sidestep.process.pid;
  let status = (await world.sidestep.status()) as Status & { connections: number };
  // what was under way for clients that were killed ends when its timeout (10 s) strikes at the latest
  for (const end = Date.now() + 15_000; Date.now() < end; await sleep(250)) {
    status = (await world.sidestep.status()) as Status & { connections: number };
    if (status.connections === 0 && (await poolState(pid)).owned === 0) break;
  }
  const pool = await poolState(pid);
  return {
    requests: status.requests,
    bypassed: status.bypassed,
    left: {
      connections: status.connections,
      ...{ owned: pool.owned, broken: pool.broken },
      clients: await size(pid, 'clients'),
      descriptors: heldBy(pid).descriptors,
      residentMb: Math.round(resident(pid)),
    },
  };
}

/** Runs it. @throws Error when something could not be started or a client crashed */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const lab = await Lab.open('chaos');
  try {
    const port = await freePort();
    const world = new World(
      ...[lab, options, join(lab.dir, 'policy.json'), port, await freePorts(3), `chaos-${process.pid}-${options.seed}`],
    );
    await world.open();
    const chance = random(options.seed + 1);
    for (const end = Date.now() + options.seconds * 1000; Date.now() < end; ) {
      await sleep(200 + 600 * chance());
      await world.strike();
    }
    await sleep(CALM_MS);
    await world.settle();
    return { reports: world.reports, events: world.events, ...(await leftovers(world)) };
  } finally {
    await lab.close();
  }
}
