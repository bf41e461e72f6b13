/** Servers that want TLS: the kernel decides, a relay in the proxy encrypts; what comes of it is what Envoy alone makes of it. */
import assert from 'node:assert/strict';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { createServer as createPlainServer } from 'node:http';
import { createServer, type Server, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { askControl } from '../../src/agent/control-client.js';
import { instanceFolder } from '../../src/kernel/instance.js';
import type { Driver } from '../../src/lab/driver.js';
import { type PlainCluster, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { Authority, type Certificate, readCertificate } from './certificates.js';
import { eventually } from './eventually.js';
import { untilKernel } from './in-kernel.js';
import { type SideBySide, sideBySide } from './side-by-side.js';
import { ALONE, MESH, request, skip } from './world.js';

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';

/** The host of the request is named in the handshake, and must be in the certificate. */
const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const BY_HOST: JsonObject = {
  typed_extension_protocol_options: {
    [OPTIONS]: {
      '@type': `type.googleapis.com/${OPTIONS}`,
      explicit_http_config: { http_protocol_options: {} },
      upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true },
    },
  },
};

interface Wants {
  readonly ca: Authority;
  /** name in the server's certificate */
  readonly san?: string;
  readonly sni?: string;
  readonly client?: Certificate;
}

function tlsTo({ ca, san, sni, client }: Wants): JsonObject {
  const files = ({ cert, key }: Certificate) => ({
    certificate_chain: { filename: cert },
    private_key: { filename: key },
  });
  return {
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': TLS,
        ...(sni ? { sni } : {}),
        // of a handshake that resumes a session Node tells no name
        max_session_keys: 0,
        common_tls_context: {
          tls_params: { tls_maximum_protocol_version: 'TLSv1_3' },
          ...(client ? { tls_certificates: [files(client)] } : {}),
          validation_context: {
            trusted_ca: { filename: ca.cert },
            ...(san ? { match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: san } }] } : {}),
          },
        },
      },
    },
  };
}

/** What the server has seen of the handshake and of the request. */
function serve(options: ServerOptions, at = 0): Promise<{ server: Server; port: number; opened: () => number }> {
  let connections = 0;
  const server = createServer({ ALPNProtocols: ['h2', 'http/1.1'], ...options }, (req, res) => {
    const socket = req.socket as TLSSocket;
    const peer = socket.getPeerCertificate?.().subject?.CN ?? '';
    let bytes = 0;
    req.on('data', (d: Buffer) => {
      bytes += d.length;
    });
    req.on('end', () => {
      if (req.url === '/reset') return void socket.destroy();
      const size = Number(/^\/bytes\/(\d+)$/.exec(req.url ?? '')?.[1] ?? 0);
      res.setHeader('x-seen', `sni=${socket.servername} alpn=${socket.alpnProtocol} peer=${peer} bytes=${bytes}`);
      res.setHeader('x-port', String(socket.remotePort));
      res.setHeader('x-gen', String(req.headers['x-gen'] ?? ''));
      if (req.url === '/chunks') {
        res.write('a'.repeat(100));
        setTimeout(() => res.end('b'.repeat(100)), 5);
      } else res.end(size ? 'x'.repeat(size) : 'ok');
    });
  });
  server.on('connection', () => connections++);
  server.on('tlsClientError', () => undefined);
  return new Promise((resolve) =>
    // both loopback addresses
    server.listen(at, '::', () =>
      resolve({ server, port: (server.address() as AddressInfo).port, opened: () => connections }),
    ),
  );
}

let lab: Lab;
let side: SideBySide;
let port: number;
let file: string;
let servers: Awaited<ReturnType<typeof serve>>[];
let plain: ReturnType<typeof createPlainServer>;
let bootstrapOf: (address: string, trust?: Authority) => JsonObject;
let ca: Authority;
let other: Authority;

before(async () => {
  if (skip) return;
  lab = await Lab.open('tls-servers');
  [ca, other] = await Promise.all([Authority.make(lab.dir, 'ca'), Authority.make(lab.dir, 'other')]);
  const own = await ca.sign('server', 'DNS:server.test');
  const [client, stranger] = [
    await ca.sign('client', 'DNS:client.test'),
    await other.sign('stranger', 'DNS:client.test'),
  ];
  const identity = await readCertificate(own);
  const mutual = { ...identity, requestCert: true, ca: (await readCertificate(ca)).cert };
  servers = [await serve(identity), await serve(mutual)];
  plain = createPlainServer((_, res) => void res.end('plain'));
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
  const [simple, asking] = servers.map((s) => s.port) as [number, number];
  port = await freePort();
  const nobody = await freePort();
  const right = { ca, san: 'server.test', sni: 'server.test' };
  bootstrapOf = (address, trust = ca) => {
    const clusters: PlainCluster[] = [
      { name: 'simple', ports: [simple], more: tlsTo({ ...right, ca: trust }) },
      { name: 'nameless', ports: [simple], more: tlsTo({ ca }) },
      { name: 'mutual', ports: [asking], more: tlsTo({ ...right, client }) },
      { name: 'wrong-ca', ports: [simple], more: tlsTo({ ...right, ca: other }) },
      { name: 'wrong-san', ports: [simple], more: tlsTo({ ...right, san: 'other.test' }) },
      { name: 'no-certificate', ports: [asking], more: tlsTo(right) },
      { name: 'refused-certificate', ports: [asking], more: tlsTo({ ...right, client: stranger }) },
      { name: 'not-tls', ports: [(plain.address() as AddressInfo).port], more: tlsTo(right) },
      { name: 'nobody', ports: [nobody], more: tlsTo(right) },
      { name: 'by-host', ports: [simple], more: { ...tlsTo({ ca }), ...BY_HOST } },
      { name: 'ipv6', ports: [simple], address: '::1', more: tlsTo(right) },
      {
        name: 'by-name',
        ports: [simple],
        address: 'localhost',
        more: { ...tlsTo(right), type: 'STRICT_DNS', dns_lookup_family: 'V4_ONLY' },
      },
      { name: 'one-of-two', ports: [simple, nobody], more: tlsTo(right) },
    ];
    const added = [{ header: { key: 'x-gen', value: 'edited' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }];
    const routes = clusters.map(({ name: cluster }) => ({
      match: { prefix: '/', headers: [{ name: 'x-to', string_match: { exact: cluster } }] },
      route: { cluster, timeout: '10s' },
      request_headers_to_add: added,
    }));
    const denied = { match: { path: '/denied' }, direct_response: { status: 403, body: { inline_string: 'no' } } };
    const log = {
      name: 'envoy.access_loggers.file',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
        path: logOf(address),
        log_format: {
          text_format_source: { inline_string: '%REQ(:PATH)% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS%\n' },
        },
      },
    };
    const manager = { access_log: [log] };
    const hosts = [
      { name: 'all', domains: ['*'], routes: [denied, ...routes] },
      {
        name: 'named',
        domains: ['server.test', `server.test:${port}`, 'other.test', 'rewritten.test'],
        routes: [
          { match: { path: '/rewritten' }, route: { cluster: 'by-host', host_rewrite_literal: 'server.test' } },
          { match: { prefix: '/' }, route: { cluster: 'by-host' } },
        ],
      },
    ];
    return plainBootstrap([{ name: 'test', address, port, hosts, manager }], clusters);
  };
  file = join(lab.dir, 'bootstrap.json');
  side = await sideBySide(lab, file, bootstrapOf);
});

after(async () => {
  if (skip) return;
  await lab?.close();
  for (const { server } of servers ?? []) {
    server.close();
    server.closeAllConnections();
  }
  plain?.close();
  plain?.closeAllConnections();
});

const logOf = (address: string): string => join(lab.dir, `${address}.log`);

async function ask(
  driver: Driver,
  address: string,
  cluster: string,
  path = '/',
  method = 'GET',
  body = '',
  more: [string, string][] = [],
) {
  const headers: [string, string][] = [['x-to', cluster], ...more];
  if (body) headers.push(['Content-Length', String(body.length)]);
  const pieces = [request(`${method} ${path} HTTP/1.1`, headers, body)];
  const job = { address, port, exchanges: [{ pieces, methods: [method] }] };
  const { answers, error } = await driver.run(job);
  const answer = answers[0];
  if (!answer) return { error };
  const header = (name: string) => answer.headers.find(([n]) => n.toLowerCase() === name)?.[1];
  const seenPort = header('x-port');
  if (seenPort) ports.set(path, seenPort);
  return { status: answer.status, body: answer.body, seen: header('x-seen'), gen: header('x-gen') };
}

/** the port that the server has seen, by path of the request */
const ports = new Map<string, string>();

const both = async (...request: [string, string?, string?, string?]) => ({
  mesh: await ask(side.mesh, MESH, ...request),
  alone: await ask(side.alone, ALONE, ...request),
});

for (const cluster of ['simple', 'nameless', 'mutual', 'ipv6', 'by-name'])
  test(`${cluster}: the kernel decides, and the server sees the same`, { skip, timeout: 60_000 }, async () => {
    const { alone } = await both(cluster);
    assert.equal(alone.status, 200, JSON.stringify(alone));
    for (const [path, method, body] of [
      ['/', 'GET'],
      ['/bytes/70000', 'GET'],
      ['/chunks', 'GET'],
      ['/', 'HEAD'],
      ['/', 'POST', 'b'.repeat(20_000)],
    ] as const) {
      const expected = await ask(side.alone, ALONE, cluster, path, method, body);
      const wanted = method === 'GET' && !path.includes('bytes') && path !== '/chunks';
      const inKernel = await untilKernel(
        side.sidestep,
        async () => assert.deepEqual(await ask(side.mesh, MESH, cluster, path, method, body), expected),
        wanted,
      );
      if (wanted) assert.ok(inKernel, `${method} ${path} is never the kernel's`);
    }
  });

test('the handshake names the host of the request', { skip, timeout: 60_000 }, async () => {
  const named = async (driver: Driver, address: string, host: string, path = '/') => {
    const got = await ask(driver, address, '', path, 'GET', '', [['Host', host]]);
    // hosts that differ in case alone share Envoy's connections: which name it was opened for is chance
    return { ...got, seen: got.seen?.toLowerCase() };
  };
  for (const [host, path, status, kernel] of [
    ['server.test', '/', 200, true],
    [`server.test:${port}`, '/', 200, true],
    ['rewritten.test', '/rewritten', 200, true],
    ['SERVER.test', '/', 200, false],
    ['other.test', '/', 503, false],
    ['rewritten.test', '/', 503, false],
  ] as const) {
    const expected = await named(side.alone, ALONE, host, path);
    assert.equal(expected.status, status, `${host}${path}`);
    const inKernel = await untilKernel(
      side.sidestep,
      async () => assert.deepEqual(await named(side.mesh, MESH, host, path), expected, host),
      kernel,
    );
    assert.equal(inKernel, kernel, `${host}${path}`);
  }
});

test('what a handshake ends with is what Envoy answers', { skip, timeout: 90_000 }, async () => {
  for (const cluster of ['wrong-ca', 'wrong-san', 'no-certificate', 'refused-certificate', 'not-tls', 'nobody']) {
    for (let i = 0; i < 12; i++) {
      const { mesh, alone } = await both(cluster);
      assert.equal(alone.status, 503, cluster);
      // the address of its own end is in some of Envoy's words
      assert.deepEqual(mesh, alone, `${cluster}, request ${i}`);
      await sleep(10);
    }
  }
});

test('access logs name the server, and the end that it has seen', { skip, timeout: 60_000 }, async () => {
  const inKernel = await untilKernel(
    side.sidestep,
    async () => void (await ask(side.mesh, MESH, 'simple', '/?logged')),
  );
  assert.ok(inKernel, 'it is never the kernel’s');
  const expected = `/?logged 127.0.0.1:${servers[0]!.port} 127.0.0.1:${ports.get('/?logged')}`;
  await eventually(async () => {
    const lines = (await readFile(logOf(MESH), 'utf8')).split('\n');
    assert.ok(lines.includes(expected), `${expected} is not among ${lines.slice(-5).join(', ')}`);
  });
});

test('an endpoint that is not there leaves its share to the proxy', { skip, timeout: 60_000 }, async () => {
  const statuses = { mesh: new Set<number>(), alone: new Set<number>() };
  for (let i = 0; i < 12; i++) {
    const { mesh, alone } = await both('one-of-two');
    statuses.mesh.add(mesh.status!);
    statuses.alone.add(alone.status!);
  }
  assert.deepEqual([...statuses.mesh].sort(), [200, 503]);
  assert.deepEqual([...statuses.alone].sort(), [200, 503]);
});

test('a server that ends the connection instead of an answer', { skip, timeout: 60_000 }, async () => {
  for (let i = 0; i < 5; i++) {
    const { mesh, alone } = await both('simple', '/reset');
    assert.deepEqual(mesh, alone);
    await untilKernel(side.sidestep, async () => void (await ask(side.mesh, MESH, 'simple')));
  }
});

test('nobody else gets through the relay', { skip, timeout: 60_000 }, async () => {
  const admin = await relayPort();
  const [{ opened }] = servers as [(typeof servers)[0]];
  const before = opened();
  const to = Buffer.alloc(12);
  to.set([127, 0, 0, 1, 127, 0, 0, 1]);
  to.writeUInt16BE(servers[0]!.port, 10);
  const header = (name: string): Buffer => {
    const tlv = Buffer.concat([Buffer.from([0xe0, 0, name.length]), Buffer.from(name)]);
    const length = Buffer.from([0, to.length + tlv.length]);
    return Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a2111', 'hex'), length, to, tlv]);
  };
  for (const bytes of [
    Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.concat([header('simple'), Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')]),
    header(''),
    header('0.0'),
  ]) {
    const got = await new Promise<string>((resolve) => {
      const socket = connect(admin, '127.0.0.1', () => void socket.write(bytes));
      let text = '';
      socket.on('data', (d) => {
        text += d.toString();
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(text));
    });
    assert.equal(got, '');
  }
  assert.equal(opened(), before, 'a connection was opened on behalf of a stranger');
});

/** The loopback port of the proxy's relays. */
async function relayPort(): Promise<number> {
  const admin = join(instanceFolder(side.sidestep.name), 'proxy', 'admin.sock');
  const text = await askControl(admin, '/listeners?format=json');
  const { listener_statuses: found } = JSON.parse(text) as {
    listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
  };
  return found.find((l) => l.name === 'sidestep-relays')!.local_address.socket_address.port_value;
}

test('the server restarts under load: every answer is its own, or what Envoy says', {
  skip,
  timeout: 60_000,
}, async () => {
  const [first] = servers as [(typeof servers)[0]];
  const identity = {
    port: first.port,
    options: await readCertificate({ cert: join(lab.dir, 'server.pem'), key: join(lab.dir, 'server.key') }),
  };
  let over = false;
  const wrong: unknown[] = [];
  let [good, refused] = [0, 0];
  const load = Array.from({ length: 4 }, async () => {
    while (!over) {
      const got = await ask(side.mesh, MESH, 'simple');
      if (got.status === 200 && Buffer.from(got.body!, 'base64').toString() === 'ok') good++;
      else if (got.status === 503) refused++;
      else wrong.push(got);
    }
  });
  for (let round = 0; round < 3; round++) {
    await untilKernel(side.sidestep, async () => undefined, false);
    const [now] = servers as [(typeof servers)[0]];
    now.server.close();
    now.server.closeAllConnections();
    await sleep(100);
    servers[0] = await serve(identity.options, identity.port);
  }
  const before = good;
  await eventually(async () => assert.ok(good > before + 50, 'no answers after the last restart'));
  over = true;
  await Promise.all(load);
  assert.deepEqual(wrong, []);
  assert.ok(refused > 0, 'no request met the restart');
  const last = await untilKernel(side.sidestep, async () => void (await ask(side.mesh, MESH, 'simple')));
  assert.ok(last, 'the kernel does not decide after the restarts');
});

test('a reload with another authority: the next request meets it', { skip, timeout: 60_000 }, async () => {
  const change = async (trust: Authority) => {
    const { generation } = await side.sidestep.status();
    await writeFile(`${file}.new`, JSON.stringify(bootstrapOf(MESH, trust)));
    await rename(`${file}.new`, file);
    await side.sidestep.generationAfter(generation);
  };
  await untilKernel(side.sidestep, async () => void (await ask(side.mesh, MESH, 'simple')));
  await change(other);
  const expected = await ask(side.alone, ALONE, 'wrong-ca');
  for (let i = 0; i < 5; i++) assert.deepEqual(await ask(side.mesh, MESH, 'simple'), expected);
  await change(ca);
  const back = await untilKernel(side.sidestep, async () => {
    assert.equal((await ask(side.mesh, MESH, 'simple')).status, 200);
  });
  assert.ok(back, 'the kernel does not decide after the second reload');
});
