/** local_reply_config: the answers that the mesh gives itself, whoever gives them, are rewritten as Envoy does. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Server } from 'node:net';
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

const OWN = 'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nown';

/** Answers of 200, except: `/slow` never, `/gone` closes, `/half` closes in the head, `/own` with a 503 of its own. */
function server(): Promise<Server> {
  const s = createServer((socket) => {
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (!text.includes('\r\n\r\n')) return;
      const path = text.split(' ')[1] ?? '';
      text = '';
      if (path.endsWith('/slow')) return;
      if (path.endsWith('/gone')) return void socket.end();
      if (path.endsWith('/half')) return void socket.end('HTTP/1.1 200 OK\r\nx-');
      socket.write(path.endsWith('/own') ? OWN : 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    });
  });
  return new Promise((resolve) => s.listen(0, '127.0.0.1', () => resolve(s)));
}

const text = (inline_string: string, content_type?: string): JsonObject => ({
  text_format_source: { inline_string },
  ...(content_type ? { content_type } : {}),
});
const when = (op: string, status: number): JsonObject => ({
  filter: { status_code_filter: { comparison: { op, value: { default_value: status, runtime_key: 'key' } } } },
});

function bootstrap(address: string, ports: readonly number[], upstream: number): JsonObject {
  const route: JsonObject = { cluster: 'one', timeout: '0.3s' };
  const direct = (path: string, status: number, inline_string?: string): JsonObject => ({
    match: { path },
    direct_response: { status, ...(inline_string === undefined ? {} : { body: { inline_string } }) },
  });
  const routes: JsonObject[] = [
    direct('/busy', 503, 'busy'),
    direct('/busier', 503),
    direct('/fine', 200, 'fine'),
    direct('/nothing', 204),
    direct('/teapot', 418, 'short and stout'),
    {
      ...direct('/typed', 503, 'busy'),
      response_headers_to_add: [
        { header: { key: 'content-type', value: 'a/b' } },
        { header: { key: 'x-a', value: '1' } },
      ],
    },
    { match: { path: '/away' }, redirect: { host_redirect: 'x' } },
    { match: { prefix: '/edited' }, route, response_headers_to_add: [{ header: { key: 'x-a', value: '1' } }] },
    { match: { prefix: '/to' }, route },
  ];
  const rbac = {
    name: 'rbac',
    typed_config: {
      '@type': `${FILTER_TYPE}.http.rbac.v3.RBAC`,
      rules: {
        action: 'DENY',
        policies: {
          p: { permissions: [{ header: { name: 'x-deny', present_match: true } }], principals: [{ any: true }] },
        },
      },
    },
  };
  const mappers: JsonObject[] = [
    {
      ...when('EQ', 503),
      body: { inline_string: 'Maintenance' },
      body_format_override: text('<h1>%LOCAL_REPLY_BODY%</h1> 100%%', 'text/html; charset=UTF-8'),
    },
    { ...when('EQ', 403), status_code: 404, body: { inline_string: 'nothing to see' } },
    { ...when('GE', 500), status_code: 599, body_format_override: text('%RESPONSE_CODE%: %LOCAL_REPLY_BODY%') },
    { ...when('LE', 204), body: { inline_string: 'all is well' } },
    { ...when('EQ', 418), body_format_override: text('') },
  ];
  const manager = (local_reply_config: JsonObject): JsonObject => ({ local_reply_config });
  return plainBootstrap(
    [
      { name: 'mapped', address, port: ports[0]!, routes, filters: [rbac], manager: manager({ mappers }) },
      {
        ...{ name: 'formatted', address, port: ports[1]!, routes, filters: [rbac] },
        manager: manager({ body_format: text('%RESPONSE_CODE% [%LOCAL_REPLY_BODY%]', 'text/x') }),
      },
    ],
    [{ name: 'one', ports: [upstream] }],
  );
}

const ask = (path: string, method: string, lines = ''): Exchange => ({
  pieces: [Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`).toString('base64')],
  methods: [method],
});

test('answers of the mesh itself are rewritten as Envoy does', { skip, timeout: 120_000 }, async (t) => {
  const lab = await Lab.open('local-replies');
  const upstream = await server();
  try {
    const ports = [await freePort(), await freePort()] as const;
    const target = (upstream.address() as AddressInfo).port;
    const file = join(lab.dir, 'bootstrap.json');
    const { sidestep, mesh, alone } = await sideBySide(lab, file, (address) => bootstrap(address, ports, target));
    const warm = (port: number) =>
      allInKernel(sidestep, 1, () => mesh.run({ address: MESH, port, exchanges: [ask('/to', 'GET')] }));
    /** Asks both; returns what the kernel and the proxy had of it. */
    const same = async (port: number, path: string, method = 'GET', lines = '') => {
      await warm(port);
      const exchanges = [ask(path, method, lines)];
      const before = (await sidestep.status()).requests;
      const ours = await mesh.run({ address: MESH, port, exchanges });
      const after = (await sidestep.status()).requests;
      const theirs = await alone.run({ address: ALONE, port, exchanges });
      assert.deepEqual(shown(ours.answers[0]), shown(theirs.answers[0]), `${port === ports[0]} ${method} ${path}`);
      return { kernel: after.kernel - before.kernel, proxy: after.proxy - before.proxy };
    };
    for (const port of ports) {
      const which = port === ports[0] ? 'mapped' : 'formatted';
      await t.test(`${which}: replies that the kernel gives`, async () => {
        for (const path of ['/busy', '/busier', '/fine', '/teapot', '/typed', '/away', '/nowhere'])
          assert.deepEqual(await same(port, path), { kernel: 1, proxy: 0 }, path);
        assert.deepEqual(await same(port, '/to', 'GET', 'x-deny: 1\r\n'), { kernel: 1, proxy: 0 }, 'denied');
        assert.equal((await same(port, '/nothing')).kernel, 0, 'both give it a body');
        for (const path of ['/busy', '/fine', '/nowhere', '/teapot']) await same(port, path, 'HEAD');
      });
      await t.test(`${which}: answers of servers are left alone`, async () => {
        for (const path of ['/to', '/to/own']) assert.deepEqual(await same(port, path), { kernel: 1, proxy: 0 }, path);
        assert.equal((await same(port, '/edited/own')).proxy, 0);
      });
      await t.test(`${which}: replies that the agent gives`, async () => {
        for (const path of ['/to/slow', '/to/gone', '/to/half', '/edited/gone', '/edited/slow'])
          assert.equal((await same(port, path)).proxy, 0, path);
        await same(port, '/to/gone', 'HEAD');
      });
    }
  } finally {
    upstream.close();
    await lab.close();
  }
});
