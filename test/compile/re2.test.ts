/**
 * Generated patterns against Google's RE2 and re2js, both over bytes (Latin-1), as Envoy matches them. SIDESTEP_REGEXES (default 1500) says how many
 * patterns are made, SIDESTEP_SEED which.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import { type Dfa, run } from '../../src/compile/dfa.js';
import { matcherDfa } from '../../src/compile/matcher.js';
import { byteText } from '../../src/regex/program.js';
import { programSize } from '../../src/regex/program-size.js';
import { parseRegex, refusal } from '../../src/regex/syntax.js';
import { UNICODE_NAMES } from '../../src/regex/unicode-names.js';
import { distances } from './distances.js';
import { askRe2 } from './re2-oracle.js';

const COUNT = Number(process.env.SIDESTEP_REGEXES ?? 1500);
const SEED = Number(process.env.SIDESTEP_SEED ?? 11);

const ATOMS = [
  ...['a', 'b', 'ab', 'abc', '/', '.', '\\.', '-', 'é', '\\x41', '\\x{e9}', '\\n', '\\t', '\\101', '\\Qa.b\\E'],
  ...['[a-c]', '[^a]', '[^/]', '\\d', '\\w', '\\s', '\\D', '\\W', '\\S', '[\\w.-]', '[^\\n]', '[[:alpha:]]', '[é-ü]'],
  ...[
    '[[:^digit:]]',
    '[^é]',
    '[]a]',
    '[^]a]',
    '[a\\]]',
    '(?i:k)',
    '(?i:[a-c])',
    '(?i)s',
    '(?i:é)',
    '(?s:.)',
    '(?-s:.)',
  ],
  ...['^', '$', '\\A', '\\z', '\\b', '\\B', '(?m:^)', '(?m:$)', '(?m)^', '(?:)', '(?U:a+)', '(?P<n>a)', '(?<m>b)'],
  ...['(?P<n>b)', '(?U)b*?', '(?i-s)A.', '\\a'],
];
const CLASSES = [
  '\\pL',
  '\\PL',
  '\\p{Lu}',
  '\\p{^Lu}',
  '\\P{Nd}',
  '[\\p{Latin}/]',
  '[^\\pN]',
  '\\p{Any}',
  '\\p{Greek}',
];
const QUANTIFIERS = ['*', '+', '?', '*?', '+?', '??', '{2}', '{1,3}', '{2,}', '{0,2}?', '{0}', '{3}'];

function patterns(atoms: readonly string[]): fc.Arbitrary<string> {
  return fc.letrec<{ p: string }>((tie) => ({
    p: fc.oneof(
      { maxDepth: 3, depthIdentifier: 'pattern' },
      fc.constantFrom(...atoms),
      fc.array(tie('p'), { minLength: 2, maxLength: 4 }).map((parts) => parts.join('')),
      fc.array(tie('p'), { minLength: 2, maxLength: 4 }).map((parts) => `(?:${parts.join('|')})`),
      fc.array(tie('p'), { minLength: 1, maxLength: 3 }).map((parts) => `(${parts.join('|')})`),
      fc.tuple(tie('p'), fc.constantFrom(...QUANTIFIERS)).map(([p, q]) => `(?:${p})${q}`),
    ),
  })).p;
}

/** Mostly not well formed. */
const junk = fc
  .array(
    fc.constantFrom(
      ...'ab()[]{}*+?|^$.\\-,:=!<>PipQE1d2xzsUm',
      ...['\\p', '{1,2}', '(?', '[^', '[:alpha:]', '\\x', '\\0', '{1001}', '{,2}', '\\Z', '\\G', '\\8', '(?<n>'],
      ...['(?P<n>', '(?#', '\\K', '\\h', '\\R', '\\cA', '++', '**', '*+', '\\pX', '\\p{Letter}', '\\p{Alphabetic}'],
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join(''));

/** Inputs that lead somewhere: a walk that prefers bytes that get nearer to acceptance, then some other bytes. */
function walks(dfa: Dfa, choices: readonly number[]): Uint8Array {
  const distance = distances(dfa);
  const bytes: number[] = [];
  let state = dfa.start;
  for (let i = 0; i < 40; i++) {
    const choice = choices[i % choices.length]!;
    if (distance[state] === 0 && (choice % 4 === 0 || i >= choices.length)) break;
    const nearer: number[] = [];
    for (let byte = 0; byte < 256; byte++)
      if (distance[dfa.next[state * dfa.width + dfa.classes[byte]!]!]! < distance[state]!) nearer.push(byte);
    const byte = nearer.length > 0 ? nearer[choice % nearer.length]! : choice;
    bytes.push(byte);
    state = dfa.next[state * dfa.width + dfa.classes[byte]!]!;
  }
  return Uint8Array.from(bytes);
}

const isAscii = (bytes: Uint8Array) => bytes.every((byte) => byte < 0x80);
const characters = [...'aAbBcCkKsS/.-1 \n\té\u017f\u212aü\u{1d11e}', '\u00c9'];
const words = fc.array(fc.constantFrom(...characters), { maxLength: 6 }).map((w) => Buffer.from(w.join('')));
const bytes = fc.uint8Array({ maxLength: 5 });
const ascii = fc.array(fc.integer({ min: 0, max: 127 }), { maxLength: 4 }).map((b) => Uint8Array.from(b));
const choices = fc.array(fc.nat(255), { minLength: 1, maxLength: 10 });

describe('generated regexes', () => {
  type Case = [pattern: string, inputs: Uint8Array[]];
  let cases: Case[] = [];
  let answers: ReturnType<typeof askRe2>;
  before(() => {
    const made = [
      ...fc.sample(patterns(ATOMS), { seed: SEED, numRuns: COUNT }),
      ...fc.sample(patterns([...ATOMS, ...CLASSES]), { seed: SEED + 1, numRuns: Math.ceil(COUNT / 5) }),
      ...[...UNICODE_NAMES].flatMap((name) => [`\\p{${name}}`, `a\\P{${name}}`]),
    ];
    cases = [...new Set(made)].map((pattern, i): Case => {
      const dfa = matcherDfa({ kind: 'regex', pattern });
      if (!dfa) return [pattern, []];
      const seed = SEED + i;
      const inputs = [
        ...fc.sample(words, { seed, numRuns: 5 }),
        ...fc.sample(bytes, { seed, numRuns: 2 }),
        ...fc.sample(choices, { seed, numRuns: 6 }).map((c) => walks(dfa, c)),
      ];
      // RE2 in Latin-1 folds ASCII letters only, re2js all that have a case.
      if (/\(\?\w*i/.test(pattern) && (!isAscii(Buffer.from(pattern)) || pattern.includes('\\x{')))
        return [pattern, inputs.filter(isAscii)];
      if (!/\\[pP]/.test(pattern)) return [pattern, inputs];
      // Classes come from tables of other versions of Unicode; what the kernel sees is ASCII.
      const single = Array.from({ length: 128 }, (_, b) => Uint8Array.of(b));
      const second = single.map(([b]) => Uint8Array.of(0x61, b!));
      const more = /^a?\\[pP]\{\w+\}$/.test(pattern) ? [...single, ...second] : fc.sample(ascii, { seed, numRuns: 6 });
      return [pattern, [...inputs.filter(isAscii), ...more]];
    });
    answers = askRe2(cases);
  });

  it('match what re2js matches', (t) => {
    let matched = 0;
    let compared = 0;
    for (const [pattern, inputs] of cases) {
      const dfa = matcherDfa({ kind: 'regex', pattern });
      if (!dfa || /\(\?P?<(\w)>.*\(\?P?<\1>/.test(pattern)) continue;
      const oracle = RE2JS.compile(byteText(pattern));
      for (const input of inputs) {
        const text = Buffer.from(input).toString('latin1');
        const holds: boolean = run(dfa, input).length > 0;
        compared++;
        if (holds) matched++;
        assert.equal(holds, oracle.matches(text), `${pattern} on ${JSON.stringify(text)}`);
      }
    }
    t.diagnostic(`${cases.length} patterns, ${compared} inputs, ${matched} matches`);
    assert.ok(matched > compared / 10);
  });

  it('match what RE2 matches', (t) => {
    if (!answers) return t.skip("google-re2's Python binding is not installed");
    let compared = 0;
    let invalid = 0;
    cases.forEach(([pattern, inputs], i) => {
      const dfa = matcherDfa({ kind: 'regex', pattern });
      const { valid, matches } = answers![i]!;
      assert.ok(valid, `RE2 refuses ${pattern}`);
      inputs.forEach((input, j) => {
        compared++;
        if (!isAscii(input)) invalid++;
        assert.equal(run(dfa!, input).length > 0, matches[j], `${pattern} on ${[...input]}`);
      });
    });
    t.diagnostic(`${compared} inputs compared, ${invalid} beyond ASCII`);
  });

  it('are taken when RE2 takes them', (t) => {
    const list = [...new Set(fc.sample(junk, { seed: SEED, numRuns: 4 * COUNT }))];
    const answered = askRe2(list.map((pattern) => [pattern, []]));
    if (!answered) return t.skip("google-re2's Python binding is not installed");
    let valid = 0;
    list.forEach((pattern, i) => {
      if (answered[i]!.valid) valid++;
      const { kind } = parseRegex(pattern);
      assert.equal(kind !== 'invalid', answered[i]!.valid, JSON.stringify(pattern));
    });
    t.diagnostic(`${list.length} texts, ${valid} of them regexes`);
  });

  it('are as large as RE2 makes them, nearly', (t) => {
    if (!answers) return t.skip("google-re2's Python binding is not installed");
    let exact = 0;
    let all = 0;
    cases.forEach(([pattern], i) => {
      const parsed = parseRegex(pattern);
      if (parsed.kind !== 'valid' || /\\[pP]/.test(pattern)) return;
      const { size } = answers![i]!;
      all++;
      if (programSize(parsed.program) === size) exact++;
      // What is refused here is refused by the proxy.
      for (const limit of [20, 40, 60, 100])
        if (refusal(pattern, limit) !== undefined) assert.ok(size > limit, `${pattern}: ${size}, limit ${limit}`);
    });
    t.diagnostic(`${exact} of ${all} exactly`);
    assert.ok(exact > 0.85 * all, `${exact} of ${all}`);
  });
});
