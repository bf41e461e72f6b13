/** Every head that the compiled image decides, a real Envoy decides and forwards alike. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { freePort } from '../../src/lab/ports.js';
import type { Condition, HeaderEdit } from '../../src/plan/ir.js';
import { type Answer, echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from '../plan/envoy-oracle.js';
import {
  compile,
  decide,
  forward,
  header,
  listener,
  output,
  path,
  plan,
  query,
  regex,
  route,
  text,
} from './helpers.js';
import { REWRITES } from './rewrites.js';

const envoy = findEnvoy();
const skip = envoy === undefined ? 'no Envoy was found' : false;
const PATTERNS = ['/u/[^/]+/x\\d*', '(?i)/V[0-9]+(/.*)?', '/u/\\w+\\b.*', '.*\\.(css|js)'];
const EDITS: readonly HeaderEdit[] = [
  { op: 'overwrite', name: 'x-a', value: '1' },
  { op: 'append', name: 'x-b', value: '2' },
  { op: 'add_if_absent', name: 'x-c', value: '3' },
  { op: 'overwrite_if_present', name: 'x-d', value: '4' },
  { op: 'remove', name: 'x-e' },
];
const ACTIONS = {
  append: 'APPEND_IF_EXISTS_OR_ADD',
  overwrite: 'OVERWRITE_IF_EXISTS_OR_ADD',
  add_if_absent: 'ADD_IF_ABSENT',
  overwrite_if_present: 'OVERWRITE_IF_EXISTS',
};
const rule = (i: number) => header('x-rule', text('exact', `${i}`));
const cluster = { cluster: 'c', timeout: '0s' };
const byRule = (i: number) => ({ prefix: '/', headers: [{ name: 'x-rule', string_match: { exact: `${i}` } }] });
const edited = { prefix: '/e' };
const withQuery = {
  prefix: '/q',
  query_parameters: [{ name: 'q', string_match: { safe_regex: { regex: '[ab]+=?' } } }],
};

/** The same rules in Envoy's terms and as a plan. */
const ENVOY_ROUTES = [
  ...REWRITES.map(([pattern, substitution], i) => ({
    match: byRule(i),
    route: { ...cluster, regex_rewrite: { pattern: { regex: pattern }, substitution } },
  })),
  ...PATTERNS.map((pattern, i) => ({
    match: { safe_regex: { regex: pattern } },
    direct_response: { status: 510 + i },
  })),
  { match: withQuery, direct_response: { status: 520 } },
  {
    match: edited,
    route: cluster,
    request_headers_to_remove: ['x-e'],
    request_headers_to_add: EDITS.flatMap((e) =>
      e.op === 'remove'
        ? []
        : [{ header: { key: e.name, value: e.value }, append_action: ACTIONS[e.op as keyof typeof ACTIONS] }],
    ),
  },
  { match: { prefix: '/f' }, route: { ...cluster, host_rewrite_literal: 'up.example' } },
];
const both = (...of: Condition[]): Condition => ({ op: 'and', of });
const reply = (status: number) => ({ action: { kind: 'reply' as const, status, headers: [], body: '' } });
const compiled = compile(
  plan(
    listener(
      [
        ...REWRITES.map(([pattern, substitution], i) =>
          route(`w${i}`, rule(i), {
            action: forward({ target: { kind: 'regex', pattern, substitution }, originalPath: true }),
          }),
        ),
        ...PATTERNS.map((pattern, i) => route(`p${i}`, path(regex(pattern)), reply(510 + i))),
        route('q', both(path(text('prefix', '/q')), query('q', regex('[ab]+=?'))), reply(520)),
        route('e', path(text('prefix', '/e')), { action: forward({ edits: EDITS }) }),
        route('f', path(text('prefix', '/f')), {
          action: forward({
            host: 'up.example',
            edits: [{ op: 'overwrite', name: 'x-envoy-original-host', value: 'a.example:80' }],
          }),
        }),
      ],
      { generateRequestId: true, forwardedProto: 'http' },
    ),
  ),
);

type Headers = readonly (readonly [string, string])[];
/**
 * Values by name; the request id only as far as it was not made up. Repeated lines are one list (RFC 9110, section 5.3):
 * Envoy writes some of them as one line, the kernel leaves them as they are.
 */
function summary(headers: Headers): Map<string, string> {
  const map = new Map<string, string[]>();
  for (const [name, value] of headers) map.set(name, [...(map.get(name) ?? []), value]);
  const made = (v: string) => v.replace(/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/, 'UUID');
  return new Map([...map].sort().map(([name, values]) => [name, made(values.filter((v) => v !== '').join(','))]));
}

describe('an Envoy and the image', { skip }, () => {
  let running: RunningEnvoy | undefined;
  let upstream: { port: number; close(): void } | undefined;
  let port = 0;
  before(async () => {
    upstream = await echoServer('c');
    port = await freePort();
    const address = (p: number) => ({ socket_address: { address: '127.0.0.1', port_value: p } });
    const type = 'type.googleapis.com/envoy.extensions.filters';
    const manager = {
      '@type': `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 's',
      normalize_path: true,
      route_config: { virtual_hosts: [{ name: 'v', domains: ['*'], routes: ENVOY_ROUTES }] },
      http_filters: [{ name: 'router', typed_config: { '@type': `${type}.http.router.v3.Router` } }],
    };
    const lb_endpoints = [{ endpoint: { address: address(upstream.port) } }];
    running = await startEnvoy(
      envoy!,
      {
        listeners: [
          { name: 'l', address: address(port), filter_chains: [{ filters: [{ name: 'h', typed_config: manager }] }] },
        ],
        clusters: [{ name: 'c', load_assignment: { cluster_name: 'c', endpoints: [{ lb_endpoints }] } }],
      },
      [port],
    );
  });
  after(async () => {
    await running?.stop();
    upstream?.close();
  });

  it('forward and answer alike', { timeout: 120_000 }, async (t) => {
    let kernel = 0;
    const bytes = [
      ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i)),
      '/',
      '/',
      '.',
      'a',
      '1',
      'é',
    ];
    const start = fc.constantFrom(
      '',
      'e',
      'f',
      'q?q=',
      'q?a&q=a',
      'u/',
      'V1/',
      'service/',
      'api',
      'foo/',
      'one/',
      'o/12',
      'x',
      'abc',
    );
    const target = fc
      .tuple(start, fc.array(fc.constantFrom(...bytes), { maxLength: 6 }))
      .map(([s, rest]) => `/${s}${rest.join('')}`);
    const name = fc.constantFrom(
      'x-a',
      'X-B',
      'x-c',
      'x-d',
      'x-e',
      'x-x',
      'referer',
      'user-agent',
      'x-request-id',
      'x-forwarded-proto',
      'keep-alive',
      'cookie',
      'x-forwarded-for',
    );
    const value = fc.constantFrom('', 'v', 'a, b', ' \t w \t', 'http', 'http://a/b?c', '/r', 'é', '"', 'https');
    const lines = fc.array(fc.tuple(name, value), { maxLength: 4 });
    const chosen = fc.option(fc.nat(REWRITES.length - 1), { nil: -1 });
    const property = fc.asyncProperty(target, lines, chosen, async (path, headers, i) => {
      const head = [
        `GET ${path} HTTP/1.1`,
        'Host: a.example:80',
        ...headers.map(([n, v]) => `${n}: ${v}`),
        ...(i < 0 ? [] : [`x-rule: ${i}`]),
      ];
      const decision = decide(compiled, `${head.join('\n')}\n\n`);
      if (decision.result !== 'decided' || decision.action === 'proxy') return;
      kernel++;
      const answer: Answer = await sendRaw(port, head);
      const [first = '', ...rest] = output(decision).trimEnd().split('\n');
      if (decision.action === 'reply') {
        assert.equal(first, `HTTP/1.1 ${answer.status} ${first.split(' ').slice(2).join(' ')}`);
        return;
      }
      assert.equal(first.split(' ')[1], answer.seen?.target);
      const own = rest.map(
        (l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()] as const,
      );
      assert.deepEqual(summary(own), summary(answer.seen!.headers));
    });
    await fc.assert(property, {
      numRuns: Number(process.env.SIDESTEP_ENVOY_CASES ?? 1200),
      seed: 5,
      includeErrorInReport: true,
    });
    t.diagnostic(`${kernel} requests compared`);
    assert.ok(kernel > 300, `${kernel} requests were decided`);
  });
});
