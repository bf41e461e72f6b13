/** The data plane's C code, built natively, decides exactly as the reference interpreter of the image. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Decision, interpret } from '../../src/compile/interpret.js';
import { buildNative, FUZZ_IMAGE } from './native-build.js';
import { FUZZ_PLAN } from './plan.js';
import { REQUESTS } from './seeds.js';

interface Request {
  readonly listener: number;
  readonly source: readonly number[];
  readonly text: string;
}

/** What both sides say, in words, so that a difference reads well. */
interface Outcome {
  readonly result: string;
  readonly action: string;
  readonly rule: number;
  readonly output: string;
}

const CASES = Number(process.env.SIDESTEP_FUZZ_CASES ?? 4000);
/** What random_u32 of the native build makes of a version 4 UUID. */
const UUID = '87654321-8765-4321-8765-432187654321';
function ofInterpreter({ listener, source, text }: Request): Outcome {
  const around = { sourceIp: Uint8Array.from(source), random: 0, uuid: UUID };
  const d: Decision = interpret(FUZZ_IMAGE, listener, Buffer.from(text, 'latin1'), around);
  if (d.result !== 'decided') return { result: d.result, action: '', rule: -1, output: '' };
  return { result: d.result, action: d.action, rule: d.rule, output: Buffer.from(d.output).toString('latin1') };
}

/** Runs all requests through the C program at once. */
function ofC(run: (input: Uint8Array) => Buffer, requests: readonly Request[]): Outcome[] {
  const input = requests.map(({ listener, source, text }) => {
    const head = Buffer.alloc(28);
    head.writeUInt32LE(listener, 0);
    head.writeUInt32LE(source.length === 16 ? 1 : 0, 4);
    head.set(source, 8);
    head.writeUInt32LE(text.length, 24);
    return Buffer.concat([head, Buffer.from(text, 'latin1')]);
  });
  const out = run(Buffer.concat(input));
  let at = 0;
  return requests.map(() => {
    const [result, kind, rule, fits, length] = [0, 4, 8, 12, 16].map((o) => out.readUInt32LE(at + o)) as number[];
    at += 20 + length!;
    if (result !== 1) return { result: result === 0 ? 'partial' : 'odd', action: '', rule: -1, output: '' };
    const action = fits ? ['proxy', 'forward', 'reply'][kind!]! : 'proxy';
    const output = out.toString('latin1', at - length!, at);
    return { result: 'decided', action, rule: rule! - 1, output };
  });
}

const TOKENS = [
  ...[
    'GET ',
    'HEAD ',
    'POST ',
    'PATCH ',
    ' HTTP/1.1\r\n',
    ' HTTP/1.0\r\n',
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\r',
    ' ',
    '\t',
    ':',
  ],
  ...[
    '/exact',
    '/deny',
    '/moved/',
    '/rewrite',
    '/users/7/',
    '/all/1/23/4',
    '/h',
    '/q',
    '?debug=1',
    '&no',
    '/private',
    '//',
    '/./',
    '/..',
  ],
  ...['%2f', '\\', '#', '?', '/t?x'],
  ...['Host: a.example\r\n', 'Host: z.b.example:80\r\n', 'host:c.de\r\n', 'Host: A.EXAMPLE.\r\n', 'Host: other\r\n'],
  ...['Content-Length: 3\r\n', 'content-length:0\r\n', 'Transfer-Encoding: chunked\r\n', 'Connection: keep-alive\r\n'],
  ...['Connection: close\r\n', 'TE: x\r\n', 'Expect: y\r\n', 'x-envoy-retry-on: 5xx\r\n', 'X-Request-Id: r\r\n'],
  ...['x-forwarded-proto: https\r\n', 'x-version: 9\r\n', 'x-version: -1\r\n', 'x-skip:\r\n', 'x-secret: 1\r\n'],
  ...[
    'x-maybe: m\r\n',
    'x-default: d\r\n',
    'x-a: p1\r\n',
    'x-b: zS\r\n',
    'x-blocked: 1\r\n',
    'x: \xff\r\n',
    'x: \0\r\n',
  ],
];

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT', 'get'];
const isLine = (token: string): boolean => /^[\w-]+ ?:.*\r\n$/s.test(token);
const isPath = (token: string): boolean => /^[/?&%]/.test(token);

const ODD = /%|\\|\/\/|\/\.|transfer|connection: close|^te|expect|envoy|\xff|\0/i;
/** Mostly tokens that the kernel takes, so that most requests are decided. */
const some = (tokens: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 25, arbitrary: fc.constantFrom(...tokens.filter((t) => !ODD.test(t))) },
    { weight: 1, arbitrary: fc.constantFrom(...tokens.filter((t) => ODD.test(t))) },
  );

/** Mostly well-formed requests from the vocabulary of the plan. */
const structured = fc
  .record({
    method: fc.constantFrom(...METHODS),
    start: fc.constantFrom(...TOKENS.filter((t) => /^\/\w/.test(t))),
    path: fc.array(some(TOKENS.filter((t) => isPath(t) && t !== '/moved/')), { maxLength: 2 }),
    host: fc.constantFrom(...TOKENS.filter((t) => /^host:/i.test(t))),
    lines: fc.uniqueArray(some(TOKENS.filter((t) => isLine(t) && !/^host:/i.test(t))), { maxLength: 6 }),
  })
  .map(
    ({ method, start, path, host, lines }) =>
      `${method} ${start}${path.join('')} HTTP/1.1\r\n${host}${lines.join('')}\r\n`,
  );

/** A seed with some bytes replaced by tokens or cut out. */
const mutated = fc
  .record({
    seed: fc.constantFrom(...REQUESTS),
    edits: fc.array(fc.record({ at: fc.nat(), cut: fc.nat({ max: 12 }), token: fc.constantFrom('', ...TOKENS) }), {
      maxLength: 3,
    }),
  })
  .map(({ seed, edits }) =>
    edits.reduce((text, { at, cut, token }) => {
      const from = at % (text.length + 1);
      return text.slice(0, from) + token + text.slice(from + cut);
    }, seed),
  );

const request: fc.Arbitrary<Request> = fc.record({
  listener: fc.nat({ max: FUZZ_PLAN.listeners.length - 1 }),
  source: fc.oneof(
    fc.tuple(fc.constantFrom(10, 11), fc.nat(255), fc.nat(255), fc.nat(255)),
    fc.array(fc.nat(255), { minLength: 16, maxLength: 16 }),
  ),
  text: fc.oneof({ weight: 3, arbitrary: structured }, { weight: 2, arbitrary: mutated }),
});

describe('the data plane in C, built natively', () => {
  let run: (input: Uint8Array) => Buffer;
  before(() => {
    run = buildNative('decide');
  });

  const compare = (requests: readonly Request[]): { result: string; action: string }[] => {
    const outcomes = ofC(run, requests);
    for (const [i, outcome] of outcomes.entries()) {
      assert.deepEqual(outcome, ofInterpreter(requests[i]!), `request ${i}: ${JSON.stringify(requests[i])}`);
    }
    return outcomes;
  };

  it('agrees with the interpreter on every seed', () => {
    compare(REQUESTS.flatMap((text) => [0, 1].map((listener) => ({ listener, source: [10, 0, 0, 1], text }))));
  });

  it(`agrees with the interpreter on ${CASES} generated requests, many of which it decides`, (t) => {
    const requests = fc.sample(request, { numRuns: CASES, seed: Number(process.env.SIDESTEP_SEED ?? 3) });
    const outcomes = compare(requests);
    const share = (test: (o: { result: string; action: string }) => boolean): number =>
      outcomes.filter(test).length / outcomes.length;
    const shares = ['forward', 'reply', 'proxy', ''].map(
      (a) => `${a || 'not decided'} ${share((o) => o.action === a).toFixed(2)}`,
    );
    t.diagnostic(shares.join(', '));
    // so that agreement on nothing but odd heads cannot pass
    assert.ok(share((o) => o.action === 'forward') > 0.1);
    assert.ok(share((o) => o.action === 'reply') > 0.05);
    assert.ok(share((o) => o.result === 'odd') > 0.1);
  });
});
