/** Identities and tokens end to end: what Envoy alone decides about them, decided in the kernel once they are known. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { type Signer, setOf, signer } from '../plan/jwt-keys.js';
import { type Ask, IstioWorld, outcome, service, type Upstream } from './istio-world.js';
import { skip } from './world.js';

function policies([web, who]: readonly Upstream[], keys: string): string {
  return `${service('web', 'clusterIP: 10.96.181.1', [web!])}
${service('who', 'clusterIP: 10.96.181.2', [who!])}
---
apiVersion: v1
kind: Pod
metadata: { name: sleep, namespace: default }
spec: { serviceAccountName: sleep }
status: { podIP: 127.0.9.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: cart, namespace: shop }
spec: { serviceAccountName: cart }
status: { podIP: 127.0.9.2 }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: who }
spec:
  selector: { matchLabels: { app: who } }
  rules:
    - from: [{ source: { principals: [cluster.local/ns/default/sa/sleep] } }]
    - from: [{ source: { namespaces: [agents] } }]
      to: [{ operation: { paths: [/agents*] } }]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  jwtRules:
    - issuer: https://issuer.example
      audiences: [web]
      jwks: '${keys}'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  rules:
    - to: [{ operation: { paths: [/open*] } }]
    - from: [{ source: { requestPrincipals: [https://issuer.example/*] } }]
      to: [{ operation: { paths: [/api*] } }]
    - to: [{ operation: { paths: [/admin*] } }]
      when: [{ key: "request.auth.claims[groups]", values: [admin] }]
`;
}

describe('identities and tokens', { skip, timeout: 120_000 }, () => {
  let world: IstioWorld;
  let upstreams: Upstream[];
  let key: Signer;
  let stranger: Signer;

  before(async () => {
    [key, stranger] = await Promise.all([signer('RS256', 'k'), signer('RS256', 'k')]);
    world = await IstioWorld.open('tokens');
    upstreams = await world.upstreams('web', 'who');
    await world.write(policies(upstreams, setOf(key)));
    await world.start('cluster.local/ns/agents/sa/worker');
  });
  after(() => world?.close());

  const token = (more: object = {}, by: Signer = key) =>
    by.sign({ iss: 'https://issuer.example', sub: 'u', aud: 'web', exp: Math.floor(Date.now() / 1000) + 600, ...more });
  const web = (path: string, jwt?: string): Ask => ({
    host: 'web',
    path,
    ...(jwt === undefined ? {} : { headers: [['Authorization', `Bearer ${jwt}`]] }),
  });

  const status = () => world.sidestep.status();
  const inKernel = (ask: Ask, expected: number, wanted = true) => world.inKernel(ask, expected, wanted);

  test('who the client is, by its address and by the instance', async () => {
    for (const [from, path, status] of [
      ['127.0.9.1', '/x', 200],
      ['127.0.9.1', '/agents', 200],
      ['127.0.9.2', '/x', 403],
      ['127.0.9.2', '/agents', 403],
      ['127.0.9.3', '/x', 403],
      ['127.0.9.3', '/agents', 200],
      [undefined, '/agents/1', 200],
      [undefined, '/x', 403],
    ] as const) {
      const ask = { host: 'who', path, ...(from ? { from } : {}) };
      assert.ok(await inKernel(ask, status), `${from} ${path} is decided in the kernel`);
      // the proxy's word on the same client, by a request that is always its own
      const odd = { ...ask, headers: [['Expect', 'x']] as [string, string][] };
      const alone = outcome(await world.alone(odd));
      assert.equal(outcome(await world.mesh(odd)).status, alone.status);
    }
  });

  test('requests without a token', async () => {
    assert.ok(await inKernel(web('/open'), 200));
    assert.ok(await inKernel(web('/api'), 403));
    assert.ok(await inKernel({ ...web('/open'), headers: [['Authorization', 'Basic YTpi']] }, 200));
  });

  test('a good token is known from its second request on', async () => {
    const user = await token();
    const admin = await token({ groups: ['users', 'admin'] });
    for (const [jwt, path, status] of [
      [user, '/open', 200],
      [user, '/api', 200],
      [user, '/admin', 403],
      [admin, '/admin/1', 200],
      [admin, '/else', 403],
    ] as const) {
      assert.ok(await inKernel(web(path, jwt), status), path);
    }
    const { counters } = await status();
    assert.ok((counters?.token_known ?? 0) >= 5, JSON.stringify(counters));
  });

  test('all others are refused by the proxy, each time', async () => {
    const good = await token();
    const bad = `${good.slice(0, -6)}AAAAAA`;
    const now = Math.floor(Date.now() / 1000);
    for (const [what, jwt, status] of [
      ['bad signature', bad, 401],
      ['a stranger', await token({}, stranger), 401],
      ['expired', await token({ exp: now - 100 }), 401],
      ['not valid yet', await token({ nbf: now + 100 }), 401],
      ['another audience', await token({ aud: 'x' }), 403],
      ['another issuer', await token({ iss: 'https://x' }), 401],
      ['garbage', 'garbage', 401],
    ] as const) {
      assert.equal(await inKernel(web('/open', jwt), status, false), false, what);
    }
    // the good one is still good, and one byte more is another token
    assert.ok(await inKernel(web('/api', good), 200));
    assert.equal(await inKernel(web('/api', `${good}A`), 401, false), false);
  });

  test('a token longer than 2 KiB is the proxy’s', async () => {
    assert.equal(await inKernel(web('/api', await token({ x: 'y'.repeat(2000) })), 200, false), false);
  });

  test('a token ends when it says so', async () => {
    const exp = Math.floor(Date.now() / 1000) + 5;
    const short = await token({ exp });
    assert.ok(await inKernel(web('/api', short), 200));
    await sleep(exp * 1000 - Date.now() + 20);
    // Envoy grants it 60 seconds more, the kernel none
    assert.equal(await inKernel(web('/api', short), 200, false), false);
  });

  test('other keys: what was known counts no more', async () => {
    const old = await token();
    assert.ok(await inKernel(web('/api', old), 200));
    const { generation } = await status();
    await world.write(policies(upstreams, setOf(stranger)));
    await world.sidestep.generationAfter(generation);
    for (let i = 0; i < 3; i++) assert.equal(outcome(await world.mesh(web('/api', old))).status, 401);
    const next = await token({}, stranger);
    for (let i = 0; i < 3; i++) assert.equal(outcome(await world.mesh(web('/api', next))).status, 200);
    const before = (await status()).requests.kernel;
    assert.equal(outcome(await world.mesh(web('/api', next))).status, 200);
    assert.equal((await status()).requests.kernel, before + 1);
  });
});
