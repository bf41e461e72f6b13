/** Odd bits of Envoy configuration, each with a name; the agreement test asks the real Envoy about each of them. */
export interface Probe {
  readonly name: string;
  readonly text: string;
  readonly syntax?: 'yaml' | 'json';
  /** we refuse what Envoy takes, on purpose: why */
  readonly stricter?: string;
}

const cluster = (fields: string): string =>
  `static_resources:\n  clusters:\n  - name: c\n    type: STATIC\n    connect_timeout: 1s\n    ${fields}\n`;
const send = (value: string): string =>
  `health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {send: {binary: "${value}"}}}]`;
const raw = 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer';
const socket = (config: string): string => `transport_socket: {name: x, typed_config: ${config}}`;

const FIELDS: readonly (readonly [string, ...string[]])[] = [
  [
    'per_connection_buffer_limit_bytes',
    ...['yes', '"5"', '5.0', '5.5', '1e3', '"0x10"', '0x10', '0X1f', '010', '0o10', '09', '+5', '"+5"', '1_000', '-1'],
    ...['-0', '0b1', '5000000000', '4294967295', '{value: 3}', '{}', '{value: 3, x: 1}', '{value: null}', 'null', '~'],
    ...['[5]', '[]', '" 5"', '""', '0x', '"5 "', '1.', '.5e1', '18446744073709551616', '!!int "5"', '! 5', '- 5'],
  ],
  [
    'alt_stat_name',
    '5',
    '1.20',
    'true',
    '"true"',
    '{}',
    '[a]',
    '~',
    '!!str 5',
    '!foo bar',
    '0x',
    'y',
    '"y"',
    '! 5',
    '.5',
  ],
  ['alt_stat_name', '|\n      true', '>-\n      5', "'it''s'", '"\\u00e9"', '99999999999999999999', '9007199254740993'],
  [
    'ignore_health_on_host_removal',
    ...['on', 'Off', '"true"', '"yes"', '"1"', '1', 'True', 'tRue', 'y', 'N', '"True"', '""', '{}', 't', '"on"', 'oN'],
    ...['{value: true}', '[true]', '0'],
  ],
  [
    'lb_policy',
    'round_robin',
    'Least_Request',
    '1',
    '"1"',
    '99',
    'BAD',
    '1.0',
    'true',
    'round-robin',
    '""',
    '{}',
    '0x1',
    '-1',
  ],
  [
    'dns_refresh_rate',
    ...[
      '1s',
      '1.5s',
      '100ms',
      '1m',
      '5',
      '.5s',
      '1.s',
      '+1s',
      '1.0000000001s',
      '{seconds: 1}',
      '-1s',
      '-0s',
      '""',
      's',
    ],
    ...['{seconds: 1, nanos: 50000000}', '{}', '" 1s"', '1 s', '1e1s', '1S', '0.000000001s', '0s', '01s', '[1s]'],
    ...['{seconds: "1"}', '315576000001s', '0.0001s', '9223372036s', '{nanos: -1}'],
  ],
  [
    'preconnect_policy',
    ...[
      '.nan',

      '1.5',
      '"1.5"',
      '1.5e0',
      '0x1.8p0',
      '5.0',
      '"0x1.8p0"',
      '1,5',
      'Infinity',
      '.inf',
      '1_5',
      '+1.5',
    ].map((value) => `{per_upstream_preconnect_ratio: ${value}}`),
  ],
  ['outlier_detection', '""', 'null', 'foo', '{}', '5', '[]', '[{}]', 'true'],
  ['cluster_type', 'null', '{name: x}'],
  [
    'metadata',
    ...[
      '{a: null}',
      '{a: foo}',
      '{a: {b: 1}, a: {b: 2}}',
      '{a: {b: [1, x, {c: ~}]}}',
      '{1: {}}',
      '{a: 5}',
      '{a: []}',
    ].map((value) => `{filter_metadata: ${value}}`),
  ],
];

const YAML: readonly Probe[] = [
  {
    name: 'not a number',
    text: cluster('preconnect_policy: {per_upstream_preconnect_ratio: NaN}'),
    stricter: 'it is neither in nor out of the range',
  },
  { name: 'camel case', text: cluster('lbPolicy: RANDOM') },
  { name: 'the last of two equal keys', text: cluster('lb_policy: BAD\n    lb_policy: RANDOM') },
  { name: 'the last of two equal keys, wrong', text: cluster('lb_policy: RANDOM\n    lb_policy: BAD') },
  {
    name: 'two spellings',
    text: cluster('lb_policy: RANDOM\n    lbPolicy: RANDOM'),
    stricter: 'which of the two counts is left to chance',
  },
  { name: '!ignore as a name', text: cluster('"!ignore": RANDOM') },
  { name: '!ignore as a tag', text: '!ignore x: &p {name: c}\nstatic_resources: {clusters: [*p]}\n' },
  { name: 'unknown field', text: cluster('foo: 1') },
  { name: 'unknown field, null', text: cluster('foo: null') },
  { name: 'an object for a list', text: 'static_resources:\n  clusters:\n    name: c\n' },
  { name: 'null in a list', text: 'static_resources:\n  clusters:\n  - null\n' },
  {
    name: 'scalar null in a list',
    text: 'node: {client_features: [~]}',
    stricter: 'an empty string out of nothing is a mistake',
  },
  { name: 'empty object', text: '{}' },
  { name: 'alias', text: cluster('alt_stat_name: &x foo\n    metadata: {filter_metadata: {a: {b: *x}}}') },
  { name: 'merge key', text: 'node: &n {id: a}\nstatic_resources:\n  clusters:\n  - name: c\n    <<: *n\n' },
  { name: 'oneof twice', text: cluster('cluster_type: {name: x}') },
  { name: 'base64', text: cluster(send('aGVsbG8=')) },
  { name: 'base64 without padding', text: cluster(send('aGVsbG8')) },
  { name: 'base64 for URLs', text: cluster(send('_-8=')) },
  { name: 'no base64', text: cluster(send('!!')) },
  { name: 'base64 too short', text: cluster(send('a')) },
  { name: 'extension', text: cluster(socket(`{"@type": type.googleapis.com/${raw}}`)) },
  { name: 'extension of another host', text: cluster(socket(`{"@type": foo/${raw}}`)) },
  { name: 'extension without a host', text: cluster(socket(`{"@type": ${raw}}`)) },
  { name: 'extension, unknown field', text: cluster(socket(`{"@type": type.googleapis.com/${raw}, foo: 1}`)) },
  { name: 'extension of no type', text: cluster(socket('{a: b}')) },
  { name: 'extension of unknown type', text: cluster(socket('{"@type": type.googleapis.com/envoy.Foo}')) },
  { name: 'extension that is text', text: cluster(socket('foo')) },
  { name: 'two equal clusters', text: 'static_resources: {clusters: [{name: c}, {name: c}]}' },
  { name: 'a cluster without a name', text: 'static_resources: {clusters: [{type: STATIC}]}' },
  { name: 'EDS without a source', text: 'static_resources: {clusters: [{name: c, type: EDS}]}' },
  {
    name: 'an endpoint that is a name',
    text: cluster(
      'load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 80}}}}]}]}',
    ),
  },
  {
    name: 'an endpoint without a port',
    text: cluster(
      'load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1}}}}]}]}',
    ),
  },
];

const json = (fields: string): string => `{"static_resources":{"clusters":[{"name":"c","type":"STATIC",${fields}}]}}`;
const JSONS: readonly Probe[] = [
  ...['"alt_stat_name":5', '"alt_stat_name":1.20', '"ignore_health_on_host_removal":"yes"', '"foo":1'],
  ...['"ignore_health_on_host_removal":1', '"lb_policy":"round_robin"', '"lb_policy":1', '"lb_policy":1.0'],
  ...['5.0', '1e3', '"5"', '"5.0"', '{"value":5}', '5.5', 'true'].map(
    (v) => `"per_connection_buffer_limit_bytes":${v}`,
  ),
].map((fields): Probe => ({ name: `json ${fields}`, text: json(fields), syntax: 'json' }));
const ODD_JSON: readonly Probe[] = [
  { name: 'json trailing comma', text: '{"node":{"id":"a"},}', syntax: 'json', stricter: 'not JSON' },
  { name: 'json single quotes', text: "{'node':{'id':'a'}}", syntax: 'json', stricter: 'not JSON' },
  { name: 'yaml in a .json file', text: 'node: {id: a}', syntax: 'json' },
];

const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const ROUTER =
  '{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}';

/** A whole bootstrap around virtual hosts and HTTP filters, both in flow style. */
export function bootstrapWith(vhosts: string, filters = ROUTER, manager = 'stat_prefix: x'): string {
  return `static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config: {"@type": ${HCM}, ${manager}, route_config: {name: r, virtual_hosts: [${vhosts}]}, http_filters: [${filters}]}
  clusters: [{name: a}]
`;
}

const route = (text: string): string => bootstrapWith(`{name: v, domains: ["*"], routes: [${text}]}`);
const to = (match: string): string => route(`{match: {${match}}, route: {cluster: a}}`);
const action = (text: string): string => route(`{match: {prefix: /}, ${text}}`);
const domains = (text: string): string => bootstrapWith(`{name: v, domains: ${text}}`);
const rbac = (text: string): string =>
  `{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, ${text}}}, ${ROUTER}`;
const empty = '{name: v, domains: ["*"]}';

const LIMIT = 'type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';
const bucket = 'token_bucket: {max_tokens: 10, fill_interval: 1s}';
const struct = (text: string, type = 'xds.type.v3'): string =>
  `{name: l, typed_config: {"@type": type.googleapis.com/${type}.TypedStruct, ${text}}}, ${ROUTER}`;
const valued = (value: string, url = LIMIT): string => `type_url: ${url}, value: ${value}`;

/** Extensions in a TypedStruct, and without a type. */
const STRUCTS: readonly (readonly [string, string])[] = [
  ['a struct', struct(valued(`{stat_prefix: x, ${bucket}}`))],
  ['the older one', struct(valued(`{stat_prefix: x, ${bucket}}`), 'udpa.type.v1')],
  ['one that never was', struct(valued(`{stat_prefix: x, ${bucket}}`), 'xds.type.v1')],
  ['camel case', struct(`typeUrl: ${LIMIT}, value: {statPrefix: x}`)],
  ['a URL without a slash', struct(valued('{stat_prefix: x}', LIMIT.slice('type.googleapis.com/'.length)))],
  ['an unknown type', struct(valued('{stat_prefix: x}', `${LIMIT}s`))],
  ['no URL', struct('value: {stat_prefix: x}')],
  ['a struct in a struct', struct(valued(`{${valued('{stat_prefix: x}')}}`, 'type.googleapis.com/xds.type.v3.TypedStruct'))],
  ['an unknown field in it', struct(valued('{stat_prefix: x, nope: 1}'))],
  ['an unknown field beside it', struct(`${valued('{stat_prefix: x}')}, nope: 1`)],
  ['a type in it', struct(valued(`{stat_prefix: x, "@type": ${LIMIT}}`))],
  ['what its type refuses', struct(valued('{stat_prefix: ""}'))],
  ['odd scalars in it', struct(valued('{stat_prefix: 1.20, token_bucket: {max_tokens: "10", fill_interval: 1s}}'))],
  ['no value', struct(valued('~'))],
  ['a list', struct(valued('[]'))],
  ['a router without a type', '{name: envoy.filters.http.router, typed_config: {}}'],
]; // biome-ignore format: one a line

const HTTP: readonly Probe[] = [
  { name: 'a route', text: to('prefix: /') },
  { name: 'no router', text: bootstrapWith(empty, '') },
  { name: 'router not last', text: bootstrapWith(empty, `${ROUTER}, ${ROUTER}`) },
  { name: 'unknown cluster', text: action('route: {cluster: b}') },
  ...[1, 2].flatMap((n): Probe[] => {
    const type = '"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig';
    const cors = '{"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy}';
    const inner = n === 1 ? cors : `{${type}, config: ${cors}}`;
    const own = `typed_per_filter_config: {c: {${type}, config: ${inner}}}`;
    return [
      { name: `${n} FilterConfigs on a route`, text: action(`route: {cluster: a}, ${own}`) },
      { name: `${n} FilterConfigs on a virtual host`, text: bootstrapWith(`{name: v, domains: ["*"], ${own}}`) },
      {
        name: `${n} FilterConfigs on a weighted cluster`,
        text: action(`route: {weighted_clusters: {clusters: [{name: a, weight: 1, ${own}}]}}`),
      },
    ];
  }),
  { name: 'unknown mirror', text: action('route: {cluster: a, request_mirror_policies: [{cluster: b}]}') },
  { name: 'unknown weighted', text: action('route: {weighted_clusters: {clusters: [{name: b, weight: 1}]}}') },
  { name: 'weights of 0', text: action('route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}') },
  {
    name: 'weights',
    text: action('route: {weighted_clusters: {clusters: [{name: a, weight: 0}, {name: a, weight: 1}]}}'),
  },
  { name: 'equal domains', text: domains('[a.com, A.com]') },
  { name: 'two wildcards', text: domains('["*", "*"]') },
  { name: 'no domain', text: domains('[]') },
  { name: 'equal virtual hosts', text: bootstrapWith('{name: v, domains: [a]}, {name: v, domains: [b]}') },
  { name: 'regex of any byte', text: to("safe_regex: {regex: '/\\C'}") },
  { name: 'regex with lookahead', text: to('safe_regex: {regex: "/(?=a)"}') },
  { name: 'regex with backreference', text: to("safe_regex: {regex: '/(a)\\1'}") },
  { name: 'regex open', text: to('safe_regex: {regex: "/("}') },
  { name: 'regex with named group', text: to("safe_regex: {regex: '/(?P<a>x)(?<b>y)'}") },
  { name: 'regex repeated too often', text: to('safe_regex: {regex: "/a{1001}"}') },
  { name: 'regex classes', text: to("safe_regex: {regex: '/[[:alpha:]]\\pL\\Q.\\E\\z'}") },
  { name: 'empty regex', text: to('safe_regex: {regex: ""}') },
  { name: 'filter without configuration', text: bootstrapWith(empty, `{name: envoy.filters.http.rbac}, ${ROUTER}`) },
  { name: 'no action', text: route('{match: {prefix: /}}') },
  { name: 'no match', text: route('{match: {}, route: {cluster: a}}') },
  { name: 'match null', text: route('{match: ~, route: {cluster: a}}') },
  { name: 'two actions', text: route('{match: {prefix: /}, route: {cluster: a}, direct_response: {status: 200}}') },
  { name: 'two matches', text: to('prefix: /, path: /a') },
  {
    name: 'two rewrites',
    text: action('route: {cluster: a, prefix_rewrite: /x, regex_rewrite: {pattern: {regex: a}, substitution: x}}'),
  },
  { name: 'removing host', text: action('request_headers_to_remove: [host], route: {cluster: a}') },
  {
    name: 'adding :path',
    text: action('request_headers_to_add: [{header: {key: ":path", value: x}}], route: {cluster: a}'),
  },
  {
    name: 'a bad header name',
    text: action('request_headers_to_add: [{header: {key: "a b", value: x}}], route: {cluster: a}'),
  },
  {
    name: 'no header name',
    text: action('request_headers_to_add: [{header: {key: "", value: x}}], route: {cluster: a}'),
  },
  { name: 'a line break in a redirect', text: action('redirect: {host_redirect: "a\\nb"}') },
  { name: 'status 99', text: action('direct_response: {status: 99}') },
  { name: 'status 600', text: action('direct_response: {status: 600}') },
  { name: 'prefix with a final slash', text: to('path_separated_prefix: /a/') },
  { name: 'path-separated prefix', text: to('path_separated_prefix: /a') },
  { name: 'negative timeout', text: action('route: {cluster: a, timeout: -1s}') },
  { name: 'stat_prefix missing', text: bootstrapWith(empty, ROUTER, 'stat_prefix: ""') },
  { name: 'codec 5', text: bootstrapWith(empty, ROUTER, 'stat_prefix: x, codec_type: 5') },
  {
    name: 'removed field',
    text: action(
      'route: {cluster: a, rate_limits: [{actions: [{dynamic_metadata: {descriptor_key: x, metadata_key: {key: a, path: [{key: b}]}}}]}]}',
    ),
  },
  {
    name: 'RBAC',
    text: bootstrapWith(empty, rbac('rules: {policies: {p: {permissions: [{any: true}], principals: [{any: true}]}}}')),
  },
  {
    name: 'RBAC without principals',
    text: bootstrapWith(empty, rbac('rules: {policies: {p: {permissions: [{any: true}]}}}')),
  },
  {
    name: 'RBAC any: false',
    text: bootstrapWith(
      empty,
      rbac('rules: {policies: {p: {permissions: [{any: false}], principals: [{any: true}]}}}'),
    ),
  },
  ...STRUCTS.map(([name, filters]) => ({ name: `TypedStruct: ${name}`, text: bootstrapWith(empty, filters) })),
  { name: 'RBAC action 7', text: bootstrapWith(empty, rbac('rules: {action: 7, policies: {}}')) },
  {
    name: 'RBAC bad range',
    text: bootstrapWith(
      empty,
      rbac(
        'rules: {policies: {p: {permissions: [{any: true}], principals: [{remote_ip: {address_prefix: x, prefix_len: 8}}]}}}',
      ),
    ),
  },
  {
    name: 'RBAC prefix 129',
    text: bootstrapWith(
      empty,
      rbac(
        'rules: {policies: {p: {permissions: [{any: true}], principals: [{remote_ip: {address_prefix: "::", prefix_len: 129}}]}}}',
      ),
    ),
  },
  {
    name: 'no filter chain',
    text: 'static_resources: {listeners: [{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}}]}',
  },
  { name: 'a listener at a name', text: bootstrapWith(empty).replace('127.0.0.1', 'localhost') },
  { name: 'port 65536', text: bootstrapWith(empty).replace('port_value: 0', 'port_value: 65536') },
];

/** Fields of a cluster with odd values, one each. */
export const CLUSTER_FIELDS: readonly string[] = FIELDS.flatMap(([field, ...values]) =>
  values.map((value) => `${field}: ${value}`),
);

export const PROBES: readonly Probe[] = [
  ...CLUSTER_FIELDS.map((field): Probe => ({ name: field, text: cluster(field) })),
  ...YAML,
  ...JSONS,
  ...ODD_JSON,
  ...HTTP,
];
