/** A hundred rules of access: the kernel decides as Envoy does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessRules, RBAC_RULES } from '../../src/bench/suite-policies.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import { allInKernel } from './in-kernel.js';
import { ALONE, MESH, one, skip, World } from './world.js';

test('a hundred rules of access', { skip, timeout: 120_000 }, async (t) => {
  const world = await World.open('rules');
  try {
    await startEnvoy(world.lab, 'envoy alone', accessRules(ALONE, world.port, world.upstream));
    await world.writeText(JSON.stringify(accessRules(MESH, world.port, world.upstream)));
    const sidestep = await startSidestep(world.lab, [world.file]);
    const [inside, outside] = [await world.driver(sidestep), await world.driver()];
    await allInKernel(sidestep, 1, () => inside.run(one(MESH, world.port, 'GET', '/team-0/x'))); // a connection to the server
    const before = (await sidestep.status()).counters!.kernel!;
    const seen: Record<number, number> = {};
    let asked = 0;
    for (let i = 0; i <= RBAC_RULES; i += 3)
      for (const method of ['GET', 'POST', 'PUT', 'DELETE'])
        for (const path of [`/team-${i}/x`, `/api/v1/team-${i}/x`, `/api/v1/team-${i}`, '/api/v2/items/7']) {
          const job = one(MESH, world.port, method, path);
          const [ours, alone] = await Promise.all([inside.run(job), outside.run({ ...job, address: ALONE })]);
          const status = alone.answers[0]!.status;
          assert.equal(ours.answers[0]?.status, status, `${method} ${path}: ${ours.error}`);
          seen[status] = (seen[status] ?? 0) + 1;
          asked++;
        }
    t.diagnostic(JSON.stringify(seen));
    assert.ok(seen[200]! > 50 && seen[403]! > 50);
    assert.ok((await sidestep.status()).counters!.kernel! - before > asked * 0.9, 'the kernel must have decided');
  } finally {
    await world.close();
  }
});
