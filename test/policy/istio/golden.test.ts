import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { formatDiagnostic } from '../../../src/policy/diagnostics.js';
import type { Resources } from '../../../src/policy/resources.js';
import { envoyBinary, envoyComplaint, translate } from './helpers.js';

/** Folders of pairs, by what they are about. */
const FOLDERS = ['istio', 'gateway-api'].map((name) => join(import.meta.dirname, '../../golden', name));

/** What is left to the proxy whatever it says, by name. */
function leftOf(resources: Resources): string[] {
  return [...(resources.left ?? [])].map(([object, reasons]) => {
    const { name } = object as { name?: string };
    return `${name}: ${reasons.map((reason) => `${reason.code} (${reason.position.line})`).join(', ')}`;
  });
}

/** Everything that is to be seen of a translation, objects of rules by their number. */
function render(resources: Resources): string {
  const shown = {
    diagnostics: resources.diagnostics.map(formatDiagnostic),
    documents: resources.documents,
    rules: resources.rules.map((rule) => ({
      id: rule.id,
      line: rule.position.line,
      objects: rule.objects.length,
      unsupported: rule.unsupported.map((u) => `${u.line}: ${u.field}: ${u.code}: ${u.message}`),
    })),
    ...(resources.left?.size ? { left: leftOf(resources) } : {}),
    hosts: resources.hosts,
    intercepts: resources.intercepts,
    bootstrap: resources.bootstrap,
    listeners: resources.listeners,
    clusters: resources.clusters,
  };
  // By way of JSON, so that shared objects are written out each time.
  return stringify(JSON.parse(JSON.stringify(shown)), { lineWidth: 0 });
}

const envoy = envoyBinary();
const cases = FOLDERS.flatMap((dir) =>
  readdirSync(dir)
    .filter((name) => name.endsWith('.in.yaml'))
    .map((name) => ({ dir, name })),
);

test('there are golden cases', () => {
  assert.ok(cases.length >= 28, `${cases.length} cases`);
});

for (const { dir, name } of cases) {
  test(`golden: ${name.replace('.in.yaml', '')}`, () => {
    const resources = translate(readFileSync(join(dir, name), 'utf8'));
    const rendered = render(resources);
    const out = join(dir, name.replace('.in.yaml', '.out.yaml'));
    if (process.env.UPDATE_GOLDEN) writeFileSync(out, rendered);
    assert.ok(existsSync(out), `${out} is missing: run with UPDATE_GOLDEN=1`);
    assert.equal(rendered, readFileSync(out, 'utf8'));
  });
  test(`Envoy accepts: ${name.replace('.in.yaml', '')}`, { skip: envoy ? false : 'no Envoy' }, () => {
    const resources = translate(readFileSync(join(dir, name), 'utf8'));
    const complaint = envoyComplaint(envoy ?? '', resources);
    // files of certificates that are not on this machine are looked for when all else was taken
    assert.equal(complaint?.includes('Invalid path: /etc/certs/') ? undefined : complaint, undefined);
  });
}
