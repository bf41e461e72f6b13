/** Real clients against real servers: through Sidestep everything is as it is through Envoy alone. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runWrk } from '../../src/bench/wrk.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab, runCommand } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep, whyNoSidestep } from '../../src/lab/sidestep.js';
import { bootstrapFor, type ClientProgram, clients, findServers, type Servers, startServers } from './setup.js';

const ALONE = '127.0.0.2';
const MESH = '127.0.0.3';
const CLIENTS = ['curl', 'Node fetch', 'Python http.client', 'Python requests', 'Go net/http', 'Java HttpClient'];
const OPERATIONS = 11;

const skip = whyNoSidestep()?.includes('root') ? 'needs root' : false;

for (const inside of [false, true]) realWorld(inside);

/** `inside`: the servers run inside the mesh, too, so that requests and answers go from socket to socket. */
function realWorld(inside: boolean): void {
  const name = `real clients and servers${inside ? ', both inside the mesh' : ''}`;
  describe(name, { skip, timeout: 600_000 }, () => tests(inside));
}

function tests(inside: boolean): void {
  let lab: Lab;
  let programs: ClientProgram[];
  let ports: Record<string, number>;
  let sidestep: SidestepHandle;
  let found: Servers;

  before(async () => {
    lab = await Lab.open('clients');
    found = await findServers();
    const servers = found.ports;
    if (!inside) await startServers(lab, servers);
    programs = await clients(lab);
    const free = await freePorts(Object.keys(servers).length);
    ports = Object.fromEntries(Object.keys(servers).map((name, i) => [name, free[i]!]));
    await startEnvoy(lab, 'envoy', bootstrapFor(ALONE, ports, servers));
    const file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(bootstrapFor(MESH, ports, servers)));
    sidestep = await startSidestep(lab, [file]);
    if (inside) await startServers(lab, servers, (name, argv) => sidestep.start(name, argv));
  });
  after(() => lab?.close());

  const targets = (address: string): string[] =>
    Object.entries(ports).map(([name, port]) => `${name}=http://${address}:${port}`);

  for (const name of CLIENTS) {
    test(name, async (t) => {
      const client = programs.find((p) => p.name === name)!;
      if (!client.argv) return t.skip(client.missing);
      const alone = await runCommand([...client.argv, ...targets(ALONE)], { timeoutMs: 60_000 });
      const lines = alone.stdout.trim().split('\n');
      assert.equal(alone.code, 0, alone.stderr);
      assert.equal(lines.length, OPERATIONS * Object.keys(ports).length, alone.stdout + alone.stderr);
      for (const line of lines) assert.match(line, / missing 404 | (?!missing)\S+ 200 /);
      const before = await sidestep.status();
      const counts = before.requests;
      const ours = await sidestep.run([...client.argv, ...targets(MESH)], { timeoutMs: 60_000 });
      assert.equal(ours.stdout, alone.stdout, ours.stderr);
      assert.equal(ours.code, 0, ours.stderr);
      const after = await sidestep.status();
      const now = after.requests;
      const bypassed = after.bypassed - before.bypassed;
      const all = now.kernel - counts.kernel + now.proxy - counts.proxy + now.agent - counts.agent;
      t.diagnostic(`${bypassed} bypassed`);
      assert.ok(inside ? bypassed >= all / 2 : bypassed === 0, `${bypassed} requests were bypassed`);
      t.diagnostic(`${now.kernel - counts.kernel} of ${all} requests decided in the kernel`);
      assert.ok(now.kernel - counts.kernel >= all / 2, 'most requests went to the proxy');
    });
  }

  for (const server of ['nginx', 'node', 'python', 'java', 'go', 'uvicorn', 'gunicorn', 'netty', 'hyper']) {
    test(`wrk against ${server}`, async (t) => {
      if (!ports[server]) return t.skip(found.missing[server] ?? 'the server is not there');
      // runWrk fails if any answer is not 2xx or any connection breaks
      const r = await runWrk({
        ...{ url: `http://${MESH}:${ports[server]}/small`, host: 'any', connections: 16, seconds: 1, pauseMs: 0 },
        dir: lab.dir,
        wrap: (argv) => sidestep.execCommand(argv),
      });
      t.diagnostic(`${Math.round(r.rps)} requests/s, p50 ${r.p50Us} us`);
      assert.ok(r.requests > 100);
    });
  }
}
