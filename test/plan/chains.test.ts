/** Filter chains that are relayed: their names, and what keeps them with the proxy. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { answer, hostOf, type ListenerOptions, listenerOf, resourcesOf } from './resources.js';

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';
const INSPECTOR = {
  name: 'i',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};
const secure = (common: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  transport_socket: {
    name: 'tls',
    typed_config: { '@type': `${TLS}.DownstreamTlsContext`, common_tls_context: common, ...more },
  },
});
const VALIDATION = { validation_context: { trusted_ca: { filename: 'ca.pem' } } };
const H2 = { alpn_protocols: ['h2', 'http/1.1'] };

/** A listener with these fields in the chains of a plain one. */
function listener(chains: JsonObject[], more: JsonObject = {}, options: ListenerOptions = {}): JsonObject {
  const plain = listenerOf([hostOf([answer('x', { prefix: '/' })])], options);
  const [chain] = plain.filter_chains as JsonObject[];
  return { ...plain, name: 'l', filter_chains: chains.map((own) => ({ ...chain, ...own })), ...more };
}

function plans(of: JsonObject, relays = true) {
  return buildPlan(resourcesOf([of], []), { relays }).listeners.map(({ name, offloaded, reasons, forwardedProto }) => ({
    name,
    proto: forwardedProto,
    why: offloaded ? '' : reasons.map(({ code, message }) => `${code}: ${message}`).join('; '),
  }));
}

const names = (...server_names: string[]) => ({ filter_chain_match: { server_names } });

describe('filter chains', () => {
  it('each HTTP chain has a plan', () => {
    const many = listener([{ name: 'a', ...names('a'), ...secure() }, { ...names('b'), ...secure(H2) }, {}], {
      listener_filters: [INSPECTOR],
    });
    assert.deepEqual(plans(many), [
      { name: 'l/a', proto: 'https', why: '' },
      { name: 'l/1', proto: 'https', why: '' },
      { name: 'l/2', proto: 'http', why: '' },
    ]);
    assert.deepEqual(plans(listener([secure(H2)])), [{ name: 'l', proto: 'https', why: '' }]);
  });

  const KEPT: Record<string, [JsonObject, RegExp]> = {
    'somebody else’s proxy': [listener([secure()]), /^tls: only a proxy/],
    'upstreams are told of certificates': [
      listener([secure(VALIDATION)], {}, { hcm: { forward_client_cert_details: 'SANITIZE_SET' } }),
      /^tls: upstreams are told/,
    ],
    'facts of the handshake in a format': [
      listener(
        [secure()],
        {},
        { routeConfig: { request_headers_to_add: [{ header: { key: 'a', value: '%DOWNSTREAM_TLS_VERSION%' } }] } },
      ),
      /^tls: a format mentions/,
    ],
    'routes on certificates': [
      {
        ...listener([secure()]),
        filter_chains: [
          {
            ...(
              listenerOf([hostOf([answer('x', { prefix: '/', tls_context: { presented: true } })])])
                .filter_chains as JsonObject[]
            )[0],
            ...secure(),
          },
        ],
      },
      /^tls: routes look at/,
    ],
    'HTTP/2 beside the client’s address': [
      listener([{ ...secure(H2) }, { ...secure(), filter_chain_match: { source_ports: [1] } }]),
      /^tls: chains are chosen by ALPN/,
    ],
    'names that nothing reads': [listener([{ ...names('a'), ...secure(H2) }]), /^tls: chains are chosen by what no/],
    'a chain for HTTP/2': [
      listener([{ filter_chain_match: { application_protocols: ['h2'] } }]),
      /^filter-chain: the chain is for HTTP\/2/,
    ],
    'another listener filter': [
      listener([{}, names('a')], { listener_filters: [{ name: 'o' }] }),
      /^filter-chain: the listener filter o/,
    ],
  };
  for (const [why, [of, expected]] of Object.entries(KEPT))
    it(`left to the proxy: ${why}`, () => {
      const [first] = plans(of, why !== 'somebody else’s proxy');
      assert.match(first!.why, expected);
    });
});
