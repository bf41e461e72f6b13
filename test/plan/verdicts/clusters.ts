import { type Case, endpoints, protocol } from './case.js';

export const CLUSTERS: readonly Case[] = [
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
];
