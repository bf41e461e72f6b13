/** envoy.config.listener.v3.Listener with an HTTP connection manager -> ListenerPlan. */
import type { JsonObject, Resources } from '../policy/resources.js';
import { accessLogs, logOperators } from './access-log.js';
import type { Edge, ListenerContext } from './actions.js';
import { localReply } from './answers.js';
import type { Assumptions } from './build.js';
import { type ChainListener, chainProblem } from './chains.js';
import type { ClusterInfo } from './clusters.js';
import { all, any, headerPresent, not, test } from './conditions.js';
import type { FilterOutcome } from './filter-outcome.js';
import { keepsCase } from './header-case.js';
import { FilterChain } from './http-filters.js';
import type { ClusterPlan, Condition, ListenerPlan, ReplyAction } from './ir.js';
import type { LimitContext } from './local-limits.js';
import { anyType, bool, durationMs, has, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { dedupe, type Outcome, routeConfigNotes, virtualHosts } from './routes.js';
import { runtimeMayChange } from './runtime.js';
import { streamNotes } from './streams.js';
import { reports, tracingOf } from './tracing.js';
import { namesProxy, userAgentOf } from './user-agent.js';

const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const DEFAULT_IDLE_MS = 300_000;
/** Heads and header lines that the fast path accepts; a proxy with tighter limits would refuse some of them. */
const MAX_HEAD_KB = 8;
const MAX_HEADERS = 64;

/** Fields of a listener that decide nothing about its requests or connections, or are looked at. */
export const LISTENER_FIELDS = [
  'name',
  'address',
  'filter_chains',
  'default_filter_chain',
  'stat_prefix',
  'per_connection_buffer_limit_bytes',
  'metadata',
  'drain_type',
  'listener_filters',
  'listener_filters_timeout',
  'continue_on_listener_filters_timeout',
  'bind_to_port',
  'enable_reuse_port',
  'reuse_port',
  'tcp_backlog_size',
  'traffic_direction',
  'connection_balance_config',
  'max_connections_to_accept_per_socket_event',
  'ignore_global_conn_limit',
  'access_log',
];

const HCM_FIELDS = [
  'codec_type',
  'stat_prefix',
  'rds',
  'route_config',
  'http_filters',
  'normalize_path',
  'merge_slashes',
  'path_with_escaped_slashes_action',
  'generate_request_id',
  'preserve_external_request_id',
  'request_id_extension',
  'use_remote_address',
  'xff_num_trusted_hops',
  'skip_xff_append',
  'server_name',
  'server_header_transformation',
  'forward_client_cert_details',
  'set_current_client_cert_details',
  'proxy_100_continue',
  'stream_idle_timeout',
  'stream_flush_timeout',
  'request_timeout',
  'request_headers_timeout',
  'drain_timeout',
  'delayed_close_timeout',
  'max_request_headers_kb',
  'common_http_protocol_options',
  'http_protocol_options',
  'http2_protocol_options',
  'access_log',
  'access_log_options',
  'tracing',
  'upgrade_configs',
  'strip_any_host_port',
  'strip_matching_host_port',
  'strip_trailing_host_dot',
  'stream_error_on_invalid_http_message',
  'local_reply_config',
  'add_proxy_protocol_connection_state',
  'add_user_agent',
];

function hcmNotes(notes: Notes, hcm: JsonObject, path: string, http2: boolean): void {
  const at = (key: string) => join(path, key);
  onlyFields(notes, hcm, path, [...HCM_FIELDS, 'scoped_routes']);
  const codec = str(hcm, 'codec_type') || 'AUTO';
  const spoken = codec === 'AUTO' || codec === 'HTTP1' || (http2 && codec === 'HTTP2');
  if (!spoken) notes.add('codec', `codec ${codec}`, at('codec_type'), hcm, 'codec_type');
  if (bool(hcm, 'strip_trailing_host_dot'))
    notes.add('host-normalization', 'a dot at the end of the host is stripped', at('strip_trailing_host_dot'), hcm);
  const requestId = obj(obj(hcm, 'request_id_extension'), 'typed_config');
  if (requestId && !anyType(requestId).endsWith('.UuidRequestIdConfig')) {
    notes.add(
      'unsupported-field',
      'another kind of request id',
      at('request_id_extension'),
      hcm,
      'request_id_extension',
    );
  }
  if ((durationMs(hcm, 'request_timeout') ?? 0) > 0) {
    notes.add('stream-limits', 'request_timeout', at('request_timeout'), hcm, 'request_timeout');
  }
  if (has(hcm, 'max_request_headers_kb') && num(hcm, 'max_request_headers_kb') < MAX_HEAD_KB) {
    notes.add(
      'stream-limits',
      'heads shorter than the fast path’s limit are refused',
      at('max_request_headers_kb'),
      hcm,
    );
  }
  const common = obj(hcm, 'common_http_protocol_options');
  if (common) {
    const key = at('common_http_protocol_options');
    onlyFields(notes, common, key, ['idle_timeout', 'max_headers_count', 'headers_with_underscores_action']);
    if (has(common, 'max_headers_count') && num(common, 'max_headers_count') < MAX_HEADERS) {
      notes.add(
        'stream-limits',
        'max_headers_count is below the fast path’s limit',
        join(key, 'max_headers_count'),
        common,
      );
    }
    const underscores = str(common, 'headers_with_underscores_action');
    if (underscores !== '' && underscores !== 'ALLOW') {
      notes.add(
        'unsupported-field',
        `headers with underscores: ${underscores}`,
        join(key, 'headers_with_underscores_action'),
        common,
      );
    }
  }
  const http1 = obj(hcm, 'http_protocol_options');
  if (http1) {
    onlyFields(notes, http1, at('http_protocol_options'), [
      'accept_http_10',
      'default_host_for_http_10',
      'allow_absolute_url',
      'allow_chunked_length',
      'override_stream_error_on_invalid_http_message',
      'header_key_format',
    ]);
  }
}

function listenerNotes(notes: Notes, listener: JsonObject, { chain, relay }: ChainListener): JsonObject | undefined {
  onlyFields(notes, listener, '', LISTENER_FIELDS);
  if (has(listener, 'access_log'))
    notes.add('access-log', 'connections are logged', 'access_log', listener, 'access_log');
  for (const filter of list(listener, 'listener_filters')) {
    const type = anyType(obj(filter, 'typed_config'));
    // these only look at the first bytes, to choose a filter chain
    if (!/\.(tls_inspector|http_inspector)\./.test(type)) {
      notes.add('filter-chain', `the listener filter ${str(filter, 'name')}`, 'listener_filters', filter);
    }
  }
  if (!chain) {
    notes.add('filter-chain', 'no filter chain', 'filter_chains', listener);
    return undefined;
  }
  const path = `filter_chains[${relay?.chain ?? 0}]`;
  onlyFields(notes, chain, path, [
    'name',
    'filters',
    'metadata',
    'transport_socket',
    'transport_socket_connect_timeout',
    'filter_chain_match',
  ]);
  const transport = obj(chain, 'transport_socket');
  const type = anyType(obj(transport, 'typed_config'));
  if (transport && !relay?.tls && !type.endsWith('.RawBuffer'))
    notes.add(
      'tls',
      `connections use ${type || str(transport, 'name')}`,
      join(path, 'transport_socket'),
      chain,
      'transport_socket',
    );
  const filters = list(chain, 'filters');
  const hcm = filters.map((f) => obj(f, 'typed_config')).find((c) => anyType(c) === HCM);
  if (filters.length !== 1 || !hcm) {
    const names = filters.map((f) => str(f, 'name')).join(', ');
    notes.add('network-filter', `the filters are ${names || 'none'}`, join(path, 'filters'), chain, 'filters');
  }
  return hcm;
}

/** Why the connections of a chain do not come to the data plane by way of the proxy, where they would have to. */
function relayNotes(notes: Notes, listener: JsonObject, of: ChainListener, resources: Resources, assumed: Assumptions) {
  if (!of.relay || (of.relay.tls && assumed.tls)) return;
  const problem =
    !assumed.relays || assumed.atListener
      ? 'only a proxy that Sidestep has started hands connections on'
      : chainProblem(listener, of, resources);
  if (problem === undefined) return;
  const path = `filter_chains[${of.relay.chain}]`;
  const [code, key] = of.relay.tls
    ? (['tls', 'transport_socket'] as const)
    : (['filter-chain', 'filter_chain_match'] as const);
  notes.add(code, problem, join(path, key), of.chain!, key);
}

/** Reads one listener. */
export function listenerPlan(
  listener: JsonObject,
  of: ChainListener,
  resources: Resources,
  clusters: ReadonlyMap<string, ClusterInfo>,
  used: Map<string, ClusterPlan>,
  outcome: Outcome,
  { limits, assumed }: { readonly limits: LimitContext; readonly assumed: Assumptions },
): ListenerPlan {
  const { http2 = false, streams = false, environment } = assumed;
  const notes = new Notes(resources.provenance, environment);
  notes.reasons.push(...(resources.left?.get(listener) ?? []));
  const socket = obj(obj(listener, 'address'), 'socket_address');
  const address = str(socket, 'address');
  const port = num(socket, 'port_value');
  if (!socket || port === 0 || (str(socket, 'protocol') || 'TCP') !== 'TCP') {
    notes.add('listener-address', 'not a TCP address with a port', 'address', listener, 'address');
  } else onlyFields(notes, socket, 'address.socket_address', ['protocol', 'address', 'port_value', 'ipv4_compat']);
  const name = of.name || `${address}:${port}`;
  const secure = of.relay?.tls ?? false;
  const reach = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
  const hcm = listenerNotes(notes, listener, of);
  relayNotes(notes, listener, of, resources, assumed);
  const path = 'http_connection_manager';
  if (hcm) hcmNotes(notes, hcm, path, http2);
  const spelling = keepsCase(notes, obj(hcm, 'http_protocol_options'), join(path, 'http_protocol_options'));

  const mayChange = (key: string) => runtimeMayChange(resources.bootstrap, key);
  const logs = hcm ? accessLogs(notes, hcm, path, mayChange) : [];
  const operators = logOperators(logs);
  const details = operators.some((o) => o.command === 'RESPONSE_CODE_DETAILS');
  const around = { address, port, details, faultsMayChange: mayChange('fault'), mayChange, limits };
  const chain = new FilterChain(notes, hcm ?? {}, around, path);
  const edge = hcm && edgeOf(hcm, secure);
  const userAgent = hcm && userAgentOf(notes, hcm, obj(resources.bootstrap, 'node'), path);
  const trace =
    hcm &&
    tracingOf(notes, hcm, path, {
      listener,
      bootstrap: resources.bootstrap,
      clusters: resources.clusters,
      runtime: runtimeMayChange(resources.bootstrap, 'tracing'),
      childSpans: chain.childSpans,
    });
  const logField = join(path, 'access_log');
  if (userAgent && operators.some((o) => o.command === 'REQ' && (namesProxy(o.header) || namesProxy(o.alternative))))
    notes.add('access-log', 'the names of the proxy are logged', logField, hcm);
  if (reports(trace) && (userAgent || chain.has('header_mutation')))
    notes.add('tracing', 'tags are about headers that the proxy edits', join(path, 'tracing'), hcm);
  if (operators.some((o) => o.command === 'REQ') && chain.has('header_mutation'))
    notes.add('access-log', 'a filter edits the headers of requests that are logged', logField, hcm);
  const told = ['set_metadata', 'header_to_metadata'].some((filter) => chain.has(filter));
  if (told && operators.some((o) => o.namespace !== undefined))
    notes.add('access-log', 'a filter may write the metadata that is logged', logField, hcm);
  // its flags and details say so, and of those whose tokens the agent takes the proxy says something else
  if ((logs.length > 0 || reports(trace)) && chain.has('local_ratelimit'))
    notes.add('access-log', 'what rate limits refuse is logged', logField, hcm);
  const rds = str(obj(hcm, 'rds'), 'route_config_name');
  const routeConfig =
    obj(hcm, 'route_config') ?? resources.routeConfigs.find((r) => rds !== '' && str(r, 'name') === rds);
  if (hcm && !routeConfig) {
    notes.add(
      'route-source',
      rds === '' ? 'routes from scoped RDS' : `no route configuration ${rds}`,
      join(path, 'rds'),
      hcm,
      'rds',
    );
  }
  if (streams) streamNotes(notes, hcm, routeConfig, path);
  const common = new Notes(resources.provenance, environment);
  if (routeConfig) routeConfigNotes(common, routeConfig);

  const any = bool(hcm, 'strip_any_host_port') || bool(routeConfig, 'ignore_port_in_host_matching');
  const stripPort = any ? 'any' : bool(hcm, 'strip_matching_host_port') ? port : 'none';
  const strip: Condition[] = [];
  // the proxy also takes the port out of the Host header that upstreams see
  if (bool(hcm, 'strip_any_host_port')) strip.push(test({ kind: 'host' }, { kind: 'regex', pattern: '.*:[0-9]+' }));
  else if (bool(hcm, 'strip_matching_host_port'))
    strip.push(test({ kind: 'host' }, { kind: 'suffix', value: `:${port}`, ignoreCase: false }));

  const clientPorts = resources.intercepts
    .filter((i) => i.listener === (of.relay?.listener ?? name))
    .map((i) => i.port);
  const context: ListenerContext = {
    provenance: resources.provenance,
    left: resources.left,
    clusters,
    used,
    address,
    port,
    clientPorts: clientPorts.length > 0 ? [...new Set(clientPorts)] : [port],
    usesRemoteIp: () => {
      chain.remoteIp = true;
    },
    mayChange,
    secure,
    http2,
    streams,
    keepsCase: spelling || [...clusters.values()].some((info) => info.keepsCase),
    ownProxy: assumed.relays === true,
    suppressEnvoyHeaders: chain.suppressEnvoyHeaders,
    logged: operators,
    details,
    edge,
    userAgent,
    ...(trace ? { trace } : {}),
    requestIds: bool(hcm, 'generate_request_id', true),
    streamIdleTimeoutMs: durationMs(hcm, 'stream_idle_timeout') ?? DEFAULT_IDLE_MS,
    removeClientCert: str(hcm, 'forward_client_cert_details') !== 'ALWAYS_FORWARD_ONLY',
    stripPort,
    hasRateLimitFilter: chain.has('ratelimit'),
  };
  const withListener: Outcome = (object, reasons, ids) => outcome(object, [...notes.reasons, ...reasons], ids);
  const hosts = virtualHosts(
    {
      listener: context,
      name,
      chain,
      routeConfig: routeConfig ?? {},
      common,
      outcome: withListener,
      rerouting: chain.rerouting(routeConfig ?? {}),
    },
    strip,
  );
  const unmatched = chain.outcome();
  for (const [policy, reasons] of chain.policies) withListener(policy, reasons);
  for (const [provider, found] of chain.providers()) withListener(provider, found.reasons);
  for (const filter of chain.filters)
    withListener(
      filter.resource,
      filterReasons(filter.kind, filter.rbac?.notes ?? filter.own, unmatched.notes, filter.resource),
    );

  const everythingProxied =
    hosts.every((h) => h.routes.every((r) => r.action.kind === 'proxy')) && unmatched.notes.reasons.length > 0;
  if (everythingProxied) notes.reasons.push(...unmatched.notes.reasons);
  // the chains of a listener have reasons of their own
  outcome(of.name === str(listener, 'name') ? listener : of.chain!, notes.reasons);
  const escaped = str(hcm, 'path_with_escaped_slashes_action');
  return {
    name,
    proxyAddress: { address: reach, port },
    offloaded: notes.clean,
    reasons: dedupe(notes.reasons),
    paths: {
      normalize: bool(hcm, 'normalize_path'),
      mergeSlashes: bool(hcm, 'merge_slashes'),
      escapedSlashes: !['', 'IMPLEMENTATION_SPECIFIC_DEFAULT', 'KEEP_UNCHANGED'].includes(escaped),
    },
    stripPort,
    virtualHosts: hosts,
    rbac: unmatched.notes.clean ? unmatched.checks : [],
    ...(chain.tokens ? { tokens: chain.tokens } : {}),
    ...(unmatched.notes.clean ? { notFound: notFound(unmatched) } : {}),
    ...(trace ? { trace } : {}),
    ...(logs.length > 0 || reports(trace)
      ? {
          log: {
            logs,
            serviceTime: !chain.suppressEnvoyHeaders,
            ...(edge ? { edge: { append: edge.append } } : {}),
            trustedHops: num(hcm, 'xff_num_trusted_hops'),
          },
        }
      : {}),
    generateRequestId: bool(hcm, 'generate_request_id', true),
    ...(of.relay ? { relay: of.relay } : {}),
    forwardedProto: secure ? 'https' : 'http',
  };
}

/**
 * What use_remote_address does (ConnectionManagerUtility::mutateRequestHeaders): the kernel appends the client's address
 * and names it. What a client says about itself is dropped or overwritten by the proxy, and where the client is this host
 * the proxy appends an address of its own choice.
 */
function edgeOf(hcm: JsonObject, secure: boolean): Edge | undefined {
  if (!bool(hcm, 'use_remote_address')) return undefined;
  const append = !bool(hcm, 'skip_xff_append');
  const direct = num(hcm, 'xff_num_trusted_hops') === 0;
  const value = secure ? 'https' : 'http';
  const own = test({ kind: 'header', name: 'x-forwarded-proto' }, { kind: 'exact', value, ignoreCase: false });
  const guards: Condition[] = [];
  if (append) guards.push(test({ kind: 'source_ip' }, { kind: 'addresses', addresses: ['127.0.0.1', '::1'] }));
  if (direct) guards.push(all([headerPresent('x-forwarded-proto'), not(own)]));
  else guards.push(headerPresent('x-forwarded-for'));
  if (bool(hcm, 'generate_request_id', true) && !bool(hcm, 'preserve_external_request_id'))
    guards.push(headerPresent('x-request-id'));
  return { append, direct, guard: any(guards) };
}

/** What requests without a route get: a fault, or 404. */
function notFound({ abort, cases }: FilterOutcome): ReplyAction {
  if (abort) return abort.at(-1)!.action;
  return { ...localReply(404, '', cases.at(-1)!.edits), origin: 'no_route' };
}

/** Why a filter is not offloaded: RBAC for its own reasons, others as the chain says. */
function filterReasons(kind: string, rbac: Notes | undefined, unmatched: Notes, resource: JsonObject) {
  if (rbac) return rbac.reasons;
  return kind === 'foreign'
    ? unmatched.reasons.filter((r) => r.message.includes(`filter ${str(resource, 'name')} `))
    : [];
}
