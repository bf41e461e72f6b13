/** The bootstrap of the access log tests: every operator that Sidestep writes, in several formats. */
import type { JsonObject } from '../../src/policy/resources.js';

const TYPE = 'type.googleapis.com/envoy.extensions';

/** Operators of the text format, in the order of its columns. */
export const OPERATORS: readonly string[] = [
  'REQ(:METHOD)',
  'REQ(:PATH)',
  'REQ(PATH)',
  'REQ(X-ENVOY-ORIGINAL-PATH?:PATH)',
  'REQ(:AUTHORITY)',
  'REQ(HOST)',
  'REQ(USER-AGENT):7',
  'REQ(X-FORWARDED-FOR)',
  'REQ(X-FORWARDED-PROTO?:SCHEME)',
  'REQ(X-REQUEST-ID)',
  'REQ(X-TWO)',
  'REQ(COOKIE)',
  'REQ(X-ADDED)',
  'REQ(X-ENVOY-EXPECTED-RQ-TIMEOUT-MS)',
  'REQ(NOT-THERE?X-ID)',
  'RESP(CONTENT-TYPE)',
  'RESP(CONTENT-LENGTH)',
  'RESP(LOCATION)',
  'RESP(:STATUS)',
  'RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)',
  'PROTOCOL',
  'RESPONSE_CODE',
  'RESPONSE_CODE_DETAILS',
  'RESPONSE_FLAGS',
  'BYTES_RECEIVED',
  'BYTES_SENT',
  'DURATION',
  'RESPONSE_DURATION',
  'RESPONSE_TX_DURATION',
  'UPSTREAM_HOST',
  'UPSTREAM_CLUSTER',
  'UPSTREAM_CLUSTER_RAW',
  'UPSTREAM_LOCAL_ADDRESS',
  'UPSTREAM_TRANSPORT_FAILURE_REASON',
  'UPSTREAM_PROTOCOL',
  'UPSTREAM_REQUEST_ATTEMPT_COUNT',
  'DOWNSTREAM_REMOTE_ADDRESS',
  'DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT',
  'DOWNSTREAM_DIRECT_REMOTE_ADDRESS',
  'DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT',
  'DOWNSTREAM_LOCAL_ADDRESS',
  'DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT',
  'DOWNSTREAM_LOCAL_PORT',
  'REQUESTED_SERVER_NAME',
  'ROUTE_NAME',
  'CONNECTION_TERMINATION_DETAILS',
  'HOSTNAME',
  'DYNAMIC_METADATA(io.example.users:name)',
  'DYNAMIC_METADATA(envoy.filters.http.ext_authz:user)',
  'DOWNSTREAM_TLS_VERSION',
  'START_TIME',
  'START_TIME(%s.%3f)',
  'START_TIME(%Y/%m/%d %H:%M:%S.%6f %F %T %E6S %%)',
];

/** Operators whose values are milliseconds. */
export const TIMES: readonly string[] = [
  'DURATION',
  'RESPONSE_DURATION',
  'RESPONSE_TX_DURATION',
  'RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)',
];

const operator = (text: string): string => {
  const length = /:\d+$/.exec(text)?.[0] ?? '';
  return `%${text.slice(0, text.length - length.length)}${length}%`;
};

/** The logs, each into the file that `path` gives for its kind. */
export function logs(path: (kind: string) => string): JsonObject[] {
  const text = `%REQ(X-ID)% | ${OPERATORS.map(operator).join(' | ')}\n`;
  const json = {
    id: '%REQ(X-ID)%',
    operators: Object.fromEntries(OPERATORS.map((o) => [o, operator(o)])),
    mixed: 'from %REQ(NOT-THERE)% to %UPSTREAM_CLUSTER% with %RESPONSE_CODE%, 100%%',
    fixed: { number: 7, truth: true, list: ['%PROTOCOL%', 3] },
  };
  const log = (kind: string, config: JsonObject, filter?: JsonObject): JsonObject => ({
    name: 'envoy.access_loggers.file',
    ...(filter ? { filter } : {}),
    typed_config: { '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`, path: path(kind), ...config },
  });
  const above = (default_value: number): JsonObject => ({
    status_code_filter: { comparison: { op: 'GE', value: { default_value, runtime_key: 'log.status' } } },
  });
  return [
    log('text', { log_format: { text_format_source: { inline_string: text } } }),
    log('json', { log_format: { json_format: json } }),
    log('omit', { log_format: { json_format: json, omit_empty_values: true } }),
    log('default', {}),
    log(
      'failures',
      { log_format: { text_format_source: { inline_string: text } } },
      {
        or_filter: {
          filters: [
            above(500),
            { response_flag_filter: { flags: ['DC', 'NR'] } },
            {
              and_filter: {
                filters: [
                  { not_health_check_filter: {} },
                  { duration_filter: { comparison: { op: 'GE', value: { default_value: 0, runtime_key: 'log.ms' } } } },
                  { status_code_filter: { comparison: { value: { default_value: 418, runtime_key: 'log.teapot' } } } },
                ],
              },
            },
          ],
        },
      },
    ),
  ];
}

/** An RBAC filter: a policy is about requests whose x-rbac has that letter (`any`: whose x-rbac says so; '': that have none). */
function rbac(name: string, action: string, policies: Record<string, string>): JsonObject {
  const permission = (letter: string): JsonObject =>
    letter === ''
      ? { not_rule: { header: { name: 'x-rbac', present_match: true } } }
      : { header: { name: 'x-rbac', string_match: { contains: letter } } };
  const all = Object.entries(policies).map(([key, letter]) => [
    key,
    { permissions: [permission(letter)], principals: [{ any: true }] },
  ]);
  return {
    name,
    typed_config: {
      '@type': `${TYPE}.filters.http.rbac.v3.RBAC`,
      rules: { action, policies: Object.fromEntries(all) },
    },
  };
}

/** One listener with these logs, and routes of every kind. */
export function logBootstrap(p: { address: string; port: number; upstream: number; logs: JsonObject[] }): JsonObject {
  const cluster = (name: string): JsonObject => ({
    name,
    connect_timeout: '2s',
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: p.upstream } } } },
          ],
        },
      ],
    },
  });
  const routes: JsonObject[] = [
    { match: { path: '/direct' }, direct_response: { status: 418, body: { inline_string: 'teapot' } } },
    { match: { path: '/bodiless' }, direct_response: { status: 204 } },
    { name: 'moved', match: { prefix: '/old' }, redirect: { prefix_rewrite: '/new' } },
    { match: { prefix: '/elsewhere' }, redirect: { host_redirect: 'other.test', path_redirect: '/there' } },
    { name: 'way', match: { prefix: '/long/way/' }, route: { cluster: 'up', prefix_rewrite: '/' } },
    {
      match: { prefix: '/added/' },
      route: { cluster: 'up', prefix_rewrite: '/', timeout: '5s' },
      request_headers_to_add: [{ header: { key: 'X-Added', value: 'by the route' } }],
    },
    {
      match: { prefix: '/weighted/' },
      route: { weighted_clusters: { clusters: [{ name: 'up', weight: 0 }, { name: 'other', weight: 9 }] }, prefix_rewrite: '/' }, // biome-ignore format: short
    },
    { name: 'slow', match: { prefix: '/slow/' }, route: { cluster: 'up', timeout: '0.5s', prefix_rewrite: '/' } },
    {
      match: { prefix: '/again/' },
      route: { cluster: 'up', prefix_rewrite: '/', retry_policy: { retry_on: 'reset', num_retries: 2 } },
    },
    { name: 'all', match: { prefix: '/' }, route: { cluster: 'up' } },
  ];
  const manager = {
    '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'test',
    access_log: p.logs,
    route_config: { name: 'routes', virtual_hosts: [{ name: 'some', domains: ['load.test'], routes }] },
    http_filters: [
      {
        name: 'envoy.filters.http.fault',
        typed_config: {
          '@type': `${TYPE}.filters.http.fault.v3.HTTPFault`,
          abort: { http_status: 555, percentage: { numerator: 100, denominator: 'HUNDRED' } },
          headers: [{ name: 'x-fault', present_match: true }],
        },
      },
      rbac('denied', 'DENY', { 'z last': 'any', 'a\tpolicy of two': 'a', 'ns[x]-policy[y]-rule[0]': 'b' }),
      rbac('allowed', 'ALLOW', { good: 'c', any: '' }),
      { name: 'envoy.filters.http.router', typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` } },
    ],
  };
  return {
    static_resources: {
      listeners: [
        {
          name: 'test',
          address: { socket_address: { address: p.address, port_value: p.port } },
          filter_chains: [
            { filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] },
          ],
        },
      ],
      clusters: [cluster('up'), cluster('other')],
    },
  };
}
