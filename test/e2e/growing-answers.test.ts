/**
 * Answers whose head grows by edits, in every form, by each way: over a pooled connection (through its dummy socket), from
 * socket to socket, at the listener, and through Envoy alone, which all must answer alike.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { currentCgroup, instanceCgroups, joinCgroup } from '../../src/kernel/cgroups.js';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { type EnvoyHandle, startEnvoy } from '../../src/lab/envoy.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import type { Exchange, JobResult } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { SCRIPTS, scriptServer } from './growing-server.js';
import { ALONE, MESH, skip } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const WAYS = ['pooled', 'bypass', 'listener'] as const;
type Way = (typeof WAYS)[number];

const add = (key: string, value: string): JsonObject => ({ header: { key, value } });

const LOGGED =
  '%REQ(:PATH)% %RESPONSE_CODE% %BYTES_SENT% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %RESP(ETAG)% %RESP(CONTENT-LENGTH)%\n';
const logTo = (path: string): JsonObject => ({
  name: 'envoy.access_loggers.file',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
    path,
    log_format: { text_format_source: { inline_string: LOGGED } },
  },
});

/** `more`: grows by 60 bytes; `most`, `over`: by about 3.8 and 6 KiB, below and beyond what a dummy socket writes. */
function bootstrap(address: string, port: number, upstream: number, many: number, log: string): JsonObject {
  const route = { cluster: 'one', timeout: '10s' };
  const long = (n: number, length: number): JsonObject[] =>
    Array.from({ length: n }, (_, i) => add(`x-long-${i}`, 'l'.repeat(length)));
  const cors: JsonObject = {
    'envoy.filters.http.cors': {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy',
      allow_origin_string_match: [{ prefix: 'http://' }],
      allow_credentials: true,
      expose_headers: 'x-one, x-two',
    },
  };
  const edits = (prefix: string, more: JsonObject): JsonObject => ({ match: { prefix }, route, ...more });
  const routes = [
    edits('/more/', {
      response_headers_to_add: [add('x-added', 'a value that makes the head longer'), add('set-cookie', 'a=b')],
      response_headers_to_remove: ['x-gone'],
    }),
    edits('/most/', { response_headers_to_add: long(3, 1250) }),
    edits('/over/', { response_headers_to_add: long(5, 1250) }),
    edits('/cors/', { typed_per_filter_config: cors }),
    // of the two requests of each round, the first one's answer grows
    {
      match: { safe_regex: { regex: '/[^/]*a/.*' } },
      route: { ...route, cluster: 'many' },
      response_headers_to_add: [add('x-turn', 'every other one')],
    },
    { match: { safe_regex: { regex: '/[^/]*b/.*' } }, route: { ...route, cluster: 'many' } },
    { match: { path: '/denied' }, direct_response: { status: 403, body: { inline_string: 'no' } } },
    { match: { prefix: '/' }, route },
  ];
  const filter = {
    name: 'envoy.filters.http.cors',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors' },
  };
  return plainBootstrap(
    [{ name: 'test', address, port, routes, filters: [filter], manager: { access_log: [logTo(log)] } }],
    [
      { name: 'one', ports: [upstream] },
      { name: 'many', ports: [many] },
    ],
  );
}

const get = (path: string, method = 'GET'): Exchange => ({
  pieces: [Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: a\r\nOrigin: http://a.example\r\n\r\n`).toString('base64')],
  methods: [method],
});

/** What all must have alike; `server`, `date`, times and trailers are documented differences. */
function shown(result: JobResult): unknown {
  const answers = result.answers.map(({ status, headers, body, framing }) => ({
    status,
    headers: headers
      .map(([n, v]) => [n.toLowerCase(), v.trim()] as const)
      .filter(([n]) => !['server', 'date', 'x-envoy-upstream-service-time'].includes(n))
      .map(([n, v]) => `${n}: ${v}`)
      .sort(),
    ...{ body, framing },
  }));
  return { answers, error: result.error, close: result.announcedClose };
}

describe('answers whose head grows', { skip, timeout: 240_000 }, () => {
  let lab: Lab;
  let alone: Driver;
  let envoy: EnvoyHandle;
  const logOf = (who: string): string => join(lab.dir, `${who}.log`);
  const mesh = {} as Record<Way, SidestepHandle>;
  const drivers = {} as Record<Way, Driver>;
  const ports = {} as Record<Way | 'alone', number>;
  const many = {} as Record<Way, number>;

  before(async () => {
    lab = await Lab.open('growing');
    const server = scriptServer();
    const inside = scriptServer();
    lab.onClose('servers', () => {
      server.close();
      inside.close();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const portOf = (of: typeof server): number => (of.address() as AddressInfo).port;
    for (const way of WAYS) ports[way] = await freePort();
    ports.alone = await freePort();
    envoy = await startEnvoy(
      lab,
      'envoy',
      bootstrap(ALONE, ports.alone, portOf(server), portOf(server), logOf('alone')),
    );
    const local = await freePort();
    for (const way of WAYS) {
      const file = join(lab.dir, `${way}.json`);
      const upstream = way === 'bypass' ? local : portOf(server);
      many[way] = await freePort();
      await writeFile(file, JSON.stringify(bootstrap(MESH, ports[way], upstream, many[way], logOf(way))));
      const intake = way === 'listener' ? 'listener' : 'socket';
      mesh[way] = await startSidestep(lab, [file], { args: ['--intake', intake] });
    }
    const home = currentCgroup();
    joinCgroup(instanceCgroups(mesh.bypass.name).apps);
    try {
      await new Promise<void>((resolve) => inside.listen(local, '127.0.0.1', resolve));
    } finally {
      joinCgroup(home);
    }
    const outside = lab.start('client outside', RAW_CLIENT, { stdin: true });
    alone = await Driver.of(outside);
    for (const way of WAYS) {
      const p = mesh[way].start(`client ${way}`, RAW_CLIENT, { stdin: true });
      drivers[way] = await Driver.of(p);
    }
  });
  after(() => lab?.close());

  const counts = async (way: Way) => {
    const { requests, bypassed, counters = {} } = await mesh[way].status();
    const { grown = 0, answers_agent: carried = 0, bypassed_answers: direct = 0 } = counters;
    return { ...requests, bypassed, grown, carried, direct };
  };
  const ask = (way: Way, exchanges: Exchange[]): Promise<JobResult> =>
    drivers[way].run({ address: MESH, port: ports[way], exchanges });
  const expected = (exchanges: Exchange[]): Promise<JobResult> =>
    alone.run({ address: ALONE, port: ports.alone, exchanges });

  /** Asks until the kernel edits such answers: the first one opens the connection, the next one its dummy socket. */
  async function warm(way: Way): Promise<void> {
    for (let i = 0; i < 300; i++) {
      const from = await counts(way);
      await ask(way, [get('/more/small')]);
      const to = await counts(way);
      if (to.grown > from.grown || to.direct > from.direct) return;
      await sleep(10);
    }
    assert.fail(`${way}: the kernel edits no answer`);
  }

  for (const way of WAYS)
    test(`each form of answer, ${way}`, async (t) => {
      for (const [name, script] of Object.entries(SCRIPTS))
        await t.test(name, async () => {
          const exchanges = [get(`/more/${name}`, script.method)];
          const wanted = shown(await expected(exchanges));
          await warm(way);
          const from = await counts(way);
          assert.deepEqual(shown(await ask(way, exchanges)), wanted);
          if (way === 'bypass' || script.by === undefined) return;
          const to = await counts(way);
          const kernel = (way === 'listener' && script.atListener ? script.atListener : script.by) === 'kernel';
          assert.equal(to.grown - from.grown, kernel ? 1 : 0, 'answers edited in the kernel');
          assert.equal(to.carried - from.carried, kernel ? 0 : 1, 'answers carried by the agent');
        });
    });

  for (const way of WAYS)
    test(`additions of every size, and after one another, ${way}`, async () => {
      await warm(way);
      const paths = ['/more/small', '/plain/small', '/most/body-16k', '/cors/small', '/denied', '/most/small'];
      const exchanges = [...paths, ...paths, '/over/small', ...paths, '/more/chunked', '/plain/body-60k'].map((p) =>
        get(p),
      );
      const wanted = shown(await expected(exchanges));
      const from = await counts(way);
      for (let i = 0; i < 5; i++) assert.deepEqual(shown(await ask(way, exchanges)), wanted);
      const to = await counts(way);
      if (way !== 'bypass') assert.ok(to.grown - from.grown >= 5 * 12, `${to.grown - from.grown} grown`);
      else assert.ok(to.direct - from.direct >= 5 * 17, `${to.direct - from.direct} from socket to socket`);
    });

  for (const way of WAYS)
    test(`requests sent before the answer, ${way}`, async () => {
      await warm(way);
      const text = ['/more/small', '/plain/small', '/more/body-16k', '/cors/small', '/plain/chunked']
        .map((p) => Buffer.from(get(p).pieces[0]!, 'base64').toString())
        .join('');
      const all: Exchange = { pieces: [Buffer.from(text).toString('base64')], methods: Array(5).fill('GET') };
      const exchanges = [all, get('/more/small'), all, get('/denied'), get('/more/small')];
      assert.deepEqual(shown(await ask(way, exchanges)), shown(await expected(exchanges)));
    });

  test('clients that leave', async () => {
    for (const way of WAYS)
      for (let i = 0; i < (way === 'bypass' ? 200 : 40); i++) {
        const leaving = get(['/more/body-in-pieces', '/more/body-60k', '/more/small', '/more/chunked-long'][i % 4]!);
        const abandon = i % 3 === 0 ? 'fin' : 'reset';
        await ask(way, [{ ...leaving, methods: [], abandon, abandonAfterMs: i % 5 }]);
        const r = await ask(way, [get('/more/small'), get('/plain/small')]);
        assert.deepEqual([r.error, r.answers.map((a) => a.status)], [undefined, [200, 200]], `${way}, round ${i}`);
      }
  });

  test('the access log says the same', async () => {
    const forms = Object.entries(SCRIPTS).filter(([, s]) => s.by === 'kernel' && !s.steps.includes('RESET'));
    const linesOf = async (who: string): Promise<string[]> =>
      (await readFile(logOf(who), 'utf8')).split('\n').filter((line) => line.includes('/log/'));
    for (const [name, { method }] of forms) {
      const exchanges = [get(`/more/log/${name}`, method)];
      await expected(exchanges);
      for (const way of WAYS) {
        await warm(way);
        assert.deepEqual((await ask(way, exchanges)).answers.length, 1, `${way} ${name}`);
      }
    }
    await envoy.process.stop(); // which writes what it has
    const wanted = (await linesOf('alone')).sort();
    assert.equal(wanted.length, forms.length);
    for (const way of WAYS) {
      for (let i = 0; i < 300 && (await linesOf(way)).length < forms.length; i++) await sleep(10);
      assert.deepEqual((await linesOf(way)).sort(), wanted, way);
    }
  });

  for (const way of WAYS)
    test(`many at once, also sent before the answer, at random moments, ${way}`, async (t) => {
      const argv = ['python3', join(HERE, 'bypass-server.py'), '127.0.0.1', String(many[way]), 'many', '0'];
      const server = way === 'bypass' ? mesh.bypass.start('many', argv) : lab.start(`many ${way}`, argv);
      await server.waitFor(/listening/);
      const from = await counts(way);
      for (const pipelined of ['0', '1']) {
        const client = ['python3', join(HERE, 'bypass-client.py'), MESH, String(ports[way]), '8', '150', pipelined];
        const r = await mesh[way].run(client, { timeoutMs: 90_000 });
        assert.equal(r.code, 0, r.stderr);
        const { servers, wrong } = JSON.parse(r.stdout) as { servers: Record<string, number>; wrong: string[] };
        assert.deepEqual([wrong, servers], [[], { many: 2400 }]);
      }
      const to = await counts(way);
      t.diagnostic(JSON.stringify(to));
      if (way === 'bypass') assert.ok(to.direct - from.direct > 1000);
      else assert.ok(to.grown - from.grown > 500);
      await server.stop();
    });
});
