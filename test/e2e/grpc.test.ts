/** GRPCRoutes end to end: gRPC over HTTP/2 through Sidestep reaches the proxy, and is what Envoy alone makes of it. */
import assert from 'node:assert/strict';
import { createServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { nodeScript } from '../../src/lab/paths.js';
import { type Call, type Called, call } from './grpc-client.js';
import { IstioWorld } from './istio-world.js';
import { skip } from './world.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'grpc-client.ts');
/** Headers that the server tells of. */
const TOLD = ['x-set', 'x-add', 'x-gone'];

/** A gRPC server that answers each call with one message: who it is, what it was asked. */
function serve(name: string): Promise<Http2Server> {
  const server = createServer();
  server.on('stream', (stream, headers) => {
    const told = [name, headers[':path'], ...TOLD.map((key) => `${key}=${headers[key] ?? ''}`)].join(' ');
    const head = Buffer.alloc(5);
    head.writeUInt32BE(told.length, 1);
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat([head, Buffer.from(told)]));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

const policies = (one: number, two: number) => `
apiVersion: v1
kind: Service
metadata: { name: calls }
spec: { clusterIP: 10.96.179.1, selector: { app: calls }, ports: [{ name: grpc, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: calls-1, labels: { kubernetes.io/service-name: calls } }
endpoints: [{ addresses: [127.0.0.1] }]
ports: [{ name: grpc, port: ${one} }]
---
apiVersion: v1
kind: Service
metadata: { name: other }
spec: { clusterIP: 10.96.179.2, selector: { app: other }, ports: [{ name: any, port: 50051 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: other-1, labels: { kubernetes.io/service-name: other } }
endpoints: [{ addresses: [127.0.0.1] }]
ports: [{ name: any, port: ${two} }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: calls }
spec:
  parentRefs: [{ group: '', kind: Service, name: calls }]
  rules:
    - matches: [{ method: { method: Get } }, { method: { type: RegularExpression, service: 'shop\\..*', method: 'A|B' } }]
      backendRefs: [{ name: other, port: 50051 }]
    - matches: [{ method: { service: shop.Cart } }, { method: { service: shop.Cart, method: A } }]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: { set: [{ name: x-set, value: '1' }], add: [{ name: x-add, value: b }], remove: [x-gone] }
        - type: ResponseHeaderModifier
          responseHeaderModifier: { add: [{ name: x-answered, value: 'yes' }] }
      backendRefs: [{ name: calls, port: 80 }]
    - matches: [{ method: { service: shop.Cart, method: A }, headers: [{ name: x-user, value: me }] }]
      backendRefs: [{ name: other, port: 50051 }]
    - matches: [{ method: { service: shop.Nobody } }]
    - matches: [{ method: { service: shop.Half } }]
      backendRefs: [{ name: nobody, port: 80 }, { name: nothing, port: 80 }]
`;

/** What is called; who answers ('': the mesh itself), with what status of gRPC. */
const CASES: readonly [what: string, path: string, server: string, status: string, headers?: Call['headers']][] = [
  ['a service', '/shop.Cart/Add', 'one', '0', { 'x-add': 'a', 'x-gone': 'x' }],
  ['a service goes before a method', '/shop.Cart/Get', 'one', '0'],
  ['a method of any service', '/any.Thing/Get', 'two', '0'],
  ['a regular expression with alternatives', '/shop.List/B', 'two', '0'],
  ['names go before regular expressions', '/shop.Cart/A', 'one', '0'],
  ['more headers go before both', '/shop.Cart/A', 'two', '0', { 'x-user': 'me' }],
  ['the alternatives are of the method only', '/else/B', '', '12'],
  ['no backend: UNAVAILABLE', '/shop.Nobody/Get', '', '14'],
  ['no backend that is there: UNAVAILABLE', '/shop.Half/Do', '', '14'],
];

describe('gRPC', { skip, timeout: 120_000 }, () => {
  let world: IstioWorld;
  const servers: Http2Server[] = [];
  let mesh: Called[] = [];

  before(async () => {
    servers.push(await serve('one'), await serve('two'));
    const [one = 0, two = 0] = servers.map((server) => (server.address() as AddressInfo).port);
    world = await IstioWorld.open('grpc');
    await world.write(policies(one, two));
    await world.start();
    const address = world.address('calls');
    const calls = CASES.map(
      ([, path, , , headers]): Call => ({ address, port: 80, host: 'calls', path, ...(headers ? { headers } : {}) }),
    );
    const { code, stdout, stderr } = await world.sidestep.run([...nodeScript(CLIENT), JSON.stringify(calls)]);
    assert.equal(code, 0, stderr);
    mesh = JSON.parse(stdout) as Called[];
  });

  after(async () => {
    await world?.close();
    for (const server of servers) server.close();
  });

  for (const [i, [what, path, server, status, headers]] of CASES.entries()) {
    test(`${what}: ${path}`, async () => {
      const place = world.placeAlone('calls');
      const alone = await call({ ...place, host: 'calls', path, ...(headers ? { headers } : {}) });
      assert.equal(alone.grpcStatus, status, JSON.stringify(alone));
      assert.equal(alone.body.split(' ')[0], server);
      assert.deepEqual(mesh[i], alone);
    });
  }
});
