/** The routes that the proxy gets for requests whose first try was made elsewhere. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { REPLAY_HEADER, replayMark, withReplayRoutes } from '../../src/proxy/index.js';
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
      request_headers_to_remove: [REPLAY_HEADER.name],
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
});
