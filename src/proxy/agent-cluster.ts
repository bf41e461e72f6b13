/** Clusters by which the proxy reaches services of the agent. */
import type { JsonObject } from '../policy/resources.js';

/**
 * A cluster that speaks gRPC over a Unix socket.
 * @param name Envoy makes an authority of it, so no space
 * @param more further fields of the cluster
 */
export function agentCluster(name: string, path: string, more: JsonObject): JsonObject {
  return {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        // an agent that stands still is as good as none
        explicit_http_config: { http2_protocol_options: { connection_keepalive: { interval: '5s', timeout: '10s' } } },
      },
    },
    ...more,
  };
}
