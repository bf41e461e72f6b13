/** TLS of clients, and listeners with several filter chains: by Envoy alone, and by Sidestep, which decides in the kernel. */
import assert from 'node:assert/strict';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readInstance } from '../../src/kernel/instance.js';
import type { Driver } from '../../src/lab/driver.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort, freePorts } from '../../src/lab/ports.js';
import { Lab, runCommand, sleep } from '../../src/lab/processes.js';
import type { ClientTls } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { Authority, type Certificate } from './certificates.js';
import { untilKernel } from './in-kernel.js';
import { outcome } from './istio-world.js';
import { type SideBySide, sideBySide } from './side-by-side.js';
import { ALONE, MESH, one, request, skip } from './world.js';

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';
const SERVER = join(packageRoot(), 'test/e2e/istio-server.ts');

const INSPECTOR = {
  name: 'tls_inspector',
  typed_config: { '@type': `${FILTER_TYPE}.listener.tls_inspector.v3.TlsInspector` },
};

const ROUTES: JsonObject[] = [
  { match: { path: '/direct' }, direct_response: { status: 418, body: { inline_string: 'short' } } },
  { match: { path: '/moved' }, redirect: { path_redirect: '/there' } },
  { match: { path: '/host' }, redirect: { host_redirect: 'other.test', strip_query: true } },
  { match: { path: '/plain' }, redirect: { scheme_redirect: 'http' } },
  { match: { path: '/secure' }, redirect: { https_redirect: true } },
  {
    match: { prefix: '/proxied' },
    route: { cluster: 'up' },
    request_headers_to_add: [{ header: { key: 'x-asked', value: 'for %DOWNSTREAM_LOCAL_PORT%' } }],
  },
  { match: { prefix: '/' }, route: { cluster: 'up' } },
];

const REQUESTS: readonly { readonly path: string; readonly method?: string; readonly headers?: HeaderList }[] = [
  { path: '/' },
  { path: '/a?b=c', headers: [['x-forwarded-proto', 'https']] },
  { path: '/a', headers: [['x-forwarded-proto', 'http']] },
  { path: '/a', headers: [['x-forwarded-for', '192.0.2.1']] },
  { path: '/a', headers: [['x-forwarded-client-cert', 'Hash=0']] },
  { path: '/direct' },
  { path: '/direct', method: 'HEAD' },
  ...['/moved', '/moved?a=b', '/host?x', '/plain', '/secure'].flatMap((path) => [
    { path },
    { path, headers: [['x-forwarded-proto', 'http']] as HeaderList },
    { path, headers: [['x-forwarded-proto', 'nonsense']] as HeaderList },
    { path, headers: [['Host', 'named.test:443']] as HeaderList },
    { path, headers: [['Host', 'named.test:80']] as HeaderList },
  ]),
  { path: 'http://named.test/moved' },
  { path: 'https://named.test/moved' },
  { path: '/proxied' },
  { path: '/a/../b' },
];

interface Chain {
  readonly tls?: JsonObject;
  readonly match?: JsonObject;
  readonly routes?: readonly JsonObject[];
}

describe('TLS from clients', { skip, timeout: 240_000 }, () => {
  let lab: Lab;
  let both: SideBySide;
  let ports: Record<string, number>;
  let client: Certificate;
  let stranger: Certificate;

  before(async () => {
    lab = await Lab.open('tls');
    const authority = await Authority.make(lab.dir, 'authority');
    const server = await authority.sign('server', 'DNS:a.test,DNS:b.test');
    client = await authority.sign('client', 'URI:spiffe://mesh.test/ns/a/sa/b');
    stranger = await (await Authority.make(lab.dir, 'elsewhere')).sign('stranger', 'URI:spiffe://mesh.test/ns/a/sa/b');
    const upstream = await freePort();
    await lab.start('upstream', [...nodeScript(SERVER), `one=127.0.0.1:${upstream}`]).waitFor(/listening/);

    const context = (more: JsonObject = {}, common: JsonObject = {}): JsonObject => ({
      '@type': `${TLS}.DownstreamTlsContext`,
      common_tls_context: {
        tls_certificates: [{ certificate_chain: { filename: server.cert }, private_key: { filename: server.key } }],
        ...common,
      },
      ...more,
    });
    const validation = { validation_context: { trusted_ca: { filename: authority.cert } } };
    const named = (host: string, status: number): Chain => ({
      tls: context({}, { alpn_protocols: ['h2', 'http/1.1'] }),
      match: { server_names: [host] },
      routes: [{ match: { path: '/which' }, direct_response: { status, body: { inline_string: host } } }, ...ROUTES],
    });
    const wanted: Record<string, { chains: readonly Chain[]; manager?: JsonObject; inspected?: true }> = {
      tls: { chains: [{ tls: context() }] },
      alpn: { chains: [{ tls: context({}, { alpn_protocols: ['h2', 'http/1.1'] }) }] },
      edge: { chains: [{ tls: context() }], manager: { use_remote_address: true } },
      mutual: {
        chains: [
          { tls: context({ require_client_certificate: true }, { ...validation, alpn_protocols: ['http/1.1'] }) },
        ],
      },
      optional: { chains: [{ tls: context({}, validation) }] },
      chains: {
        inspected: true,
        chains: [named('a.test', 481), named('b.test', 482), { match: { transport_protocol: 'raw_buffer' } }],
      },
      sources: {
        chains: [
          {
            match: { source_prefix_ranges: [{ address_prefix: '127.9.0.0', prefix_len: 16 }] },
            routes: [{ match: { prefix: '/' }, direct_response: { status: 403 } }],
          },
          {},
        ],
      },
    };
    const free = await freePorts(Object.keys(wanted).length);
    ports = Object.fromEntries(Object.keys(wanted).map((name, i) => [name, free[i]!]));
    both = await sideBySide(lab, join(lab.dir, 'tls.json'), (address) =>
      plainBootstrap(
        Object.entries(wanted).map(([name, { chains, manager = {}, inspected }]) => ({
          ...{ name, address, port: ports[name]!, manager },
          more: {
            ...(inspected ? { listener_filters: [INSPECTOR] } : {}),
            filter_chains: chains.map(({ tls, match, routes = ROUTES }, i) => ({
              name: `chain ${i}`,
              filters: [
                {
                  name: 'http',
                  typed_config: {
                    '@type': `${FILTER_TYPE}.network.http_connection_manager.v3.HttpConnectionManager`,
                    stat_prefix: name,
                    route_config: {
                      name: `${name} ${i}`,
                      virtual_hosts: [{ name, domains: ['*'], routes: [...routes] }],
                    },
                    http_filters: [
                      { name: 'router', typed_config: { '@type': `${FILTER_TYPE}.http.router.v3.Router` } },
                    ],
                    ...manager,
                  },
                },
              ],
              ...(match ? { filter_chain_match: match } : {}),
              ...(tls ? { transport_socket: { name: 'tls', typed_config: tls } } : {}),
            })),
          },
        })),
        [{ name: 'up', ports: [upstream] }],
      ),
    );
  });
  after(() => lab?.close());

  const ask = async (
    driver: Driver,
    address: string,
    name: string,
    { path, method = 'GET', headers = [] }: (typeof REQUESTS)[number],
    more: { readonly tls?: ClientTls; readonly from?: string } = {},
  ) => {
    const result = await driver.run({ ...one(address, ports[name]!, method, path, headers), ...more });
    return JSON.parse(JSON.stringify(outcome(result)).replaceAll(address, 'HERE')) as ReturnType<typeof outcome>;
  };

  const CLIENTS: readonly [string, string, () => { tls?: ClientTls; from?: string }][] = [
    ['tls', 'no name', () => ({ tls: {} })],
    ['tls', 'a name', () => ({ tls: { name: 'a.test' } })],
    ['alpn', 'no ALPN', () => ({ tls: { name: 'a.test' } })],
    ['alpn', 'HTTP/1.1 by ALPN', () => ({ tls: { protocols: ['http/1.1'] } })],
    ['edge', 'a name', () => ({ tls: { name: 'a.test' }, from: '127.0.0.9' })],
    ['mutual', 'a certificate', () => ({ tls: { ...client, name: 'a.test' } })],
    ['optional', 'no certificate', () => ({ tls: {} })],
    ['optional', 'a certificate', () => ({ tls: client })],
    ['chains', 'a.test', () => ({ tls: { name: 'a.test' } })],
    ['chains', 'b.test', () => ({ tls: { name: 'b.test', protocols: ['http/1.1'] } })],
    ['chains', 'plain text', () => ({})],
    ['sources', 'one address', () => ({ from: '127.9.0.1' })],
    ['sources', 'another', () => ({ from: '127.8.0.1' })],
  ];
  /** kinds of requests that were the proxy's for every client yet */
  const proxied = new Set<number>();
  for (const [at, [name, who, options]] of CLIENTS.entries()) {
    test(`listener ${name}, ${who}: every answer is Envoy’s`, async (t) => {
      let kernel = 0;
      for (const [i, what] of [...REQUESTS, { path: '/which' }].entries()) {
        const expected = await ask(both.alone, ALONE, name, what, options());
        assert.notEqual(expected.status, undefined, `${what.path}: ${expected.error}`);
        const text = `${JSON.stringify(what)}, ${i}`;
        const send = async () => assert.deepEqual(await ask(both.mesh, MESH, name, what, options()), expected, text);
        const sure = name !== 'sources' && (what.path === '/' || what.path === '/direct');
        const decided = await untilKernel(both.sidestep, send, sure || (proxied.has(i) && 'once'));
        if (decided) kernel++;
        if (decided) proxied.delete(i);
        else if (at === 0) proxied.add(i);
      }
      t.diagnostic(`${kernel} of ${REQUESTS.length + 1} kinds of requests are the kernel’s`);
      assert.ok(kernel >= 15, `the kernel decided about ${kernel} kinds of requests`);
    });
  }

  test('who has no certificate, or one of somebody else’s, is refused', async () => {
    for (const [name, tls] of [
      ['mutual', {}],
      ['mutual', stranger],
      ['optional', stranger],
      ['chains', { name: 'c.test' }],
    ] as const) {
      const at = async (driver: Driver, address: string) =>
        (await ask(driver, address, name, { path: '/direct' }, { tls })).status;
      assert.equal(await at(both.alone, ALONE), undefined, `${name} alone`);
      assert.equal(await at(both.mesh, MESH), undefined, name);
    }
  });

  test('many requests on one connection, the kernel’s and the proxy’s in turn', async () => {
    const paths = ['/', '/proxied', '/direct', '/moved', '/proxied', '/'];
    const exchanges = Array.from({ length: 60 }, (_, i) => ({
      pieces: [request(`GET ${paths[i % paths.length]} HTTP/1.1`)],
      methods: ['GET'],
    }));
    const before = (await both.sidestep.status()).requests.kernel;
    const result = await both.mesh.run({ address: MESH, port: ports.tls!, tls: {}, exchanges });
    const wanted = [200, 200, 418, 301, 200, 200];
    assert.deepEqual(
      result.answers.map(({ status }) => status),
      Array.from({ length: 60 }, (_, i) => wanted[i % wanted.length]),
      result.error,
    );
    const kernel = (await both.sidestep.status()).requests.kernel - before;
    assert.ok(kernel >= 36, `the kernel decided about ${kernel} of 40`);
  });

  test('curl: HTTP/2 where it is agreed on, HTTP/1.1 else', async () => {
    const curl = (address: string, name: string, ...more: string[]) =>
      runCommand([
        'curl',
        '-sk',
        ...more,
        ...['-o', '/dev/null', '-w', '%{http_version} %{http_code}', `https://${address}:${ports[name]}/direct`],
      ]);
    for (const [name, options] of [
      ['alpn', ['--http2']],
      ['alpn', ['--http1.1']],
      ['tls', ['--http2']],
    ] as const) {
      const expected = (await curl(ALONE, name, ...options)).stdout;
      assert.equal((await curl(MESH, name, ...options)).stdout, expected, `${name} ${options}`);
    }
    assert.equal((await curl(MESH, 'alpn', '--http2')).stdout, '2 418');
  });

  test('a connection obeys a new policy from its next request on', async () => {
    const file = join(lab.dir, 'tls.json');
    const direct = { pieces: [request('GET /direct HTTP/1.1')], methods: ['GET'] };
    const job = both.mesh.run({
      ...{ address: MESH, port: ports.tls!, tls: {}, timeoutMs: 60_000 },
      exchanges: Array.from({ length: 120 }, () => ({ ...direct, pauseMs: 40 })),
    });
    const { generation } = await both.sidestep.status();
    await writeFile(`${file}.new`, (await readFile(file, 'utf8')).replaceAll('"status":418', '"status":419'));
    await rename(`${file}.new`, file);
    await both.sidestep.generationAfter(generation);
    const statuses = (await job).answers.map(({ status }) => status);
    const first = statuses.indexOf(419);
    assert.ok(first > 0 && statuses.length === 120, `${first} of ${statuses.length}: ${(await job).error}`);
    assert.deepEqual([...new Set(statuses.slice(0, first))], [418]);
    assert.deepEqual([...new Set(statuses.slice(first))], [419], 'never back');
  });

  test('without the agent, Envoy goes on', async () => {
    const found = readInstance(both.sidestep.name);
    assert.ok(found.kind === 'running', found.kind);
    process.kill(found.state.pid, 'SIGKILL');
    await sleep(200);
    for (const [name, who, options] of CLIENTS) {
      for (const path of ['/', '/moved', '/which']) {
        const expected = await ask(both.alone, ALONE, name, { path }, options());
        assert.deepEqual(await ask(both.mesh, MESH, name, { path }, options()), expected, `${name} ${who} ${path}`);
      }
    }
  });
});
