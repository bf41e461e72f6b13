/** Regex rewrites that the kernel can do. */
export const REWRITES: [pattern: string, substitution: string][] = [
  ['^/service/([^/]+)(/.*)$', '\\2/instance/\\1'],
  ['^/api(/.*)?', '/v2\\1'],
  ['^/foo/(\\w+)', '/x/\\1'],
  ['^/one/(.*)$', '/two/\\1'],
  ['^/x', '\\0\\0'],
  ['^/a*?', '/z'],
  ['^/([a-z]+)/([0-9]+)/?', '/\\2/\\1/'],
  ['^/o/(?P<id>\\d+)\\b', '/n/\\1'],
  ['(?i)^/AbC', '/d'],
  ['^/(a|b)+', '/<\\1>'],
  ['^/(?:(a)|(b))(/[^/]*)*$', '/\\1-\\2-\\3'],
  ['^/(a+)(b?)', '/\\2\\1\\\\'],
];
