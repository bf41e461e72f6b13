/** `run --answer-headers envoy`: answers have the headers that Envoy adds, as through Envoy alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import { ALONE, MESH, one, skip, World } from './world.js';

/** Names of an answer's headers, sorted; the value of `server` with it. */
async function headersOf(driver: Driver, address: string, port: number, path: string): Promise<string[]> {
  const r = await driver.run(one(address, port, 'GET', path));
  const answer = r.answers[0];
  assert.ok(answer, r.error);
  return answer.headers
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .map(([name, value]) => (name === 'server' ? `server: ${value}` : name))
    .sort();
}

test('--answer-headers envoy gives every answer the headers of Envoy', { skip, timeout: 120_000 }, async () => {
  const world = await World.open('answer-headers');
  try {
    await world.writePolicy();
    await world.startEnvoy();
    const sidestep = await startSidestep(world.lab, [world.file], { args: ['--answer-headers', 'envoy'] });
    const inside = await world.driver(sidestep);
    const outside = await world.driver();
    // the first request opens the connections
    await headersOf(inside, MESH, world.port, '/echo');
    for (const path of ['/echo', '/bytes/5000', '/chunks/100/3', '/denied', '/echo'])
      assert.deepEqual(
        await headersOf(inside, MESH, world.port, path),
        await headersOf(outside, ALONE, world.port, path),
        path,
      );
    const { requests } = await sidestep.status();
    assert.ok(requests.agent >= 3, `only ${requests.agent} answers were carried by the agent`);
  } finally {
    await world.close();
  }
});
