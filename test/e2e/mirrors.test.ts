/** Mirrored requests: the kernel decides them, and mirrors' servers see byte for byte what Envoy alone sends them. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { ByteQueue, type HeaderList, headerValues, parseHead } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { eventually } from './eventually.js';
import { allInKernel, untilKernel } from './in-kernel.js';
import { type SideBySide, sideBySide } from './side-by-side.js';
import { ALONE, MESH, request, skip } from './world.js';

/** A server that notes the bytes of each request. @param answers on `/silent`, too */
async function recorder(answers = false) {
  const seen: string[] = [];
  const serve = async (socket: Socket): Promise<void> => {
    const queue = new ByteQueue();
    socket.on('data', (d) => queue.push(d));
    socket.on('end', () => queue.end('end'));
    socket.on('error', (e) => queue.end(e));
    while (!(await queue.atEnd())) {
      const bytes = await queue.until('\r\n\r\n');
      const { headers } = parseHead(bytes);
      const body = await queue.bytes(Number(headerValues(headers, 'content-length')[0] ?? 0));
      // ids of requests are random, and the kernel adds lines in another order (those of one name keep theirs)
      const [first, ...lines] = bytes.replace(/^(x-request-id): [0-9a-f-]{36}\r$/m, '$1: ID\r').split('\r\n');
      const name = (line: string) => line.slice(0, line.indexOf(':'));
      lines.sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0));
      const head = [first, ...lines, '', ''].join('\r\n');
      seen.push(head + body.toString('latin1'));
      if (!/ \/silent/.test(head) || answers) {
        const status = headerValues(headers, 'x-answer')[0] ?? '200';
        socket.write(`HTTP/1.1 ${status} So\r\ncontent-length: 0\r\n\r\n`);
      }
    }
    socket.end();
  };
  const server = createServer((socket) => void serve(socket).catch(() => socket.destroy()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { seen, port: (server.address() as { port: number }).port, close: () => server.close() };
}

const share = (numerator: number, denominator = 'HUNDRED'): JsonObject => ({
  runtime_fraction: { default_value: { numerator, denominator } },
});
const set = (key: string, value: string): JsonObject => ({
  header: { key, value },
  append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
});

function bootstrap(address: string, port: number, first: number, ports: Record<string, number>): JsonObject {
  const to = (...policies: JsonObject[]): JsonObject => ({ cluster: 'one', request_mirror_policies: policies });
  const copy: JsonObject = { cluster: 'copy' };
  const routes: JsonObject[] = [
    { match: { prefix: '/plain' }, route: to(copy) },
    { match: { prefix: '/silent' }, route: to(copy) },
    { match: { prefix: '/dead' }, route: to({ cluster: 'dead' }) },
    { match: { prefix: '/two' }, route: to(copy, { cluster: 'other', disable_shadow_host_suffix_append: true }) },
    { match: { prefix: '/named' }, route: to({ cluster_header: 'x-copy-to' }) },
    { match: { prefix: '/half' }, route: to({ ...copy, ...share(50) }) },
    { match: { prefix: '/both' }, route: to({ ...copy, ...share(30) }, { cluster: 'other', ...share(30) }) },
    { match: { prefix: '/never' }, route: to({ ...copy, ...share(0) }) },
    {
      match: { prefix: '/edited' },
      route: { ...to(copy), prefix_rewrite: '/new', timeout: '0s', idle_timeout: '0s' },
      request_headers_to_add: [set('x-new', 'made here')],
      request_headers_to_remove: ['x-old'],
    },
    {
      match: { prefix: '/weighted' },
      route: {
        weighted_clusters: {
          clusters: [
            { name: 'one', weight: 1 },
            { name: 'again', weight: 3 },
          ],
        },
        request_mirror_policies: [copy],
      },
    },
    {
      match: { prefix: '/retried' },
      route: {
        ...to(copy),
        host_rewrite_literal: 'elsewhere:8080',
        retry_policy: { retry_on: '5xx', num_retries: 1, per_try_timeout: '3s' },
      },
    },
    {
      match: { prefix: '/faulty' },
      route: to(copy),
      typed_per_filter_config: {
        fault: {
          '@type': `${FILTER_TYPE}.http.fault.v3.HTTPFault`,
          abort: { http_status: 418, percentage: { numerator: 50 } },
        },
      },
    },
    { match: { prefix: '/none' }, route: { cluster: 'one' } },
  ];
  const fault = { name: 'fault', typed_config: { '@type': `${FILTER_TYPE}.http.fault.v3.HTTPFault` } };
  const whole = {
    name: 'whole',
    domains: ['whole', 'elsewhere'],
    request_mirror_policies: [copy],
    include_request_attempt_count: true,
    routes: [
      {
        match: { prefix: '/retried' },
        route: { cluster: 'one', retry_policy: { retry_on: '5xx', num_retries: 1 } },
      },
      { match: { prefix: '/' }, route: { cluster: 'one' } },
    ],
  };
  const hosts = [whole, { name: 'rest', domains: ['a', 'a:80', 'b.example:81'], routes }];
  const ordinary = ['copy', 'other'].map((name) => ({ name, ports: [ports[name]!] }));
  return plainBootstrap(
    [{ name: 'test', address, port, hosts, filters: [fault] }],
    [
      { name: 'one', ports: [first], more: { circuit_breakers: { thresholds: [{ max_retries: 4096 }] } } },
      { name: 'again', ports: [first] },
      ...ordinary,
      { name: 'dead', ports: [ports.dead!] },
    ],
  );
}

describe('mirrors', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let both: SideBySide;
  let port: number;
  let one: Awaited<ReturnType<typeof recorder>>;
  let copy: Awaited<ReturnType<typeof recorder>>;
  let other: Awaited<ReturnType<typeof recorder>>;

  before(async () => {
    lab = await Lab.open('mirrors');
    [one, copy, other] = await Promise.all([recorder(true), recorder(), recorder()]);
    port = await freePort();
    const ports = { copy: copy.port, other: other.port, dead: await freePort() };
    both = await sideBySide(lab, join(lab.dir, 'bootstrap.json'), (address) =>
      bootstrap(address, port, one.port, ports),
    );
    await allInKernel(both.sidestep, 2, () => ask(both.mesh, MESH, request('GET /none HTTP/1.1', [['Host', 'a']])));
  });
  after(async () => {
    for (const server of [one, copy, other]) server?.close();
    await lab?.close();
  });

  const ask = async (driver: Driver, address: string, bytes: string, method = 'GET') => {
    const { answers, error } = await driver.run({ address, port, exchanges: [{ pieces: [bytes], methods: [method] }] });
    assert.equal(error, undefined, Buffer.from(bytes, 'base64').toString().split('\r')[0]);
    return answers[0]!.status;
  };
  /** What came, once it has come: so many copies, and no more a moment later. */
  const taken = async (server: typeof copy, n: number, what: string): Promise<string[]> => {
    await eventually(async () => assert.ok(server.seen.length >= n, `${what}: ${server.seen.length} of ${n} copies`));
    return server.seen.splice(0);
  };
  const kernel = async () => (await both.sidestep.status()).requests.kernel;

  const cases: [what: string, bytes: string, copies: number, others: number, method?: string][] = [
    [
      'plain',
      request('GET /plain?a=b HTTP/1.1', [
        ['Host', 'a'],
        ['X-Some', 'Thing'],
      ]),
      1,
      0,
    ],
    ['a port', request('GET /plain HTTP/1.1', [['Host', 'b.example:81']]), 1, 0],
    ['a head', request('HEAD /plain HTTP/1.1', [['Host', 'a']]), 1, 0, 'HEAD'],
    [
      'many lines',
      request('GET /plain HTTP/1.1', [
        ['Host', 'a'],
        ['X-A', '1'],
        ['X-B', '2'],
        ['X-A', '3'],
        ['Accept', '*/*'],
        ['User-Agent', 'me'],
        ['Cookie', 'a=b'],
        ['Cookie', 'c=d'],
        ['X-Forwarded-Client-Cert', 'By=x'],
      ]),
      1,
      0,
    ],
    [
      'forwarded',
      request('GET /plain HTTP/1.1', [
        ['Host', 'a'],
        ['X-Forwarded-For', '9.9.9.9, 8.8.8.8'],
        ['X-Request-Id', 'mine'],
        ['X-Forwarded-Proto', 'https'],
      ]),
      1,
      0,
    ],
    [
      'internal',
      request('GET /plain HTTP/1.1', [
        ['Host', 'a'],
        ['X-Forwarded-For', '10.0.0.1'],
      ]),
      1,
      0,
    ],
    [
      'no content',
      request('POST /plain HTTP/1.1', [
        ['Host', 'a'],
        ['Content-Length', '0'],
      ]),
      1,
      0,
      'POST',
    ],
    [
      'a body',
      request(
        'POST /plain HTTP/1.1',
        [
          ['Host', 'a'],
          ['Content-Length', '5'],
        ],
        'hello',
      ),
      1,
      0,
      'POST',
    ],
    [
      'a longer body',
      request(
        'PUT /plain HTTP/1.1',
        [
          ['Host', 'a'],
          ['Content-Length', '7000'],
        ],
        Buffer.alloc(7000, 'abc'),
      ),
      1,
      0,
      'PUT',
    ],
    [
      'edits',
      request('GET /edited/x?y HTTP/1.1', [
        ['Host', 'a'],
        ['X-Old', '1'],
        ['X-New', '2'],
      ]),
      1,
      0,
    ],
    ['two', request('GET /two HTTP/1.1', [['Host', 'a']]), 1, 1],
    [
      'named',
      request('GET /named HTTP/1.1', [
        ['Host', 'a'],
        ['X-Copy-To', 'other'],
      ]),
      0,
      1,
    ],
    [
      'named wrongly',
      request('GET /named HTTP/1.1', [
        ['Host', 'a'],
        ['X-Copy-To', 'nobody'],
      ]),
      0,
      0,
    ],
    ['not named', request('GET /named HTTP/1.1', [['Host', 'a']]), 0, 0],
    ['never', request('GET /never HTTP/1.1', [['Host', 'a']]), 0, 0],
    ['weighted', request('GET /weighted HTTP/1.1', [['Host', 'a']]), 1, 0],
    ['retries', request('GET /retried HTTP/1.1', [['Host', 'a']]), 1, 0],
    ['retries, by virtual host', request('GET /retried HTTP/1.1', [['Host', 'whole']]), 1, 0],
    ['a virtual host', request('GET /x HTTP/1.1', [['Host', 'whole']]), 1, 0],
    ['no answer', request('GET /silent HTTP/1.1', [['Host', 'a']]), 1, 0],
    ['nobody there', request('GET /dead HTTP/1.1', [['Host', 'a']]), 0, 0],
  ];
  for (const [what, bytes, copies, others, method] of cases)
    test(what, async () => {
      assert.equal(await ask(both.alone, ALONE, bytes, method), 200);
      const wanted = [await taken(copy, copies, what), await taken(other, others, what)];
      const once = async () => {
        assert.equal(await ask(both.mesh, MESH, bytes, method), 200);
        assert.deepEqual([await taken(copy, copies, what), await taken(other, others, what)], wanted);
      };
      assert.ok(await untilKernel(both.sidestep, once), `${what} is decided in the kernel`);
    });

  test('a request that is tried again is mirrored once', async () => {
    const lines: HeaderList = [['X-Answer', '503']];
    for (const host of ['a', 'whole'])
      for (const [driver, address] of [
        [both.alone, ALONE],
        [both.mesh, MESH],
      ] as const) {
        assert.equal(await ask(driver, address, request('GET /retried HTTP/1.1', [['Host', host], ...lines])), 503);
        await taken(copy, 1, host);
        // what came later would be in the way of the next copy
        assert.equal(await ask(driver, address, request('GET /plain/end HTTP/1.1', [['Host', 'a']])), 200);
        const [last, ...more] = await taken(copy, 1, host);
        assert.match(last!, /^GET \/plain\/end /);
        assert.deepEqual(more, []);
      }
  });

  test('bodies that are not here as a whole are for the proxy', async () => {
    for (const [driver, address] of [
      [both.alone, ALONE],
      [both.mesh, MESH],
    ] as const) {
      const pieces = [
        request(
          'POST /plain HTTP/1.1',
          [
            ['Host', 'a'],
            ['Content-Length', '4'],
          ],
          'he',
        ),
        Buffer.from('lo').toString('base64'),
      ];
      const { answers } = await driver.run({ address, port, exchanges: [{ pieces, methods: ['POST'] }] });
      assert.equal(answers[0]!.status, 200);
      assert.equal(
        await ask(
          driver,
          address,
          request(
            'PUT /plain HTTP/1.1',
            [
              ['Host', 'a'],
              ['Content-Length', '20000'],
            ],
            Buffer.alloc(20000, 'x'),
          ),
          'PUT',
        ),
        200,
      );
      const bodies = (await taken(copy, 2, address)).map((bytes) => bytes.slice(bytes.indexOf('\r\n\r\n') + 4).length);
      assert.deepEqual(bodies, [4, 20000], address);
    }
  });

  const REQUESTS = 400;
  for (const [path, chance, together] of [
    ['/half', 0.5, 0],
    ['/both', 0.3, 0.3],
    ['/faulty', 0.5, 0],
    ['/plain/many', 1, 0],
  ] as const)
    test(`${path}: ${chance * 100}% are mirrored`, async (t) => {
      const exchanges = Array.from({ length: REQUESTS / 8 }, () => ({
        pieces: [request(`GET ${path} HTTP/1.1`, [['Host', 'a']])],
        methods: ['GET'],
      }));
      const before = await kernel();
      const results = await Promise.all(
        Array.from({ length: 8 }, () => both.mesh.run({ address: MESH, port, exchanges })),
      );
      const passed = results.flatMap(({ answers }) => answers).filter(({ status }) => status === 200).length;
      // the agent is behind by some milliseconds
      await eventually(async () => {
        const { sent, lost } = (await both.sidestep.status()).mirrors!;
        assert.ok(sent + lost >= 0 && lost === 0, `${lost} copies are lost`);
      });
      const wanted = REQUESTS * chance;
      const around = (n: number, what: string) =>
        assert.ok(Math.abs(n - wanted) <= 5 * Math.sqrt(wanted * (1 - chance)), `${what}: ${n} of ${REQUESTS}`);
      const settle = async (server: typeof copy): Promise<number> => {
        for (let n = -1; n !== server.seen.length; await new Promise((r) => setTimeout(r, 100))) n = server.seen.length;
        return server.seen.splice(0).length;
      };
      const [copies, others] = [await settle(copy), await settle(other)];
      t.diagnostic(
        `${path}: ${passed} passed, ${copies} and ${others} copies, ${(await kernel()) - before} by the kernel`,
      );
      around(copies, 'copies');
      if (path === '/faulty') assert.equal(copies, passed, 'what a fault answers is not mirrored');
      // one number is drawn for both
      assert.equal(others, together > 0 ? copies : 0);
      assert.ok((await kernel()) - before > REQUESTS * 0.6, 'the kernel decides');
    });
});
