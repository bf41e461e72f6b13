/** Generated matchers, each with bytes that satisfy it, so that generated requests can hit what was generated. */
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';

/** A matcher in Envoy's JSON and a value that it accepts (before inversion). */
export interface Sampled {
  readonly json: JsonObject;
  readonly sample: string;
}

export const word = fc.constantFrom('alpha', 'beta', 'gamma', 'v1', 'v2', 'x-y', 'A1', 'canary', '7');

/** RE2 patterns and values that they match in full. */
const VALUE_REGEXES: readonly (readonly [string, string])[] = [
  ['v[0-9]+', 'v12'],
  ['(?:alpha|beta)', 'beta'],
  ['[a-z]+-[a-z]+', 'one-two'],
  ['.*end', 'the end'],
  ['^start.*$', 'starting'],
  ['(?i)canary', 'CaNaRy'],
  ['[^0-9]*', 'none'],
  ['a{2,4}b?', 'aaab'],
  ['alpha|be.a', 'beta'],
];

const PATH_REGEXES: readonly (readonly [string, string])[] = [
  ['/items/[0-9]+', '/items/42'],
  ['/(a|b)/.*', '/b/c'],
  ['/u/[^/]+/p', '/u/bob/p'],
  ['.*\\.(jpg|png)', '/img/x.png'],
  ['/v[12]/.+', '/v1/z'],
  ['(?i)/CaSe.*', '/case/1'],
  ['/x{2,3}y?', '/xxy'],
  ['/api/.*/detail', '/api/7/detail'],
];

/** envoy.type.matcher.v3.StringMatcher */
export const stringMatcher: fc.Arbitrary<Sampled> = fc.oneof(
  fc
    .tuple(fc.constantFrom('exact', 'prefix', 'suffix', 'contains'), word, fc.boolean())
    .map(([kind, value, ignoreCase]) => {
      const padded = { exact: value, prefix: `${value}tail`, suffix: `head${value}`, contains: `he${value}ad` }[kind]!;
      return {
        json: { [kind]: value, ...(ignoreCase ? { ignore_case: true } : {}) },
        sample: ignoreCase ? padded.toUpperCase() : padded,
      };
    }),
  fc.constantFrom(...VALUE_REGEXES).map(([regex, sample]) => ({ json: { safe_regex: { regex } }, sample })),
);

export const headerName = fc.constantFrom('x-env', 'x-user', 'x-color', 'x-num', 'user-agent');

/** A HeaderMatcher, the header it is about and a value; `invert` says that the value must not be sent. */
export interface SampledHeader extends Sampled {
  readonly name: string;
  readonly invert: boolean;
}

/** envoy.config.route.v3.HeaderMatcher on ordinary headers */
export const headerMatcher: fc.Arbitrary<SampledHeader> = fc
  .record({
    name: headerName,
    how: fc.oneof(
      {
        weight: 6,
        arbitrary: stringMatcher.map((m): Sampled => ({ json: { string_match: m.json }, sample: m.sample })),
      },
      fc.boolean().map((present): Sampled => ({ json: { present_match: present }, sample: 'here' })),
      fc.tuple(fc.integer({ min: -20, max: 20 }), fc.integer({ min: 1, max: 30 })).map(
        ([start, n]): Sampled => ({
          json: { range_match: { start: String(start), end: String(start + n) } },
          sample: String(start),
        }),
      ),
    ),
    invert: fc.boolean().map((b) => b),
    invertRarely: fc.integer({ min: 0, max: 3 }),
    emptyIfMissing: fc.integer({ min: 0, max: 4 }),
  })
  .map(({ name, how, invert, invertRarely, emptyIfMissing }) => {
    const inverted = invert && invertRarely === 0;
    return {
      name,
      sample: how.sample,
      invert: inverted !== ('present_match' in how.json && how.json.present_match === false),
      json: {
        name,
        ...how.json,
        ...(inverted ? { invert_match: true } : {}),
        ...(emptyIfMissing === 0 ? { treat_missing_header_as_empty: true } : {}),
      },
    };
  });

/** envoy.config.route.v3.QueryParameterMatcher with a `name=value` that satisfies it */
export const queryMatcher: fc.Arbitrary<Sampled> = fc
  .tuple(fc.constantFrom('q', 'page', 'debug'), fc.option(stringMatcher, { freq: 4, nil: undefined }))
  .map(([name, m]) =>
    m
      ? { json: { name, string_match: m.json }, sample: `${name}=${m.sample.replaceAll(' ', '')}` }
      : { json: { name, present_match: true }, sample: name },
  );

export const PREFIXES = ['/', '/a', '/api', '/api/v1', '/api/v1/', '/shop', '/items', '/x'] as const;

export interface PathMatch extends Sampled {
  readonly kind: 'prefix' | 'path' | 'path_separated_prefix' | 'safe_regex';
}

/** The path part of a RouteMatch */
export const pathMatch: fc.Arbitrary<PathMatch> = fc
  .oneof(
    {
      weight: 4,
      arbitrary: fc
        .constantFrom(...PREFIXES)
        .map((p): PathMatch => ({ kind: 'prefix', json: { prefix: p }, sample: `${p}rest` })),
    },
    {
      weight: 3,
      arbitrary: fc
        .constantFrom('/', '/api', '/api/v1/users', '/shop/cart', '/Items')
        .map((p): PathMatch => ({ kind: 'path', json: { path: p }, sample: p })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom('/api', '/shop/cart', '/a'), fc.constantFrom('', '/', '/more')).map(
        ([p, tail]): PathMatch => ({
          kind: 'path_separated_prefix',
          json: { path_separated_prefix: p },
          sample: p + tail,
        }),
      ),
    },
    {
      weight: 3,
      arbitrary: fc
        .constantFrom(...PATH_REGEXES)
        .map(([regex, sample]): PathMatch => ({ kind: 'safe_regex', json: { safe_regex: { regex } }, sample })),
    },
  )
  .chain((m) =>
    m.kind === 'safe_regex'
      ? fc.constant(m)
      : fc
          .integer({ min: 0, max: 4 })
          .map((n) =>
            n === 0 ? { ...m, json: { ...m.json, case_sensitive: false }, sample: m.sample.toUpperCase() } : m,
          ),
  );
