/** Guides to the reasons that concern clusters and their endpoints. */
import type { Guide } from './guide.js';

export const CLUSTER_GUIDES: Readonly<Record<string, Guide>> = {
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
    fix: 'Let the server speak HTTP/1.1, or HTTP/2 if its clients do.',
    example: {
      place: 'cluster',
      before: `typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http3_protocol_options: {} }`,
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
    fix: 'Allow at least one connection for each endpoint, and one request to wait; leave max_connection_pools out.',
    example: {
      place: 'cluster',
      before: 'circuit_breakers: { thresholds: [{ max_connections: 100, max_pending_requests: 0 }] }',
      after: 'circuit_breakers: { thresholds: [{ max_connections: 100, max_pending_requests: 1 }] }',
    },
  },
  'subset-lb': {
    fix: 'Name the subset with string values, and let the files hold the endpoints’ labels.',
    without: 'what it depends on is how labels, defaults and fallbacks of a subset configuration meet.',
  },
};
