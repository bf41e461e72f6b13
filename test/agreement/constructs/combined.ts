/** Many constructs of one policy at once: what is right alone was wrong beside another more than once. */
import type { JsonObject } from '../../../src/policy/resources.js';
import { preserveCase } from '../../plan/resources.js';
import type { Draw } from '../../wild/damage.js';
import {
  bootstrap,
  CLUSTERS,
  type Construct,
  cluster,
  type Listener,
  maybe,
  several,
  some,
  typed,
} from './construct.js';
import { ACTIONS, add, KINDS, overrides } from './kinds.js';

const LISTENERS = 6;
/** Buckets are counted elsewhere (`limits`). */
const KEPT = KINDS.filter(({ name }) => name !== 'local_ratelimit');

const NAMES = ['x-m', 'X-User', 'x-other', 'cookie', 'x-new', 'user-agent', 'x-a_b', 'accept', `x-${'n'.repeat(120)}`];
const VALUES = ['1', '', ' padded ', 'a,b', '100%%', '%PROTOCOL%', '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', 'é'];
const ANSWERED = [
  'x-m',
  'X-Powered-By',
  'cache-control',
  'vary',
  'content-type',
  'x-new',
  'set-cookie',
  'x-upstream-2',
];

/** Edits of requests and answers, of any level; of requests, the levels of a configuration seldom edit the same names. */
export function edits(draw: Draw, chance: number): JsonObject {
  const option = (names: readonly string[], values: readonly string[]): JsonObject => ({
    ...add(draw.one(names), draw.one(values), draw.one(ACTIONS)),
    ...maybe(draw, 4, [{ keep_empty_value: true }]),
  });
  const list = (key: string, make: () => JsonObject | string): JsonObject =>
    draw.below(chance) === 0 ? { [key]: several(1 + draw.below(3), make) } : {};
  const plain = VALUES.slice(0, 5);
  return {
    ...list('request_headers_to_add', () => option(NAMES, draw.below(3) === 0 ? VALUES : plain)),
    ...list('request_headers_to_remove', () => draw.one(NAMES)),
    ...list('response_headers_to_add', () => option(ANSWERED, plain)),
    ...list('response_headers_to_remove', () => draw.one(ANSWERED)),
  };
}

const STRINGS = ['alice', 'Alice', 'a', '', 'ali', 'x'.repeat(300), 'a,b', '0', '-1'];
const string = (draw: Draw): JsonObject => ({
  [draw.one(['exact', 'prefix', 'suffix', 'contains'])]: draw.one(STRINGS.filter((s) => s !== '')),
  ...maybe(draw, 3, [{ ignore_case: true }]),
});

export function headerMatch(draw: Draw): JsonObject {
  const name = draw.one([
    'x-user',
    'X-User',
    'x-m',
    'x-other',
    'host',
    ':authority',
    ':path',
    ':method',
    'cookie',
    'accept',
  ]);
  return {
    name,
    ...draw.one<() => JsonObject>([
      () => ({ string_match: string(draw) }),
      () => ({ string_match: { exact: draw.one(STRINGS) } }),
      () => ({
        string_match: {
          safe_regex: { regex: draw.one(['.*', 'a.*', '[^b]+', '(?i)ALICE', '(a|al)(ice)?', '']) || 'x' },
        },
      }),
      () => ({
        range_match: draw.one([
          { start: 0, end: 1 },
          { start: -5, end: 0 },
          { start: 1, end: 1 },
          { start: '-9223372036854775808', end: '9223372036854775807' },
        ]),
      }),
      () => ({ present_match: draw.below(2) === 0 }),
      () => ({}),
      () => ({ [draw.one(['prefix_match', 'suffix_match', 'contains_match', 'exact_match'])]: 'a' }),
    ])(),
    ...maybe(draw, 3, [{ invert_match: true }]),
    ...maybe(draw, 4, [{ treat_missing_header_as_empty: true }]),
  };
}

export const queryMatch = (draw: Draw): JsonObject => ({
  name: draw.one(['q', 'Q', 'a', 'a%20b', 'q[]', '']) || 'q',
  ...draw.one<JsonObject>([{}, { present_match: true }, { present_match: false }, { string_match: string(draw) }]),
});

const PATHS = ['/', '/a', '/a/', '/A', '/a/b', '/a%20b', '/é', '/a.b', '/a/b/c/d', `/${'l'.repeat(200)}`];
const REGEXES = [
  '/a.*',
  '/(a|b)/?',
  '.*',
  '(?i)/A(/.*)?',
  '/[^/]+',
  '/a(%20|/)b',
  '/[a-z]+/[a-z]',
  '/a?a?b*',
  '(/a)+(/b)*',
  '/.{1,5}',
];
function pathMatch(draw: Draw): JsonObject {
  const path = draw.one(PATHS);
  const insensitive = maybe(draw, 4, [{ case_sensitive: false }]);
  return draw.one<() => JsonObject>([
    () => ({ prefix: path, ...insensitive }),
    () => ({ path, ...insensitive }),
    () => ({ path_separated_prefix: draw.one(['/a', '/A', '/a/b', '/é']), ...insensitive }),
    () => ({ safe_regex: { regex: draw.one(REGEXES) } }),
    () => ({ prefix: '/' }),
  ])();
}

const PATTERNS = [
  '/+',
  '^/a',
  '(/[^/]+)',
  '(a)|b',
  '/a(/.*)?$',
  '[a-z]+',
  '(?i)A',
  '%20',
  '^(.*)$',
  '$',
  'b*',
  '(/a)(/b)?',
];
function rewrite(draw: Draw, regex: boolean): JsonObject {
  if (!regex || draw.below(2) === 0)
    return { prefix_rewrite: draw.one(['/', '/n', '/n/', '//', '/n?x=1', '/n?', '/n#f', '/%41', '/a/../n', 'n']) };
  const pattern = draw.one(PATTERNS);
  const groups = new RegExp(`${pattern.replace('(?i)', '')}|`).exec('')!.length - 1;
  const substitution = draw.one([
    '/n',
    '\\0',
    '',
    '/n?x=1',
    '\\\\',
    '/n/',
    ...(groups > 0 ? ['/\\1', '\\1\\1', '/n\\1?y'] : []),
  ]);
  return { regex_rewrite: { pattern: { regex: pattern }, substitution } };
}

const redirect = (draw: Draw): JsonObject => ({
  ...draw.one<() => JsonObject>([
    () => ({}),
    () => rewrite(draw, false),
    () => rewrite(draw, false),
    () => ({ path_redirect: draw.one(['/n', '/n?x=1', '/n?', 'n', '/', '/n#f?x', '/%20', '?x']) }),
  ])(),
  ...maybe(draw, 3, [{ host_redirect: 'n.test' }, { host_redirect: 'N.test:81' }]),
  ...maybe(draw, 3, [
    { https_redirect: true },
    { scheme_redirect: 'https' },
    { scheme_redirect: 'http' },
    { scheme_redirect: 'ftp' },
  ]),
  ...maybe(draw, 3, [{ port_redirect: 80 }, { port_redirect: 443 }, { port_redirect: 65_535 }]),
  ...maybe(draw, 2, [{ strip_query: true }]),
  ...maybe(draw, 2, [{ response_code: draw.one(['FOUND', 'SEE_OTHER', 'TEMPORARY_REDIRECT', 'PERMANENT_REDIRECT']) }]),
});

const retryPolicy = (draw: Draw): JsonObject => ({
  retry_policy: {
    retry_on: draw.one([
      '5xx',
      'gateway-error,reset',
      'retriable-4xx',
      'retriable-status-codes',
      'connect-failure',
      '',
    ]),
    num_retries: draw.one([0, 1, 3]),
    ...maybe(draw, 3, [{ per_try_timeout: draw.one(['0s', '10s', '15s', '40s']) }]),
    ...maybe(draw, 3, [{ retriable_status_codes: [404, 503] }]),
    ...maybe(draw, 4, [{ retry_back_off: { base_interval: '0.002s', max_interval: '0.01s' } }]),
    ...maybe(draw, 8, [
      {
        retry_host_predicate: [
          {
            name: 'envoy.retry_host_predicates.previous_hosts',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
            },
          },
        ],
        host_selection_retry_max_attempts: '3',
      },
    ]),
  },
});

function forward(draw: Draw, names: readonly string[], pathRewrite: boolean): JsonObject {
  const shares = draw.one([
    [1, 0],
    [0, 1],
    [50, 50],
    [1, 99],
    [100, 0],
  ]);
  const own = edits(draw, 6);
  return {
    ...(draw.below(4) === 0
      ? { weighted_clusters: { clusters: names.slice(0, 2).map((name, i) => ({ name, weight: shares[i]!, ...own })) } }
      : { cluster: draw.one(names) }),
    ...(pathRewrite && draw.below(2) === 0 && rewrite(draw, true)),
    ...maybe(draw, 4, [
      { host_rewrite_literal: 'n.test' },
      { host_rewrite_literal: 'N.test:81' },
      { auto_host_rewrite: true },
    ]),
    ...maybe(draw, 8, [{ append_x_forwarded_host: true }]),
    ...maybe(draw, 2, [{ timeout: draw.one(['7s', '20s', '2.5s', '299s', '400s', '0s']) }]),
    ...maybe(draw, 4, [{ idle_timeout: draw.one(['0s', '0s', '30s', '500s']) }]),
    ...maybe(draw, 6, [
      {
        max_stream_duration: draw.one<JsonObject>([
          { max_stream_duration: '0s' },
          {},
          { grpc_timeout_header_max: '2s' },
          { max_stream_duration: '9s' },
        ]),
      },
      { max_grpc_timeout: draw.one(['0s', '4s']) },
    ]),
    ...(draw.below(3) === 0 ? retryPolicy(draw) : {}),
    ...mirrors(draw, 8),
    ...maybe(draw, 6, [
      { hash_policy: [{ header: { header_name: 'x-user' } }] },
      {
        hash_policy: [
          { query_parameter: { name: 'q' } },
          { connection_properties: { source_ip: true }, terminal: true },
        ],
      },
      { hash_policy: [{ cookie: { name: 'c' } }] },
    ]),
    ...maybe(draw, 12, [
      { hedge_policy: { hedge_on_per_try_timeout: true } },
      { upgrade_configs: [{ upgrade_type: 'websocket' }] },
      { internal_redirect_policy: {} },
      { priority: 'HIGH' },
      { cluster_not_found_response_code: 'NOT_FOUND' },
    ]),
  };
}

function route(draw: Draw, kinds: typeof KINDS): JsonObject {
  const match = {
    ...pathMatch(draw),
    ...(draw.below(3) === 0 && { headers: several(1 + draw.below(3), () => headerMatch(draw)) }),
    ...(draw.below(5) === 0 && { query_parameters: several(1 + draw.below(2), () => queryMatch(draw)) }),
    ...maybe(draw, 10, [{ runtime_fraction: { default_value: { numerator: draw.one([0, 100]) } } }]),
  };
  const beside = {
    match,
    ...edits(draw, 4),
    ...overrides(draw, kinds, 4),
    ...maybe(draw, 8, [{ decorator: { operation: 'op' } }, { name: 'named' }]),
  };
  switch (draw.below(6)) {
    case 0:
      return { ...beside, redirect: redirect(draw) };
    case 1:
      return {
        ...beside,
        direct_response: {
          status: draw.one([200, 202, 299, 400, 404, 503, 599]),
          ...maybe(draw, 2, [{ body: { inline_string: draw.one(['direct', 'é', 'x'.repeat(4096), '%PROTOCOL%']) } }]),
        },
      };
    default:
      // a rewrite of a path that matched a regular expression must be one itself
      return { ...beside, route: forward(draw, CLUSTERS, !('safe_regex' in match)) };
  }
}

const REPLIES: JsonObject = {
  local_reply_config: {
    mappers: [
      {
        filter: {
          status_code_filter: { comparison: { op: 'GE', value: { default_value: 400, runtime_key: 'none' } } },
        },
        body: { inline_string: 'mapped' },
        status_code: 418,
      },
    ],
  },
};

function listener(draw: Draw): Listener {
  const kinds = some(draw, 4, KEPT);
  return {
    manager: {
      ...maybe(draw, 2, [
        { normalize_path: true },
        { normalize_path: true, merge_slashes: true },
        { merge_slashes: true },
        { path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' },
      ]),
      ...maybe(draw, 4, [{ strip_matching_host_port: true }, { strip_any_host_port: true }]),
      ...maybe(draw, 5, [{ generate_request_id: false }, { preserve_external_request_id: true }]),
      ...maybe(draw, 5, [{ stream_idle_timeout: '0s' }, { stream_idle_timeout: '0s' }, { stream_idle_timeout: '9s' }]),
      ...maybe(draw, 8, [REPLIES]),
      ...maybe(draw, 8, [
        { server_name: 'front' },
        { add_user_agent: true },
        { always_set_request_id_in_response: true },
      ]),
      ...maybe(draw, 8, [
        { use_remote_address: true },
        { use_remote_address: true, skip_xff_append: true },
        { xff_num_trusted_hops: 1 },
      ]),
      ...maybe(draw, 10, [
        {
          http_protocol_options: draw.one<JsonObject>([
            { accept_http_10: true },
            { allow_absolute_url: false },
            { allow_chunked_length: true },
            preserveCase(),
          ]),
        },
      ]),
    },
    router: maybe(draw, 4, [{ suppress_envoy_headers: true }, { respect_expected_rq_timeout: true }]),
    filters: kinds.map(({ name, type, make }) => ({ name, typed_config: typed(type, make(draw)) })),
    config: {
      ...edits(draw, 6),
      ...mirrors(draw, 15),
      ...overrides(draw, kinds, 8),
      ...maybe(draw, 3, [{ most_specific_header_mutations_wins: true }]),
      ...maybe(draw, 6, [{ ignore_port_in_host_matching: true }]),
    },
    hosts: [['h', 'H.test', 'h:81'], ['*.test'], ['*']].map((domains, v) => ({
      ...{ name: `v${v}`, domains },
      ...edits(draw, 5),
      ...overrides(draw, kinds, 6),
      ...(draw.below(5) === 0 ? retryPolicy(draw) : {}),
      ...maybe(draw, 6, [
        { include_request_attempt_count: true },
        { hedge_policy: { hedge_on_per_try_timeout: true } },
        { include_is_timeout_retry_header: true },
      ]),
      routes: [
        ...several(1 + draw.below(4), () => route(draw, kinds)),
        ...(draw.below(3) > 0 ? [{ match: { prefix: '/' }, route: forward(draw, CLUSTERS, true) }] : []),
      ],
    })),
  };
}

const BALANCED: readonly JsonObject[] = [
  { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: 16 } },
  { lb_policy: 'RING_HASH', ring_hash_lb_config: { maximum_ring_size: 64, minimum_ring_size: 3 } },
  { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: 251 } },
  { lb_policy: 'LEAST_REQUEST' },
  { lb_policy: 'RANDOM' },
  { common_lb_config: { healthy_panic_threshold: { value: 0 } } },
];

/** Copies of requests: seldom, since a request that is copied is forwarded only when it is whole. */
const mirrors = (draw: Draw, n: number): JsonObject =>
  maybe(draw, n, [
    { request_mirror_policies: [{ cluster: 'c' }] },
    { request_mirror_policies: [{ cluster: 'a', runtime_fraction: { default_value: { numerator: 50 } } }] },
    { request_mirror_policies: [{ cluster: 'a', disable_shadow_host_suffix_append: true }, { cluster: 'b' }] },
  ]);

/** A cluster of several endpoints: of these, any may answer where nothing decides which. */
function balanced(draw: Draw, name: string): JsonObject {
  const endpoints = several(1 + draw.below(4), () =>
    maybe(draw, 3, [
      { load_balancing_weight: 2 },
      { load_balancing_weight: 100 },
      { health_status: 'UNHEALTHY' },
      { health_status: 'DRAINING' },
      { health_status: 'DEGRADED' },
    ]),
  );
  return cluster(name, maybe(draw, 2, BALANCED), endpoints);
}

export const combined: Construct = {
  share: 0.1,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(LISTENERS, () => listener(draw)),
        CLUSTERS.map((name) => balanced(draw, name)),
      ),
    ],
    headers: [
      ['x-user', 'alice'],
      ['X-User', 'ALICE'],
      ['x-m', '0'],
      ['x-other', '-1'],
      ['cookie', 'c=1; d=2'],
      ['Origin', 'https://app.example'],
      ['x-answer', '503'],
      ['x-answer', '404'],
      ['x-forwarded-proto', 'https'],
      ['x-request-id', 'mine'],
      ['grpc-timeout', '1S'],
      ['accept', '*/*'],
    ],
    queries: ['q=1', 'q=alice', 'q', 'q=', 'a=ali&q=x', 'x=1?y=2', 'Q=a', 'a%20b=a', ''],
    hosts: ['h', 'H', 'h.test', 'x.TEST', 'h:81', 'h:80', 'other', 'h.test:81'],
    paths: [...PATHS.filter((p) => p !== '/é'), '/a/b?q=1', '/a//b', '/a/b/', '/ab', '/A/B', '/a/a/b'],
    adverse: true,
  }),
};
