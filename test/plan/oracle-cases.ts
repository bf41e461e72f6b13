/** What the plan's evaluator and the real Envoy are asked (oracle.test.ts). */
import type { JsonObject } from '../../src/policy/resources.js';
import { to } from './resources.js';

export const header = (h: JsonObject): JsonObject => ({ prefix: '/', headers: [h] });
export const query = (q: JsonObject): JsonObject => ({ prefix: '/', query_parameters: [q] });

/** Each matcher gets a virtual host of its own: `yes` if it matches, `no` otherwise. */
export const HEADER_MATCHERS: JsonObject[] = [
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
export const HEADER_VALUES = [
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
export const QUERY_MATCHERS: JsonObject[] = [
  { present_match: true },
  { present_match: false },
  {},
  { string_match: { exact: '1' } },
  { string_match: { prefix: 'a' } },
  { string_match: { exact: '' } },
  { string_match: { safe_regex: { regex: '[0-9]+' } } },
];
export const QUERIES = [
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

export const PATH_MATCHES: JsonObject[] = [
  { path: '/exact' },
  { path: '/Exact', case_sensitive: false },
  { prefix: '/pre' },
  { prefix: '/Pre', case_sensitive: false },
  { path_separated_prefix: '/sep/x' },
  { safe_regex: { regex: '/re/[a-z]+' } },
  { safe_regex: { regex: '/a|/b' } },
  { prefix: '' },
];
export const PATHS = [
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

export const ROUTES: JsonObject[] = [
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

export const rule = (permission: JsonObject, principal: JsonObject = { any: true }): JsonObject => ({
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

export const RBACS: JsonObject[] = [
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

export const UPSTREAM_RULES = policy('DENY', {
  path: rule({ url_path: { path: { prefix: '/admin' } } }),
  exact: rule({ url_path: { path: { exact: '/r/secret' } } }),
  short: rule({ url_path: { path: { exact: '/' } } }),
  host: rule({ header: { name: ':authority', string_match: { exact: 'bad.example' } } }),
  edited: rule({ header: { name: 'x-edited', string_match: { exact: '1' } } }),
  received: rule({ header: { name: 'x-received', present_match: true } }),
});
/** Routes to a cluster whose own RBAC filter sees the rewritten request. */
export const GUARDED_ROUTES: JsonObject[] = [
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
