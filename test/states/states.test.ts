/** The table of docs/states.md, cell by cell, through Envoy alone and through Sidestep every way. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { currentCgroup, instanceCgroups, joinCgroup } from '../../src/kernel/cgroups.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { packageRoot } from '../../src/lab/paths.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort, freePorts } from '../../src/lab/ports.js';
import { Lab, runCommand, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { skip } from '../rules/world.js';
import { StateServer } from './server.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'client.py');
const ALONE = '127.0.0.2';
const MESH = '127.0.0.7';

/** The table's words -> the programs'. */
const POINTS: Readonly<Record<string, string>> = {
  'idle, after an answer': 'idle',
  'the answer is on its way with the end behind it': 'behind',
  'the answer announces `Connection: close`': 'announced',
  'before the answer': 'before',
  "inside the answer's head": 'head',
  'inside a body of known length': 'length',
  'inside a chunk': 'chunk',
  'between two chunks': 'chunks',
  'inside a body that ends with the connection': 'close-delimited',
  "half of the request's body has come": 'body',
  'nothing was sent': 'nothing',
  'half of a head was sent': 'head',
  'half of the body was sent': 'body',
  'the request was sent': 'held',
  'half of the answer has come': 'halves',
  'the answer has come': 'answered',
};

type Way = 'alone' | 'kernel' | 'grown' | 'proxy' | 'bypass';

interface Cell {
  readonly side: 'server' | 'client';
  readonly point: string;
  readonly event: string;
  readonly envoy: string;
  readonly kernel: string;
  readonly proxy: string;
}

function cells(text: string): Cell[] {
  const found: Cell[] = [];
  let side: Cell['side'] = 'server';
  for (const line of text.split('\n')) {
    if (line.startsWith('## ')) side = line.includes('client') ? 'client' : 'server';
    if (!line.startsWith('| ') || /^\| (point|---)/.test(line)) continue;
    const columns = line.split('|').map((c) => c.trim());
    const [, point = '', event = ''] = columns;
    const rest = columns.slice(3);
    const envoy = side === 'client' ? `${rest.shift()}; ${rest.shift()}` : rest.shift()!;
    const [kernel = '', proxy = ''] = rest;
    found.push({
      side,
      point,
      event,
      envoy,
      kernel: kernel === '=' ? envoy : kernel,
      proxy: proxy === '=' ? envoy : proxy,
    });
  }
  return found;
}

function bootstrap(address: string, port: number, upstream: number): JsonObject {
  const route = { cluster: 'server', timeout: '8s', prefix_rewrite: '/' };
  // a value that only the proxy can compute
  const when = { header: { key: 'x-when', value: '%START_TIME%' } };
  // one that makes the answer's head longer, which then takes another way
  const grown = { header: { key: 'x-grown', value: 'by so many bytes' } };
  const routes = [
    { match: { prefix: '/proxy/' }, route, request_headers_to_add: [when] },
    { match: { prefix: '/kernel/' }, route },
    { match: { prefix: '/grown/' }, route, response_headers_to_add: [grown] },
  ];
  return plainBootstrap([{ name: 'states', address, port, routes }], [{ name: 'server', ports: [upstream] }]);
}

for (const intake of ['socket', 'listener'] as const)
  describe(`when a side ends, intake at the ${intake}`, { skip, timeout: 300_000 }, () => tests(intake));

function tests(intake: 'socket' | 'listener'): void {
  const args = ['--intake', intake];
  let lab: Lab;
  let server: StateServer;
  let sidestep: SidestepHandle;
  const ports = { alone: 0, mesh: 0, bypass: 0 };
  let inside: SidestepHandle;
  let insideServer: StateServer;
  let serial = 0;

  before(async () => {
    lab = await Lab.open('states');
    const [upstream, alone] = (await freePorts(2)) as [number, number];
    server = new StateServer();
    await server.listen(upstream);
    lab.onClose('server', () => server.close());
    Object.assign(ports, { alone, mesh: await freePort() });
    await startEnvoy(lab, 'envoy', bootstrap(ALONE, alone, upstream));
    const file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH, ports.mesh, upstream)));
    sidestep = await startSidestep(lab, [file], { args });
    // The same once more with the server inside: what counts is where its listening socket was made.
    const [local, bypass] = (await freePorts(2)) as [number, number];
    ports.bypass = bypass;
    const other = join(lab.dir, 'bypass.json');
    await writeFile(other, JSON.stringify(bootstrap(MESH, bypass, local)));
    inside = await startSidestep(lab, [other], { args });
    insideServer = new StateServer();
    lab.onClose('server inside', () => insideServer.close());
    const home = currentCgroup();
    joinCgroup(instanceCgroups(inside.name).apps);
    try {
      await insideServer.listen(local);
    } finally {
      joinCgroup(home);
    }
  });
  after(() => lab?.close());

  /** Plays the cells; what both sides saw of each. */
  const play = async (table: readonly Cell[], way: Way): Promise<string[]> => {
    const address = way === 'alone' ? ALONE : MESH;
    const port = way === 'alone' || way === 'bypass' ? ports[way] : ports.mesh;
    const mesh = way === 'bypass' ? inside : sidestep;
    const jobs = table.map((cell) => {
      const point = POINTS[cell.point];
      assert.ok(point, `no such point: ${cell.point}`);
      const path = way === 'proxy' || way === 'grown' ? `/${way}` : '/kernel';
      return [path, `t${++serial}`, cell.side, point, cell.event];
    });
    const argv = ['python3', CLIENT, address, String(port)];
    const options = { input: JSON.stringify(jobs), timeoutMs: 120_000 };
    const r = way === 'alone' ? await runCommand(argv, options) : await mesh.run(argv, options);
    assert.equal(r.code, 0, r.stderr);
    await sleep(250);
    return (JSON.parse(r.stdout) as string[]).map((client, i) => {
      if (table[i]!.side === 'server') return client;
      const { request, connection } = (way === 'bypass' ? insideServer : server).saw(jobs[i]![1]!);
      return `${client}; ${request === 'nothing' ? request : `${request} ${connection}`}`;
    });
  };

  test('every cell', async (t) => {
    const table = cells(await readFile(join(packageRoot(), 'docs/states.md'), 'utf8'));
    assert.ok(table.length >= 34);
    const wrong: string[] = [];
    const before = (await sidestep.status()).requests;
    for (const way of ['alone', 'kernel', 'grown', 'proxy', 'bypass'] as const) {
      const seen = await play(table, way);
      for (const [i, cell] of table.entries()) {
        // closed or half-closed is the same to whom only the wire tells
        const asEnvoy = way === 'alone' || (intake === 'listener' && cell.event === 'half-closes');
        const wanted = asEnvoy ? cell.envoy : cell[way === 'bypass' || way === 'grown' ? 'kernel' : way];
        if (seen[i] !== wanted)
          wrong.push(`${cell.side}: ${cell.point}, ${cell.event}, ${way}: ${seen[i]} instead of ${wanted}`);
      }
    }
    const { requests: now, counters } = await sidestep.status();
    t.diagnostic(`${counters?.grown} answers grown in the kernel, ${counters?.answers_agent} carried by the agent`);
    t.diagnostic(`${table.length} cells, ${now.kernel - before.kernel} requests decided in the kernel`);
    // (what listener intake sends to a server's socket is not counted so)
    const { bypassed } = await inside.status();
    t.diagnostic(`${bypassed} from socket to socket`);
    assert.deepEqual(wrong, []);
    assert.ok(intake === 'listener' || bypassed > table.length, 'most requests must have gone from socket to socket');
    assert.ok(now.kernel - before.kernel > table.length, 'the kernel must have decided');
  });
}
