/** Compressors and decompressors: what they may have to do is Envoy's, and the rest has exactly the edits that Envoy makes. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { Exchange } from '../../src/lab/raw-client.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { allInKernel } from './in-kernel.js';
import { shown } from './shown.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, skip } from './world.js';

const BODY = 'x'.repeat(100);
const JSON_TYPE = 'content-type: application/json';
const ok = (...lines: string[]): string =>
  `HTTP/1.1 200 OK\r\n${lines.map((l) => `${l}\r\n`).join('')}content-length: 100\r\n\r\n${BODY}`;

/** Answers by the last part of the path. */
const ANSWERS: Readonly<Record<string, string>> = {
  plain: ok(JSON_TYPE),
  short: `HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\ncontent-length: 2\r\n\r\nok`,
  edge: `HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\ncontent-length: 50\r\n\r\n${BODY.slice(50)}`,
  untyped: ok(),
  'empty-type': ok('content-type:'),
  'with-parameters': ok('Content-Type: \tApplication/JSON ; charset=utf-8;q'),
  longer: ok('content-type: application/jsonx'),
  image: ok('content-type: image/png'),
  etag: ok(JSON_TYPE, 'etag: "a"'),
  'as-is': ok(JSON_TYPE, 'cache-control: max-age=1, No-Transform '),
  'as-it-is': ok(JSON_TYPE, 'cache-control: no-transform'),
  'no-such': ok(JSON_TYPE, 'cache-control: no-transform=1, xno-transform'),
  encoded: ok(JSON_TYPE, 'content-encoding: br'),
  varies: ok(JSON_TYPE, 'vary: origin'),
  'varies-so': ok(JSON_TYPE, 'vary: origin,  Accept-Encoding ,x'),
  'varies-otherwise': ok(JSON_TYPE, 'vary: accept-encoding'),
  'varies-twice': ok(JSON_TYPE, 'vary: a', 'vary: Accept-Encoding'),
  'typed-twice': ok(JSON_TYPE, JSON_TYPE),
  chunked: `HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
  nothing: 'HTTP/1.1 204 No Content\r\n\r\n',
  'no-bytes': 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n',
  unmodified: 'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n',
  'unmodified-json': `HTTP/1.1 304 Not Modified\r\n${JSON_TYPE}\r\n\r\n`,
  missing: `HTTP/1.1 404 Not Found\r\n${JSON_TYPE}\r\ncontent-length: 100\r\n\r\n${BODY}`,
};
/** Of these the agent carries the answer: a line changes where it stands, or was there twice. */
const CARRIED = new Set(['varies', 'varies-otherwise', 'varies-twice', 'typed-twice']);

function server(): Promise<Server> {
  const s = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (end < 0 || text.length < end + 4 + length) return;
      answer(socket, text);
      text = '';
    });
  });
  return new Promise((resolve) => s.listen(0, '127.0.0.1', () => resolve(s)));
}

function answer(socket: Socket, text: string): void {
  const name = text.split(' ')[1]!.split('/').at(-1)!;
  if (name === 'gone') return void socket.end();
  if (name === 'seen') {
    // what the request came with, in a body of its own
    const seen = text.split('\r\n').filter((l) => /encoding/i.test(l));
    const body = JSON.stringify(seen.map((l) => l.toLowerCase().trim()));
    socket.write(`HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    return;
  }
  const whole = ANSWERS[name] ?? ANSWERS.plain!;
  socket.write(text.startsWith('HEAD') ? whole.slice(0, whole.indexOf('\r\n\r\n') + 4) : whole, 'latin1');
}

const library = (of: 'compressor' | 'decompressor'): JsonObject => ({
  [`${of}_library`]: {
    name: 'gzip',
    typed_config: { '@type': `type.googleapis.com/envoy.extensions.compression.gzip.${of}.v3.Gzip` },
  },
});
const filter = (name: string, type: string, config: JsonObject): JsonObject => ({
  name,
  typed_config: { '@type': `${FILTER_TYPE}.http.${type}`, ...config },
});

function bootstrap(address: string, ports: readonly number[], upstream: number): JsonObject {
  const route: JsonObject = { cluster: 'one' };
  const own = (prefix: string, config: JsonObject): JsonObject => ({
    match: { prefix },
    route,
    typed_per_filter_config: {
      compressor: { '@type': `${FILTER_TYPE}.http.compressor.v3.CompressorPerRoute`, ...config },
    },
  });
  const routes: JsonObject[] = [
    own('/off/', { disabled: true }),
    own('/keep/', { overrides: { response_direction_config: { remove_accept_encoding_header: false } } }),
    {
      match: { prefix: '/edited/' },
      route,
      response_headers_to_add: [{ header: { key: 'x-more', value: '1' } }],
      response_headers_to_remove: ['x-less'],
    },
    {
      match: { prefix: '/typed/' },
      route,
      response_headers_to_add: [{ header: { key: 'content-type', value: 'a/b' } }],
    },
    { match: { path: '/redirect' }, redirect: { host_redirect: 'x' } },
    { match: { path: '/direct' }, direct_response: { status: 200, body: { inline_string: 'y'.repeat(60) } } },
    { match: { path: '/brief' }, direct_response: { status: 200, body: { inline_string: 'y' } } },
    { match: { path: '/bare' }, direct_response: { status: 200 } },
    { match: { prefix: '/x/' }, route },
  ];
  const compressor = filter('compressor', 'compressor.v3.Compressor', {
    response_direction_config: {
      common_config: { min_content_length: 50, content_type: ['application/json', 'Text/Plain'] },
      disable_on_etag_header: true,
    },
    ...library('compressor'),
  });
  const plain = filter('compressor', 'compressor.v3.Compressor', {
    request_direction_config: { common_config: { content_type: ['text/plain'] } },
    response_direction_config: { remove_accept_encoding_header: true },
    ...library('compressor'),
  });
  const decompressor = filter('decompressor', 'decompressor.v3.Decompressor', {
    response_direction_config: { common_config: { enabled: { default_value: false, runtime_key: 'off' } } },
    ...library('decompressor'),
  });
  return plainBootstrap(
    [
      { name: 'both', address, port: ports[0]!, routes, filters: [compressor, decompressor] },
      { name: 'plain', address, port: ports[1]!, routes, filters: [plain] },
    ],
    [{ name: 'one', ports: [upstream] }],
  );
}

const ask = (path: string, lines: readonly string[] = [], method = 'GET', body = ''): Exchange => ({
  pieces: [
    Buffer.from(
      `${method} ${path} HTTP/1.1\r\nHost: a\r\n${lines.map((l) => `${l}\r\n`).join('')}\r\n${body}`,
    ).toString('base64'),
  ],
  methods: [method],
});

/** Of Accept-Encoding, that no answer is compressed for. */
const OTHERS = [[], ['accept-encoding: br, deflate;q=0.5'], ['Accept-Encoding: identity'], ['accept-encoding:']];
const ITS_OWN = [['accept-encoding: gzip, deflate'], ['accept-encoding: *'], ['accept-encoding: br;q=1.0, GZIP;q=0']];

test('what a compressor need not see is decided in the kernel, as Envoy does', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const lab = await Lab.open('compressor');
  const upstream = await server();
  try {
    const ports = [await freePort(), await freePort()] as const;
    const target = (upstream.address() as AddressInfo).port;
    const file = join(lab.dir, 'bootstrap.json');
    const { sidestep, mesh, alone } = await sideBySide(lab, file, (address) => bootstrap(address, ports, target));
    const counters = async () => {
      const { requests, counters = {} } = await sidestep.status();
      return { ...requests, carried: counters.answers_agent ?? 0 };
    };
    const warm = (port: number) =>
      allInKernel(sidestep, 1, () => mesh.run({ address: MESH, port, exchanges: [ask('/x/image')] }));
    /** Asks both the same on one connection each. Returns how many of them kernel, proxy and agent had. */
    const same = async (port: number, what: string, exchanges: readonly Exchange[]) => {
      await warm(port);
      const before = await counters();
      const [ours, theirs] = [
        await mesh.run({ address: MESH, port, exchanges: [...exchanges] }),
        await alone.run({ address: ALONE, port, exchanges: [...exchanges] }),
      ];
      for (const [i] of exchanges.entries())
        assert.deepEqual(shown(ours.answers[i]), shown(theirs.answers[i]), `${what}, answer ${i}`);
      assert.equal(ours.answers.length, exchanges.length, what);
      const after = await counters();
      return {
        ...{
          kernel: after.kernel - before.kernel,
          proxy: after.proxy - before.proxy,
          agent: after.agent - before.agent,
        },
        carried: after.carried - before.carried,
      };
    };

    const names = Object.keys(ANSWERS);
    for (const [i, port] of ports.entries())
      for (const prefix of ['/x/', '/off/', '/keep/', '/edited/'])
        await t.test(`every answer, listener ${i}, ${prefix}`, async () => {
          for (const [k, lines] of OTHERS.entries()) {
            const had = await same(
              port,
              `${prefix} ${lines}`,
              names.map((name) => ask(prefix + name, lines)),
            );
            assert.equal(had.proxy, 0, JSON.stringify(had));
            assert.equal(had.kernel + had.agent, names.length, JSON.stringify(had));
            // a first answer on a connection to its server that grows is the agent's, too
            const most = prefix === '/off/' ? 0 : CARRIED.size + 2;
            if (k > 0) assert.ok(had.carried <= most + 2, `${prefix} ${lines} ${JSON.stringify(had)}`);
          }
        });
    await t.test('to HEAD', async () => {
      const heads = names.map((name) => ask(`/x/${name}`, [], 'HEAD'));
      const had = await same(ports[0], 'HEAD', heads);
      assert.equal(had.proxy, 0, JSON.stringify(had));
    });
    await t.test('a type that an edit chooses counts', async () => {
      const had = await same(
        ports[0],
        'typed',
        ['plain', 'image', 'untyped'].map((name) => ask(`/typed/${name}`)),
      );
      assert.equal(had.proxy, 0, JSON.stringify(had));
    });
    await t.test('the answers of the mesh itself', async () => {
      const paths = ['/redirect', '/direct', '/brief', '/bare', '/nowhere'];
      const had = await same(
        ports[0],
        'replies',
        paths.map((path) => ask(path)),
      );
      assert.deepEqual([had.kernel, had.proxy], [paths.length, 0], JSON.stringify(had));
      assert.equal((await same(ports[0], 'gone', [ask('/x/gone')])).proxy, 0);
    });
    await t.test('what may have to be compressed is the proxy’s', async () => {
      for (const port of ports)
        for (const lines of ITS_OWN) {
          const had = await same(
            port,
            `${lines}`,
            ['/x/plain', '/x/image', '/direct'].map((p) => ask(p, lines)),
          );
          assert.equal(had.kernel, 0, `${lines} ${JSON.stringify(had)}`);
        }
      assert.ok(
        (await same(ports[0], 'off', [ask('/off/plain', ITS_OWN[0])])).kernel === 1,
        'switched off for the route',
      );
    });
    await t.test('requests reach the server as through Envoy', async () => {
      for (const port of ports)
        for (const prefix of ['/x/', '/keep/', '/off/'])
          for (const lines of OTHERS) {
            const had = await same(port, `${prefix} ${lines}`, [ask(`${prefix}seen`, lines)]);
            assert.equal(had.proxy, 0, `${prefix} ${lines} ${JSON.stringify(had)}`);
          }
    });
    await t.test('bodies that may have to be compressed or decompressed are the proxy’s', async () => {
      const post = (n: number, more: readonly string[] = []) =>
        ask('/x/image', [`content-length: ${n}`, 'content-type: text/plain', ...more], 'POST', 'z'.repeat(n));
      assert.equal((await same(ports[1], 'a long body', [post(30)])).kernel, 0);
      assert.equal((await same(ports[1], 'a short body', [post(29)])).kernel, 1);
      assert.equal((await same(ports[0], 'a body', [post(30)])).kernel, 1);
      assert.equal((await same(ports[0], 'an encoded body', [post(30, ['content-encoding: br'])])).kernel, 0);
    });
  } finally {
    upstream.close();
    await lab.close();
  }
});
