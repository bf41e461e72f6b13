/** The Gateway API: every filter, on rules and on backends, and every match, for Services and at Gateways. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { type Construct, maybe, several } from './construct.js';
import { mesh, SERVICES } from './istio.js';

const object = (kind: string, name: string, spec: JsonObject): JsonObject => ({
  ...{ apiVersion: 'gateway.networking.k8s.io/v1', kind, metadata: { name, namespace: 'default' }, spec },
});

const modifier = (draw: Draw): JsonObject => ({
  ...maybe(draw, 2, [
    { set: [{ name: 'x-set', value: 'v' }] },
    { set: [{ name: 'X-Env', value: '100% %PROTOCOL%' }] },
    { set: [{ name: 'Host', value: 'set.example' }] },
  ]),
  ...maybe(draw, 2, [
    { add: [{ name: 'x-add', value: 'v' }] },
    { add: [{ name: 'x-env', value: 'more' }] },
    { add: [{ name: 'Vary', value: 'x' }] },
  ]),
  ...maybe(draw, 2, [{ remove: ['x-user'] }, { remove: ['x-powered-by', 'x-env'] }]),
});
const path = (draw: Draw): JsonObject =>
  draw.one<JsonObject>([
    { type: 'ReplaceFullPath', replaceFullPath: draw.one(['/full', '/', '/full/']) },
    { type: 'ReplacePrefixMatch', replacePrefixMatch: draw.one(['/', '/new', '/new/', '', '/deep/er']) },
  ]);
const cors = (draw: Draw): JsonObject => ({
  allowOrigins: [draw.one(['https://app.example', 'https://*.example', '*', 'http://*.test:8080'])],
  ...maybe(draw, 2, [{ allowMethods: ['GET', 'PUT'] }, { allowMethods: ['*'] }]),
  ...maybe(draw, 2, [{ allowHeaders: ['x-user'] }, { allowHeaders: ['*'] }]),
  ...maybe(draw, 3, [{ exposeHeaders: ['x-env'] }]),
  ...maybe(draw, 3, [{ allowCredentials: true }]),
  ...maybe(draw, 3, [{ maxAge: 60 }]),
});

const requestHeaders = (draw: Draw): JsonObject => ({
  type: 'RequestHeaderModifier',
  requestHeaderModifier: modifier(draw),
});
const responseHeaders = (draw: Draw): JsonObject => ({
  type: 'ResponseHeaderModifier',
  responseHeaderModifier: modifier(draw),
});
const mirror = (draw: Draw): JsonObject => ({
  type: 'RequestMirror',
  requestMirror: {
    backendRef: { name: draw.one(SERVICES), port: 80 },
    ...maybe(draw, 2, [{ percent: 50 }, { fraction: { numerator: 1, denominator: 3 } }]),
  },
});

/** Filters of a rule, each type at most once. */
function filters(draw: Draw): JsonObject[] {
  if (draw.below(5) === 0) {
    const requestRedirect: JsonObject = {
      ...maybe(draw, 2, [{ scheme: 'https' }, { scheme: 'http' }]),
      ...maybe(draw, 2, [{ hostname: 'moved.example' }]),
      ...maybe(draw, 2, [{ path: path(draw) }]),
      ...maybe(draw, 3, [{ port: 8443 }, { port: 80 }]),
      ...maybe(draw, 2, [{ statusCode: 301 }, { statusCode: 302 }]),
    };
    return [{ type: 'RequestRedirect', requestRedirect }];
  }
  return [
    ...(draw.below(3) === 0 ? [requestHeaders(draw)] : []),
    ...(draw.below(3) === 0 ? [responseHeaders(draw)] : []),
    ...(draw.below(3) === 0
      ? [
          {
            type: 'URLRewrite',
            urlRewrite: { ...maybe(draw, 2, [{ hostname: 'new.example' }]), ...maybe(draw, 1, [{ path: path(draw) }]) },
          },
        ]
      : []),
    ...(draw.below(5) === 0 ? [{ type: 'CORS', cors: cors(draw) }] : []),
    ...(draw.below(10) === 0 ? [mirror(draw)] : []),
  ];
}

/** One HTTPRouteMatch; a rewritten prefix wants a prefix to be matched. */
const match = (draw: Draw): JsonObject => ({
  path: { type: 'PathPrefix', value: draw.one(['/', '/a', '/a/b', '/x/']) },
  ...maybe(draw, 3, [
    { headers: [{ name: 'x-user', value: 'alice' }] },
    {
      headers: [
        { name: 'X-Env', type: 'RegularExpression', value: 'v[0-9]+' },
        { name: 'x-user', value: 'alice' },
      ],
    },
  ]),
  ...maybe(draw, 3, [
    { queryParams: [{ name: 'a', value: '1' }] },
    {
      queryParams: [
        { name: 'a', type: 'RegularExpression', value: '[0-9]+' },
        { name: 'b', value: '' },
      ],
    },
  ]),
  ...maybe(draw, 5, [{ method: 'GET' }, { method: 'POST' }]),
});
const otherMatch = (draw: Draw): JsonObject => ({
  ...match(draw),
  path: draw.one<JsonObject>([
    { type: 'Exact', value: '/a' },
    { type: 'RegularExpression', value: '/[ab]/.+' },
  ]),
});
const usesPrefix = (list: readonly JsonObject[]): boolean => JSON.stringify(list).includes('ReplacePrefixMatch');

function rule(draw: Draw, service: string): JsonObject {
  const own = filters(draw);
  const redirects = own.some(({ type }) => type === 'RequestRedirect');
  const backend = (): JsonObject => ({
    ...{ name: draw.below(3) === 0 ? draw.one(SERVICES) : service, port: 80 },
    ...(draw.below(6) === 0 && { filters: [draw.one([requestHeaders(draw), responseHeaders(draw)])] }),
  });
  const weighted = draw.below(4) === 0;
  return {
    matches: several(usesPrefix(own) ? 1 : 1 + draw.below(2), () =>
      usesPrefix(own) || draw.below(2) === 0 ? match(draw) : otherMatch(draw),
    ),
    ...(own.length > 0 && { filters: own }),
    ...(!redirects && {
      backendRefs: weighted
        ? [
            { ...backend(), weight: 3 },
            { ...backend(), weight: draw.one([0, 1]) },
          ]
        : [backend()],
    }),
    ...maybe(draw, 6, [{ timeouts: { request: '10s' } }, { timeouts: { request: '10s', backendRequest: '5s' } }]),
  };
}

const HEADERS: readonly (readonly [string, string])[] = [
  ...([
    ['x-user', 'alice'],
    ['x-env', 'v1'],
    ['Origin', 'https://app.example'],
    ['Access-Control-Request-Method', 'PUT'],
  ] as const),
];
const around = {
  headers: HEADERS,
  paths: ['/a', '/a/b', '/a/', '/ab', '/b/c', '/x', '/x/y', '/'],
  queries: ['a=1', 'a=12&b=', 'b=&a=1', 'a=1&a=2'],
};

export const meshRoutes: Construct = {
  share: 0.25,
  make: (draw) => ({
    documents: [
      ...mesh(),
      ...SERVICES.map((service) =>
        object('HTTPRoute', service, {
          parentRefs: [{ group: '', kind: 'Service', name: service, port: 80 }],
          rules: several(1 + draw.below(4), () => rule(draw, service)),
        }),
      ),
    ],
    ...around,
    hosts: SERVICES.flatMap((service) => [service, `${service}.default.svc.cluster.local`]),
  }),
};

const HOSTNAMES = ['shop.example', '*.example', 'api.shop.example', '*.shop.example'];

export const gatewayRoutes: Construct = {
  share: 0.3,
  make: (draw) => ({
    documents: [
      ...mesh(),
      object('Gateway', 'public', {
        gatewayClassName: 'istio',
        listeners: [
          { name: 'any', port: 80, protocol: 'HTTP', ...maybe(draw, 3, [{ hostname: '*.example' }]) },
          { name: 'other', port: 8080, protocol: 'HTTP', hostname: 'shop.example' },
        ],
      }),
      ...SERVICES.map((service, i) =>
        object('HTTPRoute', service, {
          parentRefs: [{ name: 'public', ...maybe(draw, 4, [{ sectionName: 'any' }, { port: 80 }]) }],
          hostnames: [HOSTNAMES[i]!, ...(draw.below(3) === 0 ? [draw.one(HOSTNAMES)] : [])].filter(
            (h, at, all) => all.indexOf(h) === at,
          ),
          rules: several(1 + draw.below(4), () => rule(draw, service)),
        }),
      ),
    ],
    ...around,
    hosts: [
      'shop.example',
      'api.shop.example',
      'x.shop.example',
      'x.example',
      'example',
      'shop.example:80',
      'SHOP.example',
    ],
  }),
};
