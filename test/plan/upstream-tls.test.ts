/** Clusters whose servers want TLS: which of them a relay serves, and what it is made of. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from './resources.js';

const CONTEXT = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';
const socket = (context: JsonObject): JsonObject => ({
  transport_socket: { name: 'tls', typed_config: { '@type': CONTEXT, ...context } },
});
const options = (upstream: JsonObject): JsonObject => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http_protocol_options: {} },
      upstream_http_protocol_options: upstream,
    },
  },
});

const planOf = (cluster: JsonObject, relays = true) =>
  buildPlan(resourcesOf([listenerOf([hostOf([to('a')])])], [clusterOf('a', [1], cluster)]), { relays });
const relayOf = (cluster: JsonObject) => planOf(cluster).clusters[0]?.relay;
const reasonsOf = (cluster: JsonObject, relays?: boolean) =>
  planOf(cluster, relays).listeners[0]!.virtualHosts[0]!.routes.flatMap((r) =>
    r.guard ? [] : r.reasons.map(({ code }) => code),
  );

describe('TLS to servers', () => {
  it('has a relay with the settings of the cluster, and offers what a pool of HTTP/1.1 offers', () => {
    const relay = relayOf({ ...socket({ sni: 'x', common_tls_context: {} }), connect_timeout: '3s' });
    assert.deepEqual(relay?.settings, {
      transport_socket: {
        name: 'tls',
        typed_config: { '@type': CONTEXT, sni: 'x', common_tls_context: { alpn_protocols: ['http/1.1'] } },
      },
      connect_timeout: '3s',
    });
    const own = relayOf(socket({ common_tls_context: { alpn_protocols: ['istio'] } }))!.settings.transport_socket;
    assert.match(JSON.stringify(own), /"alpn_protocols":\["istio"\]/);
  });

  it('is the same relay for the same settings alone', () => {
    const key = (sni: string) => relayOf(socket({ sni }))!.key;
    assert.equal(key('x'), key('x'));
    assert.notEqual(key('x'), key('y'));
    assert.equal(relayOf({}), undefined);
  });

  it('names the hosts of requests where domains say them', () => {
    const named = { ...socket({}), ...options({ auto_sni: true }) };
    const plan = (domains: readonly string[]) =>
      buildPlan(
        resourcesOf([listenerOf([hostOf([to('a')], { domains: [...domains] })])], [clusterOf('a', [1], named)]),
        {
          relays: true,
        },
      );
    const names = (domains: readonly string[]) => plan(domains).clusters.map(({ relay }) => relay?.names);
    assert.deepEqual(names(['x.test', 'x.test:81', 'y', '10.0.0.1']), [{ sni: 'x.test' }, { sni: 'y' }]);
    assert.deepEqual(names(['*']), []);
    const [host] = plan(['*']).listeners[0]!.virtualHosts;
    assert.deepEqual(
      host!.routes.flatMap((r) => (r.guard ? [] : r.reasons.map(({ code }) => code))),
      ['tls'],
    );
  });

  it('is the proxy’s where nobody relays, or where the handshake depends on the request or is not understood', () => {
    const plain = socket({ sni: 'x' });
    assert.deepEqual(reasonsOf(plain), []);
    assert.deepEqual(reasonsOf(plain, false), ['tls']);
    assert.deepEqual(reasonsOf(socket({ common_tls_context: { alpn_protocols: ['h2', 'http/1.1'] } })), ['tls']);
    const http2 = options({});
    const [own] = Object.values(http2.typed_extension_protocol_options as JsonObject) as JsonObject[];
    own!.explicit_http_config = { http2_protocol_options: {} };
    assert.deepEqual(reasonsOf({ ...plain, ...http2 }).sort(), ['tls', 'upstream-protocol']);
    assert.deepEqual(reasonsOf(socket({ auto_host_sni: true })), ['unsupported-field']);
    assert.deepEqual(reasonsOf(socket({ common_tls_context: { custom_handshaker: { name: 'x' } } })), [
      'unsupported-field',
    ]);
    assert.deepEqual(reasonsOf({ transport_socket_matches: [{ name: 'x' }] }), ['unsupported-field']);
  });
});
