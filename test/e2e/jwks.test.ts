/** Keys that are fetched, by Envoy and by the agent, from a real server: rotation, failure, recovery. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { type Signer, setOf, signer } from '../plan/jwt-keys.js';
import { clusterOf, hostOf, listenerOf, to } from '../plan/resources.js';
import { eventually } from './eventually.js';
import { untilKernel } from './in-kernel.js';
import { ALONE, MESH, one, skip, World } from './world.js';

const CACHE_MS = 2000;
const JWT = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication';

describe('keys that are fetched', { skip, timeout: 120_000 }, () => {
  let world: World;
  let server: Server;
  let inside: Driver;
  let outside: Driver;
  let first: Signer;
  let second: Signer;
  let sidestep: SidestepHandle;
  let fetched = 0;
  let answer: { status: number; text: string };

  before(async () => {
    [first, second] = await Promise.all([signer('ES256', 'k1'), signer('RS256', 'k2')]);
    answer = { status: 200, text: setOf(first) };
    server = createServer((_, response) => {
      fetched++;
      response.writeHead(answer.status).end(answer.text);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    world = await World.open('jwks');
    const config = {
      '@type': JWT,
      providers: {
        a: {
          issuer: 'https://a',
          remote_jwks: {
            http_uri: { uri: 'http://keys.example/keys', cluster: 'keys', timeout: '2s' },
            cache_duration: `${CACHE_MS / 1000}s`,
          },
        },
      },
      rules: [{ match: { prefix: '/' }, requires: { provider_name: 'a' } }],
    };
    const filters = [{ name: 'jwt', typed_config: config }];
    const resources = (address: string): JsonObject => {
      const listener = listenerOf([hostOf([to('up', '/')])], { name: 'test', port: world.port, filters });
      const place = { socket_address: { address, port_value: world.port } };
      const clusters = [clusterOf('up', [world.upstream]), clusterOf('keys', [port])];
      return { static_resources: { listeners: [{ ...listener, address: place }], clusters } };
    };
    const file = join(world.lab.dir, 'jwt.json');
    await writeFile(file, JSON.stringify(resources(MESH)));
    await startEnvoy(world.lab, 'envoy alone', resources(ALONE));
    sidestep = await startSidestep(world.lab, [file], {});
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(async () => {
    await world?.close();
    server?.closeAllConnections();
    server?.close();
  });

  let serial = 0;
  /** Never the same twice: the agent remembers for a while which it has refused. */
  const token = (by: Signer) =>
    by.sign({ iss: 'https://a', sub: 'u', jti: `${serial++}`, exp: Math.floor(Date.now() / 1000) + 600 });
  async function statuses(jwt: string): Promise<[alone: number | undefined, mesh: number | undefined]> {
    const ask = (address: string) => one(address, world.port, 'GET', '/echo', [['Authorization', `Bearer ${jwt}`]]);
    const [alone, mesh] = [await outside.run(ask(ALONE)), await inside.run(ask(MESH))];
    return [alone.answers[0]?.status, mesh.answers[0]?.status];
  }
  /** Whether the kernel comes to decide about a good token. */
  const known = (jwt: string) => untilKernel(sidestep, async () => assert.deepEqual(await statuses(jwt), [200, 200]));

  test('a token is known once its keys are', async () => {
    assert.ok(await known(await token(first)));
    // Envoy alone, the proxy (each of their threads), and the agent, each for itself
    assert.ok(fetched >= 3, String(fetched));
    assert.deepEqual(await statuses(await token(second)), [401, 401]);
  });

  test('rotated keys: the kernel knows a token no longer than its keys may be kept', async () => {
    const old = await token(first);
    const next = await token(second);
    await sleep(CACHE_MS + 100);
    assert.ok(await known(old));
    answer = { status: 200, text: setOf(second) };
    // both may keep the old keys for a while; then neither takes the old token, known or not
    await sleep(CACHE_MS + 100);
    await eventually(async () => assert.deepEqual(await statuses(old), [401, 401]));
    for (let i = 0; i < 3; i++) assert.deepEqual(await statuses(old), [401, 401]);
    assert.ok(await known(next));
  });

  test('keys that cannot be fetched make no token good', async () => {
    const jwt = await token(second);
    assert.ok(await known(jwt));
    answer = { status: 500, text: 'no' };
    await sleep(CACHE_MS + 100);
    await eventually(async () => assert.deepEqual(await statuses(jwt), [401, 401]));
    for (let i = 0; i < 3; i++) assert.deepEqual(await statuses(jwt), [401, 401]);
    answer = { status: 200, text: setOf(first, second) };
    // the agent waits before it tries again, and so do tokens that it could not judge
    await eventually(async () => assert.deepEqual(await statuses(jwt), [200, 200]));
    assert.ok(await known(jwt), 'it is known again');
    assert.ok(await known(await token(first)));
  });
});
