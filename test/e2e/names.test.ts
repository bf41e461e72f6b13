/** Names, addresses, and the borders of the mesh: only what runs in `exec` is touched. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand } from '../../src/lab/processes.js';
import { type SidestepHandle, sidestepCommand, startSidestep } from '../../src/lab/sidestep.js';
import type { OddEcho } from './odd-server.js';
import { bodyOf, MESH, one, skip, World } from './world.js';

describe('an Envoy bootstrap', { skip, timeout: 180_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;

  before(async () => {
    world = await World.open('borders');
    await world.writePolicy({ gen: '1' });
    sidestep = await world.startSidestep();
  });
  after(() => world?.close());

  test('getpeername gives the address that was asked for', async () => {
    const driver = await world.driver(sidestep);
    const r = await driver.run(one(MESH, world.port, 'GET', '/echo'));
    assert.equal(r.answers[0]?.status, 200, r.error);
    assert.equal(r.peer, `${MESH}:${world.port}`);
  });

  test('other addresses are left alone inside the mesh', async () => {
    const driver = await world.driver(sidestep);
    const before = (await sidestep.status()).requests;
    const r = await driver.run(one('127.0.0.1', world.upstream, 'GET', '/echo'));
    assert.equal(bodyOf<OddEcho>(r).gen, '', 'a policy was applied');
    assert.deepEqual((await sidestep.status()).requests, before);
  });

  test('nothing outside is touched', async () => {
    const driver = await world.driver();
    const before = (await sidestep.status()).requests;
    for (let i = 0; i < 5; i++) {
      const direct = await driver.run(one('127.0.0.1', world.upstream, 'GET', '/echo'));
      assert.equal(bodyOf<OddEcho>(direct).gen, '');
      // whatever answers at the listener's address outside, it is not the data plane
      await driver.run(one(MESH, world.port, 'GET', '/echo'));
    }
    assert.deepEqual((await sidestep.status()).requests, before, 'requests from outside were counted');
  });

  test('exec: exit code, signals, arguments, standard input', async () => {
    assert.equal((await sidestep.run(['sh', '-c', 'exit 7'])).code, 7);
    const killed = await sidestep.run(['sh', '-c', 'kill -TERM $$']);
    assert.ok(killed.code === 143 || killed.signal === 'SIGTERM', JSON.stringify(killed));
    assert.equal((await sidestep.run(['printf', '%s|', 'a b', '--x', '$HOME'])).stdout, 'a b|--x|$HOME|');
    assert.equal((await sidestep.run(['cat'], { input: 'hello' })).stdout, 'hello');
    assert.equal((await sidestep.run(['no-such-command-here'])).code, 127);
  });

  test('exec for an instance that is not there says so', async () => {
    const r = await runCommand(sidestepCommand('exec', '--name', 'no-such-instance', '--', 'true'));
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, /no-such-instance/);
    assert.equal(r.stderr.trim().split('\n').length, 1, r.stderr);
  });
});

const SERVICE = (port: number): string => `
apiVersion: v1
kind: Service
metadata: { name: parrot, namespace: zoo }
spec:
  clusterIP: 10.96.177.1
  ports: [{ name: http, port: 8081, targetPort: ${port} }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: parrot-1, namespace: zoo, labels: { kubernetes.io/service-name: parrot } }
addressType: IPv4
ports: [{ name: http, port: ${port}, protocol: TCP }]
endpoints: [{ addresses: [127.0.0.1] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: parrot, namespace: zoo }
spec:
  hosts: [parrot]
  http:
    - headers: { request: { set: { x-gen: istio } } }
      route: [{ destination: { host: parrot } }]
`;

test('service names resolve in exec and nowhere else', { skip, timeout: 120_000 }, async () => {
  const world = await World.open('names');
  try {
    const file = join(world.lab.dir, 'parrot.yaml');
    await writeFile(file, SERVICE(world.upstream));
    const hosts = await readFile('/etc/hosts', 'utf8');
    const sidestep = await startSidestep(world.lab, [file]);
    for (const name of ['parrot.zoo', 'parrot.zoo.svc', 'parrot.zoo.svc.cluster.local']) {
      assert.match((await sidestep.run(['getent', 'hosts', name])).stdout, /^10\.96\.177\.1\s/, name);
    }
    assert.notEqual(
      (await runCommand(['getent', 'hosts', 'parrot.zoo.svc.cluster.local'])).code,
      0,
      'resolves outside',
    );
    assert.equal(await readFile('/etc/hosts', 'utf8'), hosts);
    const curl = await sidestep.run(['curl', '-sS', '-m', '10', 'http://parrot.zoo:8081/echo']);
    assert.equal((JSON.parse(curl.stdout || '{}') as OddEcho).gen, 'istio', curl.stderr);
    const driver = await world.driver(sidestep);
    const r = await driver.run(one('10.96.177.1', 8081, 'GET', '/echo', [['Host', 'parrot.zoo:8081']]));
    assert.equal(r.peer, '10.96.177.1:8081');
    assert.ok((await sidestep.status()).requests.kernel > 0);
  } finally {
    await world.close();
  }
});
