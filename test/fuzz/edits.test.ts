/** The data plane's edits of answers against the agent's, which the real Envoy has judged: the same lines, any head. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { editAnswer } from '../../src/agent/answer-programs.js';
import { parseHead } from '../../src/agent/http-framing.js';
import { type AnswerProgram, answerProgram } from '../../src/compile/answer-edits.js';
import { compileImage } from '../../src/compile/image.js';
import { VariablesSpec } from '../../src/layout/exchanges.js';
import { set } from '../../src/layout/struct.js';
import { JOINED_ANSWER_HEADERS } from '../../src/plan/answers.js';
import type { AnswerEdit, AnswerEdits, Piece, Plan, RoutePlan } from '../../src/plan/ir.js';
import { buildNative } from './native-build.js';

const PROGRAMS = 90;
const NAMES = ['x-a', 'x-b', 'vary', 'content-type', 'set-cookie', 'x-powered-by', 'access-control-allow-origin'];

const piece = (name: string): Piece[] => [{ kind: 'header', name }];
const edit: fc.Arbitrary<AnswerEdit> = fc
  .record({
    op: fc.constantFrom<AnswerEdit['op'][]>(
      'remove',
      'append',
      'overwrite',
      'set',
      'add_if_absent',
      'overwrite_if_present',
    ),
    name: fc.constantFrom(...NAMES),
    value: fc.oneof(
      fc.constantFrom('', 'v', 'a longer value, with a comma').map((value): Piece[] => [{ kind: 'literal', value }]),
      fc.constantFrom('origin', 'x-r').map(piece),
    ),
  })
  .map((e) => (e.op === 'remove' ? { ...e, value: [] } : e));
/** What a compressor adds. */
const listed: fc.Arbitrary<AnswerEdit> = fc
  .record({
    minimum: fc.constantFrom(0, 1),
    types: fc.constantFrom(['text/html'], ['a/b+c.d', 'text/html']),
    sparesEtags: fc.boolean(),
  })
  .map((when) => ({ op: 'list', name: 'vary', value: [{ kind: 'literal', value: 'Accept-Encoding' }], when }));
const edits: fc.Arbitrary<AnswerEdits> = fc.oneof(
  fc.record({ route: fc.array(edit, { maxLength: 3 }), filters: fc.array(edit, { maxLength: 2 }) }),
  fc.record({
    route: fc.array(edit, { maxLength: 1 }),
    filters: fc.oneof(
      listed.map((e) => [e]),
      listed.map((e) => [e, e]),
      fc.tuple(listed, edit),
    ),
  }),
);

/** A plan with a route for each of these edits. */
function planOf(all: readonly AnswerEdits[]): Plan {
  const routes = all.map(
    (answer, i): RoutePlan => ({
      id: `r${i}`,
      name: '',
      match: {
        op: 'test',
        predicate: { field: { kind: 'path' }, matcher: { kind: 'exact', value: `/${i}`, ignoreCase: false } },
      },
      action: {
        kind: 'forward',
        clusters: [{ cluster: 'a', weight: 1 }],
        edits: [],
        originalPath: false,
        timeoutMs: 0,
        answer,
      },
      reasons: [],
    }),
  );
  const listener = {
    name: 'l',
    proxyAddress: { address: '127.0.0.1', port: 1 },
    offloaded: true,
    reasons: [],
    paths: { normalize: false, mergeSlashes: false, escapedSlashes: false },
    stripPort: 'none' as const,
    virtualHosts: [{ name: 'v', domains: ['*'], routes }],
    rbac: [],
    generateRequestId: false,
    forwardedProto: '',
  };
  return {
    listeners: [listener],
    clusters: [
      { name: 'a', lb: 'round_robin', endpoints: [{ address: '127.0.0.1', port: 2, weight: 1 }] },
    ] as unknown as Plan['clusters'],
  };
}

type Headers = [string, string][];
const lines = (headers: readonly (readonly [string, string])[]): string[] =>
  headers
    .filter(([n]) => n !== 'connection')
    .map(([n, v]) => `${n}: ${v}`)
    .sort();

describe('edits of answers in C and in the agent', () => {
  const programs: AnswerProgram[] = [];
  let run: (input: Uint8Array) => Buffer;
  before(() => {
    const all = fc.sample(edits, { seed: 3, numRuns: PROGRAMS });
    const numbers = new Map<string, number>();
    const { image } = compileImage(planOf(all), {
      generation: 1,
      endpointId: () => 0,
      proxyEndpointId: () => 1,
      programNumber: (program) => {
        const key = JSON.stringify(program);
        const number = numbers.get(key) ?? numbers.size + 1;
        numbers.set(key, number);
        programs[number] = program;
        return number;
      },
    });
    for (const e of all) assert.ok(answerProgram(e));
    run = buildNative('edit', image);
  });

  it('make the same of 3000 heads', (t) => {
    const header = fc.oneof(
      fc.tuple(
        fc.constantFrom('X-A', 'x-b', 'Vary', 'Content-Type', 'Set-Cookie', 'X-Powered-By', 'X-Other', 'Connection'),
        fc.constantFrom('', 'u', 'some value', 'a value that is rather long'),
      ),
      fc.constantFrom(
        ...([
          ['Content-Type', 'Text/HTML ;charset=a'],
          ['Content-Type', 'a/bbc.d'],
          ['Content-Type', 'text/html'],
          ['Cache-Control', 'max-age=1 , No-Transform'],
          ['Cache-Control', 'no-transform=1'],
          ['Vary', 'x, Accept-Encoding'],
          ['Vary', 'accept-encoding'],
          ['ETag', '"e"'],
          ['Content-Encoding', 'br'],
        ] as [string, string][]),
      ),
    );
    const cases = fc.sample(
      fc.record({
        number: fc.integer({ min: 1, max: programs.length - 1 }),
        // a repeated name that is edited is the agent's
        headers: fc.uniqueArray(header, { maxLength: 6, selector: ([n]) => n }),
        origin: fc.constantFrom('', 'http://a.example', 'x'.repeat(200)),
        other: fc.constantFrom('', 'r'),
        http10: fc.boolean(),
      }),
      { seed: 5, numRuns: 3000 },
    );
    const inputs = cases.map(({ number, headers, origin, other, http10 }) => {
      const received: Headers = headers.map(([n, v]) => [n, n === 'Connection' ? 'keep-alive' : v]);
      received.push(['Content-Length', '0']);
      const head = `HTTP/1.${http10 ? 0 : 1} 200 OK\r\n${received.map(([n, v]) => `${n}: ${v}\r\n`).join('')}\r\n`;
      const program = programs[number]!;
      // variables in the order in which the program numbers them
      const values: string[] = [];
      for (const e of [...program.route, ...program.filters])
        if (typeof e.value === 'number') values[e.value] ??= values.length === e.value ? origin : other;
      for (let k = 0; k < values.length; k++) values[k] = k === 0 ? origin : other;
      const variables = new DataView(new ArrayBuffer(VariablesSpec.size));
      let at = 0;
      for (let k = 0; k < 4; k++) {
        Buffer.from(variables.buffer, VariablesSpec.at.bytes!.offset + at).write(values[k] ?? '', 'latin1');
        at += (values[k] ?? '').length;
        set(variables, 0, VariablesSpec, 'ends', at, k);
      }
      return { number, head, program, values, variables };
    });
    const out = run(
      Buffer.concat(
        inputs.flatMap(({ number, head, variables }) => [
          Buffer.from(Uint32Array.of(number).buffer),
          Buffer.from(variables.buffer),
          Buffer.from(Uint32Array.of(head.length).buffer),
          Buffer.from(head, 'latin1'),
        ]),
      ),
    );
    let at = 0;
    const counts = { agent: 0, same: 0, padded: 0 };
    for (const { head, program, values } of inputs) {
      const [kind, padded, length] = [0, 4, 8].map((i) => out.readUInt32LE(at + i));
      at += 12;
      const received = parseHead(Buffer.from(head, 'latin1'))!;
      const expected = lines(
        editAnswer(
          received.headers.filter(([n]) => n !== 'connection'),
          { program, variables: values, figure: () => 0 },
        ),
      );
      if (!kind) {
        counts.agent++;
        const joins = [...program.route, ...program.filters].some((e) => JOINED_ANSWER_HEADERS.has(e.name));
        assert.ok(joins, `left to the agent: ${JSON.stringify(program)}`);
        continue;
      }
      const check = (text: Buffer): void => {
        const built = parseHead(text);
        assert.ok(built, text.toString('latin1'));
        assert.equal(built.startLine, 'HTTP/1.1 200 OK');
        assert.deepEqual(lines(built.headers), expected, `${JSON.stringify(program)}\n${head}`);
      };
      check(out.subarray(at, at + length!));
      at += length!;
      counts.same++;
      assert.equal(padded === 1, length! <= head.length, head);
      if (!padded) continue;
      const size = out.readUInt32LE(at);
      assert.equal(size, head.length);
      check(out.subarray(at + 4, at + 4 + size));
      at += 4 + size;
      counts.padded++;
    }
    assert.equal(at, out.length);
    t.diagnostic(JSON.stringify(counts));
    assert.ok(counts.same > 1000 && counts.padded > 300);
  });
});
