/**
 * Listeners with TCP proxies whose filter chains are chosen by what a client says first: the server name and the protocols of
 * its ClientHello, as Envoy's tls_inspector reads them, or that it is none (FilterChainManagerImpl::findFilterChain).
 */

import { MAX_PROTOCOL } from '../layout/hellos.js';
import { filterChains, tcpProxies } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import type { Assumptions } from './build.js';
import type { ClusterInfo } from './clusters.js';
import { clusterNotes, connectMs, NO_REQUESTS, placeOf, proxyNotes } from './connections.js';
import { choices } from './destinations.js';
import type { ClusterPlan, ConnectionRoute, HelloPlan, HelloWay, ListenerPlan, Reason } from './ir.js';
import { LISTENER_FIELDS } from './listener-notes.js';
import { anyType, has, list, Notes, obj, onlyFields, str } from './notes.js';
import { dedupe, type Outcome } from './routes.js';

const INSPECTOR = /\.tls_inspector\./;
/** One filter chain, with what is asked of its connections. */
interface Chain {
  readonly names: readonly string[];
  readonly transport: string;
  readonly protocols: readonly string[];
  /** index of its route, if the kernel can take it */
  readonly route?: number;
}

const inspectors = (listener: JsonObject): JsonObject[] =>
  list(listener, 'listener_filters').filter((f) => INSPECTOR.test(anyType(obj(f, 'typed_config'))));

/** Whether what clients say first is looked at. */
export function looksAtHellos(listener: JsonObject): boolean {
  return inspectors(listener).length > 0;
}

const strings = (object: JsonObject | undefined, key: string): string[] => {
  const value = object?.[key];
  return Array.isArray(value) ? value.filter((x): x is string => typeof x === 'string') : [];
};

/** What is about the listener as a whole. */
function listenerNotes(notes: Notes, listener: JsonObject, { atListener }: Assumptions): void {
  onlyFields(notes, listener, '', LISTENER_FIELDS);
  if (has(listener, 'access_log'))
    notes.add('access-log', 'connections are logged', 'access_log', listener, 'access_log');
  if (str(listener, 'traffic_direction') === 'INBOUND')
    notes.add('not-http', 'connections from everywhere', 'traffic_direction', listener, 'traffic_direction');
  if (atListener)
    notes.add('not-http', 'what clients say first is looked at where they send it', 'listener_filters', listener);
  for (const filter of list(listener, 'listener_filters')) {
    const config = obj(filter, 'typed_config');
    if (!INSPECTOR.test(anyType(config)))
      notes.add('filter-chain', `the listener filter ${str(filter, 'name')}`, 'listener_filters', filter);
    else
      onlyFields(notes, config!, 'listener_filters', [
        '@type',
        'enable_ja3_fingerprinting',
        'enable_ja4_fingerprinting',
      ]);
  }
  const known = ['server_names', 'transport_protocol', 'application_protocols'];
  for (const [index, chain] of filterChains(listener).entries()) {
    const match = obj(chain, 'filter_chain_match');
    const other = Object.keys(match ?? {}).filter((key) => !known.includes(key));
    if (other.length > 0)
      notes.add('filter-chain', `chains are chosen by ${other.join(', ')}`, chainPath(listener, index), chain);
  }
}

function chainPath(listener: JsonObject, index: number): string {
  return index < list(listener, 'filter_chains').length ? `filter_chains[${index}]` : 'default_filter_chain';
}

/** What is about one chain; the TCP proxy, if that is all it is. */
function chainNotes(notes: Notes, chain: JsonObject, path: string): JsonObject | undefined {
  const known = ['name', 'filters', 'metadata', 'transport_socket', 'transport_socket_connect_timeout'];
  onlyFields(notes, chain, path, [...known, 'filter_chain_match']);
  const match = obj(chain, 'filter_chain_match');
  for (const name of strings(match, 'server_names'))
    if (!/^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name))
      notes.add('filter-chain', `the server name ${name}`, `${path}.filter_chain_match.server_names`, match!);
  for (const name of strings(match, 'application_protocols'))
    if (Buffer.byteLength(name) > MAX_PROTOCOL || name === '')
      notes.add('filter-chain', `the protocol ${name}`, `${path}.filter_chain_match.application_protocols`, match!);
  const transport = obj(chain, 'transport_socket');
  const type = anyType(obj(transport, 'typed_config'));
  if (transport && !type.endsWith('.RawBuffer'))
    notes.add('tls', `connections use ${type || str(transport, 'name')}`, `${path}.transport_socket`, chain);
  const filters = list(chain, 'filters');
  const [proxy] = tcpProxies({ filter_chains: [chain] });
  if (filters.length !== 1 || !proxy) {
    const names = filters.map((f) => str(f, 'name')).join(', ');
    notes.add('network-filter', `the filters are ${names || 'none'}`, `${path}.filters`, chain, 'filters');
  }
  return proxy;
}

/**
 * The chain for a server name and a kind of transport. Envoy does not go back: where a name has chains and none of them is for
 * this transport, the default chain (or nobody) has the connection.
 */
function wayOf(chains: readonly Chain[], name: string, transport: string, fallback: Chain | undefined): HelloWay {
  const named = chains.filter(({ names }) => (names.length === 0 ? name === '' : names.includes(name)));
  const own = named.filter((chain) => chain.transport === transport);
  const left = own.length > 0 ? own : named.filter((chain) => chain.transport === '');
  const to = (chain: Chain | undefined) => (chain?.route === undefined ? {} : { route: chain.route });
  return {
    ...to(left.find(({ protocols }) => protocols.length === 0) ?? fallback),
    protocols: left.flatMap((chain) => chain.protocols.map((protocol) => ({ name: protocol, ...to(chain) }))),
  };
}

function waysOf(chains: readonly Chain[], fallback: Chain | undefined, routes: readonly ConnectionRoute[]): HelloPlan {
  const names = [...new Set(chains.flatMap((chain) => chain.names))];
  const way = (name: string, transport: string) => wayOf(chains, name, transport, fallback);
  return {
    routes,
    names: names.map((name) => ({ name: name.toLowerCase(), way: way(name, 'tls') })),
    other: way('', 'tls'),
    plain: way('', 'raw_buffer'),
  };
}

/** The index of the route that a connection takes, which begins with a ClientHello or not; undefined: the proxy decides. */
export function routeFor(
  { names, other, plain }: HelloPlan,
  hello: { readonly name?: string; readonly protocols: readonly string[] } | undefined,
): number | undefined {
  if (!hello) return plain.route;
  const { protocols } = hello;
  // as Envoy's tls_inspector has it
  const name = hello.name?.toLowerCase() ?? '';
  const labels = name.split('.');
  const wildcards = labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join('.')}`);
  const found = [name, ...wildcards].map((n) => names.find((named) => named.name === n)).find((n) => n !== undefined);
  const way = found?.way ?? other;
  const asked = protocols.map((p) => way.protocols.find((own) => own.name === p)).find((p) => p !== undefined);
  return asked ? asked.route : way.route;
}

/** Reads a listener that is about connections which are told apart by what clients say first. */
export function helloPlan(
  listener: JsonObject,
  resources: Resources,
  clusters: ReadonlyMap<string, ClusterInfo>,
  used: Map<string, ClusterPlan>,
  outcome: Outcome,
  assumed: Assumptions,
): ListenerPlan {
  const notes = new Notes(resources.provenance);
  notes.reasons.push(...(resources.left?.get(listener) ?? []));
  const { name, proxyAddress } = placeOf(notes, listener);
  listenerNotes(notes, listener, assumed);
  const all = filterChains(listener);
  const routes: ConnectionRoute[] = [];
  const reasons: Reason[] = [...notes.reasons];
  const chains = all.map((chain, index): Chain => {
    const path = chainPath(listener, index);
    const own = new Notes(resources.provenance);
    own.reasons.push(...(resources.left?.get(chain) ?? []));
    const proxy = chainNotes(own, chain, path);
    if (proxy) own.reasons.push(...(resources.left?.get(proxy) ?? []));
    if (proxy) proxyNotes(own, proxy, `${path}.tcp_proxy`);
    const chosen = proxy ? choices(own, { listener: { clusters } }, proxy, `${path}.tcp_proxy`) : [];
    for (const { info } of chosen) clusterNotes(own, info);
    const id = `${name}/${str(chain, 'name') || path}`;
    const why = dedupe([...notes.reasons, ...own.reasons]);
    reasons.push(...own.reasons);
    if (proxy) outcome(proxy, why, [id]);
    const match = obj(chain, 'filter_chain_match');
    const asked = {
      names: strings(match, 'server_names'),
      transport: str(match, 'transport_protocol'),
      protocols: strings(match, 'application_protocols'),
    };
    if (why.length > 0 || !proxy) return asked;
    for (const { cluster, info } of chosen) used.set(cluster.name, { ...cluster, connectMs: connectMs(info) });
    const position = resources.provenance.get(proxy);
    routes.push({
      id,
      ...(position ? { position } : {}),
      clusters: chosen.map(({ cluster, weight }) => ({ cluster: cluster.name, weight })),
    });
    return { ...asked, route: routes.length - 1 };
  });
  outcome(listener, notes.reasons);
  const fallback = has(listener, 'default_filter_chain') ? chains.at(-1) : undefined;
  return {
    name,
    proxyAddress,
    offloaded: routes.length > 0,
    reasons: routes.length > 0 ? [] : dedupe(reasons),
    hellos: waysOf(fallback ? chains.slice(0, -1) : chains, fallback, routes),
    ...NO_REQUESTS,
  };
}
