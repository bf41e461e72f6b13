import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatDiagnostic } from '../../../src/policy/diagnostics.js';
import { loadFiles } from '../../../src/policy/load.js';
import { Admin } from '../../../src/proxy/admin.js';
import { findEnvoy } from '../../../src/proxy/find-envoy.js';
import { CLUSTER_FIELDS, PROBES, type Probe } from './probes.js';

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
  let asked = 0;
  const queue = [...PROBES.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [i, probe] = next as [number, Probe];
      const file = join(dir, `${i}.${probe.syntax ?? 'yaml'}`);
      writeFileSync(file, probe.text);
      const { diagnostics } = await loadFiles([file]);
      const errors = diagnostics.filter((d) => d.severity === 'error');
      // what we take of these, the next test gives Envoy all at once
      if (CLUSTER_FIELDS.includes(probe.name) && errors.length === 0) continue;
      asked++;
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
  assert.equal(agreed, asked);
  assert.ok(asked > 120, `${asked} probes`);
});

test('odd values mean what they mean to Envoy', { timeout: 60_000 }, async () => {
  const file = join(dir, 'values.yaml');
  const text = (fields: readonly string[]) =>
    `static_resources:\n  clusters:\n${fields.map((f, i) => `  - name: c${i}\n    type: STATIC\n    ${f}\n`).join('')}`;
  const accepted: string[] = [];
  for (const field of CLUSTER_FIELDS) {
    writeFileSync(file, text([field]));
    const { diagnostics } = await loadFiles([file]);
    if (!diagnostics.some((d) => d.severity === 'error')) accepted.push(field);
  }
  assert.ok(accepted.length > 60, `${accepted.length} odd values`);
  const socket = join(dir, 'admin.sock');
  writeFileSync(file, `${text(accepted)}\nadmin: {address: {pipe: {path: ${socket}}}}\n`);
  const { clusters } = await loadFiles([file]);

  const child = spawn(envoy, ['-c', file, '--disable-hot-restart', '-l', 'critical', '--concurrency', '1'], {
    stdio: 'ignore',
  });
  try {
    const admin = new Admin(socket);
    for (let i = 0; i < 500 && !(await admin.ready()); i++) await sleep(20);
    const { body } = await admin.call('GET', '/config_dump?resource=static_clusters');
    const dumped = new Map<string, object>();
    for (const { cluster } of JSON.parse(body).configs) {
      const { '@type': _, ...rest } = cluster;
      dumped.set(rest.name, rest);
    }
    assert.equal(dumped.size, accepted.length);
    for (const [i, field] of accepted.entries()) assert.deepEqual(clusters[i], dumped.get(`c${i}`), field);
  } finally {
    child.kill('SIGKILL');
  }
});
