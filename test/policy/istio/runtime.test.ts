/** What the translation means, asked of a real Envoy: requests through the listeners to a server that tells what it got. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { bootstrap, envoyBinary, translate } from './helpers.js';

const envoy = envoyBinary();

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, string | string[] | undefined>;
}

function send(port: number, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({ host: '127.0.0.1', port, path, method, headers: { host: 'web', ...headers } }, (res) => {
      let body = '';
      res.setEncoding('utf8');
      res.on('data', (chunk) => {
        body += chunk;
      });
      res.on('end', () => resolve({ status: res.statusCode ?? 0, body, headers: res.headers }));
    });
    req.on('error', reject);
    req.end();
  });
}

async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function upstream(name: string): Promise<Server> {
  const server = createServer((req, res) => res.end(`${name} ${req.method} ${req.url} ${req.headers.host}`));
  return new Promise((resolve) => server.listen(0, '0.0.0.0', () => resolve(server)));
}

const POLICIES = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web, version: v1}}
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: http, port: PORT1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other}
spec:
  hosts: [other.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: PORT2}, labels: {app: other}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - to: [{operation: {paths: [/secret*]}}]
  - when: [{key: 'request.headers[x-mark]', values: ['*']}]
  - to: [{operation: {paths: [/port], ports: ['PORT1']}}]
  - to: [{operation: {paths: [/service-port], ports: ['80']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: other}
spec: {selector: {matchLabels: {app: other}}, rules: [{to: [{operation: {methods: [POST]}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: mixed}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}], selector: {app: mixed}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mixed-1, labels: {kubernetes.io/service-name: mixed, version: v1}}
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: http, port: PORT1}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mixed-2, labels: {kubernetes.io/service-name: mixed, version: v2}}
endpoints: [{addresses: [127.0.0.2]}]
ports: [{name: http, port: PORT1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: half}
spec: {selector: {matchLabels: {app: mixed, version: v2}}, action: DENY, rules: [{}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /open}}]
    rewrite: {uri: /secret}
    route: [{destination: {host: web}}]
  - match: [{uri: {prefix: /secret/but}}]
    rewrite: {uri: /fine}
    route: [{destination: {host: web}}]
  - match: [{uri: {exact: /mark}}]
    headers: {request: {set: {x-mark: '1'}}}
    route: [{destination: {host: web}}]
  - match: [{uri: {exact: /other}}]
    route: [{destination: {host: other.test}}]
  - match: [{uri: {exact: /secret-redirect}}]
    redirect: {uri: /new, port: 8443}
  - match: [{withoutHeaders: {x-tag: {exact: a}}, uri: {exact: /without}}]
    directResponse: {status: 201, body: {string: without}}
  - match: [{queryParams: {q: {regex: '*'}}, uri: {exact: /query}}]
    directResponse: {status: 202}
  - match: [{uri: {exact: /nowhere}}]
    route: [{destination: {host: nowhere.test}}]
  - route: [{destination: {host: web}}]
`;

if (envoy) {
  let web: Server;
  let other: Server;
  let child: ChildProcess;
  const dir = mkdtempSync(join(tmpdir(), 'sidestep-istio-'));
  const ports: Record<string, number> = {};

  before(async () => {
    web = await upstream('web');
    other = await upstream('other');
    const port = (server: Server) => String((server.address() as AddressInfo).port);
    const text = POLICIES.replaceAll('PORT1', port(web)).replaceAll('PORT2', port(other));
    const resources = translate(text);
    assert.deepEqual(
      resources.diagnostics.filter((d) => d.severity === 'error'),
      [],
    );
    for (const listener of resources.listeners) {
      const { socket_address: address } = listener.address as {
        socket_address: { address: string; port_value: number };
      };
      address.address = '127.0.0.1';
      address.port_value = await freePort();
      ports[String(listener.name)] = address.port_value;
    }
    const file = join(dir, 'bootstrap.json');
    writeFileSync(file, JSON.stringify(bootstrap(resources)));
    child = spawn(envoy, ['-c', file, '--use-dynamic-base-id', '--concurrency', '1', '-l', 'error'], {
      stdio: 'ignore',
    });
    const listener = ports['outbound|80||web.default.svc.cluster.local'] ?? 0;
    for (let attempt = 0; attempt < 200; attempt++) {
      const up = await send(listener, '/').catch(() => undefined);
      if (up?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('Envoy does not answer');
  });

  after(() => {
    child?.kill('SIGKILL');
    web?.close();
    other?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    send(ports['outbound|80||web.default.svc.cluster.local'] ?? 0, path, headers, method);

  test("policies are enforced for the route's destination", async () => {
    assert.equal((await ask('/secret/x')).status, 403);
    assert.equal((await ask('/public')).body, 'web GET /public web');
    assert.equal((await ask('/x', { 'x-mark': 'anything' })).status, 403);
    assert.equal((await ask('/other')).status, 403);
    assert.equal((await ask('/other', {}, 'POST')).body, 'other POST /other web');
  });

  test('policies see what the route makes of the request', async () => {
    assert.equal((await ask('/open')).status, 403);
    assert.equal((await ask('/secret/but')).body, 'web GET /fine web');
    assert.equal((await ask('/mark')).status, 403);
  });

  test('ports of policies are those of the servers', async () => {
    assert.equal((await ask('/port')).status, 403);
    assert.equal((await ask('/service-port')).status, 200);
  });

  test("answers of the client's side are not subject to the server's policies", async () => {
    const redirect = await ask('/secret-redirect');
    assert.equal(redirect.status, 301);
    assert.equal(redirect.headers.location, 'http://web:8443/new');
  });

  test('matches on missing headers and on presence', async () => {
    assert.equal((await ask('/without')).status, 201);
    assert.equal((await ask('/without', { 'x-tag': 'a' })).status, 200);
    assert.equal((await ask('/without', { 'x-tag': 'b' })).status, 201);
    assert.equal((await ask('/query?q')).status, 202);
    assert.equal((await ask('/query?r=1')).status, 200);
  });

  test('hosts: ports are ignored, other services of the port are known, unknown ones stay where they were sent', async () => {
    assert.equal((await ask('/query?q', { host: 'web.default.svc:1234' })).status, 202);
    assert.equal((await ask('/x', { host: 'other.test' }, 'POST')).body, 'other POST /x other.test');
    assert.equal((await ask('/query?q', { host: 'www.example.com' })).body, 'web GET /query?q www.example.com');
    assert.equal((await ask('/secret', { host: 'www.example.com' })).status, 403);
  });

  test('a policy for some of the servers denies the requests that go to them', async () => {
    const seen = new Set<number>();
    const port = ports['outbound|80||mixed.default.svc.cluster.local'] ?? 0;
    for (let i = 0; i < 60; i++) seen.add((await send(port, '/', { host: 'mixed' })).status);
    assert.deepEqual([...seen].sort(), [200, 403]);
  });

  test('a destination that nobody describes answers 503', async () => {
    assert.equal((await ask('/nowhere')).status, 503);
  });
} else {
  test('runtime', { skip: 'no Envoy' }, () => {});
}
