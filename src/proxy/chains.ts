/**
 * The proxy's part of relayed filter chains. A chain's connections, once TLS is taken off, go to the agent at an address of
 * the loopback, with the PROXY protocol in front: the client's address, a secret that shows who speaks, and the chain's name
 * in the plan. What follows is decided in the kernel where the proxy sends it, as at any client's socket. The agent hands what the kernel leaves to the proxy to a copy of the chain at a Unix
 * socket, by TLS again where the chain has it, so that everything there is as it was. When nobody listens at the agent's
 * address, connections go to the copy at once.
 *
 * Connections that agree on HTTP/2 keep the original chain.
 */
import { createHash } from 'node:crypto';
import { acceptedProtocols, type ChainRelay, splitsByProtocol, TLS_INSPECTOR } from '../plan/chains.js';
import { asObject, asObjects, asString, filterChains } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { agentCopy, inboundPath, undirectedRoutes } from './inbound.js';

const EXTENSION = 'type.googleapis.com/envoy.extensions';
const INSPECTOR = `type.googleapis.com/${TLS_INSPECTOR}`;

/** Types of the PROXY protocol's additional values, of those for experiments (proxy-protocol.txt, section 2.2.8). */
export const TLV = { SECRET: 0xe0, LISTENER: 0xe1 } as const;

/** Where the agent takes relayed connections, and by what it knows the proxy. */
export interface ChainTarget {
  readonly port: number;
  readonly secret: string;
}

/** A relayed chain and its name in the plan. */
export interface NamedChain extends ChainRelay {
  readonly name: string;
}

/** One with the listener’s index in the image. */
export interface NumberedChain extends NamedChain {
  readonly index: number;
}

/** What a client may send before the agent is connected, in bytes. */
const EARLY = 65_536;

const clusterName = (name: string) => `sidestep relay ${createHash('sha256').update(name).digest('hex').slice(0, 12)}`;

/** The resources with these chains relayed. What is not changed is shared with the original. */
export function withChains(
  resources: Resources,
  relays: readonly NumberedChain[],
  dir: string,
  target: ChainTarget,
): Resources {
  if (relays.length === 0) return resources;
  const byListener = new Map<string, NamedChain[]>();
  for (const relay of relays) byListener.set(relay.listener, [...(byListener.get(relay.listener) ?? []), relay]);
  const copies: JsonObject[] = [];
  const listeners = resources.listeners.map((listener) => {
    const own = byListener.get(asString(listener.name));
    if (!own) return listener;
    const chains = filterChains(listener);
    for (const relay of own) copies.push(copyOf(listener, chains[relay.chain]!, relay, dir));
    return relayed(listener, chains, own);
  });
  return {
    ...undirectedRoutes(resources),
    listeners: [...listeners, ...copies],
    clusters: [...resources.clusters, ...relays.map((relay) => cluster(relay, dir, target))],
  };
}

/** The listener with the chains that are relayed, and for those that agree on HTTP/2 their originals. */
function relayed(listener: JsonObject, chains: readonly JsonObject[], relays: readonly NamedChain[]): JsonObject {
  const fallback = asObject(listener.default_filter_chain);
  const byChain = new Map(relays.map((relay) => [relay.chain, relay]));
  const splits = chains.some((chain) => splitsByProtocol(chain));
  const out: JsonObject[] = [];
  let last: JsonObject | undefined;
  chains.forEach((chain, index) => {
    const relay = byChain.get(index);
    const now = relay ? { ...chain, filters: [forward(relay)] } : chain;
    // a default chain that is the only one takes every connection, as a chain without a match does
    if (chain === fallback && chains.length > 1) last = now;
    else out.push(now);
    // where some chains tell HTTP/2 from the rest, all that accept it must, or those would take the others' connections
    if (!splits || (chain === fallback && chains.length > 1) || !splitsByProtocol(chain)) return;
    const match = asObject(chain.filter_chain_match) ?? {};
    const name = asString(chain.name);
    out.push({
      ...chain,
      ...(name ? { name: `${name} HTTP/2` } : {}),
      filter_chain_match: { ...match, application_protocols: ['h2'] },
    });
  });
  const { default_filter_chain: _, ...rest } = listener;
  return {
    ...rest,
    ...inspected(listener, splits),
    filter_chains: out,
    ...(last ? { default_filter_chain: last } : {}),
  };
}

const isInspector = (filter: JsonObject) => asObject(filter.typed_config)?.['@type'] === INSPECTOR;

/** With what reads a ClientHello, without a time limit that the listener did not have. */
function inspected(listener: JsonObject, wanted: boolean): JsonObject {
  const filters = asObjects(listener.listener_filters);
  if (!wanted || filters.some(isInspector)) return {};
  const inspector = { name: 'envoy.filters.listener.tls_inspector', typed_config: { '@type': INSPECTOR } };
  return {
    listener_filters: [...filters, inspector],
    ...(filters.length > 0 || listener.listener_filters_timeout !== undefined
      ? {}
      : { listener_filters_timeout: '0s' }),
  };
}

/** How the proxy hands a connection on: as soon as TLS stands, and again if the agent is just being replaced. */
function forward(relay: NamedChain): JsonObject {
  return {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: {
      '@type': `${EXTENSION}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: clusterName(relay.name),
      cluster: clusterName(relay.name),
      // what is idle is the agent's to say
      idle_timeout: '0s',
      max_connect_attempts: 5,
      backoff_options: { base_interval: '0.02s', max_interval: '0.2s' },
      ...(relay.tls ? { upstream_connect_mode: 'ON_DOWNSTREAM_TLS_HANDSHAKE', max_early_data_bytes: EARLY } : {}),
    },
  };
}

/** Where the proxy connects to for a listener; a hook leads it to the agent (bpf/chains.h). @throws RangeError */
function chainAddress(index: number): string {
  if (index > 0xffff) throw new RangeError('too many listeners');
  return `127.255.${index >> 8}.${index & 0xff}`;
}

/** The agent, and the copy of the chain for when it is away. */
function cluster(relay: NumberedChain, dir: string, target: ChainTarget): JsonObject {
  const name = clusterName(relay.name);
  const text = (type: number, value: string) => ({ type, value: Buffer.from(value).toString('base64') });
  const added_tlvs = [text(TLV.SECRET, target.secret), text(TLV.LISTENER, relay.name)];
  const prologue = (inner: JsonObject): JsonObject => ({
    name: 'envoy.transport_sockets.upstream_proxy_protocol',
    typed_config: {
      '@type': `${EXTENSION}.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport`,
      config: { version: 'V2', added_tlvs },
      transport_socket: inner,
    },
  });
  const plain = {
    name: 'envoy.transport_sockets.raw_buffer',
    typed_config: { '@type': `${EXTENSION}.transport_sockets.raw_buffer.v3.RawBuffer` },
  };
  const secure = {
    name: 'envoy.transport_sockets.tls',
    typed_config: { '@type': `${EXTENSION}.transport_sockets.tls.v3.UpstreamTlsContext`, max_session_keys: 0 },
  };
  const endpoint = (address: JsonObject, more: JsonObject = {}): JsonObject => ({
    lb_endpoints: [{ endpoint: { address }, ...more }],
  });
  const metadata = { filter_metadata: { 'envoy.transport_socket_match': { copy: true } } };
  return {
    name,
    connect_timeout: '5s',
    type: 'STATIC',
    // who does not listen is not asked for a second
    outlier_detection: {
      split_external_local_origin_errors: true,
      consecutive_local_origin_failure: 1,
      enforcing_consecutive_local_origin_failure: 100,
      enforcing_consecutive_5xx: 0,
      enforcing_success_rate: 0,
      interval: '1s',
      base_ejection_time: '1s',
      max_ejection_time: '1s',
      max_ejection_time_jitter: '0s',
      max_ejection_percent: 100,
    },
    circuit_breakers: {
      thresholds: [{ max_connections: 1_000_000, max_pending_requests: 1_000_000 }],
    },
    transport_socket: prologue(plain),
    transport_socket_matches: [
      { name: 'copy', match: { copy: true }, transport_socket: prologue(relay.tls ? secure : plain) },
    ],
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          ...endpoint({ socket_address: { address: chainAddress(relay.index), port_value: target.port } }),
          priority: 0,
        },
        { ...endpoint({ pipe: { path: inboundPath(dir, relay.name) } }, { metadata }), priority: 1 },
      ],
    },
  };
}

/** The chain as the agent reaches it. */
function copyOf(listener: JsonObject, chain: JsonObject, relay: NamedChain, dir: string): JsonObject {
  const { filter_chain_match: _, transport_socket: transport, ...rest } = chain;
  const { default_filter_chain: __, listener_filters: ___, ...only } = listener;
  return agentCopy(
    {
      ...only,
      filter_chains: [{ ...rest, ...(relay.tls ? { transport_socket: reduced(asObject(transport)!) } : {}) }],
    },
    relay.name,
    dir,
  );
}

/** The same certificates, for whoever connects, and HTTP/1.1. */
function reduced(transport: JsonObject): JsonObject {
  const config = asObject(transport.typed_config)!;
  const common = asObject(config.common_tls_context) ?? {};
  const kept = ['tls_certificates', 'tls_certificate_sds_secret_configs', 'tls_certificate_provider_instance'];
  const certificates = Object.fromEntries(Object.entries(common).filter(([key]) => kept.includes(key)));
  const protocols = acceptedProtocols(config).filter((protocol) => protocol !== 'h2');
  return {
    ...transport,
    typed_config: {
      '@type': config['@type']!,
      common_tls_context: { ...certificates, ...(protocols.length > 0 ? { alpn_protocols: protocols } : {}) },
    },
  };
}
