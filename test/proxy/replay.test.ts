/** The routes that the proxy gets for requests whose first try was made elsewhere. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { REPLAY_HEADER, replayMark, TRIED_HEADER, triedAt, withReplayRoutes } from '../../src/proxy/index.js';
import { resourcesOf } from '../plan/resources.js';

/** The routes that a route with this action becomes. */
function routesOf(route: JsonObject, host: JsonObject = {}): JsonObject[] {
  const config = { name: 'r', virtual_hosts: [{ name: 'v', domains: ['*'], routes: [route], ...host }] };
  const { routeConfigs } = withReplayRoutes(resourcesOf([], [], { routeConfigs: [config] }));
  return (routeConfigs[0]!.virtual_hosts as { routes: JsonObject[] }[])[0]!.routes;
}
const match = { prefix: '/' };

describe('routes for replays', () => {
  it('stand before the route, make one try less and wait longer', () => {
    const policy = {
      retry_on: '5xx',
      num_retries: 3,
      retry_back_off: { base_interval: '0.1s', max_interval: '0.15s' },
    };
    const [replay, route] = routesOf({ match, route: { cluster: 'c', retry_policy: policy } });
    assert.deepEqual(replay, {
      match: { prefix: '/', headers: [{ name: REPLAY_HEADER.name, string_match: { exact: replayMark(0) } }] },
      route: {
        cluster: 'c',
        retry_policy: { ...policy, num_retries: 2, retry_back_off: { base_interval: '0.15s', max_interval: '0.15s' } },
      },
      request_headers_to_remove: [REPLAY_HEADER.name, TRIED_HEADER],
    });
    assert.deepEqual(route, { match, route: { cluster: 'c', retry_policy: policy } });
  });
  it('keep to the cluster that was drawn', () => {
    const clusters = [
      { name: 'a', weight: 1 },
      { name: 'none', weight: 0 },
      { name: 'b', weight: 9 },
    ];
    const routes = routesOf({
      match,
      route: { weighted_clusters: { clusters, total_weight: 10 }, retry_policy: { retry_on: 'gateway-error' } },
    });
    assert.deepEqual(
      routes.slice(0, -1).map((r) => (r.route as JsonObject).weighted_clusters),
      [{ clusters: [clusters[0]] }, { clusters: [clusters[2]] }],
    );
  });
  it('are made for what is retried after an answer or a reset only', () => {
    const made = (retry_policy: JsonObject) => routesOf({ match, route: { cluster: 'c', retry_policy } }).length - 1;
    assert.equal(made({ retry_on: 'connect-failure,refused-stream' }), 0);
    assert.equal(made({ retry_on: '5xx', num_retries: 0 }), 0);
    assert.equal(made({ retry_on: 'retriable-status-codes' }), 0);
    assert.equal(made({ retry_on: 'retriable-status-codes', retriable_status_codes: [429] }), 1);
    assert.equal(made({ retry_on: 'reset' }), 1);
  });
  it("count the kernel's try", () => {
    const [replay] = routesOf(
      { match, route: { cluster: 'c', retry_policy: { retry_on: '5xx' } } },
      { include_request_attempt_count: true },
    );
    assert.deepEqual(replay!.request_headers_to_add, [
      { header: { key: 'x-envoy-attempt-count', value: '2' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ]);
  });
  it('are told where the first try was, one for each endpoint', () => {
    const endpoint = (port: number) => ({
      endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: port } } },
    });
    const load_assignment = { cluster_name: 'c', endpoints: [{ lb_endpoints: [endpoint(1), endpoint(2)] }] };
    const typed_config = {
      '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
    };
    const policy = { retry_on: '5xx', num_retries: 3, retry_host_predicate: [{ name: 'previous', typed_config }] };
    const made = (retry_policy: JsonObject, tried: string[]) => {
      const routes = [{ match, route: { cluster: 'c', retry_policy } }];
      const config = { name: 'r', virtual_hosts: [{ name: 'v', domains: ['*'], routes }] };
      const resources = resourcesOf([], [{ name: 'c', load_assignment }], { routeConfigs: [config] });
      const found = withReplayRoutes(resources, {}, new Set(), new Set(tried));
      const all = (found.routeConfigs[0]!.virtual_hosts as { routes: JsonObject[] }[])[0]!.routes;
      return {
        clusters: found.clusters,
        routes: all.slice(0, -1).map((r) => r as { match: JsonObject; route: JsonObject }),
      };
    };
    const { clusters, routes } = made(policy, ['c']);
    assert.equal(clusters.length, 2, 'a copy of the cluster');
    assert.deepEqual(
      routes.map(({ match: { headers }, route }) => [
        (headers as JsonObject[]).length,
        JSON.stringify(headers).includes(triedAt('10.0.0.1', 1)),
        JSON.stringify(headers).includes(triedAt('10.0.0.1', 2)),
        (route.retry_policy as JsonObject).num_retries,
        route.cluster === 'c',
      ]),
      [
        [2, true, false, 3, false],
        [2, false, true, 3, false],
        // an endpoint that is there no more
        [1, false, false, 2, true],
      ],
    );
    assert.equal(made(policy, []).routes.length, 1, 'nothing is told');
    assert.equal(made({ ...policy, retry_on: 'retriable-4xx' }, ['c']).routes.length, 1, 'it could not fail');
  });
});
