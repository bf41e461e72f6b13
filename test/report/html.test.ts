import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { check } from '../../src/report/check.js';
import { extentsOf } from '../../src/report/extents.js';
import { checkHtml } from '../../src/report/html.js';
import { commonFolder, escapeHtml, highlight } from '../../src/report/html-text.js';
import { paintFor, plain } from '../../src/report/paint.js';

describe('the HTML report', () => {
  it('needs nothing else, and forbids itself to load anything', async () => {
    const { output, sources } = await check(['test/golden/check/mixed.in.yaml']);
    const html = checkHtml(output, sources);
    assert.match(html, /Content-Security-Policy" content="default-src 'none'/);
    assert.doesNotMatch(html, /<(link|img|iframe|object|embed)\b|@import|url\((?!#)|\bsrc=/i);
  });

  it('names of the user’s files are text, never markup', async () => {
    const { output, sources } = await check(['test/golden/check/mixed.in.yaml']);
    const evil = '</style></script><img src=x onerror=alert(1)>';
    const results = output.results.map((r) => ({
      ...r,
      name: evil,
      kind: evil,
      reasons: r.reasons.map((reason) => ({ ...reason, message: evil, field: evil })),
    }));
    const html = checkHtml({ ...output, results }, new Map([...sources].map(([f, t]) => [f, t + evil])));
    assert.doesNotMatch(html, /<img/);
    assert.equal(html.match(/<\/script>/g)?.length, 1);
  });

  it('a rule reaches as far as its node', () => {
    const text = 'kind: x\nspec:\n  http:\n    - name: a\n      match:\n        - x: 1\n    - name: b\n\nother: 1\n';
    const end = extentsOf(text);
    assert.deepEqual([end(2, 1), end(4, 7), end(7, 7), end(9, 1)], [7, 6, 7, 9]);
    assert.equal(end(3, 4), 3);
    const json = extentsOf('{\n"a": [\n  {"b": 1,\n   "c": 2},\n  {}\n]}\n');
    assert.deepEqual([json(3, 3), json(5, 3), json(2, 1)], [4, 5, 6]);
    assert.equal(extentsOf(': [broken')(1, 1), 1);
  });

  it('marks keys and comments, and keeps the text', () => {
    const strip = (html: string) => html.replace(/<[^>]+>/g, '');
    for (const line of ['a: b # c', '- "x#y": 1', "  k: '# no'", '# all', 'plain', 'url: http://x/#y', '\tb: <i>']) {
      assert.equal(strip(highlight(line)), escapeHtml(line));
    }
    assert.equal(highlight('a: 1 # b'), '<b>a</b>: 1 <i># b</i>');
  });

  it('the common folder', () => {
    assert.equal(commonFolder(['a/b/c.yaml', 'a/b/d/e.yaml']), 'a/b/');
    assert.equal(commonFolder(['ab/c', 'a/c']), '');
    assert.equal(commonFolder(['/x/y', '/z']), '/');
    assert.equal(commonFolder([]), '');
  });

  it('colours: terminals only, NO_COLOR wins', () => {
    assert.equal(paintFor({ isTTY: false }, {}), plain);
    assert.equal(paintFor({ isTTY: true }, { NO_COLOR: '1', FORCE_COLOR: '1' }), plain);
    assert.equal(paintFor({ isTTY: true }, { TERM: 'dumb' }), plain);
    assert.notEqual(paintFor({ isTTY: true }, { TERM: 'xterm' }), plain);
    assert.notEqual(paintFor({ isTTY: false }, { FORCE_COLOR: '1' }), plain);
  });
});
