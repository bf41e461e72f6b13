/** Reports of large policies. The time of the compiler is its own tests' business. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { it } from 'node:test';
import { lint } from '../../src/lint/index.js';
import { buildPlan } from '../../src/plan/build.js';
import { report } from '../../src/plan/report.js';
import { loadFiles } from '../../src/policy/load.js';
import { totals } from '../../src/report/check.js';
import { checkHtml } from '../../src/report/html.js';
import { checkText } from '../../src/report/text.js';

const ROUTES = 10_000;
/** Seconds of processor time; about ten times what it takes. */
const LIMIT = 15;

function policy(): string {
  const lines = ['apiVersion: networking.istio.io/v1', 'kind: VirtualService', 'metadata: { name: big }', 'spec:'];
  lines.push('  hosts: [big]', '  http:');
  for (let i = 0; i < ROUTES; i++) {
    const path = `/service${i % 97}/item${i}`;
    const uri = [`exact: ${path}`, `prefix: ${path}/`, `regex: "${path}-[a-z]+"`][i % 3];
    lines.push(`    - match: [{ uri: { ${uri} } }]`, '      route: [{ destination: { host: big } }]');
  }
  return lines.join('\n');
}

it('10,000 routes: warnings and reports take seconds, and memory stays in bounds', async () => {
  const text = policy();
  const resources = await loadFiles(['-'], { stdin: Readable.from([text]), assumeEndpoints: true });
  const plan = buildPlan(resources);
  const before = process.cpuUsage();
  const found = lint(resources);
  const result = report(resources, plan, new Map(), found);
  const output = { ...result, totals: totals(result) };
  assert.equal(output.rules, ROUTES);
  assert.ok(checkText(output).length < 10_000);
  const html = checkHtml(output, new Map([['<stdin>', text]]));
  assert.ok(html.length < 40_000_000);
  // of the processor: others may be at work on this machine
  const { user, system } = process.cpuUsage(before);
  const seconds = (user + system) / 1_000_000;
  assert.ok(seconds < LIMIT, `${seconds.toFixed(1)} s`);
  assert.ok(process.memoryUsage().rss < 1_500_000_000);
});
