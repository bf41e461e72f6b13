/** Decisions that the kernel remembers at listeners with many routes: each is its own, also after a change of the policy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { MESH, request, skip, World } from './world.js';

const HOSTS = ['a.test', 'b.test', 'a-name-that-is-longer-than-what-is-remembered.example.test'];
const ROUTES = 400;
const CLIENTS = 2;

/** As long as each other, but for a few: of so many in 16,384 places, some share theirs with one that differs in its digits only. */
const pathOf = (i: number): string => `/${i % 50 ? '' : 'teams/of/the/shop/'.repeat(3)}item-${10_000 + i}`;

/** What a host and a path lead to is somewhere else in each generation, in images of the same size. */
function policy(port: number, generation: number): JsonObject {
  const hosts = HOSTS.map((host) => {
    const answer = (text: string) => ({
      direct_response: { status: 200, body: { inline_string: `${generation} ${host} ${text}` } },
    });
    const nobody = (i: number) => ({ match: { path: `/${generation === 1 ? 'a' : 'z'}tem-${i}` }, ...answer(`${i}`) });
    const routes = Array.from({ length: ROUTES }, (_, i) => ({
      match: i % 3 ? { path: pathOf(i) } : { safe_regex: { regex: `${pathOf(i)}(/.*)?` } },
      ...answer(`${i}`),
    }));
    return { name: host, domains: [host], routes: [...[10_001, 10_002, 10_003].map(nobody), ...routes] };
  });
  return plainBootstrap([{ name: 'many', address: MESH, port, hosts }], []);
}

test('decisions that are remembered', { skip, timeout: 120_000 }, async (t) => {
  const world = await World.open('remembered');
  try {
    await world.writeText(JSON.stringify(policy(world.port, 1)));
    const sidestep = await world.startSidestep();
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => world.driver(sidestep)));
    const askAll = async (generation: number): Promise<void> => {
      const asked = clients.map(async (client, c) => {
        // each client in another order, so that two write to one place at once; twice in a row, so that it is remembered
        const texts = Array.from({ length: 2 * HOSTS.length * ROUTES }, (_, k) => {
          const i = ((k >> 1) * (c ? 7 : 1)) % (HOSTS.length * ROUTES);
          const [host, route] = [HOSTS[i % HOSTS.length]!, Math.floor(i / HOSTS.length)];
          return { path: pathOf(route), host, body: `${generation} ${host} ${route}` };
        });
        const exchanges = texts.map(({ path, host }) => ({
          pieces: [request(`GET ${path} HTTP/1.1`, [['Host', host]])],
          methods: ['GET'],
        }));
        const { answers, error } = await client.run({ address: MESH, port: world.port, exchanges, timeoutMs: 60_000 });
        const bodies = answers.map(({ body }) => Buffer.from(body, 'base64').toString());
        assert.equal(error, undefined);
        assert.deepEqual(
          bodies,
          texts.map(({ body }) => body),
        );
      });
      await Promise.all(asked);
    };
    await askAll(1);
    const { counters, requests, generation } = await sidestep.status();
    t.diagnostic(`${counters!.recalled} of ${requests.kernel} were remembered`);
    assert.ok(counters!.recalled! > 0.2 * requests.kernel, `${counters!.recalled} of ${requests.kernel}`);
    await world.writeText(JSON.stringify(policy(world.port, 2)));
    await sidestep.generationAfter(generation);
    await askAll(2);
  } finally {
    await world.close();
  }
});
