/** Istio's documents: routes, authorization, tokens, claims at gateways, balancing with outlier detection. */
import type { JsonObject } from '../../../src/policy/resources.js';
import { setOf } from '../../plan/jwt-keys.js';
import type { Draw } from '../../wild/damage.js';
import { type Construct, maybe, several, some } from './construct.js';
import { ISSUERS, keys, placed, tokens } from './jwt.js';

export const SERVICES = ['s0', 's1', 's2', 's3'] as const;
const VERSIONS = ['v1', 'v2'];

const document = (
  apiVersion: string,
  kind: string,
  name: string,
  spec: JsonObject,
  namespace = 'default',
): JsonObject => ({
  ...{ apiVersion, kind, metadata: { name, namespace }, spec },
});
export const networking = (kind: string, name: string, spec: JsonObject, namespace?: string): JsonObject =>
  document('networking.istio.io/v1', kind, name, spec, namespace);
const security = (kind: string, name: string, spec: JsonObject, namespace?: string): JsonObject =>
  document('security.istio.io/v1', kind, name, spec, namespace);

/** Services with two versions each, and a gateway. */
export function mesh(): JsonObject[] {
  const service = (name: string, i: number, namespace: string, selector: JsonObject, ports: JsonObject[]): JsonObject =>
    document('v1', 'Service', name, { clusterIP: `10.96.0.${i + 1}`, selector, ports }, namespace);
  return [
    ...SERVICES.map((name, i) =>
      service(name, i, 'default', { app: name }, [{ name: 'http', port: 80, targetPort: 8080 }]),
    ),
    service('istio-ingressgateway', 99, 'istio-system', { istio: 'ingressgateway' }, [
      { name: 'http2', port: 80, targetPort: 8080 },
    ]),
    ...SERVICES.flatMap((name, i) =>
      VERSIONS.map((version, v) => ({
        ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
        metadata: {
          name: `${name}-${version}`,
          namespace: 'default',
          labels: { 'kubernetes.io/service-name': name, app: name, version },
        },
        endpoints: [{ addresses: [`10.1.${i}.${v + 1}`] }],
        ports: [{ name: 'http', port: 8080 }],
      })),
    ),
  ];
}

const HOSTS = SERVICES.flatMap((name) => [name, `${name}.default`, `${name}.default.svc.cluster.local`, `${name}:80`]);
const PATHS = ['/a', '/a/b', '/b/7', '/', '/login', '/x.html'];
const HEADERS: readonly (readonly [string, string])[] = [
  ...([
    ['x-user', 'alice'],
    ['x-env', 'v1'],
    ['cookie', 'user=jason'],
    ['x-no', 'yes'],
    ['Origin', 'https://app.example'],
  ] as const),
  ['Access-Control-Request-Method', 'PUT'],
];

const match = (draw: Draw): JsonObject =>
  draw.one<JsonObject>([{ exact: 'alice' }, { prefix: 'al' }, { regex: 'a.*e|v[0-9]' }, { regex: '*' }, {}]);

/** An HTTPMatchRequest. */
function request(draw: Draw): JsonObject {
  return {
    ...maybe(draw, 1, [
      ...[
        { uri: { exact: '/a' } },
        { uri: { prefix: '/a' } },
        { uri: { regex: '/[ab]/.*' } },
        { uri: { prefix: '/' } },
      ],
      { uri: { prefix: '/A' }, ignoreUriCase: true },
    ]),
    ...maybe(draw, 3, [
      { headers: { 'x-user': match(draw) } },
      { headers: { 'x-env': match(draw), cookie: { regex: '.*user=j.*' } } },
    ]),
    ...maybe(draw, 4, [{ withoutHeaders: { 'x-no': match(draw) } }]),
    ...maybe(draw, 4, [
      { queryParams: { a: draw.one([{ exact: '1' }, { regex: '[0-9]+' }, { prefix: '1' }, { exact: '' }]) } },
    ]),
    ...maybe(draw, 6, [{ method: { exact: 'GET' } }, { method: { regex: 'P.*' } }]),
    ...maybe(draw, 8, [
      { authority: { prefix: 's1' } },
      { scheme: { exact: 'http' } },
      { port: 80 },
      { port: 81 },
      { sourceNamespace: 'default' },
    ]),
  };
}

const headersOperation = (draw: Draw): JsonObject => ({
  ...maybe(draw, 2, [{ set: { 'x-set': 'v', 'X-Env': 'new' } }, { set: { host: 'set.example' } }]),
  ...maybe(draw, 2, [{ add: { 'x-add': 'v' } }]),
  ...maybe(draw, 2, [{ remove: ['x-user'] }, { remove: ['x-powered-by'] }]),
});

/** An HTTPRoute of a VirtualService for this service. */
function route(draw: Draw, service: string): JsonObject {
  const destination = (subset?: string): JsonObject => ({
    host: draw.below(4) === 0 ? draw.one(SERVICES) : service,
    ...(subset && { subset }),
  });
  const shared: JsonObject = {
    ...maybe(draw, 3, [
      { headers: { request: headersOperation(draw) } },
      { headers: { response: headersOperation(draw) } },
    ]),
    ...maybe(draw, 5, [
      {
        corsPolicy: {
          allowOrigins: [draw.one([{ exact: 'https://app.example' }, { regex: 'https://.*' }])],
          allowMethods: ['GET', 'PUT'],
          ...maybe(draw, 2, [
            { allowHeaders: ['x-user'], maxAge: '24h', allowCredentials: true },
            { exposeHeaders: ['x-env'], unmatchedPreflights: 'IGNORE' },
          ]),
        },
      },
    ]),
    ...maybe(draw, 8, [
      { fault: { abort: { httpStatus: 418, percentage: { value: draw.one([0, 50, 100]) } } } },
      { mirror: { host: 's3' } },
    ]),
    ...maybe(draw, 6, [{ timeout: '10s' }, { retries: { attempts: 2, retryOn: '5xx' } }, { retries: { attempts: 0 } }]),
  };
  switch (draw.below(6)) {
    case 0:
      return {
        redirect: {
          ...maybe(draw, 2, [{ uri: '/moved' }, { uri: '%PREFIX()%/moved' }]),
          ...maybe(draw, 2, [{ authority: 'moved.example' }]),
          ...maybe(draw, 3, [{ scheme: 'https' }, { port: 8443 }, { derivePort: 'FROM_REQUEST_PORT' }]),
          ...maybe(draw, 2, [{ redirectCode: 308 }, { redirectCode: 302 }]),
        },
      };
    case 1:
      return {
        directResponse: { status: draw.one([200, 404, 503]), ...maybe(draw, 2, [{ body: { string: 'direct' } }]) },
        ...maybe(draw, 4, [{ headers: { response: headersOperation(draw) } }]),
      };
    case 2:
      return {
        ...shared,
        route: [
          { destination: destination('v1'), weight: draw.one([100, 80, 50]) },
          {
            destination: destination('v2'),
            weight: draw.one([0, 20]),
            ...maybe(draw, 2, [{ headers: { request: headersOperation(draw) } }]),
          },
        ],
      };
    default:
      return {
        ...shared,
        ...maybe(draw, 3, [
          ...[{ rewrite: { uri: '/new' } }, { rewrite: { uri: '/' } }, { rewrite: { authority: 'new.example' } }],
          ...[
            { rewrite: { uriRegexRewrite: { match: '/([a-z])/(.*)', rewrite: '/\\2/\\1' } } },
            { rewrite: { uriRegexRewrite: { match: '[0-9]', rewrite: 'N' } } },
          ],
        ]),
        route: [{ destination: destination() }],
      };
  }
}

const subsets = (service: string, policy: JsonObject): JsonObject =>
  networking('DestinationRule', service, {
    ...{ host: service, trafficPolicy: policy },
    subsets: VERSIONS.map((version) => ({ name: version, labels: { version } })),
  });

/** Balancing with what ends it: outlier detection by failures in a row, with bounds. */
const policy = (draw: Draw): JsonObject => ({
  ...maybe(draw, 2, [
    ...['ROUND_ROBIN', 'LEAST_REQUEST', 'RANDOM'].map((simple) => ({ loadBalancer: { simple } })),
    ...[
      { httpHeaderName: 'x-user' },
      { httpQueryParameterName: 'a' },
      { useSourceIp: true },
      { httpCookie: { name: 'user', ttl: '0s' } },
    ].map((consistentHash) => ({ loadBalancer: { consistentHash } })),
    { loadBalancer: { consistentHash: { httpHeaderName: 'x-env', maglev: { tableSize: 101 } } } },
  ]),
  ...maybe(draw, 2, [
    { outlierDetection: { consecutive5xxErrors: 7, interval: '5s', baseEjectionTime: '30s' } },
    { outlierDetection: { consecutiveGatewayErrors: 3, maxEjectionPercent: 50, minHealthPercent: 10 } },
    { outlierDetection: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 5 } },
  ]),
  ...maybe(draw, 3, [
    { connectionPool: { http: { http2MaxRequests: 1000, maxRequestsPerConnection: 0 } } },
    { connectionPool: { tcp: { connectTimeout: '2s' } } },
  ]),
});

export const virtualServices: Construct = {
  share: 0.2,
  make: (draw) => ({
    documents: [
      ...mesh(),
      ...SERVICES.flatMap((service) => [
        subsets(service, policy(draw)),
        networking('VirtualService', service, {
          hosts: [service, ...(draw.below(3) === 0 ? [`${service}.example`] : [])],
          http: [
            ...several(1 + draw.below(4), () => ({
              match: several(1 + draw.below(2), () => request(draw)),
              ...route(draw, service),
            })),
            ...(draw.below(2) === 0 ? [{ route: [{ destination: { host: service } }] }] : []),
          ],
        }),
      ]),
    ],
    ...{ headers: HEADERS, hosts: HOSTS, paths: PATHS, queries: ['a=1', 'a=', 'a=12', 'b=1&a=1'] },
  }),
};

const CLAIM_KEYS = ['groups', 'sub', 'realm][role', 'realm][roles', 'scope', 'iss', 'n', 'realm.role'];
const values = (draw: Draw): string[] =>
  several(1 + draw.below(2), () => draw.one(['admin', 'a*', '*n', '*', 'alice', 'write', ISSUERS.a]));

/** `from`, `to` and `when` of a rule. */
function rule(draw: Draw, withTokens: boolean): JsonObject {
  const not = (name: string): string => (draw.below(3) === 0 ? `not${name[0]!.toUpperCase()}${name.slice(1)}` : name);
  const principals = (): string[] => [
    draw.one(['*', `${ISSUERS.a}/*`, `${ISSUERS.a}/alice`, '*/bob', `${ISSUERS.b}/bob`]),
  ];
  const source = (): JsonObject =>
    draw.one<JsonObject>([
      ...(withTokens
        ? [{ [not('requestPrincipals')]: principals() }, { [not('requestPrincipals')]: principals() }]
        : []),
      ...[{ [not('ipBlocks')]: [draw.one(['127.0.0.0/8', '10.0.0.1'])] }, { [not('remoteIpBlocks')]: ['127.0.0.1'] }],
      ...[{ [not('namespaces')]: ['default'] }, { [not('principals')]: ['*/ns/default/*'] }],
    ]);
  const operation = (): JsonObject => ({
    ...maybe(draw, 2, [{ [not('paths')]: [draw.one(['/a', '/a/*', '*.html', '*', '/{*}/b'])] }]),
    ...maybe(draw, 2, [{ [not('methods')]: [draw.one(['GET', 'P*'])] }]),
    ...maybe(draw, 4, [
      { [not('hosts')]: [draw.one(['s0', 's1.*', '*.cluster.local', 'S2'])] },
      { [not('ports')]: [draw.one(['8080', '80'])] },
    ]),
  });
  const condition = (): JsonObject => {
    const key = draw.one([
      ...(withTokens
        ? [
            ...CLAIM_KEYS.map((claim) => `request.auth.claims[${claim}]`),
            'request.auth.principal',
            'request.auth.audiences',
            'request.auth.presenter',
          ]
        : []),
      ...['request.headers[x-user]', 'request.headers[x-env]'],
    ]);
    return { key, [not('values')]: values(draw) };
  };
  return {
    ...(draw.below(2) === 0 && { from: several(1 + draw.below(2), () => ({ source: source() })) }),
    ...(draw.below(2) === 0 && {
      to: several(1 + draw.below(2), () => ({ operation: operation() })).filter(
        ({ operation: o }) => Object.keys(o).length > 0,
      ),
    }),
    ...(draw.below(3) > 0 && { when: several(1 + draw.below(2), condition) }),
  };
}

const ACTIONS = ['ALLOW', 'ALLOW', 'DENY', 'AUDIT'];

function authorizationPolicies(draw: Draw, withTokens: boolean): JsonObject[] {
  const fits = (r: JsonObject): boolean => !Array.isArray(r.to) || r.to.length > 0;
  return SERVICES.flatMap((service) =>
    several(1 + draw.below(2), () => draw.one(withTokens ? ACTIONS : [...ACTIONS, 'CUSTOM'])).map((action, i) =>
      security('AuthorizationPolicy', `${service}-${i}`, {
        ...(draw.below(6) > 0 && { selector: { matchLabels: { app: service } } }),
        ...(action === 'CUSTOM' && { provider: { name: 'nobody-knows' } }),
        ...{ action, rules: several(1 + draw.below(3), () => rule(draw, withTokens)).filter(fits) },
      }),
    ),
  );
}

export const authorization: Construct = {
  share: 0.1,
  make: (draw) => ({
    documents: [...mesh(), ...authorizationPolicies(draw, false)],
    ...{ headers: HEADERS, hosts: HOSTS, paths: PATHS },
  }),
};

/** The jwtRules of a RequestAuthentication. */
async function jwtRules(draw: Draw): Promise<JsonObject[]> {
  const { a, b } = await keys();
  const own = (issuer: string, jwks: string): JsonObject => ({
    ...{ issuer, jwks },
    ...maybe(draw, 3, [{ audiences: ['web'] }]),
    ...maybe(draw, 3, [
      { fromHeaders: [{ name: 'x-token', prefix: 'JWT ' }] },
      { fromHeaders: [{ name: 'x-token' }, { name: 'Authorization', prefix: 'Bearer ' }] },
    ]),
    ...maybe(draw, 4, [{ fromParams: ['tok'] }]),
    ...maybe(draw, 4, [{ fromCookies: ['session'] }]),
    ...maybe(draw, 2, [{ forwardOriginalToken: true }]),
    ...maybe(draw, 4, [{ outputPayloadToHeader: 'x-payload' }]),
    ...maybe(draw, 4, [
      {
        outputClaimToHeaders: [
          { header: 'x-sub', claim: 'sub' },
          { header: 'x-role', claim: 'realm.role' },
        ],
      },
    ]),
    ...maybe(draw, 4, [{ spaceDelimitedClaims: ['groups', 'scope'] }]),
  });
  const rules = [own(ISSUERS.a, setOf(a)), own(ISSUERS.b, setOf(b))];
  return rules.slice(0, 1 + draw.below(2));
}

const spoofed: readonly (readonly [string, string])[] = [
  ['x-sub', 'mallory'],
  ['x-payload', 'mallory'],
];

export const requestAuthentication: Construct = {
  share: 0.08,
  make: async (draw) => ({
    documents: [
      ...mesh(),
      security('RequestAuthentication', 'all', {
        ...(draw.below(2) === 0 && { selector: { matchLabels: { app: 's1' } } }),
        jwtRules: await jwtRules(draw),
      }),
      security('RequestAuthentication', 's2', {
        selector: { matchLabels: { app: 's2' } },
        jwtRules: await jwtRules(draw),
      }),
      ...authorizationPolicies(draw, true),
    ],
    ...placed(draw, await tokens(draw)),
    ...{ headers: [...spoofed, ...HEADERS.slice(0, 2)], hosts: HOSTS, paths: PATHS },
  }),
};

/** A claim as a VirtualService names it. */
const claimMatch = (draw: Draw): JsonObject => ({
  [draw.one([
    '@request.auth.claims.sub',
    '@request.auth.claims.realm.role',
    '@request.auth.claims[realm][roles]',
    '@request.auth.claims.groups',
    '@request.auth.claims.scope',
  ])]: draw.one<JsonObject>([{ exact: 'admin' }, { exact: 'alice' }, { prefix: 'a' }, { regex: 'a.*' }]),
});

export const claimRoutes: Construct = {
  share: 0.3,
  make: async (draw) => ({
    documents: [
      ...mesh(),
      networking(
        'Gateway',
        'public',
        {
          selector: { istio: 'ingressgateway' },
          servers: [{ port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }],
        },
        'istio-system',
      ),
      security(
        'RequestAuthentication',
        'public',
        { selector: { matchLabels: { istio: 'ingressgateway' } }, jwtRules: await jwtRules(draw) },
        'istio-system',
      ),
      ...SERVICES.map((service) =>
        networking('VirtualService', service, {
          hosts: [`${service}.default.svc.cluster.local`],
          gateways: ['istio-system/public', ...(draw.below(2) === 0 ? ['mesh'] : [])],
          http: [
            ...several(1 + draw.below(3), () => ({
              match: [
                {
                  ...maybe(draw, 2, [{ uri: { prefix: '/a' } }]),
                  ...draw.one<JsonObject>([
                    { headers: claimMatch(draw) },
                    { headers: { ...claimMatch(draw), ...claimMatch(draw) } },
                    { withoutHeaders: claimMatch(draw) },
                  ]),
                },
              ],
              ...draw.one<JsonObject>([
                { redirect: { uri: '/moved' } },
                { directResponse: { status: 200 } },
                { route: [{ destination: { host: draw.one(SERVICES) } }] },
              ]),
            })),
            { route: [{ destination: { host: service } }] },
          ],
        }),
      ),
      ...some(draw, 2, [
        security(
          'AuthorizationPolicy',
          'gateway',
          {
            selector: { matchLabels: { istio: 'ingressgateway' } },
            action: draw.one(['ALLOW', 'DENY']),
            rules: [rule(draw, true), { to: [{ operation: { paths: ['/a*'] } }] }],
          },
          'istio-system',
        ),
      ]),
    ],
    ...placed(draw, await tokens(draw)),
    ...{ headers: spoofed, hosts: HOSTS, paths: PATHS },
  }),
};
