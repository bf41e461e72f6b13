/** Filters: what the kernel takes, or the code of the reason. */
import type { JsonObject } from '../../../src/policy/resources.js';
import { TYPE, to } from '../resources.js';
import { BUCKET, type Case, filter, LIMIT, limited } from './case.js';

export const FILTERS: readonly Case[] = [
  { name: 'a filter that is not known', options: filter(TYPE.lua), expect: 'http-filter' },
  { name: 'such a filter, disabled', options: filter(TYPE.lua, { disabled: true }), expect: 'kernel' },
  ...(
    [
      ['grpc_stats.v3.FilterConfig', { stats_for_all_methods: false }, 'kernel'],
      ['grpc_http1_reverse_bridge.v3.FilterConfig', { content_type: 'a/b' }, 'kernel'],
      ['grpc_http1_bridge.v3.Config', { upgrade_protobuf_to_grpc: true }, 'kernel'],
      ['set_metadata.v3.Config', { metadata_namespace: 'mine', value: {} }, 'kernel'],
      ['set_metadata.v3.Config', { metadata: [{ metadata_namespace: 'envoy.lb', value: {} }] }, 'http-filter'],
      ['header_to_metadata.v3.Config', { request_rules: [{ header: 'a', on_header_present: { key: 'b' } }] }, 'kernel'],
      ['header_to_metadata.v3.Config', { request_rules: [{ header: 'a', remove: true }] }, 'http-filter'],
      [
        'header_to_metadata.v3.Config',
        {
          request_rules: [{ header: 'a', on_header_missing: { metadata_namespace: 'envoy.lb', key: 'b', value: 'c' } }],
        },
        'http-filter',
      ],
    ] satisfies [string, JsonObject, Case['expect']][]
  ).map(([type, config, expect]) => ({
    name: `${type} ${JSON.stringify(config)}`,
    options: {
      filters: [{ name: 'f', typed_config: { '@type': `x/envoy.extensions.filters.http.${type}`, ...config } }],
    },
    expect,
  })),
  {
    name: 'such a filter, disabled for the route',
    options: filter(TYPE.lua),
    route: to('a', '/', { typed_per_filter_config: { f: { '@type': TYPE.filterConfig, disabled: true } } }),
    expect: 'kernel',
  },
  { name: 'a filter that acts where it is configured', options: filter(TYPE.cors), expect: 'kernel' },
  {
    name: 'such a filter, configured for the route',
    options: filter(TYPE.cors),
    route: to('a', '/', {
      typed_per_filter_config: { f: { '@type': 'x/envoy.extensions.filters.http.cors.v3.CorsPolicy' } },
    }),
    expect: 'kernel',
  },
  {
    name: 'a rate limit that is off',
    options: filter(LIMIT, {}),
    route: to('a', '/', { typed_per_filter_config: { f: { '@type': LIMIT, token_bucket: BUCKET } } }),
    expect: 'kernel',
  },
  { name: 'a rate limit', options: filter(LIMIT, {}), route: limited({}), expect: 'kernel' },
  {
    name: 'a rate limit for a share of the requests',
    options: filter(LIMIT, {}),
    route: limited({ filter_enforced: { default_value: { numerator: 50 } } }),
    expect: 'runtime-fraction',
  },
  {
    name: 'a rate limit with headers that tell what is left',
    options: filter(LIMIT, {}),
    route: limited({ enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }),
    expect: 'kernel',
  },
  {
    name: 'such headers where nothing is enforced',
    options: filter(LIMIT, {}),
    route: limited({
      enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
      filter_enforced: { default_value: { numerator: 0 } },
    }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket for each connection',
    options: filter(LIMIT, {}),
    route: limited({ local_rate_limit_per_downstream_connection: true }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket for each value',
    options: filter(LIMIT, {}),
    route: limited({
      rate_limits: [{ actions: [{ request_headers: { header_name: 'x-user', descriptor_key: 'user' } }] }],
      descriptors: [{ entries: [{ key: 'user' }], token_bucket: BUCKET }],
    }),
    expect: 'rate-limit',
  },
  {
    name: 'a bucket that takes centuries to fill',
    options: filter(LIMIT, {}),
    route: limited({ token_bucket: { max_tokens: 1_000_000, fill_interval: '864000s' } }),
    expect: 'rate-limit',
  },
  {
    name: 'a refusal with a computed header',
    options: filter(LIMIT, {}),
    route: limited({ response_headers_to_add: [{ header: { key: 'x-path', value: '%PATH%' } }] }),
    expect: 'header-format',
  },
];
