/** Istio's files end to end: what a client in the mesh sees is what Envoy alone, given the same resources, shows it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { type Ask, IstioWorld, outcome, service, subsets, type Upstream } from './istio-world.js';
import { skip } from './world.js';

function policies([v1, v2, ratings, partner, six, admin]: readonly Upstream[]): string {
  return `${service('reviews', 'clusterIP: 10.96.179.1', [v1!, v2!])}
${service('ratings', 'clusterIP: None', [ratings!])}
${service('admin', 'clusterIP: 10.96.179.3', [admin!])}
${service('six', 'clusterIP: "fd00:96::179:4"', [six!])}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partner }
spec:
  hosts: [api.partner.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: ${partner!.port} }]
  endpoints: [{ address: ${partner!.address} }]
${subsets('reviews', 'v1', 'v2')}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: [reviews]
  http:
    - match: [{ headers: { x-user-group: { exact: beta } } }]
      route: [{ destination: { host: reviews, subset: v2 } }]
    - match: [{ uri: { prefix: /pinned/ } }]
      rewrite: { uri: /v1/ }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { prefix: /none-and-all } }]
      route:
        - { destination: { host: reviews, subset: v1 }, weight: 0 }
        - { destination: { host: reviews, subset: v2 }, weight: 100 }
    - match: [{ uri: { regex: "/items/[0-9]+/.*" } }]
      rewrite: { uriRegexRewrite: { match: "^/items/([0-9]+)/(.*)$", rewrite: "/\\\\2/of/\\\\1" } }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { exact: /host } }]
      rewrite: { authority: other.example }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { prefix: /old } }]
      redirect: { authority: shop.example, uri: /new, redirectCode: 302 }
    - match: [{ uri: { exact: /robots.txt } }]
      directResponse: { status: 200, body: { string: "User-agent: *\\n" } }
    - match: [{ uri: { exact: /gone } }]
      directResponse: { status: 410 }
    - match: [{ uri: { prefix: /edit } }]
      headers:
        request:
          set: { x-tenant: demo }
          add: { x-list: added }
          remove: [x-debug]
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { prefix: /answer-edited } }]
      headers: { response: { set: { x-answer: "yes" } } }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { prefix: /abort } }]
      fault: { abort: { httpStatus: 418, percentage: { value: 100 } } }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ uri: { prefix: /slow } }]
      timeout: 0.4s
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ method: { exact: PUT }, queryParams: { kind: { exact: a } } }]
      route: [{ destination: { host: reviews, subset: v2 } }]
    - match: [{ uri: { prefix: /ratings } }]
      route: [{ destination: { host: ratings } }]
    - match: [{ uri: { prefix: /nowhere } }]
      route: [{ destination: { host: reviews, subset: v9 } }]
    - route: [{ destination: { host: reviews, subset: v1 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: admin }
spec:
  hosts: [admin]
  http:
    - match: [{ uri: { prefix: /aborted } }]
      fault: { abort: { httpStatus: 500, percentage: { value: 100 } } }
      route: [{ destination: { host: admin } }]
    - match: [{ uri: { prefix: /api/unharmed } }]
      fault: { abort: { httpStatus: 500, percentage: { value: 0 } } }
      route: [{ destination: { host: admin } }]
    - route: [{ destination: { host: admin } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: admin-deny }
spec:
  selector: { matchLabels: { app: admin } }
  action: DENY
  rules:
    - to: [{ operation: { methods: [DELETE] } }]
    - to: [{ operation: { paths: [/secret*] } }]
      when: [{ key: "request.headers[x-role]", notValues: [boss] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: admin-allow }
spec:
  selector: { matchLabels: { app: admin } }
  action: ALLOW
  rules:
    - to: [{ operation: { paths: [/api/*, /secret*], methods: [GET, POST, DELETE] } }]
`;
}

const REVIEWS = { host: 'reviews' };
/** upstream '': an answer of the mesh's own. */
const CASES: readonly [what: string, ask: Ask, status: number, upstream: string][] = [
  ['default', { ...REVIEWS, path: '/' }, 200, 'v1'],
  ['a query', { ...REVIEWS, path: '/a/b?c=d&e' }, 200, 'v1'],
  ['a longer name', { host: 'reviews.default.svc.cluster.local', path: '/' }, 200, 'v1'],
  ['a name with a port', { host: 'reviews:80', path: '/' }, 200, 'v1'],
  ['a subset by header', { ...REVIEWS, path: '/', headers: [['x-user-group', 'beta']] }, 200, 'v2'],
  ['another value of the header', { ...REVIEWS, path: '/', headers: [['x-user-group', 'betas']] }, 200, 'v1'],
  ['a weight of 100', { ...REVIEWS, path: '/none-and-all' }, 200, 'v2'],
  ['a prefix rewritten', { ...REVIEWS, path: '/pinned/x?y=z' }, 200, 'v1'],
  ['a path rewritten by regex', { ...REVIEWS, path: '/items/42/list' }, 200, 'v1'],
  ['the host rewritten', { ...REVIEWS, path: '/host' }, 200, 'v1'],
  ['a redirect', { ...REVIEWS, path: '/old/page?a=b' }, 302, ''],
  ['a direct response', { ...REVIEWS, path: '/robots.txt' }, 200, ''],
  ['a direct response without body', { ...REVIEWS, path: '/gone' }, 410, ''],
  [
    'headers added and removed',
    {
      ...REVIEWS,
      path: '/edit',
      headers: [
        ['x-debug', '1'],
        ['x-list', 'own'],
        ['x-tenant', 'mine'],
      ],
    },
    200,
    'v1',
  ],
  ['an answer edited', { ...REVIEWS, path: '/answer-edited' }, 200, 'v1'],
  ['a fault', { ...REVIEWS, path: '/abort/x' }, 418, ''],
  ['a timeout', { ...REVIEWS, path: '/slow/sleep/2000' }, 504, ''],
  ['in time', { ...REVIEWS, path: '/slow/sleep/1' }, 200, 'v1'],
  ['method and query parameter', { ...REVIEWS, method: 'PUT', path: '/x?kind=a', body: 'text' }, 200, 'v2'],
  ['another method', { ...REVIEWS, method: 'POST', path: '/x?kind=a', body: 'text' }, 200, 'v1'],
  ['HEAD', { ...REVIEWS, method: 'HEAD', path: '/robots.txt' }, 200, ''],
  ['another service', { ...REVIEWS, path: '/ratings/1' }, 200, 'ratings'],
  ['a subset that is not there', { ...REVIEWS, path: '/nowhere' }, 503, ''],
  ['a name that is not the listener’s', { host: 'ratings', path: '/ratings/1' }, 200, 'ratings'],
  ['a service outside', { host: 'api.partner.example', path: '/v1' }, 200, 'partner'],
  ['an IPv6 service', { host: 'six', path: '/v6' }, 200, 'six'],
  ['allowed', { host: 'admin', path: '/api/x' }, 200, 'admin'],
  ['a fault before it is denied', { host: 'admin', path: '/aborted' }, 500, ''],
  ['a fault for nobody', { host: 'admin', path: '/api/unharmed' }, 200, 'admin'],
  ['denied by method', { host: 'admin', method: 'DELETE', path: '/api/x' }, 403, ''],
  ['not allowed by path', { host: 'admin', path: '/else' }, 403, ''],
  ['denied by header', { host: 'admin', path: '/secret/1' }, 403, ''],
  ['not denied by header', { host: 'admin', path: '/secret/1', headers: [['x-role', 'boss']] }, 200, 'admin'],
  ['not allowed by method', { host: 'admin', method: 'PUT', path: '/api/x', body: 'a' }, 403, ''],
];

describe('Istio policies', { skip, timeout: 240_000 }, () => {
  let world: IstioWorld;
  let upstreams: Upstream[];

  before(async () => {
    world = await IstioWorld.open('istio');
    upstreams = await world.upstreams('v1', 'v2', 'ratings', 'partner', 'six', 'admin');
    await world.write(policies(upstreams));
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

  test('nearly all is decided in the kernel', async (t) => {
    const before = (await world.sidestep.status()).requests;
    for (let i = 0; i < 5; i++) {
      for (const [, ask] of CASES) await world.mesh(ask);
    }
    const after = (await world.sidestep.status()).requests;
    const kernel = after.kernel - before.kernel;
    const all = kernel + (after.proxy - before.proxy) + (after.agent - before.agent);
    t.diagnostic(`${kernel} of ${all} requests in the kernel (${((100 * kernel) / all).toFixed(1)}%)`);
    assert.ok(all >= 5 * CASES.length, `${all} requests were counted`);
    assert.ok(kernel / all > 0.8, JSON.stringify({ before, after }));
  });

  test('names resolve to the mesh’s addresses, for programs that know nothing of it', async () => {
    for (const name of ['reviews', 'ratings.default', 'api.partner.example', 'six']) {
      const path = name === 'api.partner.example' || name === 'six' ? '/curl' : '/ratings/curl';
      const { stdout, stderr } = await world.sidestep.run([
        ...['curl', '-sS', '-m', '10', '-w', '\n%{http_code} %{remote_ip}', `http://${name}${path}`],
      ]);
      const [body = '', end] = stdout.split('\n');
      assert.equal(end, `200 ${world.address(name)}`, stderr);
      assert.equal((JSON.parse(body) as { target: string }).target, path);
    }
    // given by the mesh: neither document says one
    assert.match(world.address('ratings'), /^240\.240\./);
    assert.match(world.address('api.partner.example'), /^240\.240\./);
  });

  test('getpeername says the address that was asked for', async () => {
    const program = `
import socket, sys
for host, family in (('reviews', socket.AF_INET), ('six', socket.AF_INET6), ('api.partner.example', socket.AF_INET)):
    s = socket.socket(family); s.connect((socket.getaddrinfo(host, 80, family)[0][4]))
    s.sendall(b'GET /robots.txt HTTP/1.1\\r\\nHost: ' + host.encode() + b'\\r\\n\\r\\n')
    s.recv(10); print(host, s.getpeername()[0], s.getpeername()[1])
s = socket.socket(socket.AF_INET6); s.connect(('::ffff:' + socket.gethostbyname('reviews'), 80))
s.sendall(b'GET /robots.txt HTTP/1.1\\r\\nHost: reviews\\r\\n\\r\\n')
s.recv(10); print('mapped', s.getpeername()[0], s.getpeername()[1])
`;
    const r = await world.sidestep.run(['python3', '-c', program], { timeoutMs: 20_000 });
    assert.deepEqual(
      r.stdout.trim().split('\n'),
      [
        `reviews ${world.address('reviews')} 80`,
        `six ${world.address('six')} 80`,
        `api.partner.example ${world.address('api.partner.example')} 80`,
        `mapped ::ffff:${world.address('reviews')} 80`,
      ],
      r.stderr,
    );
  });

  test('a service more, first in order of names: those that are there keep working', async () => {
    const { generation } = await world.sidestep.status();
    const extra = service('aaa', 'clusterIP: None', [{ ...upstreams[0]!, name: 'v1' }]);
    await world.write(`${policies(upstreams)}${extra}`);
    await world.sidestep.generationAfter(generation);
    for (const [what, ask, status, upstream] of CASES) {
      const r = outcome(await world.mesh(ask));
      assert.deepEqual([r.status, r.upstream], [status, upstream], what);
    }
    const { stdout, stderr } = await world.sidestep.run(['curl', '-sS', '-m', '10', 'http://aaa/new']);
    assert.equal((JSON.parse(stdout || '{}') as { target?: string }).target, '/new', stderr);
  });

  test('after kill -9 of the agent the addresses work through the proxy', async (t) => {
    world.sidestep.process.child.kill('SIGKILL');
    await world.sidestep.process.exited;
    const killed = Date.now();
    for (const [what, ask, status, upstream] of CASES) {
      const first = what === 'default';
      for (;;) {
        const r = outcome(await world.mesh(ask));
        if (r.status === status && r.upstream === upstream) break;
        assert.ok(first && Date.now() - killed < 1000, `${what}: ${JSON.stringify(r)}`);
        await sleep(20);
      }
      if (first) t.diagnostic(`answered ${Date.now() - killed} ms after the agent's end`);
    }
  });
});
