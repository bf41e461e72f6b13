/** Guides to the reasons that concern Envoy's own configuration. */
import type { Guide } from './guide.js';

const FORWARD = 'match: { prefix: / }\nroute: { cluster: shop }';
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';

export const ENVOY_GUIDES: Readonly<Record<string, Guide>> = {
  'unsupported-field': {
    fix: 'Remove the field if its effect is not needed.',
    example: {
      place: 'cluster',
      before: 'max_requests_per_connection: 1000',
      after: '{}',
    },
  },
  'listener-address': {
    fix: 'Let the listener listen on a TCP address with a numeric port.',
    example: {
      place: 'listener',
      before: 'address: { pipe: { path: /run/shop.sock } }',
      after: 'address: { socket_address: { address: 127.0.0.1, port_value: 10080 } }',
    },
  },
  'filter-chain': {
    fix: 'Give the listener one filter chain without a match; split the others off into listeners of their own.',
    example: {
      place: 'filter chain',
      before: 'filter_chain_match: { source_prefix_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }',
      after: '{}',
    },
  },
  'network-filter': {
    fix: 'Leave only the HTTP connection manager in the filter chain.',
    without: 'a listener whose filters are not about HTTP has no rules.',
  },
  'http-filter': {
    fix: 'Remove the filter, or disable it for the routes that do not need it (typed_per_filter_config).',
    example: {
      place: 'filters',
      before: `- name: lua
  typed_config:
    "@type": ${HTTP}.lua.v3.Lua
    default_source_code: { inline_string: "function envoy_on_request(handle) end" }`,
      after: '[]',
    },
  },
  'per-route-filter': {
    fix: 'Configure the filter only for the routes that need it.',
    example: {
      place: 'route',
      around: {
        filters: `- name: fault
  typed_config: { "@type": ${HTTP}.fault.v3.HTTPFault }`,
      },
      before: `${FORWARD}
typed_per_filter_config:
  fault:
    "@type": ${HTTP}.fault.v3.HTTPFault
    delay: { fixed_delay: 0.1s, percentage: { numerator: 50 } }`,
      after: FORWARD,
    },
  },
  tls: {
    fix: 'Speak plain text on this hop, where the network allows it; the proxy keeps TLS connections.',
    example: {
      place: 'cluster',
      before: `transport_socket:
  name: tls
  typed_config: { "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext }`,
      after: '{}',
    },
  },
  'access-log': {
    fix: 'Log to a file or a standard stream, with the operators and filters that the reason’s message does not name.',
    example: {
      place: 'connection manager',
      before: `access_log:
  - name: stdout
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
      log_format: { text_format_source: { inline_string: "%STREAM_ID% %RESPONSE_CODE%\\n" } }`,
      after: `access_log:
  - name: stdout
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
      log_format: { text_format_source: { inline_string: "%REQ(X-REQUEST-ID)% %RESPONSE_CODE%\\n" } }`,
    },
  },
  tracing: {
    fix: 'Turn tracing off for this listener (no tracing, or an overall sampling of 0 without a provider).',
    example: { place: 'connection manager', before: 'tracing: {}', after: '{}' },
  },
  'route-source': {
    fix: 'Give the files the route configuration that the listener names.',
    without: 'the routes of the example would have to come from a control plane.',
  },
  codec: {
    fix: 'Let the listener speak HTTP/1.1 (codec_type AUTO or HTTP1).',
    example: { place: 'connection manager', before: 'codec_type: HTTP2', after: 'codec_type: AUTO' },
  },
  'local-reply': {
    fix: 'Remove local_reply_config from this listener.',
    example: {
      place: 'connection manager',
      before: 'local_reply_config: { body_format: { text_format_source: { inline_string: "sorry\\n" } } }',
      after: '{}',
    },
  },
  'stream-limits': {
    fix: 'Remove the limit, or raise it above the fast path’s own (8 KiB and 64 lines of head).',
    example: { place: 'connection manager', before: 'request_timeout: 30s', after: '{}' },
  },
  'idle-timeout': {
    fix: 'Set a route timeout that is not longer than the idle timeout, or stream_idle_timeout: 0s.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 0s }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 60s }',
    },
  },
  'host-normalization': {
    fix: 'Leave strip_trailing_host_dot off.',
    example: { place: 'connection manager', before: 'strip_trailing_host_dot: true', after: '{}' },
  },
  'route-match': {
    fix: 'Write the match with path, prefix, path_separated_prefix or safe_regex.',
    example: {
      place: 'route',
      before: `match:
  path_match_policy:
    name: template
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig
      path_template: /items/{id}
route: { cluster: shop }`,
      after: 'match: { safe_regex: { regex: "/items/[^/]+" } }\nroute: { cluster: shop }',
    },
  },
  'match-header': {
    fix: 'Match on a header that the proxy does not maintain itself.',
    example: {
      place: 'route',
      before: `match: { prefix: /, headers: [{ name: x-request-id, present_match: true }] }
route: { cluster: shop }`,
      after: `match: { prefix: /, headers: [{ name: x-shop-request, present_match: true }] }
route: { cluster: shop }`,
    },
  },
  regex: {
    fix: 'Write the expression without what is outside the supported syntax, for example with explicit ranges.',
    example: {
      place: 'route',
      before: `match: { safe_regex: { regex: '/\\C+' } }
route: { cluster: shop }`,
      after: `match: { safe_regex: { regex: '/[a-z]+' } }
route: { cluster: shop }`,
    },
  },
  'runtime-fraction': {
    fix: 'Use weighted_clusters instead of a fraction of the matches.',
    example: {
      place: 'route',
      before: `match: { prefix: /, runtime_fraction: { default_value: { numerator: 10 } } }
route: { cluster: shop }`,
      after: `match: { prefix: / }
route: { weighted_clusters: { clusters: [{ name: shop, weight: 100 }] } }`,
    },
  },
  'route-action': {
    fix: 'Use a route, redirect or direct_response.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nnon_forwarding_action: {}',
      after: 'match: { prefix: / }\ndirect_response: { status: 404 }',
    },
  },
  'cluster-unknown': {
    fix: 'Name the cluster (cluster or weighted_clusters), and define it in the files.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster_header: x-cluster }',
      after:
        'match: { prefix: /, headers: [{ name: x-cluster, string_match: { exact: shop } }] }\nroute: { cluster: shop }',
    },
  },
  'header-format': {
    fix: 'Write the value without %COMMANDS%.',
    example: {
      place: 'route',
      before: `${FORWARD}
request_headers_to_add: [{ header: { key: x-time, value: "%START_TIME%" } }]`,
      after: `${FORWARD}
request_headers_to_add: [{ header: { key: x-mesh, value: "shop" } }]`,
    },
  },
  'header-edit': {
    fix: 'Edit a header of your own instead.',
    example: {
      place: 'route',
      before: `${FORWARD}
request_headers_to_remove: [x-request-id]`,
      after: `${FORWARD}
request_headers_to_remove: [x-shop-internal]`,
    },
  },
  'response-headers': {
    fix: 'Leave these headers to the proxy, or edit a header of your own instead.',
    example: {
      place: 'route',
      before: `${FORWARD}
response_headers_to_add: [{ header: { key: server, value: shop } }]`,
      after: FORWARD,
    },
  },
  retry: {
    fix: 'Retry on connect-failure, refused-stream, reset-before-request, unavailable, cancelled and 503 only.',
    example: {
      place: 'route',
      before:
        'match: { prefix: / }\nroute: { cluster: shop, retry_policy: { retry_on: "retriable-4xx,connect-failure" } }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, retry_policy: { retry_on: connect-failure } }',
    },
  },
  timeout: {
    fix: 'Use the route’s timeout instead.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, max_stream_duration: { max_stream_duration: 10s } }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 10s }',
    },
  },
  mirror: {
    fix: 'Mirror on a route of its own with a narrow match, so that the others stay in the kernel.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, request_mirror_policies: [{ cluster: shop }] }',
      after: FORWARD,
    },
  },
  'rate-limit': {
    fix: 'Use local rate limits, without retries where answers have x-ratelimit headers, and with descriptors that are configured beside their bucket (`rate_limits` of the filter).',
    example: {
      place: 'route',
      around: {
        filters: `- name: ratelimit
  typed_config:
    "@type": ${HTTP}.ratelimit.v3.RateLimit
    domain: shop
    rate_limit_service:
      transport_api_version: V3
      grpc_service: { envoy_grpc: { cluster_name: shop } }`,
      },
      before: 'match: { prefix: / }\nroute: { cluster: shop, rate_limits: [{ actions: [{ remote_address: {} }] }] }',
      after: FORWARD,
    },
  },
  'host-rewrite': {
    fix: 'Use host_rewrite_literal on a virtual host with exact domains.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, host_rewrite_header: x-host }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, host_rewrite_literal: shop.internal }',
    },
  },
  'path-rewrite': {
    fix: 'Use prefix_rewrite, or a regex_rewrite whose result is never empty.',
    example: {
      place: 'route',
      before: `match: { prefix: /old }
route: { cluster: shop, regex_rewrite: { pattern: { regex: "/old" }, substitution: "" } }`,
      after: 'match: { prefix: /old/ }\nroute: { cluster: shop, prefix_rewrite: / }',
    },
  },
  redirect: {
    fix: 'Redirect with path_redirect or prefix_rewrite.',
    example: {
      place: 'route',
      before: `match: { prefix: /old/ }
redirect: { regex_rewrite: { pattern: { regex: "/old/(.*)" }, substitution: '/new/\\1' } }`,
      after: 'match: { prefix: /old/ }\nredirect: { prefix_rewrite: /new/ }',
    },
  },
  'direct-response': {
    fix: 'Answer with a short inline text and a status that has a body.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\ndirect_response: { status: 204 }',
      after: 'match: { prefix: / }\ndirect_response: { status: 200, body: { inline_string: "ok" } }',
    },
  },
  'require-tls': {
    fix: 'Leave require_tls to the edge.',
    example: { place: 'virtual host', before: 'require_tls: ALL', after: '{}' },
  },
  'cluster-discovery': {
    fix: 'Give the cluster its endpoints in the files (type STATIC, or EDS with a ClusterLoadAssignment), or names to look up (STRICT_DNS).',
    example: {
      place: 'cluster',
      before: `type: ORIGINAL_DST
lb_policy: CLUSTER_PROVIDED`,
      after: `type: STATIC
load_assignment:
  cluster_name: shop
  endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } } }] }]`,
    },
  },
  'cluster-endpoints': {
    fix: 'Put the endpoints into one locality, or use another policy than a hash table.',
    example: {
      place: 'cluster',
      before: `lb_policy: RING_HASH
common_lb_config: { locality_weighted_lb_config: {} }
load_assignment:
  cluster_name: shop
  endpoints:
    - locality: { zone: a }
      load_balancing_weight: 1
      lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } } }]
    - locality: { zone: b }
      load_balancing_weight: 2
      lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 80 } } } }]`,
      after: `lb_policy: RING_HASH
load_assignment:
  cluster_name: shop
  endpoints:
    - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } }
        - endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 80 } } }`,
    },
  },
  'no-endpoints': {
    fix: 'Give the cluster an endpoint.',
    example: {
      place: 'cluster',
      before: 'load_assignment: { cluster_name: shop }',
      after: '{}',
    },
  },
  'lb-policy': {
    fix: 'Use one of the policies that the explanation names, without settings that change how they choose.',
    example: {
      place: 'cluster',
      before: `lb_policy: LEAST_REQUEST
least_request_lb_config: { choice_count: 5 }`,
      after: 'lb_policy: LEAST_REQUEST',
    },
  },
  'upstream-protocol': {
    fix: 'Let the server speak HTTP/1.1 in plain text.',
    example: {
      place: 'cluster',
      before: `typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http2_protocol_options: {} }`,
      after: '{}',
    },
  },
  'health-check': {
    fix: 'Let requests that are under way end by their timeout.',
    example: {
      place: 'cluster',
      before: `close_connections_on_host_health_failure: true
health_checks:
  - timeout: 1s
    interval: 5s
    unhealthy_threshold: 2
    healthy_threshold: 1
    http_health_check: { path: /healthz }`,
      after: `health_checks:
  - timeout: 1s
    interval: 5s
    unhealthy_threshold: 2
    healthy_threshold: 1
    http_health_check: { path: /healthz }`,
    },
  },
  'outlier-detection': {
    fix: 'Count failures in a row, whatever their origin, and switch the other detectors off.',
    example: {
      place: 'cluster',
      before: 'outlier_detection: { max_ejection_percent: 100, split_external_local_origin_errors: true }',
      after: 'outlier_detection: { max_ejection_percent: 100 }',
    },
  },
  'circuit-breaker': {
    fix: 'Raise the thresholds to 1024 or more.',
    example: {
      place: 'cluster',
      before: 'circuit_breakers: { thresholds: [{ max_connections: 100 }] }',
      after: 'circuit_breakers: { thresholds: [{ max_connections: 1024 }] }',
    },
  },
  'subset-lb': {
    fix: 'Name the subset with string values, and let the files hold the endpoints’ labels.',
    without: 'what it depends on is how labels, defaults and fallbacks of a subset configuration meet.',
  },
  'rbac-rule': {
    fix: 'Say the same with headers, paths, methods or addresses.',
    example: {
      place: 'filters',
      before: `- name: rbac
  typed_config:
    "@type": ${HTTP}.rbac.v3.RBAC
    rules:
      action: DENY
      policies:
        internal:
          permissions: [{ metadata: { filter: shop, path: [{ key: internal }], value: { bool_match: true } } }]
          principals: [{ any: true }]`,
      after: `- name: rbac
  typed_config:
    "@type": ${HTTP}.rbac.v3.RBAC
    rules:
      action: DENY
      policies:
        internal:
          permissions: [{ header: { name: x-internal, string_match: { exact: "true" } } }]
          principals: [{ any: true }]`,
    },
  },
  'rbac-unknown-listener-address': {
    fix: 'Let the listener listen on the address that the rule means.',
    example: {
      place: 'listener',
      around: {
        filters: `- name: rbac
  typed_config:
    "@type": ${HTTP}.rbac.v3.RBAC
    rules:
      action: DENY
      policies:
        here: { permissions: [{ destination_ip: { address_prefix: 10.0.0.9, prefix_len: 32 } }], principals: [{ any: true }] }`,
      },
      before: 'address: { socket_address: { address: 0.0.0.0, port_value: 10080 } }',
      after: 'address: { socket_address: { address: 127.0.0.1, port_value: 10080 } }',
    },
  },
  grpc: {
    fix: 'Nothing in this version: rules for gRPC only are the proxy’s; of other rules, only requests with a gRPC content type are.',
    without: 'nothing that is written otherwise is a rule for gRPC.',
  },
  'request-dependent': {
    fix: 'Nothing: only requests of this form are concerned.',
    without: 'it is a reason of requests, not of rules: `explain` gives it.',
  },
  budget: {
    fix: 'Split the virtual host, or write shorter and fewer regular expressions.',
    example: {
      place: 'route',
      before: `match: { safe_regex: { regex: "/(a|b)*a(a|b){14}" } }
route: { cluster: shop }`,
      after: `match: { safe_regex: { regex: "/(a|b)*" } }
route: { cluster: shop }`,
    },
  },
  translation: {
    fix: 'See what the message says.',
    without: 'no translation gives this reason at present.',
  },
};
