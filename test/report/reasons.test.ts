/** The documentation of reasons is complete and true. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { REASONS } from '../../src/plan/reasons.js';
import { GUIDES, pageOf } from '../../src/report/guides.js';
import { checkExample } from '../../src/report/pages.js';

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(path.join(folder, name), 'utf8'));
}

describe('reasons', () => {
  it('every code has a guide, with an example or why there is none, and a page', () => {
    assert.deepEqual(Object.keys(GUIDES).sort(), Object.keys(REASONS).sort(), 'src/report/guides-*.ts and reasons.ts');
    for (const [code, guide] of Object.entries(GUIDES)) {
      assert.ok(guide.fix.endsWith('.'), `${code}: a sentence`);
      assert.ok((guide.example === undefined) !== (guide.without === undefined), `${code}: an example, or why not`);
      assert.match(readFileSync(pageOf(code), 'utf8'), new RegExp(`^# \`${code}\``));
    }
  });

  it('codes that the translation gives are on the closed list', () => {
    const given = new Set<string>();
    for (const text of sources('src/policy')) {
      // the code is the first text of a call that is not part of a path
      for (const [, call] of text.matchAll(/\b(?:unsupported|skip|why)\(([\s\S]*?)\);/g)) {
        const code = /'([a-z-]+)'/.exec(call!.replace(/^\s*'[a-z-]+',\s*\[/, '[').replace(/\[[^\]]*\]/g, ''))?.[1];
        const first = /^\s*'([a-z-]+)',\s*\[/.exec(call!)?.[1] ?? code;
        if (first !== undefined) given.add(first);
      }
      for (const [, code] of text.matchAll(/\bcode = '([a-z-]+)'/g)) given.add(code!);
    }
    assert.ok(given.size > 15, `found ${[...given].join(', ')}`);
    for (const code of given) assert.ok(code in REASONS, `${code} is not in src/plan/reasons.ts`);
  });

  for (const [code, { example }] of Object.entries(GUIDES)) {
    if (!example) continue;
    it(`${code}: before for this reason with the proxy, after in the kernel`, async () => {
      const before = await checkExample(example, 'before');
      assert.deepEqual(before.errors, []);
      const codes = before.results.flatMap((r) => r.reasons.map((reason) => reason.code));
      assert.ok(codes.includes(code), `the example before gives ${codes.join(', ') || 'no reason'}: write another one`);
      const after = await checkExample(example, 'after');
      assert.deepEqual(after.errors, []);
      const left = after.results.flatMap((r) => r.reasons);
      assert.deepEqual(left, [], 'the example after');
      assert.ok(after.rules > 0 && after.kernel === after.rules);
    });
  }
});
