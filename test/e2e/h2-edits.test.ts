/** Answers to streams whose heads are edited: by a real Envoy alone, and decided in the kernel. */
import assert from 'node:assert/strict';
import type { ClientHttp2Session, IncomingHttpHeaders } from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { H2EndSpec } from '../../src/layout/streams.js';
import { getBig } from '../../src/layout/struct.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { type Called, without } from './h2-calls.js';
import { ask as askAll, H2World } from './h2-world.js';
import { add } from './limit-config.js';
import { skip } from './world.js';

const EDITS: JsonObject = {
  response_headers_to_add: [
    add('X-Added', 'one'),
    add('x-added', 'two'),
    add('x-server', 'more'),
    add('vary', 'origin'),
    add('x-set', 'anew', 'OVERWRITE_IF_EXISTS_OR_ADD'),
    add('x-there', 'changed', 'OVERWRITE_IF_EXISTS'),
    add('x-not-there', 'changed', 'OVERWRITE_IF_EXISTS'),
    add('x-absent', 'put', 'ADD_IF_ABSENT'),
    add('content-type', 'text/odd', 'OVERWRITE_IF_EXISTS_OR_ADD'),
    add('x-long', 'v'.repeat(3000)),
  ],
  response_headers_to_remove: ['x-gone', 'x-saw'],
};
const to = (prefix: string, more: JsonObject = {}, route: JsonObject = {}): JsonObject => ({
  match: { prefix },
  route: { cluster: 'one', timeout: '0s', ...route },
  ...more,
});
const ROUTES = [
  to('/edited/', EDITS),
  to('/slow/', EDITS, { timeout: '0.3s' }),
  to('/lasting/', EDITS, { max_stream_duration: { max_stream_duration: '0.3s' } }),
  to('/retried/', EDITS, { retry_policy: { retry_on: 'unavailable,5xx', num_retries: 1 } }),
  to('/mixed/', {
    response_headers_to_add: [add('x-%', '100%%'), add('x-spoken', '%PROTOCOL%')],
    response_headers_to_remove: ['x-saw'],
  }),
  to('/'),
];

function ask(session: ClientHttp2Session, path: string, type: string, method = 'POST'): Promise<Called> {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': method, ':path': path, ':authority': 'a.test', 'content-type': type });
    let [headers, trailers, body]: [IncomingHttpHeaders, IncomingHttpHeaders, string] = [{}, {}, ''];
    stream.on('response', (found) => {
      headers = without(found);
    });
    stream.on('trailers', (found) => {
      trailers = found;
    });
    stream.on('data', (piece: Buffer) => {
      body += piece.toString('latin1');
    });
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ headers, trailers, body, reset: stream.rstCode ?? 0 }));
    stream.end();
  });
}

describe('answers to streams that are edited', { skip, timeout: 60_000 }, () => {
  let world: H2World;
  let [ours, envoys]: (ClientHttp2Session | undefined)[] = [];
  const tries = new Map<string, number>();

  before(async () => {
    world = await H2World.open(
      ROUTES,
      {},
      {},
      {
        script: (stream, headers) => {
          const path = headers[':path']!;
          const how = path.split('/').at(-1);
          if (how === 'reset') stream.close(8);
          else if (how === 'never') return true;
          else if (how === 'half') {
            stream.respond({ 'x-gone': 'yes', 'x-set': 'old' });
            stream.write('half');
          } else if (how === 'head')
            stream.respond({ ':status': 200, 'grpc-status': '5', 'x-gone': 'yes' }, { endStream: true });
          else if (how === 'interim') {
            stream.additionalHeaders({ ':status': 103, 'x-gone': 'not yet' });
            stream.respond({ ':status': 201, 'x-gone': 'yes' });
            stream.end('interim');
          } else if (how === 'fails' && !tries.has(path)) {
            tries.set(path, 1);
            stream.respond({ ':status': 503, 'x-gone': 'yes' }, { endStream: true });
          } else if (how === 'many')
            stream.respond(
              Object.fromEntries(
                [
                  ...Array.from({ length: 60 }, (_, i) => [`x-${i}`, `${i}`.repeat(180)]),
                  ['x-set', ['a', 'b']],
                  ['vary', 'x'],
                  ['x-there', 'old'],
                  ['x-absent', 'there'],
                  ['x-gone', ['1', '2']],
                ].map((one) => one as [string, string]),
              ),
              { endStream: true },
            );
          else return false;
          return true;
        },
        cluster: { circuit_breakers: { thresholds: [{ max_retries: 1024 }] } },
      },
    );
    ours = await world.connect();
    envoys = await world.connect('envoy');
    for (let n = world.decided(); world.decided() === n; ) await ask(ours, '/warm', 'text/plain');
  });
  after(async () => {
    ours?.destroy();
    envoys?.destroy();
    await world?.close();
  });

  test('as by Envoy', async () => {
    const differ: string[] = [];
    for (const path of [
      ...['plain', 'reset', 'head', 'interim', 'many', 'plain?down=300000'].map((how) => `/edited/${how}`),
      ...['/slow/never', '/slow/half', '/lasting/never', '/lasting/half', '/retried/plain', '/mixed/plain'],
    ])
      for (const type of ['application/grpc', 'text/plain'])
        for (const method of path.startsWith('/edited/plain') ? ['POST', 'HEAD'] : ['POST']) {
          const before = world.decided();
          const own = await ask(ours!, path, type, method);
          const kernel = world.decided() - before;
          const theirs = await ask(envoys!, path, type, method);
          const text = [own, theirs].map((seen) => JSON.stringify({ ...seen, body: seen.body.length, trailers: {} }));
          const what = `${method} ${path} (${type})`;
          if (text[0] !== text[1]) {
            const pick = (seen: Called) =>
              Object.entries(seen.headers).map((one) => JSON.stringify(one)).sort(); // biome-ignore format: short
            const [a, b] = [pick(own), pick(theirs)];
            const only = [a.filter((l) => !b.includes(l)), b.filter((l) => !a.includes(l))];
            if (only.some((l) => l.length > 0) || own.reset !== theirs.reset || own.body !== theirs.body)
              differ.push(`${what}: ${only[0]} not ${only[1]}; ${own.reset} ${theirs.reset}`);
          }
          if (kernel !== (path.startsWith('/mixed') ? 0 : 1)) differ.push(`${what}: who decides`);
        }
    assert.equal(differ.join('\n'), '');
  });

  test('tried again: the proxy’s answer is edited once', async () => {
    const own = await ask(ours!, '/retried/ours/fails', 'application/grpc');
    assert.deepEqual(own.headers, (await ask(envoys!, '/retried/alone/fails', 'application/grpc')).headers);
    assert.equal(own.headers['x-added'], 'one, two');
  });

  test('bodies behind them are the kernel’s again', async () => {
    const session = await world.connect();
    session.setLocalWindowSize(2 ** 27); // what finds no room in a connection's window is the agent's
    for (let n = world.decided(); world.decided() === n; ) await ask(session, '/warm', 'text/plain');
    const ends = world.plane.map('h2_ends').mmap();
    const came = (): number =>
      Array.from({ length: 16 }, (_, i) => Number(getBig(ends.view, i * H2EndSpec.size, H2EndSpec, 'came'))).reduce(
        (sum, n) => sum + n,
      );
    const before = came();
    const [size, count] = [2_000_000, 8];
    const one = { ':method': 'POST', ':path': `/edited/plain?down=${size}`, 'content-type': 'text/plain' };
    for (const answer of await Promise.all(Array.from({ length: count }, () => askAll(session, one, undefined)))) {
      assert.equal(answer.length, size);
      assert.equal(answer.headers['x-added'], 'one, two');
    }
    const carried = came() - before;
    ends.unmap();
    session.destroy();
    assert.ok(carried > (size * count) / 2, `the kernel has carried ${carried} bytes of ${size * count}`);
  });
});
