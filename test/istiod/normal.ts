/** Routes and clusters in a form in which equal objects mean the same to Envoy: defaults and what only names are left out. */
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import { SYSTEM_CA } from '../../src/policy/istio/traffic-policy.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';

/** What decides nothing about requests: names, statistics, hints for tracing, and gRPC's deadline, which is switched off. */
const NAMES = new Set(['name', 'metadata', 'decorator', 'stat_prefix', 'alt_stat_name', 'max_grpc_timeout']);
/** Filters that routes configure on both sides (what a server's policies ask is compared by requests). */
const PER_ROUTE = new Set(['envoy.filters.http.fault', 'envoy.filters.http.cors']);
const DEFAULTS = new Set([
  'ROUND_ROBIN',
  'STATIC',
  'MOVED_PERMANENTLY',
  'APPEND_IF_EXISTS_OR_ADD',
  'HUNDRED',
  'DEFAULT',
  'FIRST_MATCH',
]);

/** A cluster's name without what tells apart the copies that Sidestep makes of it. */
export const plainCluster = (name: string): string => name.replace(/;(authz|group-\d+).*$/, '');

const isDuration = (text: string): boolean => /^\d+(\.\d+)?s$/.test(text);

function scalar(value: Exclude<Json, object>): Json | undefined {
  if (value === null || value === false || value === '' || value === 0) return undefined;
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') return value;
  if (DEFAULTS.has(value) || value === '0') return undefined;
  if (value.startsWith(',')) return scalar(value.slice(1)); // a list with an empty first item
  return isDuration(value) ? `${Number(value.slice(0, -1))}s` : value;
}

function plain(value: Json, drop: ReadonlySet<string>): Json | undefined {
  if (Array.isArray(value)) {
    const items = value.map((item) => plain(item, drop) ?? {});
    return items.length > 0 ? items : undefined;
  }
  if (value === null || typeof value !== 'object') return scalar(value);
  const entries = Object.entries(value)
    .filter(([key]) => !drop.has(key))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, child]): [string, Json][] => {
      const inner = plain(child, drop);
      // an empty message says nothing, but for the ones whose presence does
      return inner === undefined || (key === 'case_sensitive' && inner === true) ? [] : [[key, inner]];
    });
  return Object.fromEntries(entries);
}

function perRoute(config: Json | undefined): JsonObject {
  return Object.fromEntries(Object.entries(asObject(config) ?? {}).filter(([name]) => PER_ROUTE.has(name)));
}

/** A header's name, value and what becomes of it; Istio's own way to say "append" has several spellings. */
const unnamed = (route: JsonObject): JsonObject => {
  const { route: action, typed_per_filter_config: config } = route;
  const out: JsonObject = { ...route, typed_per_filter_config: perRoute(config) };
  const forward = asObject(action);
  if (!forward) return out;
  const copy: JsonObject = { ...forward };
  if (typeof copy.cluster === 'string') copy.cluster = plainCluster(copy.cluster);
  const weighted = asObject(copy.weighted_clusters);
  if (weighted) {
    const clusters = joined(
      asObjects(weighted.clusters).map((c): JsonObject => {
        const { name, ...rest } = c;
        return {
          ...rest,
          cluster: plainCluster(asString(name)),
          typed_per_filter_config: perRoute(c.typed_per_filter_config),
        };
      }),
    );
    const [only, ...others] = clusters;
    const { cluster, weight: _, typed_per_filter_config: __, ...more } = only ?? {};
    if (others.length === 0 && cluster !== undefined && Object.keys(more).length === 0) {
      delete copy.weighted_clusters;
      copy.cluster = cluster;
    } else copy.weighted_clusters = { clusters };
  }
  copy.request_mirror_policies = asObjects(copy.request_mirror_policies).map((m) => ({
    ...m,
    cluster: plainCluster(asString(m.cluster)),
  }));
  return { ...out, route: copy };
};

/** Copies of one cluster (servers with different policies) are one destination. */
function joined(clusters: readonly JsonObject[]): JsonObject[] {
  const out: JsonObject[] = [];
  for (const cluster of clusters) {
    const same = out.find((c) => JSON.stringify({ ...c, weight: 0 }) === JSON.stringify({ ...cluster, weight: 0 }));
    if (same) same.weight = Number(same.weight) + Number(cluster.weight);
    else out.push({ ...cluster });
  }
  return out;
}

/** A route's action (all but its match) in normal form. */
export function normalAction(route: JsonObject): JsonObject {
  const { match: _, ...action } = route;
  const out = (plain(unnamed(action), NAMES) ?? {}) as JsonObject;
  if (Object.keys(asObject(out.typed_per_filter_config) ?? {}).length === 0) delete out.typed_per_filter_config;
  return out;
}

/** An action as it is where clusters are missing: a request for one of these is answered with a status. */
export function withClusters(action: JsonObject, known: (name: string) => boolean): JsonObject {
  const forward = asObject(action.route);
  // what is answered here goes nowhere
  const { request_headers_to_add: _add, request_headers_to_remove: _remove, ...answer } = action;
  if (!forward) return answer;
  const code = forward.cluster_not_found_response_code === 'INTERNAL_SERVER_ERROR' ? '500' : '503';
  const { cluster_not_found_response_code: _, ...rest } = forward;
  if (typeof rest.cluster === 'string' && !known(rest.cluster)) return { direct_response: { status: code } };
  const weighted = asObjects(asObject(rest.weighted_clusters)?.clusters);
  if (weighted.length === 0) return { ...action, route: rest };
  const clusters = weighted.map((c) => (known(asString(c.cluster)) ? c : { ...c, cluster: `answers ${code}` }));
  if (clusters.every(({ cluster }) => cluster === `answers ${code}`)) return { direct_response: { status: code } };
  return { ...action, route: { ...rest, weighted_clusters: { clusters: joined(clusters) } } };
}

/** The path that a route sends a request on with; undefined if that cannot be said here. */
function rewritten(route: JsonObject, path: string): string | undefined {
  const [match, action] = [asObject(route.match) ?? {}, asObject(route.route) ?? {}];
  const regex = asObject(action.regex_rewrite);
  if (regex) {
    const pattern = new RegExp(asString(asObject(regex.pattern)?.regex), 'g');
    let first = true;
    return path.replace(pattern, (...found: unknown[]) => {
      if (!first) return '';
      first = false;
      return asString(regex.substitution).replace(/\\(\d|\\)/g, (_, n: string) =>
        n === '\\' ? n : String(found[Number(n)] ?? ''),
      );
    });
  }
  if (typeof action.prefix_rewrite !== 'string') return path;
  const from = match.path ?? match.path_separated_prefix ?? match.prefix;
  return typeof from === 'string' ? action.prefix_rewrite + path.slice(from.length) : undefined;
}

/** An action without how it changes the path, and with what comes of that. */
export function withPath(route: JsonObject, action: JsonObject, target: string): JsonObject {
  const forward = asObject(action.route);
  const path = rewritten(route, target.replace(/\?.*$/, ''));
  if (!forward || path === undefined) return action;
  const { prefix_rewrite: _, regex_rewrite: __, ...rest } = forward;
  return { ...action, route: { ...rest, path } };
}

/** A route's match in normal form. */
export const normalMatch = (route: JsonObject): JsonObject => (plain(route.match ?? {}, new Set()) ?? {}) as JsonObject;

/** Fields of clusters that requests and servers can tell. */
const CLUSTER_FIELDS = [
  'type',
  'connect_timeout',
  'per_connection_buffer_limit_bytes',
  'lb_policy',
  'load_balancing_policy',
  'ring_hash_lb_config',
  'maglev_lb_config',
  'least_request_lb_config',
  'max_requests_per_connection',
  'outlier_detection',
  'upstream_connection_options',
  'typed_extension_protocol_options',
  'dns_lookup_family',
  'common_lb_config',
] as const;

/** `track_remaining` is a statistic. */
const CLUSTER_NAMES = new Set(['metadata', 'name', 'stat_prefix', 'runtime_key', 'track_remaining']);

/** The files that a secret stands for which the proxy's agent reads. */
function secretFiles(secret: JsonObject | undefined): string[] {
  const name = asString(secret?.name);
  if (name === 'file-root:system') return [SYSTEM_CA];
  return /^file-(root|cert):/.test(name) ? name.replace(/^file-(root|cert):/, '').split('~') : [];
}

/** What sidecars offer each other. istiod has a filter of its own replace it, which is no part of Envoy: the result is ours. */
function meshAlpn({ alpn_protocols: offered }: JsonObject): JsonObject {
  const own = Array.isArray(offered) ? offered : [];
  if (!own.some((name) => asString(name).startsWith('istio'))) return {};
  return { alpn_protocols: own.some((name) => /h2$/.test(asString(name))) ? ['of the mesh', 'h2'] : ['of the mesh'] };
}

/** What is asked of a server's certificate; the versions of TLS are the ones that Envoy has by itself. */
function certificates(common: JsonObject): JsonObject {
  const {
    tls_params: _,
    validation_context: own,
    combined_validation_context: combined,
    tls_certificate_sds_secret_configs: secrets,
    ...rest
  } = common;
  const { match_subject_alt_names: names, ...context } =
    asObject(asObject(combined)?.default_validation_context) ?? asObject(own) ?? {};
  const [root] = secretFiles(asObject(asObject(combined)?.validation_context_sds_secret_config));
  const wanted: JsonObject = {
    ...context,
    // means a name of any type
    ...(names
      ? {
          match_typed_subject_alt_names: asObjects(names).flatMap((matcher) =>
            SAN_TYPES.map((san_type) => ({ san_type, matcher })),
          ),
        }
      : {}),
    ...(root ? { trusted_ca: { filename: root } } : {}),
  };
  const pairs = asObjects(secrets).map(secretFiles);
  const shown: JsonObject = pairs.every((files) => files.length === 2)
    ? {
        tls_certificates: pairs.map(([chain = '', key = '']) => ({
          certificate_chain: { filename: chain },
          private_key: { filename: key },
        })),
      }
    : { tls_certificate_sds_secret_configs: asObjects(secrets).map(({ name }) => name ?? '') };
  return {
    ...rest,
    ...meshAlpn(rest),
    ...(pairs.length > 0 ? shown : {}),
    ...(Object.keys(wanted).length > 0 ? { validation_context: wanted } : {}),
  };
}

/** What a name without a type may be, in the order in which Sidestep writes them. */
const SAN_TYPES = ['DNS', 'URI', 'EMAIL', 'IP_ADDRESS'];

/** A cluster's protocol options, if they say more than that HTTP/1.1 is spoken. */
function protocolOptions(cluster: JsonObject): JsonObject | undefined {
  const out = Object.entries(asObject(cluster.typed_extension_protocol_options) ?? {}).map(([name, value]) => {
    const { common_http_protocol_options: common, ...rest } = asObject(value) ?? {};
    return [
      name,
      { ...(Object.keys(asObject(common) ?? {}).length > 0 ? { common_http_protocol_options: common } : {}), ...rest },
    ];
  });
  const plainHttp = '{"explicit_http_config":{"http_protocol_options":{}}}';
  const saying = out.filter(([, value]) => {
    const { '@type': _, ...rest } = value as JsonObject;
    return JSON.stringify(rest) !== plainHttp;
  });
  return saying.length > 0 ? Object.fromEntries(saying) : undefined;
}

/** What a cluster is like, in normal form, with its endpoints. */
export function normalCluster(cluster: JsonObject, assignment: JsonObject | undefined): JsonObject {
  const picked: JsonObject = {};
  for (const field of CLUSTER_FIELDS) if (cluster[field] !== undefined) picked[field] = cluster[field];
  // nothing else ejects hosts, so without it there is no panic
  if (picked.outlier_detection === undefined) delete picked.common_lb_config;
  // the weights of localities, among one
  else if (asObjects(assignment?.endpoints).length < 2 && picked.common_lb_config) {
    const { locality_weighted_lb_config: _, ...common } = picked.common_lb_config as JsonObject;
    picked.common_lb_config = common;
  }
  const thresholds = asObjects(asObject(cluster.circuit_breakers)?.thresholds).find(
    (t) => (t.priority ?? 'DEFAULT') === 'DEFAULT',
  );
  if (thresholds) picked.thresholds = thresholds;
  const options = protocolOptions(picked);
  if (options) picked.typed_extension_protocol_options = options;
  else delete picked.typed_extension_protocol_options;
  const socket = asObject(asObject(cluster.transport_socket)?.typed_config);
  const proxied = asString(socket?.['@type']).endsWith('.ProxyProtocolUpstreamTransport');
  if (proxied) picked.proxy_protocol = asString(asObject(socket?.config)?.version) || 'V1';
  const inner = proxied ? asObject(asObject(socket?.transport_socket)?.typed_config) : socket;
  const tls = asString(inner?.['@type']).endsWith('.RawBuffer') ? undefined : inner;
  if (tls) picked.tls = { sni: tls.sni ?? '', common: certificates(asObject(tls.common_tls_context) ?? {}) };
  const out = (plain(picked, CLUSTER_NAMES) ?? {}) as JsonObject;
  const endpoints = asObjects(assignment?.endpoints).flatMap((locality) =>
    asObjects(locality.lb_endpoints).flatMap((e) => {
      // istiod sends those that are not ready, too, and switches panic mode off
      if (e.health_status === 'UNHEALTHY') return [];
      const address = asObject(asObject(e.endpoint)?.address);
      const socket = asObject(address?.socket_address);
      const where = socket
        ? `${asString(socket.address)}:${String(socket.port_value)}`
        : asString(asObject(address?.pipe)?.path);
      return [`${where} ${String(e.load_balancing_weight ?? 1)}`];
    }),
  );
  out.endpoints = endpoints.sort();
  return out;
}
