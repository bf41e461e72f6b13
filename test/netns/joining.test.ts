/** The first application of another network namespace comes while the files are wrong: the policy in force is what counts. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { outcome } from '../e2e/istio-world.js';
import { skip } from '../e2e/world.js';
import { pod, rules, service } from './policy.js';
import { get, PodsWorld } from './world.js';

const PORT = 9080;
/** Requests in flight that the agent counts, as long as it serves no other namespace. */
const BREAKER = `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: shop }
spec:
  host: shop
  trafficPolicy: { connectionPool: { http: { http2MaxRequests: 7 } } }
`;

for (const [what, more] of [
  ['a policy', ''],
  ['a policy with a circuit breaker', BREAKER],
] as const) {
  describe(`${what}, and files that are wrong`, { skip, timeout: 120_000 }, () => {
    let world: PodsWorld;

    before(async () => {
      world = await PodsWorld.open('joining', 2);
      const [friend, server] = world.pods;
      await world.serve(server!, `plain=${server!.ipv4}:${PORT}`);
      await world.start(
        [
          service('shop', '10.96.190.1', PORT, server!.ipv4),
          rules('shop'),
          pod({ name: 'friend', ip: friend!.ipv4, app: 'friend' }),
          more,
        ].join(''),
      );
    });
    after(() => world?.close());

    test('clients are served as the policy in force says', async () => {
      const { generation } = await world.sidestep.status();
      await writeFile(world.file, 'kind: [');
      await world.sidestep.process.waitFor(/stays in force/);
      const inside = await world.client(world.pods[0]!);
      for (const path of ['/', '/private/a', '/proxied/b', '/gone']) {
        const expected = { '/gone': 410 }[path] ?? 200;
        for (let i = 0; i < 3; i++) {
          const result = outcome(await get(inside, world.address('shop'), 80, 'shop', path));
          assert.equal(result.status, expected, `${path}: ${JSON.stringify(result)}`);
        }
      }
      // with a breaker the image is made anew: the proxy counts alone from now on
      assert.equal((await world.sidestep.status()).generation, generation + (more === '' ? 0 : 1));
      assert.doesNotMatch(world.sidestep.process.output, /reload failed|\n\s+at /);
    });
  });
}
