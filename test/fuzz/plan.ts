/** A plan with one of everything that the data plane can do, for fuzzing and for comparing C with TypeScript. */
import type { Condition, ListenerPlan, Matcher, Plan, RoutePlan } from '../../src/plan/ir.js';

const path = (matcher: Matcher): Condition => ({ op: 'test', predicate: { field: { kind: 'path' }, matcher } });
const header = (name: string, matcher: Matcher): Condition => ({
  op: 'test',
  predicate: { field: { kind: 'header', name }, matcher },
});
const query = (name: string, matcher: Matcher): Condition => ({
  op: 'test',
  predicate: { field: { kind: 'query', name }, matcher },
});
const method = (value: string): Condition => ({
  op: 'test',
  predicate: { field: { kind: 'method' }, matcher: exact(value) },
});
const source = (address: string, prefixLength: number): Condition => ({
  op: 'test',
  predicate: { field: { kind: 'source_ip' }, matcher: { kind: 'cidr', address, prefixLength } },
});
const test = (kind: 'host' | 'target', matcher: Matcher): Condition => ({
  op: 'test',
  predicate: { field: { kind }, matcher },
});
const exact = (value: string, ignoreCase = false): Matcher => ({ kind: 'exact', value, ignoreCase });
const prefix = (value: string): Matcher => ({ kind: 'prefix', value, ignoreCase: false });
const and = (...of: Condition[]): Condition => ({ op: 'and', of });
const or = (...of: Condition[]): Condition => ({ op: 'or', of });
const not = (of: Condition): Condition => ({ op: 'not', of });

const forward = (cluster: string): Extract<RoutePlan['action'], { kind: 'forward' }> => ({
  kind: 'forward',
  clusters: [{ cluster, weight: 1 }],
  edits: [],
  originalPath: false,
  timeoutMs: 15000,
});

let count = 0;
const route = (match: Condition, action: RoutePlan['action'], rest: Partial<RoutePlan> = {}): RoutePlan => ({
  id: `route/${count++}`,
  name: '',
  match,
  action,
  reasons: [],
  ...rest,
});

const ROUTES: readonly RoutePlan[] = [
  route(path(exact('/exact')), forward('a')),
  route(and(path(prefix('/deny')), method('POST')), {
    kind: 'reply',
    status: 403,
    headers: [{ name: 'content-type', value: [{ kind: 'literal', value: 'text/plain' }] }],
    body: 'no',
  }),
  route(path(prefix('/moved/')), {
    kind: 'reply',
    status: 301,
    headers: [
      {
        name: 'location',
        value: [
          { kind: 'literal', value: 'http://' },
          { kind: 'host_name' },
          { kind: 'literal', value: '/new/' },
          { kind: 'path', from: 7 },
          { kind: 'query' },
        ],
      },
    ],
    body: '',
  }),
  route(path(prefix('/rewrite')), {
    ...forward('b'),
    target: {
      kind: 'pieces',
      pieces: [{ kind: 'literal', value: '/r' }, { kind: 'path', from: 8 }, { kind: 'query' }],
    },
    host: 'rewritten.example',
    originalPath: true,
  }),
  route(path({ kind: 'regex', pattern: '/users/[0-9]+/.*' }), {
    ...forward('b'),
    target: { kind: 'regex', pattern: '^/users/([0-9]+)/(.*)$', substitution: '/u/\\2/\\1' },
  }),
  route(path(prefix('/all')), {
    ...forward('b'),
    target: { kind: 'regex', pattern: '/([0-9])', substitution: '/<\\1\\0>' },
  }),
  route(and(path(prefix('/h')), header('x-version', { kind: 'range', start: 1n, end: 10n })), forward('weighted')),
  route(and(path(prefix('/h')), not(header('x-skip', { kind: 'present' }))), {
    ...forward('a'),
    edits: [
      { op: 'remove', name: 'x-secret' },
      { op: 'append', name: 'x-added', value: 'one' },
      { op: 'add_if_absent', name: 'x-default', value: 'two' },
      { op: 'overwrite', name: 'x-version', value: '9' },
      { op: 'overwrite_if_present', name: 'x-maybe', value: 'three' },
    ],
  }),
  route(and(path(prefix('/q')), query('debug', exact('1')), not(query('no', { kind: 'present' }))), forward('a')),
  route(
    or(
      and(header('x-a', prefix('p')), header('x-b', { kind: 'suffix', value: 's', ignoreCase: true })),
      source('10.0.0.0', 8),
    ),
    {
      ...forward('a'),
      retry: { statuses: [503], resets: false, retries: 1, backoffMs: 25 },
    },
  ),
  route(and(test('host', { kind: 'suffix', value: '.b.example', ignoreCase: true }), test('target', prefix('/t?x'))), {
    kind: 'reply',
    status: 307,
    headers: [
      {
        name: 'location',
        value: [{ kind: 'literal', value: 'https://' }, { kind: 'host' }, { kind: 'path', from: 0 }],
      },
    ],
    body: '',
  }),
  {
    id: 'route/unknown',
    name: '',
    action: { kind: 'proxy' },
    reasons: [{ code: 'fuzz', message: 'left to the proxy', field: '' }],
  },
];

const LISTENER: ListenerPlan = {
  name: 'all',
  proxyAddress: { address: '127.0.0.1', port: 10000 },
  offloaded: true,
  reasons: [],
  paths: { normalize: true, mergeSlashes: true, escapedSlashes: true },
  stripPort: 'any',
  virtualHosts: [
    { name: 'a', domains: ['a.example', '*.b.example', 'c.*'], routes: ROUTES },
    {
      name: 'rest',
      domains: ['*'],
      routes: [
        route(path(prefix('/')), forward('a'), { rbac: [{ action: 'deny', condition: path(prefix('/private')) }] }),
      ],
    },
  ],
  rbac: [{ action: 'allow', condition: not(header('x-blocked', { kind: 'present' })) }],
  generateRequestId: true,
  forwardedProto: 'http',
};

export const FUZZ_PLAN: Plan = {
  listeners: [
    LISTENER,
    {
      ...LISTENER,
      name: 'lax',
      paths: { normalize: false, mergeSlashes: false, escapedSlashes: false },
      stripPort: 'none',
      generateRequestId: false,
    },
  ],
  clusters: ['a', 'b', 'weighted'].map((name, i) => ({
    name,
    lb: 'round_robin',
    endpoints: [{ address: '127.0.0.1', port: 20000 + i, weight: 1 }],
  })),
};
