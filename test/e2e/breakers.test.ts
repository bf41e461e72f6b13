/** Circuit breakers on requests in flight, one count for kernel and proxy: as many at a time as Envoy alone lets through. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { sleep } from '../../src/lab/processes.js';
import type { Exchange, JobResult } from '../../src/lab/raw-client.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, request, skip, World } from './world.js';

const MOST = 4;
const AT_ONCE = 12;

function bootstrap(address: string, port: number, upstream: number): JsonObject {
  const routes: JsonObject[] = [
    { match: { prefix: '/free/' }, route: { cluster: 'free', prefix_rewrite: '/' } },
    {
      match: { prefix: '/weighted/' },
      route: {
        prefix_rewrite: '/',
        weighted_clusters: {
          clusters: [
            { name: 'one', weight: 1 },
            { name: 'free', weight: 0 },
          ],
        },
      },
    },
    {
      match: { prefix: '/edited/' },
      route: { cluster: 'one', prefix_rewrite: '/' },
      response_headers_to_add: [{ header: { key: 'x-route', value: 'edited' } }],
    },
    // the proxy's own, to the same cluster
    {
      match: { prefix: '/proxied/' },
      route: { cluster: 'one', prefix_rewrite: '/', max_stream_duration: { max_stream_duration: '20s' } },
    },
    { match: { prefix: '/' }, route: { cluster: 'one', timeout: '10s' } },
  ];
  const thresholds = [{ max_requests: MOST, track_remaining: true }];
  return plainBootstrap(
    [{ name: 'test', address, port, routes }],
    [
      { name: 'one', ports: [upstream], more: { circuit_breakers: { thresholds } } },
      { name: 'free', ports: [upstream] },
    ],
  );
}

const get = (path: string): Exchange => ({ pieces: [request(`GET ${path} HTTP/1.1`)], methods: ['GET'] });
const chunked = (path: string): Exchange => ({
  pieces: [request(`POST ${path} HTTP/1.1`, [['Transfer-Encoding', 'chunked']], '1\r\na\r\n0\r\n\r\n')],
  methods: ['POST'],
});
const closing = (path: string): Exchange => ({
  pieces: [request(`GET ${path} HTTP/1.1`, [['Connection', 'close']])],
  methods: ['GET'],
});

const statuses = (results: readonly JobResult[]): string[] =>
  results.map(({ answers, error }) => String(answers.at(-1)?.status ?? error)).sort();

test('requests in flight are counted together', { skip, timeout: 200_000 }, async (t) => {
  const world = await World.open('breakers');
  try {
    const { lab, port, upstream, file } = world;
    const { sidestep, mesh, alone } = await sideBySide(lab, file, (address) => bootstrap(address, port, upstream));
    const run = (driver: Driver, address: string, list: readonly (readonly Exchange[])[]) =>
      Promise.all(list.map((exchanges) => driver.run({ address, port, exchanges, timeoutMs: 20_000 })));
    /** Many connections that send at the same time, each after a request that opens them. */
    const many = (form: (i: number) => Exchange, path = '/free/echo'): Exchange[][] =>
      Array.from({ length: AT_ONCE }, (_, i) => [get(path), form(i)]);
    const expected = [...Array(MOST).fill('200'), ...Array(AT_ONCE - MOST).fill('503')];
    const check = async (what: string, form: (i: number) => Exchange): Promise<JobResult[]> => {
      const results = await run(mesh, MESH, many(form));
      assert.deepEqual(statuses(results), expected, what);
      return results;
    };
    const mixed = (i: number): Exchange => [get, chunked, get, closing][i % 4]!('/hold/600');
    /** Idle connections to the server, as many as are ever used at once. */
    const warm = async (): Promise<void> => {
      for (let round = 0; round < 3; round++) {
        await run(
          mesh,
          MESH,
          Array.from({ length: MOST }, () => [get('/hold/50')]),
        );
        await sleep(100);
      }
    };

    await t.test('as Envoy refuses', async () => {
      const theirs = await run(
        alone,
        ALONE,
        many(() => get('/edited/hold/600')),
      );
      assert.deepEqual(statuses(theirs), expected);
      const ours = await check('plain', () => get('/edited/hold/600'));
      const refusal = (results: readonly JobResult[]) => {
        const answer = results.flatMap(({ answers }) => answers).find(({ status }) => status === 503)!;
        const headers = answer.headers
          .map(([n, v]) => `${n.toLowerCase()}: ${v}`)
          .filter((h) => !/^(date|server)/.test(h));
        return { headers: headers.sort(), body: Buffer.from(answer.body, 'base64').toString() };
      };
      assert.deepEqual(refusal(ours), refusal(theirs));
    });

    await t.test('the kernel’s and the proxy’s together, again and again', async () => {
      await warm();
      const before = (await sidestep.status()).requests;
      for (let round = 0; round < 4; round++) await check(`round ${round}`, mixed);
      await check('routes of the proxy', (i) => get(i % 2 === 0 ? '/proxied/hold/600' : '/hold/600'));
      await check('weighted', (i) => get(i % 2 === 0 ? '/weighted/hold/600' : '/hold/600'));
      const after = (await sidestep.status()).requests;
      assert.ok(after.kernel > before.kernel + 4 * MOST, JSON.stringify({ before, after }));
    });

    await t.test('one after the other, none is refused', async () => {
      const list = Array.from({ length: MOST }, (_, c) =>
        Array.from({ length: 50 }, (_, i) => ((c + i) % 5 === 0 ? chunked('/echo') : get('/echo'))),
      );
      const results = await run(mesh, MESH, list);
      const all = results.flatMap(({ answers }) => answers.map(({ status }) => status));
      assert.deepEqual(
        all.filter((s) => s !== 200),
        [],
      );
      assert.equal(all.length, MOST * 50);
    });

    await t.test('what ends badly is counted no more', async () => {
      const leave = (how: 'fin' | 'reset', e: Exchange): Exchange => ({ ...e, abandon: how, abandonAfterMs: 60 });
      for (const how of ['fin', 'reset'] as const) {
        await run(mesh, MESH, [
          [leave(how, get('/hold/5000'))],
          [leave(how, chunked('/hold/5000'))],
          [leave(how, get('/proxied/hold/5000'))],
        ]);
        await sleep(300);
        await check(`clients that left (${how})`, mixed);
      }
      for (const path of ['/vanish', '/vanish-head', '/reset', '/vanish-length', '/close', '/bytes/3000000', '/early'])
        await run(mesh, MESH, [[get(path)], [chunked(path)], [get(path)]]);
      await sleep(300);
      await check('servers that left', mixed);
    });

    await t.test('without the agent, the proxy’s own breaker is left', async () => {
      sidestep.process.child.kill('SIGKILL');
      await sidestep.process.exited;
      await sleep(300);
      await check('the proxy', mixed);
    });
  } finally {
    await world.close();
  }
});
