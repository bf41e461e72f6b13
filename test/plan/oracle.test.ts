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
import { answer, clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const header = (h: JsonObject): JsonObject => ({ prefix: '/', headers: [h] });
const query = (q: JsonObject): JsonObject => ({ prefix: '/', query_parameters: [q] });

/** Each matcher gets a virtual host of its own: `yes` if it matches, `no` otherwise. */
const HEADER_MATCHERS: JsonObject[] = [
  { string_match: { exact: 'v' } },
  { string_match: { exact: '' } },
  { string_match: { exact: 'Ab', ignore_case: true } },
  { string_match: { prefix: 'a' } },
  { string_match: { prefix: 'A', ignore_case: true } },
  { string_match: { suffix: 'b' } },
  { string_match: { suffix: 'B', ignore_case: true } },
  { string_match: { contains: 'b' } },
  { string_match: { contains: 'B', ignore_case: true } },
  { string_match: { safe_regex: { regex: 'a|bc*' } } },
  { string_match: { safe_regex: { regex: '(?i)a.*' } } },
  { range_match: { start: '-5', end: '10' } },
  { range_match: {} },
  { present_match: true },
  { present_match: false },
  {},
  { exact_match: '' },
  { exact_match: 'v' },
  { prefix_match: 'v' },
  { suffix_match: 'c' },
  { contains_match: 'b' },
  { safe_regex_match: { regex: '\\d+' } },
];
const HEADER_VALUES = [
  undefined,
  '',
  'v',
  'V',
  'a',
  'ab',
  'AB',
  'bcc',
  'xbx',
  '3',
  '+3',
  '-5',
  '-6',
  '10',
  '9.5',
  '3a',
  '12345678901234567890',
  'a,b',
];
const QUERY_MATCHERS: JsonObject[] = [
  { present_match: true },
  { present_match: false },
  {},
  { string_match: { exact: '1' } },
  { string_match: { prefix: 'a' } },
  { string_match: { exact: '' } },
  { string_match: { safe_regex: { regex: '[0-9]+' } } },
];
const QUERIES = [
  '',
  '?',
  '?q',
  '?q=',
  '?q=1',
  '?q=1&q=2',
  '?q=2&q=1',
  '?x=1',
  '?x&q=abc',
  '?q=%31',
  '?%71=1',
  '?q==1',
  '?&q=1&',
  '?q=1;x',
  '?Q=1',
  '?q=1?q=2',
  '?qq=1',
];

const PATH_MATCHES: JsonObject[] = [
  { path: '/exact' },
  { path: '/Exact', case_sensitive: false },
  { prefix: '/pre' },
  { prefix: '/Pre', case_sensitive: false },
  { path_separated_prefix: '/sep/x' },
  { safe_regex: { regex: '/re/[a-z]+' } },
  { safe_regex: { regex: '/a|/b' } },
  { prefix: '' },
];
const PATHS = [
  '/',
  '/exact',
  '/exact?q',
  '/exact/',
  '/EXACT',
  '/pre',
  '/prefix?x',
  '/PRE/',
  '/sep/x',
  '/sep/x/y?z',
  '/sep/xy',
  '/sep',
  '/re/abc',
  '/re/abc?q=1',
  '/re/ab1',
  '/a',
  '/b',
  '/ab',
  '//a',
  '/a/../b',
  '/%61',
];

const ROUTES: JsonObject[] = [
  to('a', '/plain'),
  to('a', '/rewrite/', {}, { prefix_rewrite: '/r/' }),
  to('a', '/gone', {}, { prefix_rewrite: '/' }),
  { match: { path: '/one' }, route: { cluster: 'a', prefix_rewrite: '/two' } },
  {
    match: { path_separated_prefix: '/sep' },
    route: { cluster: 'a', prefix_rewrite: '/q', timeout: '0s', idle_timeout: '0s' },
  },
  { match: { safe_regex: { regex: '/rx/.*' } }, route: { cluster: 'a', prefix_rewrite: '/whole' } },
  to('a', '/rr/', {}, { regex_rewrite: { pattern: { regex: '^/rr/([^/]+)(/.*)$' }, substitution: '\\2/id/\\1' } }),
  to('a', '/all/', {}, { regex_rewrite: { pattern: { regex: '[aeiou]' }, substitution: 'X' } }),
  to('a', '/host', {}, { host_rewrite_literal: 'new.example' }),
  to('a', '/xfh', {}, { host_rewrite_literal: 'new.example', append_x_forwarded_host: true }),
  to('a', '/auto', {}, { auto_host_rewrite: true }),
  to('a', '/timeout', {}, { timeout: '3.5s' }),
  to('a', '/hedge', {}, { timeout: '3.5s', hedge_policy: { hedge_on_per_try_timeout: true } }),
  to(
    'a',
    '/retry',
    {},
    {
      timeout: '3s',
      retry_policy: {
        retry_on: 'connect-failure,retriable-status-codes',
        retriable_status_codes: [503],
        per_try_timeout: '1s',
        num_retries: 2,
      },
    },
  ),
  to('a', '/edits', {
    request_headers_to_add: [
      { header: { key: 'x-append', value: 'n' } },
      { header: { key: 'X-Over', value: '100%%' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      { header: { key: 'x-absent', value: 'n' }, append_action: 'ADD_IF_ABSENT' },
      { header: { key: 'x-exist', value: 'n' }, append_action: 'OVERWRITE_IF_EXISTS' },
      { header: { key: 'x-empty', value: '' } },
      { header: { key: 'x-kept', value: '' }, keep_empty_value: true },
      { header: { key: 'x-vh', value: 'route' } },
    ],
    request_headers_to_remove: ['x-gone', 'x-append'],
  }),
  {
    match: { prefix: '/weighted' },
    route: {
      weighted_clusters: {
        clusters: [
          { name: 'a', weight: 1 },
          { name: 'b', weight: 1 },
          { name: 'none', weight: 0 },
        ],
      },
    },
  },
  to('sub', '/subset', {}, { metadata_match: { filter_metadata: { 'envoy.lb': { version: 'v2' } } } }),
  to('sub', '/fallback', {}, { metadata_match: { filter_metadata: { 'envoy.lb': { version: 'v9' } } } }),
  { match: { prefix: '/redirect/https' }, redirect: { https_redirect: true } },
  { match: { prefix: '/redirect/host/' }, redirect: { host_redirect: 'o.example', prefix_rewrite: '/n/' } },
  {
    match: { prefix: '/redirect/path' },
    redirect: { path_redirect: '/z', port_redirect: 8443, response_code: 'FOUND' },
  },
  { match: { prefix: '/redirect/bare' }, redirect: { path_redirect: 'moved' } },
  { match: { prefix: '/redirect/only-query' }, redirect: { prefix_rewrite: '?x' } },
  { match: { prefix: '/redirect/cut-query' }, redirect: { prefix_rewrite: '/n?x', strip_query: true } },
  { match: { prefix: '/redirect/q' }, redirect: { path_redirect: '/z?a=1', strip_query: true } },
  { match: { prefix: '/redirect/strip' }, redirect: { strip_query: true, response_code: 'PERMANENT_REDIRECT' } },
  {
    match: { prefix: '/redirect/scheme' },
    redirect: { scheme_redirect: 'HTTPS', host_redirect: 's.example', response_code: 'SEE_OTHER' },
  },
  {
    match: { safe_regex: { regex: '/redirect/re/.*' } },
    redirect: { prefix_rewrite: '/n', response_code: 'TEMPORARY_REDIRECT' },
  },
  { match: { prefix: '/direct/404' }, direct_response: { status: 404 } },
  { match: { prefix: '/direct/503' }, direct_response: { status: 503, body: { inline_string: 'closed' } } },
  {
    match: { prefix: '/fraction', runtime_fraction: { default_value: { numerator: 0, denominator: 'HUNDRED' } } },
    direct_response: { status: 418 },
  },
  {
    match: { prefix: '/xfp', headers: [{ name: 'x-forwarded-proto', string_match: { exact: 'http' } }] },
    direct_response: { status: 418 },
  },
  {
    match: { prefix: '/hosth', headers: [{ name: 'host', string_match: { prefix: 'R' } }] },
    direct_response: { status: 418 },
  },
  {
    match: { prefix: '/method', headers: [{ name: ':method', string_match: { exact: 'DELETE' } }] },
    direct_response: { status: 418 },
  },
  {
    match: { prefix: '/', headers: [{ name: ':path', string_match: { suffix: '?magic' } }] },
    direct_response: { status: 418 },
  },
];

const rule = (permission: JsonObject, principal: JsonObject = { any: true }): JsonObject => ({
  permissions: [permission],
  principals: [principal],
});
const policy = (action: string, policies: JsonObject): JsonObject => ({ rules: { action, policies } });
const ENVOY = 'type.googleapis.com/envoy';
const decided = (action: string): JsonObject => ({
  action: { name: 'act', typed_config: { '@type': `${ENVOY}.config.rbac.v3.Action`, name: action, action } },
});
const looks = (header_name: string, value_match: JsonObject): JsonObject => ({
  single_predicate: {
    input: {
      name: 'in',
      typed_config: { '@type': `${ENVOY}.type.matcher.v3.HttpRequestHeaderMatchInput`, header_name },
    },
    value_match,
  },
});
/** An RBAC filter with a matcher: predicates with what follows from them, the first that matches counts. */
const matching = (list: readonly (readonly [JsonObject, string])[], otherwise?: string): JsonObject => ({
  matcher: {
    ...(list.length > 0
      ? { matcher_list: { matchers: list.map(([predicate, action]) => ({ predicate, on_match: decided(action) })) } }
      : {}),
    ...(otherwise ? { on_no_match: decided(otherwise) } : {}),
  },
});

const RBACS: JsonObject[] = [
  matching([[looks('x-user', { exact: 'alice' }), 'ALLOW']]),
  matching([[{ not_matcher: looks('x-user', { safe_regex: { google_re2: {}, regex: 'al.*' } }) }, 'DENY']], 'ALLOW'),
  matching(
    [
      [looks(':path', { prefix: '/admin' }), 'DENY'],
      [{ and_matcher: { predicate: [looks(':method', { exact: 'GET' }), looks('x-deny', { exact: '1' })] } }, 'DENY'],
      [{ or_matcher: { predicate: [looks('x-user', { suffix: 'b' }), looks('x-missing', { contains: 'v' })] } }, 'LOG'],
      [looks(':authority', { prefix: 'rbac' }), 'ALLOW'],
    ],
    'DENY',
  ),
  matching([[looks('x-missing', { exact: '' }), 'ALLOW']], 'LOG'),
  policy('ALLOW', {}),
  policy('DENY', {}),
  {},
  policy('ALLOW', { a: rule({ header: { name: ':method', string_match: { exact: 'GET' } } }) }),
  policy('DENY', {
    a: rule({ url_path: { path: { prefix: '/admin' } } }),
    b: rule({ header: { name: 'x-deny', present_match: true } }),
  }),
  policy('ALLOW', {
    a: rule({ and_rules: { rules: [{ any: true }, { not_rule: { url_path: { path: { exact: '/no' } } } }] } }),
  }),
  policy('ALLOW', {
    a: rule({ or_rules: { rules: [{ destination_port: 1 }, { destination_port_range: { start: 1, end: 65536 } }] } }),
  }),
  policy('ALLOW', { a: rule({ destination_port: 1 }) }),
  policy('ALLOW', { a: rule({ destination_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } }) }),
  policy('DENY', { a: rule({ any: true }, { direct_remote_ip: { address_prefix: '127.0.0.1', prefix_len: 32 } }) }),
  policy('DENY', { a: rule({ any: true }, { source_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } }) }),
  policy('DENY', { a: rule({ any: true }, { remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } }) }),
  policy('ALLOW', { a: rule({ any: true }, { authenticated: {} }) }),
  policy('ALLOW', {
    a: rule(
      { any: true },
      {
        and_ids: {
          ids: [
            { header: { name: 'x-user', string_match: { prefix: 'a' } } },
            { not_id: { url_path: { path: { suffix: '.bak' } } } },
          ],
        },
      },
    ),
  }),
  policy('ALLOW', { a: rule({ requested_server_name: { exact: '' } }) }),
  policy('LOG', { a: rule({ any: true }) }),
  policy('ALLOW', { a: rule({ header: { name: 'x-missing', string_match: { exact: 'v' }, invert_match: true } }) }),
];

const UPSTREAM_RULES = policy('DENY', {
  path: rule({ url_path: { path: { prefix: '/admin' } } }),
  exact: rule({ url_path: { path: { exact: '/r/secret' } } }),
  short: rule({ url_path: { path: { exact: '/' } } }),
  host: rule({ header: { name: ':authority', string_match: { exact: 'bad.example' } } }),
  edited: rule({ header: { name: 'x-edited', string_match: { exact: '1' } } }),
  received: rule({ header: { name: 'x-received', present_match: true } }),
});
/** Routes to a cluster whose own RBAC filter sees the rewritten request. */
const GUARDED_ROUTES: JsonObject[] = [
  to('guarded', '/g/', {}, { prefix_rewrite: '/' }),
  to('guarded', '/longer', {}, { prefix_rewrite: '/r/se' }),
  to('guarded', '/adm', {}, { prefix_rewrite: '/administration' }),
  { match: { path: '/one' }, route: { cluster: 'guarded', prefix_rewrite: '/r/secret' } },
  to('guarded', '/host', {}, { host_rewrite_literal: 'bad.example' }),
  to('guarded', '/good', {}, { host_rewrite_literal: 'good.example' }),
  to('guarded', '/edit', {
    request_headers_to_add: [{ header: { key: 'x-edited', value: '1' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }],
  }),
  to('guarded', '/clean', { request_headers_to_remove: ['x-received'] }),
  to('guarded', '/'),
];

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
