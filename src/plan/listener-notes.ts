/** Why a listener, or a chain of it, is left to the proxy. */

import type { JsonObject, Resources } from '../policy/resources.js';
import type { Assumptions } from './build.js';
import { type ChainListener, chainProblem } from './chains.js';
import { HCM } from './connection-manager.js';
import { anyType, has, join, list, type Notes, obj, onlyFields, str } from './notes.js';

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

/** Which fields of a listener, and of the chain, leave it to the proxy; the chain's connection manager, if there is one. */
export function listenerNotes(
  notes: Notes,
  listener: JsonObject,
  { chain, relay }: ChainListener,
): JsonObject | undefined {
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
export function relayNotes(
  notes: Notes,
  listener: JsonObject,
  of: ChainListener,
  resources: Resources,
  assumed: Assumptions,
) {
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
