/**
 * Routes on claims, tokens in query parameters and cookies, claims in headers, end to end: what Envoy alone does with
 * them, and what servers see of it, comes from the kernel once a token is known.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Signer, setOf, signer } from '../plan/jwt-keys.js';
import { type Ask, IstioWorld, service, type Upstream } from './istio-world.js';
import { skip } from './world.js';

function policies([web, admin]: readonly Upstream[], keys: string): string {
  return `${service('web', 'clusterIP: 10.96.182.1', [web!])}
${service('admin', 'clusterIP: 10.96.182.2', [admin!])}
---
apiVersion: v1
kind: Service
metadata: { name: gate }
spec: { clusterIP: 10.96.182.3, selector: { app: gate }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec:
  selector: { app: gate }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: gate }
spec:
  hosts: ['*']
  gateways: [gate]
  http:
    - match: [{ headers: { '@request.auth.claims[realm][roles]': { exact: admin } } }]
      route: [{ destination: { host: admin } }]
      timeout: 5s
    - match: [{ withoutHeaders: { '@request.auth.claims.sub': { prefix: u } }, uri: { prefix: /login } }]
      directResponse: { status: 200, body: { string: who are you } }
      timeout: 5s
    - route: [{ destination: { host: web } }]
      timeout: 5s
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: gate }
spec:
  selector: { matchLabels: { app: gate } }
  jwtRules:
    - issuer: https://issuer.example
      jwks: '${keys}'
      fromHeaders: [{ name: Authorization, prefix: 'Bearer ' }]
      fromParams: [token]
      fromCookies: [session]
      forwardOriginalToken: true
      outputClaimToHeaders: [{ header: x-user, claim: sub }, { header: x-groups, claim: groups }]
      outputPayloadToHeader: x-payload
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: gate }
spec:
  selector: { matchLabels: { app: gate } }
  action: DENY
  rules:
    - when: [{ key: 'request.auth.claims[sub]', values: [u-bad] }]
`;
}

describe('what tokens do', { skip, timeout: 120_000 }, () => {
  let world: IstioWorld;
  let key: Signer;

  before(async () => {
    key = await signer('ES256', 'k');
    world = await IstioWorld.open('token-effects');
    const upstreams = await world.upstreams('web', 'admin');
    await world.write(policies(upstreams, setOf(key)));
    await world.start();
  });
  after(() => world?.close());

  const token = (more: object = {}) =>
    key.sign({ iss: 'https://issuer.example', sub: 'u', exp: Math.floor(Date.now() / 1000) + 600, ...more });
  const spoofed: [string, string][] = [['x-user', 'mallory']];
  const gate = (path: string, headers: [string, string][] = []): Ask => ({ host: 'gate', path, headers });
  const bearer = (jwt: string): [string, string][] => [['Authorization', `Bearer ${jwt}`]];
  const cookie = (jwt: string): [string, string][] => [['Cookie', `a=b; session=${jwt}; c=d`]];

  test('routes on claims', async () => {
    const user = await token({ groups: ['a', 'b'] });
    const admin = await token({ realm: { roles: ['x', 'admin'] }, groups: 'a' });
    for (const [path, jwt, status, body] of [
      ['/x', undefined, 200, '"web"'],
      ['/x', user, 200, '"web"'],
      ['/x', admin, 200, '"admin"'],
      ['/login', user, 200, '"web"'],
      ['/login', admin, 200, '"admin"'],
      ['/login', undefined, 200, 'who are you'],
      ['/x', await token({ sub: 'u-bad' }), 403, 'denied'],
    ] as const) {
      const ask = gate(path, [...(jwt ? bearer(jwt) : []), ...spoofed]);
      assert.ok(await world.inKernel(ask, status), `${path} ${body} is decided in the kernel`);
      const answer = await world.mesh(ask);
      assert.ok(Buffer.from(answer.answers[0]!.body, 'base64').includes(body), `${path} ${body}`);
    }
  });

  test('in parameters and cookies', async () => {
    const admin = await token({ realm: { roles: 'admin' }, groups: 'cookies' });
    for (const ask of [
      gate(`/p?a=1&token=${admin}`),
      gate(`/p?token=${admin}&b=%41`, spoofed),
      gate('/c', cookie(admin)),
      gate('/c', [...spoofed, ...cookie(admin)]),
    ])
      assert.ok(await world.inKernel(ask, 200), JSON.stringify(ask));
    for (const ask of [
      gate(`/p?token=${admin}`, cookie(admin)),
      gate(`/p?tok%65n=${admin}`),
      gate('/c', [['Cookie', `session="${admin}"`]]),
      gate('/c', [...bearer(admin), ...cookie(admin)]),
    ])
      assert.equal(await world.inKernel(ask, 200, false), false, JSON.stringify(ask));
    for (const ask of [
      gate('/p?token=x'),
      gate('/p?token'),
      gate('/c', [['Cookie', 'session=']]),
      gate('/c', cookie('x.y.z')),
    ])
      assert.equal(await world.inKernel(ask, 401, false), false, JSON.stringify(ask));
  });

  test('claims of all lengths', async () => {
    // from a head that hardly grows to one that does by nearly a kilobyte, and one that is too long
    for (const [length, known] of [
      [1, true],
      [100, true],
      [300, true],
      [350, true],
      [800, false],
    ] as const) {
      const long = await token({ sub: 'u'.repeat(length) });
      for (const ask of [
        gate('/x', bearer(long)),
        gate('/x', cookie(long)),
        { ...gate('/x', bearer(long)), method: 'POST', body: 'y'.repeat(3000) },
      ])
        assert.equal(await world.inKernel(ask, 200, known), known, `${length} ${ask.method}`);
    }
  });
});
