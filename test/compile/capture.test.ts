import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { captureRewrite } from '../../src/compile/capture.js';
import { globalReplace } from '../../src/plan/results.js';
import { compile, decide, forward, listener, output, path, plan, route, text } from './helpers.js';
import { REWRITES } from './rewrites.js';

/** RE2's GlobalReplace by way of the oracle. */
function reference(pattern: string, substitution: string, input: string): string {
  return globalReplace(input, pattern, substitution);
}

describe('regex rewrites', () => {
  for (const [pattern, substitution] of REWRITES) {
    it(`replaces ${pattern} by ${substitution}`, () => {
      const target = { kind: 'regex' as const, pattern, substitution };
      const compiled = compile(
        plan(listener([route('r', path(text('prefix', '/')), { action: forward({ target }) })])),
      );
      assert.deepEqual([...compiled.verdicts], []);
      const first = ['service', 'api', 'foo', 'one', 'x', 'a', 'b', 'o/12', 'abc', 'ABC', 'a/b', 'x/1', ''];
      const words = ['/', '/', 'a', 'b', 'x', '1', 'c', '-', '_', '12'];
      const input = fc
        .tuple(fc.constantFrom(...first), fc.array(fc.constantFrom(...words), { maxLength: 5 }))
        .map(([start, parts]) => `/${start}${parts.join('')}`);
      let changed = 0;
      fc.assert(
        fc.property(
          input.filter((p) => !p.startsWith('//')),
          fc.constantFrom('', '?', '?q=/x'),
          (p, query) => {
            const want = reference(pattern, substitution, p);
            if (want !== p) changed++;
            const decision = decide(compiled, `GET ${p}${query} HTTP/1.1\nhost: a\n\n`);
            assert.equal(output(decision).split(' ')[1], want + query, p);
          },
        ),
        { numRuns: 400, seed: 1 },
      );
      assert.ok(changed > 0, 'no path was rewritten');
    });
  }

  it('leaves to the proxy what cannot be done exactly', () => {
    const refused: [string, string][] = [
      ['a*', '/x'],
      ['/x', ''],
      ['\\bfoo', '/x'],
      ['^(.*)/x', '/\\1'],
      ['^/(a|ab)(c|bcd)(d*)', '/\\1-\\2-\\3'],
      ['^/b(.*)$', '\\1'],
      ['^/x', ''],
      ['^/x', '/\\1'],
      ['^/x', '/\\q'],
      ['^/\\C', '/'],
      ['(?m)^/x', '/y'],
      ['^/(a)(b)(c)(d)', '/\\1\\2\\3\\4'],
    ];
    for (const [pattern, substitution] of refused)
      assert.equal(typeof captureRewrite(pattern, substitution), 'string', `${pattern} ${substitution}`);
  });
});
