import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import type { Condition, Matcher, Predicate, RbacCheck, RoutePlan } from '../../src/plan/ir.js';
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
  ruleOf,
  test,
  text,
} from './helpers.js';

interface Request {
  readonly method: string;
  readonly path: string;
  /** with '?', or empty */
  readonly query: string;
  readonly headers: readonly (readonly [string, string])[];
}

/** The bytes that a predicate looks at, straight from the definition. */
function field(request: Request, { field }: Predicate): string | undefined {
  switch (field.kind) {
    case 'method':
      return request.method;
    case 'path':
      return request.path;
    case 'target':
      return request.path + request.query;
    case 'query': {
      const parameters = request.query
        .slice(1)
        .split('&')
        .map((p) => /^([^=]*)=?(.*)$/s.exec(p)!.slice(1));
      return parameters.find(([name]) => name === field.name)?.[1];
    }
    case 'header':
      return request.headers.find(([name]) => name === field.name)?.[1];
    default:
      return 'host';
  }
}

function matches(matcher: Matcher, value: string): boolean {
  switch (matcher.kind) {
    case 'regex':
      return RE2JS.compile(matcher.pattern).matches(value);
    case 'present':
      return true;
    case 'range':
      return (
        /^[+-]?\d+$/.test(value) &&
        BigInt(value.replace('+', '')) >= matcher.start &&
        BigInt(value.replace('+', '')) < matcher.end
      );
    case 'addresses':
    case 'cidr':
      return false;
    default: {
      const fold = (s: string) => (matcher.ignoreCase ? s.toLowerCase() : s);
      const [v, w] = [fold(value), fold(matcher.value)];
      if (matcher.kind === 'exact') return v === w;
      if (matcher.kind === 'prefix') return v.startsWith(w);
      return matcher.kind === 'suffix' ? v.endsWith(w) : v.includes(w);
    }
  }
}

function evaluate(condition: Condition, request: Request): boolean {
  switch (condition.op) {
    case 'const':
      return condition.value;
    case 'test': {
      const value = field(request, condition.predicate);
      return value !== undefined && matches(condition.predicate.matcher, value);
    }
    case 'not':
      return !evaluate(condition.of, request);
    case 'and':
      return condition.of.every((part) => evaluate(part, request));
    case 'or':
      return condition.of.some((part) => evaluate(part, request));
  }
}

const denied = (checks: readonly RbacCheck[], request: Request) =>
  checks.some(({ action, condition }) => evaluate(condition, request) === (action === 'deny'));

const word = fc.constantFrom('a', 'b', 'ab', 'aB', 'ba', '1', '');
const strings: fc.Arbitrary<Matcher> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('exact' as const, 'prefix' as const, 'suffix' as const, 'contains' as const),
    value: word,
    ignoreCase: fc.boolean(),
  }),
  fc.constantFrom('a+', '[ab]*', '(a|b)1?', '.*b', '(?i)AB').map(regex),
  fc.constant<Matcher>({ kind: 'present' }),
);
const paths = fc
  .oneof(
    fc
      .tuple(fc.constantFrom('exact' as const, 'prefix' as const), word, fc.boolean())
      .map(([k, w, i]) => text(k, `/${w}`, i)),
    fc.constantFrom('/a.*', '/[ab]/?1?', '/(a|b)+').map(regex),
    strings,
  )
  .map(path);
const leaf: fc.Arbitrary<Condition> = fc.oneof(
  fc.tuple(fc.constantFrom('x', 'y', 'content-length'), strings).map(([n, m]) => header(n, m)),
  fc.tuple(fc.constantFrom('p', 'q'), strings).map(([n, m]) => query(n, m)),
  fc.constantFrom('GET', 'POST').map((m) => test({ kind: 'method' }, text('exact', m))),
  fc.constant(test({ kind: 'target' }, text('suffix', 'a'))),
  fc.constant(header('x', { kind: 'range', start: -1n, end: 5n })),
  fc.boolean().map((value): Condition => ({ op: 'const', value })),
  paths,
);
const { condition } = fc.letrec<{ condition: Condition }>((tie) => ({
  condition: fc.oneof(
    { maxDepth: 3 },
    leaf,
    tie('condition').map((of): Condition => ({ op: 'not', of })),
    fc
      .tuple(fc.constantFrom('and' as const, 'or' as const), fc.array(tie('condition'), { maxLength: 3 }))
      .map(([op, of]): Condition => ({ op, of })),
  ),
}));
const match = fc.oneof(
  paths,
  fc.tuple(paths, condition).map(([p, c]): Condition => ({ op: 'and', of: [p, c] })),
  condition,
);
const rbac = fc.array(fc.record({ action: fc.constantFrom('allow' as const, 'deny' as const), condition }), {
  maxLength: 2,
});
const request: fc.Arbitrary<Request> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT'),
  path: fc
    .tuple(word, fc.constantFrom('', '/', '/1'), word)
    .map((parts) => `/${parts.join('')}`)
    .filter((p) => !p.startsWith('//')),
  query: fc.oneof(
    fc.constant(''),
    fc
      .array(fc.tuple(fc.constantFrom('p', 'q', 'pq', ''), fc.constantFrom('', '='), word), { maxLength: 3 })
      .map((p) => `?${p.map((x) => x.join('')).join('&')}`),
  ),
  headers: fc.uniqueArray(
    fc.tuple(fc.constantFrom('x', 'y', 'z'), fc.constantFrom('a', 'b', 'ab', 'AB', 'b1', '1', '-1', '5', '')),
    { maxLength: 3, selector: ([n]) => n },
  ),
});

describe('compiled policies', () => {
  it('decide as the conditions say', () => {
    let kernel = 0;
    let all = 0;
    const property = fc.property(
      fc.array(fc.tuple(match, fc.option(rbac, { nil: undefined })), { minLength: 1, maxLength: 6 }),
      rbac,
      fc.array(request, { minLength: 20, maxLength: 20 }),
      (matchers, checks, requests) => {
        const routes: RoutePlan[] = matchers.map(([m, own], i) => route(`r${i}`, m, own ? { rbac: own } : {}));
        const compiled = compile(plan(listener(routes, { rbac: checks })));
        for (const r of requests) {
          const lines = r.headers.map(([n, v]) => `${n}: ${v}\n`).join('');
          const decision = decide(compiled, `${r.method} ${r.path}${r.query} HTTP/1.1\nhost: host\n${lines}\n`);
          assert.equal(decision.result, 'decided');
          all++;
          if (decision.action === 'proxy') continue;
          kernel++;
          const winner = routes.find((one) => evaluate(one.match!, r));
          assert.equal(ruleOf(compiled, decision), winner?.id);
          const wanted = denied(winner?.rbac ?? checks, r) ? '403' : winner ? 'GET' : '404';
          const first = output(decision).split('\n')[0]!;
          assert.ok(wanted === 'GET' ? first.endsWith(' HTTP/1.1') : first.includes(wanted), `${wanted}: ${first}`);
        }
      },
    );
    fc.assert(property, { numRuns: 150 });
    assert.ok(kernel > 0.99 * all, `${kernel} of ${all} decided`);
  });

  it('are the same bytes for the same plan', () => {
    const make = () =>
      compile(plan(listener([route('a', header('x', regex('a+'))), route('b', path(text('prefix', '/b')))]))).image;
    assert.deepEqual(make(), make());
  });

  it('choose clusters by weight', () => {
    const clusters = [
      { cluster: 'c', weight: 1 },
      { cluster: 'zero', weight: 0 },
      { cluster: 'd', weight: 3 },
    ];
    const compiled = compile(
      plan(listener([route('r', path(text('prefix', '/')), { action: forward({ clusters }) })])),
    );
    const picks = [0, 1, 2, 3, 4, 7].map(
      (random) => decide(compiled, 'GET / HTTP/1.1\nhost: a\n\n', { random }).endpoints[0],
    );
    assert.deepEqual(picks, [1, 2, 2, 2, 1, 2]);
  });

  it('look at the source address', () => {
    const cidr = (address: string, prefixLength: number) =>
      test({ kind: 'source_ip' }, { kind: 'cidr', address, prefixLength });
    const rbac: RbacCheck[] = [
      { action: 'allow', condition: { op: 'or', of: [cidr('10.0.0.0', 8), cidr('fd00::', 8)] } },
    ];
    const compiled = compile(plan(listener([route('r', path(text('prefix', '/')))], { rbac })));
    const from = (...ip: number[]) =>
      decide(compiled, 'GET / HTTP/1.1\nhost: a\n\n', { sourceIp: Uint8Array.from(ip) }).action;
    assert.equal(from(10, 1, 2, 3), 'forward');
    assert.equal(from(11, 1, 2, 3), 'reply');
    assert.equal(from(0xfd, ...new Array<number>(15).fill(1)), 'forward');
  });

  it('answer as Envoy does', () => {
    const reply = (status: number, body = '', location = false) => ({
      kind: 'reply' as const,
      status,
      headers: location
        ? [
            {
              name: 'location',
              value: [
                { kind: 'literal' as const, value: 'https://' },
                { kind: 'host_name' as const },
                { kind: 'path' as const, from: 2 },
                { kind: 'query' as const },
              ],
            },
          ]
        : [],
      body,
    });
    const compiled = compile(
      plan(
        listener([
          route('a', path(text('exact', '/a')), { action: reply(503, 'no') }),
          route('b', path(text('prefix', '/b')), { action: reply(308, '', true) }),
          route('c', path(text('exact', '/c')), { action: reply(204) }),
          route('d', path(text('exact', '/d')), { action: reply(204, 'body') }),
        ]),
      ),
    );
    const ask = (m: string, p: string) => output(decide(compiled, `${m} ${p} HTTP/1.1\nhost: x.y:80\n\n`));
    assert.equal(ask('GET', '/a'), 'HTTP/1.1 503 Service Unavailable\ncontent-length: 2\n\nno');
    assert.equal(ask('HEAD', '/a'), 'HTTP/1.1 503 Service Unavailable\ncontent-length: 2\n\n');
    assert.equal(
      ask('GET', '/b/c?d'),
      'HTTP/1.1 308 Permanent Redirect\nlocation: https://x.y/c?d\ncontent-length: 0\n\n',
    );
    assert.equal(ask('GET', '/c'), 'HTTP/1.1 204 No Content\n\n');
    assert.equal(ask('GET', '/nope'), 'HTTP/1.1 404 Not Found\ncontent-length: 0\n\n');
    assert.equal(decide(compiled, 'GET /d HTTP/1.1\nhost: x\n\n').action, 'proxy');
    assert.deepEqual([...compiled.verdicts.keys()], ['d']);
  });
});
