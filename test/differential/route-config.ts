/** Generated listeners: route configuration and filters, with hints how to make requests that its rules match. */
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';
import { APPEND_ACTIONS, answerEdits, forChain, moreFilters, perFilter } from './filters.js';
import { headerMatcher, headerName, type PathMatch, pathMatch, queryMatcher, word } from './matchers.js';
import { rbacRules } from './rbac.js';

/** Bytes that satisfy one route's match, if nothing before it takes the request. */
export interface Hint {
  readonly host: string;
  readonly path: string;
  readonly method: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly query: readonly string[];
}

/** One listener without its address. */
export interface ListenerConfig {
  readonly name: string;
  /** HttpConnectionManager without the router filter */
  readonly hcm: JsonObject;
  readonly filters: readonly JsonObject[];
  readonly hints: readonly Hint[];
}

/** Clusters that generated routes lead to, with the upstreams of each. Names that differ in `-N` only are one choice. */
export const CLUSTERS: Readonly<Record<string, readonly string[]>> = {
  ...{ a: ['a'], b: ['b'], c: ['c'], d: ['d'] },
  pair: ['pair-1', 'pair-2'],
  'split-1': ['split-1'],
  'split-2': ['split-2'],
  ring: ['ring-a', 'ring-b', 'ring-c', 'ring-d'],
  maglev: ['maglev-a', 'maglev-b', 'maglev-c'],
};

/** What clusters say beside their endpoints. */
const BALANCE: Readonly<Record<string, JsonObject>> = {
  ring: { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: '100' } },
  maglev: { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '503' } },
};
/** Of headers that no level edits; the address makes sure that there is a hash. */
const HASH: readonly JsonObject[] = [
  { query_parameter: { name: 'q' } },
  { query_parameter: { name: 'page' } },
  { header: { header_name: 'accept' } },
  { connection_properties: { source_ip: true } },
];

/**
 * request_headers_to_add / _to_remove, of any of the levels that have them.
 * @param names headers to edit; undefined: any, also the same one at several levels, which only the proxy can do
 */
function headerEdits(names?: readonly string[]): fc.Arbitrary<JsonObject> {
  const key = names ? fc.constantFrom(...names) : fc.oneof(fc.constantFrom('x-added', 'x-other'), headerName);
  const add = fc.record({ key, value: word, action: fc.constantFrom(...APPEND_ACTIONS) });
  return fc
    .record({
      add: names ? fc.uniqueArray(add, { maxLength: 3, selector: (e) => e.key }) : fc.array(add, { maxLength: 3 }),
      remove: fc.array(fc.constantFrom(...(names ?? ['x-user', 'x-color', 'accept', 'x-added'])), { maxLength: 1 }),
    })
    .map(({ add, remove }) => ({
      ...(add.length
        ? {
            request_headers_to_add: add.map(({ key, value, action }) => ({
              header: { key, value },
              append_action: action,
            })),
          }
        : {}),
      // an edit and a removal of one header at one level is a rare thing to write
      ...(remove.some((r) => !names || !add.some((a) => a.key === r)) ? { request_headers_to_remove: remove } : {}),
    }));
}

/** Headers that the levels of an offloadable configuration edit. */
const EDITED = {
  route: ['x-added', 'x-user', 'x-env'],
  vhost: ['x-other', 'x-color'],
  config: ['x-level', 'x-num'],
} as const;

/** Absent once in about `n` times. */
const mostly = <T>(n: number, a: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(a, { freq: n, nil: undefined });
/** Present once in about `n` times. */
const oneIn = <T>(n: number, a: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.integer({ min: 1, max: n }).chain((k) => (k === 1 ? a : fc.constant(undefined)));

const regexRewrite = (regex: string, substitution: string): JsonObject => ({
  regex_rewrite: { pattern: { regex }, substitution },
});
const ANCHORED: readonly JsonObject[] = [
  regexRewrite('^/api/(.*)$', '/r/\\1'),
  regexRewrite('^/(a|b|items)/', '/new/\\1/'),
  regexRewrite('^/shop', '/store'),
];
/** These may match more than once. */
const UNANCHORED: readonly JsonObject[] = [
  regexRewrite('[0-9]+', 'N'),
  regexRewrite('/', '/_'),
  regexRewrite('/v([0-9])', '/\\1\\0'),
  regexRewrite('/(items|api)', '/<\\1>'),
];
/** These look at what stands around a match, which only the proxy does. */
const PROXY_REWRITES: readonly JsonObject[] = [regexRewrite('\\b[a-z]', 'N')];

const prefixRewrite = fc.constantFrom('/', '/new', '/new/', '/deep/er').map((p): JsonObject => ({ prefix_rewrite: p }));

function pathRewrite(match: PathMatch, mixed: boolean): fc.Arbitrary<JsonObject> {
  const regex = fc.constantFrom(...ANCHORED, ...UNANCHORED, ...(mixed ? PROXY_REWRITES : []));
  return match.kind === 'safe_regex' ? regex : fc.oneof(prefixRewrite, regex);
}

function forward(match: PathMatch, mixed: boolean): fc.Arbitrary<JsonObject> {
  const edits = mixed ? headerEdits() : fc.constant<JsonObject>({});
  const single = fc.constantFrom('a', 'b', 'c', 'd', 'pair').map((cluster): JsonObject => ({ cluster }));
  const determined = edits.map(
    (edits): JsonObject => ({
      weighted_clusters: {
        clusters: [
          { name: 'a', weight: 100, ...edits },
          { name: 'b', weight: 0 },
        ],
      },
    }),
  );
  const split = fc.tuple(fc.integer({ min: 1, max: 99 }), edits).map(
    ([weight, edits]): JsonObject => ({
      weighted_clusters: {
        clusters: [
          { name: 'split-1', weight, ...edits },
          { name: 'split-2', weight: 100 - weight, ...edits },
        ],
      },
    }),
  );
  const hashed = fc.constantFrom('ring', 'maglev').map((cluster): JsonObject => ({ cluster, hash_policy: [...HASH] }));
  const retry = fc.constantFrom('5xx', 'gateway-error,retriable-4xx', 'reset');
  return fc
    .record({
      to: fc.oneof({ weight: 4, arbitrary: single }, determined, split, hashed),
      retry: oneIn(5, retry),
      rewrite: oneIn(3, pathRewrite(match, mixed)),
      host: oneIn(4, fc.constantFrom('backend.internal', 'other:8080')),
    })
    .map(({ to, retry, rewrite, host }) => ({
      route: {
        ...to,
        ...rewrite,
        ...(host ? { host_rewrite_literal: host } : {}),
        ...(retry ? { retry_policy: { retry_on: retry, num_retries: 2 } } : {}),
      },
    }));
}

function redirect(match: PathMatch, mixed: boolean): fc.Arbitrary<JsonObject> {
  return fc
    .record({
      host: mostly(4, fc.constantFrom('new.test', 'other.test:8443')),
      path: oneIn(
        2,
        fc.oneof(
          fc.constantFrom('/moved', '/moved?x=1').map((p): JsonObject => ({ path_redirect: p })),
          ...(mixed ? [pathRewrite(match, mixed)] : match.kind === 'safe_regex' ? [] : [prefixRewrite]),
        ),
      ),
      scheme: oneIn(
        3,
        fc.oneof(
          fc.constant<JsonObject>({ https_redirect: true }),
          fc.constant<JsonObject>({ scheme_redirect: 'https' }),
        ),
      ),
      port: oneIn(4, fc.constantFrom(80, 443, 8443)),
      code: mostly(
        2,
        fc.constantFrom('MOVED_PERMANENTLY', 'FOUND', 'SEE_OTHER', 'TEMPORARY_REDIRECT', 'PERMANENT_REDIRECT'),
      ),
      strip: oneIn(4, fc.constant(true)),
    })
    .map(({ host, path, scheme, port, code, strip }) => ({
      redirect: {
        ...(host ? { host_redirect: host } : {}),
        ...path,
        ...scheme,
        ...(port ? { port_redirect: port } : {}),
        ...(code ? { response_code: code } : {}),
        ...(strip ? { strip_query: true } : {}),
      },
    }));
}

/** Of 204 without a body: Envoy sends one nonetheless where there is one, which no client takes for an answer's. */
const directResponse: fc.Arbitrary<JsonObject> = fc
  .tuple(fc.constantFrom(200, 204, 403, 404, 418, 503), fc.constantFrom('', 'no such thing', 'x'.repeat(300)))
  .map(([status, text]) => ({ status, body: status === 204 ? '' : text }))
  .map(({ status, body }) => ({ direct_response: { status, ...(body ? { body: { inline_string: body } } : {}) } }));

interface SampledRoute {
  readonly json: JsonObject;
  readonly hint: Omit<Hint, 'host'>;
}

const RBAC_TYPE = 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3';
const perRoute = (rbac: JsonObject | undefined, filters: JsonObject): JsonObject => ({
  typed_per_filter_config: {
    ...filters,
    ...(rbac ? { 'envoy.filters.http.rbac': { '@type': `${RBAC_TYPE}.RBACPerRoute`, ...rbac } } : {}),
  },
});

/** A route or virtual host with configuration for filters of the chain only. */
function fitting(owner: JsonObject, chain: readonly JsonObject[]): JsonObject {
  const { typed_per_filter_config: config, ...rest } = owner;
  const left = forChain(config as JsonObject, chain);
  return Object.keys(left).length > 0 ? { ...rest, typed_per_filter_config: left } : rest;
}

function route(port: number, mixed: boolean): fc.Arbitrary<SampledRoute> {
  const extra = mixed ? fc.constantFrom(...PROXY_ONLY) : fc.constant<JsonObject>({});
  return pathMatch.chain((path) =>
    fc
      .record({
        method: oneIn(4, fc.constantFrom('GET', 'POST', 'DELETE')),
        headers: fc.array(headerMatcher, { maxLength: 2 }),
        manyHeaders: fc.boolean(),
        query: oneIn(4, queryMatcher),
        action: fc.oneof({ weight: 7, arbitrary: forward(path, mixed) }, redirect(path, mixed), directResponse),
        edits: oneIn(2, headerEdits(mixed ? undefined : EDITED.route)),
        answers: oneIn(4, answerEdits),
        filters: perFilter,
        rbac: oneIn(
          6,
          fc.oneof(
            fc.constant<JsonObject>({}),
            rbacRules(port).map((rules): JsonObject => ({ rbac: { rules } })),
          ),
        ),
        extra,
      })
      .map(({ method, headers, manyHeaders, query, action, edits, answers, filters, rbac, extra }) => {
        const used = manyHeaders ? headers : headers.slice(0, 0);
        const matchers: JsonObject[] = used.map((h) => h.json);
        if (method) matchers.push({ name: ':method', string_match: { exact: method } });
        return {
          json: {
            match: {
              ...path.json,
              ...(matchers.length ? { headers: matchers } : {}),
              ...(query ? { query_parameters: [query.json] } : {}),
            },
            ...action,
            ...edits,
            ...answers,
            ...perRoute(rbac, filters),
            ...extra,
          },
          hint: {
            path: path.sample,
            method: method ?? 'GET',
            headers: used.filter((h) => !h.invert).map((h) => [h.name, h.sample] as const),
            query: query ? [query.sample] : [],
          },
        };
      }),
  );
}

/** A domain and hosts that belong to it (unless a longer one takes them). */
const DOMAINS: readonly (readonly [string, readonly string[]])[] = [
  ['shop.test', ['shop.test', 'SHOP.Test']],
  ['api.shop.test', ['api.shop.test']],
  ['*.shop.test', ['x.shop.test', 'a.b.shop.test']],
  ['*.test', ['other.test', 'deep.down.test']],
  ['shop.*', ['shop.example', 'shop.a.b']],
  ['*-x.test', ['canary-x.test']],
  ['a.b.shop.test:8080', ['a.b.shop.test:8080']],
];

/** What only the proxy can do: such routes are mixed among the others to test the fallback of single requests. */
const PROXY_ONLY: readonly JsonObject[] = [
  { response_headers_to_add: [{ header: { key: 'x-answered', value: '%REQ(:path)%' } }] },
  { request_headers_to_add: [{ header: { key: 'x-path', value: '%REQ(:path)%' } }] },
  { metadata: { filter_metadata: { 'com.example': { a: 'b' } } }, decorator: { operation: 'op' } },
  {},
];

/** A rewritten host on a wildcard domain is the proxy's work. */
function withoutHostRewrite(route: JsonObject): JsonObject {
  if (!route.route) return route;
  const { host_rewrite_literal: _, ...rest } = route.route as JsonObject;
  return { ...route, route: rest };
}

/**
 * Listeners at `port`.
 * @param mixed true: some routes have what only the proxy can do
 */
export function listenerConfig(name: string, port: number, mixed: boolean): fc.Arbitrary<ListenerConfig> {
  const vhost = fc.record({
    routes: fc.array(route(port, mixed), { minLength: 1, maxLength: 6 }),
    edits: oneIn(3, headerEdits(mixed ? undefined : EDITED.vhost)),
    catchAll: fc.boolean(),
    answers: oneIn(4, answerEdits),
    filters: oneIn(3, perFilter),
    rbac: oneIn(
      8,
      rbacRules(port).map((rules): JsonObject => ({ rbac: { rules } })),
    ),
  });
  return fc
    .record({
      domains: fc.shuffledSubarray([...DOMAINS], { minLength: 2, maxLength: 5 }),
      star: fc.boolean(),
      vhosts: fc.array(vhost, { minLength: 6, maxLength: 6 }),
      edits: oneIn(3, headerEdits(mixed ? undefined : EDITED.config)),
      specificWins: fc.boolean(),
      answers: oneIn(4, answerEdits),
      rbac: oneIn(3, fc.array(rbacRules(port), { minLength: 1, maxLength: 2 })),
      more: moreFilters(mixed),
      rbacFirst: fc.boolean(),
      normalize: fc.boolean(),
      merge: oneIn(4, fc.constant(true)),
      strip: oneIn(4, fc.constantFrom<JsonObject>({ strip_matching_host_port: true }, { strip_any_host_port: true })),
    })
    .map(({ domains, star, vhosts, edits, answers, specificWins, rbac, more, rbacFirst, normalize, merge, strip }) => {
      const checks = (rbac ?? []).map(
        (rules, i): JsonObject => ({
          // per-route settings go by this name: they replace the first filter's rules only
          name: i === 0 ? 'envoy.filters.http.rbac' : `rbac-${i}`,
          typed_config: { '@type': `${RBAC_TYPE}.RBAC`, rules },
        }),
      );
      const half = Math.floor(more.length / 2);
      const filters = rbacFirst ? [...checks, ...more] : [...more.slice(0, half), ...checks, ...more.slice(half)];
      const all = star ? [...domains, ['*', ['anything.example', 'x']] as const] : domains;
      const hints: Hint[] = [];
      const virtual_hosts = all.map(([domain, hosts], i) => {
        const v = vhosts[i % vhosts.length]!;
        for (const host of hosts) for (const r of v.routes) hints.push({ ...r.hint, host });
        return {
          name: `vhost-${i}`,
          domains: [domain],
          routes: [
            ...v.routes.map((r) =>
              fitting(mixed || !domain.includes('*') ? r.json : withoutHostRewrite(r.json), filters),
            ),
            ...(v.catchAll ? [{ match: { prefix: '/' }, route: { cluster: 'd' } }] : []),
          ],
          ...v.edits,
          ...v.answers,
          ...fitting(perRoute(v.rbac, v.filters ?? {}), filters),
        };
      });
      return {
        name,
        hints,
        hcm: {
          stat_prefix: name,
          ...(normalize ? { normalize_path: true } : {}),
          ...(merge ? { merge_slashes: true } : {}),
          ...strip,
          route_config: {
            name: `routes-${name}`,
            virtual_hosts,
            ...edits,
            ...answers,
            ...(specificWins ? { most_specific_header_mutations_wins: true } : {}),
          },
        },
        filters,
      };
    });
}

/** The bootstrap with all listeners at `address` and their ports. */
export function bootstrap(
  listeners: readonly ListenerConfig[],
  address: string,
  ports: readonly number[],
  upstreamPorts: Readonly<Record<string, number>>,
): JsonObject {
  return {
    static_resources: {
      listeners: listeners.map((l, i) => ({
        name: l.name,
        address: { socket_address: { address, port_value: ports[i]! } },
        filter_chains: [
          {
            filters: [
              {
                name: 'envoy.filters.network.http_connection_manager',
                typed_config: {
                  '@type':
                    'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                  ...l.hcm,
                  http_filters: [
                    ...l.filters,
                    {
                      name: 'envoy.filters.http.router',
                      typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                    },
                  ],
                },
              },
            ],
          },
        ],
      })),
      clusters: Object.entries(CLUSTERS).map(([name, upstreams]) => ({
        name,
        connect_timeout: '2s',
        type: 'STATIC',
        circuit_breakers: { thresholds: [{ max_retries: 4096 }] },
        ...BALANCE[name],
        load_assignment: {
          cluster_name: name,
          endpoints: [
            {
              lb_endpoints: upstreams.map((u) => ({
                endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstreamPorts[u]! } } },
              })),
            },
          ],
        },
      })),
    },
  };
}
