import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { reasonsMarkdown } from '../../src/plan/reasons.js';

it('docs/reasons.md is what reasons.ts says', () => {
  assert.equal(readFileSync(new URL('../../docs/reasons.md', import.meta.url), 'utf8'), reasonsMarkdown());
});
