/** Edits of answers and faults, end to end: on which path, on the mesh's own answers, across policies. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { Exchange, WireAnswer } from '../../src/lab/raw-client.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { allInKernel } from './in-kernel.js';
import { shown } from './shown.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, skip } from './world.js';

const add = (key: string, value: string): JsonObject => ({
  header: { key, value },
  append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
});
const SHARE = 30;
const REQUESTS = 1500;

/** Answers of 200, except: `/slow` never, `/gone` closes, `/half` closes in the head. */
function server(): Promise<Server> {
  const s = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      const path = bytes.toString('latin1').split(' ')[1] ?? '';
      if (path.endsWith('/slow')) return;
      if (path.endsWith('/gone')) return void socket.end();
      if (path.endsWith('/half')) return void socket.end('HTTP/1.1 200 OK\r\nx-');
      socket.write(
        'HTTP/1.1 200 OK\r\nX-Powered-By: a server\r\nVary: Accept\r\nServer: upstream\r\nContent-Length: 2\r\n\r\nok',
      );
    });
  });
  return new Promise((resolve) => s.listen(0, '127.0.0.1', () => resolve(s)));
}

function bootstrap(address: string, port: number, upstream: number): JsonObject {
  const forward: JsonObject = { cluster: 'one', timeout: '0.3s' };
  const edited: JsonObject = {
    response_headers_to_add: [add('x-a', '1'), { header: { key: 'vary', value: 'Origin' } }],
    response_headers_to_remove: ['x-powered-by'],
  };
  const shorter: JsonObject = { response_headers_to_add: [add('x-powered-by', 'us')] };
  const fault: JsonObject = {
    'envoy.filters.http.fault': {
      '@type': `${FILTER_TYPE}.http.fault.v3.HTTPFault`,
      abort: { http_status: 418, percentage: { numerator: SHARE * 10_000, denominator: 'MILLION' } },
    },
  };
  const routes: JsonObject[] = [
    { match: { prefix: '/less' }, route: forward, response_headers_to_remove: ['x-powered-by', 'server', 'x-none'] },
    { match: { prefix: '/other' }, route: forward, ...shorter },
    { match: { prefix: '/more' }, route: forward, ...edited },
    { match: { prefix: '/fault' }, route: forward, ...shorter, typed_per_filter_config: fault },
    { match: { prefix: '/' }, route: forward },
  ];
  const faults = {
    name: 'envoy.filters.http.fault',
    typed_config: { '@type': `${FILTER_TYPE}.http.fault.v3.HTTPFault` },
  };
  return plainBootstrap(
    [{ name: 'test', address, port, routes, filters: [faults] }],
    [{ name: 'one', ports: [upstream] }],
  );
}

const get = (path: string): Exchange => ({
  pieces: [Buffer.from(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).toString('base64')],
  methods: ['GET'],
});

test('answers are edited and faults injected as Envoy does', { skip, timeout: 120_000 }, async (t) => {
  const lab = await Lab.open('filters');
  const upstream = await server();
  try {
    const port = await freePort();
    const target = (upstream.address() as AddressInfo).port;
    const file = join(lab.dir, 'bootstrap.json');
    const { sidestep, mesh, alone } = await sideBySide(lab, file, (address) => bootstrap(address, port, target));
    const ask = async (path: string): Promise<WireAnswer | undefined> =>
      (await mesh.run({ address: MESH, port, exchanges: [get(path)] })).answers[0];
    const same = async (path: string): Promise<void> => {
      const expected = (await alone.run({ address: ALONE, port, exchanges: [get(path)] })).answers[0];
      assert.deepEqual(shown(await ask(path)), shown(expected), path);
    };
    const counters = async () => {
      const { requests, counters = {} } = await sidestep.status();
      return { ...requests, carried: counters.answers_agent ?? 0 };
    };
    // the first request of an endpoint opens a connection
    const warm = () => allInKernel(sidestep, 1, () => ask('/warm'));
    await warm();

    await t.test('shorter heads are edited in the kernel', async () => {
      const before = await counters();
      for (const path of ['/less', '/other', '/less']) await same(path);
      const after = await counters();
      assert.equal(after.kernel - before.kernel, 3);
      assert.equal(after.carried, before.carried);
    });
    await t.test('a line that changes where it stands is edited by the agent', async () => {
      const before = await counters();
      for (const path of ['/more', '/more']) await same(path);
      const after = await counters();
      assert.equal(after.agent - before.agent, 2);
      assert.equal(after.carried - before.carried, 2);
    });
    await t.test('answers of the mesh to broken exchanges are edited', async () => {
      for (const path of ['/more/slow', '/less/slow', '/more/gone', '/more/half', '/less/gone']) {
        await warm();
        await same(path);
      }
    });
    await t.test('a fault strikes its share of the requests, whichever path they take', async () => {
      const before = await counters();
      let struck = 0;
      let other = 0;
      // many connections at once, so that some requests find no idle connection and are the proxy's
      for (let round = 0; round < REQUESTS / 30; round++) {
        const results = await Promise.all(
          Array.from({ length: 10 }, () => mesh.run({ address: MESH, port, exchanges: Array(3).fill(get('/fault')) })),
        );
        for (const answer of results.flatMap((r) => r.answers)) {
          if (answer.status === 418) struck++;
          else if (answer.status === 200) other++;
          assert.equal(answer.headers.find(([n]) => n.toLowerCase() === 'x-powered-by')?.[1].trim(), 'us');
        }
      }
      assert.equal(struck + other, REQUESTS);
      const expected = (REQUESTS * SHARE) / 100;
      const deviation = Math.sqrt((expected * (100 - SHARE)) / 100);
      const after = await counters();
      t.diagnostic(`${struck} of ${REQUESTS}; ${after.kernel - before.kernel} in the kernel`);
      assert.ok(Math.abs(struck - expected) < 5 * deviation, `${struck} of ${REQUESTS} requests were struck`);
      // at a listener a step with a chance is the proxy's (ARCHITECTURE.md, "Filters and edits of answers")
      if ((await sidestep.status()).intake === 'listener') assert.equal(after.kernel, before.kernel);
      else assert.ok(after.kernel - before.kernel > REQUESTS / 2);
    });
  } finally {
    upstream.close();
    await lab.close();
  }
});
