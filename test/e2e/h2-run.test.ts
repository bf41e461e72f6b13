/** `sidestep run --http2`: whose requests of HTTP/2 the kernel decides, and that all are answered as by Envoy alone. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer as createPlain } from 'node:http';
import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hostOf, listenerOf, TYPE } from '../plan/resources.js';
import { type Call, callsOf } from './h2-calls.js';
import { untilKernel as untilKernelHas } from './in-kernel.js';
import { moved } from './istio-world.js';
import { ALONE, MESH, request, skip } from './world.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'h2-calls.ts');

/** The servers that a request with an id was made at. */
const seen = new Map<string, string[]>();

interface Server {
  readonly server: Http2Server;
  readonly port: number;
  readonly sessions: Set<ServerHttp2Session>;
}

/** A gRPC server that says who it is and what it was asked; /x.Break/… ends before it answers, in the way of the method. */
async function serve(name: string): Promise<Server> {
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('sessionError', () => undefined);
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    const path = headers[':path'] ?? '';
    if (path.includes('Break/Reset')) {
      stream.close(8);
      return;
    }
    if (path.includes('Break/Refuse')) {
      stream.close(7);
      return;
    }
    if (path.includes('Break/Close')) {
      stream.session?.destroy();
      return;
    }
    const id = String(headers['x-id'] ?? '');
    const tries = [...(seen.get(id) ?? []), name];
    if (id !== '') seen.set(id, tries);
    if (tries.length <= Number(headers['x-fails'] ?? 0)) {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' }, { endStream: true });
      return;
    }
    const told = [name, path, ...['x-set', 'x-add', 'x-gone', 'te'].map((key) => `${key}=${headers[key] ?? ''}`)].join(
      ' ',
    );
    const head = Buffer.alloc(5);
    head.writeUInt32BE(told.length, 1);
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    if (path.includes('Break/Late')) {
      stream.write(head, () => stream.close(8));
      return;
    }
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat([head, Buffer.from(told)]));
  });
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  return { server, sessions, port: (server.address() as AddressInfo).port };
}

function end({ server, sessions }: Server): void {
  for (const session of sessions) session.destroy();
  server.close();
}

const service = (name: string, ip: string, ...ports: number[]): string => `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { clusterIP: ${ip}, selector: { app: ${name} }, ports: [{ name: grpc, port: 80 }] }
---${ports
  .map(
    (port, i) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-${i}, labels: { kubernetes.io/service-name: ${name} } }
endpoints: [{ addresses: [127.0.1.${i + 1}] }]
ports: [{ name: grpc, port: ${port} }]
---`,
  )
  .join('')}`;

const policies = (one: number, two: number): string => `${service('calls', '10.96.178.1', one)}
${service('other', '10.96.178.2', two)}
${service('routed', '10.96.178.3', one)}
${service('pods', '10.96.178.4', one, two)}
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: pods }
spec: { host: pods, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: routed }
spec:
  parentRefs: [{ group: '', kind: Service, name: routed, port: 80 }]
  rules:
    - matches: [{ method: { service: x.Cart, method: Add } }]
      backendRefs: [{ name: other, port: 80 }]
    - backendRefs: [{ name: routed, port: 80 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: calls }
spec:
  hosts: [calls]
  http:
    - match: [{ uri: { prefix: /x.Moved/ } }]
      headers: { request: { set: { x-set: '1' }, add: { x-add: b }, remove: [x-gone] } }
      route: [{ destination: { host: other } }]
      retries: { attempts: 0 }
    - match: [{ uri: { prefix: /x.Told/ } }]
      headers: { response: { add: { x-answered: 'yes' } } }
      route: [{ destination: { host: calls } }]
      retries: { attempts: 0 }
    - match: [{ uri: { prefix: /x.Cart/ }, headers: { x-user: { exact: me } } }]
      route: [{ destination: { host: other } }]
      retries: { attempts: 0 }
    - match: [{ uri: { prefix: /x.Tried/ } }]
      route: [{ destination: { host: calls } }]
    - match: [{ uri: { prefix: /x.Pods/ } }]
      route: [{ destination: { host: pods } }]
    - match: [{ uri: { prefix: /x.No/ } }]
      directResponse: { status: 403 }
    - match: [{ uri: { prefix: /x. } }]
      route: [{ destination: { host: calls } }]
      retries: { attempts: 0 }
`;

/** What is called, whether the kernel decides. */
const CASES: readonly [path: string, kernel: boolean, headers?: Record<string, string>][] = [
  ['/x.Cart/Add', true],
  ['/x.Cart/Add', true, { 'x-user': 'me' }],
  ['/x.Moved/Any', true, { 'x-add': 'a', 'x-gone': 'x' }],
  ['/x.Cart/Add', true, { 'grpc-timeout': '10S' }],
  ['/x.Told/Any', true],
  ['/x.Tried/Any', true],
  ['/x.No/Any', true],
  ['/x.Cart/Any', false, { 'x-envoy-retry-grpc-on': 'unavailable', 'x-envoy-max-retries': '3' }],
  ['/else/Any', true],
  ['/x.Cart/Plain', true, { 'content-type': 'text/plain' }],
  ['/x.Break/Reset', true],
  ['/x.Cart/Add', true],
  ['/x.Break/Refuse', true],
  ['/x.Break/Reset', true, { 'content-type': 'text/plain' }],
  ['/x.Break/Late', true],
  ['/x.Break/Close', true],
];

type Calls = Awaited<ReturnType<typeof callsOf>>;

describe('run --http2', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let servers: Server[] = [];
  let mesh: SidestepHandle;
  let file = '';
  let inside: Calls;
  let alone: Calls;
  let routed: Calls[] = [];

  before(async () => {
    lab = await Lab.open('h2-run');
    servers = await Promise.all([serve('one'), serve('two')]);
    file = join(lab.dir, 'mesh.yaml');
    await writeFile(file, policies(servers[0]!.port, servers[1]!.port));
    const resources = await loadFiles([file]);
    const { bootstrap, at } = await moved(resources);
    [mesh] = await Promise.all([
      startSidestep(lab, [file], { args: ['--http2'] }),
      startEnvoy(lab, 'alone', bootstrap),
    ]);
    const { listener } = resources.intercepts.find((i) => i.address === '10.96.178.1' && i.port === 80)!;
    const start = async (place: string, command: (argv: string[]) => ReturnType<Lab['start']>): Promise<Calls> =>
      await callsOf(command([...nodeScript(CLIENT), place]));
    inside = await start('http://10.96.178.1:80', (argv) => mesh.start('client inside', argv, { stdin: true }));
    alone = await start(`http://127.0.0.2:${at.get(listener)}`, (argv) =>
      lab.start('client outside', argv, { stdin: true }),
    );
    const third = resources.intercepts.find((i) => i.address === '10.96.178.3' && i.port === 80)!.listener;
    routed = [
      await start('http://10.96.178.3:80', (argv) => mesh.start('client of routes', argv, { stdin: true })),
      await start(`http://127.0.0.2:${at.get(third)}`, (argv) => lab.start('routes outside', argv, { stdin: true })),
    ];
  });

  after(async () => {
    await lab?.close();
    for (const server of servers) end(server);
  });

  const streams = async () => (await mesh.status()).streams!;

  /** Connections to servers are opened when the client's has begun, and anew when they have ended. */
  async function untilKernel(call: Call): Promise<void> {
    for (const end = Date.now() + 15_000; ; await sleep(30)) {
      const { kernel } = await streams();
      await inside(call);
      if ((await streams()).kernel > kernel) return;
      assert.ok(Date.now() < end, `the kernel does not decide about ${call.path}`);
    }
  }

  test('calls are answered as by Envoy alone, and the kernel decides', async () => {
    for (const [path, kernel, headers] of CASES) {
      const call = { path, ...(headers ? { headers } : {}) };
      for (const plain of ['/x.Cart/Add', '/x.Moved/Any']) await untilKernel({ path: plain });
      const { hits } = await mesh.status();
      const before = await streams();
      const own = await inside(call);
      const after = await streams();
      assert.deepEqual(own, await alone(call), JSON.stringify(call));
      const decided = { kernel: after.kernel - before.kernel, proxy: after.proxy - before.proxy };
      const by = (await mesh.status()).hits.flatMap(({ route, requests }) => {
        const more = requests - (hits.find((known) => known.route === route)?.requests ?? 0);
        return more > 0 ? [[route, more]] : [];
      });
      // where there is no route, no rule decides
      const rules = kernel && path !== '/else/Any' ? 1 : 0;
      assert.ok(by.length === rules && by.every(([, n]) => n === 1), `${path} was decided by ${by}`);
      assert.deepEqual(decided, kernel ? { kernel: 1, proxy: 0 } : { kernel: 0, proxy: 1 }, JSON.stringify(call));
    }
  });

  test('what Istio tries again by itself, and a GRPCRoute', async () => {
    for (const { own, other, paths, most } of [
      { own: inside, other: alone, paths: ['/x.Tried/Any', '/x.Pods/Any'], most: 3 },
      // a GRPCRoute has no retries by itself
      { own: routed[0]!, other: routed[1]!, paths: ['/x.Cart/Add', '/x.Cart/Get'], most: 1 },
    ])
      for (const path of paths) {
        for (let { kernel } = await streams(); (await streams()).kernel === kernel; await sleep(30))
          await own({ path });
        for (const fails of [0, 1, 2, 3]) {
          const call = (who: string) => ({
            path,
            headers: { 'x-id': `${who} ${path} ${fails}`, 'x-fails': `${fails}` },
          });
          const { kernel } = await streams();
          const [mine, theirs] = [await own(call('own')), await other(call('alone'))];
          // of several servers, whose turn it is may differ
          const body = path.includes('Pods') ? '' : mine.body;
          assert.deepEqual({ ...mine, body }, { ...theirs, body: body && theirs.body }, `${path}, ${fails} failures`);
          assert.equal((await streams()).kernel - kernel, 1, `${path}: begun by the kernel`);
          const tries = ['own', 'alone'].map((who) => seen.get(call(who).headers['x-id']) ?? []);
          for (const at of tries) {
            assert.equal(at.length, Math.min(most, fails + 1), `${path}: tries`);
            assert.equal(
              new Set(at).size,
              path.includes('Pods') ? Math.min(2, at.length) : 1,
              `${path}: tried at ${at}`,
            );
          }
        }
      }
  });

  test('another policy counts for the next call of a client', async () => {
    await untilKernel({ path: '/x.Cart/Add' });
    const { generation } = await mesh.status();
    await writeFile(file, policies(servers[1]!.port, servers[0]!.port));
    await mesh.generationAfter(generation);
    assert.match((await inside({ path: '/x.Cart/Add' })).body, /two/);
    await untilKernel({ path: '/x.Cart/Add' });
    const { kernel } = await streams();
    assert.match((await inside({ path: '/x.Cart/Add' })).body, /two/);
    assert.equal((await streams()).kernel, kernel + 1);
  });

  test('a client that goes on while the instance stops is told, and the instance ends', async () => {
    assert.equal(await mesh.stop(), 0);
  });
});

const RBAC = {
  name: 'rbac',
  typed_config: {
    '@type': TYPE.rbac,
    rules: {
      action: 'DENY',
      policies: {
        elsewhere: {
          permissions: [{ url_path: { path: { prefix: '/x.Local' } } }],
          principals: [{ direct_remote_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } }],
        },
      },
    },
  },
};

/** Three listeners: the second has a rule about what the kernel does not see, clients of the third speak HTTP/2 alone. */
function bootstrap(address: string, ports: readonly number[], servers: readonly number[]): JsonObject {
  const to = (cluster: string, match: JsonObject): JsonObject => ({ match, route: { cluster, timeout: '0s' } });
  const listener = (i: number, routes: JsonObject[], hcm: JsonObject = {}): JsonObject => ({
    ...listenerOf([hostOf(routes)], { name: `l${i}`, hcm: { stream_idle_timeout: '0s', ...hcm }, filters: [RBAC] }),
    address: { socket_address: { address, port_value: ports[i]! } },
  });
  const cluster = (name: string, port: number, options: JsonObject): JsonObject => ({
    name,
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }] },
      ],
    },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': TYPE.protocolOptions,
        explicit_http_config: options,
      },
    },
  });
  const rest = [to('plain', { prefix: '/plain' }), to('two', { prefix: '/' })];
  const te = { prefix: '/', headers: [{ name: 'te', string_match: { exact: 'trailers' } }] };
  return {
    static_resources: {
      listeners: [
        listener(0, [to('one', { prefix: '/', grpc: {} }), ...rest]),
        listener(1, [to('one', te), to('two', { prefix: '/' })]),
        listener(2, [to('one', { prefix: '/' })], { codec_type: 'HTTP2' }),
      ],
      clusters: [
        cluster('one', servers[0]!, { http2_protocol_options: {} }),
        cluster('two', servers[1]!, { http2_protocol_options: {} }),
        cluster('plain', servers[2]!, { http_protocol_options: {} }),
      ],
    },
  };
}

describe('run --http2 with a bootstrap', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let servers: Server[] = [];
  const plain = createPlain((request, response) => response.end(`plain ${request.url}`));
  let ports: number[] = [];
  let mesh: SidestepHandle;

  before(async () => {
    lab = await Lab.open('h2-bootstrap');
    servers = await Promise.all([serve('one'), serve('two')]);
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
    ports = [await freePort(), await freePort(), await freePort()];
    const behind = [...servers.map(({ port }) => port), (plain.address() as AddressInfo).port];
    const file = join(lab.dir, 'mesh.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH, ports, behind)));
    [mesh] = await Promise.all([
      startSidestep(lab, [file], { args: ['--http2'] }),
      startEnvoy(lab, 'alone', bootstrap(ALONE, ports, behind)),
    ]);
  });

  after(async () => {
    await lab?.close();
    for (const server of servers) end(server);
    plain.close();
  });

  const streams = async () => (await mesh.status()).streams!;
  const both = async (port: number): Promise<Calls[]> => [
    await callsOf(mesh.start(`inside ${port}`, [...nodeScript(CLIENT), `http://${MESH}:${port}`], { stdin: true })),
    await callsOf(lab.start(`outside ${port}`, [...nodeScript(CLIENT), `http://${ALONE}:${port}`], { stdin: true })),
  ];
  const TEXT = { 'content-type': 'text/plain' };
  const cases: readonly [port: 0 | 1 | 2, path: string, kernel: boolean, headers?: Record<string, string>][] = [
    [0, '/a', true],
    [0, '/a', true, TEXT],
    [0, '/a', true, { 'content-type': 'application/grpc+proto' }],
    [0, '/a', true, { 'content-type': 'application/grpc-web' }],
    [0, '/x.Local', true],
    [0, '/plain', false, TEXT],
    [1, '/a', false],
    [2, '/a', true],
  ];

  test('gRPC is told from other requests, and the proxy gets what it must', async () => {
    for (const port of [0, 1, 2] as const) {
      const [inside, alone] = (await both(ports[port]!)) as [Calls, Calls];
      if (port !== 1)
        for (const headers of [{}, TEXT])
          for (let before = (await streams()).kernel; (await streams()).kernel === before; await sleep(20))
            await inside({ path: '/a', headers });
      for (const [of, path, kernel, headers] of cases) {
        if (of !== port) continue;
        const call = { path, ...(headers ? { headers } : {}) };
        const before = (await streams()).kernel;
        assert.deepEqual(await inside(call), await alone(call), JSON.stringify(call));
        assert.equal((await streams()).kernel - before, kernel ? 1 : 0, JSON.stringify(call));
      }
    }
  });

  test('many at once', async () => {
    const [inside, alone] = (await both(ports[2]!)) as [Calls, Calls];
    for (let before = (await streams()).kernel; (await streams()).kernel === before; await sleep(20))
      await inside({ path: '/a' });
    const before = await streams();
    const expected = await alone({ path: '/a' });
    for (const called of await Promise.all(Array.from({ length: 500 }, () => inside({ path: '/a' }))))
      assert.deepEqual(called, expected);
    assert.deepEqual(await streams(), { kernel: before.kernel + 500, proxy: before.proxy });
  });

  test('HTTP/1.1 to the same listener goes on as ever', async () => {
    const driver = await Driver.of(mesh.start('HTTP/1.1 inside', RAW_CLIENT, { stdin: true }));
    const before = await streams();
    const kernel = await untilKernelHas(mesh, async () => {
      const pieces = [request('GET /plain/a HTTP/1.1', [['Host', 'calls']])];
      const result = await driver.run({ address: MESH, port: ports[0]!, exchanges: [{ pieces, methods: ['GET'] }] });
      assert.equal(result.answers[0]?.status, 200, JSON.stringify(result));
    });
    assert.ok(kernel, 'decided by the kernel');
    assert.deepEqual(await streams(), before);
  });
});
