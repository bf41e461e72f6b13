/**
 * Relays: the proxy encrypts what the data plane sends to servers that want TLS, and reads nothing of it. One listener on
 * the loopback interface serves them all. A connection begins with a PROXY header that names the server and, in a TLV, the
 * relay: a cluster with the TLS settings, whose name nobody can guess who does not get it from the agent. Other connections
 * are closed before anything is opened on their behalf.
 */
import type { RelayPlan } from '../plan/ir.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { agentCluster } from './agent-cluster.js';

/** What the listener is called, which the agent looks for. */
export const RELAY_LISTENER = 'sidestep-relays';
/**
 * Types of TLVs (PROXY protocol, section 2.2: 0xE0 to 0xEF are anybody's): the relay, and the names of the handshake
 * where they are not the cluster's own.
 */
export const RELAY_TLV = { relay: 0xe0, sni: 0xe1, san: 0xe2 } as const;
const REPORTS = 'sidestep-relay-reports';
const TYPE = 'type.googleapis.com/envoy.extensions.';
/** Nothing is refused here: how many connections there are is the pool's concern. */
const MANY = 4294967295;

/** Names of relays' clusters begin so, and none of the user's: nobody is led to those. */
const PREFIX = 'sidestep-relay.';

/** What the TLV says. @param secret of the instance */
export function relayName(key: string, secret: string): string {
  return `${key}.${secret}`;
}

function relayCluster({ key, settings }: RelayPlan, secret: string): JsonObject {
  return {
    ...settings,
    name: PREFIX + relayName(key, secret),
    // statistics are for everybody
    alt_stat_name: `sidestep_relay_${key}`,
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    circuit_breakers: { thresholds: [{ max_connections: MANY, max_pending_requests: MANY }] },
  };
}

/** Something that the connection is treated by, from a TLV. */
function noted(object_key: string, prefix: string, tlv: keyof typeof RELAY_TLV): JsonObject {
  return {
    object_key,
    skip_if_empty: true,
    format_string: {
      omit_empty_values: true,
      text_format_source: {
        inline_string: `${prefix}%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:${tlv})%`,
      },
    },
  };
}

const LISTENER: JsonObject = {
  name: RELAY_LISTENER,
  address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
  listener_filters: [
    {
      name: 'envoy.filters.listener.proxy_protocol',
      typed_config: {
        '@type': `${TYPE}filters.listener.proxy_protocol.v3.ProxyProtocol`,
        rules: Object.entries(RELAY_TLV).map(([key, tlv_type]) => ({ tlv_type, on_tlv_present: { key } })),
      },
    },
  ],
  filter_chains: [
    {
      filters: [
        {
          name: 'envoy.filters.network.set_filter_state',
          typed_config: {
            '@type': `${TYPE}filters.network.set_filter_state.v3.Config`,
            on_new_connection: [
              noted('envoy.tcp_proxy.cluster', PREFIX, 'relay'),
              noted('envoy.network.upstream_server_name', '', 'sni'),
              noted('envoy.network.upstream_subject_alt_names', '', 'san'),
            ],
          },
        },
        {
          name: 'envoy.filters.network.tcp_proxy',
          typed_config: {
            '@type': `${TYPE}filters.network.tcp_proxy.v3.TcpProxy`,
            stat_prefix: 'sidestep_relays',
            // there is no such cluster
            cluster: PREFIX,
            // the agent ends idle connections
            idle_timeout: '0s',
            // tells the agent that the handshake is over
            access_log_options: { flush_access_log_on_connected: true },
            access_log: [
              {
                name: 'envoy.access_loggers.tcp_grpc',
                typed_config: {
                  '@type': `${TYPE}access_loggers.grpc.v3.TcpGrpcAccessLogConfig`,
                  common_config: {
                    log_name: 'relays',
                    transport_api_version: 'V3',
                    buffer_size_bytes: 0,
                    grpc_service: { envoy_grpc: { cluster_name: REPORTS } },
                  },
                },
              },
            ],
          },
        },
      ],
    },
  ],
};

/**
 * The resources with these relays.
 *
 * @param secret makes their names
 * @param path of the Unix socket at which the agent takes reports
 */
export function withRelays(resources: Resources, relays: Iterable<RelayPlan>, secret: string, path: string): Resources {
  const clusters = [...relays].map((relay) => relayCluster(relay, secret));
  if (clusters.length === 0) return resources;
  return {
    ...resources,
    clusters: [...resources.clusters, ...clusters, agentCluster(REPORTS, path, { connect_timeout: '1s' })],
    listeners: [...resources.listeners, LISTENER],
  };
}
