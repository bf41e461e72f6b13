/** Rules that count for some clients only are judged for these. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { check, refusedByCompiler } from '../../src/report/check.js';
import { judge } from '../../src/report/clients.js';

const FILES = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: [reviews]
  http:
    - match: [{ sourceLabels: { app: web } }, { sourceNamespace: shop, sourceLabels: { app: cart } }]
      directResponse: { status: 403 }
    - match: [{ sourceLabels: { app: tap } }]
      fault: { delay: { fixedDelay: 1s, percentage: { value: 100 } } }
      route: [{ destination: { host: reviews } }]
    - route: [{ destination: { host: reviews } }]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: web, namespace: shop }
spec:
  workloadSelector: { labels: { app: cart } }
  egress: [{ hosts: ["*/*"] }]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: second, namespace: shop }
spec:
  workloadSelector: { labels: { app: cart } }
  egress: [{ hosts: ["*/*"] }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews }
spec:
  host: reviews
  workloadSelector: { matchLabels: { app: web } }
  trafficPolicy: { loadBalancer: { simple: RANDOM } }
`;

const judged = async (workload?: { namespace?: string; labels?: Record<string, string> }) => {
  const { output } = await check(['-'], { stdin: Readable.from([FILES]), ...(workload ? { workload } : {}) });
  assert.deepEqual(output.errors, []);
  const rules = output.results.map((r) => `${r.rule} ${r.verdict} ${r.reasons.map((reason) => reason.code).join(',')}`);
  return { output, rules: rules.map((text) => text.trim()) };
};

test('each rule is judged for the clients that it counts for', async () => {
  const { output, rules } = await judged();
  assert.deepEqual(rules, [
    'http[0] kernel',
    'http[1] proxy per-route-filter',
    'http[2] kernel',
    'spec kernel',
    // for these clients the first Sidecar counts
    'spec proxy source-match',
    'trafficPolicy kernel',
  ]);
  const told = output.warnings.filter((w) => w.code === 'other-clients').map((w) => `${w.line} ${w.message}`);
  assert.equal(told.length, 5, told.join('\n'));
  assert.match(told.join('\n'), /^8 .*: run --namespace shop --labels app=cart$/m);
  assert.equal(output.kernel, 4);
  assert.equal(output.totals.share, 66.67);
});

test('with clients that are named, rules for others count for nobody', async () => {
  const { rules } = await judged({ namespace: 'default', labels: { app: 'tap' } });
  assert.deepEqual(rules, [
    'http[0] proxy source-match,source-match',
    'http[1] proxy per-route-filter',
    'http[2] kernel',
    'spec proxy source-match',
    'spec proxy source-match',
    'trafficPolicy proxy source-match',
  ]);
});

const HIDDEN = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: few }
spec: { egress: [{ hosts: ["./*"] }] }
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: all, namespace: istio-system }
spec: { egress: [{ hosts: ["*/*"] }] }
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: second }
spec: { egress: [{ hosts: ["*/*"] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: unimported, namespace: shop }
spec: { hosts: [cart], http: [{ route: [{ destination: { host: cart } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: exported, namespace: shop }
spec: { hosts: [pay.bank.svc.cluster.local], exportTo: [bank, web], tcp: [{ route: [{ destination: { host: pay.bank.svc.cluster.local } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: nobodys, namespace: shop }
spec: { hosts: [cart], exportTo: ["~"], http: [{ route: [{ destination: { host: cart } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: wrong, namespace: shop }
spec: { hosts: [cart], http: nothing }
`;

test('what the clients do not see is judged for a namespace that does, beside documents with errors, too', async () => {
  const documents = HIDDEN.split('---').map((text, i) => [`${i}.yaml`, text] as const);
  const report = await judge([], { texts: new Map(documents), assumeEndpoints: true }, refusedByCompiler);
  const rules = report.results.map((r) =>
    `${r.name} ${r.verdict} ${r.reasons.map(({ code }) => code).join(',')}`.trim(),
  );
  assert.equal(report.errors.length, 1);
  assert.deepEqual(rules, [
    'few kernel',
    'all kernel',
    'second proxy source-match',
    'unimported kernel',
    'exported kernel',
    'nobodys proxy not-exported',
    'wrong invalid',
  ]);
  assert.match(
    report.warnings.map(({ message }) => message).join(),
    /not exported to namespace default.*--namespace bank/,
  );
});
