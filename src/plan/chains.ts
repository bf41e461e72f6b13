/**
 * Which filter chains can be relayed: the proxy chooses the chain and takes TLS off, the plaintext comes to the data plane,
 * and what the kernel leaves to the proxy goes to a copy of the chain (src/proxy/chains.ts). The copy sees a TLS connection of
 * the agent's: with the client's address, no name that it asked for and no certificate of its. So nothing in the chain may look at
 * anything else of the TLS connection.
 */
import { asString, connectionManagers, filterChains } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { anyType, list, obj, str } from './notes.js';

/** The listener filter that reads a ClientHello. */
export const TLS_INSPECTOR = 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector';
const DOWNSTREAM_TLS = 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext';

/** A filter chain whose connections come to the data plane by way of the proxy. */
export interface ChainRelay {
  /** name of the listener in the resources */
  readonly listener: string;
  /** index among its chains, the default one last */
  readonly chain: number;
  readonly tls: boolean;
}

/** A listener as one chain of it sees it, named as the plan names it. */
export interface ChainListener {
  readonly name: string;
  readonly chain: JsonObject | undefined;
  /** undefined: connections are intercepted before the proxy sees them */
  readonly relay?: ChainRelay;
}

/** The TLS context of a chain that takes TLS off. */
function tlsContext(chain: JsonObject | undefined): JsonObject | undefined {
  const config = obj(obj(chain, 'transport_socket'), 'typed_config');
  return anyType(config) === DOWNSTREAM_TLS ? config : undefined;
}

/** The protocols of ALPN that a TLS context accepts. */
export function acceptedProtocols(context: JsonObject | undefined): string[] {
  const protocols = obj(context, 'common_tls_context')?.alpn_protocols;
  return Array.isArray(protocols) ? protocols.map((p) => asString(p)) : [];
}

/** Connections that agree on HTTP/2 keep their original chain. */
export function splitsByProtocol(chain: JsonObject): boolean {
  return acceptedProtocols(tlsContext(chain)).includes('h2');
}

const matchOf = (chain: JsonObject): JsonObject => obj(chain, 'filter_chain_match') ?? {};

/** The HTTP chains of a listener, each with its name in the plan; a listener without any is one of its own. */
export function chainListeners(listener: JsonObject): ChainListener[] {
  const chains = filterChains(listener);
  const name = str(listener, 'name');
  const [only] = chains;
  if (chains.length < 2) {
    const plain = !only || (!tlsContext(only) && Object.keys(matchOf(only)).length === 0);
    const relay = { listener: name, chain: 0, tls: tlsContext(only) !== undefined };
    return [{ name, chain: only, ...(plain ? {} : { relay }) }];
  }
  const http = chains.flatMap((chain, index) =>
    connectionManagers({ filter_chains: [chain] }).length === 0 ? [] : [{ chain, index }],
  );
  const own = (chain: JsonObject, index: number) => {
    const wanted = `${name}/${str(chain, 'name') || index}`;
    const rival = http.find((other) => other.index !== index && str(other.chain, 'name') === str(chain, 'name'));
    return rival && str(chain, 'name') ? `${wanted}~${index}` : wanted;
  };
  if (http.length === 0) return [{ name, chain: only }];
  return http.map(({ chain, index }) => ({
    name: own(chain, index),
    chain,
    relay: { listener: name, chain: index, tls: tlsContext(chain) !== undefined },
  }));
}

/** A listener that has nothing but one of its chains. */
export function alone(listener: JsonObject, { name, chain }: ChainListener): JsonObject {
  const { default_filter_chain: _, ...rest } = listener;
  return { ...rest, name, filter_chains: chain ? [chain] : [] };
}

/** Filters that look at nothing of the connection but its addresses, or whose configuration says that they do. */
const KNOWN_FILTERS =
  /\.http\.(router|rbac|jwt_authn|cors|fault|header_mutation|buffer|csrf|health_check|set_metadata|header_to_metadata|grpc_web|grpc_stats|grpc_http1_bridge|grpc_http1_reverse_bridge|grpc_json_transcoder|connect_grpc_bridge|compressor|decompressor|ext_authz|ratelimit|lua|stateful_session)\.v3\./;

/** What a configuration may not mention, and what it would be for. */
const TLS_FACTS: readonly (readonly [RegExp, string])[] = [
  [/%REQUESTED_SERVER_NAME/, 'a format mentions the name that the client asked for'],
  [
    /%DOWNSTREAM_(TLS|PEER|LOCAL_(SUBJECT|URI|DNS|IP_SAN|EMAIL|OTHERNAME|OID))|%TLS_JA|_JA[34]/,
    'a format mentions facts of the TLS connection',
  ],
  [/"(authenticated|mtls_authenticated|requested_server_name)":/, 'RBAC looks at the TLS connection'],
  [/"tls_context":/, 'routes look at the client’s certificate'],
  [
    /include_peer_certificate|include_tls_session|tls_(version|cipher)|peer_certificate|\bconnection\.|mtls/,
    'a filter looks at the TLS connection',
  ],
  [/ssl\s*\(|"filename":[^}]*\.lua/, 'a script may look at the TLS connection'],
  [/"(header_)?name":"x-forwarded-proto"/i, 'a match looks at x-forwarded-proto'],
];

/** What a chain may not mention however its connections come. */
const CONNECTION_FACTS: readonly (readonly [RegExp, string])[] = [
  [/DOWNSTREAM_DIRECT_/, 'a format mentions the direct address of the client'],
  [/"max_active_faults":|\.http\.local_ratelimit\./, 'the proxy counts over all connections of the chain'],
];

const texts = new WeakMap<object, string>();

function textOf(object: JsonObject): string {
  const known = texts.get(object) ?? JSON.stringify(object);
  texts.set(object, known);
  return known;
}

/** Why a chain’s connections stay with the proxy; undefined: they are relayed. */
export function chainProblem(
  listener: JsonObject,
  { chain, relay }: ChainListener,
  resources: Pick<Resources, 'routeConfigs' | 'intercepts'>,
): string | undefined {
  if (!relay || !chain) return undefined;
  if (resources.intercepts.some((i) => i.listener === relay.listener && i.inbound === 'workload'))
    return 'the listener stands before a server’s own port';
  const [manager] = connectionManagers({ filter_chains: [chain] });
  if (!manager) return undefined;
  if (obj(manager, 'tracing')) return 'requests are traced';
  const rds = str(obj(manager, 'rds'), 'route_config_name');
  const routes = resources.routeConfigs.find((config) => str(config, 'name') === rds);
  const said = [manager, ...(routes ? [routes] : [])].map(textOf);
  const facts = relay.tls ? [...CONNECTION_FACTS, ...TLS_FACTS] : CONNECTION_FACTS;
  for (const [pattern, problem] of facts) if (said.some((text) => pattern.test(text))) return problem;
  if (!relay.tls) return splitProblem(listener, chain);
  const foreign = list(manager, 'http_filters').find((f) => !KNOWN_FILTERS.test(anyType(obj(f, 'typed_config'))));
  if (foreign) return `the filter ${str(foreign, 'name')} may look at the TLS connection`;
  return certificateProblem(chain, manager) ?? splitProblem(listener, chain);
}

function certificateProblem(chain: JsonObject, manager: JsonObject): string | undefined {
  const common = obj(tlsContext(chain), 'common_tls_context') ?? {};
  const asked = Object.keys(common).some((key) => /validation_context/.test(key));
  const details = str(manager, 'forward_client_cert_details') || 'SANITIZE';
  if (asked && details !== 'SANITIZE' && details !== 'ALWAYS_FORWARD_ONLY')
    return 'upstreams are told about the client’s certificate';
  const own = ['custom_handshaker', 'custom_tls_certificate_selector', 'key_log'].find((key) => key in common);
  return own && `${own} is set`;
}

/** Whether chains of a listener would be chosen otherwise once those for HTTP/2 are told from the others. */
function splitProblem(listener: JsonObject, chain: JsonObject): string | undefined {
  const chains = filterChains(listener);
  const named = (c: JsonObject) => matchOf(c).application_protocols;
  if (Array.isArray(named(chain)) && (named(chain) as unknown[]).includes('h2')) return 'the chain is for HTTP/2';
  if (!chains.some(splitsByProtocol)) return undefined;
  if (chains.length > 1 && chains.at(-1) === listener.default_filter_chain && splitsByProtocol(chains.at(-1)!))
    return 'the default chain accepts HTTP/2';
  const looks = ['server_names', 'transport_protocol', 'application_protocols'];
  const inspected = list(listener, 'listener_filters').some((f) => anyType(obj(f, 'typed_config')) === TLS_INSPECTOR);
  if (!inspected && chains.some((c) => looks.some((key) => key in matchOf(c))))
    return 'chains are chosen by what no listener filter looks at';
  const later = ['direct_source_prefix_ranges', 'source_type', 'source_prefix_ranges', 'source_ports'];
  const mixed = chains.some((c) => named(c) || later.some((key) => key in matchOf(c)));
  return mixed ? 'chains are chosen by ALPN or by the client’s address beside HTTP/2' : undefined;
}
