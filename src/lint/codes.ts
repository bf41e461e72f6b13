/**
 * What `check` warns of beside what the translation itself reports. Each warning is certain: it follows from the files,
 * whatever the requests are. docs/lint.md is generated from this list (`npm run generate`).
 */

export interface LintText {
  readonly title: string;
  readonly explanation: string;
  /** a file that gives the warning (a test runs it) */
  readonly example: string;
}

const virtualService = (http: string) => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: [reviews]
  http:
${http.replace(/^/gm, '    ')}`;

const policy = (spec: string) => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: reviews }
spec:
${spec.replace(/^/gm, '  ')}`;

const TO = 'route: [{ destination: { host: reviews } }]';

export const LINTS = {
  'unreachable-route': {
    title: 'A route that no request reaches',
    explanation:
      'An earlier route of the same virtual host matches every request that this one does: its path, headers and query parameters ask for no more. Move the narrower route up, or remove it.',
    example: virtualService(`- match: [{ uri: { prefix: /api } }]
  ${TO}
- match: [{ uri: { exact: /api/items }, method: { exact: GET } }]
  ${TO}`),
  },
  'duplicate-match': {
    title: 'Two routes with the same match',
    explanation: 'The earlier one takes every request; the later one is never reached.',
    example: virtualService(`- match: [{ uri: { prefix: /api } }]
  ${TO}
- match: [{ uri: { prefix: /api } }]
  redirect: { uri: /new }`),
  },
  'regex-never': {
    title: 'A regular expression that nothing matches',
    explanation:
      'The language of the expression is empty, or (for paths) has no word that begins with a slash and is free of `?` and `#`: no request can match.',
    example: virtualService(`- match: [{ uri: { regex: "api/v[0-9]+/.*" } }]
  ${TO}
- ${TO}`),
  },
  'path-never': {
    title: 'A path that no request has',
    explanation:
      'Paths begin with a slash, and the query (from `?` on) and the fragment are no part of what is compared.',
    example: virtualService(`- match: [{ uri: { prefix: api/v1 } }]
  ${TO}
- ${TO}`),
  },
  'regex-whole': {
    title: 'A regular expression that must match as a whole',
    explanation:
      'Envoy asks for a match of the whole value. An expression that begins with `^` and ends without `$` or `.*` looks as if it were meant to find a beginning: add `.*`, or use a prefix. One without any special character is an exact match: use exact, or add `.*`.',
    example: virtualService(`- match: [{ uri: { regex: "^/api/v[0-9]+" } }]
  ${TO}
- ${TO}`),
  },
  'method-case': {
    title: 'A method that no request has',
    explanation: 'Methods are compared with their case (RFC 9110, section 9.1), and the known ones are in upper case.',
    example: policy(`action: DENY
rules:
  - to: [{ operation: { methods: [delete] } }]`),
  },
  'rewrite-slash': {
    title: 'A prefix and its replacement that do not both end with a slash',
    explanation:
      'Only the matched bytes are replaced. `/api` replaced by `/` turns `/api/x` into `//x`, and `/api/` replaced by `/v2` turns `/api/x` into `/v2x`. Let both end with a slash, or neither.',
    example: virtualService(`- match: [{ uri: { prefix: /api } }]
  rewrite: { uri: / }
  ${TO}`),
  },
  'rewrite-whole-path': {
    title: 'A prefix rewrite behind a regular expression',
    explanation:
      'With a regular expression as match, a prefix rewrite replaces the whole path, whatever of it was matched. Use a regex rewrite to keep a part.',
    example: virtualService(`- match: [{ uri: { regex: "/v[0-9]+/items/.*" } }]
  rewrite: { uri: /items }
  ${TO}`),
  },
  'redirect-loop': {
    title: 'A redirect onto itself',
    explanation:
      'The location that the client is sent to has the same scheme, host and port, and its path meets the same route again.',
    example: virtualService(`- match: [{ uri: { prefix: /shop } }]
  redirect: { uri: /shop/home }
- ${TO}`),
  },
  'deny-all': {
    title: 'A DENY rule that matches every request',
    explanation: 'Nothing that it selects can be called at all, whatever other policies allow.',
    example: policy('action: DENY\nrules: [{}]'),
  },
  'allow-nothing': {
    title: 'An ALLOW rule that matches no request',
    explanation:
      'It lets nothing through, and as an ALLOW policy it makes what no other one allows forbidden. (A policy without any rule, the usual way to forbid everything by default, is not reported.)',
    example: policy(`action: ALLOW
rules:
  - to: [{ operation: { paths: [internal/status] } }]`),
  },
  weights: {
    title: 'Weights that do not add up to 100',
    explanation:
      'Weights are proportions, not percentages: the shares are as the message says. Sums that cannot be meant as 100 (1 and 1, or 9 and 1) are not reported.',
    example: virtualService(`- route:
    - { destination: { host: reviews, subset: v1 }, weight: 90 }
    - { destination: { host: reviews, subset: v2 }, weight: 20 }`),
  },
  'timeout-zero': {
    title: 'A timeout of zero next to retries',
    explanation:
      'A timeout of 0s switches the timeout off. With retries and no per-try timeout, a server that hangs is then waited for without end, and never tried again.',
    example: virtualService(`- timeout: 0s
  retries: { attempts: 3, retryOn: connect-failure }
  ${TO}`),
  },
} as const satisfies Record<string, LintText>;

export type LintCode = keyof typeof LINTS;

/** Warnings of the translation that a user of the list looks for as well. */
const TRANSLATION_WARNINGS: Readonly<Record<string, string>> = {
  'unknown-service': 'a host that no Service or ServiceEntry describes',
  'other-clients': 'it counts for other clients, and is judged for those',
  'no-effect':
    'a patch of an EnvoyFilter that meets nothing of what is generated, or a provider of a Telemetry that nobody has defined',
  'unknown-port':
    'a destination’s service has not the port that is meant (without one, the port that clients connect to): 503',
  'unknown-subset': 'a subset that no DestinationRule defines: requests are answered 503',
  'assumed-root': 'a VirtualService without hosts that nobody delegates to: it is judged as if somebody did',
  'unknown-delegate': 'a VirtualService delegates to one that is not there',
  'unknown-cluster': 'a route to a cluster that does not exist',
  'unknown-field': 'a field that does not exist, with the one that was probably meant',
  superseded: 'a document that decides nothing, since another one counts for its hosts or servers',
  template: 'text such as `{{ .Values.host }}`, of a template that was not rendered; it is taken as it stands',
  'duplicate-document': 'two documents of the same kind and name',
  'duplicate-policy': 'two traffic policies for one host',
  'duplicate-subset': 'two subsets of one name',
};

/** docs/lint.md. */
export function lintMarkdown(): string {
  const parts = [
    '# Warnings',
    '',
    'Generated from `src/lint/codes.ts` by `npm run generate`.',
    '`sidestep check` warns of what is certainly not meant, or certainly without effect. Warnings do not change verdicts or',
    'exit codes. Codes are stable.',
    '',
  ];
  for (const [code, { title, explanation, example }] of Object.entries(LINTS)) {
    parts.push(`## \`${code}\``, '', `**${title}.** ${explanation}`, '', '```yaml', example, '```', '');
  }
  parts.push('## Warnings of the translation', '', '| code | of |', '| --- | --- |');
  for (const [code, text] of Object.entries(TRANSLATION_WARNINGS)) parts.push(`| \`${code}\` | ${text} |`);
  return `${parts.join('\n')}\n`;
}
