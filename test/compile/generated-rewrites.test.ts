/**
 * Generated regex rewrites: what the image makes of paths is what RE2's GlobalReplace makes of them. SIDESTEP_REWRITES says how
 * many patterns are tried, SIDESTEP_SEED which.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { captureRewrite } from '../../src/compile/capture.js';
import { globalReplace } from '../../src/plan/results.js';
import { Draw } from '../wild/draw.js';
import { compile, decide, forward, listener, output, path, plan, route, text } from './helpers.js';

const PATTERNS = Number(process.env.SIDESTEP_REWRITES ?? 150);
const SEED = Number(process.env.SIDESTEP_SEED ?? 9);
const PATHS = 30;

const ATOMS = ['a', 'b', '/', '1', '[ab]', '[^/]', '.', '\\d', '\\w', '[a-z]', 'ab', '/a', '(?i)A', '\\.', '-'];
const REPEATS = ['+', '*', '?', '+?', '*?', '??', '{2}', '{1,2}'];
const SUBSTITUTIONS = ['/n', 'x', '', '\\0', '\\1', '/\\1', '\\2-\\1', '<\\0>', '\\\\', '/n\\1/\\2', '\\0\\0'];
const PARTS = ['/', 'a', 'b', 'ab', '1', 'A', '-', 'c.a', 'aa', 'z'];

function pattern(draw: Draw, depth: number): string {
  const inner = () => pattern(draw, depth - 1);
  switch (depth <= 0 ? 0 : draw.below(8)) {
    case 1:
    case 2:
      return inner() + inner();
    case 3:
      return `(${inner()})`;
    case 4:
      return `(?:${inner()})${draw.one(REPEATS)}`;
    case 5:
      return `(?:${inner()}|${inner()})`;
    case 6:
      return `(${inner()})${draw.one(REPEATS)}`;
    case 7:
      return `${draw.one(['a', 'b', '/', '[ab]', '[^/]'])}${draw.one(REPEATS)}`;
    default:
      return draw.one(ATOMS);
  }
}

test('generated regex rewrites are RE2’s', (t) => {
  const draw = new Draw(SEED);
  let tried = 0;
  let decided = 0;
  for (let n = 0; n < PATTERNS; n++) {
    const regex = draw.one(['', '', '', '^', '^/', '/']) + pattern(draw, 3) + draw.one(['', '', '', '$']);
    const substitution = draw.one(SUBSTITUTIONS);
    if (typeof captureRewrite(regex, substitution) === 'string') continue;
    const target = { kind: 'regex' as const, pattern: regex, substitution };
    const compiled = compile(plan(listener([route('r', path(text('prefix', '/')), { action: forward({ target }) })])));
    if (compiled.verdicts.size > 0) continue;
    tried++;
    for (let i = 0; i < PATHS; i++) {
      const p = `/${Array.from({ length: draw.below(9) }, () => draw.one(PARTS)).join('')}`;
      if (p.startsWith('//')) continue;
      const decision = decide(compiled, `GET ${p} HTTP/1.1\nhost: a\n\n`);
      if (decision.result !== 'decided' || decision.action !== 'forward') continue;
      decided++;
      const want = globalReplace(p, regex, substitution);
      assert.equal(output(decision).split(' ')[1], want, `${regex} by ${substitution} in ${p}, seed ${SEED}`);
    }
  }
  t.diagnostic(`seed ${SEED}: ${tried} of ${PATTERNS} patterns, ${decided} paths`);
  assert.ok(tried > PATTERNS / 5 && decided > tried, `only ${tried} patterns and ${decided} paths`);
});
