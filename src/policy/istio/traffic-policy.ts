/** DestinationRule settings written into an Envoy cluster, as istiod does (pilot/pkg/networking/core/cluster_traffic_policy.go). */
import type { JsonObject } from '../resources.js';
import type { EffectivePolicy } from './destination-rules.js';
import { envoyDuration } from './duration.js';
import { anyName } from './mesh-tls.js';
import type { Tls } from './schema/destination-rule.js';

const UNLIMITED = 4294967295;
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
/** What istiod means by the system's authorities, on Debian and its like. */
/** The certificate authorities that the system trusts. */
export const SYSTEM_CA = '/etc/ssl/certs/ca-certificates.crt';

/** Parts of HttpProtocolOptions that several settings contribute to. */
interface HttpOptions {
  common: JsonObject;
  upstream: JsonObject;
  http2?: JsonObject;
  downstream: boolean;
  used: boolean;
}

function connectionPool(cluster: JsonObject, policy: EffectivePolicy, http: HttpOptions): void {
  const threshold: JsonObject = {
    max_connections: UNLIMITED,
    max_pending_requests: UNLIMITED,
    max_requests: UNLIMITED,
    max_retries: UNLIMITED,
    track_remaining: true,
  };
  const h = policy.connectionPool?.http;
  const t = policy.connectionPool?.tcp;
  if (h?.http2MaxRequests) threshold.max_requests = h.http2MaxRequests;
  if (h?.http1MaxPendingRequests) threshold.max_pending_requests = h.http1MaxPendingRequests;
  if (h?.maxRetries) threshold.max_retries = h.maxRetries;
  if (t?.maxConnections) threshold.max_connections = t.maxConnections;
  if (t?.connectTimeout) cluster.connect_timeout = envoyDuration(t.connectTimeout);
  const budget = policy.retryBudget;
  if (budget) {
    threshold.retry_budget = {
      budget_percent: { value: budget.percent ?? 20 },
      min_retry_concurrency: budget.minRetryConcurrency || 3,
      ...(budget.budgetInterval && { budget_interval: envoyDuration(budget.budgetInterval) }),
    };
  }
  cluster.circuit_breakers = { thresholds: [threshold] };
  if (t?.tcpKeepalive) {
    const keepalive: JsonObject = {};
    const seconds = (text: string) => Number(BigInt(Math.round(Number.parseFloat(envoyDuration(text)))));
    if (t.tcpKeepalive.probes) keepalive.keepalive_probes = t.tcpKeepalive.probes;
    if (t.tcpKeepalive.time) keepalive.keepalive_time = seconds(t.tcpKeepalive.time);
    if (t.tcpKeepalive.interval) keepalive.keepalive_interval = seconds(t.tcpKeepalive.interval);
    cluster.upstream_connection_options = { tcp_keepalive: keepalive };
  }
  const idle = h?.idleTimeout ?? t?.idleTimeout;
  if (idle) http.common.idle_timeout = envoyDuration(idle);
  if (h?.maxRequestsPerConnection) http.common.max_requests_per_connection = h.maxRequestsPerConnection;
  if (t?.maxConnectionDuration) http.common.max_connection_duration = envoyDuration(t.maxConnectionDuration);
  if (h?.h2UpgradePolicy === 'UPGRADE') http.http2 ??= {};
  if (http.http2 && h?.maxConcurrentStreams) http.http2.max_concurrent_streams = h.maxConcurrentStreams;
  const alive = h?.http2KeepAlive;
  if (http.http2 && alive)
    http.http2.connection_keepalive = {
      ...(alive.interval && { interval: envoyDuration(alive.interval) }),
      ...(alive.timeout && { timeout: envoyDuration(alive.timeout) }),
    };
  if (h?.useClientProtocol) http.downstream = true;
}

function outlierDetection(cluster: JsonObject, policy: EffectivePolicy): void {
  const o = policy.outlierDetection;
  if (!o) return;
  const out: JsonObject = { enforcing_success_rate: 0 };
  const on = (value: number) => (value > 0 ? 100 : 0);
  if (o.consecutive5xxErrors !== undefined) {
    out.consecutive_5xx = o.consecutive5xxErrors;
    out.enforcing_consecutive_5xx = on(o.consecutive5xxErrors);
  }
  if (o.consecutiveGatewayErrors !== undefined) {
    out.consecutive_gateway_failure = o.consecutiveGatewayErrors;
    out.enforcing_consecutive_gateway_failure = on(o.consecutiveGatewayErrors);
  }
  if (o.interval) out.interval = envoyDuration(o.interval);
  if (o.baseEjectionTime) out.base_ejection_time = envoyDuration(o.baseEjectionTime);
  if (o.maxEjectionPercent) out.max_ejection_percent = o.maxEjectionPercent;
  if (o.splitExternalLocalOriginErrors) {
    out.split_external_local_origin_errors = true;
    if (o.consecutiveLocalOriginFailures) {
      out.consecutive_local_origin_failure = o.consecutiveLocalOriginFailures;
      out.enforcing_consecutive_local_origin_failure = 100;
    }
    out.enforcing_local_origin_success_rate = 0;
  }
  cluster.outlier_detection = out;
  // Panic mode would send to ejected hosts when few are left; istiod turns it off unless asked for.
  cluster.common_lb_config = { healthy_panic_threshold: { value: o.minHealthPercent ?? 0 } };
}

function loadBalancer(cluster: JsonObject, policy: EffectivePolicy): void {
  const lb = policy.loadBalancer;
  cluster.lb_policy = 'LEAST_REQUEST';
  const simple = lb?.simple;
  // PASSTHROUGH leaves the choice to the network behind the address, which picks any endpoint.
  if (simple === 'RANDOM' || simple === 'PASSTHROUGH') cluster.lb_policy = 'RANDOM';
  if (simple === 'ROUND_ROBIN') cluster.lb_policy = 'ROUND_ROBIN';
  const window = lb?.warmup?.duration ?? lb?.warmupDurationSecs;
  if (window) {
    const more: JsonObject = lb?.warmup
      ? {
          // istiod gives a runtime key, too, which no layer sets
          aggression: { default_value: lb.warmup.aggression ?? 1, runtime_key: '(' },
          min_weight_percent: { value: lb.warmup.minimumPercent ?? 10 },
        }
      : {};
    const slow = { slow_start_config: { slow_start_window: envoyDuration(window), ...more } };
    if (cluster.lb_policy === 'LEAST_REQUEST') cluster.least_request_lb_config = slow;
    if (cluster.lb_policy === 'ROUND_ROBIN') cluster.round_robin_lb_config = slow;
  }
  const hash = lb?.consistentHash;
  if (!hash) return;
  if (hash.maglev) {
    cluster.lb_policy = 'MAGLEV';
    if (hash.maglev.tableSize) cluster.maglev_lb_config = { table_size: hash.maglev.tableSize };
    return;
  }
  cluster.lb_policy = 'RING_HASH';
  const size = hash.ringHash ? hash.ringHash.minimumRingSize : hash.minimumRingSize;
  cluster.ring_hash_lb_config = { minimum_ring_size: String(size || 1024) };
}

function tls(cluster: JsonObject, settings: Tls | undefined, http: HttpOptions, servers: readonly string[]): void {
  const mode = settings?.mode ?? 'DISABLE';
  // with the mesh's certificates: see mesh-tls.ts
  if (!settings || mode === 'DISABLE' || mode === 'ISTIO_MUTUAL') return;
  const common: JsonObject = {
    tls_params: { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' },
  };
  if (mode === 'MUTUAL' && settings.clientCertificate && settings.privateKey) {
    common.tls_certificates = [
      { certificate_chain: { filename: settings.clientCertificate }, private_key: { filename: settings.privateKey } },
    ];
  }
  if (!settings.insecureSkipVerify) {
    const validation: JsonObject = { trusted_ca: { filename: settings.caCertificates || SYSTEM_CA } };
    if (settings.caCrl) validation.crl = { filename: settings.caCrl };
    const own = settings.subjectAltNames ?? [];
    const names = own.length > 0 ? own : servers;
    if (names.length > 0) {
      // Istio does not say of which type a name is: Envoy then looks at all of them
      validation.match_typed_subject_alt_names = names.flatMap(anyName);
    }
    common.validation_context = validation;
  }
  if (http.http2) common.alpn_protocols = ['h2'];
  const context: JsonObject = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
    common_tls_context: common,
  };
  if (settings.sni) context.sni = settings.sni;
  else {
    http.upstream.auto_sni = true;
    http.used = true;
    if (!settings.insecureSkipVerify && !settings.subjectAltNames?.length) http.upstream.auto_san_validation = true;
  }
  cluster.transport_socket = { name: 'envoy.transport_sockets.tls', typed_config: context };
}

const RAW_BUFFER = {
  name: 'envoy.transport_sockets.raw_buffer',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer' },
};

/** Has connections begin with the PROXY protocol, before whatever the cluster's transport sockets say. */
export function applyProxyProtocol(cluster: JsonObject, settings: EffectivePolicy['proxyProtocol']): void {
  if (!settings) return;
  const around = (socket: JsonObject): JsonObject => ({
    name: 'envoy.transport_sockets.upstream_proxy_protocol',
    typed_config: {
      '@type':
        'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
      config: { version: settings.version ?? 'V1' },
      transport_socket: socket,
    },
  });
  const matches = (cluster.transport_socket_matches ?? []) as JsonObject[];
  if (cluster.transport_socket || matches.length === 0)
    cluster.transport_socket = around((cluster.transport_socket as JsonObject | undefined) ?? RAW_BUFFER);
  for (const match of matches) match.transport_socket = around(match.transport_socket as JsonObject);
}

/**
 * Writes the settings into a cluster: connection pool, outlier detection, load balancing, TLS and protocol options.
 *
 * @param version what is spoken to the servers; `client`: what the client speaks, where nothing says it
 * @param servers names that the servers' certificates have, where the settings name none
 */
export function applyTrafficPolicy(
  cluster: JsonObject,
  policy: EffectivePolicy,
  version: 'http1' | 'http2' | 'client',
  servers: readonly string[] = [],
): void {
  const http: HttpOptions = {
    common: {},
    upstream: {},
    downstream: version === 'client',
    used: false,
    ...(version === 'http2' ? { http2: {} } : {}),
  };
  connectionPool(cluster, policy, http);
  outlierDetection(cluster, policy);
  loadBalancer(cluster, policy);
  tls(cluster, policy.tls, http, servers);
  const hasCommon = Object.keys(http.common).length > 0;
  if (!hasCommon && !http.http2 && !http.downstream && !http.used) return;
  const options: JsonObject = { '@type': `type.googleapis.com/${HTTP_OPTIONS}` };
  if (hasCommon) options.common_http_protocol_options = http.common;
  if (http.used) options.upstream_http_protocol_options = http.upstream;
  if (http.downstream) {
    options.use_downstream_protocol_config = { http_protocol_options: {}, http2_protocol_options: http.http2 ?? {} };
  } else {
    options.explicit_http_config = http.http2 ? { http2_protocol_options: http.http2 } : { http_protocol_options: {} };
  }
  cluster.typed_extension_protocol_options = { [HTTP_OPTIONS]: options };
}
