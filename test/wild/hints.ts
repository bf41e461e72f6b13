/** What requests must look like to meet the matchers of a real configuration: its own words, taken out of it. */
import fc from 'fast-check';
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';
import type { Request } from '../differential/requests.js';

/** Words of one listener. */
export interface Hints {
  readonly hosts: string[];
  readonly paths: string[];
  readonly methods: string[];
  /** values by name, in lower case; an empty list: any value */
  readonly headers: Map<string, string[]>;
  readonly queries: Map<string, string[]>;
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789-';

/** Strings that a regular expression matches, or nearly: its syntax is RE2's, the generator's is JavaScript's. */
function samplesOf(regex: string, seed: number): string[] {
  try {
    const anchored = new RegExp(`^(?:${regex.replace(/^\(\?i\)/, '')})$`);
    return fc
      .sample(fc.stringMatching(anchored), { seed, numRuns: 4 })
      .filter((s) => /^[\x21-\x7e]*$/.test(s) && s.length < 200);
  } catch {
    return [];
  }
}

/** The strings that meet a StringMatcher, a HeaderMatcher or a path matcher, as far as they are easily made. */
function valuesOf(matcher: JsonObject): string[] {
  const out: string[] = [];
  for (const [key, value] of Object.entries(matcher)) {
    const inner = asObject(value);
    if (key === 'string_match' || key === 'path' || key === 'value_match' || key === 'matcher') {
      if (inner) out.push(...valuesOf(inner));
      else if (typeof value === 'string') out.push(value);
    } else if ((key === 'exact' || key === 'exact_match') && typeof value === 'string') out.push(value);
    else if ((key === 'prefix' || key === 'prefix_match') && typeof value === 'string') out.push(value, `${value}x1`);
    else if ((key === 'suffix' || key === 'suffix_match') && typeof value === 'string') out.push(`x1${value}`);
    else if ((key === 'contains' || key === 'contains_match') && typeof value === 'string') out.push(`x${value}y`);
    else if ((key === 'safe_regex' || key === 'safe_regex_match') && inner) {
      out.push(...samplesOf(asString(inner.regex), out.length + 1));
    } else if (key === 'range_match' && inner) out.push(String(inner.start), String(inner.end));
  }
  return out;
}

const add = (map: Map<string, string[]>, name: string, values: readonly string[]): void => {
  map.set(name, [...(map.get(name) ?? []), ...values]);
};

function visit(value: Json | undefined, hints: Hints): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, hints);
    return;
  }
  const object = asObject(value);
  if (!object) return;
  for (const domain of Array.isArray(object.domains) ? object.domains : []) {
    if (typeof domain !== 'string') continue;
    if (domain === '*') hints.hosts.push('any.example');
    else hints.hosts.push(domain.replace(/^\*/, 'wild').replace(/\*$/, 'wild'));
  }
  const match = asObject(object.match);
  if (match) {
    if (typeof match.prefix === 'string') hints.paths.push(match.prefix, `${match.prefix}tail`, `${match.prefix}/tail`);
    if (typeof match.path === 'string') hints.paths.push(match.path);
    if (typeof match.path_separated_prefix === 'string')
      hints.paths.push(
        match.path_separated_prefix,
        `${match.path_separated_prefix}/tail`,
        `${match.path_separated_prefix}x`,
      );
    const regex = asObject(match.safe_regex);
    if (regex) hints.paths.push(...samplesOf(asString(regex.regex), 7));
    for (const header of asObjects(match.headers)) visitHeader(header, hints);
    for (const query of asObjects(match.query_parameters)) add(hints.queries, asString(query.name), valuesOf(query));
  }
  // RBAC: a permission or principal
  const header = asObject(object.header);
  if (header) visitHeader(header, hints);
  const path = asObject(asObject(object.url_path)?.path);
  if (path) hints.paths.push(...valuesOf(path));
  for (const item of Object.values(object)) visit(item, hints);
}

function visitHeader(matcher: JsonObject, hints: Hints): void {
  const name = asString(matcher.name).toLowerCase();
  const values = valuesOf(matcher);
  if (name === ':method') hints.methods.push(...values);
  else if (name === ':path') hints.paths.push(...values);
  else if (name === ':authority' || name === 'host') hints.hosts.push(...values);
  else if (name !== '' && !name.startsWith(':')) add(hints.headers, name, values);
}

/** The words of a listener and of the route configurations that it may name. */
export function hintsOf(listener: JsonObject): Hints {
  const hints: Hints = { hosts: [], paths: [], methods: [], headers: new Map(), queries: new Map() };
  visit(listener, hints);
  const unique = (list: string[], fits: RegExp) => {
    const kept = [...new Set(list)].filter((s) => fits.test(s));
    list.splice(0, list.length, ...kept);
  };
  unique(hints.hosts, /^[A-Za-z0-9.:_-]+$/);
  unique(hints.paths, /^\/[\x21-\x7e]*$/);
  unique(hints.methods, /^[A-Z]+$/);
  return hints;
}

const oneOf = (words: readonly string[], others: readonly string[]): fc.Arbitrary<string> =>
  words.length === 0
    ? fc.constantFrom(...others)
    : fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom(...words) },
        { weight: 1, arbitrary: fc.constantFrom(...others) },
      );

const word = fc.string({ unit: fc.constantFrom(...ALPHABET), minLength: 1, maxLength: 8 });

/** Requests made of a listener's words, mixed with other ones. */
export function requestOf(hints: Hints): fc.Arbitrary<Request> {
  const headers = [...hints.headers].filter(([name]) => name !== 'content-length' && name !== 'transfer-encoding');
  const queries = [...hints.queries];
  const header = ([name, values]: [string, string[]]): fc.Arbitrary<[string, string] | undefined> =>
    fc.option(
      fc
        .oneof(
          { weight: values.length > 0 ? 4 : 0, arbitrary: fc.constantFrom(...(values.length > 0 ? values : [''])) },
          { weight: 1, arbitrary: word },
        )
        .map((v): [string, string] => [name, v]),
      { freq: 2, nil: undefined },
    );
  return fc
    .record({
      host: oneOf(hints.hosts, ['other.example', 'any.example:8080']),
      path: oneOf(hints.paths, ['/', '/index.html', '/api/v1/users/7', '/a//b', '/a/../b', '/a%20b', '/A']),
      tail: fc.constantFrom('', '', '', '', '/', '/x', 'x', '.html'),
      method: oneOf(hints.methods, ['GET', 'GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH']),
      headers: fc.tuple(...headers.map(header)),
      queries: fc.tuple(...queries.map(header)),
      more: fc.constantFrom<[string, string] | undefined>(
        undefined,
        undefined,
        ['Origin', 'https://app.example'],
        ['Cookie', 'user=jason; session=1'],
        ['User-Agent', 'Mozilla/5.0 (iPhone)'],
      ),
      query: fc.constantFrom('', '', '', '?q=1', '?'),
    })
    .map((r): Request => {
      const pairs = r.queries.filter((q) => q !== undefined).map(([n, v]) => `${n}=${v}`);
      const query = pairs.length > 0 ? `?${pairs.join('&')}` : r.query;
      const lines = r.headers.filter((h) => h !== undefined);
      if (r.more && !lines.some(([n]) => n === r.more![0].toLowerCase())) lines.push(r.more);
      return {
        method: r.method,
        target: `${r.path}${r.tail}${query}`,
        version: 'HTTP/1.1',
        headers: [['Host', r.host], ...lines],
        body: r.method === 'POST' || r.method === 'PUT' || r.method === 'PATCH' ? 10 : -1,
        chunked: false,
        cuts: [],
      };
    });
}
