/** Routes for requests of HTTP/2, gRPC's among them, and such requests: what a GRPCRoute comes to, combined with the rest. */
import type http2 from 'node:http2';
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { edits, headerMatch, queryMatch } from './combined.js';
import { maybe, several, typed } from './construct.js';

/** Clusters of `H2World`. */
const SERVERS = ['one', 'two'] as const;

const STRINGS: readonly JsonObject[] = [
  { path: '/shop.Cart/Add' },
  { prefix: '/shop.Cart/' },
  { prefix: '/shop.' },
  { safe_regex: { regex: '/[^/]+/Add' } },
  { safe_regex: { regex: '/shop\\.[A-Z][a-z]+/(Add|Get)' } },
  { path_separated_prefix: '/shop.Cart' },
  { path: '/SHOP.cart/add', case_sensitive: false },
  { prefix: '/' },
  { prefix: '/a' },
];

function forward(draw: Draw, regex: boolean): JsonObject {
  const shares = draw.one([
    [1, 0],
    [0, 1],
    [100, 0],
  ]);
  return {
    ...(draw.below(4) === 0
      ? { weighted_clusters: { clusters: SERVERS.map((name, i) => ({ name, weight: shares[i]! })) } }
      : { cluster: draw.one(SERVERS) }),
    timeout: draw.one(['0s', '0s', '20s', '47.5s']),
    ...draw.one<() => JsonObject>([
      () => ({}),
      () => ({}),
      () => (regex ? {} : { prefix_rewrite: draw.one(['/', '/n/', '/n?x=1', '/shop.']) }),
      () => ({
        regex_rewrite: { pattern: { regex: '([a-z]+)\\.' }, substitution: draw.one(['\\1/', 'n.', '']) },
      }),
    ])(),
    ...maybe(draw, 4, [{ host_rewrite_literal: 'n.test' }, { append_x_forwarded_host: true }]),
    ...maybe(draw, 4, [
      { max_grpc_timeout: draw.one(['0s', '40s']) },
      {
        max_stream_duration: draw.one<JsonObject>([
          {},
          { max_stream_duration: '30s' },
          { max_stream_duration: '0s' },
          { grpc_timeout_header_max: '50s' },
          { grpc_timeout_header_max: '0s', max_stream_duration: '60s' },
        ]),
      },
      { max_stream_duration: { grpc_timeout_header_max: '50s', grpc_timeout_header_offset: '1s' } },
    ]),
    ...maybe(draw, 4, [{ idle_timeout: '0s' }, { idle_timeout: '50s' }]),
    ...maybe(draw, 3, [
      {
        retry_policy: {
          retry_on: draw.one([
            'unavailable',
            'cancelled,5xx',
            '5xx,reset',
            'retriable-status-codes',
            'refused-stream',
            'deadline-exceeded',
          ]),
          num_retries: draw.one([1, 2, 0]),
          retriable_status_codes: [404, 503],
          retry_back_off: { base_interval: '0.002s', max_interval: '0.01s' },
          ...maybe(draw, 4, [{ per_try_timeout: '20s' }]),
        },
      },
    ]),
  };
}

function route(draw: Draw): JsonObject {
  const match = {
    ...draw.one(STRINGS),
    ...(draw.below(3) === 0 && { headers: several(1 + draw.below(2), () => headerMatch(draw)) }),
    ...(draw.below(8) === 0 && { query_parameters: [queryMatch(draw)] }),
    ...maybe(draw, 4, [{ grpc: {} }]),
  };
  const own = {
    match,
    ...(draw.below(3) === 0 ? edits(draw, 2) : {}),
    ...maybe(draw, 10, [{ name: 'named' }, { decorator: { operation: 'op' } }]),
  };
  switch (draw.below(10)) {
    case 0:
      return {
        ...own,
        direct_response: {
          status: draw.one([200, 400, 404, 503, 429]),
          ...maybe(draw, 2, [{ body: { inline_string: draw.one(['no', 'é', '% "\\']) } }]),
        },
      };
    case 1:
      return { ...own, redirect: { path_redirect: '/n' } };
    default:
      return { ...own, route: forward(draw, 'safe_regex' in match) };
  }
}

/** Fields of the connection manager, of its one virtual host, and routes of which each group is under a host of its own. */
export function streamPolicies(draw: Draw): { hcm: JsonObject; host: JsonObject; routes: JsonObject[] } {
  const rbac = {
    rules: {
      action: draw.one(['ALLOW', 'DENY']),
      policies: {
        p: {
          permissions: [
            draw.one<JsonObject>([
              { url_path: { path: { prefix: '/shop.' } } },
              { header: { name: 'x-user', present_match: true } },
              { any: true },
            ]),
          ],
          principals: [{ any: true }],
        },
      },
    },
  };
  const router = {
    name: 'envoy.filters.http.router',
    typed_config: typed('router.v3.Router', maybe(draw, 4, [{ suppress_envoy_headers: true }])),
  };
  return {
    hcm: {
      ...maybe(draw, 3, [{ normalize_path: true }, { merge_slashes: true, normalize_path: true }]),
      ...maybe(draw, 6, [
        { strip_any_host_port: true },
        { generate_request_id: false },
        { preserve_external_request_id: true },
      ]),
      http_filters: [
        ...(draw.below(3) === 0 ? [{ name: 'rbac', typed_config: typed('rbac.v3.RBAC', rbac) }] : []),
        router,
      ],
    },
    host: {
      ...(draw.below(4) === 0 ? edits(draw, 2) : {}),
      ...maybe(draw, 4, [{ include_request_attempt_count: true }]),
      ...maybe(draw, 6, [{ retry_policy: { retry_on: 'unavailable,reset', num_retries: 1 } }]),
    },
    routes: [...several(1 + draw.below(6), () => route(draw)), { match: { prefix: '/' }, route: forward(draw, false) }],
  };
}

const PATHS = [
  '/shop.Cart/Add',
  '/shop.Cart/Get',
  '/shop.Cart',
  '/SHOP.Cart/Add',
  '/shop.Other/Add?q=1',
  '/a',
  '/a/b?q=alice',
  '/',
  '/shop.Cart//Add',
  '/shop.Cart/../a',
  '/shop.Cart/%41dd',
  '/shop.Cart/Add?',
  '/\u00e9',
];
const TIMES = [
  '40S',
  '30000m',
  '1M',
  '1H',
  '0S',
  '99999999S',
  '100000000S',
  '25000000u',
  '30s',
  '',
  '5X',
  ' 30S',
  '-1S',
  '050S',
];
const LINES: readonly (readonly [string, string])[] = [
  ['x-user', 'alice'],
  ['x-user', ''],
  ['x-user', 'Alice'],
  ['x-m', '0'],
  ['x-other', '-1'],
  ['cookie', 'a=b; c=d'],
  ['accept', '*/*'],
  ['x-forwarded-proto', 'https'],
  ['x-request-id', 'mine'],
  ['user-agent', 'grpc-node/1'],
  ['grpc-encoding', 'gzip'],
  ['grpc-accept-encoding', 'gzip'],
  ['x-envoy-upstream-rq-timeout-ms', '20000'],
  ['x-envoy-retry-on', '5xx'],
  ['x-long', 'v'.repeat(1500)],
  [`x-${'n'.repeat(200)}`, '1'],
];

/** What tries of one request get, as in `Tries`: mostly an answer at once. */
const PLANS = [
  'ok',
  'ok',
  'ok',
  's503,ok',
  's404,ok',
  'g14,ok',
  'g1,g14,ok',
  'reset8,ok',
  'reset7,ok',
  's500',
  'h14',
  'late',
  'g4,ok',
  'limited,ok',
];

/** A request; `x-id` says which one to the servers. */
export function streamRequest(draw: Draw): { headers: http2.OutgoingHttpHeaders; body: Buffer | undefined } {
  const grpc = draw.below(3) > 0;
  const headers: http2.OutgoingHttpHeaders = {
    ':method': grpc
      ? draw.one(['POST', 'POST', 'POST', 'GET'])
      : draw.one(['GET', 'POST', 'PUT', 'HEAD', 'OPTIONS', 'DELETE', 'PURGE']),
    ':path': draw.one(PATHS),
    ...(draw.below(3) > 0 && { ':authority': draw.one(['h', 'H', 'h:80', 'h.test:8080', 'x.test', 'h.']) }),
    ...(grpc && {
      'content-type': draw.one([
        'application/grpc',
        'application/grpc',
        'application/grpc+proto',
        'application/grpc-web',
        'application/grpcx',
        'Application/Grpc',
      ]),
    }),
    ...(grpc && draw.below(4) > 0 && { te: 'trailers' }),
    ...(draw.below(4) === 0 && { 'grpc-timeout': draw.one(TIMES) }),
    'x-plan': draw.one(PLANS),
  };
  for (const [name, value] of LINES) {
    if (draw.below(name.startsWith('x-envoy-') ? 25 : 9) > 0) continue;
    const there = headers[name];
    // some lines are there twice
    headers[name] = there === undefined || name === 'user-agent' ? value : [String(there), value];
  }
  const method = headers[':method'];
  const bodiless = method === 'GET' || method === 'HEAD' || method === 'OPTIONS' || method === 'DELETE';
  const body = bodiless || draw.below(4) === 0 ? undefined : Buffer.alloc(draw.one([0, 1, 20, 3000]), 'b');
  return { headers, body };
}
