/** Golden pairs: x.in.yaml (Envoy's or Kubernetes' documents) -> its plan. UPDATE_GOLDEN=1 writes them anew. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { buildPlan } from '../../src/plan/build.js';
import { describeCondition } from '../../src/plan/describe.js';
import type { Plan, RoutePlan } from '../../src/plan/ir.js';
import { formatDiagnostic } from '../../src/policy/diagnostics.js';
import { loadFiles } from '../../src/policy/load.js';

const DIR = join(import.meta.dirname, '../golden/plan');

/** A plan as people read it: conditions in words, what is at its default left out. */
function render(plan: Plan): unknown {
  const route = (r: RoutePlan) => ({
    name: r.name,
    ...(r.guard ? { guard: true } : {}),
    ...(r.position ? { line: r.position.line } : {}),
    match: r.match ? describeCondition(r.match) : 'known to the proxy only',
    ...(r.rbac ? { rbac: r.rbac.map((c) => `${c.action} ${describeCondition(c.condition)}`) } : {}),
    ...(r.reasons.length > 0
      ? { proxy: r.reasons.map((reason) => `${reason.code}: ${reason.message}`) }
      : { action: r.action }),
  });
  return {
    listeners: plan.listeners.map((l) => ({
      ...{ name: l.name, offloaded: l.offloaded },
      ...(l.reasons.length > 0 ? { reasons: l.reasons.map((r) => `${r.code}: ${r.message}`) } : {}),
      paths: Object.entries(l.paths).flatMap(([rule, on]) => (on ? [rule] : [])),
      ...(l.rbac.length > 0 ? { rbac: l.rbac.map((c) => `${c.action} ${describeCondition(c.condition)}`) } : {}),
      hosts: l.virtualHosts.map((v) => ({ domains: v.domains, routes: v.routes.map(route) })),
    })),
    clusters: plan.clusters,
  };
}

const cases = existsSync(DIR) ? readdirSync(DIR).filter((name) => name.endsWith('.in.yaml')) : [];

test('there are golden plans', () => {
  assert.ok(cases.length >= 8, `${cases.length} cases`);
});

for (const name of cases) {
  test(`golden plan: ${name.replace('.in.yaml', '')}`, async () => {
    const resources = await loadFiles([join(DIR, name)], { assumeEndpoints: true });
    const errors = resources.diagnostics.filter((d) => d.severity === 'error').map(formatDiagnostic);
    assert.deepEqual(errors, []);
    // by way of JSON, so that shared objects are written out each time
    const plain = JSON.stringify(render(buildPlan(resources)), (_, v) => (typeof v === 'bigint' ? `${v}` : v));
    const rendered = stringify(JSON.parse(plain), { lineWidth: 0 });
    const out = join(DIR, name.replace('.in.yaml', '.out.yaml'));
    if (process.env.UPDATE_GOLDEN) writeFileSync(out, rendered);
    assert.ok(existsSync(out), `${out} is missing: run with UPDATE_GOLDEN=1`);
    assert.equal(rendered, readFileSync(out, 'utf8'));
  });
}
