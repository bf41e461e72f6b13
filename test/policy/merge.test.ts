import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import { report } from '../../src/plan/report.js';
import { loadFiles } from '../../src/policy/load.js';

async function load(text: string, assumeEndpoints: boolean): ReturnType<typeof loadFiles> {
  const dir = mkdtempSync(join(tmpdir(), 'sidestep-merge-'));
  try {
    const file = join(dir, 'all.yaml');
    writeFileSync(file, text);
    return await loadFiles([file], { assumeEndpoints });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const BOOTSTRAP = `
node: {id: mine}
layered_runtime:
  layers:
  - {name: istio, static_layer: {mine: 1}}
  - {name: admin, admin_layer: {}}
static_resources: {}
---
`;
const POLICY = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - match: [{uri: {prefix: /x}}]
    route: [{destination: {host: a}}]
`;

test('layers of the runtime are kept from all documents, under names of their own', async () => {
  const { bootstrap, diagnostics } = await load(BOOTSTRAP + POLICY, false);
  assert.deepEqual(
    diagnostics.filter((d) => d.severity === 'error'),
    [],
  );
  const { layers } = bootstrap.layered_runtime as { layers: { name: string; static_layer?: object }[] };
  assert.deepEqual(
    layers.map((l) => l.name),
    ['istio', 'admin', 'istio~2'],
  );
  assert.deepEqual(layers[0]?.static_layer, { mine: 1 });
  assert.ok('re2.max_program_size.error_level' in (layers[2]?.static_layer ?? {}));
  assert.deepEqual(bootstrap.node, { id: 'mine' });
});

test('policies without their services are judged on what they say when servers are assumed', async () => {
  const verdicts = async (assume: boolean) => {
    const resources = await load(POLICY, assume);
    return report(resources, buildPlan(resources)).results.map((r) => r.verdict);
  };
  assert.deepEqual(await verdicts(true), ['kernel']);
  assert.deepEqual(await verdicts(false), ['proxy']);
});
