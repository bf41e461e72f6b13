/** The same-node bypass: what only it can get wrong. Real servers are in test/clients, ends of sides in test/states. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { bootstrap, MESH, skip } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));

interface Report {
  readonly servers: Readonly<Record<string, number>>;
  readonly wrong: readonly string[];
  readonly faults: number;
}

/** A listener whose cluster has these ports of 127.0.0.1, round robin. */
function policy(port: number, upstreams: readonly number[]): string {
  const config = bootstrap({ address: MESH, port, upstream: upstreams[0]! });
  const text = JSON.stringify(config);
  const endpoint = (p: number): string =>
    JSON.stringify({ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: p } } } });
  return text.replace(endpoint(upstreams[0]!), upstreams.map(endpoint).join(','));
}

describe('from socket to socket', { skip, timeout: 300_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open('bypass');
  });
  after(() => lab?.close());

  /** Sidestep with so many servers in its mesh, each waiting before an accept. */
  async function world(servers: number, delayMs: number, exec: readonly string[] = []): Promise<World> {
    const port = await freePort();
    const upstreams = await Promise.all(Array.from({ length: servers }, () => freePort()));
    const file = join(lab.dir, `${port}.json`);
    await writeFile(file, policy(port, upstreams));
    const sidestep = await startSidestep(lab, [file]);
    for (const [i, upstream] of upstreams.entries()) {
      const argv = ['python3', join(HERE, 'bypass-server.py'), '127.0.0.1', String(upstream), `s${i}`, String(delayMs)];
      const inside = sidestep.execCommand(argv);
      inside.splice(inside.indexOf('--'), 0, ...exec);
      await lab.start(`server ${i}`, inside).waitFor(/listening/);
    }
    return new World(sidestep, port);
  }

  test('requests arrive before the server has accepted the connection', async () => {
    const w = await world(1, 100);
    const report = await w.client(6, 20, false);
    assert.deepEqual(report.wrong, []);
    assert.equal(report.servers.s0, 240);
    const { bypassed } = await w.sidestep.status();
    assert.ok(bypassed > 150, `${bypassed} bypassed`);
  });

  test('answers of two servers in turn stay in order, even when the client does not wait for them', async (t) => {
    const w = await world(2, 0);
    await w.client(8, 20, false); // opens connections
    const plain = await w.client(8, 300, false);
    assert.deepEqual(plain.wrong, []);
    const pipelined = await w.client(8, 300, true);
    const { bypassed, requests, counters } = await w.sidestep.status();
    t.diagnostic(JSON.stringify({ plain, pipelined, bypassed, requests, counters }));
    assert.deepEqual(pipelined.wrong, []);
    for (const r of [plain, pipelined]) assert.ok(Math.min(r.servers.s0!, r.servers.s1!) > 1500, JSON.stringify(r));
    assert.ok(bypassed > 4800, `${bypassed} bypassed`);
  });

  test('exec --no-bypass keeps TCP between client and server', async () => {
    const w = await world(1, 0, ['--no-bypass']);
    const report = await w.client(4, 50, false);
    assert.deepEqual(report.wrong, []);
    const { bypassed, requests } = await w.sidestep.status();
    assert.equal(bypassed, 0);
    assert.ok(requests.kernel > 300, JSON.stringify(requests));
  });

  test('a server that is killed while it answers: a reset or a whole answer, then service goes on', async () => {
    const port = await freePort();
    const upstream = await freePort();
    const file = join(lab.dir, `${port}.json`);
    await writeFile(file, policy(port, [upstream]));
    const w = new World(await startSidestep(lab, [file]), port);
    const start = async (): Promise<() => Promise<unknown>> => {
      const argv = ['python3', join(HERE, 'bypass-server.py'), '127.0.0.1', String(upstream), 's0', '0'];
      const server = w.sidestep.start('server', argv);
      await server.waitFor(/listening/);
      return () => {
        server.signal('SIGKILL');
        return server.exited;
      };
    };
    for (let round = 0; round < 3; round++) {
      const kill = await start();
      const load = w.client(6, 100_000, false);
      await sleep(700 + round * 37);
      await kill();
      // every connection ends with an error of its own or with an answer of the mesh; none hangs
      for (const line of (await load).wrong) assert.match(line, /HTTP\/1.1 503|ConnectionReset|BrokenPipe|closed/);
    }
    await start();
    const report = await w.client(6, 50, false);
    assert.deepEqual(report.wrong, []);
  });
});

class World {
  constructor(
    readonly sidestep: SidestepHandle,
    private readonly port: number,
  ) {}

  async client(threads: number, rounds: number, pipelined: boolean): Promise<Report> {
    const numbers = [this.port, threads, rounds, pipelined ? 1 : 0].map(String);
    const argv = ['python3', join(HERE, 'bypass-client.py'), MESH, ...numbers];
    const r = await this.sidestep.run(argv, { timeoutMs: 60_000 });
    assert.equal(r.code, 0, r.stderr);
    return JSON.parse(r.stdout) as Report;
  }
}
