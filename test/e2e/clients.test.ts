/** Two instances with the same files for clients with different labels: each sees what is for it, as from Envoy. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Ask, IstioWorld, outcome, service, subsets, type Upstream } from './istio-world.js';
import { skip } from './world.js';

const policies = ([v1, v2]: readonly Upstream[]): string => `${service('reviews', 'clusterIP: 10.96.181.1', [v1!, v2!])}
${subsets('reviews', 'v1', 'v2')}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: [reviews]
  http:
    - match: [{ uri: { prefix: /admin }, sourceLabels: { app: web } }]
      directResponse: { status: 403 }
    - match: [{ sourceLabels: { app: web } }]
      headers: { request: { set: { x-way: web } } }
      route: [{ destination: { host: reviews, subset: v1 } }]
    - match: [{ sourceNamespace: default, sourceLabels: { app: cart, tier: back } }]
      route: [{ destination: { host: reviews, subset: v2 } }]
    - directResponse: { status: 404 }
`;

describe('clients with labels of their own', { skip, concurrency: 1, timeout: 240_000 }, () => {
  const worlds: Record<string, IstioWorld> = {};

  before(async () => {
    for (const [name, labels] of [
      ['web', { app: 'web', version: 'any' }],
      ['cart', { app: 'cart', tier: 'back' }],
    ] as const) {
      const world = await IstioWorld.open(`clients-${name}`);
      worlds[name] = world;
      await world.write(policies(await world.upstreams('v1', 'v2')));
      await world.start(undefined, { namespace: 'default', labels });
    }
  });

  after(async () => {
    for (const world of Object.values(worlds)) await world.close();
  });

  const expected: readonly (readonly [who: string, path: string, status: number, upstream: string])[] = [
    ['web', '/admin', 403, ''],
    ['web', '/', 200, 'v1'],
    ['cart', '/admin', 200, 'v2'],
    ['cart', '/', 200, 'v2'],
  ];
  for (const [who, path, status, upstream] of expected) {
    test(`${who} ${path}: ${status} ${upstream}`, async () => {
      const world = worlds[who]!;
      const ask: Ask = { host: 'reviews', path };
      assert.ok(await world.inKernel(ask, status), 'decided in the kernel');
      assert.equal(outcome(await world.mesh(ask)).upstream, upstream);
    });
  }
});
