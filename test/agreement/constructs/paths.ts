/** Paths: normalisation, matchers, rewrites and redirects; names of virtual hosts. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, type Listener, maybe, several, some } from './construct.js';

const LISTENERS = 6;

const NORMALISATION: readonly JsonObject[] = [
  {},
  { normalize_path: true },
  { merge_slashes: true },
  { normalize_path: true, merge_slashes: true },
  ...['KEEP_UNCHANGED', 'REJECT_REQUEST', 'UNESCAPE_AND_REDIRECT', 'UNESCAPE_AND_FORWARD'].flatMap((action) => [
    { path_with_escaped_slashes_action: action },
    { path_with_escaped_slashes_action: action, normalize_path: true, merge_slashes: true },
  ]),
];

const PATHS = [
  '/',
  '/a',
  '/a/',
  '/a/b',
  '/a/b/',
  '/A/b',
  '/a/b.c',
  '/a b',
  '/a%2Fb',
  '/a%20b',
  '/x/y',
  '/api/v1/users/7',
];
const REGEXES = [
  '/a/.*',
  '/[ab]/(b|c)',
  '.*\\.c',
  '/a/[^/]+',
  '(?i)/a.*',
  '/a%2[fF]b',
  '/.+/',
  '/a/b/?',
  '/x/y$',
  '^/x',
];

function pathMatch(draw: Draw): JsonObject {
  const path = draw.one(PATHS.slice(0, 7));
  const insensitive = maybe(draw, 4, [{ case_sensitive: false }]);
  switch (draw.below(5)) {
    case 0:
      return { prefix: path, ...insensitive };
    case 1:
      return { path, ...insensitive };
    case 2:
      return { path_separated_prefix: draw.one(['/a', '/a/b', '/A', '/x/y']), ...insensitive };
    default:
      return { safe_regex: { regex: draw.one(REGEXES) } };
  }
}

const QUERIES: readonly JsonObject[] = [
  { name: 'a' },
  { name: 'a', present_match: true },
  { name: 'a', present_match: false },
  { name: 'a', string_match: { exact: '1' } },
  { name: 'a', string_match: { exact: '' } },
  { name: 'a', string_match: { prefix: 'x', ignore_case: true } },
  { name: 'b', string_match: { safe_regex: { regex: '[0-9]+' } } },
  { name: 'b', string_match: { contains: '=' } },
  { name: 'a-b', string_match: { suffix: '2' } },
];
const IN_QUERIES = [
  ...['a', 'a=', 'a=1', 'a=1&a=2', 'a=2&a=1', 'b=7', 'b=7x', 'a=X1&b=7', 'a-b=12', 'a=%31', '%61=1', 'a=1;b=7'],
  ...['a=1#b=7', '&&a=1', '=1', 'a==1', 'b=a=b', '?a=1', 'a=1?', 'a+b=1', 'a=+1', 'A=1', 'a=1&b', 'b&a'],
];

const to = (match: JsonObject, cluster: string, more: JsonObject = {}): JsonObject => ({
  match,
  route: { cluster, ...more },
});
const everything = (cluster = 'c'): JsonObject => to({ prefix: '/' }, cluster);

export const normalisation: Construct = {
  share: 0.4,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(
          LISTENERS,
          (): Listener => ({
            manager: draw.one(NORMALISATION),
            hosts: [
              {
                name: 'all',
                domains: ['*'],
                routes: [
                  ...several(5, () => to(pathMatch(draw), draw.one(CLUSTERS))),
                  ...(draw.below(2) === 0 ? [everything()] : []),
                ],
              },
            ],
          }),
        ),
      ),
    ],
    paths: [
      ...PATHS.map((p) => p.replace(' ', '')),
      '//a/b',
      '/a//b',
      '/a/./b',
      '/a/../x/y',
      '/a%2fb',
      '/a%5Cb',
      '/a\\b',
    ],
    queries: IN_QUERIES,
  }),
};

export const queryParameters: Construct = {
  share: 0.5,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(LISTENERS, () => ({
          hosts: [
            {
              name: 'all',
              domains: ['*'],
              routes: [
                ...several(5, () =>
                  to(
                    {
                      ...draw.one([{ prefix: '/' }, pathMatch(draw)]),
                      query_parameters: several(1 + draw.below(2), () => draw.one(QUERIES)),
                    },
                    draw.one(CLUSTERS),
                  ),
                ),
                everything(),
              ],
            },
          ],
        })),
      ),
    ],
    queries: IN_QUERIES,
  }),
};

const DOMAINS = [
  ...[
    'h',
    'h:80',
    'h:*',
    'h.test',
    'H2.test',
    '*.test',
    '*.h.test',
    '*.test:8080',
    '*:8080',
    'h.*',
    'h.test:*',
    '*-x.test',
  ],
  ...['10.0.0.1', '10.0.0.1:80', '[::1]', '[::1]:80', '*'],
];
const HOSTS = [
  ...['h', 'H', 'h:80', 'h:8080', 'h:', 'h.', 'h.test', 'h.test:8080', 'H2.TEST', 'h2.test:1', 'x.test', 'x.h.test'],
  ...[
    '.test',
    'x.test:8080',
    'h.any',
    'h.any:80',
    'h.test:443',
    'c-x.test',
    '-x.test',
    '10.0.0.1',
    '10.0.0.1:80',
    '[::1]',
  ],
  ...['[::1]:80', 'other', 'other:8080', 'a@h', 'h:80:80', 'h_2.test', 'xn--bcher-kva.test'],
];

export const hosts: Construct = {
  share: 0.3,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(LISTENERS, (): Listener => {
          const domains = some(draw, 2, DOMAINS);
          const half = Math.ceil(domains.length / 2);
          return {
            manager: maybe(draw, 2, [
              { strip_matching_host_port: true },
              { strip_any_host_port: true },
              { strip_trailing_host_dot: true },
            ]),
            config: maybe(draw, 3, [{ ignore_port_in_host_matching: true }]),
            hosts: [domains.slice(0, half), domains.slice(half)]
              .filter((list) => list.length > 0)
              .map((list, i) => ({
                ...{ name: `v${i}`, domains: list },
                routes: [
                  {
                    match: { prefix: '/r' },
                    redirect: draw.one([{ https_redirect: true }, { port_redirect: 81 }, { path_redirect: '/n' }]),
                  },
                  everything(CLUSTERS[i]),
                ],
              })),
          };
        }),
      ),
    ],
    hosts: HOSTS,
    paths: ['/', '/r/x'],
  }),
};

const PATTERNS: readonly (readonly [pattern: string, paths: readonly string[]])[] = [
  ['^/a/([^/]+)/(.*)$', ['/a/b/c', '/a//c', '/a/b/']],
  ['/([a-z]+)/([0-9]+)', ['/x/7', '/x/7/y/8', '/X/7']],
  ['^(/[^/]*)?(/.*)', ['/a/b', '/a', '//']],
  ['(a)(b)?', ['/ab', '/a', '/aab/ab']],
  ['((a+)(b+))', ['/aabb', '/ab/ab']],
  ['(?i)(API)/v(\\d)', ['/api/v1', '/Api/V2/x']],
  ['/$', ['/a/', '/']],
  ['([^?]*)\\.html$', ['/a.html', '/a.html.html']],
  ['^/(?P<name>[a-z]+)', ['/abc/d', '/1']],
  ['(.)', ['/ab', '/']],
  ['a|(b)', ['/ab', '/ba']],
  ['/+', ['//a///b', '/']],
  ['x*?y', ['/xxy', '/y']],
];
const SUBSTITUTIONS = [
  '/n',
  '/\\1',
  '/\\2/\\1',
  '\\0\\0',
  '/n\\1?',
  '\\\\',
  '/p/\\1-\\2',
  '',
  '/\\1%20',
  '/#\\1',
  '/?q=\\1',
  '\\3/\\0',
];

function regexRewrite(draw: Draw): { rewrite: JsonObject; paths: readonly string[] } {
  const [regex, paths] = draw.one(PATTERNS);
  const groups = new RegExp(`${regex.replace('(?i)', '').replace('?P<', '?<')}|`).exec('')!.length - 1;
  // Envoy refuses groups that are not there
  const fits = SUBSTITUTIONS.filter((s) => [...s.matchAll(/\\([0-9])/g)].every(([, n]) => Number(n) <= groups));
  return { rewrite: { regex_rewrite: { pattern: { regex }, substitution: draw.one(fits) } }, paths };
}

export const rewrites: Construct = {
  share: 0.2,
  make: (draw) => {
    const paths: string[] = [];
    const change = (): JsonObject => {
      if (draw.below(4) === 0) return { prefix_rewrite: draw.one(['/', '/n', '/n/', '//', 'n', '?n', '#n']) };
      const { rewrite, paths: own } = regexRewrite(draw);
      paths.push(...own);
      return rewrite;
    };
    const listeners = several(
      LISTENERS,
      (): Listener => ({
        manager: draw.one(NORMALISATION.slice(0, 4)),
        hosts: ['*', 'h'].map((domain, v) => ({
          name: `v${v}`,
          domains: [domain],
          routes: [
            {
              match: { prefix: '/', headers: [{ name: 'x-r', present_match: true }] },
              redirect: {
                ...draw.one([
                  change(),
                  { path_redirect: draw.one(['/n', '/n?x=1', '/', 'n', '?x=1', '#n', '//n', 'http://n/n']) },
                  {},
                ]),
                ...maybe(draw, 2, [{ host_redirect: 'n.test' }, { host_redirect: 'n.test:81' }]),
                ...maybe(draw, 3, [
                  { https_redirect: true },
                  { scheme_redirect: 'https' },
                  { scheme_redirect: 'http' },
                ]),
                ...maybe(draw, 3, [{ port_redirect: 80 }, { port_redirect: 443 }, { port_redirect: 81 }]),
                ...maybe(draw, 3, [{ strip_query: true }]),
                ...maybe(draw, 2, [{ response_code: 'FOUND' }, { response_code: 'PERMANENT_REDIRECT' }]),
              },
            },
            to({ prefix: '/', query_parameters: [{ name: 'a', string_match: { exact: '1' } }] }, 'a', change()),
            to(draw.one([{ prefix: '/' }, { safe_regex: { regex: '/.*' } }]), 'b', {
              ...(draw.below(3) > 0 ? (({ prefix_rewrite: _, ...rest }) => rest)(change()) : {}),
              ...maybe(draw, 3, [{ host_rewrite_literal: 'n.test' }]),
            }),
          ],
        })),
      }),
    );
    return {
      documents: [bootstrap(listeners)],
      paths,
      headers: [['x-r', '1']],
      queries: IN_QUERIES,
      hosts: ['h', 'h:81', 'any'],
    };
  },
};
