/**
 * The plan's evaluator against the real Envoy: the same resources, the same requests. Whatever the plan decides for the
 * kernel must be what Envoy does: the same answer, or the same upstream with the same request.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate, type Trace } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { type Answer, echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import {
  GUARDED_ROUTES,
  HEADER_MATCHERS,
  HEADER_VALUES,
  header,
  PATH_MATCHES,
  PATHS,
  QUERIES,
  QUERY_MATCHERS,
  query,
  RBACS,
  ROUTES,
  rule,
  UPSTREAM_RULES,
} from './oracle-cases.js';
import { answer, clusterOf, hostOf, listenerOf, resourcesOf, TYPE } from './resources.js';

const envoy = findEnvoy();

describe('the plan decides as Envoy does', { skip: envoy === undefined ? 'no Envoy found' : false }, () => {
  let running: RunningEnvoy;
  let plan: Plan;
  const servers: Awaited<ReturnType<typeof echoServer>>[] = [];
  const ports = new Map<string, number>();
  const clusterPorts = new Map<string, number>();
  const count = { kernel: 0, proxy: 0 };

  before(async () => {
    for (const name of ['a', 'b', 'v1', 'v2']) {
      const server = await echoServer(name);
      servers.push(server);
      clusterPorts.set(name, server.port);
    }
    const port = (name: string) => clusterPorts.get(name)!;
    const clusters = [
      clusterOf('a', [port('a')], { circuit_breakers: { thresholds: [{ max_retries: 4096 }] } }),
      clusterOf('b', [port('b')], { lb_policy: 'LEAST_REQUEST' }),
      clusterOf('none', [port('b')]),
      clusterOf('guarded', [port('a')], {
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': TYPE.protocolOptions,
            explicit_http_config: { http_protocol_options: {} },
            http_filters: [
              { name: 'rbac', typed_config: { '@type': TYPE.rbac, ...UPSTREAM_RULES } },
              { name: 'codec', typed_config: { '@type': TYPE.upstreamCodec } },
            ],
          },
        },
      }),
      clusterOf(
        'sub',
        [port('v1'), port('v2')],
        {
          lb_subset_config: {
            fallback_policy: 'DEFAULT_SUBSET',
            default_subset: { version: 'v1' },
            subset_selectors: [{ keys: ['version'] }],
          },
        },
        [{ version: 'v1' }, { version: 'v2' }],
      ),
    ];
    const vhosts = (prefix: string, matches: JsonObject[]): JsonObject[] =>
      matches.map((match, i) => ({
        name: `${prefix}${i}`,
        domains: [`${prefix}${i}`],
        routes: [answer('yes', match), answer('no', { prefix: '/' })],
      }));
    const matchers = HEADER_MATCHERS.flatMap((m) => [m, { ...m, invert_match: true }])
      .flatMap((m) => [m, { ...m, treat_missing_header_as_empty: true }])
      .map((m) => header({ name: 'X-H', ...m }));
    const routeHost = {
      routes: ROUTES,
      request_headers_to_add: [
        { header: { key: 'x-vh', value: 'vhost' } },
        { header: { key: 'x-vho', value: 'vhost' }, append: false },
      ],
      include_request_attempt_count: true,
    };
    const options = async (name: string) => {
      const p = await freePort();
      ports.set(name, p);
      return { name, port: p };
    };
    const listeners = [
      listenerOf(
        [
          ...vhosts('h', matchers),
          ...vhosts(
            'q',
            QUERY_MATCHERS.map((m) => query({ name: 'q', ...m })),
          ),
          ...vhosts('p', PATH_MATCHES),
        ],
        await options('match'),
      ),
      listenerOf([{ name: 'routes', domains: ['Routes.example', 'r:80'], ...routeHost }], {
        ...(await options('routes')),
        routeConfig: {
          request_headers_to_add: [{ header: { key: 'x-vh', value: 'config' } }],
          request_headers_to_remove: ['x-rc-gone'],
        },
      }),
      listenerOf(
        [
          hostOf(ROUTES, {
            request_headers_to_add: [
              { header: { key: 'x-absent', value: 'vh' }, append_action: 'OVERWRITE_IF_EXISTS' },
            ],
          }),
        ],
        {
          ...(await options('suppressed')),
          router: { suppress_envoy_headers: true },
          hcm: { generate_request_id: false, forward_client_cert_details: 'ALWAYS_FORWARD_ONLY' },
          routeConfig: { most_specific_header_mutations_wins: true, ignore_port_in_host_matching: true },
        },
      ),
      listenerOf(
        [
          { name: 'exact', domains: ['foo.example', 'bar.example:8080'], routes: [answer('exact', { prefix: '/' })] },
          { name: 'suffix', domains: ['*.example', '*-x.example'], routes: [answer('suffix', { prefix: '/' })] },
          { name: 'longer', domains: ['*.foo.example'], routes: [answer('longer', { prefix: '/' })] },
          { name: 'prefix', domains: ['foo.*'], routes: [answer('prefix', { prefix: '/' })] },
        ],
        { ...(await options('hosts')), hcm: { strip_any_host_port: true } },
      ),
      listenerOf(
        RBACS.map((rbac, i) => ({
          name: `rbac${i}`,
          domains: [`rbac${i}`],
          typed_per_filter_config: { rbac: { '@type': TYPE.rbacPerRoute, rbac } },
          routes: [
            {
              ...answer('off', { prefix: '/off' }),
              typed_per_filter_config: { rbac: { '@type': TYPE.filterConfig, disabled: true } },
            },
            answer('in', { prefix: '/' }),
          ],
        })),
        {
          ...(await options('rbac')),
          filters: [
            {
              name: 'rbac',
              typed_config: {
                '@type': TYPE.rbac,
                rules: { action: 'DENY', policies: { a: rule({ url_path: { path: { exact: '/base' } } }) } },
              },
            },
            { name: 'cors', typed_config: { '@type': TYPE.cors } },
          ],
        },
      ),
    ];
    listeners.push(listenerOf([{ name: 'u', domains: ['u'], routes: GUARDED_ROUTES }], await options('upstream')));
    plan = buildPlan(resourcesOf(listeners, clusters));
    running = await startEnvoy(envoy!, { listeners, clusters }, [...ports.values()]);
  });

  after(async () => {
    await running?.stop();
    for (const s of servers) s.close();
  });

  function compare(trace: Trace, got: Answer, what: string): void {
    const { result } = trace;
    const find = (headers: readonly (readonly [string, string])[], name: string) =>
      headers.find(([n]) => n === name)?.[1];
    if (result?.kind === 'reply') {
      assert.equal(got.status, result.status, what);
      assert.equal(got.body, result.body, what);
      assert.equal(find(got.headers, 'location'), find(result.headers, 'location'), what);
      assert.equal(find(got.headers, 'content-type'), find(result.headers, 'content-type'), what);
      return;
    }
    assert.ok(result && got.seen, `${what}: expected an upstream, got ${got.status} ${got.body}`);
    const endpoints = result.action.clusters.flatMap((c) =>
      plan.clusters.find((p) => p.name === c.cluster)!.endpoints.map((e) => e.port),
    );
    assert.ok(endpoints.includes(clusterPorts.get(got.seen.server)!), `${what}: upstream ${got.seen.server}`);
    assert.equal(got.seen.target, result.target, what);
    const lines = (headers: readonly (readonly [string, string])[]) =>
      headers
        .map(([n, v]) => `${n}: ${n === 'x-request-id' && /^[0-9a-f]{8}-[0-9a-f]{4}-4/.test(v) ? '<uuid>' : v}`)
        .sort();
    assert.deepEqual(lines(got.seen.headers), lines(result.headers), what);
  }

  async function same(
    listener: string,
    target: string,
    headers: [string, string][] = [],
    method = 'GET',
  ): Promise<Trace> {
    const trace = evaluate(plan, { listener, method, target, headers, sourceIp: '127.0.0.1' });
    count[trace.verdict]++;
    if (trace.verdict === 'proxy') return trace;
    const got = await sendRaw(ports.get(listener)!, [
      `${method} ${target} HTTP/1.1`,
      ...headers.map(([n, v]) => `${n}: ${v}`),
    ]);
    compare(trace, got, `${listener} ${method} ${target} ${JSON.stringify(headers)} -> ${trace.why}`);
    return trace;
  }

  it('header matchers, with missing headers, inverted and not', async () => {
    for (let i = 0; i < HEADER_MATCHERS.length * 4; i++) {
      await Promise.all(
        HEADER_VALUES.map(async (v) => {
          const trace = await same('match', '/', [
            ['Host', `h${i}`],
            ...(v === undefined ? [] : [['x-h', v] as [string, string]]),
          ]);
          assert.equal(trace.verdict, 'kernel', `matcher ${i} value ${v}: ${trace.why}`);
        }),
      );
    }
  });

  it('query parameters', async () => {
    for (let i = 0; i < QUERY_MATCHERS.length; i++) {
      for (const q of QUERIES) assert.equal((await same('match', `/${q}`, [['Host', `q${i}`]])).verdict, 'kernel');
    }
  });

  it('paths', async () => {
    for (let i = 0; i < PATH_MATCHES.length; i++) {
      for (const p of PATHS) assert.equal((await same('match', p, [['Host', `p${i}`]])).verdict, 'kernel');
    }
  });

  it('rewrites, edits, redirects, direct responses, clusters', async () => {
    const targets = [
      '/plain',
      '/plain?x=1',
      '/rewrite/a/b?q=1',
      '/gone',
      '/gone/x',
      '/one?q',
      '/sep',
      '/sep/a',
      '/sepx',
      '/rx/a?b',
      '/rr/k/rest?z',
      '/rr/k',
      '/all/banana?a=e',
      '/host',
      '/xfh',
      '/auto',
      '/timeout',
      '/hedge',
      '/retry',
      '/edits',
      '/weighted',
      '/subset',
      '/fallback',
      '/redirect/https/a?b',
      '/redirect/host/a?b',
      '/redirect/path/x?y',
      '/redirect/q?r',
      '/redirect/bare?r',
      '/redirect/only-query/a?b',
      '/redirect/cut-query/a?b',
      '/redirect/strip?x',
      '/redirect/scheme/a',
      '/redirect/re/a?b',
      '/direct/404',
      '/direct/503',
      '/fraction',
      '/xfp',
      '/hosth',
      '/method',
      '/x?magic',
      '/nothing',
    ];
    const hosts = ['routes.example', 'Routes.example', 'r:80', 'other'];
    const extras: [string, string][][] = [
      [],
      [
        ['x-append', 'o'],
        ['x-over', 'o'],
        ['x-absent', 'o'],
        ['x-exist', 'o'],
        ['x-gone', 'o'],
        ['x-rc-gone', 'o'],
        ['X-Vh', 'o'],
        ['x-vho', 'o'],
      ],
      [
        ['x-forwarded-proto', 'https'],
        ['x-forwarded-client-cert', 'By=x'],
        ['x-request-id', 'mine'],
        ['x-forwarded-for', '10.0.0.1'],
        ['x-forwarded-host', 'old'],
      ],
      [
        ['x-over', '1'],
        ['x-over', '2'],
        ['Accept', 'a'],
        ['te', 'trailers'],
        ['connection', 'keep-alive'],
        ['user-agent', ''],
      ],
    ];
    for (const listener of ['routes', 'suppressed']) {
      for (const target of targets) {
        for (const host of hosts) {
          for (const extra of extras)
            await same(listener, target, [['Host', host], ...extra], target === '/method' ? 'DELETE' : 'GET');
        }
      }
    }
  });

  it('what is expected in the kernel is there', async () => {
    const kernel = [
      '/host',
      '/xfh',
      '/edits',
      '/rr/k/rest',
      '/all/x',
      '/retry',
      '/hedge',
      '/weighted',
      '/subset',
      '/fallback',
      '/redirect/https',
      '/direct/503',
      '/sep',
    ];
    for (const target of kernel)
      assert.equal((await same('routes', target, [['Host', 'routes.example']])).verdict, 'kernel', target);
  });

  it('virtual hosts', async () => {
    const hosts = [
      'foo.example',
      'FOO.example',
      'bar.example:8080',
      'a.example',
      '.example',
      'example',
      'b-x.example',
      'a.foo.example',
      'foo.bar',
      'foo.',
      'foo',
      'foo.example:99',
      'none',
      '[::1]',
      '[::1]:80',
      'a.example.',
    ];
    for (const host of hosts) await same('hosts', '/', [['Host', host]]);
  });

  it('RBAC', async () => {
    const extras: [string, string][][] = [
      [],
      [['x-deny', '1']],
      [['x-user', 'alice']],
      [
        ['x-user', 'bob'],
        ['x-missing', 'w'],
      ],
      [['x-forwarded-for', '10.0.0.1']],
      [['x-missing', 'v']],
    ];
    for (let i = 0; i < RBACS.length; i++) {
      for (const target of ['/', '/admin/x', '/no', '/x.bak', '/off', '/base', '/x.bak?y']) {
        for (const extra of extras) {
          for (const method of ['GET', 'DELETE']) await same('rbac', target, [['Host', `rbac${i}`], ...extra], method);
        }
      }
    }
    // requests without a route meet the filter's own rules
    for (const target of ['/base', '/x'])
      assert.equal((await same('rbac', target, [['Host', 'unknown']])).verdict, 'kernel');
  });

  it('RBAC filters of a cluster, which see the rewritten request', async () => {
    const targets = [
      '/g/admin',
      '/g/',
      '/g/x',
      '/g/r/secret',
      '/longercret',
      '/longer',
      '/adm',
      '/admx',
      '/one',
      '/host',
      '/good',
      '/edit',
      '/clean',
      '/admin',
      '/r/secret',
      '/r/secret?x',
      '/',
      '/ok',
    ];
    for (const target of targets) {
      for (const extra of [[], [['x-received', '1']], [['x-edited', '1']]] as [string, string][][]) {
        assert.equal((await same('upstream', target, [['Host', 'u'], ...extra])).verdict, 'kernel', target);
      }
    }
  });

  it('more than 80% of these requests are decided without the proxy', (t) => {
    t.diagnostic(`${count.kernel} requests decided as by the kernel, ${count.proxy} by the proxy`);
    assert.ok(count.kernel > 4 * count.proxy, `${count.kernel} in the kernel, ${count.proxy} through the proxy`);
  });
});
