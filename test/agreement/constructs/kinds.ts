/** Every filter that the fast path knows, and what routes, virtual hosts and route configurations override of each. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { maybe, several, some, typed } from './construct.js';

const FILTER_CONFIG = 'type.googleapis.com/envoy.config.route.v3.FilterConfig';

export const add = (key: string, value: string, append_action: string): JsonObject => ({
  header: { key, value },
  append_action,
});
export const ACTIONS = [
  'APPEND_IF_EXISTS_OR_ADD',
  'ADD_IF_ABSENT',
  'OVERWRITE_IF_EXISTS_OR_ADD',
  'OVERWRITE_IF_EXISTS',
];
export const header = (name: string): JsonObject => ({ name, present_match: true });
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

export const mutations = (draw: Draw): JsonObject => ({
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
    ...draw.one([{ http_status: 418 }, { http_status: 503 }, { http_status: 400 }, { header_abort: {} }]),
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

export const limit = (draw: Draw): JsonObject => ({
  stat_prefix: 'limit',
  token_bucket: { max_tokens: draw.one([1, 2, 5, 1000]), tokens_per_fill: 1, fill_interval: '86400s' },
  filter_enabled: percent(draw.one([100, 100, 100, 0])),
  filter_enforced: percent(draw.one([100, 100, 100, 0])),
  ...maybe(draw, 3, [
    { status: { code: 'ServiceUnavailable' } },
    { status: { code: 'OK' } },
    { status: { code: 'BadRequest' } },
  ]),
  ...maybe(draw, 4, [{ enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }]),
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

export interface Kind {
  readonly name: string;
  readonly type: string;
  readonly make: (draw: Draw) => JsonObject;
  /** what a route may say; undefined: only that it is off */
  readonly own?: (draw: Draw) => JsonObject;
}
export const KINDS: readonly Kind[] = [
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
export function overrides(draw: Draw, kinds: readonly Kind[], chance: number): JsonObject {
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
