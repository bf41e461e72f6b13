/** HTTP/2 through the kernel's programs, beside a real Envoy: what servers see, bodies of all sizes, windows, ends. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type http2 from 'node:http2';
import { test } from 'node:test';
import { FLAG, FRAME, frame, PREFACE } from '../../src/agent/h2/frames.js';
import { findEnvoy } from '../plan/envoy-oracle.js';
import { type Answer, ask, H2World } from './h2-world.js';

const skip = process.getuid?.() !== 0 ? 'needs root' : findEnvoy() === undefined ? 'no Envoy was found' : false;
const options = { skip, timeout: 120_000 };
const FORWARD = { timeout: '0s' };
const ROUTES = [
  { match: { prefix: '/one' }, route: { cluster: 'one', ...FORWARD } },
  { match: { prefix: '/two' }, route: { cluster: 'two', ...FORWARD } },
  { match: { prefix: '/direct' }, direct_response: { status: 403, body: { inline_string: 'no' } } },
];
const post = (path: string, more: Record<string, string> = {}): Record<string, string> => ({
  ...{ ':method': 'POST', ':path': path, te: 'trailers', 'content-type': 'application/grpc' },
  ...more,
});
const digest = (body: Buffer): string => createHash('sha256').update(body).digest('hex');

/** The connections to servers are opened when the client's has begun: waits until the kernel takes streams. */
async function settled(world: H2World, session: http2.ClientHttp2Session): Promise<void> {
  for (const path of ['/one', '/two'])
    for (let before = world.decided(); world.decided() === before; ) await ask(session, post(path), undefined);
}

async function inWorld(
  routes: Parameters<typeof H2World.open>[0],
  run: (world: H2World) => Promise<void>,
  settings: http2.Settings = {},
): Promise<void> {
  const world = await H2World.open(routes, settings);
  try {
    await run(world);
  } finally {
    await world.close();
  }
}

/** What a server saw, and what the client did: all that Envoy and the kernel must agree on. */
function told({ headers, trailers, length, digest: body }: Answer): unknown {
  const without = (h: http2.IncomingHttpHeaders, names: string[]) =>
    Object.entries(h)
      .filter(([name]) => !names.includes(name))
      .sort();
  const saw = JSON.parse(String(headers['x-saw'] ?? '[]')) as [string, string][];
  return {
    saw: saw
      .map(([n, v]) => `${n}: ${n === 'x-request-id' ? v.replace(/[0-9a-f]/g, 'x') : n === ':authority' ? '' : v}`)
      .sort(),
    // what Envoy says of itself in answers is not the kernel's to say: see README
    headers: without(headers, ['x-saw', 'date', 'server', 'x-envoy-upstream-service-time']),
    trailers: without(trailers, []),
    ...{ length, body },
  };
}

test('the same requests through Envoy alone', options, () =>
  inWorld(
    [
      {
        match: { path: '/one/edited' },
        route: { cluster: 'one', prefix_rewrite: '/other', ...FORWARD },
        request_headers_to_add: [{ header: { key: 'x-added', value: 'by %PROTOCOL%' } }],
        request_headers_to_remove: ['x-gone'],
      },
      {
        match: { prefix: '/one', headers: [{ name: 'x-to', string_match: { prefix: 'tw' } }] },
        route: { cluster: 'two', ...FORWARD },
      },
      ...ROUTES,
    ],
    async (world) => {
      const [ours, theirs] = [await world.connect(), await world.connect('envoy')];
      await settled(world, ours);
      const cases: [kernel: boolean, headers: Record<string, string>, body: Buffer | undefined][] = [
        [true, post('/one/a'), Buffer.from('hello')],
        [true, post('/one/a?b=c&d'), undefined],
        [true, { ':path': '/two' }, undefined],
        [true, { ':method': 'PUT', ':path': '/two', 'content-length': '3' }, Buffer.from('abc')],
        [true, { ':method': 'OPTIONS', ':path': '/two' }, undefined],
        [true, { ':method': 'HEAD', ':path': '/two' }, undefined],
        [true, post('/one/a', { 'x-to': 'two', cookie: 'a=b' }), undefined],
        [true, post('/one/edited?q', { 'x-gone': '1', 'x-kept': 'a b' }), Buffer.alloc(10)],
        [true, post('/one/a', { 'x-request-id': 'mine', 'x-forwarded-proto': 'https' }), undefined],
        [true, post('/one/long', { 'x-long': 'v'.repeat(2000) }), undefined],
        [false, post('/one/longer', { 'x-long': 'v'.repeat(7000) }), undefined],
        [false, post('/one/a', { 'x-odd': 'caf\u00e9' }), undefined],
        [true, post('/direct'), undefined],
        [true, { ':path': '/direct' }, undefined],
        [true, post('/nowhere'), undefined],
        [true, post('/one/../two'), undefined], // paths are not normalized here
      ];
      for (const [kernel, headers, body] of cases) {
        const before = world.decided();
        const own = told(await ask(ours, headers, body));
        assert.deepEqual(own, told(await ask(theirs, headers, body)), JSON.stringify(headers));
        assert.equal(world.decided() - before, kernel ? 1 : 0, `${JSON.stringify(headers)}: by the kernel`);
      }
      for (const session of [ours, theirs]) session.destroy();
    },
  ),
);

/** Streams at once, with bodies up to a megabyte in both directions, each checked. */
async function soak(world: H2World, streams: number, atOnce: number, most: number): Promise<void> {
  const sessions = await Promise.all([1, 2, 3].map(() => world.connect()));
  for (const session of sessions) await settled(world, session);
  const before = world.decided();
  let begun = 0;
  const worker = async (w: number): Promise<void> => {
    for (let i = begun++; i < streams; i = begun++) {
      const session = sessions[(w + i) % sessions.length]!;
      // many small ones, some large
      const size = Math.floor((((i * 7919) % 1000) / 1000) ** 6 * most);
      const body = Buffer.alloc(size, `${i} `);
      const to = i % 2 ? 'one' : 'two';
      if (i % 3) {
        const answer = await ask(session, post(`/${to}/${i}`), body);
        assert.deepEqual([answer.length, answer.digest], [size, digest(body)], `stream ${i}: what came back`);
        assert.equal(answer.trailers['x-digest'], digest(body), `stream ${i}: what arrived`);
        assert.equal(answer.headers['x-server'], to);
      } else {
        const answer = await ask(session, post(`/${to}?down=${size}`), Buffer.from('x'));
        assert.deepEqual([answer.length, answer.digest], [size, digest(Buffer.alloc(size, to))], `stream ${i}`);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, (_, w) => worker(w)));
  assert.equal(world.decided() - before, streams, 'all of them by the kernel');
  for (const session of sessions) session.destroy();
}

test('bodies of all sizes, many at once', options, () => inWorld(ROUTES, (world) => soak(world, 600, 40, 1 << 20)));

test('a client that sends requests before it has SETTINGS', options, () =>
  inWorld(ROUTES, async (world) => {
    for (let round = 0; round < 10; round++) {
      const session = world.hurry();
      // the same headers again and again: the later blocks refer to the dynamic table that the client still has
      const answers = Array.from({ length: 10 }, (_, i) =>
        ask(session, post(`/${i % 2 ? 'one' : 'two'}`, { 'x-same': 'value' }), Buffer.alloc(1000 * i)),
      );
      for (const [i, answer] of (await Promise.all(answers)).entries()) {
        assert.equal(answer.length, 1000 * i, `answer ${i}`);
        assert.match(String(answer.headers['x-saw']), /"x-same","value"/);
      }
      await settled(world, session);
      const before = world.decided();
      assert.match(
        String((await ask(session, post('/one', { 'x-same': 'value' }), undefined)).headers['x-saw']),
        /x-same/,
      );
      assert.equal(world.decided() - before, 1, 'by the kernel');
      session.destroy();
    }
  }),
);

test('streams that are reset, and servers that go', options, () =>
  inWorld(ROUTES, async (world) => {
    const session = await world.connect();
    await settled(world, session);
    for (let i = 0; i < 30; i++) {
      const stream = session.request(post('/one?down=900000'));
      stream.on('error', () => undefined);
      stream.end(Buffer.alloc(i * 5000));
      if (i % 3) await once(stream, i % 3 === 1 ? 'response' : 'data');
      stream.close(8); // CANCEL
      assert.equal((await ask(session, post('/two'), Buffer.alloc(1000))).length, 1000);
    }
    assert.equal((await ask(session, post('/one'), Buffer.alloc(300_000))).length, 300_000);
    // the server goes while a stream is open: the client learns of it, and what follows is answered
    const open = session.request(post('/one'));
    open.on('error', () => undefined);
    await once(open, 'response');
    const sessions = world.sessions('one');
    for (const own of sessions) own.destroy();
    await new Promise((resolve) => open.once('close', resolve));
    assert.notEqual(open.rstCode, 0, 'the stream was reset');
    for (let i = 0; i < 5; i++) assert.equal((await ask(session, post('/one'), Buffer.alloc(100))).length, 100);
    assert.equal((await ask(session, post('/two'), Buffer.alloc(100))).length, 100);
    session.destroy();
  }),
);

test('clients that do not speak HTTP/2 as they should are left, and nobody else', options, () =>
  inWorld(ROUTES, async (world) => {
    const good = await world.connect();
    await settled(world, good);
    const hello = Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.SETTINGS, FLAG.ACK, 0)]);
    const bad = [
      ['no preface', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
      ['a frame that is too large', Buffer.from('ffffff000000000001', 'hex')],
      ['a short WINDOW_UPDATE', frame(FRAME.WINDOW_UPDATE, 0, 0, Buffer.alloc(3))],
      ['a long PING', frame(FRAME.PING, 0, 0, Buffer.alloc(9))],
      ['SETTINGS that are cut off', frame(FRAME.SETTINGS, 0, 0, Buffer.alloc(5))],
      ['DATA without a stream', frame(FRAME.DATA, 0, 0, Buffer.alloc(5))],
    ] as const;
    for (const [what, bytes] of bad) {
      const socket = world.raw();
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.resume();
      socket.write(what === 'no preface' ? bytes : Buffer.concat([hello, bytes]));
      await closed;
      assert.equal((await ask(good, post('/one'), Buffer.alloc(1000))).length, 1000, what);
    }
    good.destroy();
  }),
);

test('servers that let each stream send more at first', options, () =>
  inWorld(ROUTES, (world) => soak(world, 300, 20, 1 << 20), { initialWindowSize: 1 << 20 }),
);

test('a client that does not read one stream goes on with the others', options, () =>
  inWorld(ROUTES, async (world) => {
    const session = await world.connect();
    await settled(world, session);
    const stuck = session.request(post('/one?down=1000000'));
    stuck.end();
    await once(stuck, 'response');
    for (let i = 0; i < 50; i++) assert.equal((await ask(session, post('/two'), Buffer.alloc(100))).length, 100);
    const slow = createHash('sha256');
    stuck.on('data', (chunk: Buffer) => slow.update(chunk));
    await once(stuck, 'end');
    assert.equal(slow.digest('hex'), digest(Buffer.alloc(1_000_000, 'one')));
    session.destroy();
  }),
);
