/** `run --inbound policies`: what Istio's documents ask of a server, asked of everybody who connects to it. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { runCommand } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { outcome } from '../e2e/istio-world.js';
import { one, skip } from '../e2e/world.js';
import { pod, service } from '../netns/policy.js';
import { ALONE_PORT, InboundWorld, SERVER_PORT } from './world.js';

const CASES: readonly { readonly path: string; readonly method?: string; readonly headers?: HeaderList }[] = [
  { path: '/' },
  { path: '/private/a' },
  { path: '/admin', headers: [['x-role', 'boss']] },
  { path: '/admin', headers: [['x-role', 'clerk']] },
  { path: '/admin' },
  { path: '/', method: 'DELETE' },
  { path: '/token' },
  { path: '/token', headers: [['authorization', 'Bearer not.a.token']] },
  { path: '/a/../private/a' },
];

const KEY = {
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }),
  ...{ kid: 'k', alg: 'RS256', use: 'sig' },
};

const RULES = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [shop]
  http:
    - headers: { request: { set: { x-of-the-client: "yes" } } }
      route: [{ destination: { host: shop } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: shop-deny }
spec:
  selector: { matchLabels: { app: shop } }
  action: DENY
  rules:
    - to: [{ operation: { paths: [/private*] } }]
      from: [{ source: { notPrincipals: [cluster.local/ns/default/sa/friend] } }]
    - to: [{ operation: { paths: [/token] } }]
      from: [{ source: { notRequestPrincipals: ["*"] } }]
    - to: [{ operation: { methods: [DELETE] } }]
    - to: [{ operation: { paths: [/admin*] } }]
      when: [{ key: "request.headers[x-role]", notValues: [boss] }]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  jwtRules: [{ issuer: somebody, jwks: '${JSON.stringify({ keys: [KEY] })}' }]
`;

describe('run --inbound policies', { skip, timeout: 180_000 }, () => {
  let world: InboundWorld;
  let sidestep: SidestepHandle;
  let address: string;
  let friend: string;
  let stranger: string;
  let inside: Driver;
  const vip = '10.96.188.1';

  before(async () => {
    world = await InboundWorld.open('policies');
    address = world.server.ipv4;
    friend = world.client.ipv4;
    stranger = friend.replace(/\d+$/, '77');
    await runCommand(['ip', '-n', world.client.name, 'addr', 'add', `${stranger}/24`, 'dev', 'eth0']);
    // the plain Envoy reaches the server at another address: to everybody but the agent and its proxy, its port is taken
    await world.serve(`one=${address}:${SERVER_PORT}`, `one=127.0.0.1:${SERVER_PORT}`);
    const file = join(world.lab.dir, 'mesh.yaml');
    await writeFile(
      file,
      [
        service('shop', vip, SERVER_PORT, address),
        // a server of which no policy speaks, and one on another host
        service('open', '10.96.188.2', SERVER_PORT + 1, address),
        service('far', '10.96.188.3', SERVER_PORT, world.client.ipv4),
        RULES,
        pod({ name: 'shop-1', ip: address, app: 'shop' }),
        pod({ name: 'friend-1', ip: friend, app: 'friend' }),
      ].join(''),
    );
    const resources = await loadFiles([file], { atServers: true });
    assert.deepEqual(
      resources.diagnostics.filter((d) => d.severity === 'error'),
      [],
    );
    const name = `inbound|${SERVER_PORT}||${address}`;
    const listeners = resources.listeners
      .filter((l) => l.name === name)
      .map((l): JsonObject => ({ ...l, address: { socket_address: { address, port_value: ALONE_PORT } } }));
    assert.equal(listeners.length, 1);
    const local = JSON.stringify(resources.clusters.filter((c) => c.name === name));
    const clusters = JSON.parse(local.replaceAll(`"${address}"`, '"127.0.0.1"')) as JsonObject[];
    const bootstrap = buildStaticBootstrap({ ...resources, listeners, clusters });
    await startEnvoy(world.lab, 'envoy alone', bootstrap, 1, world.server.command([]));
    sidestep = await startSidestep(world.lab, [file], {
      args: ['--inbound', 'policies'],
      prefix: world.server.command([]),
    });
    const client = world.lab.start('client in the mesh', world.server.command(sidestep.execCommand(RAW_CLIENT)), {
      stdin: true,
    });
    inside = await Driver.of(client);
  });
  after(() => world?.close());

  test('every answer is Envoy’s, whoever asks', async (t) => {
    const seen: (number | undefined)[] = [];
    for (const from of [friend, stranger]) {
      for (const { path, method = 'GET', headers = [] } of CASES) {
        const ask = (port: number) => world.far.run({ ...one(address, port, method, path, headers), from });
        const expected = outcome(await ask(ALONE_PORT));
        assert.notEqual(expected.status, undefined, `${path}: ${expected.error}`);
        seen.push(expected.status);
        for (let i = 0; i < 2; i++)
          assert.deepEqual(outcome(await ask(SERVER_PORT)), expected, `${from} ${method} ${path}, time ${i}`);
      }
    }
    assert.deepEqual(seen, [200, 200, 200, 403, 403, 403, 403, 401, 200, 200, 403, 200, 403, 403, 403, 403, 401, 403]);
    const { requests } = await sidestep.status();
    t.diagnostic(JSON.stringify(requests));
    assert.ok(requests.kernel > requests.proxy, JSON.stringify(requests));
  });

  test('the mesh’s own clients are judged once, by their side’s rules', async () => {
    // the server's own host is nobody's friend
    const statuses: (number | undefined)[] = [];
    for (const path of ['/', '/private/a', '/admin', '/', '/']) {
      const result = outcome(await inside.run(one(vip, 80, 'GET', path, [['Host', 'shop']])));
      statuses.push(result.status);
      if (result.status === 200) assert.match(JSON.stringify(result.received), /x-of-the-client: yes/);
    }
    assert.deepEqual(statuses, [200, 403, 403, 200, 200]);
    const before = (await sidestep.status()).requests;
    for (let i = 0; i < 20; i++) await inside.run(one(vip, 80, 'GET', '/', [['Host', 'shop']]));
    const { requests } = await sidestep.status();
    assert.equal(requests.kernel + requests.proxy - before.kernel - before.proxy, 20);
  });

  test('the agent is killed: the proxy keeps the policy; the proxy, too: refused', async () => {
    const { pid, proxy } = sidestepState(sidestep.name);
    const ask = async (path: string): Promise<string> => {
      const r = await world.far.run({ ...one(address, SERVER_PORT, 'GET', path), from: stranger });
      return String(r.answers[0]?.status ?? r.error);
    };
    process.kill(pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual([await ask('/'), await ask('/private/a')], ['200', '403']);
    process.kill(proxy, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.match(await ask('/'), /ECONNREFUSED/);
  });
});

function sidestepState(name: string): { pid: number; proxy: number } {
  return JSON.parse(readFileSync(`/run/sidestep/${name}/state.json`, 'utf8'));
}
