/** envoy.config.listener.v3.Listener with an HTTP connection manager -> ListenerPlan. */
import type { JsonObject, Resources } from '../policy/resources.js';
import { accessLogs, logOperators } from './access-log.js';
import type { Edge, ListenerContext } from './actions.js';
import { localReply } from './answers.js';
import type { Assumptions } from './build.js';
import type { ChainListener } from './chains.js';
import type { ClusterInfo } from './clusters.js';
import { test } from './conditions.js';
import { edgeOf, hcmNotes } from './connection-manager.js';
import type { FilterOutcome } from './filter-outcome.js';
import { keepsCase } from './header-case.js';
import { FilterChain } from './http-filters.js';
import type { ClusterPlan, Condition, ListenerPlan, ReplyAction } from './ir.js';
import { listenerNotes, relayNotes } from './listener-notes.js';
import type { LimitContext } from './local-limits.js';
import { bool, durationMs, has, join, Notes, num, obj, onlyFields, str } from './notes.js';
import { dedupe, type Outcome, routeConfigNotes, virtualHosts } from './routes.js';
import { runtimeMayChange } from './runtime.js';
import { streamNotes } from './streams.js';
import { reports, tracingOf } from './tracing.js';
import { areRenamed } from './tried.js';
import { namesProxy, userAgentOf } from './user-agent.js';

const DEFAULT_IDLE_MS = 300_000;

/** Where a listener listens; a note where that is no TCP port. */
function addressOf(notes: Notes, listener: JsonObject): { readonly address: string; readonly port: number } {
  const socket = obj(obj(listener, 'address'), 'socket_address');
  const [address, port] = [str(socket, 'address'), num(socket, 'port_value')];
  if (!socket || port === 0 || (str(socket, 'protocol') || 'TCP') !== 'TCP')
    notes.add('listener-address', 'not a TCP address with a port', 'address', listener, 'address');
  else onlyFields(notes, socket, 'address.socket_address', ['protocol', 'address', 'port_value', 'ipv4_compat']);
  return { address, port };
}

/** What else is left to the proxy where requests are logged or traced. `hcm` is at `path`. */
function loggedNotes(
  notes: Notes,
  hcm: JsonObject,
  path: string,
  of: {
    readonly logs: readonly unknown[];
    readonly operators: ReturnType<typeof logOperators>;
    readonly chain: FilterChain;
    /** the connection manager writes the user agent */
    readonly userAgent: boolean;
    readonly reported: boolean;
  },
): void {
  const { operators, chain } = of;
  const field = join(path, 'access_log');
  const headers = operators.filter((o) => o.command === 'REQ');
  if (of.userAgent && headers.some((o) => namesProxy(o.header) || namesProxy(o.alternative)))
    notes.add('access-log', 'the names of the proxy are logged', field, hcm);
  if (of.reported && (of.userAgent || chain.has('header_mutation')))
    notes.add('tracing', 'tags are about headers that the proxy edits', join(path, 'tracing'), hcm);
  if (headers.length > 0 && chain.has('header_mutation'))
    notes.add('access-log', 'a filter edits the headers of requests that are logged', field, hcm);
  const told = ['set_metadata', 'header_to_metadata'].some((filter) => chain.has(filter));
  if (told && operators.some((o) => o.namespace !== undefined))
    notes.add('access-log', 'a filter may write the metadata that is logged', field, hcm);
  // its flags and details say so, and of those whose tokens the agent takes the proxy says something else
  if ((of.logs.length > 0 || of.reported) && chain.has('local_ratelimit'))
    notes.add('access-log', 'what rate limits refuse is logged', field, hcm);
}

/** The route configuration of a connection manager, its own or the one that it names. */
function routeConfigOf(notes: Notes, hcm: JsonObject, resources: Resources, path: string): JsonObject | undefined {
  const rds = str(obj(hcm, 'rds'), 'route_config_name');
  const found = obj(hcm, 'route_config') ?? resources.routeConfigs.find((r) => rds !== '' && str(r, 'name') === rds);
  if (!found) {
    const what = rds === '' ? 'routes from scoped RDS' : `no route configuration ${rds}`;
    notes.add('route-source', what, join(path, 'rds'), hcm, 'rds');
  }
  return found;
}

/** Which port is not part of a host, and which requests are the proxy's because it takes the port out of them. */
function stripped(
  hcm: JsonObject | undefined,
  routeConfig: JsonObject | undefined,
  port: number,
): { readonly stripPort: ListenerPlan['stripPort']; readonly strip: readonly Condition[] } {
  const any = bool(hcm, 'strip_any_host_port');
  const own = bool(hcm, 'strip_matching_host_port');
  const strip: Condition[] = [];
  // the proxy also takes the port out of the Host header that upstreams see
  if (any) strip.push(test({ kind: 'host' }, { kind: 'regex', pattern: '.*:[0-9]+' }));
  else if (own) strip.push(test({ kind: 'host' }, { kind: 'suffix', value: `:${port}`, ignoreCase: false }));
  const stripPort = any || bool(routeConfig, 'ignore_port_in_host_matching') ? 'any' : own ? port : 'none';
  return { stripPort, strip };
}

/** What lines of access logs and reported requests need of a listener beside its logs. */
function logged(
  hcm: JsonObject,
  edge: Edge | undefined,
  chain: FilterChain,
): Omit<NonNullable<ListenerPlan['log']>, 'logs'> {
  return {
    serviceTime: !chain.suppressEnvoyHeaders,
    ...(edge ? { edge: { append: edge.append } } : {}),
    trustedHops: num(hcm, 'xff_num_trusted_hops'),
  };
}

/** Tells of each filter, and of what is behind it, why it is left to the proxy. */
function tellFilters(chain: FilterChain, unmatched: FilterOutcome, tell: Outcome): void {
  for (const [policy, reasons] of chain.policies) tell(policy, reasons);
  for (const [provider, found] of chain.providers()) tell(provider, found.reasons);
  for (const { kind, rbac, own, resource } of chain.filters)
    tell(resource, filterReasons(kind, rbac?.notes ?? own, unmatched.notes, resource));
}

/**
 * Reads one listener, as one of its chains sees it.
 * @param used clusters that rules lead to: those of this listener are added. @param outcome is told what becomes of each object
 */
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
  const { address, port } = addressOf(notes, listener);
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
  if (hcm)
    loggedNotes(notes, hcm, path, {
      logs,
      operators,
      chain,
      userAgent: userAgent !== undefined,
      reported: reports(trace),
    });
  const routeConfig = hcm && routeConfigOf(notes, hcm, resources, path);
  if (streams) streamNotes(notes, hcm, routeConfig, path);
  const common = new Notes(resources.provenance, environment);
  if (routeConfig) routeConfigNotes(common, routeConfig);

  const { stripPort, strip } = stripped(hcm, routeConfig, port);
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
    logsCopies:
      operators.some(({ command }) => command === 'UPSTREAM_CLUSTER_RAW') &&
      areRenamed([...clusters.values()].map(({ resource }) => resource)),
    details,
    edge,
    userAgent,
    ...(trace ? { trace } : {}),
    requestIds: bool(hcm, 'generate_request_id', true),
    streamIdleTimeoutMs: durationMs(hcm, 'stream_idle_timeout') ?? DEFAULT_IDLE_MS,
    otherBuffers: has(listener, 'per_connection_buffer_limit_bytes'),
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
  tellFilters(chain, unmatched, withListener);

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
    ...(hcm && (logs.length > 0 || reports(trace)) ? { log: { logs, ...logged(hcm, edge, chain) } } : {}),
    generateRequestId: bool(hcm, 'generate_request_id', true),
    ...(of.relay ? { relay: of.relay } : {}),
    forwardedProto: secure ? 'https' : 'http',
  };
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
