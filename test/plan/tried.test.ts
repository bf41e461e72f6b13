/** Retries that avoid endpoints: which of them the proxy can be told of, and why not of the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Assumptions, buildPlan } from '../../src/plan/build.js';
import { forwardsOf, hostText } from '../../src/plan/tried.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const PREVIOUS_HOSTS = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate' },
};
const ISTIO = {
  retry_on: 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
  num_retries: 2,
  retry_host_predicate: [PREVIOUS_HOSTS],
  host_selection_retry_max_attempts: '5',
};
const HTTP2 = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': TYPE.protocolOptions,
    explicit_http_config: { http2_protocol_options: {} },
  },
};
const cluster = (more: JsonObject = {}, each: JsonObject[] = [{}, {}]): JsonObject => ({
  name: 'a',
  type: 'STATIC',
  circuit_breakers: { thresholds: [{ max_retries: 4294967295 }] },
  typed_extension_protocol_options: HTTP2,
  load_assignment: {
    cluster_name: 'a',
    endpoints: [
      {
        lb_endpoints: each.map((e, i) => ({
          endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: i + 1 } } },
          ...e,
        })),
      },
    ],
  },
  ...more,
});
const streams: Assumptions = { http2: true, streams: true, relays: true, atListener: true };

/** Clusters that the proxy is told of, or why the route is the proxy's. */
function judged(policy: JsonObject, of: JsonObject, assumed = streams, routes = 1, hcm: JsonObject = {}): unknown {
  const rules = Array.from({ length: routes }, (_, i) => to('a', `/${i}`, {}, { retry_policy: policy, timeout: '1s' }));
  const { listeners, clusters } = buildPlan(resourcesOf([listenerOf([hostOf(rules)], { hcm })], [of]), assumed);
  const action = forwardsOf({ listeners, clusters })[0];
  const all = listeners[0]!.virtualHosts[0]!.routes.flatMap((route) => (route.guard ? [] : route.reasons));
  const reasons = [...new Set(all.map(({ message }) => message))];
  return action && reasons.length === 0 ? (action.retry?.tried ?? []) : reasons;
}

test('the proxy is told of a first try, or makes it itself', () => {
  const why = (text: string) => [`retries go to other endpoints than the tries before, ${text}`];
  assert.deepEqual(judged(ISTIO, cluster()), ['a']);
  assert.deepEqual(judged(ISTIO, cluster({}, [{}])), [], 'one endpoint');
  assert.deepEqual(judged({ ...ISTIO, retry_host_predicate: [] }, cluster()), [], 'endpoints are not avoided');
  assert.deepEqual(judged({ ...ISTIO, num_retries: 15 }, cluster()), ['a']);
  assert.deepEqual(judged({ ...ISTIO, num_retries: 16 }, cluster()), why('16 times and more'));
  assert.deepEqual(judged({ ...ISTIO, retry_on: 'unavailable' }, cluster()), why('but not after a failure to connect'));
  const canary = { name: 'canary', typed_config: { '@type': 'x/envoy.extensions.retry.host.omit_canary_hosts.v3.X' } };
  assert.deepEqual(
    judged({ ...ISTIO, retry_host_predicate: [PREVIOUS_HOSTS, canary] }, cluster()),
    why('by a predicate of another kind'),
  );
  assert.deepEqual(
    judged(ISTIO, cluster({}, [{}, { health_status: 'DEGRADED' }])),
    why('not all of which are healthy'),
  );
  // of HTTP/1.1
  const plain = { typed_extension_protocol_options: {} };
  const retried = { ...ISTIO, retry_on: '5xx' };
  assert.deepEqual(judged(retried, cluster(plain), { relays: true }), ['a']);
  const few = { circuit_breakers: { thresholds: [{ max_retries: 4294967295, max_requests: 9 }] } };
  assert.deepEqual(judged(retried, cluster({ ...plain, ...few }), { relays: true }), why('whose requests are counted'));
  const logs = (format: string) => ({
    access_log: [
      {
        name: 'file',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
          path: '/dev/null',
          log_format: { text_format_source: { inline_string: format } },
        },
      },
    ],
  });
  for (const [format, name, found] of [
    ['%UPSTREAM_CLUSTER%', 'other', ['a']],
    ['%UPSTREAM_CLUSTER_RAW%', '', ['a']],
    ['%UPSTREAM_CLUSTER_RAW%', 'other', why('whose cluster is logged')],
  ] as const) {
    const named = cluster({ ...plain, ...(name ? { alt_stat_name: name } : {}) });
    assert.deepEqual(judged(retried, named, { relays: true }, 1, logs(format)), found, `${format} ${name}`);
  }
  assert.deepEqual(judged(ISTIO, cluster(), { ...streams, relays: false }), why('which the proxy is not told of'));
  assert.deepEqual(judged(ISTIO, cluster(), streams, 10_001), why('in 10001 routes with 2 endpoints'));
});

test('endpoints are called as Envoy writes them', () => {
  for (const [address, text] of [
    ['10.0.0.1', '10.0.0.1:80'],
    ['2001:0DB8:0::1', '[2001:db8::1]:80'],
    ['::1', '[::1]:80'],
    ['::ffff:10.0.0.1', undefined],
    ['fe80::1%eth0', undefined],
  ] as const)
    assert.equal(hostText(address, 80), text, address);
});
