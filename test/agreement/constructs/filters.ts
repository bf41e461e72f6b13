/** HTTP filters in chains, and overridden; counted rate limits. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, type Listener, maybe, several, some, typed } from './construct.js';
import { ACTIONS, add, header, KINDS, type Kind, limit, overrides } from './kinds.js';

const LISTENERS = 6;
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
      ...maybe(draw, 2, [{ enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }]),
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
