import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import { type Dfa, run } from '../../src/compile/dfa.js';
import { matcherDfa } from '../../src/compile/matcher.js';
import { byteText } from '../../src/regex/program.js';
import { distances } from './distances.js';

const PATTERNS = [
  '',
  '^$',
  '/api/v[0-9]+/(users|orders)/[^/]+(/.*)?',
  '[^/]+/.*',
  '^/a.*b$',
  '\\bfoo\\b.*',
  '.*\\Ba\\B.*',
  '(?m)^a$',
  '(?s).*x.*',
  '(?i)strasse|K',
  '(?i)[a-z]+\\d*',
  '(a|ab)(c|bcd)(d*)',
  'x{0,30}',
  '(?:a?){10}a{10}',
  '[a-f0-9]{8}-[a-f0-9]{4}',
  '.*\\.(css|js|png)',
  '(?U)a.*b.*',
  '[\\w.-]+@[\\w.-]+\\.\\w+',
  '\\Qa.b\\E.*',
  '(^|;)\\s*user=([^;]*)(;|$)',
  '(.*?;)?(user=jason)(;.*)?',
  '\\d{1,3}(\\.\\d{1,3}){3}',
  '[\u00e0-\u00ff]+',
  '\u00e9+',
  '[^\\x00-\\x7F]+',
  '[[:alpha:]]{2,8}',
  '(foo|bar|baz)*',
  'a\\z',
  'a|b',
];

/** A string that leads to an accepting state, by a walk that prefers bytes that go nearer to one. */
function sample(dfa: Dfa, choices: readonly number[]): Uint8Array {
  const distance = distances(dfa);
  const bytes: number[] = [];
  let state = dfa.start;
  for (let i = 0; i < 60; i++) {
    const choice = choices[i % choices.length]!;
    if (distance[state] === 0 && (choice % 4 === 0 || i >= choices.length)) break;
    const options: number[] = [];
    for (let byte = 0; byte < 256; byte++) {
      const to = distance[dfa.next[state * dfa.width + dfa.classes[byte]!]!]!;
      if (to < (i < choices.length ? Number.POSITIVE_INFINITY : distance[state]!)) options.push(byte);
    }
    if (options.length === 0) break;
    const byte = options[choice % options.length]!;
    bytes.push(byte);
    state = dfa.next[state * dfa.width + dfa.classes[byte]!]!;
  }
  return Uint8Array.from(bytes);
}

describe('regex automata', () => {
  for (const pattern of PATTERNS) {
    it(`agrees with re2js: ${pattern}`, () => {
      const dfa = matcherDfa({ kind: 'regex', pattern });
      assert.ok(dfa);
      const oracle = RE2JS.compile(byteText(pattern));
      // Envoy's RE2 folds the case of ASCII letters only, re2js that of all letters.
      const asciiOnly = pattern.includes('(?i)');
      let positive = 0;
      const check = (bytes: Uint8Array) => {
        if (asciiOnly && bytes.some((byte) => byte > 0x7f)) return;
        const input = Buffer.from(bytes).toString('latin1');
        const holds = run(dfa, bytes).length > 0;
        if (holds) positive++;
        assert.equal(holds, oracle.matches(input), JSON.stringify(input));
      };
      const walk = fc.array(fc.nat(255), { minLength: 1, maxLength: 12 }).map((choices) => sample(dfa, choices));
      const alphabet = [...new Set([...pattern, ...'aZ0/_. \nK\u017f\u00e9\u{1d11e}'])];
      const random = fc.array(fc.constantFrom(...alphabet), { maxLength: 12 }).map((a) => Buffer.from(a.join('')));
      fc.assert(fc.property(fc.oneof(walk, random), check), { numRuns: 150, seed: 7 });
      assert.ok(positive > 0, 'no input matched');
    });
  }

  it('refuses what cannot be promised to mean the same in the proxy', () => {
    for (const pattern of ['\\C', '\\p{Alphabetic}', '\\p{greek}', '(?<=a)b', 'a(?=b)', '(', 'a**'])
      assert.equal(matcherDfa({ kind: 'regex', pattern }), undefined, pattern);
  });
});
