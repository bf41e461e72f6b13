import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { countsByItself } from '../../src/proxy/own-counts.js';

const FILTERS = 'type.googleapis.com/envoy.extensions.filters';

it('a listener counts by itself where a filter or a route of it does, unless that has one place for all', () => {
  const limit: JsonObject = { '@type': `${FILTERS}.http.local_ratelimit.v3.LocalRateLimit`, stat_prefix: 'a' };
  const at = (config: JsonObject): JsonObject => ({
    filter_chains: [{ filters: [{ typed_config: { http_filters: [{ typed_config: config }] } }] }],
  });
  assert.equal(countsByItself(at({ '@type': `${FILTERS}.http.router.v3.Router` }), new Map()), false);
  assert.equal(countsByItself(at(limit), new Map()), true);
  assert.equal(countsByItself(at(limit), new Map([[limit, 0]])), false);
  assert.equal(countsByItself(at({ ...limit }), new Map([[limit, 0]])), true);
  assert.equal(
    countsByItself(at({ '@type': `${FILTERS}.network.connection_limit.v3.ConnectionLimit` }), new Map()),
    true,
  );
  const fault = { '@type': `${FILTERS}.http.fault.v3.HTTPFault`, max_active_faults: 3 };
  assert.equal(
    countsByItself({ route_config: { virtual_hosts: [{ typed_per_filter_config: { fault } }] } }, new Map()),
    true,
  );
});
