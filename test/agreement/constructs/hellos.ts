/** Filter chains by ClientHello: names, wildcards, protocols and transports, alone and together; a Gateway's TLS routes come to these. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { type Construct, cluster, maybe, several, some } from './construct.js';

const LISTENERS = 2;
const NAMES = [
  'a.test',
  '*.test',
  '*.a.test',
  'b.a.test',
  'test',
  '*.b.a.test',
  'x-y.test',
  'a_b.test',
  '10.0.0.1',
  'c.example',
];
const PROTOCOLS = ['h2', 'http/1.1', 'istio', 'acme-tls/1'];
const TO = ['a', 'b', 'c'] as const;
const EXTENSIONS = 'type.googleapis.com/envoy.extensions.filters';

const chain = (draw: Draw, name: string, match: JsonObject | undefined): JsonObject => ({
  ...(match ? { filter_chain_match: match } : {}),
  name,
  filters: [
    {
      name: 'tcp',
      typed_config: {
        '@type': `${EXTENSIONS}.network.tcp_proxy.v3.TcpProxy`,
        stat_prefix: 'tcp',
        ...(draw.below(4) === 0
          ? { weighted_clusters: { clusters: TO.slice(0, 2).map((to, i) => ({ name: to, weight: 1 + i })) } }
          : { cluster: draw.one(TO) }),
        ...maybe(draw, 8, [{ idle_timeout: '3600s' }, { max_connect_attempts: 1 }, { idle_timeout: '5s' }]),
      },
    },
  ],
});

/** Chains of which no two match alike: Envoy refuses that. */
function chains(draw: Draw): JsonObject[] {
  const free = [...NAMES].sort(() => draw.below(3) - 1);
  const made: JsonObject[] = [];
  for (let i = 0; i < 2 + draw.below(4); i++) {
    const server_names = free.splice(0, 1 + draw.below(2));
    if (server_names.length === 0) break;
    const protocols = draw.below(3) === 0 ? some(draw, 2, PROTOCOLS) : [];
    made.push(
      chain(draw, `chain-${i}`, {
        server_names,
        ...maybe(draw, 3, [{ transport_protocol: 'tls' }]),
        ...maybe(draw, 12, [
          { source_prefix_ranges: [{ address_prefix: '127.0.0.0', prefix_len: 8 }] },
          { transport_protocol: 'raw_buffer' },
        ]),
        ...(protocols.length > 0 && { application_protocols: protocols }),
      }),
    );
    // the same names for other protocols
    if (protocols.length > 0 && draw.below(2) === 0) made.push(chain(draw, `rest-${i}`, { server_names }));
  }
  if (draw.below(3) === 0) made.push(chain(draw, 'protocol', { application_protocols: ['istio'] }));
  if (draw.below(3) === 0) made.push(chain(draw, 'plain', { transport_protocol: 'raw_buffer' }));
  return made;
}

export const hellos: Construct = {
  share: 0.3,
  make: (draw) => ({
    documents: [
      {
        static_resources: {
          listeners: several(LISTENERS, () => 0).map((_, i) => ({
            name: `l${i}`,
            address: { socket_address: { address: '127.0.0.1', port_value: 10_000 + i } },
            listener_filters: [
              {
                name: 'tls',
                typed_config: {
                  '@type': `${EXTENSIONS}.listener.tls_inspector.v3.TlsInspector`,
                  ...maybe(draw, 4, [{ enable_ja3_fingerprinting: true, enable_ja4_fingerprinting: true }]),
                },
              },
            ],
            filter_chains: chains(draw),
            ...(draw.below(2) === 0 && { default_filter_chain: chain(draw, 'default', undefined) }),
            ...maybe(draw, 6, [{ continue_on_listener_filters_timeout: true }, { listener_filters_timeout: '2s' }]),
          })),
          clusters: TO.map((name) =>
            cluster(
              name,
              {},
              several(1 + draw.below(2), () => ({})),
            ),
          ),
        },
      },
    ],
  }),
};
