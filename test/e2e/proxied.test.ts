/**
 * The slow path: requests that the kernel leaves to the proxy go to it from socket to socket, and so do its answers, beside
 * requests that the kernel decides. The oracle is a plain Envoy with the same configuration.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import type { Exchange } from '../../src/lab/raw-client.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { CASES, get, visible } from './odd-cases.js';
import type { OddEcho } from './odd-server.js';
import { ALONE, MESH, request, skip, World } from './world.js';

/** What is marked is the kernel's; all else gets a header that only the proxy can write. */
function policy(address: string, world: World): JsonObject {
  const kernels = { name: 'x-way', string_match: { exact: 'kernel' } };
  const route = { cluster: 'one', timeout: '30s' };
  const routes = [
    { match: { path: '/here' }, direct_response: { status: 200, body: { inline_string: 'here' } } },
    { match: { prefix: '/', headers: [kernels] }, route },
    {
      match: { prefix: '/' },
      route,
      request_headers_to_add: [{ header: { key: 'x-gen', value: '%REQ(x-token)%' } }],
    },
  ];
  return plainBootstrap(
    [{ name: 'test', address, port: world.port, routes, manager: { normalize_path: true, merge_slashes: true } }],
    [{ name: 'one', ports: [world.upstream] }],
  );
}

/** Requests that are odd in what they ask for, while nobody can doubt where they end. */
const FRAMED: Readonly<Record<string, HeaderList>> = {
  plain: [],
  'for the kernel': [['x-way', 'kernel']],
  'TE: trailers': [['TE', 'trailers']],
  'x-envoy headers': [
    ['x-envoy-upstream-rq-timeout-ms', '20000'],
    ['x-envoy-retry-on', '5xx'],
  ],
  'a repeated header that a rule looks at': [
    ['x-way', 'kernel'],
    ['x-way', 'proxy'],
  ],
  'a repeated X-Forwarded-For': [
    ['x-forwarded-for', '1.2.3.4'],
    ['x-forwarded-for', '5.6.7.8'],
  ],
  'an unknown scheme': [['x-forwarded-proto', 'gopher']],
  'a value beyond ASCII': [['x-note', 'caf\xe9 \xfc\xf1']],
  'a host with an underscore': [['Host', 'a_service.test:80']],
  'an odd referer': [['Referer', 'http://[::1]:port/#x']],
};
/** Targets that it refuses, perhaps with the connection. */
const REFUSED = ['/echo#x', '/%00', '/%zz'];
/** The same for targets that the proxy normalises. */
const TARGETS = ['//echo', '/./echo', '/a/../echo', '/%65cho', '/echo?a="b"|c', '/a\\..\\../echo'];
/** What must not share a connection: where it ends is somebody's opinion, or the connection ends with it. */
const UNCERTAIN: Readonly<Record<string, HeaderList>> = {
  'two lengths': [
    ['Content-Length', '0'],
    ['Content-Length', '5'],
  ],
  'a length and chunks': [
    ['Content-Length', '5'],
    ['Transfer-Encoding', 'chunked'],
    ['TE', 'trailers'],
  ],
  'two hosts': [
    ['Host', 'a.test'],
    ['Host', 'b.test'],
    ['TE', 'trailers'],
  ],
  'a connection that closes': [
    ['Connection', 'close'],
    ['TE', 'trailers'],
  ],
  'a header named by Connection': [
    ['Connection', 'x-token'],
    ['TE', 'trailers'],
  ],
  'a spelled length': [
    ['Content-Length', '+5'],
    ['TE', 'trailers'],
  ],
};

describe('requests that the kernel leaves to the proxy', { skip, timeout: 300_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;

  before(async () => {
    world = await World.open('proxied');
    await world.writeText(JSON.stringify(policy(MESH, world)));
    await startEnvoy(world.lab, 'alone', policy(ALONE, world));
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(() => world?.close());

  const both = async (exchanges: readonly Exchange[]) =>
    Promise.all([
      outside.run({ address: ALONE, port: world.port, exchanges }),
      inside.run({ address: MESH, port: world.port, exchanges }),
    ]);

  for (const [name, exchanges] of Object.entries(CASES)) {
    test(`odd traffic, all of it the proxy's: ${name}`, async () => {
      const [expected, actual] = await both(exchanges);
      assert.deepEqual(visible(actual), visible(expected));
      assert.equal(sidestep.process.exit, undefined, 'the agent ended');
    });
  }

  for (const target of [...TARGETS, ...REFUSED]) {
    test(`between others of its connection: ${target}`, async () => {
      const odd: Exchange = {
        pieces: [request(`POST ${target} HTTP/1.1`, [['Content-Length', '3']], 'abc')],
        methods: ['POST'],
      };
      const [expected, actual] = await both([
        get('/echo', [['x-way', 'kernel']]),
        odd,
        get('/echo'),
        odd,
        odd,
        get('/here'),
      ]);
      assert.deepEqual(visible(actual), visible(expected));
      if (TARGETS.includes(target)) assert.equal(expected.answers.length, 6, expected.error);
    });
  }

  test('between others of its connection: no host', async () => {
    for (const path of ['/echo', '//echo', '/here']) {
      const bytes = Buffer.from(`GET ${path} HTTP/1.1\r\nx-token: a\r\n\r\n`).toString('base64');
      const [expected, actual] = await both([get('/echo'), { pieces: [bytes], methods: ['GET'] }, get('/echo')]);
      assert.deepEqual(visible(actual), visible(expected));
      assert.equal(expected.answers[1]?.status, 400);
    }
  });

  for (const [name, headers] of Object.entries({ ...FRAMED, ...UNCERTAIN })) {
    test(`between others of its connection: ${name}`, async () => {
      const odd: Exchange = {
        pieces: [request('POST /echo HTTP/1.1', headers, name in UNCERTAIN ? 'GET /' : '')],
        methods: ['POST'],
      };
      const exchanges = [get('/echo', [['x-way', 'kernel']]), odd, get('/echo', [['x-token', 'after']])];
      const [expected, actual] = await both(exchanges);
      assert.deepEqual(visible(actual), visible(expected));
      // what came behind the end of a request must not be found by the next user of a connection
      const tokens = Array.from({ length: 6 }, (_, i) => `${name} ${i}`);
      const next = await inside.run({
        ...{ address: MESH, port: world.port },
        exchanges: tokens.map((token) => get('/echo', [['x-token', token]])),
      });
      const echoes = next.answers.map((a) => JSON.parse(Buffer.from(a.body, 'base64').toString()) as OddEcho);
      assert.deepEqual(
        echoes.map(({ token, gen }) => [token, gen]),
        tokens.map((token) => [token, token]),
      );
    });
  }

  test('in turn with the kernel, on many connections at once: each answer is its request’s, and nothing wakes the agent', async (t) => {
    const kinds: (HeaderList | 'reply' | 'target')[] = [...Object.values(FRAMED), 'reply', 'target'];
    const connection = (c: number, rounds: number): Exchange[] =>
      Array.from({ length: rounds }, (_, i) => {
        const headers = kinds[(i * 5 + c) % kinds.length]!;
        if (headers === 'reply') return get('/here');
        if (headers === 'target') return get(TARGETS[i % TARGETS.length]!, [['x-token', `${c}-${i}`]]);
        return get(i % 7 === 0 ? '/bytes/3000' : '/echo', [['x-token', `${c}-${i}`], ...headers]);
      });
    const run = (rounds: number) => Promise.all(Array.from({ length: 6 }, (_, c) => both(connection(c, rounds))));
    await run(20); // opens connections
    const before = await sidestep.status();
    const rounds = 150;
    for (const [expected, actual] of await run(rounds)) assert.deepEqual(visible(actual), visible(expected));
    const now = await sidestep.status();
    const grown = (name: string): number => (now.counters?.[name] ?? 0) - (before.counters?.[name] ?? 0);
    t.diagnostic(JSON.stringify({ requests: now.requests, counters: now.counters }));
    assert.equal(grown('odd'), 0);
    const decided = grown('kernel') + grown('proxy');
    // now and then none is idle, or an answer is not known to have arrived
    assert.ok(decided > 0.8 * 6 * rounds, `${decided} of ${6 * rounds} without the agent`);
    assert.ok(grown('proxy') > grown('kernel'), JSON.stringify(now.counters));
    if (now.intake === 'socket') assert.ok((now.counters?.paired ?? 0) > 0, 'the proxy is paired');
  });
});
