/** Automata as the image holds them, rows and nodes, accept what the automata accept. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Blob } from '../../src/compile/blob.js';
import { type Dfa, run } from '../../src/compile/dfa.js';
import { forms, type Node } from '../../src/compile/forms.js';
import { pathAutomaton } from '../../src/compile/path.js';
import { match } from '../../src/compile/run-automaton.js';
import { dense, type Sparse } from '../../src/compile/sparse.js';
import { MAX_FAILS } from '../../src/layout/image.js';
import type { Matcher } from '../../src/plan/ir.js';

const RUNS = 400;
const BUDGET = 4 << 20;

/** Texts with much in common, in both cases, of which some begin or end like others. */
const piece = fc.constantFrom(
  ...[
    '/',
    '/api',
    '/shop',
    '/items-',
    '/internal/',
    'v1',
    'v2/',
    '1',
    '2',
    '10',
    'a-long-name-of-a-thing',
    'S',
    'h',
    'OP',
  ],
);
const literal = fc.array(piece, { minLength: 1, maxLength: 7 }).map((list) => `/${list.join('')}`);
const part = fc.constantFrom(...['[0-9]+', '[^/]+', '.*', '(a|sh|v1)', '[\\w.-]*', 'i?', '(?i:shop)', '[A-C]']);
const pattern = fc
  .array(fc.oneof({ weight: 3, arbitrary: piece }, { weight: 2, arbitrary: part }), { minLength: 1, maxLength: 5 })
  .map((list) => `/${list.join('')}`);
const matcher: fc.Arbitrary<Matcher> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('exact' as const), value: literal, ignoreCase: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('prefix' as const), value: literal, ignoreCase: fc.boolean() }),
  },
  { weight: 2, arbitrary: pattern.map((text) => ({ kind: 'regex' as const, pattern: text })) },
);

function automatonOf(matchers: readonly Matcher[]): Sparse {
  const predicates = matchers.map((m) => ({ field: { kind: 'path' as const }, matcher: m }));
  return pathAutomaton(predicates, BUDGET).automaton;
}

/** Each text, what is left of it when it ends early, and what a byte more, less, or in another case makes of it. */
function near(texts: readonly string[], more: readonly string[]): string[] {
  const around = texts.flatMap((text) =>
    [...text].flatMap((letter, i) => {
      const before = text.slice(0, i);
      const after = text.slice(i + 1);
      const other = letter === letter.toUpperCase() ? letter.toLowerCase() : letter.toUpperCase();
      return [before, `${before}${other}${after}`, `${before}~${after}`, `${before}/${after}`, before + after];
    }),
  );
  return [...texts, ...around, ...texts.map((text) => `${text}x`), ...more];
}

function check(automaton: Sparse, inputs: readonly string[]): void {
  const blob = new Blob(8 << 20);
  const labels = new Map<number, readonly number[]>([[0, []]]);
  const rows = blob.rows(automaton, (label) => {
    if (label.length === 0) return 0;
    const at = blob.words(label);
    labels.set(at, label);
    return at;
  });
  const bytes = blob.finish();
  // as in the kernel, where something lies behind every offset
  const image = new DataView(Uint8Array.from([...bytes, ...new Uint8Array(4096)]).buffer);
  const dfa: Dfa = dense(automaton);
  for (const input of inputs) {
    const text = Buffer.from(input, 'latin1');
    const found = labels.get(match(image, rows.start, rows.classes, text));
    assert.deepEqual(found, run(dfa, text), JSON.stringify(input));
  }
}

const nodesOf = (automaton: Sparse): Node[] =>
  forms(
    automaton,
    automaton.labels.map((_, i) => 8 * i),
  ).of.filter((form): form is Node => typeof form === 'object');

describe('the forms of states', () => {
  it('change nothing of what an automaton accepts', () => {
    let chains = 0;
    let again = 0;
    fc.assert(
      fc.property(
        fc.array(matcher, { minLength: 1, maxLength: 12 }),
        fc.array(literal, { maxLength: 4 }),
        (list, more) => {
          const automaton = automatonOf(list);
          for (const { chain, fails } of nodesOf(automaton)) {
            if (chain.length > 1) chains++;
            if (fails > 1) again++;
            assert.ok(fails <= MAX_FAILS, `fails ${fails} times`);
          }
          const texts = list.flatMap((m) => ('value' in m ? [m.value] : []));
          check(automaton, near([...texts, ...more], ['', '/', '/v1', '/shop/v2/1']));
        },
      ),
      { numRuns: RUNS, seed: 20261126 },
    );
    assert.ok(chains > RUNS, `${chains} chains`);
    assert.ok(again > 10, `${again} nodes that may fail twice`);
  });

  it('make few states of long strings', () => {
    const list = Array.from({ length: 1000 }, (_, i) => `/services/of/the/shop/item-${1000 + i}/detail`);
    const automaton = automatonOf(list.map((value) => ({ kind: 'exact', value, ignoreCase: false })));
    const { order } = forms(
      automaton,
      automaton.labels.map((_, i) => 8 * i),
    );
    assert.ok(order.length < 2500, `${order.length} of ${automaton.accept.length}`);
    check(automaton, near([list[0]!, list[517]!], list));
  });
});
