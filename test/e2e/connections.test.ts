/** Listeners about connections: what both ends see is what Envoy alone shows them, or what there is without a mesh. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isLoopback, localAddresses } from '../../src/agent/address.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { Client, cluster, Echo, type Job, type Outcome, tcpListener } from './connection-world.js';
import { eventually } from './eventually.js';
import { ALONE, MESH, skip } from './world.js';

/** An address of this machine that is no loopback address, if it has one. */
const OWN = localAddresses().find((a) => !isLoopback(a) && !a.includes(':')) ?? '127.0.0.1';

describe('listeners about connections', { skip, timeout: 180_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let inside: Client;
  let outside: Client;
  let first: Echo;
  let second: Echo;
  let six: Echo;
  let outer: Echo;
  let file: string;
  const port: Record<string, number> = {};
  const NAMES = [
    'one',
    'both',
    'shares',
    'refused',
    'nobody',
    'full',
    'six',
    'busy',
    'logged',
    'next',
    'outer',
    'v6',
    'v6alone',
  ];

  function bootstrap(address: string, target = first): JsonObject {
    const at = (echo: Echo) => ['127.0.0.1', echo.port] as const;
    const to = (name: string, more: JsonObject = {}) =>
      tcpListener(name, address, port[name]!, { cluster: name, ...more });
    const log = { name: 'log', typed_config: { '@type': FILE, path: join(lab.dir, `${address}.log`) } };
    return {
      static_resources: {
        listeners: [
          ...['one', 'both', 'refused', 'nobody', 'full', 'six', 'busy', 'next', 'outer'].map((name) => to(name)),
          tcpListener('v6', '::1', port[address === MESH ? 'v6' : 'v6alone']!, { cluster: 'six' }),
          to('logged', { access_log: [log] }),
          tcpListener('shares', address, port.shares!, {
            weighted_clusters: {
              clusters: [
                { name: 'one', weight: 1 },
                { name: 'next', weight: 3 },
              ],
            },
          }),
        ],
        clusters: [
          cluster('one', [at(first)]),
          cluster('logged', [at(first)]),
          cluster('next', [at(target)]),
          cluster('both', [at(first), at(second)]),
          cluster('busy', [at(first), at(second)], { lb_policy: 'LEAST_REQUEST' }),
          cluster('refused', [['127.0.0.1', port.closed!]]),
          cluster('nobody', []),
          cluster('full', [['127.0.0.1', port.backlog!]], { connect_timeout: '0.6s' }),
          cluster('six', [['::1', six.port]]),
          cluster('outer', [[OWN, outer.port]]),
        ],
      },
    };
  }
  const FILE = 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog';

  before(async () => {
    lab = await Lab.open('connections');
    first = await Echo.start(lab, 'first');
    second = await Echo.start(lab, 'second');
    six = await Echo.start(lab, 'six', '::1');
    outer = await Echo.start(lab, 'outer', OWN);
    const ports = await freePorts(NAMES.length + 2);
    for (const name of [...NAMES, 'closed', 'backlog']) port[name] = ports.shift()!;
    file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH)));
    await startEnvoy(lab, 'alone', bootstrap(ALONE));
    sidestep = await startSidestep(lab, [file]);
    outside = await Client.start(lab);
    inside = await Client.start(lab, sidestep);
  });
  after(() => lab?.close());

  const mesh = (name: string, job: Job = {}) => inside.run({ to: MESH, port: port[name]!, ...job });
  const alone = (name: string, job: Job = {}) => outside.run({ to: ALONE, port: port[name]!, ...job });
  const routed = async () => (await sidestep.status()).routed;
  const seen = ({ size, digest, end }: Outcome) => ({ size, digest, end });

  /** The same through both; the kernel must have decided exactly one connection. */
  async function same(name: string, job: Job): Promise<Outcome> {
    const a = await alone(name, job);
    const before = await routed();
    const m = await mesh(name, job);
    assert.deepEqual(seen(m), seen(a), JSON.stringify([m, a]));
    const now = await routed();
    assert.deepEqual([now.kernel - before.kernel, now.proxy - before.proxy], [1, 0], 'decided in the kernel');
    return m;
  }

  test('a server that speaks first, and a client that says nothing but its end', async () => {
    const m = await same('one', { half: true });
    assert.equal(m.head, 'first\n');
    assert.equal(m.end, 'end');
  });
  test('echo, and a half-closed connection', async () => {
    await same('one', { send: 'hello', half: true });
  });
  test('24 MiB both ways', async () => {
    const m = await same('one', { send: 'x'.repeat(64), times: 393216, half: true });
    assert.equal(m.size, 'first\n'.length + 64 * 393216);
  });
  test('a server that closes', async () => {
    const m = await same('one', { send: 'CLOSE' });
    assert.equal(m.head, 'first\nbye');
  });
  test('a server that resets', async () => {
    const job = { send: 'RESET' };
    const [m, a] = [await mesh('one', job), await alone('one', job)];
    assert.equal(m.end, 'reset');
    assert.ok(a.end === 'reset' || a.end === 'end', `Envoy alone: ${a.end}`); // as its version has it
  });

  test('the address that was asked for is the peer', async () => {
    const m = await mesh('one', { half: true });
    assert.equal(m.peer, `${MESH} ${port.one}`);
    const mapped = await inside.run({ to: `::ffff:${MESH}`, port: port.one!, six: true, half: true });
    assert.equal(mapped.head, 'first\n');
    assert.equal(mapped.peer, `::ffff:${MESH} ${port.one}`);
  });

  test('IPv6', async () => {
    const a = await outside.run({ to: '::1', port: port.v6alone!, send: 'hello', half: true });
    const before = await routed();
    const m = await inside.run({ to: '::1', port: port.v6!, send: 'hello', half: true });
    assert.deepEqual(seen(m), seen(a));
    assert.equal(m.peer, `::1 ${port.v6}`);
    assert.equal((await routed()).kernel - before.kernel, 1);
  });

  test('a client that is bound to a loopback address reaches endpoints elsewhere, too', async (t) => {
    if (isLoopback(OWN)) return t.skip('this machine has no other address');
    for (const [own, kernel] of [
      [OWN, 1],
      ['127.0.0.1', 0],
    ] as const) {
      const before = await routed();
      const m = await mesh('outer', { own, half: true });
      assert.equal(m.head, 'outer\n', JSON.stringify(m));
      assert.equal((await routed()).kernel - before.kernel, kernel);
    }
  });

  test('endpoints take turns, exactly', async () => {
    const names: (string | undefined)[] = [];
    for (let i = 0; i < 12; i++) names.push((await mesh('both', { half: true })).head);
    for (const [i, name] of names.entries()) assert.notEqual(name, names[i + 1], `${names}`);
  });

  test('weighted clusters', async () => {
    const before = await routed();
    let firsts = 0;
    for (let i = 0; i < 40; i++) {
      const jobs = Array.from({ length: 10 }, () => mesh('shares', { half: true }));
      for (const { head } of await Promise.all(jobs)) if (head === 'first\n') firsts++;
    }
    // both clusters lead to the first now: the shares are those of the rule's clusters
    assert.equal(firsts, 400);
    await writeFile(file, JSON.stringify(bootstrap(MESH, second)));
    await sidestep.generationAfter((await sidestep.status()).generation);
    firsts = 0;
    for (let i = 0; i < 40; i++) {
      const jobs = Array.from({ length: 10 }, () => mesh('shares', { half: true }));
      for (const { head } of await Promise.all(jobs)) if (head === 'first\n') firsts++;
    }
    // 100 of 400 are expected; six standard deviations are 52
    assert.ok(firsts > 48 && firsts < 152, `${firsts} of 400`);
    assert.equal((await routed()).kernel - before.kernel, 800);
  });

  test('connections live on when the policy changes', async () => {
    await writeFile(file, JSON.stringify(bootstrap(MESH, first)));
    await sidestep.generationAfter((await sidestep.status()).generation);
    const opened = await mesh('next', { most: 6, keep: 'old' });
    assert.equal(opened.head, 'first\n');
    await writeFile(file, JSON.stringify(bootstrap(MESH, second)));
    await sidestep.generationAfter((await sidestep.status()).generation);
    assert.equal((await mesh('next', { half: true })).head, 'second\n');
    const later = await inside.run({ name: 'old', send: 'still here', half: true, close: true });
    assert.equal(later.head, 'still here');
    assert.equal(later.end, 'end');
  });

  test('least request: those with fewer connections get more', async () => {
    const BUSY = 400;
    const MORE = 160;
    for (let i = 0; i < BUSY; i++) await mesh('busy', { most: 6, keep: `busy${i}` });
    const open = [first, second].map((echo) => echo.open.size);
    assert.ok(Math.abs(open[0]! - open[1]!) <= 6, `${open}`);
    // all of one go
    const left = second;
    for (const socket of left.open) socket.resetAndDestroy();
    await eventually(async () => assert.equal(left.open.size, 0));
    for (let i = 0; i < MORE; i++) await mesh('busy', { most: 6, keep: `more${i}` });
    // of two that are drawn, three in four times one is the endpoint that had none: 120, four standard deviations are 22; else 80
    assert.ok(left.open.size >= 98, `${left.open.size} of ${MORE} to the endpoint that had none`);
    for (let i = 0; i < BUSY; i++) void inside.run({ name: `busy${i}`, half: true, close: true });
    for (let i = 0; i < MORE; i++) void inside.run({ name: `more${i}`, half: true, close: true });
  });

  test('an endpoint that refuses: an error, where Envoy accepts and closes', async () => {
    assert.equal((await mesh('refused', {})).error, 'ECONNREFUSED');
    const a = await alone('refused', {});
    assert.equal(a.size, 0, JSON.stringify(a));
  });

  test('an endpoint that does not answer: an error after the connect timeout, when Envoy closes', async () => {
    const text = `import socket,time; s=socket.create_server(("127.0.0.1",${port.backlog}),backlog=0); print("there",flush=True); time.sleep(600)`;
    const server = lab.start('nobody accepts', ['python3', '-c', text]);
    await server.waitFor(/there/);
    const waiting = Array.from({ length: 8 }, () => connect(port.backlog!, '127.0.0.1').on('error', () => undefined));
    await new Promise((resolve) => waiting[0]!.once('connect', resolve));
    const m = await mesh('full', {});
    assert.equal(m.error, 'ETIMEDOUT');
    assert.ok(m.seconds! >= 0.5 && m.seconds! < 15, `${m.seconds} s`);
    const a = await alone('full', {});
    assert.deepEqual([a.size, a.end], [0, 'end']);
    for (const socket of waiting) socket.destroy();
  });

  test('no endpoint, and what only the proxy does: its connections', async () => {
    for (const name of ['nobody', 'logged']) {
      const before = await routed();
      const job = name === 'logged' ? { half: true } : {};
      assert.deepEqual(seen(await mesh(name, job)), seen(await alone(name, job)));
      assert.equal((await routed()).kernel - before.kernel, 0);
    }
  });

  test('an endpoint of the other family is the proxy’s', async () => {
    const before = await routed();
    const m = await mesh('six', { half: true });
    assert.equal(m.head, 'six\n');
    const now = await routed();
    assert.deepEqual([now.kernel - before.kernel, now.proxy - before.proxy], [0, 1]);
  });

  test('the agent is killed: connections live on, new ones go through Envoy', async () => {
    const opened = await mesh('one', { most: 6, keep: 'lasting' });
    assert.equal(opened.head, 'first\n');
    sidestep.process.child.kill('SIGKILL');
    await sidestep.process.exited;
    const later = await inside.run({ name: 'lasting', send: 'alive', half: true, close: true });
    assert.equal(later.head, 'alive');
    assert.equal((await mesh('one', { half: true })).head, 'first\n');
  });
});
