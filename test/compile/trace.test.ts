/** Traced requests in the image: ids that say what is decided, contexts that go on. What Envoy does is in test/e2e/tracing.test.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { traceEdits } from '../../src/plan/trace-context.js';
import { decidedId } from '../../src/plan/trace-ids.js';
import type { TracePlan } from '../../src/plan/tracing.js';
import { compile, decide, forward, listener, output, path, plan, route, text } from './helpers.js';

const TRACE: TracePlan = {
  ...{ tracer: 'zipkin', random: 100, overall: 10_000, egress: false, long: false, shared: true },
  ...{ service: 'front', node: { id: '', zone: '' }, maxPath: 256, tags: [], statNames: {} },
};

/** The head that a server gets, by line. */
function sent(changes: Partial<TracePlan>, lines: string, uuid: string): string[] {
  const trace = { ...TRACE, ...changes };
  const action = forward({ edits: traceEdits(trace) });
  const all = route('r', path(text('prefix', '/')), { action });
  const compiled = compile(plan(listener([all], { trace, generateRequestId: true })));
  const head = output(decide(compiled, `GET / HTTP/1.1\nhost: a\n${lines}\n`, { uuid }));
  return head.trim().split('\n').slice(2).sort();
}

/** Ids whose share is 99 and 100 of 10,000. */
const [LAST, FIRST] = ['00000063', '00000064'].map((digits) => `${digits}-89ab-4cde-8f01-23456789abcd`) as [
  string,
  string,
];
const DIGITS = '0123456789abcdef';
const SAMPLED = LAST.replace('-4', '-9');

describe('ids of traced requests', () => {
  it('are judged by their version, and by their digits', () => {
    const share = { random: 100, overall: 10_000 };
    assert.equal(decidedId(LAST, share), SAMPLED);
    assert.equal(decidedId(FIRST, share), FIRST);
    for (const version of ['9', 'a', 'b']) {
      const id = FIRST.replace('-4', `-${version}`);
      assert.equal(decidedId(id, share), id);
      assert.equal(decidedId(id, { random: 10_000, overall: 100 }), FIRST);
    }
  });
});

describe('servers are told', () => {
  it('of a trace that begins', () => {
    const begun = (sampled: string, id: string) => [
      `x-b3-sampled: ${sampled}`,
      `x-b3-spanid: ${DIGITS}`,
      `x-b3-traceid: ${DIGITS}`,
      `x-request-id: ${id}`,
    ];
    assert.deepEqual(sent({}, '', LAST), begun('1', SAMPLED));
    assert.deepEqual(sent({}, '', FIRST), begun('0', FIRST));
    assert.deepEqual(sent({}, `x-request-id: ${SAMPLED}\n`, FIRST), begun('1', SAMPLED));
    assert.deepEqual(sent({}, 'x-b3-sampled: 0\n', LAST), begun('0', SAMPLED));
  });

  it('of a trace that goes on', () => {
    const context = 'x-b3-traceid: 463ac35c9f6413ad\nx-b3-spanid: a2fb4a1d1a96d312\nx-b3-sampled: 1\n';
    const same = context.trim().split('\n').sort();
    assert.deepEqual(sent({}, context, FIRST), [...same, `x-request-id: ${FIRST}`]);
    assert.deepEqual(sent({ egress: true }, context, FIRST), [
      'x-b3-parentspanid: a2fb4a1d1a96d312',
      'x-b3-sampled: 1',
      `x-b3-spanid: ${DIGITS}`,
      'x-b3-traceid: 463ac35c9f6413ad',
      `x-request-id: ${FIRST}`,
    ]);
  });

  it('of a W3C trace, which is sampled where both say so', () => {
    const parent = (flag: string) => `traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0${flag}\n`;
    const next = (flag: string) => `traceparent: 00-0af7651916cd43dd8448eb211c80319c-${DIGITS}-0${flag}`;
    for (const [flag, uuid, sampled] of [
      ['1', LAST, '1'],
      ['0', LAST, '0'],
      ['1', FIRST, '0'],
    ] as const)
      assert.equal(sent({ tracer: 'opentelemetry' }, parent(flag), uuid)[0], next(sampled), `${flag} ${uuid}`);
  });
});
