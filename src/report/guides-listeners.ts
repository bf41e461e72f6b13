/** Guides to the reasons that concern listeners, the connection manager and its HTTP filters. */
import type { Guide } from './guide.js';

const FORWARD = 'match: { prefix: / }\nroute: { cluster: shop }';
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';

export const LISTENER_GUIDES: Readonly<Record<string, Guide>> = {
  'listener-address': {
    fix: 'Let the listener listen on a TCP address with a numeric port.',
    example: {
      place: 'listener',
      before: 'address: { pipe: { path: /run/shop.sock } }',
      after: 'address: { socket_address: { address: 127.0.0.1, port_value: 10080 } }',
    },
  },
  'filter-chain': {
    fix: 'Leave only tls_inspector and http_inspector among the listener filters, and choose chains by the server’s name or by addresses; split the others off into listeners of their own.',
    example: {
      place: 'filter chain',
      before: 'filter_chain_match: { application_protocols: [h2] }',
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
    delay: { fixed_delay: 0.1s, percentage: { numerator: 100 } }`,
      after: FORWARD,
    },
  },
  tls: {
    fix: 'To servers: offer HTTP/1.1 alone in the handshake, and spell out the hosts where it names them. From clients: leave out what looks at the client’s certificate or at the connection’s TLS.',
    example: {
      place: 'cluster',
      before: `transport_socket:
  name: tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: shop.example.com
    common_tls_context: { alpn_protocols: [h2, http/1.1] }`,
      after: `transport_socket:
  name: tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: shop.example.com`,
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
    fix: 'Trace by Zipkin (B3 headers), OpenTelemetry or SkyWalking, with tags that are fixed or headers of the request.',
    example: {
      place: 'connection manager',
      before: `tracing: {}
request_id_extension:
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig
    pack_trace_reason: false`,
      after: 'tracing: { random_sampling: { value: 1 } }',
    },
  },
  'route-source': {
    fix: 'Give the files the route configuration that the listener names.',
    without: 'the routes of the example would have to come from a control plane.',
  },
  codec: {
    fix: 'Let the listener speak HTTP/1.1 and HTTP/2 (codec_type AUTO).',
    example: { place: 'connection manager', before: 'codec_type: HTTP3', after: 'codec_type: AUTO' },
  },
  'local-reply': {
    fix: 'Choose by status alone, and say nothing but %LOCAL_REPLY_BODY% and %RESPONSE_CODE%, in a text; write no access log.',
    example: {
      place: 'connection manager',
      before: 'local_reply_config: { body_format: { text_format_source: { inline_string: "%REQ(:PATH)%" } } }',
      after: '{}',
    },
  },
  'stream-limits': {
    fix: 'Remove the limit, or raise it above the fast path’s own (8 KiB and 64 lines of head).',
    example: { place: 'connection manager', before: 'request_timeout: 30s', after: '{}' },
  },
  'idle-timeout': {
    fix: 'Leave the buffers as they are, or set a route timeout that is not longer than the idle timeout, or stream_idle_timeout: 0s.',
    example: {
      place: 'route',
      around: { listener: 'per_connection_buffer_limit_bytes: 32768' },
      before: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 0s }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 60s }',
    },
  },
  'host-normalization': {
    fix: 'Leave strip_trailing_host_dot off.',
    example: { place: 'connection manager', before: 'strip_trailing_host_dot: true', after: '{}' },
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
    fix: 'Let clients speak HTTP/2: of rules, only requests with a gRPC content type over HTTP/1.1 are the proxy’s.',
    without: 'nothing that is written otherwise is a rule for gRPC.',
  },
};
