/** Clusters that streams go to: endpoints with names, what is known of endpoints, and how a cluster says HTTP/2. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Assumptions, buildPlan } from '../../src/plan/build.js';
import { forwardsOf } from '../../src/plan/tried.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from './resources.js';
import { protocol } from './verdicts/case.js';

const STREAMS: Assumptions = { http2: true, streams: true, atListener: true };
const HTTP2 = protocol({ explicit_http_config: { http2_protocol_options: {} } });
const CHECKS = {
  health_checks: [
    { timeout: '1s', interval: '1s', unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {} },
  ],
};
const MANY = { circuit_breakers: { thresholds: [{ max_retries: 4294967295 }] } };
const AVOIDING = {
  retry_on: 'connect-failure,unavailable',
  num_retries: 2,
  retry_host_predicate: [
    {
      name: 'envoy.retry_host_predicates.previous_hosts',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      },
    },
  ],
};

const named = (type: string, more: JsonObject = HTTP2): JsonObject => ({
  name: 'a',
  type,
  load_assignment: {
    cluster_name: 'a',
    endpoints: [
      { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 'a.test', port_value: 80 } } } }] },
    ],
  },
  ...more,
});
const extension = (more: JsonObject): JsonObject => ({
  ...named('STATIC'),
  type: null,
  cluster_type: {
    name: 'envoy.clusters.dns',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster', ...more },
  },
});

function planOf(cluster: JsonObject, assumed: Assumptions = STREAMS, action: JsonObject = {}) {
  return buildPlan(resourcesOf([listenerOf([hostOf([to('a', '/', {}, action)])])], [cluster]), assumed);
}

/** `kernel`, or code and message of each reason. */
function judged(...plan: Parameters<typeof planOf>): string {
  const { listeners, clusters } = planOf(...plan);
  const [listener] = listeners;
  if (forwardsOf({ listeners, clusters }).length > 0) return 'kernel';
  const routes = listener!.virtualHosts[0]?.routes ?? [];
  const reasons = [...listener!.reasons, ...routes.flatMap((route) => (route.guard ? [] : route.reasons))];
  return reasons.map(({ code, message }) => `${code}: ${message}`).join('; ');
}

test('endpoints with names', () => {
  for (const type of ['STRICT_DNS', 'LOGICAL_DNS']) assert.equal(judged(named(type)), 'kernel', type);
  for (const more of [{}, { all_addresses_in_single_endpoint: true }]) assert.equal(judged(extension(more)), 'kernel');
  assert.equal(planOf(named('STRICT_DNS')).clusters[0]!.followed?.names, true);
});

test('what else is known of endpoints is the proxy’s', () => {
  const checked = 'unsupported-field: health checks of endpoints of streams';
  for (const cluster of [named('STRICT_DNS'), clusterOf('a', [1, 2], HTTP2)])
    assert.equal(judged({ ...cluster, ...CHECKS }), checked);
  const ejected = { outlier_detection: { max_ejection_percent: 100 } };
  assert.match(judged({ ...clusterOf('a', [1, 2], HTTP2), ...ejected }), /^unsupported-field: outliers among/);
  assert.match(judged({ ...named('STRICT_DNS'), ...ejected }), /^outlier-detection: /);
  assert.match(judged({ ...named('STRICT_DNS'), lb_policy: 'MAGLEV' }), /^lb-policy: /);
});

test('retries that avoid endpoints, of which nobody can tell the proxy', () => {
  const retried = { retry_policy: AVOIDING, timeout: '1s' };
  for (const type of ['STRICT_DNS', 'LOGICAL_DNS'])
    assert.match(
      judged(named(type, { ...HTTP2, ...MANY }), { ...STREAMS, relays: true }, retried),
      /which the proxy looks up/,
    );
});

test('the deprecated field that says HTTP/2', () => {
  const of = (more: JsonObject, options: JsonObject = {}) =>
    clusterOf('a', [1], { http2_protocol_options: options, ...more });
  assert.equal(judged(of({})), 'kernel');
  assert.equal(judged(of({}), {}), 'upstream-protocol: the endpoints speak HTTP/2');
  assert.match(judged(of({}, { max_concurrent_streams: 5 })), /^unsupported-field: .*max_concurrent_streams/);
  for (const more of [HTTP2, protocol({ explicit_http_config: { http_protocol_options: {} } })])
    assert.match(judged(of(more)), /http2_protocol_options beside typed_extension_protocol_options/);
  assert.match(judged(of({ http_protocol_options: {} })), /http2_protocol_options beside http_protocol_options/);
});
