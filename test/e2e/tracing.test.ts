/** Traced requests: what servers are told and the spans that collectors get are those of Envoy, decided in the kernel. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Driver } from '../../src/lab/driver.js';
import { nodeScript } from '../../src/lab/paths.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { JobResult } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { type Collected, Collectors } from './collector.js';
import { eventually } from './eventually.js';
import { untilKernel } from './in-kernel.js';
import type { Received } from './istio-server.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, request, skip } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));
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

/** Listeners by what is special about their tracing. */
const LISTENERS: Readonly<Record<string, { tracing: JsonObject; outbound?: boolean; spans: boolean }>> = {
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

interface Case {
  readonly path: string;
  readonly method?: string;
  readonly headers?: HeaderList;
  readonly body?: string;
  /** the client leaves after so many milliseconds */
  readonly abandonMs?: number;
  /** false: the proxy decides it */
  readonly kernel?: false;
}

const CASES: readonly Case[] = [
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
  { path: '/joined', kernel: false },
  { path: '/reset/999/reset', kernel: false },
  { path: '/sleep/600', abandonMs: 150 },
  { path: '/id', headers: [['X-Request-Id', '11111111-2222-4333-8444-555555555555']], kernel: false },
  { path: '/b3', headers: [['X-B3-TraceId', '463ac35c9f6413ad'], ['X-B3-SpanId', 'a2fb4a1d1a96d312'], ['X-B3-Sampled', '1']] },
  { path: '/w3c', headers: [['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']] },
  { path: '/client', headers: [['X-Client-Trace-Id', 'mine']], kernel: false },
]; // biome-ignore format: one case a line

function bootstrap(
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

async function ask(driver: Driver, address: string, port: number, c: Case, id: string): Promise<JobResult> {
  const method = c.method ?? 'GET';
  const length: HeaderList = c.body === undefined ? [] : [['Content-Length', String(c.body.length)]];
  const line = `${method} ${c.path.replace('ID', id)}?x HTTP/1.1`;
  const gone = c.abandonMs === undefined ? {} : { abandon: 'fin' as const, abandonAfterMs: c.abandonMs };
  return driver.run({
    ...{ address, port },
    exchanges: [
      {
        pieces: [request(line, [...(c.headers ?? []), ['User-Agent', id], ...length], c.body)],
        methods: [method],
        ...gone,
      },
    ],
  });
}

const RANDOM = /[0-9a-f]{16,32}/g;

/** Ids by the order in which they are first seen, so that what is the same stays the same. */
class Ids {
  readonly #seen: string[] = [];

  plain(value: string): string {
    return value
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-(.)[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<id of version $1>')
      .replace(RANDOM, (digits) => {
        if (!this.#seen.includes(digits)) this.#seen.push(digits);
        return `<${digits.length} digits, the ${this.#seen.indexOf(digits)}th>`;
      });
  }
}

const IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time', 'content-length', 'connection']);

/** What a request led to: the answer, what the server was told, the spans; random numbers by the order of their appearance. */
function seen(result: JobResult, spans: readonly Collected[], port: number): unknown {
  const answer = result.answers[0];
  const ids = new Ids();
  const lines = (headers: readonly (readonly [string, string])[]) =>
    headers
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      .filter(([name]) => !IGNORED.has(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${name}: ${ids.plain(value)}`);
  const body = Buffer.from(answer?.body ?? '', 'base64').toString();
  const received = body.startsWith('{') ? (JSON.parse(body) as Received) : undefined;
  const server = received && { target: received.target, headers: lines(received.headers) };
  return {
    status: answer?.status,
    headers: lines(answer?.headers ?? []),
    body: received ? '' : body,
    server,
    spans: spans.map(({ tags, traceId, id, parentId, ...span }) => ({
      ...span,
      name: span.name.replace(`:${port}`, ''),
      ids: [traceId, id, parentId ?? ''].map((value) => ids.plain(value)),
      tags: Object.fromEntries(
        Object.entries(tags)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, value]) => [name, ids.plain(value)]),
      ),
    })),
  };
}

/** Whether the kernel is to decide it: nothing in it says how it is to be traced. */
function isKernels(listener: string, { path, kernel }: Case): boolean {
  const openTelemetrys = listener.startsWith('otel');
  if (path === '/w3c') return !openTelemetrys;
  // only what is made of one random number is told once more, and only of a trace that there is
  if (path === '/told') return ['zipkin', 'outbound', 'never'].includes(listener);
  if (path === '/b3') return openTelemetrys || listener === 'nobody';
  return kernel !== false;
}

test('traced requests: servers and collectors are told what Envoy tells them', { skip, timeout: 280_000 }, async () => {
  const lab = await Lab.open('tracing');
  const collectors = { mesh: new Collectors(), alone: new Collectors() };
  try {
    const up = await freePort();
    const ports = new Map<string, number>();
    for (const name of Object.keys(LISTENERS)) ports.set(name, await freePort());
    const server = lab.start('server', [...nodeScript(join(HERE, 'istio-server.ts')), `up=127.0.0.1:${up}`]);
    await server.waitFor(/listening/);
    const at = new Map([[MESH, await collectors.mesh.open()], [ALONE, await collectors.alone.open()]]); // biome-ignore format: short
    const { sidestep, mesh, alone } = await sideBySide(lab, join(lab.dir, 'bootstrap.json'), (address) =>
      bootstrap(address, ports, up, at.get(address)!),
    );
    const wrong: string[] = [];
    const exchanges: { what: string; id: string; port: number; traced: boolean; own: JobResult; envoys: JobResult }[] =
      [];
    for (const [name, { spans: traced }] of Object.entries(LISTENERS)) {
      const port = ports.get(name)!;
      for (const [n, c] of CASES.entries()) {
        let [own, tries]: [JobResult | undefined, number] = [undefined, 0];
        const send = async () => {
          own = await ask(mesh, MESH, port, c, `${name}-${n}-${++tries}`);
        };
        const wanted = isKernels(name, c);
        const what = `${name} ${c.path}`;
        if ((await untilKernel(sidestep, send, wanted)) !== wanted)
          wrong.push(`${what} is ${wanted ? 'not ' : ''}the kernel's`);
        const id = `${name}-${n}-${tries}`;
        const envoys = await ask(alone, ALONE, port, c, id);
        exchanges.push({ what, id, port, traced, own: own!, envoys });
      }
    }
    const find = (of: Collectors, id: string) => of.spans.filter(({ tags }) => tags.user_agent === id);
    for (const { what, id, port, traced, own, envoys } of exchanges) {
      const sampled = (of: Collectors) => find(of, id).length > 0;
      await eventually(async () => {
        const [envoysSpan, ownSpan] = [sampled(collectors.alone), sampled(collectors.mesh)];
        assert.ok(envoysSpan || !traced, `Envoy alone has no span about ${what} (${id})`);
        assert.equal(ownSpan, envoysSpan, `there is a span about ${what} (${id})`);
      });
      try {
        const wanted = seen(envoys, find(collectors.alone, id), port);
        assert.deepEqual(seen(own, find(collectors.mesh, id), port), wanted);
      } catch (error) {
        wrong.push(`${what} (${id}): ${(error as Error).message}`);
      }
    }
    assert.deepEqual(wrong, []);
    const { spans: counts } = (await sidestep.status()) as unknown as { spans: { sent: number; lost: number } };
    assert.ok(counts.sent > 50 && counts.lost === 0, JSON.stringify(counts));
  } finally {
    collectors.mesh.close();
    collectors.alone.close();
    await lab.close();
  }
});
