/** Which mirrors the kernel hands copies for, and what the proxy is told of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Assumptions, buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, preserveCase, resourcesOf } from './resources.js';

const half: JsonObject = { runtime_fraction: { default_value: { numerator: 50 } } };

function planOf(route: JsonObject, assumed: Assumptions = { relays: true }, hcm: JsonObject = {}) {
  const listener = listenerOf([hostOf([{ match: { prefix: '/' }, route }])], { hcm });
  const resources = resourcesOf([listener], [clusterOf('one', [1]), clusterOf('two', [2])]);
  const { routes } = buildPlan(resources, assumed).listeners[0]!.virtualHosts[0]!;
  const { action, reasons } = routes.find(({ guard }) => !guard)!;
  return { action, codes: reasons.map(({ code }) => code) };
}

const mirrored = (...policies: JsonObject[]): JsonObject => ({ cluster: 'one', request_mirror_policies: policies });

test('a share is drawn by the kernel where there is one mirror, else by the proxy', () => {
  const mirrorOf = (route: JsonObject) => {
    const { action } = planOf(route);
    assert.ok(action.kind === 'forward', action.kind);
    return action.mirror;
  };
  const all = mirrorOf(mirrored({ cluster: 'two' }))!;
  assert.deepEqual([all.policies, all.chance, all.timeoutMs], [[{ cluster: 'two' }], undefined, 15_000]);
  const some = mirrorOf(mirrored({ cluster: 'two', ...half }))!;
  assert.deepEqual([some.policies, some.chance], [[{ cluster: 'two' }], { numerator: 50, denominator: 100 }]);
  assert.equal(some.key, all.key);
  const both = mirrorOf(mirrored({ cluster: 'two', ...half }, { cluster: 'one' }))!;
  assert.deepEqual([both.policies.length, both.chance], [2, undefined]);
  assert.notEqual(both.key, all.key);
  const none = { runtime_fraction: { default_value: { numerator: 0 } } };
  assert.equal(mirrorOf(mirrored({ cluster: 'two', ...none })), undefined);
});

test('what is left to the proxy', () => {
  const clusters = [
    { name: 'one', weight: 1 },
    { name: 'two', weight: 1 },
  ];
  const weighted = (policy: JsonObject): JsonObject => ({
    weighted_clusters: { clusters },
    request_mirror_policies: [policy],
  });
  assert.deepEqual(planOf(weighted({ cluster: 'two' })).codes, []);
  for (const [what, plan] of [
    ['a share beside several clusters', planOf(weighted({ cluster: 'two', ...half }))],
    ['somebody else’s proxy', planOf(mirrored({ cluster: 'two' }), {})],
    [
      'names as they came',
      planOf(
        mirrored({ cluster: 'two' }),
        { relays: true },
        {
          http_protocol_options: preserveCase(),
        },
      ),
    ],
  ] as const)
    assert.deepEqual(plan.codes, ['mirror'], what);
});
