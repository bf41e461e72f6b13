/** Listeners that trace in several ways, and requests that say something of a trace or of their id. */
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';

const TRACE = 'type.googleapis.com/envoy.config.trace.v3';

const zipkin = (more: JsonObject = {}): JsonObject => ({
  provider: {
    name: 'envoy.tracers.zipkin',
    typed_config: {
      '@type': `${TRACE}.ZipkinConfig`,
      collector_cluster: 'http',
      collector_endpoint: '/api/v2/spans',
      collector_endpoint_version: 'HTTP_JSON',
      ...more,
    },
  },
});
const service = {
  http_uri: { uri: 'http://zipkin.test/spans', cluster: 'http', timeout: '2s' },
  request_headers_to_add: [{ header: { key: 'X-Kept', value: 'yes' } }],
};
const openTelemetry = (): JsonObject => ({
  provider: {
    name: 'envoy.tracers.opentelemetry',
    typed_config: {
      '@type': `${TRACE}.OpenTelemetryConfig`,
      grpc_service: { envoy_grpc: { cluster_name: 'grpc', authority: 'otel.test' }, timeout: '1s' },
      service_name: 'shop',
    },
  },
});

/** Of 10,000 requests, so many are traced where some are. */
export const SOME = 2_529;
/** The digits with which ids begin that are the last to be traced, and the first that are not. */
const [LAST, FIRST] = [SOME - 1, SOME].map((n) => (n + 70_000).toString(16).padStart(8, '0'));

/** Listeners by what is special about their tracing. */
export const LISTENERS: Readonly<Record<string, { tracing: JsonObject; outbound?: boolean; spans: boolean }>> = {
  zipkin: { tracing: zipkin(), spans: true },
  long: {
    tracing: {
      ...zipkin({ trace_id_128bit: true, shared_span_context: false, collector_service: service }),
      max_path_tag_length: 12,
      custom_tags: [
        { tag: 'kind', literal: { value: 'fixed' } },
        { tag: 'team', request_header: { name: 'X-Team', default_value: 'nobody' } },
        { tag: 'absent', request_header: { name: 'X-Absent' } },
      ],
    },
    spans: true,
  },
  outbound: { tracing: zipkin(), outbound: true, spans: true },
  otel: { tracing: openTelemetry(), spans: true },
  'otel-outbound': { tracing: openTelemetry(), outbound: true, spans: true },
  never: { tracing: { ...zipkin(), random_sampling: { value: 0 } }, spans: false },
  'otel-never': { tracing: { ...openTelemetry(), overall_sampling: { value: 0 } }, spans: false },
  some: { tracing: { ...zipkin(), random_sampling: { value: SOME / 100 } }, spans: false },
  'otel-some': {
    tracing: { ...openTelemetry(), random_sampling: { value: SOME / 100 } },
    outbound: true,
    spans: false,
  },
  'at-most': { tracing: { ...zipkin(), overall_sampling: { value: SOME / 100 } }, spans: false },
  nobody: { tracing: {}, spans: false },
};

const ROUTES: JsonObject[] = [
  { match: { path: '/direct' }, direct_response: { status: 418, body: { inline_string: 'teapot' } } },
  { match: { prefix: '/moved' }, redirect: { prefix_rewrite: '/there' } },
  { match: { prefix: '/called' }, route: { cluster: 'up' }, decorator: { operation: 'some call' } },
  { match: { prefix: '/quiet' }, route: { cluster: 'up' }, decorator: { operation: 'quiet', propagate: false } },
  { match: { prefix: '/long/way' }, route: { cluster: 'up', prefix_rewrite: '/way', host_rewrite_literal: 'other.test' } },
  {
    match: { prefix: '/told' },
    route: { cluster: 'up' },
    response_headers_to_add: [
      { header: { key: 'x-b3-traceid', value: '%REQ(x-b3-traceid)%' } },
      { header: { key: 'x-b3-sampled', value: '%REQ(x-b3-sampled)%' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      { header: { key: 'x-request-id', value: '%REQ(x-request-id)%' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ],
  },
  {
    match: { prefix: '/joined' },
    route: { cluster: 'up' },
    response_headers_to_add: [
      { header: { key: 'x-b3-spanid', value: '%REQ(x-b3-spanid)%' } },
      { header: { key: 'x-request-id', value: '%REQ(x-request-id)%' } },
    ],
  },
  { match: { prefix: '/' }, route: { cluster: 'up' } },
]; // biome-ignore format: one route a line

export interface Case {
  readonly path: string;
  readonly method?: string;
  readonly headers?: HeaderList;
  readonly body?: string;
  /** the client leaves after so many milliseconds */
  readonly abandonMs?: number;
  /** false: the proxy decides it; or of which listeners that is so */
  readonly kernel?: false;
  readonly proxyAt?: readonly string[];
  /** the listeners that it is sent to; default: all */
  readonly at?: readonly string[];
}

const ZIPKIN = ['zipkin', 'long', 'outbound', 'never', 'some', 'at-most'];
const OPENTELEMETRY = ['otel', 'otel-outbound', 'otel-never', 'otel-some'];
const id = (start = '11111111', version = '4'): HeaderList[number] => [
  'X-Request-Id',
  `${start}-2222-${version}333-8444-555555555555`,
];
const b3 = (traceId: string, sampled?: string, parent?: string): HeaderList => [
  ['X-B3-TraceId', traceId],
  ['X-B3-SpanId', 'a2fb4a1d1a96d312'],
  ...(parent === undefined ? [] : ([['X-B3-ParentSpanId', parent]] as HeaderList)),
  ...(sampled === undefined ? [] : ([['X-B3-Sampled', sampled]] as HeaderList)),
];
const w3c = (flags: string, more: HeaderList = [], version = '00'): HeaderList => [
  ['traceparent', `${version}-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`],
  ...more,
];
const SHORT = '463ac35c9f6413ad';
const LONG = '463ac35c9f6413ad48485a3953bb6124';
const NEVER = ['never'];

export const CASES: readonly Case[] = [
  { path: '/plain' },
  { path: '/team', headers: [['X-Team', 'blue']] },
  { path: '/scheme', headers: [['X-Forwarded-Proto', 'https']] },
  { path: '/post', method: 'POST', body: 'twelve bytes' },
  { path: '/fail/503/999/ID' },
  { path: '/direct' },
  { path: '/moved/away' },
  { path: '/called/it' },
  { path: '/quiet/it' },
  { path: '/long/way/round' },
  { path: '/told' },
  // the agent carries the answer: where there is a line, the value is joined to it
  { path: '/joined', kernel: false, at: ['zipkin', 'outbound'] },
  { path: '/reset/999/reset', kernel: false, at: ['zipkin', 'otel'] },
  { path: '/sleep/600', abandonMs: 150 },
  { path: '/id', headers: [id()] },
  { path: '/id/9', headers: [id('11111111', '9')], proxyAt: NEVER },
  { path: '/id/a', headers: [id('11111111', 'a')], proxyAt: NEVER },
  { path: '/id/b', headers: [id('11111111', 'b')], proxyAt: NEVER },
  { path: '/id/last', headers: [id(LAST)] },
  { path: '/id/first', headers: [id(FIRST)] },
  { path: '/id/first/9', headers: [id(FIRST, '9')], proxyAt: NEVER },
  { path: '/id/odd', headers: [['X-Request-Id', '11111111-odd']], kernel: false, at: ['zipkin'] },
  { path: '/id/upper', headers: [id('1111111A')], kernel: false, at: ['zipkin'] },
  { path: '/b3', headers: b3(SHORT), at: ZIPKIN },
  { path: '/b3/1', headers: b3(SHORT, '1'), proxyAt: NEVER, at: ZIPKIN },
  { path: '/b3/0', headers: b3(SHORT, '0'), at: ZIPKIN },
  { path: '/b3/parent', headers: b3(SHORT, '1', '0020000000000001'), proxyAt: NEVER, at: ZIPKIN },
  { path: '/b3/long', headers: [...b3(LONG, '1', '0020000000000001'), id()], proxyAt: NEVER, at: ZIPKIN },
  { path: '/b3/long/0', headers: [...b3(LONG, '0'), id('11111111', '9')], proxyAt: NEVER, at: ZIPKIN },
  { path: '/b3/flags', headers: [...b3(SHORT, '0'), ['X-B3-Flags', '1']], at: ZIPKIN },
  { path: '/b3/sampled/1', headers: [['X-B3-Sampled', '1']], proxyAt: NEVER, at: ZIPKIN },
  { path: '/b3/sampled/0', headers: [['X-B3-Sampled', '0']], at: ZIPKIN },
  { path: '/b3/true', headers: b3(SHORT, 'true'), kernel: false, at: ['zipkin'] },
  { path: '/b3/half', headers: [['X-B3-TraceId', SHORT]], kernel: false, at: ['zipkin'] },
  { path: '/b3/zeros', headers: b3('000000000000000048485a3953bb6124', '1'), kernel: false, at: ['zipkin'] },
  { path: '/b3/upper', headers: b3(SHORT.toUpperCase(), '1'), kernel: false, at: ['zipkin'] },
  { path: '/b3/none', headers: b3(SHORT, '1', '0000000000000000'), kernel: false, at: ['zipkin'] },
  { path: '/b3/single', headers: [['b3', `${SHORT}-a2fb4a1d1a96d312-1`]], kernel: false, at: ['zipkin'] },
  { path: '/moved/b3', headers: [...b3(LONG, '1'), id()], proxyAt: NEVER, at: ZIPKIN },
  { path: '/moved/b3/0', headers: b3(SHORT, '0', '0020000000000001'), at: ZIPKIN },
  { path: '/moved/w3c', headers: w3c('01', [['tracestate', 'a=b']]), at: OPENTELEMETRY },
  { path: '/direct', headers: [id(LAST)] },
  { path: '/direct', headers: [id(FIRST)] },
  { path: '/told', headers: [id()] },
  { path: '/told', headers: b3(SHORT, '1'), kernel: false, at: ['zipkin'] },
  { path: '/w3c', headers: w3c('01'), at: OPENTELEMETRY },
  { path: '/w3c/0', headers: w3c('00'), at: OPENTELEMETRY },
  { path: '/w3c/state', headers: w3c('01', [['tracestate', 'a=b,c=d'], id('11111111', '9')]), at: OPENTELEMETRY },
  { path: '/w3c/last', headers: w3c('01', [id(LAST)]), at: OPENTELEMETRY },
  { path: '/w3c/first', headers: w3c('01', [id(FIRST)]), at: OPENTELEMETRY },
  { path: '/w3c/3', headers: w3c('03'), kernel: false, at: ['otel'] },
  { path: '/w3c/version', headers: w3c('01', [], '01'), kernel: false, at: ['otel'] },
  { path: '/w3c/alone', headers: [['tracestate', 'a=b']], kernel: false, at: ['otel'] },
  { path: '/w3c/zipkin', headers: w3c('00'), at: ['zipkin'] },
  { path: '/b3/otel', headers: b3(SHORT, '0'), at: ['otel'] },
  { path: '/client', headers: [['X-Client-Trace-Id', 'mine']], kernel: false, at: ['zipkin', 'otel'] },
]; // biome-ignore format: one case a line

export function tracingBootstrap(
  address: string,
  ports: ReadonlyMap<string, number>,
  up: number,
  at: { http: number; grpc: number },
) {
  const http2 = {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
  const listeners = Object.entries(LISTENERS).map(([name, { tracing, outbound }]) => ({
    ...{ name, address, port: ports.get(name)!, domains: ['load.test'], routes: ROUTES },
    manager: { tracing },
    more: outbound ? { traffic_direction: 'OUTBOUND' } : {},
  }));
  return {
    node: { id: 'node-1', cluster: 'front', locality: { zone: 'west' } },
    ...plainBootstrap(listeners, [
      { name: 'up', ports: [up], more: { alt_stat_name: 'upstairs' } },
      { name: 'http', ports: [at.http] },
      { name: 'grpc', ports: [at.grpc], more: http2 },
    ]),
  };
}
