/** Routes of Services and of gateways end to end: what a client in the mesh sees is what Envoy alone shows it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Ask, IstioWorld, outcome, service, type Upstream } from './istio-world.js';
import { skip } from './world.js';

function policies([v1, v2]: readonly Upstream[]): string {
  return `${service('web', 'clusterIP: 10.96.178.1', [v1!])}
${service('next', 'clusterIP: 10.96.178.2', [v2!])}
${service('ingress', 'clusterIP: 10.96.178.3', [])}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: mesh }
spec:
  parentRefs: [{ group: '', kind: Service, name: web }]
  rules:
    - matches: [{ path: { value: /next } }, { headers: [{ name: X-Canary, value: 'yes' }] }]
      backendRefs: [{ name: next, port: 80 }]
    - matches: [{ path: { value: /strip } }]
      filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } }]
      backendRefs: [{ name: web, port: 80 }]
    - matches: [{ path: { value: /full }, queryParams: [{ name: q, value: v }] }]
      filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: '/one\\\\1' } } }]
      backendRefs: [{ name: web, port: 80 }]
    - matches: [{ path: { value: /headers } }]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier:
            { set: [{ name: x-set, value: '100%' }], add: [{ name: x-add, value: b }], remove: [x-remove] }
      backendRefs: [{ name: web, port: 80 }]
    - matches: [{ path: { value: /moved } }]
      filters:
        - type: RequestRedirect
          requestRedirect: { scheme: https, path: { type: ReplacePrefixMatch, replacePrefixMatch: /new }, statusCode: 301 }
    - matches: [{ path: { value: /nobody } }]
      backendRefs: [{ name: nobody, port: 80 }]
    - matches: [{ path: { value: /half } }]
      backendRefs: [{ name: nobody, port: 80 }, { name: web, port: 80, weight: 0 }]
    - matches: [{ path: { value: /share } }]
      backendRefs: [{ name: nobody, port: 80 }, { name: web, port: 80 }]
    - matches: [{ path: { type: Exact, value: / } }, { path: { type: RegularExpression, value: '/r[0-9]+' } }]
      backendRefs: [{ name: web, port: 80 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: any
  listeners:
    - { name: wide, port: 80, protocol: HTTP, hostname: '*.example.com' }
    - { name: narrow, port: 80, protocol: HTTP, hostname: www.example.com }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: wide }
spec:
  parentRefs: [{ name: edge, sectionName: wide }]
  rules: [{ matches: [{ path: { value: /a } }], backendRefs: [{ name: web, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: shop }
spec:
  parentRefs: [{ name: edge }]
  hostnames: [shop.example.com]
  rules: [{ matches: [{ path: { value: /a/b }, method: POST }], backendRefs: [{ name: next, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: narrow }
spec:
  parentRefs: [{ name: edge, sectionName: narrow }]
  rules: [{ backendRefs: [{ name: next, port: 80 }] }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: istio }
spec:
  selector: { app: ingress }
  servers:
    - { port: { number: 80, name: http, protocol: HTTP }, hosts: ['*.istio.test'] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catch-all, creationTimestamp: '2024-01-01T00:00:00Z' }
spec: { hosts: [www.istio.test], gateways: [istio], http: [{ route: [{ destination: { host: web } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: part, creationTimestamp: '2024-02-01T00:00:00Z' }
spec:
  hosts: ['*.istio.test', www.istio.test]
  gateways: [istio]
  http:
    - match: [{ uri: { prefix: /part } }]
      route: [{ destination: { host: next } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ingress }
spec:
  selector: { matchLabels: { app: ingress } }
  action: DENY
  rules:
    - to: [{ operation: { paths: [/admin*] } }]
    - from: [{ source: { remoteIpBlocks: [127.0.0.0/8] } }]
      to: [{ operation: { paths: [/part/by-address] } }]
`;
}

const EDGE = { to: 'edge.default.gateway' };
const INGRESS = { to: 'ingress' };
/** upstream '': an answer of the mesh's own; kernel: who is to decide once servers are connected. */
const CASES: readonly [what: string, ask: Ask, status: number, upstream: string, kernel?: false][] = [
  ['an exact path', { host: 'web', path: '/' }, 200, 'v1'],
  ['any host at the service’s address', { host: 'else.test', to: 'web', path: '/r1' }, 200, 'v1'],
  ['a path that no route has', { host: 'web', path: '/unknown' }, 404, '', false],
  ['the other service', { host: 'web', path: '/next/x' }, 200, 'v2'],
  ['no part of a path element', { host: 'web', path: '/nextdoor' }, 404, '', false],
  ['by header', { host: 'web', path: '/', headers: [['x-canary', 'yes']] }, 200, 'v1'],
  ['by header, where the path is no better', { host: 'web', path: '/zzz', headers: [['x-canary', 'yes']] }, 200, 'v2'],
  ['a prefix taken away', { host: 'web', path: '/strip/x/y?z=1' }, 200, 'v1'],
  ['a prefix that is all', { host: 'web', path: '/strip' }, 200, 'v1'],
  ['a prefix with a slash', { host: 'web', path: '/strip/' }, 200, 'v1'],
  ['a full path', { host: 'web', path: '/full/x?q=v' }, 200, 'v1'],
  ['headers', { host: 'web', path: '/headers', headers: [['x-remove', 'a']] }, 200, 'v1'],
  ['a redirect', { host: 'web', path: '/moved/x?y=z' }, 301, ''],
  ['a backend that is not there', { host: 'web', path: '/nobody' }, 500, ''],
  ['a backend that is not there and one without weight', { host: 'web', path: '/half' }, 500, ''],
  ['a gateway: its wide listener', { ...EDGE, host: 'any.example.com', path: '/a/b' }, 200, 'v1'],
  [
    'a gateway: the route with the host',
    { ...EDGE, host: 'shop.example.com', method: 'POST', path: '/a/b' },
    200,
    'v2',
  ],
  ['a gateway: no route of a wider host', { ...EDGE, host: 'shop.example.com', path: '/a/b' }, 404, '', false],
  ['a gateway: its narrow listener', { ...EDGE, host: 'www.example.com', path: '/a' }, 200, 'v2'],
  ['a gateway: no such host', { ...EDGE, host: 'example.org', path: '/a' }, 404, '', false],
  ['Istio’s gateway: the older route, after the other', { ...INGRESS, host: 'www.istio.test', path: '/x' }, 200, 'v1'],
  ['Istio’s gateway: the newer route', { ...INGRESS, host: 'www.istio.test', path: '/part/1' }, 200, 'v2'],
  ['Istio’s gateway: a wildcard', { ...INGRESS, host: 'b.istio.test', path: '/part' }, 200, 'v2'],
  ['Istio’s gateway: denied', { ...INGRESS, host: 'b.istio.test', path: '/admin/1' }, 403, ''],
  [
    'Istio’s gateway: denied by address, whatever the client says of it',
    { ...INGRESS, host: 'b.istio.test', path: '/part/by-address', headers: [['x-forwarded-for', '192.0.2.1']] },
    403,
    '',
  ],
];

describe('Gateway API and gateways', { skip, timeout: 200_000 }, () => {
  let world: IstioWorld;

  before(async () => {
    world = await IstioWorld.open('gateway-api');
    await world.write(policies(await world.upstreams('v1', 'v2')));
    await world.start();
  });
  after(() => world?.close());

  for (const [what, ask, status, upstream] of CASES) {
    test(what, async () => {
      const alone = outcome(await world.alone(ask));
      assert.deepEqual([alone.status, alone.upstream], [status, upstream], `Envoy alone: ${JSON.stringify(alone)}`);
      // twice: the first may go through the proxy while upstreams are connected
      for (let i = 0; i < 2; i++) assert.deepEqual(outcome(await world.mesh(ask)), alone);
    });
  }

  test('the share of a backend that is not there is answered 500', async () => {
    for (const via of ['alone', 'mesh'] as const) {
      const seen = new Set<number | undefined>();
      for (let i = 0; i < 40; i++) seen.add(outcome(await world[via]({ host: 'web', path: '/share' })).status);
      assert.deepEqual([...seen].sort(), [200, 500], via);
    }
  });

  test('what check says is the kernel’s is decided there', async (t) => {
    const cases = CASES.filter(([, , , , kernel]) => kernel !== false);
    const before = (await world.sidestep.status()).requests;
    for (let i = 0; i < 5; i++) for (const [, ask] of cases) await world.mesh(ask);
    const after = (await world.sidestep.status()).requests;
    const kernel = after.kernel - before.kernel;
    const all = kernel + (after.proxy - before.proxy) + (after.agent - before.agent);
    t.diagnostic(`${kernel} of ${all} requests in the kernel`);
    assert.ok(all >= 5 * cases.length, `${all} requests were counted`);
    assert.ok(kernel / all > 0.9, JSON.stringify({ before, after }));
  });
});
