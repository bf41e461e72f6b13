/** The same address in two network namespaces is two addresses: nothing of one reaches the other. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { type LabProcess, runCommand } from '../../src/lab/processes.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { bootstrap, skip } from '../e2e/world.js';
import { PodsWorld } from './world.js';

const PORT = 8080;
const SERVER_PORT = 9080;
const CLIENT_PORT = 40_000;

/** Sends `count` requests with a mark of its own on one connection from 127.0.0.1:CLIENT_PORT; says how many answers are right. */
function clientScript(address: string, mark: string, count: number): string {
  return `console.log('ready');
process.stdin.once('data', () => {
const s = require('net').connect({ host: '${address}', port: ${PORT}, localAddress: '127.0.0.1', localPort: ${CLIENT_PORT} });
let n = 0, got = '';
const ask = () => s.write('GET /' + (n % 3 ? 'x' : 'odd') + '/${mark}/' + n + ' HTTP/1.1\\r\\nhost: a\\r\\n' + (n % 3 ? '' : 'x-odd: 1\\r\\nx-odd: 2\\r\\nexpect: 100-continue\\r\\n') + '\\r\\n');
s.on('connect', () => { console.log('connected'); process.stdin.once('data', ask); });
s.on('data', (b) => {
  got += b;
  const end = got.lastIndexOf('}');
  if (end < 0) return;
  if (!got.includes('/${mark}/' + n + '"') || !got.includes('200 OK')) { console.log('wrong: ' + got); process.exit(1); }
  got = ''; n++;
  if (n === ${count}) { console.log('all right'); process.exit(0); }
  ask();
});
s.on('close', () => { console.log('closed after ' + n); process.exit(1); });
s.on('error', (e) => console.log(e.message));
});`;
}

function listenerAt(address: string, port: number, name: string): JsonObject {
  const resources = bootstrap({ address, port, upstream: SERVER_PORT }).static_resources as JsonObject;
  return { ...(resources.listeners as JsonObject[])[0]!, name };
}

describe('one address in several namespaces', { skip, timeout: 180_000 }, () => {
  let world: PodsWorld;
  const curl = async (pod: number, url: string): Promise<string> => {
    const argv = ['curl', '-s', '-m', '5', '-w', '\n%{http_code}', url];
    const r = await runCommand(world.sidestep.execCommand(argv, ['--netns', world.pods[pod]!.name]));
    const [body = '', code] = r.stdout.split('\n');
    return r.code === 0 ? `${(JSON.parse(body) as { server: string }).server} ${code}` : `curl ${r.code}`;
  };

  before(async () => {
    world = await PodsWorld.open('apart', 2);
    await world.serve(world.node, `node=127.0.0.1:${SERVER_PORT}`);
    const base = bootstrap({ address: '0.0.0.0', port: PORT, upstream: SERVER_PORT });
    const { clusters } = base.static_resources as JsonObject;
    const listeners = [listenerAt('0.0.0.0', PORT, 'everywhere'), listenerAt('127.0.0.1', PORT + 1, 'loopback')];
    await writeFile(world.file, JSON.stringify({ static_resources: { listeners, clusters: clusters! } }));
    const handle = await startSidestep(world.lab, [world.file], { prefix: world.node.command([]) });
    world.sidestep = handle;
    // at the endpoint's own address, but in another namespace; and where the listeners are, in the pod
    const own = [SERVER_PORT, PORT, PORT + 1].map((port) => `pod=127.0.0.1:${port}`);
    await world.serveInside(world.pods[0]!, ...own);
  });
  after(() => world?.close());

  test('loopback is the pod’s own, a wildcard listener is at the node’s addresses', async () => {
    for (let i = 0; i < 3; i++) {
      assert.equal(await curl(0, `http://127.0.0.1:${PORT}/`), 'pod 200');
      assert.equal(await curl(0, `http://127.0.0.1:${PORT + 1}/`), 'pod 200');
      assert.equal(await curl(0, `http://${world.node.ipv4}:${PORT}/`), 'node 200');
    }
    // nobody listens there in the other pod
    assert.equal(await curl(1, `http://127.0.0.1:${PORT}/`), 'curl 7');
    const { requests } = await world.sidestep.status();
    assert.ok(requests.kernel + requests.proxy === 3, JSON.stringify(requests));
  });

  test('clients with the same end in two namespaces, at once', async () => {
    const count = 300;
    const start = (pod: number): LabProcess =>
      world.sidestep.start(
        `client in pod ${pod}`,
        [process.execPath, '-e', clientScript(world.node.ipv4, `pod-${pod}`, count)],
        { stdin: true },
        ['--netns', world.pods[pod]!.name],
      );
    const clients = [start(0), start(1)];
    for (const client of clients) await client.waitFor(/ready/);
    // the agent sees both connections only when both are there
    const { pid } = JSON.parse(readFileSync(`/run/sidestep/${world.sidestep.name}/state.json`, 'utf8'));
    process.kill(pid, 'SIGSTOP');
    try {
      for (const client of clients) client.child.stdin!.write('connect\n');
      for (const client of clients) await client.waitFor(/connected/);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    for (const client of clients) client.child.stdin!.write('go\n');
    for (const client of clients) {
      await client.exited;
      assert.match(client.output, /all right/);
    }
    const { requests } = await world.sidestep.status();
    assert.ok(requests.kernel > count && requests.proxy > count / 2, JSON.stringify(requests));
  });

  test('a namespace that gets an intercepted address for its own is left alone at it', async () => {
    const { name } = world.pods[1]!;
    await runCommand(['ip', '-n', name, 'addr', 'add', `${world.node.ipv4}/32`, 'dev', 'lo']);
    await world.serveInside(world.pods[1]!, `mine=${world.node.ipv4}:${PORT}`);
    for (let i = 0; i < 3; i++) assert.equal(await curl(1, `http://${world.node.ipv4}:${PORT}/`), 'mine 200');
    assert.equal(await curl(0, `http://${world.node.ipv4}:${PORT}/`), 'node 200');
  });
});
