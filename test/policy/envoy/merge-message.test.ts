/** Merging of messages, as protobuf's own (and istiod's) does it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { envoyMessage } from '../../../src/policy/envoy/descriptors.js';
import { mergeAny, mergeMessage } from '../../../src/policy/envoy/merge-message.js';
import type { JsonObject } from '../../../src/policy/resources.js';

const ROUTE = envoyMessage('envoy.config.route.v3.Route');
const CLUSTER = envoyMessage('envoy.config.cluster.v3.Cluster');

const CASES: readonly (readonly [what: string, into: JsonObject, from: JsonObject, JsonObject])[] = [
  [
    'messages field by field, lists one after the other',
    { route: { cluster: 'a', retry_policy: { num_retries: 2, retriable_status_codes: [500] } } },
    { route: { retry_policy: { retriable_status_codes: [503] } } },
    { route: { cluster: 'a', retry_policy: { num_retries: 2, retriable_status_codes: [500, 503] } } },
  ],
  [
    'one of a oneof replaces the others',
    { redirect: { path_redirect: '/' } },
    { direct_response: { status: 404 } },
    {
      direct_response: { status: 404 },
    },
  ],
  ['durations as a whole', { route: { timeout: '1.5s' } }, { route: { timeout: '2s' } }, { route: { timeout: '2s' } }],
  [
    'the entries of maps by key',
    { typed_per_filter_config: { a: { '@type': 'x/1', v: 1 }, b: { '@type': 'x/2' } } },
    { typed_per_filter_config: { a: { '@type': 'x/1', w: 2 } } },
    { typed_per_filter_config: { a: { '@type': 'x/1', w: 2 }, b: { '@type': 'x/2' } } },
  ],
  [
    'a wrapper of zero is a field that is not set',
    { route: { retry_policy: { num_retries: 2 } } },
    { route: { retry_policy: { num_retries: 0 } } },
    { route: { retry_policy: { num_retries: 2 } } },
  ],
  [
    'a wrapper of zero where there was none',
    { route: {} },
    { route: { retry_policy: { num_retries: 0 } } },
    {
      route: { retry_policy: { num_retries: 0 } },
    },
  ],
];

for (const [what, into, from, expected] of CASES)
  test(what, () => {
    const before = structuredClone(into);
    assert.deepEqual(mergeMessage(ROUTE, into, from), expected);
    assert.deepEqual(into, before, 'the message itself is as it was');
  });

test('metadata by the name of the filter', () => {
  const merged = mergeMessage(
    CLUSTER,
    { metadata: { filter_metadata: { istio: { a: 1 }, other: { b: 1 } } } },
    { metadata: { filter_metadata: { istio: { c: 1 } } } },
  );
  assert.deepEqual(merged, { metadata: { filter_metadata: { istio: { c: 1 }, other: { b: 1 } } } });
});

test('an Any only with one of its type', () => {
  const type = (name: string) => ({ '@type': `type.googleapis.com/envoy.extensions.filters.http.${name}` });
  const cors = type('cors.v3.Cors');
  assert.equal(mergeAny(cors, type('csrf.v3.CsrfPolicy')), undefined);
  assert.equal(mergeAny(type('nothing.v3.Nothing'), type('nothing.v3.Nothing')), undefined);
  const router = type('router.v3.Router');
  const merged = mergeAny({ ...router, dynamic_stats: false }, { ...router, suppress_envoy_headers: true });
  assert.deepEqual(merged, { ...router, dynamic_stats: false, suppress_envoy_headers: true });
});
