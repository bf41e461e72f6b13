import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatDiagnostic } from '../../../src/policy/diagnostics.js';
import { loadFiles } from '../../../src/policy/load.js';

// Each file of errors/ (*.in is YAML that formatters must leave alone) beside what is said about it. UPDATE_GOLDEN=1 writes the latter anew; read the difference.
const folder = fileURLToPath(new URL('./errors', import.meta.url));

for (const name of readdirSync(folder).filter((n) => /\.(in|json)$/.test(n))) {
  test(`errors of ${name}, all of them with their places`, async () => {
    const { diagnostics } = await loadFiles([join(folder, name)]);
    const said = `${diagnostics.map((d) => formatDiagnostic(d).replace(`${folder}/`, '')).join('\n')}\n`;
    const golden = join(folder, `${name.replace(/\.in$/, '')}.out`);
    if (process.env.UPDATE_GOLDEN) writeFileSync(golden, said);
    assert.equal(said, readFileSync(golden, 'utf8'));
  });
}
