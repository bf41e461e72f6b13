/** What is taken into the kernel, and what is left to the proxy for which reason: a table a construct. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import type { Plan, RoutePlan } from '../../src/plan/ir.js';
import { REASONS } from '../../src/plan/reasons.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';
import { ACCESS } from './verdicts/access.js';
import { endpoints } from './verdicts/case.js';
import { CLUSTERS } from './verdicts/clusters.js';
import { FILTERS } from './verdicts/filters.js';
import { LISTENERS } from './verdicts/listeners.js';
import { ROUTES } from './verdicts/routes.js';

/** The codes of a route's reasons, with those of a listener that is not offloaded; `kernel` if it is offloaded. */
function verdict(plan: Plan, index = 0): string[] {
  const listener = plan.listeners[0]!;
  const routes = listener.virtualHosts[0]!.routes.filter((r) => !r.guard);
  const route = routes.find((r) => r.id.split('.')[0]!.endsWith(`/${index}`)) as RoutePlan | undefined;
  const codes = [...listener.reasons, ...(route?.reasons ?? [])].map((r) => r.code);
  for (const code of codes) assert.ok(code in REASONS, `${code} is not in the closed list`);
  if (listener.offloaded && route && route.match !== undefined && route.action.kind !== 'proxy') return ['kernel'];
  return [...new Set(codes)];
}

describe('verdicts', () => {
  for (const c of [LISTENERS, FILTERS, ROUTES, CLUSTERS, ACCESS].flat()) {
    it(`${c.name}: ${c.expect}`, () => {
      const eds = clusterOf('eds', [1]).load_assignment as JsonObject;
      const plan = buildPlan(
        resourcesOf(
          [listenerOf([hostOf([c.route ?? to('a')], c.vhost)], c.options)],
          c.clusters ?? [clusterOf('a', [1], c.cluster)],
          {
            bootstrap: c.bootstrap ?? {},
            endpoints: [eds],
          },
        ),
      );
      assert.deepEqual(verdict(plan), [c.expect]);
    });
  }
});

describe('clusters', () => {
  const planOf = (cluster: JsonObject) =>
    buildPlan(resourcesOf([listenerOf([hostOf([to('a')])])], [clusterOf('a', [1], cluster)]));
  it('leaves unhealthy endpoints out, and takes all while fewer than half are healthy', () => {
    const ports = (each: JsonObject[]) => planOf(endpoints({}, each)).clusters[0]!.endpoints.map((e) => e.port);
    assert.deepEqual(ports([{}, { health_status: 'UNHEALTHY' }]), [1]);
    assert.deepEqual(ports([{}, { health_status: 'UNHEALTHY' }, { health_status: 'TIMEOUT' }]), [1, 2, 3]);
  });

  it('lists only clusters that kernel routes use', () => {
    const plan = buildPlan(
      resourcesOf(
        [listenerOf([hostOf([to('a', '/a'), to('b', '/b', {}, { request_mirror_policies: [{ cluster: 'a' }] })])])],
        [clusterOf('a', [1]), clusterOf('b', [2])],
      ),
    );
    assert.deepEqual(
      plan.clusters.map((c) => c.name),
      ['a'],
    );
  });
});

describe('a route that is left to the proxy', () => {
  it('keeps its match, so that routes after it are still decided by the kernel', () => {
    const routes = [to('a', '/m', {}, { request_mirror_policies: [{ cluster: 'a' }] }), to('a')];
    const plan = buildPlan(resourcesOf([listenerOf([hostOf(routes)])], [clusterOf('a', [1])]));
    const [guard, mirrored, plain] = plan.listeners[0]!.virtualHosts[0]!.routes;
    assert.equal(guard!.guard, true);
    assert.equal(mirrored!.action.kind, 'proxy');
    assert.deepEqual(mirrored!.match, {
      op: 'test',
      predicate: { field: { kind: 'path' }, matcher: { kind: 'prefix', value: '/m', ignoreCase: false } },
    });
    assert.equal(plain!.action.kind, 'forward');
    assert.deepEqual(verdict(plan, 1), ['kernel']);
  });

  it('keeps its RBAC checks where a filter of the proxy is disabled', () => {
    const deny = { action: 'DENY', policies: { p: { permissions: [{ any: true }], principals: [{ any: true }] } } };
    const filters = [
      { name: 'rbac', typed_config: { '@type': TYPE.rbac, rules: deny } },
      {
        name: 'lua',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua' },
      },
    ];
    const off = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true };
    const routes = [to('a', '/x', { typed_per_filter_config: { lua: off } }), to('a', '/')];
    const plan = buildPlan(resourcesOf([listenerOf([hostOf(routes)], { filters })], [clusterOf('a', [1])]));
    const request = (target: string) => evaluate(plan, { method: 'GET', target, headers: [['host', 'a']] });
    assert.equal(request('/x').result?.kind, 'reply');
    assert.equal(request('/y').verdict, 'proxy');
  });

  // as Envoy 1.40 does with 1,700 requests at once: 503 from the threshold on, or none, as the rest waits for a connection
  it('counts requests in flight where there may be more connections', () => {
    for (const [threshold, most, waiting] of [
      [{}, undefined],
      [{ max_requests: 1500 }, undefined],
      [{ max_connections: 3000 }, 1024],
      [{ max_connections: 3000, max_requests: 1500 }, 1500],
      [{ max_connections: 3000, max_requests: 3000 }, undefined],
      [{ max_requests: 10 }, 10],
      [{ max_pending_requests: 10 }, undefined],
      [{ max_connections: 10 }, 10, 1024],
      [{ max_connections: 10, max_pending_requests: 5 }, 10, 5],
      [{ max_connections: 10, max_requests: 10, max_pending_requests: 5 }, 10, 5],
      [{ max_connections: 10, max_requests: 9, max_pending_requests: 5 }, 9],
    ] as const) {
      const cluster = clusterOf('a', [1], { circuit_breakers: { thresholds: [threshold] } });
      const plan = buildPlan(resourcesOf([listenerOf([hostOf([to('a', '/')])])], [cluster]));
      assert.equal(plan.clusters[0]?.breaker?.most, most, JSON.stringify(threshold));
      assert.equal(plan.clusters[0]?.breaker?.waiting, waiting, JSON.stringify(threshold));
    }
    // each endpoint gets a connection whatever is allowed
    for (const [most, expected] of [
      [2, 2],
      [1, undefined],
    ] as const) {
      const cluster = clusterOf('a', [1, 2], { circuit_breakers: { thresholds: [{ max_connections: most }] } });
      const plan = buildPlan(resourcesOf([listenerOf([hostOf([to('a', '/')])])], [cluster]));
      assert.equal(plan.clusters[0]?.breaker?.most, expected);
    }
  });

  it('has unique ids', () => {
    const plan = buildPlan(
      resourcesOf(
        [
          listenerOf([
            hostOf(
              [
                to('a', '/a', {}, { host_rewrite_literal: 'x' }),
                { match: { prefix: '/' }, redirect: { https_redirect: true } },
              ],
              { domains: ['a', 'b'] },
            ),
          ]),
        ],
        [clusterOf('a', [1])],
      ),
    );
    const ids = plan.listeners.flatMap((l) => l.virtualHosts.flatMap((v) => v.routes.map((r) => r.id)));
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(ids.length > 6);
  });
});
