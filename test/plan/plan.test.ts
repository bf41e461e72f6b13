/** What is taken into the kernel, and what is left to the proxy for which reason: a table a construct. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import type { Plan, RoutePlan } from '../../src/plan/ir.js';
import { REASONS } from '../../src/plan/reasons.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { answer, clusterOf, hostOf, type ListenerOptions, listenerOf, resourcesOf, TYPE, to } from './resources.js';

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

const LIMIT = 'x/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';
const BUCKET: JsonObject = { max_tokens: 1, fill_interval: '1s' };
const limited = (more: JsonObject): JsonObject =>
  to('a', '/', {
    typed_per_filter_config: {
      f: {
        '@type': LIMIT,
        token_bucket: BUCKET,
        filter_enabled: { default_value: { numerator: 100 } },
        filter_enforced: { default_value: { numerator: 100 } },
        ...more,
      },
    },
  });

interface Case {
  readonly name: string;
  readonly route?: JsonObject;
  readonly vhost?: JsonObject;
  readonly cluster?: JsonObject;
  readonly clusters?: JsonObject[];
  readonly options?: ListenerOptions;
  readonly bootstrap?: JsonObject;
  readonly expect: string;
}

const any = { any: true };
const rbac = (config: JsonObject): ListenerOptions => ({
  filters: [{ name: 'rbac', typed_config: { '@type': TYPE.rbac, ...config } }],
});
const policies = (permission: JsonObject, principal: JsonObject = any): JsonObject => ({
  rules: { policies: { p: { permissions: [permission], principals: [principal] } } },
});
const filter = (type: string, more: JsonObject = {}): ListenerOptions => ({
  filters: [{ name: 'f', typed_config: { '@type': type }, ...more }],
});
const endpoints = (more: JsonObject, each: JsonObject[] = [{}, {}]): JsonObject => ({
  load_assignment: {
    cluster_name: 'a',
    endpoints: [
      {
        lb_endpoints: each.map((e, i) => ({
          endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: i + 1 } } },
          ...e,
        })),
        ...more,
      },
    ],
  },
});
const protocol = (options: JsonObject): JsonObject => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': { '@type': TYPE.protocolOptions, ...options },
  },
});

const PREVIOUS_PRIORITIES = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
    update_frequency: 2,
  },
};

const CASES: Case[] = [
  { name: 'a plain route', expect: 'kernel' },
  { name: 'an unknown field of a route', route: to('a', '/', { new_field: 1 }), expect: 'unsupported-field' },
  { name: 'an unknown field of an action', route: to('a', '/', {}, { new_field: true }), expect: 'unsupported-field' },
  {
    name: 'an unknown field of a match',
    route: { match: { prefix: '/', new_field: {} }, route: { cluster: 'a' } },
    expect: 'unsupported-field',
  },
  { name: 'an unknown field of a virtual host', vhost: { new_field: 'x' }, expect: 'unsupported-field' },
  { name: 'an unknown field of a cluster', cluster: { new_field: 'x' }, expect: 'unsupported-field' },
  {
    name: 'an unknown field of the connection manager',
    options: { hcm: { new_field: 'x' } },
    expect: 'unsupported-field',
  },
  {
    name: 'an unknown field of the route configuration',
    options: { routeConfig: { new_field: 'x' } },
    expect: 'unsupported-field',
  },
  { name: 'a default in an unknown field', route: to('a', '/', { new_field: false, other: [] }), expect: 'kernel' },
  // listener
  { name: 'access log', options: { hcm: { access_log: [{ name: 'x' }] } }, expect: 'access-log' },
  { name: 'tracing of some', options: { hcm: { tracing: { random_sampling: { value: 1 } } } }, expect: 'kernel' },
  { name: 'tracing without a tracer', options: { hcm: { tracing: {} } }, expect: 'kernel' },
  { name: 'tracing of nothing', options: { hcm: { tracing: { overall_sampling: {} } } }, expect: 'kernel' },
  { name: 'use_remote_address', options: { hcm: { use_remote_address: true } }, expect: 'kernel' },
  { name: 'HTTP/2 codec', options: { hcm: { codec_type: 'HTTP2' } }, expect: 'codec' },
  { name: 'HTTP/1 codec', options: { hcm: { codec_type: 'HTTP1' } }, expect: 'kernel' },
  {
    name: 'names of headers with capital letters',
    options: { hcm: { http_protocol_options: { header_key_format: { proper_case_words: {} } } } },
    expect: 'unsupported-field',
  },
  { name: 'local replies', options: { hcm: { local_reply_config: { mappers: [{}] } } }, expect: 'local-reply' },
  { name: 'request timeout', options: { hcm: { request_timeout: '5s' } }, expect: 'stream-limits' },
  { name: 'no request timeout', options: { hcm: { request_timeout: '0s' } }, expect: 'kernel' },
  {
    name: 'an rds name that nobody defines',
    options: { hcm: { route_config: null, rds: { route_config_name: 'x' } } },
    expect: 'route-source',
  },
  {
    name: 'normalisation and ports',
    options: { hcm: { normalize_path: true, merge_slashes: true, strip_any_host_port: true } },
    expect: 'kernel',
  },
  { name: 'host dots', options: { hcm: { strip_trailing_host_dot: true } }, expect: 'host-normalization' },
  { name: 'upgrades', options: { hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }] } }, expect: 'kernel' },
  // filters
  { name: 'a filter that is not known', options: filter(TYPE.lua), expect: 'http-filter' },
  { name: 'such a filter, disabled', options: filter(TYPE.lua, { disabled: true }), expect: 'kernel' },
  ...(
    [
      ['grpc_stats.v3.FilterConfig', { stats_for_all_methods: false }, 'kernel'],
      ['grpc_http1_reverse_bridge.v3.FilterConfig', { content_type: 'a/b' }, 'kernel'],
      ['grpc_http1_bridge.v3.Config', { upgrade_protobuf_to_grpc: true }, 'kernel'],
      ['set_metadata.v3.Config', { metadata_namespace: 'mine', value: {} }, 'kernel'],
      ['set_metadata.v3.Config', { metadata: [{ metadata_namespace: 'envoy.lb', value: {} }] }, 'http-filter'],
      ['header_to_metadata.v3.Config', { request_rules: [{ header: 'a', on_header_present: { key: 'b' } }] }, 'kernel'],
      ['header_to_metadata.v3.Config', { request_rules: [{ header: 'a', remove: true }] }, 'http-filter'],
      [
        'header_to_metadata.v3.Config',
        {
          request_rules: [{ header: 'a', on_header_missing: { metadata_namespace: 'envoy.lb', key: 'b', value: 'c' } }],
        },
        'http-filter',
      ],
    ] satisfies [string, JsonObject, Case['expect']][]
  ).map(([type, config, expect]) => ({
    name: `${type} ${JSON.stringify(config)}`,
    options: {
      filters: [{ name: 'f', typed_config: { '@type': `x/envoy.extensions.filters.http.${type}`, ...config } }],
    },
    expect,
  })),
  {
    name: 'such a filter, disabled for the route',
    options: filter(TYPE.lua),
    route: to('a', '/', { typed_per_filter_config: { f: { '@type': TYPE.filterConfig, disabled: true } } }),
    expect: 'kernel',
  },
  { name: 'a filter that acts where it is configured', options: filter(TYPE.cors), expect: 'kernel' },
  {
    name: 'such a filter, configured for the route',
    options: filter(TYPE.cors),
    route: to('a', '/', {
      typed_per_filter_config: { f: { '@type': 'x/envoy.extensions.filters.http.cors.v3.CorsPolicy' } },
    }),
    expect: 'kernel',
  },
  {
    name: 'a rate limit that is off',
    options: filter(LIMIT, {}),
    route: to('a', '/', { typed_per_filter_config: { f: { '@type': LIMIT, token_bucket: BUCKET } } }),
    expect: 'kernel',
  },
  { name: 'a rate limit', options: filter(LIMIT, {}), route: limited({}), expect: 'kernel' },
  {
    name: 'a rate limit for a share of the requests',
    options: filter(LIMIT, {}),
    route: limited({ filter_enforced: { default_value: { numerator: 50 } } }),
    expect: 'runtime-fraction',
  },
  {
    name: 'a rate limit with headers that tell what is left',
    options: filter(LIMIT, {}),
    route: limited({ enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }),
    expect: 'kernel',
  },
  {
    name: 'such headers where nothing is enforced',
    options: filter(LIMIT, {}),
    route: limited({
      enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
      filter_enforced: { default_value: { numerator: 0 } },
    }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket for each connection',
    options: filter(LIMIT, {}),
    route: limited({ local_rate_limit_per_downstream_connection: true }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket for each value',
    options: filter(LIMIT, {}),
    route: limited({
      rate_limits: [{ actions: [{ request_headers: { header_name: 'x-user', descriptor_key: 'user' } }] }],
      descriptors: [{ entries: [{ key: 'user' }], token_bucket: BUCKET }],
    }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket that takes centuries to fill',
    options: filter(LIMIT, {}),
    route: limited({ token_bucket: { max_tokens: 1_000_000, fill_interval: '864000s' } }),
    expect: 'rate-limit',
  },
  {
    name: 'a refusal with a computed header',
    options: filter(LIMIT, {}),
    route: limited({ response_headers_to_add: [{ header: { key: 'x-path', value: '%PATH%' } }] }),
    expect: 'header-format',
  },
  // matches
  {
    name: 'a runtime fraction',
    route: answer('', { prefix: '/', runtime_fraction: { default_value: { numerator: 50 } } }),
    expect: 'runtime-fraction',
  },
  {
    name: 'all of them',
    route: answer('', { prefix: '/', runtime_fraction: { default_value: { numerator: 100 } } }),
    expect: 'kernel',
  },
  {
    name: 'all of them, with a key that a runtime layer may change',
    route: answer('', { prefix: '/', runtime_fraction: { runtime_key: 'k', default_value: { numerator: 100 } } }),
    bootstrap: { layered_runtime: { layers: [{ name: 'static', static_layer: {} }] } },
    expect: 'runtime-fraction',
  },
  {
    name: 'metadata of another filter',
    route: answer('', { prefix: '/', dynamic_metadata: [{ filter: 'x' }] }),
    expect: 'metadata',
  },
  { name: 'a byte of no character', route: answer('', { safe_regex: { regex: '/\\C+' } }), expect: 'regex' },
  { name: 'a look-ahead', route: answer('', { safe_regex: { regex: '/(?=a)' } }), expect: 'regex' },
  {
    name: 'the scheme',
    route: answer('', { prefix: '/', headers: [{ name: ':scheme', present_match: true }] }),
    expect: 'match-header',
  },
  {
    name: 'x-envoy-*',
    route: answer('', { prefix: '/', headers: [{ name: 'x-envoy-internal', present_match: true }] }),
    expect: 'match-header',
  },
  // actions
  { name: 'mirroring', route: to('a', '/', {}, { request_mirror_policies: [{ cluster: 'a' }] }), expect: 'mirror' },
  {
    name: 'retries before an answer',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'connect-failure,refused-stream' } }),
    expect: 'kernel',
  },
  {
    name: 'retries on 5xx, many at a time',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', per_try_timeout: '1s' } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'kernel',
  },
  {
    name: 'retries elsewhere, among two',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_host_predicate: [{ name: 'p' }] } }),
    cluster: { ...endpoints({}), circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'retry',
  },
  {
    name: 'retries elsewhere, where there is but one',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_host_predicate: [{ name: 'p' }] } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'kernel',
  },
  ...['hedge_on_per_try_timeout', 'initial_requests'].flatMap((key) => [
    {
      name: `hedging, ${key}`,
      route: to('a', '/', {}, { hedge_policy: { [key]: true } }),
      expect: key === 'initial_requests' ? 'unsupported-field' : 'kernel',
    },
  ]),
  {
    name: 'hedging where a try may take too long',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'connect-failure', per_try_timeout: '1s' } }),
    vhost: { hedge_policy: { hedge_on_per_try_timeout: true } },
    expect: 'retry',
  },
  ...[0, 1].map((priority) => ({
    name: `retries in other priorities than ${priority}`,
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_priority: PREVIOUS_PRIORITIES } }),
    cluster: { ...endpoints({ priority }), circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: priority === 0 ? 'kernel' : 'retry',
  })),
  {
    name: 'retries in priorities that something else chooses',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_priority: { name: 'x' } } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'retry',
  },
  {
    name: 'retries on headers',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'retriable-headers' } }),
    expect: 'retry',
  },
  {
    name: 'retries on 5xx, three at a time',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx' } }),
    expect: 'retry',
  },
  {
    name: 'retries on 429',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'retriable-status-codes', retriable_status_codes: [429] } }),
    expect: 'retry',
  },
  {
    name: 'no timeout, with the default idle timeout',
    route: to('a', '/', {}, { timeout: '0s' }),
    expect: 'idle-timeout',
  },
  {
    name: 'an idle timeout shorter than the timeout',
    route: to('a', '/', {}, { timeout: '30s', idle_timeout: '10s' }),
    expect: 'idle-timeout',
  },
  {
    name: 'an idle timeout longer than the timeout, which always strikes first',
    route: to('a', '/', {}, { timeout: '10s', idle_timeout: '30s' }),
    expect: 'kernel',
  },
  {
    name: 'a longest stream',
    route: to('a', '/', {}, { max_stream_duration: { max_stream_duration: '60s' } }),
    expect: 'timeout',
  },
  {
    name: 'no timeout and no idle timeout',
    route: to('a', '/', {}, { timeout: '0s', idle_timeout: '0s' }),
    expect: 'kernel',
  },
  {
    name: 'cluster by header',
    route: to('', '/', {}, { cluster: null, cluster_header: 'x' }),
    expect: 'cluster-unknown',
  },
  { name: 'a cluster that nobody defines', route: to('nobody'), expect: 'cluster-unknown' },
  { name: 'host from a header', route: to('a', '/', {}, { host_rewrite_header: 'x' }), expect: 'host-rewrite' },
  { name: 'host on a wildcard', route: to('a', '/', {}, { host_rewrite_literal: 'x' }), expect: 'host-rewrite' },
  { name: 'path policy', route: to('a', '/', {}, { path_rewrite_policy: {} }), expect: 'path-rewrite' },
  {
    name: 'a regex rewrite that may leave nothing',
    route: to('a', '/', {}, { regex_rewrite: { pattern: { regex: '/a(.*)' }, substitution: '\\1' } }),
    expect: 'path-rewrite',
  },
  {
    name: 'a redirect by regex',
    route: { match: { prefix: '/' }, redirect: { regex_rewrite: {} } },
    expect: 'redirect',
  },
  {
    name: 'a body from a file',
    route: { match: { prefix: '/' }, direct_response: { status: 200, body: { filename: '/x' } } },
    expect: 'direct-response',
  },
  {
    name: 'an answer of 204',
    route: { match: { prefix: '/' }, direct_response: { status: 204 } },
    expect: 'direct-response',
  },
  {
    name: 'non_forwarding_action',
    route: { match: { prefix: '/' }, non_forwarding_action: {} },
    expect: 'route-action',
  },
  { name: 'response headers', route: to('a', '/', { response_headers_to_remove: ['x'] }), expect: 'kernel' },
  {
    name: 'a response header that frames the message',
    route: to('a', '/', { response_headers_to_remove: ['connection'] }),
    expect: 'response-headers',
  },
  {
    name: 'response headers of the virtual host',
    vhost: { response_headers_to_add: [{ header: { key: 'a', value: 'b' } }] },
    expect: 'kernel',
  },
  {
    name: 'a computed header',
    route: to('a', '/', { request_headers_to_add: [{ header: { key: 'a', value: '%REQ(b)%' } }] }),
    expect: 'header-format',
  },
  {
    name: 'an edit of a framing header',
    route: to('a', '/', { request_headers_to_remove: ['content-length'] }),
    expect: 'header-edit',
  },
  {
    name: 'headers that are removed from what is not internal',
    options: { routeConfig: { internal_only_headers: ['x-user'] } },
    expect: 'unsupported-field',
  },
  { name: 'TLS required', vhost: { require_tls: 'ALL' }, expect: 'require-tls' },
  // clusters
  {
    name: 'DNS names',
    cluster: {
      type: 'STRICT_DNS',
      load_assignment: {
        endpoints: [
          { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 'example.org', port_value: 80 } } } }] },
        ],
      },
    },
    expect: 'kernel',
  },
  {
    name: 'the DNS cluster extension',
    cluster: {
      type: null,
      cluster_type: {
        name: 'envoy.clusters.dns',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster' },
      },
      load_assignment: {
        endpoints: [
          { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 'example.org', port_value: 80 } } } }] },
        ],
      },
    },
    expect: 'kernel',
  },
  {
    name: 'hashing of what is looked up',
    cluster: {
      type: 'STRICT_DNS',
      lb_policy: 'MAGLEV',
      load_assignment: {
        endpoints: [
          { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 'example.org', port_value: 80 } } } }] },
        ],
      },
    },
    expect: 'lb-policy',
  },
  { name: 'DNS with IP addresses', cluster: { type: 'STRICT_DNS' }, expect: 'kernel' },
  {
    name: 'EDS from the files',
    cluster: { type: 'EDS', load_assignment: null, eds_cluster_config: { service_name: 'eds' } },
    expect: 'kernel',
  },
  { name: 'ring hash', cluster: { lb_policy: 'RING_HASH' }, expect: 'kernel' },
  { name: 'Maglev', cluster: { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '101' } }, expect: 'kernel' },
  {
    name: 'another hash function',
    cluster: { lb_policy: 'RING_HASH', ring_hash_lb_config: { hash_function: 'MURMUR_HASH_2' } },
    expect: 'lb-policy',
  },
  {
    name: 'bounded loads',
    cluster: { lb_policy: 'MAGLEV', maglev_lb_config: { consistent_hashing_lb_config: { hash_balance_factor: 120 } } },
    expect: 'unsupported-field',
  },
  {
    name: 'least request of three',
    cluster: { lb_policy: 'LEAST_REQUEST', least_request_lb_config: { choice_count: 3 } },
    expect: 'lb-policy',
  },
  {
    name: 'weights',
    cluster: endpoints({}, [{ load_balancing_weight: 1 }, { load_balancing_weight: 2 }]),
    expect: 'kernel',
  },
  {
    name: 'weights under least request',
    cluster: {
      ...endpoints({}, [{ load_balancing_weight: 1 }, { load_balancing_weight: 2 }]),
      lb_policy: 'LEAST_REQUEST',
    },
    expect: 'cluster-endpoints',
  },
  {
    name: 'requests per connection',
    cluster: protocol({
      common_http_protocol_options: { max_requests_per_connection: 2 },
      explicit_http_config: { http_protocol_options: {} },
    }),
    expect: 'kernel',
  },
  { name: 'a lower priority', cluster: endpoints({ priority: 1 }), expect: 'kernel' },
  {
    name: 'priorities within subsets',
    cluster: { ...endpoints({ priority: 1 }), lb_subset_config: { fallback_policy: 'ANY_ENDPOINT' } },
    expect: 'cluster-endpoints',
  },
  { name: 'no endpoints', cluster: { load_assignment: { cluster_name: 'a' } }, expect: 'no-endpoints' },
  { name: 'health checks', cluster: { health_checks: [{}] }, expect: 'kernel' },
  {
    name: 'health checks that close connections',
    cluster: { health_checks: [{}], close_connections_on_host_health_failure: true },
    expect: 'health-check',
  },
  { name: 'outlier detection that never ejects', cluster: { outlier_detection: {} }, expect: 'kernel' },
  {
    name: 'outlier detection',
    cluster: { outlier_detection: { max_ejection_percent: 100 } },
    expect: 'kernel',
  },
  {
    name: 'outlier detection by success rate',
    cluster: { outlier_detection: { max_ejection_percent: 100, success_rate_minimum_hosts: 1 } },
    expect: 'outlier-detection',
  },
  {
    name: 'outlier detection by failure percentage',
    cluster: {
      outlier_detection: {
        max_ejection_percent: 100,
        enforcing_failure_percentage: 100,
        failure_percentage_minimum_hosts: 1,
      },
    },
    expect: 'outlier-detection',
  },
  {
    name: 'outlier detection that tells local failures apart',
    cluster: { outlier_detection: { max_ejection_percent: 100, split_external_local_origin_errors: true } },
    expect: 'outlier-detection',
  },
  {
    name: 'outlier detection beside health checks',
    cluster: { outlier_detection: { max_ejection_percent: 100 }, health_checks: [{}] },
    expect: 'outlier-detection',
  },
  {
    name: 'an unknown field of outlier detection',
    cluster: { outlier_detection: { max_ejection_percent: 100, monitors: [{}] } },
    expect: 'unsupported-field',
  },
  {
    name: 'few connections',
    cluster: { circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1, max_requests: 1 }] } },
    expect: 'kernel',
  },
  {
    name: 'few that may wait',
    cluster: { circuit_breakers: { thresholds: [{ max_pending_requests: 1 }] } },
    expect: 'kernel',
  },
  {
    name: 'no connections',
    cluster: { circuit_breakers: { thresholds: [{ max_connections: 0 }] } },
    expect: 'circuit-breaker',
  },
  {
    name: 'none that may wait',
    cluster: { circuit_breakers: { thresholds: [{ max_pending_requests: 0 }] } },
    expect: 'circuit-breaker',
  },
  {
    name: 'few connection pools',
    cluster: { circuit_breakers: { thresholds: [{ max_connection_pools: 10 }] } },
    expect: 'circuit-breaker',
  },
  {
    name: 'requests in flight',
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 10, max_pending_requests: 10 }] } },
    expect: 'kernel',
  },
  {
    name: 'fewer may wait than be in flight',
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 10, max_pending_requests: 9 }] } },
    expect: 'kernel',
  },
  {
    name: 'requests in flight that the runtime may change',
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 10 }] } },
    bootstrap: { layered_runtime: { layers: [{ name: 'disk', disk_layer: {} }] } },
    expect: 'circuit-breaker',
  },
  {
    name: 'requests in flight, and runtime keys about something else',
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 10 }] } },
    bootstrap: { layered_runtime: { layers: [{ name: 'static', static_layer: { 're2.max': 1 } }] } },
    expect: 'kernel',
  },
  {
    name: 'a second threshold of the same priority, which Envoy does not look at',
    cluster: {
      circuit_breakers: { thresholds: [{ max_requests: 10, max_pending_requests: 10 }, { max_connections: 0 }] },
    },
    expect: 'kernel',
  },
  {
    name: 'the first of two thresholds',
    cluster: { circuit_breakers: { thresholds: [{ priority: 'HIGH' }, { max_connections: 0 }, { max_requests: 10 }] } },
    expect: 'circuit-breaker',
  },
  {
    name: 'a high threshold',
    cluster: { circuit_breakers: { thresholds: [{ max_requests: 4294967295 }] } },
    expect: 'kernel',
  },
  {
    name: 'TLS to the endpoints',
    cluster: {
      transport_socket: {
        name: 'tls',
        typed_config: { '@type': 'x/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext' },
      },
    },
    expect: 'tls',
  },
  {
    name: 'HTTP/2 to the endpoints',
    cluster: protocol({ explicit_http_config: { http2_protocol_options: {} } }),
    expect: 'upstream-protocol',
  },
  {
    name: 'HTTP/1 to the endpoints',
    cluster: protocol({ explicit_http_config: { http_protocol_options: {} } }),
    expect: 'kernel',
  },
  // RBAC
  { name: 'RBAC', options: rbac(policies(any)), expect: 'kernel' },
  { name: 'RBAC on metadata', options: rbac(policies({ metadata: {} })), expect: 'rbac-rule' },
  {
    name: 'RBAC by CEL',
    options: rbac({ rules: { policies: { p: { permissions: [any], principals: [any], condition: {} } } } }),
    expect: 'unsupported-field',
  },
  { name: 'an RBAC matcher of nothing', options: rbac({ matcher: {} }), expect: 'rbac-rule' },
  {
    name: 'an RBAC matcher of something else than headers',
    options: rbac({ matcher: { matcher_list: { matchers: [{ predicate: { single_predicate: {} } }] } } }),
    expect: 'rbac-rule',
  },
];

describe('verdicts', () => {
  for (const c of CASES) {
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
