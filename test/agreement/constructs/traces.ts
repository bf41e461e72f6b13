/** Traced listeners: which requests are sampled, and what servers and clients are told of their trace. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, cluster, type Listener, maybe, several } from './construct.js';

const TRACE = 'type.googleapis.com/envoy.config.trace.v3';
const LISTENERS = 6;
const COLLECTOR = 'collector';

const provider = (type: string, config: JsonObject): JsonObject => ({
  provider: { name: 'tracer', typed_config: { '@type': `${TRACE}.${type}`, ...config } },
});
const grpc: JsonObject = { grpc_service: { envoy_grpc: { cluster_name: COLLECTOR }, timeout: '0.1s' } };

const tracer = (draw: Draw): JsonObject =>
  draw.one<() => JsonObject>([
    () => ({}),
    () =>
      provider('ZipkinConfig', {
        ...{ collector_cluster: COLLECTOR, collector_endpoint: '/spans', collector_endpoint_version: 'HTTP_JSON' },
        ...maybe(draw, 2, [{ trace_id_128bit: true }]),
        ...maybe(draw, 2, [{ shared_span_context: false }]),
        ...maybe(draw, 4, [{ collector_hostname: 'spans.test' }]),
        ...maybe(draw, 8, [{ trace_context_option: 'USE_B3_WITH_W3C_PROPAGATION' }]),
      }),
    () => provider('OpenTelemetryConfig', { ...grpc, service_name: draw.one(['shop', '']) }),
    () =>
      provider('OpenTelemetryConfig', {
        http_service: { http_uri: { uri: 'http://spans.test/v1', cluster: COLLECTOR, timeout: '0.1s' } },
      }),
    () => provider('SkyWalkingConfig', { ...grpc, client_config: { service_name: 'shop', instance_name: 'shop-1' } }),
  ])();

const tracing = (draw: Draw): JsonObject => ({
  ...tracer(draw),
  ...maybe(draw, 2, [{ random_sampling: { value: draw.one([0, 100, 50, 0.01, 20.31]) } }]),
  ...maybe(draw, 3, [{ overall_sampling: { value: draw.one([0, 100, 30]) } }]),
  ...maybe(draw, 4, [{ client_sampling: { value: draw.one([0, 100]) } }]),
  ...maybe(draw, 4, [{ max_path_tag_length: 12 }, { custom_tags: [{ tag: 'kind', literal: { value: 'fixed' } }] }]),
});

/** What answers say of a trace that begins here. */
const TOLD: readonly JsonObject[] = ['x-b3-traceid', 'x-b3-sampled', 'x-b3-spanid', 'x-request-id', 'traceparent'].map(
  (key) => ({ response_headers_to_add: [{ header: { key, value: `%REQ(${key})%` } }] }),
);

function route(draw: Draw, prefix: string): JsonObject {
  const own: JsonObject = {
    match: { prefix },
    ...maybe(draw, 3, [
      {
        decorator: { operation: draw.one(['op', 'an op', 'an op', ' op ']), ...maybe(draw, 2, [{ propagate: false }]) },
      },
    ]),
    ...maybe(draw, 8, TOLD),
    ...maybe(draw, 6, [
      { request_headers_to_add: [{ header: { key: 'x-added', value: '%PROTOCOL%' } }] },
      { request_headers_to_remove: ['x-b3-sampled', 'traceparent'] },
    ]),
  };
  switch (draw.below(6)) {
    case 0:
      return { ...own, direct_response: { status: 418, body: { inline_string: 'teapot' } } };
    case 1:
      return { ...own, redirect: { prefix_rewrite: '/there' } };
    default:
      return {
        ...own,
        route: {
          cluster: draw.one(CLUSTERS),
          ...maybe(draw, 4, [{ prefix_rewrite: '/n' }, { host_rewrite_literal: 'n.test' }]),
          ...maybe(draw, 6, [{ retry_policy: { retry_on: '5xx', num_retries: 1 } }]),
        },
      };
  }
}

const ID = (start: string, version: string) => `${start}-2222-${version}333-8444-555555555555`;
const [TRACE_ID, SPAN_ID] = ['463ac35c9f6413ad', 'a2fb4a1d1a96d312'] as const;
const b3 = (sampled: string | undefined): (readonly [string, string])[] => [
  ['x-b3-traceid', TRACE_ID],
  ['x-b3-spanid', SPAN_ID],
  ...(sampled === undefined ? [] : [['x-b3-sampled', sampled] as const]),
];
const PARENT = `00-0af7651916cd43dd8448eb211c80319c-${SPAN_ID}`;
const SEGMENT = Buffer.from(ID('00000001', '4')).toString('base64');
/** Ids of whose digits 2030 and 2031, 0 and 9999 of 10,000 remain. */
const STARTS = ['00000000', '0000270f', '000007ee', '000007ef', 'ffffffff', '00002710'];

export const traces: Construct = {
  share: 0.2,
  make: (draw) => {
    const collector = cluster(COLLECTOR, {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    });
    const outbound = several(LISTENERS, () => draw.below(3) === 0);
    const document = bootstrap(
      outbound.map(
        (): Listener => ({
          manager: {
            tracing: tracing(draw),
            ...maybe(draw, 4, [{ generate_request_id: false }, { preserve_external_request_id: true }]),
            ...maybe(draw, 6, [
              {
                request_id_extension: {
                  typed_config: {
                    '@type': 'type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig',
                    ...draw.one<JsonObject>([
                      { pack_trace_reason: false },
                      { use_request_id_for_trace_sampling: false },
                      {},
                    ]),
                  },
                },
              },
            ]),
          },
          router: maybe(draw, 4, [{ start_child_span: true }, { suppress_envoy_headers: true }]),
          hosts: [
            {
              name: 'all',
              domains: ['*'],
              ...maybe(draw, 9, TOLD),
              routes: ['/a/b', '/a', '/b', '/'].map((prefix) => route(draw, prefix)),
            },
          ],
        }),
      ),
      [...CLUSTERS.map((name) => cluster(name)), collector],
    );
    const { listeners } = document.static_resources as { listeners: JsonObject[] };
    for (const [i, listener] of listeners.entries()) if (outbound[i]) listener.traffic_direction = 'OUTBOUND';
    return {
      documents: [{ node: { id: 'node-1', cluster: 'front' }, ...document }],
      assumed: { environment: {} },
      groups: [
        [],
        ...['1', '0', 'd', undefined].map((sampled) => b3(sampled)),
        ...['1', '0'].map((sampled) => [...b3(sampled), ['x-b3-parentspanid', TRACE_ID] as const]),
        [
          ['x-b3-traceid', `${TRACE_ID}${TRACE_ID}`],
          ['x-b3-spanid', SPAN_ID],
        ],
        [
          ['x-b3-traceid', `0000000000000000${TRACE_ID}`],
          ['x-b3-spanid', SPAN_ID],
          ['x-b3-sampled', '1'],
        ],
        [['x-b3-sampled', '1']],
        [['x-b3-sampled', '0']],
        [['b3', `${TRACE_ID}-${SPAN_ID}-1`]],
        ...['00', '01', '01', '03'].map((flags) => [['traceparent', `${PARENT}-${flags}`] as const]),
        ...['00', '01'].map(
          (flags) =>
            [
              ['traceparent', `${PARENT}-${flags}`],
              ['tracestate', 'a=b,c=d'],
            ] as const,
        ),
        [['tracestate', 'a=b']],
        [['traceparent', `${PARENT.toUpperCase()}-01`]],
        [['sw8', `1-${SEGMENT}-${SEGMENT}-3-c2hvcA==-c2hvcA==-Lw==-YQ==`]],
        [['x-envoy-decorator-operation', 'theirs']],
        [['x-client-trace-id', 'mine']],
        [['x-envoy-force-trace', 'yes']],
        [...b3('1'), ['traceparent', `${PARENT}-01`]],
      ],
      one: [
        ...STARTS.flatMap((start) => ['4', '9', 'a', 'b'].map((v) => ['x-request-id', ID(start, v)] as const)),
        ['x-request-id', 'mine'],
      ],
      paths: ['/a', '/b/c', '/a/b?q=1', '/', `/a/${'p'.repeat(300)}`],
    };
  },
};
