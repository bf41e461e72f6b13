/** Inbound: connections from another host to a workload's port, against a plain Envoy in the same place. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { runCommand, sleep } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { outcome } from '../e2e/istio-world.js';
import { one, request, skip } from '../e2e/world.js';
import { INBOUND_TOKENS } from './policy.js';
import { ALONE_PORT, InboundWorld, PORT, SERVER_PORT } from './world.js';

const CASES: readonly { readonly path: string; readonly headers?: HeaderList; readonly method?: string }[] = [
  { path: '/' },
  {
    path: '/echo?a=b',
    headers: [
      ['x-token', 'any'],
      ['x-gen', 'of the client'],
    ],
  },
  {
    path: '/',
    headers: [
      ['x-request-id', 'b1946ac9-2492-4d23-8f2c-1d2f3a4b5c6d'],
      ['x-forwarded-proto', 'https'],
    ],
  },
  { path: '/private/a' },
  { path: '/remote/a', headers: [['x-forwarded-for', '192.0.2.1']] },
  { path: '/private/proxied' },
  { path: '/proxied', headers: [['x-forwarded-for', '192.0.2.1']] },
  { path: '/token' },
  { path: '/token', headers: [['x-token', 'good']] },
  {
    path: '/token',
    headers: [
      ['x-token', 'bad'],
      ['x-filler', 'f'.repeat(300)],
    ],
  },
  { path: '/direct' },
  { path: '/direct', headers: [['x-filler', 'f'.repeat(300)]] },
  { path: '/moved/away' },
  { path: '/port' },
  { path: '/', method: 'DELETE' },
  { path: '/direct', method: 'HEAD' },
];

function processes(sidestep: SidestepHandle): { pid: number; proxy: number; holder?: number } {
  return JSON.parse(readFileSync(`/run/sidestep/${sidestep.name}/state.json`, 'utf8'));
}

/** Status of one request, or why there is none. */
async function ask(driver: Driver, address: string, path: string): Promise<string> {
  const result = await driver.run(one(address, PORT, 'GET', path));
  return String(result.answers[0]?.status ?? result.error);
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`a listener with direction INBOUND, ${family}`, { skip, timeout: 120_000 }, () => {
    let world: InboundWorld;
    let sidestep: SidestepHandle;
    let address: string;

    before(async () => {
      world = await InboundWorld.open('inbound');
      address = world.server[family];
      const loopback = family === 'ipv4' ? '127.0.0.1' : '::1';
      await world.serve(`one=${loopback}:${SERVER_PORT}`);
      const policy = world.policy({ address, server: loopback, banned: world.client[family] });
      await world.write(policy);
      await world.envoy(policy);
      sidestep = await world.start();
    });
    after(() => world?.close());

    test('every answer is Envoy’s, whoever asks', async (t) => {
      for (const [where, driver] of [
        ['far', world.far],
        ['near', world.near],
      ] as const) {
        for (const { path, headers = [], method = 'GET' } of CASES) {
          const expected = outcome(await driver.run(one(address, ALONE_PORT, method, path, headers)));
          assert.notEqual(expected.status, undefined, `${where} ${path}: ${expected.error}`);
          // the first may find no connection to the server
          for (let i = 0; i < 3; i++)
            assert.deepEqual(
              outcome(await driver.run(one(address, PORT, method, path, headers))),
              expected,
              `${where} ${method} ${path}, time ${i}`,
            );
        }
      }
      const { requests } = await sidestep.status();
      t.diagnostic(JSON.stringify(requests));
      // two rules of sixteen cases are the proxy's, and some connections are opened first
      assert.ok(requests.kernel > 0.7 * (requests.kernel + requests.proxy + requests.agent), JSON.stringify(requests));
    });

    test('the source address decides', async () => {
      assert.deepEqual(
        await Promise.all([ask(world.far, address, '/private/x'), ask(world.near, address, '/private/x')]),
        ['403', '200'],
      );
      // carried out by the proxy, which must see the same client
      assert.equal(await ask(world.far, address, '/private/proxied'), '403');
      assert.equal(await ask(world.near, address, '/private/proxied'), '200');
    });

    test('one bucket for clients of all hosts, in the kernel and at the proxy', async () => {
      const plain = { pieces: [request('GET /limited HTTP/1.1')], methods: ['GET'] };
      const chunked = {
        pieces: [request('POST /limited HTTP/1.1', [['Transfer-Encoding', 'chunked']], '1\r\na\r\n0\r\n\r\n')],
        methods: ['POST'],
      };
      const before = (await sidestep.status()).requests;
      const jobs = Array.from({ length: 12 }, (_, c) => {
        const exchanges = Array.from({ length: 10 }, (_, i) => ((c + i) % 3 === 0 ? chunked : plain));
        return (c % 2 === 0 ? world.far : world.near).run({ address, port: PORT, exchanges });
      });
      const statuses = (await Promise.all(jobs)).flatMap(({ answers }) => answers.map(({ status }) => status));
      assert.equal(statuses.length, 120);
      assert.equal(statuses.filter((s) => s === 200).length, INBOUND_TOKENS);
      assert.equal(statuses.filter((s) => s === 429).length, 120 - INBOUND_TOKENS);
      const after = (await sidestep.status()).requests;
      assert.ok(after.kernel - before.kernel >= 20, `the kernel decided ${after.kernel - before.kernel}`);
    });

    test('many requests on one connection, the kernel’s and the proxy’s in turn', async () => {
      const paths = ['/', '/proxied', '/direct', '/', '/token', '/moved', '/proxied', '/'];
      const exchanges = Array.from({ length: 80 }, (_, i) => ({
        pieces: [request(`GET ${paths[i % paths.length]} HTTP/1.1`)],
        methods: ['GET'],
      }));
      const result = await world.far.run({ address, port: PORT, exchanges });
      const wanted = ['200', '200', '418', '200', '403', '301', '200', '200'];
      assert.deepEqual(
        result.answers.map((a) => String(a.status)),
        Array.from({ length: 80 }, (_, i) => wanted[i % wanted.length]),
        result.error,
      );
    });

    test('curl and wrk', async (t) => {
      const host = family === 'ipv4' ? address : `[${address}]`;
      const url = `http://${host}:${PORT}/`;
      const curl = await runCommand(
        world.client.command([
          'curl',
          '-s',
          '-w',
          '%{http_code}\n',
          '-o',
          '/dev/null',
          '-o',
          '/dev/null',
          '-o',
          '/dev/null',
          url,
          `${url}private/`,
          url,
        ]),
      );
      assert.deepEqual(curl.stdout.trim().split('\n'), ['200', '403', '200'], curl.stderr);
      const before = (await sidestep.status()).requests;
      const wrk = await runCommand(world.client.command(['wrk', '-t1', '-c16', '-d2', url]));
      assert.doesNotMatch(wrk.stdout, /Non-2xx|Socket errors/, wrk.stdout);
      const total = Number(/(\d+) requests in/.exec(wrk.stdout)?.[1]);
      const { requests } = await sidestep.status();
      t.diagnostic(`${total} requests of wrk, ${JSON.stringify(requests)}`);
      assert.ok(total > 500 && requests.kernel - before.kernel > 0.9 * total, wrk.stdout);
    });

    test('a connection obeys a new policy from its next request on', async () => {
      const changed = world.policy({
        ...{ address, server: family === 'ipv4' ? '127.0.0.1' : '::1', banned: world.client[family] },
        closed: true,
      });
      const job = world.far.run({
        ...{ address, port: PORT, timeoutMs: 30_000 },
        exchanges: Array.from({ length: 3000 }, () => ({ pieces: [request('GET /swap HTTP/1.1')], methods: ['GET'] })),
      });
      await sleep(100);
      await world.write(changed);
      const result = await job;
      const statuses = result.answers.map((a) => a.status);
      const first = statuses.indexOf(403);
      assert.ok(first > 0, `${statuses.length} answers, ${result.error}`);
      assert.deepEqual(new Set(statuses.slice(0, first)), new Set([200]));
      assert.deepEqual(new Set(statuses.slice(first)), new Set([403]), 'never back');
    });

    test('the agent is killed: Envoy keeps the policy', async () => {
      process.kill(processes(sidestep).pid, 'SIGKILL');
      await sleep(200);
      assert.deepEqual(await Promise.all(['/private/x', '/token', '/'].map((path) => ask(world.far, address, path))), [
        '403',
        '403',
        '200',
      ]);
    });
  });
}

describe('run --inbound: a listener before a workload’s own port', { skip, timeout: 120_000 }, () => {
  let world: InboundWorld;
  let sidestep: SidestepHandle;
  let address: string;
  const held = ['/private/x', '/token', '/'];
  const all = (paths: readonly string[]) => Promise.all(paths.map((path) => ask(world.far, address, path)));

  before(async () => {
    world = await InboundWorld.open('workload');
    address = world.server.ipv4;
    // the server has its host's own address, and is reached there by agent and proxy
    // (and by the plain Envoy elsewhere: to everybody but them, the port is closed)
    await world.serve(`one=${address}:${PORT}`, `one=127.0.0.1:${SERVER_PORT}`);
    const { direction: _, ...policy } = world.policy({
      address: '127.0.0.1',
      port: 15006,
      server: address,
      serverPort: PORT,
    });
    await world.write(policy);
    await world.envoy({ ...policy, server: '127.0.0.1', serverPort: SERVER_PORT });
  });
  after(() => world?.close());

  test('decided in the kernel, as Envoy does at the listener', async (t) => {
    assert.deepEqual(await all(held), ['200', '200', '200'], 'open before');
    sidestep = await world.start(['--inbound', `inbound=${address}:${PORT}`]);
    for (const { path, headers = [], method = 'GET' } of CASES) {
      // in the plain Envoy nobody is banned who comes from its loopback
      if (path.startsWith('/private') || path.startsWith('/remote')) continue;
      const expected = outcome(await world.near.run(one('127.0.0.1', ALONE_PORT, method, path, headers)));
      for (let i = 0; i < 3; i++)
        assert.deepEqual(
          outcome(await world.far.run(one(address, PORT, method, path, headers))),
          expected,
          `${method} ${path}`,
        );
    }
    assert.deepEqual(await all(['/private/x', '/private/proxied', '/remote', '/proxied']), [
      '403',
      '403',
      '403',
      '200',
    ]);
    const { requests } = await sidestep.status();
    t.diagnostic(JSON.stringify(requests));
    assert.ok(requests.kernel > 0.6 * (requests.kernel + requests.proxy), JSON.stringify(requests));
  });

  test('the agent is killed: the proxy keeps the policy', async () => {
    process.kill(processes(sidestep).pid, 'SIGKILL');
    await sleep(200);
    for (let i = 0; i < 5; i++) assert.deepEqual(await all(held), ['403', '403', '200']);
  });

  test('the proxy is killed, too: the port refuses', async () => {
    process.kill(processes(sidestep).proxy, 'SIGKILL');
    await sleep(200);
    for (let i = 0; i < 5; i++) assert.deepEqual(new Set(await all(held)), new Set(['ECONNREFUSED']));
  });

  test('another run takes over without a moment at which the port is open', async () => {
    const seen = new Set<string>();
    let done = false;
    const watch = (async () => {
      while (!done) seen.add(await ask(world.far, address, '/private/x'));
    })();
    sidestep = await world.start(['--inbound', `inbound=${address}:${PORT}/refuse`], sidestep.name);
    await sleep(200);
    done = true;
    await watch;
    assert.deepEqual([...seen].sort(), ['403', 'ECONNREFUSED']);
    assert.deepEqual(await all(held), ['403', '403', '200']);
  });

  test('with /refuse, nobody connects while the agent is away', async () => {
    const { pid } = processes(sidestep);
    process.kill(pid, 'SIGKILL');
    await sleep(200);
    assert.deepEqual(new Set(await all(held)), new Set(['ECONNREFUSED']));
  });

  test('a clean stop leaves the server as it was', async () => {
    sidestep = await world.start(['--inbound', `inbound=${address}:${PORT}`], sidestep.name);
    assert.deepEqual(await all(held), ['403', '403', '200']);
    const { holder } = processes(sidestep);
    assert.equal(await sidestep.stop(), 0);
    assert.deepEqual(await all(held), ['200', '200', '200']);
    assert.throws(() => process.kill(holder!, 0), 'nothing is left');
  });
});

test('what cannot be steered is refused before anything is loaded', { skip, timeout: 60_000 }, async () => {
  const world = await InboundWorld.open('refused');
  try {
    await world.write(world.policy({ address: '127.0.0.1', port: 15006 }));
    for (const [option, words] of [
      ['nobody=10.1.1.1:80', /there is no listener nobody/],
      ['inbound=192.0.2.7:80', /192\.0\.2\.7 is not an address of this host/],
      ['inbound', /is not LISTENER=ADDRESS:PORT/],
    ] as const)
      await assert.rejects(world.start(['--inbound', option]), words);
  } finally {
    await world.close();
  }
  const left = await runCommand(['ip', 'netns', 'list']);
  assert.doesNotMatch(left.stdout, new RegExp(`sidestep-${process.pid}-`), 'namespaces are removed');
});
