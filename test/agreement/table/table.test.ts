/** The tables in docs/agreement.md: whatever the plan reads is in them, with where it is compared with Envoy. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../../src/lab/paths.js';
import { CONSTRUCTS } from '../constructs/generated.js';
import { written } from './table.js';
import { planWords } from './words.js';

const HOW = 'npx tsx test/agreement/table/table.ts writes the table';

test('every construct that the plan reads is in the table of constructs', () => {
  const rows = new Map(
    [...written().matchAll(/^\| `([\w-]+\.ts)` \| (.*) \|$/gm)].map(([, file, row]) => [file!, row!]),
  );
  const missing = [...planWords()].flatMap(([file, words]) =>
    words.filter((word) => !rows.get(file)?.includes(`\`${word}\``)).map((word) => `${word} (${file})`),
  );
  assert.deepEqual(missing, [], HOW);
});

test('every construct of the table is generated, stands in a test, or is said to be neither', () => {
  const nowhere = [...written().matchAll(/`(\w+)` nowhere/g)].map(([, word]) => word);
  assert.deepEqual(
    nowhere,
    [],
    'a generator (test/agreement/constructs/rare.ts), or an entry of OTHERWISE in table.ts',
  );
  const wrong = [...written().matchAll(/`(\w+)` ([\w/.-]+\.(?:ts|yaml|json))\b/g)].filter(
    ([, word, file]) => !readFileSync(join(packageRoot(), 'test', file!), 'utf8').includes(word!),
  );
  assert.deepEqual(
    wrong.map(([row]) => row),
    [],
    HOW,
  );
});

test('every generator has a row that counts its pairs', () => {
  const text = readFileSync(join(packageRoot(), 'docs/agreement.md'), 'utf8');
  for (const name of [...Object.keys(CONSTRUCTS), 'streams', 'outliers', 'everything'])
    assert.match(text, new RegExp(`^\\| \`${name}\`.* \\| [\\d,]+ \\| [\\d,]+ \\|$`, 'm'), name);
});
