/** HTTP filters and edits of answers: what the plan's evaluator says is what the real Envoy does. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { editText } from '../../src/plan/answers.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate, type Trace } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { answer, clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';
const typed = (type: string, config: JsonObject = {}): JsonObject => ({ '@type': `${HTTP}.${type}`, ...config });
const filter = (name: string, type: string, config: JsonObject = {}): JsonObject => ({
  name,
  typed_config: typed(type, config),
});
const add = (key: string, value: string, append_action = 'APPEND_IF_EXISTS_OR_ADD'): JsonObject => ({
  header: { key, value },
  append_action,
});
const rbac: JsonObject = {
  name: 'rbac',
  typed_config: {
    '@type': TYPE.rbac,
    rules: {
      action: 'DENY',
      policies: {
        p: {
          permissions: [{ header: { name: 'x-deny', present_match: true } }],
          principals: [{ any: true }],
        },
      },
    },
  },
};
const CORS = typed('cors.v3.CorsPolicy', {
  allow_origin_string_match: [{ exact: 'http://a' }, { safe_regex: { regex: 'https://.*\\.b' } }],
  allow_methods: 'GET,PUT',
  allow_headers: '*',
  expose_headers: 'x-e',
  max_age: '5',
  allow_credentials: true,
  allow_private_network_access: true,
});
const edits: JsonObject = {
  response_headers_to_add: [
    add('x-also', 'more'),
    add('vary', 'b'),
    add('vary', 'c'),
    add('content-type', 'text/html', 'ADD_IF_ABSENT'),
    add('x-none', '1', 'OVERWRITE_IF_EXISTS'),
    add('location', '/elsewhere', 'OVERWRITE_IF_EXISTS'),
  ],
  response_headers_to_remove: ['x-gone', 'x-vh'],
};
const mutate: JsonObject = {
  mutations: {
    request_mutations: [{ append: add('x-m', '1') }, { append: add('x-m', '2', 'ADD_IF_ABSENT') }, { remove: 'x-r' }],
    response_mutations: [
      { append: add('x-vh', 'mutated') },
      { append: add('content-length-x', '1') },
      { remove: 'x-z' },
    ],
  },
};
const per = (config: JsonObject): JsonObject => ({ typed_per_filter_config: config });
const routes: JsonObject[] = [
  to('a', '/plain'),
  to('a', '/edits', edits),
  to('a', '/cors', { ...edits, ...per({ cors: CORS }) }),
  to('a', '/strict', per({ cors: { ...CORS, forward_not_matching_preflights: false, allow_methods: '*' } })),
  to('a', '/coroff', per({ cors: { ...CORS, filter_enabled: { default_value: { numerator: 0 } } } })),
  to('a', '/mutated', per({ mutation: typed('header_mutation.v3.HeaderMutationPerRoute', mutate) })),
  to('a', '/fault', {
    ...edits,
    ...per({
      cors: CORS,
      fault: typed('fault.v3.HTTPFault', {
        abort: { http_status: 429, percentage: { numerator: 100 } },
        headers: [{ name: 'x-fault', present_match: true }],
      }),
    }),
  }),
  to('a', '/aborted', {
    ...edits,
    ...per({
      cors: CORS,
      fault: typed('fault.v3.HTTPFault', { abort: { http_status: 503, percentage: { numerator: 100 } } }),
    }),
  }),
  { ...answer('direct', { prefix: '/direct' }), ...edits },
  { match: { prefix: '/redirect' }, redirect: { host_redirect: 'x' }, ...edits },
  {
    match: { prefix: '/weighted' },
    route: {
      weighted_clusters: {
        clusters: [
          {
            name: 'a',
            weight: 1,
            request_headers_to_add: [add('x-m', 'w', 'OVERWRITE_IF_EXISTS_OR_ADD'), add('x-w', '1')],
            response_headers_to_add: [add('x-vh', 'w', 'OVERWRITE_IF_EXISTS_OR_ADD'), add('x-also', 'w')],
            response_headers_to_remove: ['cache-control'],
          },
          { name: 'none', weight: 0, response_headers_to_remove: ['x-other'] },
        ],
      },
    },
    request_headers_to_add: [add('x-m', 'r', 'OVERWRITE_IF_EXISTS_OR_ADD'), add('x-w', '2', 'ADD_IF_ABSENT')],
    response_headers_to_add: [add('x-vh', 'r', 'OVERWRITE_IF_EXISTS_OR_ADD'), add('x-also', 'r', 'ADD_IF_ABSENT')],
  },
  to('a', '/legacy', {}, { cors: { allow_origin_string_match: [{ prefix: 'http' }], expose_headers: 'y' } }),
];
/** The same filters in several orders. */
const CHAINS: JsonObject[][] = [
  [
    filter('web', 'grpc_web.v3.GrpcWeb'),
    filter('bridge', 'grpc_http1_bridge.v3.Config', { upgrade_protobuf_to_grpc: true }),
    filter('reverse', 'grpc_http1_reverse_bridge.v3.FilterConfig', {
      content_type: 'application/json',
      withhold_grpc_frames: true,
    }),
    filter('stats', 'grpc_stats.v3.FilterConfig', { stats_for_all_methods: true, emit_filter_state: true }),
    filter('set', 'set_metadata.v3.Config', { metadata: [{ metadata_namespace: 'mine', value: { a: 'b' } }] }),
    filter('to', 'header_to_metadata.v3.Config', {
      request_rules: [
        {
          header: 'x-m',
          on_header_present: { metadata_namespace: 'mine', key: 'm' },
          on_header_missing: { key: 'm', value: 'none' },
        },
      ],
      response_rules: [{ header: 'x-upstream', on_header_present: { key: 'u' } }],
    }),
    rbac,
    filter('cors', 'cors.v3.Cors'),
    filter('mutation', 'header_mutation.v3.HeaderMutation', mutate),
    filter('fault', 'fault.v3.HTTPFault'),
  ],
  [
    filter('fault', 'fault.v3.HTTPFault'),
    filter('cors', 'cors.v3.Cors'),
    rbac,
    filter('mutation', 'header_mutation.v3.HeaderMutation', { most_specific_header_mutations_wins: true }),
  ],
  [
    filter('mutation', 'header_mutation.v3.HeaderMutation', mutate),
    filter('fault', 'fault.v3.HTTPFault'),
    rbac,
    filter('cors', 'cors.v3.Cors'),
  ],
];

type Headers = readonly (readonly [string, string])[];
/** Lines without what Envoy adds to every answer. */
const lines = (headers: Headers): string[] =>
  headers
    .filter(([n]) => !['date', 'server', 'x-envoy-upstream-service-time'].includes(n))
    .map(([n, v]) => `${n}: ${v}`)
    .sort();

describe('filters: the plan and an Envoy', { skip: envoy ? false : 'no Envoy was found' }, () => {
  let plan: Plan;
  let running: RunningEnvoy | undefined;
  let upstream: { port: number; close(): void } | undefined;
  const ports: number[] = [];
  before(async () => {
    upstream = await echoServer('a');
    const listeners: JsonObject[] = [];
    for (const [i, filters] of CHAINS.entries()) {
      ports[i] = await freePort();
      const vhost = {
        response_headers_to_add: [add('x-vh', '1'), add('cache-control', 'v')],
        response_headers_to_remove: ['x-upstream-none'],
      };
      const routeConfig = {
        response_headers_to_add: [add('x-vh', 'config', 'ADD_IF_ABSENT'), add('cache-control', 'w')],
        ...(i === 1 ? { most_specific_header_mutations_wins: true } : {}),
      };
      listeners.push(
        listenerOf([hostOf(routes, { ...vhost, domains: ['h'] })], {
          name: `l${i}`,
          port: ports[i]!,
          filters,
          routeConfig,
        }),
      );
    }
    const clusters = [clusterOf('a', [upstream.port]), clusterOf('none', [upstream.port])];
    plan = buildPlan(resourcesOf(listeners, clusters));
    running = await startEnvoy(envoy!, { listeners, clusters }, ports);
  });
  after(async () => {
    await running?.stop();
    upstream?.close();
  });

  async function same(chain: number, method: string, target: string, headers: [string, string][]): Promise<Trace> {
    const listener = `l${chain}`;
    const trace = evaluate(plan, { listener, method, target, headers, sourceIp: '127.0.0.1' });
    const what = `${listener} ${method} ${target} ${JSON.stringify(headers)} -> ${trace.why}`;
    const { result } = trace;
    if (!result) return trace;
    const got = await sendRaw(ports[chain]!, [
      `${method} ${target} HTTP/1.1`,
      ...headers.map(([n, v]) => `${n}: ${v}`),
    ]);
    if (result.kind === 'reply') {
      assert.equal(got.status, result.status, what);
      assert.equal(got.body, result.body, what);
      const length: [string, string] = ['content-length', String(Buffer.byteLength(result.body))];
      assert.deepEqual(lines(got.headers), lines([...result.headers, length]), what);
      return trace;
    }
    assert.ok(got.seen, `${what}: expected an upstream, got ${got.status} ${got.body}`);
    const sent = (of: Headers) =>
      of.filter(([n]) => n !== 'x-request-id' && n !== 'content-length').map(([n, v]) => `${n}: ${v}`);
    assert.deepEqual(sent(got.seen.headers).sort(), sent(result.headers).sort(), what);
    const length = got.headers.find(([n]) => n === 'content-length')!;
    const received: Headers = [
      ['x-upstream', 'a'],
      [length[0], length[1]],
    ];
    assert.deepEqual(lines(got.headers), lines(editText(received, result.answer)), what);
    return trace;
  }

  it('agree on every combination', { timeout: 60_000 }, async (t) => {
    const counts = { kernel: 0, proxy: 0 };
    const origins = [undefined, 'http://a', 'https://x.b', 'http://c', ''];
    const preflights: [string, string][][] = [
      [],
      [['access-control-request-method', 'PUT']],
      [
        ['access-control-request-method', 'PUT'],
        ['access-control-request-headers', 'x-q'],
      ],
      [
        ['access-control-request-method', 'GET'],
        ['access-control-request-private-network', 'true'],
      ],
      [['access-control-request-method', '']],
    ];
    const extras: [string, string][][] = [
      [],
      [['x-deny', '1']],
      [
        ['x-fault', '1'],
        ['x-r', 'r'],
        ['x-m', '0'],
      ],
      [['content-type', 'application/json']],
      [['content-type', 'application/x-protobuf']],
    ];
    const paths = routes.map((r) => (r.match as JsonObject).prefix as string);
    for (const [chain] of CHAINS.entries())
      for (const target of [...paths, '/nothing'])
        for (const origin of origins)
          for (const preflight of origin === undefined ? preflights.slice(0, 2) : preflights)
            await Promise.all(
              extras.map(async (extra) => {
                const method = preflight.length > 0 ? 'OPTIONS' : 'GET';
                const named: [string, string][] = origin === undefined ? [] : [['origin', origin]];
                const trace = await same(chain, method, target, [['host', 'h'], ...named, ...preflight, ...extra]);
                counts[trace.verdict]++;
              }),
            );
    t.diagnostic(`${counts.kernel} decided as by the kernel, ${counts.proxy} by the proxy`);
    // what the bridge would turn into gRPC is the proxy's, in the chain that has it
    assert.ok(counts.kernel > 8 * counts.proxy && counts.proxy > 0);
  });
});
