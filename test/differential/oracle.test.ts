/** The harness itself: two Envoys never differ, and a difference that is planted is found. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { Differential } from './harness.js';
import { oddSteps, ordinarySteps } from './requests.js';

const SEED = 11;

for (const [kind, mixed, arbitrary] of [
  ['ordinary', false, ordinarySteps],
  ['odd', true, oddSteps],
] as const) {
  test(`two Envoys with the same configuration answer ${kind} requests alike`, { timeout: 120_000 }, async (t) => {
    const d = await Differential.open({ seed: SEED, listeners: 4, mixed, subject: { kind: 'envoy' } });
    try {
      const reports = await Promise.all(d.configs.map((_, i) => d.check(i, arbitrary, { runs: 25, seed: SEED })));
      assert.deepEqual(reports.filter(Boolean), []);
      assert.ok(d.sent > 200, `only ${d.sent} requests were sent`);
      t.diagnostic(d.outcomeSummary());
    } finally {
      await d.close();
    }
  });
}

/** Mistakes that a data plane could make, as changes of the subject's configuration. */
const PLANTED: Readonly<Record<string, (text: string) => string>> = {
  'another cluster is chosen': (text) => text.replaceAll('"cluster":"d"', '"cluster":"c"'),
  'a path rewrite is forgotten': (text) => text.replaceAll(/"prefix_rewrite":"[^"]*"/g, '"prefix_rewrite":"/other"'),
  'a header is overwritten, not appended': (text) =>
    text.replaceAll('"APPEND_IF_EXISTS_OR_ADD"', '"OVERWRITE_IF_EXISTS_OR_ADD"'),
  'case counts where it should not': (text) => text.replaceAll('"case_sensitive":false', '"case_sensitive":true'),
  'access is denied and allowed the wrong way round': (text) =>
    text.replaceAll(/"(ALLOW|DENY)"/g, (_, action) => (action === 'ALLOW' ? '"DENY"' : '"ALLOW"')),
  'an edit of answers is forgotten': (text) =>
    text.replaceAll(/"response_headers_to_add":\[.*?\}\]/g, '"response_headers_to_add":[]'),
  'an allowed origin is not allowed': (text) =>
    text.replaceAll(
      /\{"(exact|prefix|suffix)":"(\*|https:\/\/|\.test|http:\/\/shop\.test)"/g,
      '{"exact":"http://nobody.test"',
    ),
  'a redirect leads elsewhere': (text) => text.replaceAll('"host_redirect":"', '"host_redirect":"not-'),
};

test('planted differences are found', { timeout: 240_000 }, async (t) => {
  for (const [name, change] of Object.entries(PLANTED)) {
    await t.test(name, async () => {
      const d = await Differential.open({
        seed: SEED,
        listeners: 4,
        mixed: false,
        subject: {
          kind: 'envoy',
          change: (bootstrap) => {
            const before = JSON.stringify(bootstrap);
            const after = change(before);
            assert.notEqual(after, before, 'the change changes nothing: choose another seed');
            return JSON.parse(after) as JsonObject;
          },
        },
      });
      try {
        const reports = await Promise.all(d.configs.map((_, i) => d.check(i, ordinarySteps, { runs: 60, seed: SEED })));
        assert.ok(reports.some(Boolean), 'no difference was reported');
      } finally {
        await d.close();
      }
    });
  }
});
