/** HTTP filters and what routes, virtual hosts and route configurations override of each; counted rate limits. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, type Listener, maybe, several, some, typed } from './construct.js';

const LISTENERS = 6;
const FILTER_CONFIG = 'type.googleapis.com/envoy.config.route.v3.FilterConfig';

const add = (key: string, value: string, append_action: string): JsonObject => ({
  header: { key, value },
  append_action,
});
const ACTIONS = ['APPEND_IF_EXISTS_OR_ADD', 'ADD_IF_ABSENT', 'OVERWRITE_IF_EXISTS_OR_ADD', 'OVERWRITE_IF_EXISTS'];
const header = (name: string): JsonObject => ({ name, present_match: true });
const percent = (numerator: number): JsonObject => ({ default_value: { numerator } });

function rules(draw: Draw): JsonObject {
  const permission = draw.one<JsonObject>([
    { any: true },
    { header: header('x-user') },
    { not_rule: { header: header('x-user') } },
    { url_path: { path: { prefix: '/a' } } },
    { header: { name: ':method', string_match: { exact: 'GET' } } },
  ]);
  const principal = draw.one<JsonObject>([
    { any: true },
    { remote_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } },
    { header: { name: 'x-user', string_match: { prefix: 'al' } } },
  ]);
  return {
    action: draw.one(['ALLOW', 'DENY']),
    policies: draw.below(6) === 0 ? {} : { p: { permissions: [permission], principals: [principal] } },
  };
}

const mutations = (draw: Draw): JsonObject => ({
  mutations: {
    request_mutations: several(draw.below(3), () =>
      draw.one([
        { append: add('x-m', draw.one(['1', '2']), draw.one(ACTIONS)) },
        { remove: draw.one(['x-m', 'x-other']) },
      ]),
    ),
    response_mutations: several(draw.below(3), () =>
      draw.one([
        { append: add(draw.one(['x-m', 'cache-control', 'x-powered-by']), draw.one(['1', '2']), draw.one(ACTIONS)) },
        { remove: draw.one(['x-m', 'x-powered-by']) },
      ]),
    ),
  },
});
const cors = (draw: Draw): JsonObject => ({
  allow_origin_string_match: [
    draw.one([
      { exact: 'https://app.example' },
      { exact: '*' },
      { suffix: '.example' },
      { safe_regex: { regex: 'https://[a-z]+\\.test' } },
    ]),
  ],
  allow_methods: draw.one(['GET', 'PUT, GET']),
  ...maybe(draw, 2, [{ allow_headers: 'x-user' }, { allow_headers: '*' }]),
  ...maybe(draw, 2, [{ expose_headers: 'x-m' }]),
  ...maybe(draw, 2, [{ max_age: '60' }]),
  ...maybe(draw, 2, [{ allow_credentials: true }, { allow_credentials: false }]),
  ...maybe(draw, 3, [{ forward_not_matching_preflights: false }, { forward_not_matching_preflights: true }]),
  ...maybe(draw, 5, [{ filter_enabled: percent(0) }, { filter_enabled: percent(0), shadow_enabled: percent(100) }]),
});
const csrf = (draw: Draw): JsonObject => ({
  filter_enabled: percent(draw.one([0, 100, 100])),
  ...maybe(draw, 3, [{ shadow_enabled: percent(100) }]),
  ...maybe(draw, 2, [
    { additional_origins: [{ exact: 'app.example' }] },
    { additional_origins: [{ suffix: '.test' }, { prefix: 'x' }] },
  ]),
});
const fault = (draw: Draw): JsonObject => ({
  abort: {
    ...draw.one([{ http_status: 418 }, { http_status: 503 }, { header_abort: {} }]),
    percentage: { numerator: draw.one([0, 100]) },
  },
  ...maybe(draw, 2, [
    { headers: [header('x-user')] },
    { headers: [{ name: 'x-user', string_match: { exact: 'bob' } }] },
  ]),
  ...maybe(draw, 6, [{ upstream_cluster: 'a' }, { downstream_nodes: ['n'] }, { max_active_faults: 1000 }]),
});
const health = (draw: Draw): JsonObject => ({
  pass_through_mode: draw.below(3) === 0,
  headers: draw.one<JsonObject[]>([
    [{ name: ':path', string_match: { exact: '/healthz' } }],
    [
      { name: ':path', string_match: { prefix: '/a' } },
      { name: 'x-user', present_match: true },
    ],
  ]),
});

const limit = (draw: Draw): JsonObject => ({
  stat_prefix: 'limit',
  token_bucket: { max_tokens: draw.one([1, 2, 5, 1000]), tokens_per_fill: 1, fill_interval: '86400s' },
  filter_enabled: percent(draw.one([100, 100, 100, 0])),
  filter_enforced: percent(draw.one([100, 100, 100, 0])),
  ...maybe(draw, 3, [{ status: { code: 'ServiceUnavailable' } }, { status: { code: 'OK' } }]),
  ...maybe(draw, 3, [{ response_headers_to_add: [add('x-limited', 'yes', 'OVERWRITE_IF_EXISTS_OR_ADD')] }]),
});

const off: JsonObject = { enabled: { default_value: false, runtime_key: 'off' } };
const library = (kind: string, name: string): JsonObject => ({
  [`${kind}_library`]: {
    ...{
      name,
      typed_config: {
        '@type': `type.googleapis.com/envoy.extensions.compression.${name}.${kind}.v3.${name[0]!.toUpperCase()}${name.slice(1)}`,
      },
    },
  },
});
const compressor = (draw: Draw): JsonObject => ({
  ...library('compressor', draw.one(['gzip', 'gzip', 'brotli', 'zstd'])),
  ...maybe(draw, 4, [
    { request_direction_config: {} },
    { request_direction_config: { common_config: { min_content_length: 5 } } },
    { request_direction_config: { common_config: off } },
  ]),
  ...maybe(draw, 2, [
    { response_direction_config: { common_config: { min_content_length: draw.one([1, 6, 7, 200]) } } },
    {
      response_direction_config: {
        common_config: { content_type: draw.one([['text/plain'], ['Text/HTML', 'a/b+c.d']]) },
      },
    },
    { response_direction_config: { disable_on_etag_header: true, remove_accept_encoding_header: true } },
    { response_direction_config: { common_config: off } },
  ]),
});

interface Kind {
  readonly name: string;
  readonly type: string;
  readonly make: (draw: Draw) => JsonObject;
  /** what a route may say; undefined: only that it is off */
  readonly own?: (draw: Draw) => JsonObject;
}
const KINDS: readonly Kind[] = [
  {
    name: 'rbac',
    type: 'rbac.v3.RBAC',
    make: (d) => ({ rules: rules(d) }),
    own: (d) => typed('rbac.v3.RBACPerRoute', d.one<JsonObject>([{}, { rbac: { rules: rules(d) } }, { rbac: {} }])),
  },
  { name: 'cors', type: 'cors.v3.Cors', make: () => ({}), own: (d) => typed('cors.v3.CorsPolicy', cors(d)) },
  { name: 'csrf', type: 'csrf.v3.CsrfPolicy', make: csrf, own: (d) => typed('csrf.v3.CsrfPolicy', csrf(d)) },
  {
    name: 'fault',
    type: 'fault.v3.HTTPFault',
    make: (d) => d.one<JsonObject>([{}, fault(d)]),
    own: (d) => typed('fault.v3.HTTPFault', d.one<JsonObject>([{}, fault(d), fault(d)])),
  },
  {
    name: 'header_mutation',
    type: 'header_mutation.v3.HeaderMutation',
    make: (d) => ({ ...mutations(d), ...maybe(d, 3, [{ most_specific_header_mutations_wins: true }]) }),
    own: (d) => typed('header_mutation.v3.HeaderMutationPerRoute', mutations(d)),
  },
  {
    name: 'buffer',
    type: 'buffer.v3.Buffer',
    make: (d) => ({ max_request_bytes: d.one([5, 10, 5000]) }),
    own: (d) =>
      typed(
        'buffer.v3.BufferPerRoute',
        d.one<JsonObject>([{ disabled: true }, { buffer: { max_request_bytes: d.one([5, 10, 100]) } }]),
      ),
  },
  {
    name: 'compressor',
    type: 'compressor.v3.Compressor',
    make: compressor,
    own: (d) =>
      typed(
        'compressor.v3.CompressorPerRoute',
        d.one<JsonObject>([
          { disabled: true },
          { overrides: { response_direction_config: {} } },
          { overrides: { response_direction_config: { remove_accept_encoding_header: d.below(2) === 0 } } },
        ]),
      ),
  },
  {
    name: 'decompressor',
    type: 'decompressor.v3.Decompressor',
    make: (d) => ({
      ...library('decompressor', 'gzip'),
      response_direction_config: { common_config: off },
      ...maybe(d, 3, [{ request_direction_config: { common_config: off } }]),
    }),
  },
  {
    name: 'health_check',
    type: 'health_check.v3.HealthCheck',
    make: health,
  },
  {
    name: 'local_ratelimit',
    type: 'local_ratelimit.v3.LocalRateLimit',
    make: (d) => ({ ...limit(d), token_bucket: { max_tokens: 10_000, fill_interval: '86400s' } }),
    own: (d) =>
      typed('local_ratelimit.v3.LocalRateLimit', {
        ...limit(d),
        token_bucket: { max_tokens: 10_000, fill_interval: '86400s' },
      }),
  },
];

/** What one owner of routes, or a route, overrides. */
function overrides(draw: Draw, kinds: readonly Kind[], chance: number): JsonObject {
  const found: JsonObject = {};
  for (const kind of some(draw, chance, kinds)) {
    const own = kind.own?.(draw);
    const disabled: JsonObject = { '@type': FILTER_CONFIG, disabled: true };
    found[kind.name] = own
      ? draw.one<JsonObject>([
          ...[own, own, own, disabled],
          { '@type': FILTER_CONFIG, config: own },
          { '@type': FILTER_CONFIG, is_optional: true, config: own },
        ])
      : disabled;
  }
  return Object.keys(found).length === 0 ? {} : { typed_per_filter_config: found };
}

/** A route to a cluster, to weighted ones, or an answer. */
function action(draw: Draw, kinds: readonly Kind[]): JsonObject {
  switch (draw.below(5)) {
    case 0:
      return { direct_response: { status: 200, body: { inline_string: 'direct' } } };
    case 1:
      return { redirect: { path_redirect: '/moved' } };
    case 2:
      return {
        route: {
          weighted_clusters: {
            clusters: [
              { name: 'a', weight: 1, ...overrides(draw, kinds, 4) },
              { name: 'b', weight: 0 },
            ],
          },
        },
      };
    default:
      return { route: { cluster: draw.one(CLUSTERS) } };
  }
}

const HEADERS: readonly (readonly [string, string])[] = [
  ...([
    ['x-user', 'alice'],
    ['x-m', '0'],
    ['x-other', '1'],
  ] as const),
  ...([
    ['Origin', 'https://app.example'],
    ['Referer', 'https://app.example/x'],
  ] as const),
  ...([
    ['Accept-Encoding', 'gzip, br;q=0.5'],
    ['Accept-Encoding', 'identity, deflate'],
    ['Content-Encoding', 'gzip'],
  ] as const),
  ...([
    ['x-envoy-fault-abort-request', '409'],
    ['Access-Control-Request-Method', 'PUT'],
  ] as const),
];

function chain(draw: Draw, kinds: readonly Kind[], chance: number): Listener {
  const used = some(draw, 2, kinds).sort(() => draw.below(3) - 1);
  return {
    router: maybe(draw, 3, [
      { suppress_envoy_headers: true },
      { respect_expected_rq_timeout: true },
      { dynamic_stats: false },
      { strict_check_headers: ['x-envoy-max-retries'] },
    ]),
    filters: used.map(({ name, type, make }) => ({
      name,
      typed_config: typed(type, make(draw)),
      ...maybe(draw, 10, [{ disabled: true }, { is_optional: true }]),
    })),
    config: overrides(draw, used, chance * 2),
    hosts: ['h', '*'].map((domain, v) => ({
      ...{ name: `v${v}`, domains: [domain], ...overrides(draw, used, chance * 2) },
      routes: ['/a/b', '/a', '/c', ...(draw.below(2) === 0 ? ['/'] : [])].map((prefix) => ({
        ...{ match: { prefix }, ...action(draw, used), ...overrides(draw, used, chance) },
        ...maybe(draw, 4, [
          { request_headers_to_add: [add('x-m', 'r', draw.one(ACTIONS))] },
          { response_headers_to_add: [add('x-m', 'r', draw.one(ACTIONS))] },
        ]),
      })),
    })),
  };
}

/** Every filter that the fast path knows, in any order. */
export const filters: Construct = {
  share: 0.15,
  make: (draw) => ({
    documents: [bootstrap(several(LISTENERS, () => chain(draw, KINDS, 3)))],
    headers: HEADERS,
    hosts: ['h', 'other', 'app.example'],
    paths: ['/a', '/a/b', '/c/d', '/e', '/healthz'],
  }),
};

/** One filter at a time, mostly overridden. */
export const overridden: Construct = {
  share: 0.3,
  make: (draw) => ({
    documents: [bootstrap(KINDS.map((kind) => ({ ...chain(draw, [kind, kind], 2), ...one(draw, kind) })))],
    headers: HEADERS,
    hosts: ['h', 'other', 'app.example'],
    paths: ['/a', '/a/b', '/c/d', '/e', '/healthz'],
  }),
};

/** A chain of one filter. */
function one(draw: Draw, kind: Kind): Listener {
  const listener = chain(draw, [kind], 2);
  const filters = [{ name: kind.name, typed_config: typed(kind.type, kind.make(draw)) }];
  const hosts = ['h', '*'].map((domain, v) => ({
    ...{ name: `v${v}`, domains: [domain], ...overrides(draw, [kind], 2) },
    routes: ['/a/b', '/a', '/c', '/'].map((prefix) => ({
      match: { prefix },
      ...action(draw, [kind]),
      ...overrides(draw, [kind], 2),
    })),
  }));
  return { ...listener, filters, hosts, config: overrides(draw, [kind], 3) };
}

const ACTION_KINDS: readonly JsonObject[] = [
  { generic_key: { descriptor_value: 'one' } },
  { generic_key: { descriptor_value: 'two', descriptor_key: 'k' } },
  { request_headers: { header_name: 'x-user', descriptor_key: 'user' } },
  { request_headers: { header_name: ':method', descriptor_key: 'method' } },
  { request_headers: { header_name: ':path', descriptor_key: 'path' } },
  { request_headers: { header_name: 'x-m', descriptor_key: 'm', skip_if_absent: true } },
  { header_value_match: { descriptor_value: 'matched', headers: [header('x-other')] } },
  { header_value_match: { descriptor_value: 'matched', expect_match: false, headers: [header('x-other')] } },
  {
    query_parameter_value_match: {
      descriptor_value: 'q',
      query_parameters: [{ name: 'q', string_match: { exact: '1' } }],
    },
  },
  { remote_address: {} },
  { destination_cluster: {} },
];
const ENTRIES: readonly JsonObject[] = [
  { key: 'generic_key', value: 'one' },
  { key: 'k', value: 'two' },
  { key: 'user', value: 'alice' },
  { key: 'user', value: 'bob' },
  { key: 'method', value: 'GET' },
  { key: 'path', value: '/a' },
  { key: 'm', value: '0' },
  { key: 'header_match', value: 'matched' },
  { key: 'query_match', value: 'q' },
  { key: 'remote_address', value: '127.0.0.1' },
  { key: 'destination_cluster', value: 'a' },
];

/** Entries that an action may make. */
const entryOf = (draw: Draw, action: JsonObject): JsonObject => {
  const at = ACTION_KINDS.indexOf(action);
  return draw.below(5) === 0 ? draw.one(ENTRIES) : ENTRIES[[0, 1, 2 + draw.below(2), 4, 5, 6, 7, 7, 8, 9, 10][at]!]!;
};

/** Envoy refuses a descriptor that is there twice, in whatever order its entries are. */
const different = (sets: JsonObject[][]): JsonObject[][] => {
  const keys = sets.map((entries) =>
    entries
      .map((entry) => JSON.stringify(entry))
      .sort()
      .join(),
  );
  return sets.filter((_, i) => keys.indexOf(keys[i]!) === i);
};

/** A limit with descriptors, and the actions that make their entries. */
function described(draw: Draw): { limit: JsonObject; rate_limits: JsonObject[] } {
  const sets = several(1 + draw.below(3), () => several(1 + draw.below(2), () => draw.one(ACTION_KINDS)));
  return {
    limit: {
      ...limit(draw),
      ...maybe(draw, 3, [{ always_consume_default_token_bucket: false }]),
      descriptors: different(sets.map((actions) => actions.map((action) => entryOf(draw, action)))).map((entries) => ({
        entries,
        token_bucket: {
          max_tokens: draw.one([1, 3, 8]),
          tokens_per_fill: draw.one([1, 2]),
          fill_interval: draw.one(['86400s', '172800s']),
        },
      })),
    },
    rate_limits: sets.map((actions) => ({ actions: actions.map((action) => ({ ...action })) })),
  };
}

/** Buckets, descriptors, overrides by route: what is left after each request is counted. */
export const limits: Construct = {
  share: 0.35,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(LISTENERS, (): Listener => {
          const ofFilter = described(draw);
          const inline = draw.below(2) === 0;
          const own = (): JsonObject => {
            const { limit: config, rate_limits } = described(draw);
            return typed(
              'local_ratelimit.v3.LocalRateLimit',
              draw.one<JsonObject>([limit(draw), config, { ...config, rate_limits }]),
            );
          };
          const config: JsonObject = draw.one<JsonObject>([
            { stat_prefix: 'none' },
            limit(draw),
            { ...ofFilter.limit, ...(inline && { rate_limits: ofFilter.rate_limits }) },
          ]);
          return {
            filters: [{ name: 'limit', typed_config: typed('local_ratelimit.v3.LocalRateLimit', config) }],
            hosts: ['h', '*'].map((domain, v) => ({
              ...{ name: `v${v}`, domains: [domain] },
              ...(draw.below(4) === 0 && { typed_per_filter_config: { limit: own() } }),
              ...(draw.below(3) === 0 && { rate_limits: described(draw).rate_limits }),
              routes: ['/a', '/b', '/'].map((prefix) => ({
                match: { prefix },
                ...(draw.below(5) === 0
                  ? { direct_response: { status: 200, body: { inline_string: 'direct' } } }
                  : {
                      route: {
                        cluster: draw.one(CLUSTERS),
                        ...(draw.below(2) === 0 && { rate_limits: described(draw).rate_limits }),
                        ...maybe(draw, 6, [{ include_vh_rate_limits: true }]),
                      },
                    }),
                ...(draw.below(2) === 0 && { typed_per_filter_config: { limit: own() } }),
              })),
            })),
          };
        }),
      ),
    ],
    headers: [
      ['x-user', 'alice'],
      ['x-user', 'bob'],
      ['x-m', '0'],
      ['x-other', '1'],
    ],
    hosts: ['h', 'other'],
    paths: ['/a', '/b', '/', '/a?q=1', '/c'],
    counted: true,
  }),
};
