/** `exec --netns`: applications in network namespaces of their own, as pods are, against a plain Envoy on their node. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { runCommand, sleep } from '../../src/lab/processes.js';
import { outcome } from '../e2e/istio-world.js';
import { request, skip } from '../e2e/world.js';
import { pod, rules, service } from './policy.js';
import { get, PodsWorld } from './world.js';

const PORT = 9080;
const PATHS = ['/', '/echo?a=b', '/private/a', '/proxied/b', '/proxied/private/b', '/moved/away', '/gone'];

for (const intake of ['socket', 'listener'] as const) {
  describe(`pods as clients, ${intake} intake`, { skip, timeout: 240_000 }, () => {
    let world: PodsWorld;
    const inside: Driver[] = [];
    const outside: Driver[] = [];

    before(async () => {
      world = await PodsWorld.open('pods', 4);
      const [friend, stranger, plain, mesh] = world.pods;
      await world.serve(plain!, `plain=${plain!.ipv4}:${PORT}`, `plain=${plain!.ipv6}:${PORT}`);
      await world.start(
        [
          service('shop', '10.96.189.1', PORT, plain!.ipv4),
          service('cart', '10.96.189.2', PORT, mesh!.ipv4),
          service('six', 'fd96:189::6', PORT, plain!.ipv6),
          ...['shop', 'cart', 'six'].map(rules),
          ...[friend!.ipv4, friend!.ipv6].map((ip, i) => pod({ name: `friend-${i}`, ip, app: 'friend' })),
          pod({ name: 'stranger', ip: stranger!.ipv4, app: 'stranger' }),
        ].join(''),
        ['--intake', intake],
      );
      await world.serveInside(mesh!, `mesh=${mesh!.ipv4}:${PORT}`);
      for (const host of [friend!, stranger!]) {
        inside.push(await world.client(host));
        outside.push(await world.client(host, false));
      }
    });
    after(() => world?.close());

    test('every answer is Envoy’s, and each pod is who its address says', async (t) => {
      const statuses = new Map<string, (number | undefined)[]>();
      for (const name of ['shop', 'cart', 'six']) {
        for (const path of PATHS) {
          for (const who of [0, 1]) {
            const alone = name === 'six' ? world.node.ipv6 : world.node.ipv4;
            const expected = outcome(await get(outside[who]!, alone, world.alonePort(name), name, path));
            assert.notEqual(expected.status, undefined, `${name} ${path}: ${expected.error}`);
            // the first may find no connection to the server
            for (let i = 0; i < 3; i++)
              assert.deepEqual(
                outcome(await get(inside[who]!, world.address(name), 80, name, path)),
                expected,
                `pod ${who}: ${name}${path}, time ${i}`,
              );
            statuses.set(path, [...(statuses.get(path) ?? []), expected.status]);
          }
        }
      }
      const twoOfEach = (a: number, b: number): number[] => [a, b, a, b, a, b];
      assert.deepEqual(statuses.get('/private/a'), twoOfEach(200, 403));
      assert.deepEqual(statuses.get('/proxied/private/b'), twoOfEach(200, 403));
      const { requests, counters } = await world.sidestep.status();
      t.diagnostic(`${JSON.stringify(requests)} ${JSON.stringify(counters)}`);
      assert.ok(requests.kernel >= 3 * 2 * 4 * 2, JSON.stringify(requests));
    });

    test('from one pod to another, and over the wire to a server outside', async (t) => {
      for (const [name, direct] of [
        ['cart', intake === 'socket'],
        ['shop', false],
      ] as const) {
        const before = await world.sidestep.status();
        const result = await inside[0]!.run({
          ...{ address: world.address(name), port: 80 },
          exchanges: Array.from({ length: 200 }, (_, i) => ({
            pieces: [request(`GET /private/${i} HTTP/1.1`, [['Host', name]])],
            methods: ['GET'],
          })),
        });
        assert.deepEqual(
          result.answers.map((a) => [a.status, JSON.parse(Buffer.from(a.body, 'base64').toString()).target]),
          Array.from({ length: 200 }, (_, i) => [200, `/private/${i}`]),
          result.error,
        );
        const now = await world.sidestep.status();
        t.diagnostic(
          `${name}: ${JSON.stringify(now.requests)}, ${now.bypassed - before.bypassed} from socket to socket`,
        );
        assert.ok(now.requests.kernel - before.requests.kernel > 190);
        if (direct) assert.ok((now.counters?.bypassed_answers ?? 0) - (before.counters?.bypassed_answers ?? 0) > 190);
        else if (name === 'shop') assert.equal(now.bypassed, before.bypassed);
      }
    });

    test('an application sees the addresses that it would see without', async () => {
      const script = `const s = require('net').connect(80, '${world.address('shop')}', () => {
        console.log(s.localAddress, s.remoteAddress, s.remotePort); s.destroy(); })`;
      const r = await runCommand(
        world.sidestep.execCommand([process.execPath, '-e', script], ['--netns', `/run/netns/${world.pods[1]!.name}`]),
      );
      assert.equal(r.stdout.trim(), `${world.pods[1]!.ipv4} ${world.address('shop')} 80`, r.stderr);
    });
  });
}

describe('namespaces come and go', { skip, timeout: 240_000 }, () => {
  let world: PodsWorld;
  const curl = (url: string): string[] => ['curl', '-s', '-m', '5', '-o', '/dev/null', '-w', '%{http_code}', url];

  before(async () => {
    world = await PodsWorld.open('pods', 3);
    const [server] = world.pods;
    await world.serve(server!, `plain=${server!.ipv4}:${PORT}`);
    await world.start(`${service('shop', '10.96.189.1', PORT, server!.ipv4)}${rules('shop')}`);
  });
  after(() => world?.close());

  async function namespaces(): Promise<number> {
    return ((await world.sidestep.status()) as unknown as { namespaces: number }).namespaces;
  }

  test('one that the agent was not told of is refused at once', async () => {
    // the process changes its namespace after exec has started it
    const command = world.sidestep.execCommand(world.pods[1]!.command(curl('http://10.96.189.1/')));
    const r = await runCommand(command);
    assert.equal(r.code, 7, `${r.stdout} ${r.stderr}`); // could not connect: 28 if nobody had refused
  });

  test('started inside one, exec serves it without being asked', async () => {
    const r = await runCommand(world.pods[1]!.command(world.sidestep.execCommand(curl('http://10.96.189.1/'))));
    assert.equal(r.stdout, '200', r.stderr);
    assert.ok((await namespaces()) >= 1);
  });

  test('a namespace that does not exist', async () => {
    const r = await runCommand(world.sidestep.execCommand(['true'], ['--netns', 'sidestep-no-such']));
    assert.equal(r.code, 125);
    assert.match(r.stderr, /sidestep-no-such/);
  });

  test('one that is deleted is let go of', async () => {
    const { name } = world.pods[2]!;
    const r = await runCommand(world.sidestep.execCommand(curl('http://10.96.189.1/'), ['--netns', name]));
    assert.equal(r.stdout, '200', r.stderr);
    const before = await namespaces();
    await runCommand(['ip', 'netns', 'del', name]);
    // the wire's end on the node goes with the namespace, when nobody holds that any more
    const wire = async () => (await runCommand(world.node.command(['ip', 'link', 'show', 'pod2']))).code === 0;
    const until = Date.now() + 20_000;
    while ((await wire()) && Date.now() < until) await sleep(200);
    assert.equal(await wire(), false);
    assert.ok((await namespaces()) < before, `${before} before`);
  });

  test('the agent is killed: refused at once, and its listening sockets are gone', async () => {
    const client = world.sidestep.start(
      'shell',
      ['sh', '-c', `echo started; read go; exec ${curl('http://10.96.189.1/').join(' ')}`],
      { stdin: true },
      ['--netns', world.pods[1]!.name],
    );
    await client.waitFor(/started/);
    const state = JSON.parse(readFileSync(`/run/sidestep/${world.sidestep.name}/state.json`, 'utf8'));
    process.kill(state.pid, 'SIGKILL');
    await sleep(300);
    assert.ok(existsSync(`/proc/${state.proxy}`), 'the proxy holds what refuses');
    client.child.stdin!.end('go\n');
    const { code } = await client.exited;
    assert.equal(code, 7);
    const listening = await runCommand(world.pods[1]!.command(['ss', '-Hltn']));
    assert.equal(listening.stdout.trim(), '');
  });
});
