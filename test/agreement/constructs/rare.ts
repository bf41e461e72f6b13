/** Fields that hardly anybody uses, and that the plan takes since they change nothing of what it decides, or leaves to the proxy: at every level. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, type Construct, cluster, maybe, several, typed } from './construct.js';

const LISTENERS = 8;
const percent = (numerator: number): JsonObject => ({ default_value: { numerator }, runtime_key: 'none' });
const anyTyped = (type: string, more: JsonObject = {}): JsonObject => ({
  name: type,
  typed_config: { '@type': `type.googleapis.com/envoy.extensions.${type}`, ...more },
});

const OF_LISTENER: readonly JsonObject[] = [
  { listener_filters_timeout: '3s' },
  { continue_on_listener_filters_timeout: true },
  { bind_to_port: true },
  { enable_reuse_port: false },
  { tcp_backlog_size: 50 },
  { connection_balance_config: { exact_balance: {} } },
  { max_connections_to_accept_per_socket_event: 1 },
  { ignore_global_conn_limit: true },
  { drain_type: 'MODIFY_ONLY' },
  { per_connection_buffer_limit_bytes: 4096 },
  { metadata: { filter_metadata: { a: { b: 'c' } } } },
  { listener_filters: [anyTyped('filters.listener.http_inspector.v3.HttpInspector')] },
];
const OF_MANAGER: readonly JsonObject[] = [
  { codec_type: 'HTTP1' },
  { server_header_transformation: 'PASS_THROUGH' },
  { server_header_transformation: 'APPEND_IF_ABSENT' },
  { proxy_100_continue: true },
  { stream_flush_timeout: '3s' },
  { request_timeout: '0s' },
  { request_headers_timeout: '5s' },
  { drain_timeout: '1s' },
  { delayed_close_timeout: '0s' },
  { max_request_headers_kb: 96 },
  { max_request_headers_kb: 8 },
  { stream_error_on_invalid_http_message: true },
  { add_proxy_protocol_connection_state: false },
  { access_log_options: { flush_access_log_on_new_request: true } },
  { forward_client_cert_details: 'SANITIZE' },
  { forward_client_cert_details: 'FORWARD_ONLY' },
  { forward_client_cert_details: 'ALWAYS_FORWARD_ONLY' },
  { forward_client_cert_details: 'SANITIZE_SET', set_current_client_cert_details: { subject: true, uri: true } },
  { http2_protocol_options: { max_concurrent_streams: 5 } },
  { common_http_protocol_options: { idle_timeout: '30s' } },
  { common_http_protocol_options: { max_headers_count: 100 } },
  { http_protocol_options: { override_stream_error_on_invalid_http_message: true } },
  { http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'h' } },
  { http_protocol_options: { enable_trailers: true } },
  { upgrade_configs: [{ upgrade_type: 'websocket' }, { upgrade_type: 'CONNECT', enabled: false }] },
  {
    request_id_extension: {
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig',
        pack_trace_reason: false,
      },
    },
  },
  { xff_num_trusted_hops: 2 },
  { strip_trailing_host_dot: true },
];
const OF_ROUTER: readonly JsonObject[] = [
  { dynamic_stats: false },
  { start_child_span: true },
  { suppress_grpc_request_failure_code_stats: true },
  { reject_connect_request_early_data: true },
  { respect_expected_rq_timeout: true },
  { upstream_log_options: { flush_upstream_log_on_upstream_stream: true } },
  { strict_check_headers: ['x-envoy-max-retries'] },
];
const OF_CONFIG: readonly JsonObject[] = [
  { validate_clusters: true },
  { max_direct_response_body_size_bytes: 10 },
  { most_specific_header_mutations_wins: true },
];
const OF_HOST: readonly JsonObject[] = [
  { require_tls: 'NONE' },
  { require_tls: 'EXTERNAL_ONLY' },
  { virtual_clusters: [{ name: 'v', headers: [{ name: ':path', string_match: { prefix: '/a' } }] }] },
  { include_is_timeout_retry_header: true },
  { per_request_buffer_limit_bytes: 5 },
  { request_body_buffer_limit: 5 },
  { hedge_policy: { initial_requests: 1 } },
  { hedge_policy: { hedge_on_per_try_timeout: true } },
];
const OF_ROUTE: readonly JsonObject[] = [
  { per_request_buffer_limit_bytes: 5 },
  { request_body_buffer_limit: 5 },
  { stat_prefix: 'some' },
  { metadata: { filter_metadata: { 'envoy.lb': { a: 'b' } } } },
];
const OF_ACTION: readonly JsonObject[] = [
  { cluster_not_found_response_code: 'INTERNAL_SERVER_ERROR' },
  { early_data_policy: anyTyped('early_data.v3.DefaultEarlyDataPolicy') },
  { flush_timeout: '5s' },
  { max_grpc_timeout: '5s', grpc_timeout_offset: '1s' },
  { metadata_match: { filter_metadata: { 'envoy.lb': { a: 'b' } } } },
  { host_rewrite_header: 'x-user' },
  { host_rewrite_path_regex: { pattern: { regex: '^/(.+)$' }, substitution: '\\1.test' } },
  { path_rewrite: '/n' },
  { upgrade_configs: [{ upgrade_type: 'websocket', enabled: false }] },
  { internal_redirect_policy: { max_internal_redirects: 2 } },
  { retry_policy: { retry_on: '5xx', per_try_idle_timeout: '20s' } },
  {
    retry_policy: {
      retry_on: '5xx',
      rate_limited_retry_back_off: { reset_headers: [{ name: 'retry-after', format: 'SECONDS' }] },
    },
  },
  {
    retry_policy: { retry_on: 'retriable-headers', retriable_headers: [{ name: 'x-powered-by', present_match: true }] },
  },
  {
    retry_policy: {
      retry_on: '5xx',
      retry_options_predicates: [],
      retriable_request_headers: [{ name: 'x-user', present_match: true }],
    },
  },
  { retry_policy: { retry_on: '5xx', num_retries: 2, host_selection_retry_max_attempts: '5' } },
  { rate_limits: [{ stage: 1, actions: [{ source_cluster: {} }] }] },
];
const FILTERS: readonly JsonObject[] = [
  typed('grpc_stats.v3.FilterConfig', {
    stats_for_all_methods: true,
    enable_upstream_stats: true,
    emit_filter_state: true,
  }),
  typed('grpc_stats.v3.FilterConfig', {
    individual_method_stats_allowlist: { services: [{ name: 's', method_names: ['m'] }] },
    replace_dots_in_grpc_service_name: true,
  }),
  typed('grpc_web.v3.GrpcWeb'),
  typed('grpc_http1_bridge.v3.Config', { upgrade_protobuf_to_grpc: true, ignore_query_parameters: true }),
  typed('grpc_http1_reverse_bridge.v3.FilterConfig', {
    content_type: 'application/x',
    withhold_grpc_frames: true,
    response_size_header: 'x-size',
  }),
  typed('set_metadata.v3.Config', {
    metadata: [{ metadata_namespace: 'n', allow_overwrite: true, value: { a: 'b' } }],
  }),
  typed('set_metadata.v3.Config', { metadata: [{ metadata_namespace: 'envoy.lb', value: { a: 'b' } }] }),
  typed('set_metadata.v3.Config', {
    metadata: [
      { metadata_namespace: 'n', typed_value: { '@type': 'type.googleapis.com/google.protobuf.Struct', value: {} } },
    ],
  }),
  typed('header_to_metadata.v3.Config', {
    request_rules: [{ header: 'x-user', on_header_present: { metadata_namespace: 'n', key: 'k' }, remove: false }],
  }),
  typed('header_to_metadata.v3.Config', {
    request_rules: [
      { header: 'x-user', on_header_present: { metadata_namespace: 'envoy.lb', key: 'a' }, remove: true },
    ],
  }),
  typed('header_to_metadata.v3.Config', {
    request_rules: [{ cookie: 'c', on_header_missing: { metadata_namespace: 'n', key: 'k', value: 'v' } }],
  }),
  typed('health_check.v3.HealthCheck', {
    pass_through_mode: true,
    cache_time: '1s',
    headers: [{ name: ':path', string_match: { exact: '/a' } }],
  }),
  typed('health_check.v3.HealthCheck', {
    pass_through_mode: false,
    cluster_min_healthy_percentages: { a: { value: 50 } },
    headers: [{ name: ':path', string_match: { exact: '/b' } }],
  }),
  typed('rbac.v3.RBAC', {
    rules: { policies: { p: { permissions: [{ any: true }], principals: [{ any: true }] } } },
    rules_stat_prefix: 'x',
    shadow_rules_stat_prefix: 'y',
    track_per_rule_stats: true,
  }),
  typed('rbac.v3.RBAC', {
    shadow_rules: { action: 'DENY', policies: { p: { permissions: [{ any: true }], principals: [{ any: true }] } } },
  }),
  typed('rbac.v3.RBAC', {
    rules: {
      policies: {
        p: {
          permissions: [{ destination_port: 1 }, { destination_port_range: { start: 1, end: 65_535 } }],
          principals: [{ source_ip: { address_prefix: '127.0.0.0', prefix_len: 7 } }],
        },
      },
    },
  }),
  typed('rbac.v3.RBAC', {
    rules: {
      policies: {
        p: {
          permissions: [{ requested_server_name: { exact: '' } }],
          principals: [
            { direct_remote_ip: { address_prefix: '::1', prefix_len: 128 } },
            { not_id: { remote_ip: { address_prefix: '10.0.0.0', prefix_len: 0 } } },
          ],
        },
      },
    },
  }),
  typed('rbac.v3.RBAC', {
    rules: {
      policies: {
        p: {
          permissions: [
            {
              and_rules: { rules: [{ any: true }, { destination_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } }] },
            },
          ],
          principals: [
            { and_ids: { ids: [{ any: true }, { url_path: { path: { suffix: 'b' } } }] } },
            { or_ids: { ids: [{ header: { name: 'x-user' } }] } },
          ],
        },
      },
    },
  }),
  typed('fault.v3.HTTPFault', {
    abort: { http_status: 503, percentage: { numerator: 100 } },
    disable_downstream_cluster_stats: true,
    filter_metadata: { a: 'b' },
  }),
  typed('fault.v3.HTTPFault', {
    delay: { header_delay: {}, percentage: { numerator: 100 } },
    abort: { header_abort: {}, percentage: { numerator: 100 } },
  }),
  typed('local_ratelimit.v3.LocalRateLimit', {
    stat_prefix: 'x',
    token_bucket: { max_tokens: 10_000, tokens_per_fill: 10_000, fill_interval: '1s' },
    filter_enabled: percent(100),
    filter_enforced: percent(0),
    request_headers_to_add_when_not_enforced: [{ header: { key: 'x-over', value: '1' } }],
  }),
  typed('local_ratelimit.v3.LocalRateLimit', {
    stat_prefix: 'x',
    token_bucket: { max_tokens: 10_000, tokens_per_fill: 10_000, fill_interval: '1s' },
    filter_enabled: percent(100),
    filter_enforced: percent(100),
    max_dynamic_descriptors: 5,
    stage: 1,
    vh_rate_limits: 'INCLUDE',
  }),
  typed('csrf.v3.CsrfPolicy', {
    filter_enabled: percent(0),
    shadow_enabled: percent(100),
    additional_origins: [{ exact: 'h' }],
  }),
  typed('decompressor.v3.Decompressor', {
    decompressor_library: anyTyped('compression.gzip.decompressor.v3.Gzip'),
    request_direction_config: { common_config: { ignore_no_transform_header: true }, advertise_accept_encoding: true },
  }),
  typed('compressor.v3.Compressor', {
    compressor_library: anyTyped('compression.gzip.compressor.v3.Gzip'),
    choose_first: true,
    response_direction_config: { common_config: { min_content_length: 1 } },
  }),
  typed('compressor.v3.Compressor', {
    compressor_library: anyTyped('compression.gzip.compressor.v3.Gzip'),
    response_direction_config: { weaken_etag_on_compress: true },
  }),
  typed('compressor.v3.Compressor', {
    compressor_library: anyTyped('compression.gzip.compressor.v3.Gzip'),
    content_length: 10,
    content_type: ['text/plain'],
    runtime_enabled: { default_value: true, runtime_key: 'r' },
  }),
  typed('cors.v3.Cors'),
];
const balancing = (type: string, more: JsonObject = {}): JsonObject => ({
  load_balancing_policy: { policies: [{ typed_extension_config: anyTyped(`load_balancing_policies.${type}`, more) }] },
});
const OF_CLUSTER: readonly JsonObject[] = [
  balancing('round_robin.v3.RoundRobin'),
  balancing('least_request.v3.LeastRequest'),
  balancing('random.v3.Random'),
  balancing('ring_hash.v3.RingHash', { minimum_ring_size: '16' }),
  balancing('maglev.v3.Maglev', { table_size: '251' }),
  { per_connection_buffer_limit_bytes: 2048 },
  { wait_for_warm_on_init: true },
  { track_cluster_stats: { timeout_budgets: true } },
  { cleanup_interval: '3s' },
  { upstream_connection_options: { set_local_interface_name_on_upstream_connections: true } },
  { upstream_connection_options: { tcp_keepalive: { keepalive_time: 30 } } },
  { common_lb_config: { zone_aware_lb_config: { routing_enabled: { value: 50 }, fail_traffic_on_panic: true } } },
  { common_lb_config: { zone_aware_lb_config: { min_cluster_size: '1' }, update_merge_window: '1s' } },
  { common_lb_config: { close_connections_on_host_set_change: true } },
  { common_lb_config: { locality_weighted_lb_config: {} } },
  {
    lb_policy: 'LEAST_REQUEST',
    least_request_lb_config: { choice_count: 3, active_request_bias: { default_value: 0.5, runtime_key: 'b' } },
  },
  { ignore_health_on_host_removal: true },
  { close_connections_on_host_health_failure: true },
  { preconnect_policy: { per_upstream_preconnect_ratio: 1.5 } },
  { max_requests_per_connection: 1 },
  { circuit_breakers: { thresholds: [{ retry_budget: { budget_percent: { value: 20 } }, track_remaining: true }] } },
  { circuit_breakers: { thresholds: [{ priority: 'HIGH', max_requests: 1 }] } },
  {
    outlier_detection: {
      consecutive_5xx: 0,
      success_rate_stdev_factor: 1000,
      success_rate_request_volume: 10,
      failure_percentage_threshold: 90,
      failure_percentage_request_volume: 5,
      enforcing_failure_percentage_local_origin: 0,
      max_ejection_time_jitter: '1s',
      successful_active_health_check_uneject_host: false,
    },
  },
  { metadata: { filter_metadata: { a: { b: 'c' } } } },
  { alt_stat_name: 'other' },
  {
    dns_refresh_rate: '3s',
    dns_failure_refresh_rate: { base_interval: '1s' },
    respect_dns_ttl: true,
    use_tcp_for_dns_lookups: true,
    dns_lookup_family: 'V4_ONLY',
  },
  { http_protocol_options: { enable_trailers: true } },
  {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http_protocol_options: { allow_chunked_length: true } },
        common_http_protocol_options: { max_requests_per_connection: 2 },
      },
    },
  },
  { lb_subset_config: { fallback_policy: 'ANY_ENDPOINT', subset_selectors: [{ keys: ['a'] }] } },
  {
    common_lb_config: { locality_weighted_lb_config: {} },
    lb_subset_config: {
      fallback_policy: 'DEFAULT_SUBSET',
      default_subset: { a: 'b' },
      locality_weight_aware: true,
      subset_selectors: [{ keys: ['a'], fallback_policy: 'NO_FALLBACK' }],
    },
  },
];
const OF_ENDPOINT: readonly JsonObject[] = [
  { metadata: { filter_metadata: { 'envoy.lb': { a: 'b' } } } },
  { metadata: { filter_metadata: { 'envoy.lb': { hash_key: 'one' } } } },
  { health_status: 'HEALTHY' },
  {},
];

function route(draw: Draw, prefix: string, name: string): JsonObject {
  const match = { prefix };
  if (draw.below(20) === 0) return { match: { connect_matcher: {} }, route: { cluster: name } };
  if (draw.below(20) === 0)
    return {
      match: {
        path_match_policy: anyTyped('path.match.uri_template.v3.UriTemplateMatchConfig', { path_template: '/a/{x}' }),
      },
      route: { cluster: name },
    };
  if (draw.below(6) === 0)
    return {
      match,
      ...maybe(draw, 2, OF_ROUTE),
      direct_response: { status: 200, body: { inline_string: draw.one(['short', 'ten bytes.']) } },
    };
  return { match, ...maybe(draw, 3, OF_ROUTE), route: { cluster: name, ...maybe(draw, 2, OF_ACTION) } };
}

export const rare: Construct = {
  share: 0.08,
  make: (draw) => {
    const names = ['a', 'b', 'c', 'd'];
    const document = bootstrap(
      several(LISTENERS, () => ({
        manager: maybe(draw, 2, OF_MANAGER),
        router: maybe(draw, 4, OF_ROUTER),
        filters: draw.below(2) === 0 ? [{ name: 'some', typed_config: draw.one(FILTERS) }] : [],
        config: maybe(draw, 5, OF_CONFIG),
        hosts: [
          {
            name: 'h',
            domains: ['h'],
            ...maybe(draw, 3, OF_HOST),
            routes: ['/a', '/b', '/'].map((p) => route(draw, p, draw.one(names))),
          },
          { name: 'all', domains: ['*'], routes: [route(draw, '/', draw.one(names))] },
        ],
      })),
      names.map((name) =>
        cluster(
          name,
          maybe(draw, 2, OF_CLUSTER),
          several(1 + draw.below(3), () => draw.one(OF_ENDPOINT)),
        ),
      ),
    );
    const { listeners } = document.static_resources as { listeners: JsonObject[] };
    for (const listener of listeners) Object.assign(listener, maybe(draw, 3, OF_LISTENER));
    return {
      documents: [document],
      headers: [
        ['x-user', 'alice'],
        ['x-cluster', 'a'],
        ['x-forwarded-client-cert', 'By=spiffe://a;Hash=b'],
        ['x-envoy-fault-delay-request', '1'],
        ['x-envoy-fault-abort-request', '418'],
        ['accept-encoding', 'gzip'],
        ['content-type', 'application/x-protobuf'],
        ['x-answer', '503'],
        ['expect', '100-continue'],
      ],
      hosts: ['h', 'other', 'h.'],
      paths: ['/a', '/b/c', '/', '/a/b'],
      adverse: true,
    };
  },
};
