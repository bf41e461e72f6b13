/** What the README prints of `check` and `explain` is what they print. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../../src/lab/paths.js';
import { runCommand } from '../../src/lab/processes.js';

const readme = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
const SHOWN = /^\$ sidestep ((?:check|explain) .*)\n([\s\S]*?)(?=^\$ |^```$)/gm;

describe('the README', () => {
  const shown = [...readme.matchAll(SHOWN)];
  test('shows both commands', () => assert.ok(shown.length >= 4));
  for (const [, args, output] of shown)
    test(`sidestep ${args}`, async () => {
      const shell = ['sh', '-c', `exec "$0" bin/sidestep.mjs ${args}`, process.execPath];
      const r = await runCommand(shell, { cwd: packageRoot() });
      assert.equal(r.stdout.trimEnd(), output!.trimEnd(), r.stderr);
      assert.equal(r.code, 0);
    });
});
