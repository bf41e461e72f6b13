/** Retries, faults, CORS, mirrors and hash policies of routes, as istiod translates them. */
import type { JsonObject } from '../resources.js';
import { envoyDuration } from './duration.js';
import { envoyString } from './route-match.js';
import type { ConsistentHash } from './schema/destination-rule.js';
import { type Cors, type Fault, GRPC_STATUS, type HttpRoute, type Retries } from './schema/virtual-service.js';

export const FAULT_FILTER = 'envoy.filters.http.fault';
export const CORS_FILTER = 'envoy.filters.http.cors';

const PREVIOUS_HOSTS = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate' },
};

/**
 * The retry policy of a route; without `retries`, Istio's own: two more attempts where the request cannot have been
 * processed, on other hosts if there are any (not under consistent hashing).
 *
 * @returns undefined if retries are turned off (`attempts: 0`)
 */
export function retryPolicy(retries: Retries | undefined, consistentHash: boolean): JsonObject | undefined {
  const out: JsonObject = {
    retry_on: 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
    num_retries: 2,
    ...(consistentHash ? {} : { retry_host_predicate: [structuredClone(PREVIOUS_HOSTS)] }),
    host_selection_retry_max_attempts: '5',
  };
  if (!retries) return out;
  if (!retries.attempts) return undefined;
  out.num_retries = retries.attempts;
  if (retries.retryOn) {
    const parts = retries.retryOn
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
    const codes = parts.filter((part) => /^\d+$/.test(part)).map(Number);
    const names = parts.filter((part) => !/^\d+$/.test(part));
    if (codes.length > 0) {
      out.retriable_status_codes = codes;
      if (!names.some((name) => name.includes('retriable-status-codes'))) names.push('retriable-status-codes');
    }
    out.retry_on = names.join(',');
  }
  if (retries.perTryTimeout) out.per_try_timeout = envoyDuration(retries.perTryTimeout);
  if (retries.retryIgnorePreviousHosts === true) out.retry_host_predicate = [structuredClone(PREVIOUS_HOSTS)];
  if (retries.retryIgnorePreviousHosts === false) delete out.retry_host_predicate;
  if (retries.retryRemoteLocalities) {
    out.retry_priority = {
      name: 'envoy.retry_priorities.previous_priorities',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
        update_frequency: 2,
      },
    };
  }
  if (retries.backoff) out.retry_back_off = { base_interval: envoyDuration(retries.backoff) };
  return out;
}

const ofHundred = (value: number): JsonObject => ({ numerator: value, denominator: 'HUNDRED' });
const ofMillion = (percent: number): JsonObject => ({ numerator: Math.trunc(percent * 10000), denominator: 'MILLION' });

/** envoy.extensions.filters.http.fault.v3.HTTPFault, or undefined if the fault says nothing that Istio carries out. */
export function faultConfig(fault: Fault): JsonObject | undefined {
  const out: JsonObject = { '@type': 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault' };
  const { delay, abort } = fault;
  if (delay?.fixedDelay) {
    const percentage = delay.percentage ? ofMillion(delay.percentage.value ?? 0) : ofHundred(delay.percent ?? 0);
    out.delay = { fixed_delay: envoyDuration(delay.fixedDelay), percentage };
  }
  if (abort && (abort.httpStatus !== undefined || abort.grpcStatus !== undefined)) {
    const status =
      abort.httpStatus !== undefined
        ? { http_status: abort.httpStatus }
        : { grpc_status: GRPC_STATUS.indexOf(abort.grpcStatus ?? 'OK') };
    // Without a percentage Istio writes none, and Envoy takes that for 0%.
    out.abort = { ...status, ...(abort.percentage ? { percentage: ofMillion(abort.percentage.value ?? 0) } : {}) };
  }
  return out.delay || out.abort ? out : undefined;
}

/** envoy.extensions.filters.http.cors.v3.CorsPolicy */
export function corsConfig(cors: Cors): JsonObject {
  const origins = cors.allowOrigins
    ? cors.allowOrigins.map(envoyString).filter((m) => m !== undefined)
    : (cors.allowOrigin ?? []).map((origin): JsonObject => ({ exact: origin }));
  const out: JsonObject = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy',
    filter_enabled: { default_value: ofHundred(100) },
    forward_not_matching_preflights: cors.unmatchedPreflights !== 'IGNORE',
  };
  if (origins.length > 0) out.allow_origin_string_match = origins;
  if (cors.allowMethods?.length) out.allow_methods = cors.allowMethods.join(',');
  if (cors.allowHeaders?.length) out.allow_headers = cors.allowHeaders.join(',');
  if (cors.exposeHeaders?.length) out.expose_headers = cors.exposeHeaders.join(',');
  if (cors.maxAge) out.max_age = String(Math.trunc(Number.parseFloat(envoyDuration(cors.maxAge))));
  if (cors.allowCredentials !== undefined) out.allow_credentials = cors.allowCredentials;
  return out;
}

/** Copies of requests to a cluster: `percent` of them, as istiod reckons; all if it is undefined. */
export function mirrorPolicy(cluster: string, percent: number | undefined): JsonObject {
  return copies(cluster, percent === undefined ? ofHundred(100) : ofMillion(percent));
}

/** envoy.config.route.v3.RouteAction.RequestMirrorPolicy */
export function copies(cluster: string, fraction: JsonObject): JsonObject {
  const out: JsonObject = { cluster, runtime_fraction: { default_value: fraction }, trace_sampled: false };
  // the copy has the name that the request has
  return { ...out, disable_shadow_host_suffix_append: true };
}

/** Destinations that requests are copied to, with their share; a share of 0 is none. */
export function mirrors(
  route: HttpRoute,
): { destination: NonNullable<HttpRoute['mirror']>; fraction: JsonObject; path: (string | number)[] }[] {
  const out: ReturnType<typeof mirrors> = [];
  if (route.mirror) {
    const whole = route.mirrorPercent ?? route.mirror_percent;
    const share = route.mirrorPercentage ? (route.mirrorPercentage.value ?? 0) : undefined;
    if (share !== undefined) {
      if (share > 0) out.push({ destination: route.mirror, fraction: ofMillion(share), path: ['mirror'] });
    } else if (whole !== 0)
      out.push({ destination: route.mirror, fraction: ofHundred(whole ?? 100), path: ['mirror'] });
  }
  route.mirrors?.forEach((mirror, index) => {
    const share = mirror.percentage ? (mirror.percentage.value ?? 0) : undefined;
    if (share === 0) return;
    const fraction = share === undefined ? ofHundred(100) : ofMillion(share);
    out.push({ destination: mirror.destination, fraction, path: ['mirrors', index, 'destination'] });
  });
  return out;
}

/** What a consistent hash looks at, as a route's hash policy. */
export function hashPolicy(hash: ConsistentHash | undefined): JsonObject | undefined {
  if (hash?.httpHeaderName !== undefined) return { header: { header_name: hash.httpHeaderName } };
  if (hash?.httpCookie) {
    const { name, ttl, path } = hash.httpCookie;
    return { cookie: { name, ...(ttl ? { ttl: envoyDuration(ttl) } : {}), ...(path ? { path } : {}) } };
  }
  if (hash?.useSourceIp !== undefined) return { connection_properties: { source_ip: hash.useSourceIp } };
  if (hash?.httpQueryParameterName !== undefined) return { query_parameter: { name: hash.httpQueryParameterName } };
  return undefined;
}
