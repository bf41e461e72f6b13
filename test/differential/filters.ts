/** Generated HTTP filters beside RBAC, their configuration for single routes, and edits of answers. */
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';
import { word } from './matchers.js';

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';
/** The values of HeaderValueOption.append_action. */
export const APPEND_ACTIONS = [
  'APPEND_IF_EXISTS_OR_ADD',
  'ADD_IF_ABSENT',
  'OVERWRITE_IF_EXISTS_OR_ADD',
  'OVERWRITE_IF_EXISTS',
] as const;

/** Origins that requests name. */
export const ORIGINS = [
  'http://shop.test',
  'https://app.shop.test:8443',
  'https://evil.test',
  'null',
  '',
  'http://SHOP.test',
] as const;

/** Names that answers of the echo servers have or get. */
const ANSWER_NAMES = [
  'x-powered-by',
  'cache-control',
  'vary',
  'x-answered',
  'content-type',
  'set-cookie',
  'access-control-allow-origin',
  'x-a',
] as const;

const oneIn = <T>(n: number, a: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.integer({ min: 1, max: n }).chain((k) => (k === 1 ? a : fc.constant(undefined)));

/** response_headers_to_add / _to_remove of one level. */
export const answerEdits: fc.Arbitrary<JsonObject> = fc
  .record({
    add: fc.uniqueArray(
      fc.record({ key: fc.constantFrom(...ANSWER_NAMES), value: word, action: fc.constantFrom(...APPEND_ACTIONS) }),
      { maxLength: 3, selector: (e) => e.key },
    ),
    remove: fc.array(fc.constantFrom(...ANSWER_NAMES, 'x-nothing'), { maxLength: 2 }),
  })
  .map(({ add, remove }) => ({
    ...(add.length
      ? {
          response_headers_to_add: add.map(({ key, value, action }) => ({
            header: { key, value },
            append_action: action,
          })),
        }
      : {}),
    ...(remove.length ? { response_headers_to_remove: remove } : {}),
  }));

const originMatcher: fc.Arbitrary<JsonObject> = fc.constantFrom<JsonObject>(
  { exact: 'http://shop.test' },
  { exact: '*' },
  { prefix: 'https://' },
  { suffix: '.test' },
  { safe_regex: { regex: 'https?://[a-z.]*shop\\.test(:[0-9]+)?' } },
  { exact: 'http://shop.test', ignore_case: true },
);

const corsPolicy: fc.Arbitrary<JsonObject> = fc
  .record({
    origins: fc.array(originMatcher, { minLength: 1, maxLength: 2 }),
    methods: oneIn(2, fc.constantFrom('GET, PUT', '*')),
    headers: oneIn(2, fc.constantFrom('x-user, x-env', '*')),
    expose: oneIn(2, fc.constant('x-upstream, x-a')),
    age: oneIn(2, fc.constantFrom('600', '0')),
    credentials: oneIn(2, fc.boolean()),
    network: oneIn(3, fc.boolean()),
    forward: oneIn(2, fc.boolean()),
    enabled: oneIn(5, fc.constantFrom(0, 100)),
  })
  .map((p) => ({
    allow_origin_string_match: p.origins,
    ...(p.methods ? { allow_methods: p.methods } : {}),
    ...(p.headers ? { allow_headers: p.headers } : {}),
    ...(p.expose ? { expose_headers: p.expose } : {}),
    ...(p.age ? { max_age: p.age } : {}),
    ...(p.credentials === undefined ? {} : { allow_credentials: p.credentials }),
    ...(p.network === undefined ? {} : { allow_private_network_access: p.network }),
    ...(p.forward === undefined ? {} : { forward_not_matching_preflights: p.forward }),
    ...(p.enabled === undefined ? {} : { filter_enabled: { default_value: { numerator: p.enabled } } }),
  }));

const fault: fc.Arbitrary<JsonObject> = fc
  .record({
    status: fc.constantFrom(418, 503, 429),
    share: fc.constantFrom<JsonObject>(
      { numerator: 100 },
      { numerator: 0 },
      { numerator: 1_000_000, denominator: 'MILLION' },
    ),
    headers: oneIn(
      2,
      fc.constantFrom<JsonObject>(
        { name: 'x-user', string_match: { exact: 'alpha' } },
        { name: 'x-env', present_match: true },
      ),
    ),
  })
  .map(({ status, share, headers }) => ({
    abort: { http_status: status, percentage: share },
    ...(headers ? { headers: [headers] } : {}),
  }));

const mutation = (names: readonly string[]): fc.Arbitrary<JsonObject> =>
  fc.oneof(
    fc.constantFrom(...names).map((remove): JsonObject => ({ remove })),
    fc
      .record({ key: fc.constantFrom(...names), value: word, append_action: fc.constantFrom(...APPEND_ACTIONS) })
      .map(({ key, value, append_action }): JsonObject => ({ append: { header: { key, value }, append_action } })),
  );

/** Request headers that no rule of these configurations looks at. */
const UNSEEN = ['x-mutated', 'x-other'] as const;

const mutations: fc.Arbitrary<JsonObject> = fc
  .record({
    request: fc.array(mutation(UNSEEN), { maxLength: 2 }),
    response: fc.array(mutation(ANSWER_NAMES), { maxLength: 2 }),
  })
  .map(({ request, response }) => ({ mutations: { request_mutations: request, response_mutations: response } }));

const NAMES = {
  cors: 'envoy.filters.http.cors',
  fault: 'envoy.filters.http.fault',
  header_mutation: 'envoy.filters.http.header_mutation',
  csrf: 'envoy.filters.http.csrf',
  buffer: 'envoy.filters.http.buffer',
} as const;

const csrfPolicy: fc.Arbitrary<JsonObject> = fc
  .tuple(fc.constantFrom(0, 100), fc.boolean())
  .map(([numerator, more]) => ({
    filter_enabled: { default_value: { numerator } },
    ...(more ? { additional_origins: [{ exact: 'evil.test' }] } : {}),
  }));

/** Filters of a chain beside RBAC and the router, each at most once, in any order. */
export function moreFilters(mixed: boolean): fc.Arbitrary<JsonObject[]> {
  const typed = (type: string, config: JsonObject): JsonObject => ({ '@type': `${HTTP}.${type}`, ...config });
  return fc
    .record({
      cors: oneIn(2, fc.constant(typed('cors.v3.Cors', {}))),
      fault: oneIn(
        2,
        fc.option(fault, { freq: 3, nil: {} }).map((f) => typed('fault.v3.HTTPFault', 'headers' in f ? f : {})),
      ),
      header_mutation: oneIn(
        2,
        fc.tuple(fc.option(mutations, { nil: {} }), fc.boolean()).map(([m, wins]) =>
          typed('header_mutation.v3.HeaderMutation', {
            ...m,
            ...(wins ? { most_specific_header_mutations_wins: true } : {}),
          }),
        ),
      ),
      csrf: mixed
        ? oneIn(
            3,
            csrfPolicy.map((p) => typed('csrf.v3.CsrfPolicy', p)),
          )
        : fc.constant(undefined),
      buffer: oneIn(
        5,
        fc
          .constantFrom(...(mixed ? [50, 5000] : [20_000]), 2_000_000)
          .map((n) => typed('buffer.v3.Buffer', { max_request_bytes: n })),
      ),
      order: fc.shuffledSubarray(Object.keys(NAMES), { minLength: 5 }),
    })
    .map(({ order, ...configs }) =>
      order.flatMap((kind) => {
        const config = configs[kind as keyof typeof configs];
        return config ? [{ name: NAMES[kind as keyof typeof NAMES], typed_config: config }] : [];
      }),
    );
}

/**
 * typed_per_filter_config of a route or a virtual host, by filter name; only for filters that the chain has (Envoy
 * refuses others).
 */
export const perFilter: fc.Arbitrary<JsonObject> = fc
  .record({
    cors: oneIn(
      3,
      corsPolicy.map((p) => ({ '@type': `${HTTP}.cors.v3.CorsPolicy`, ...p })),
    ),
    fault: oneIn(
      6,
      fault.map((f) => ({ '@type': `${HTTP}.fault.v3.HTTPFault`, ...f })),
    ),
    header_mutation: oneIn(
      4,
      mutations.map((m) => ({ '@type': `${HTTP}.header_mutation.v3.HeaderMutationPerRoute`, ...m })),
    ),
    csrf: oneIn(
      6,
      csrfPolicy.map((p) => ({ '@type': `${HTTP}.csrf.v3.CsrfPolicy`, ...p })),
    ),
    buffer: oneIn(6, fc.constant({ '@type': `${HTTP}.buffer.v3.BufferPerRoute`, disabled: true })),
    off: oneIn(12, fc.constantFrom(...Object.keys(NAMES))),
  })
  .map(({ off, ...configs }) => {
    const found: JsonObject = {};
    for (const [kind, config] of Object.entries(configs)) if (config) found[NAMES[kind as keyof typeof NAMES]] = config;
    if (off)
      found[NAMES[off as keyof typeof NAMES]] = {
        '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
        disabled: true,
      };
    return found;
  });

/** What is left of `perFilter` in a chain with these filters. */
export function forChain(config: JsonObject | undefined, filters: readonly JsonObject[]): JsonObject {
  const names = new Set(filters.map((f) => f.name));
  return Object.fromEntries(Object.entries(config ?? {}).filter(([name]) => names.has(name)));
}
