import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { formatDiagnostic } from '../../../src/policy/diagnostics.js';
import { loadFiles } from '../../../src/policy/load.js';
import { findEnvoy } from '../../../src/proxy/find-envoy.js';
import { PROBES, type Probe } from './probes.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-agreement-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const envoy = findEnvoy();

/** Whether Envoy itself takes a file. */
function taken(file: string): Promise<{ ok: boolean; said: string }> {
  return new Promise((resolve) => {
    const args = ['--mode', 'validate', '-c', file, '--disable-hot-restart', '-l', 'critical'];
    execFile(envoy, args, { timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ ok: error === null, said: `${stdout}${stderr}`.slice(0, 400) });
    });
  });
}

test('we take and refuse what Envoy takes and refuses', { timeout: 240_000 }, async () => {
  const differences: string[] = [];
  let agreed = 0;
  const queue = [...PROBES.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [i, probe] = next as [number, Probe];
      const file = join(dir, `${i}.${probe.syntax ?? 'yaml'}`);
      writeFileSync(file, probe.text);
      const { diagnostics } = await loadFiles([file]);
      const errors = diagnostics.filter((d) => d.severity === 'error');
      const { ok, said } = await taken(file);
      const agree = ok === (errors.length === 0);
      const expected = probe.stricter ? ok && errors.length > 0 : agree;
      if (expected) agreed++;
      else
        differences.push(`${probe.name}\n  Envoy: ${ok} ${said}\n  we: ${errors.map(formatDiagnostic).join('\n  ')}`);
      for (const error of errors) assert.ok(error.position, `${probe.name}: an error without a position`);
    }
  };
  await Promise.all([worker(), worker()]);
  assert.deepEqual(differences, []);
  assert.equal(agreed, PROBES.length);
});
