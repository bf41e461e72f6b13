/**
 * Generated virtual hosts and requests: the route that the plan chooses is the route that the real Envoy chooses. The
 * seed is printed; SIDESTEP_SEED repeats a run, SIDESTEP_RUNS sets the number of virtual hosts.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { listenerOf, resourcesOf, TYPE } from './resources.js';

const envoy = findEnvoy();
const seed = Number(process.env.SIDESTEP_SEED ?? Date.now() % 1_000_000);
const runs = Number(process.env.SIDESTEP_RUNS ?? 60);

// few words, so that matchers and requests meet often
const word = fc.constantFrom('a', 'ab', 'abc', 'B', 'x1', '7', '42');
const path = fc.array(word, { minLength: 0, maxLength: 3 }).map((parts) => `/${parts.join('/')}`);
const regex = fc.constantFrom('a.*', '.*b', '(a|ab)c?', '\\d+', '[a-z]+\\d', '(?i)AB.*', 'a?b?c?7?');
const ignoreCase = fc.constantFrom({}, { ignore_case: true });
const text: fc.Arbitrary<JsonObject> = fc.oneof(
  fc
    .tuple(fc.constantFrom('exact', 'prefix', 'suffix', 'contains'), word, ignoreCase)
    .map(([kind, w, i]) => ({ [kind]: w, ...i })),
  regex.map((r) => ({ safe_regex: { regex: r } })),
);
const valueMatch: fc.Arbitrary<JsonObject> = fc.oneof(
  text.map((t) => ({ string_match: t })),
  fc.boolean().map((b) => ({ present_match: b })),
  fc.constant({ range_match: { start: '1', end: '40' } }),
);
const headerName = fc.constantFrom('x-a', 'X-B', 'accept', ':method', 'x-forwarded-proto');
const headerMatch: fc.Arbitrary<JsonObject> = fc
  .tuple(headerName, valueMatch, fc.boolean(), fc.boolean())
  .map(([name, m, invert_match, treat_missing_header_as_empty]) => ({
    name,
    ...m,
    invert_match,
    treat_missing_header_as_empty,
  }));
const queryMatch: fc.Arbitrary<JsonObject> = fc
  .tuple(
    fc.constantFrom('q', 'r'),
    fc.oneof(
      text.map((t) => ({ string_match: t })),
      fc.boolean().map((b) => ({ present_match: b })),
    ),
  )
  .map(([name, m]) => ({ name, ...m }));
const pathMatch: fc.Arbitrary<JsonObject> = fc.oneof(
  fc.tuple(path, fc.boolean()).map(([p, case_sensitive]) => ({ path: p, case_sensitive })),
  fc.tuple(path, fc.boolean()).map(([p, case_sensitive]) => ({ prefix: p, case_sensitive })),
  path.filter((p) => p !== '/').map((p) => ({ path_separated_prefix: p })),
  regex.map((r) => ({ safe_regex: { regex: `/(${r})(/.*)?` } })),
);
const match: fc.Arbitrary<JsonObject> = fc
  .tuple(pathMatch, fc.array(headerMatch, { maxLength: 2 }), fc.array(queryMatch, { maxLength: 1 }))
  .map(([p, headers, query_parameters]) => ({ ...p, headers, query_parameters }));
const rule: fc.Arbitrary<JsonObject> = fc.letrec<{ rule: JsonObject }>((tie) => ({
  rule: fc.oneof(
    { maxDepth: 3 },
    fc.oneof(
      headerMatch.map((header) => ({ header })),
      text.map((t) => ({ url_path: { path: t } })),
      fc.constant({ any: true }),
    ),
    fc.array(tie('rule'), { minLength: 1, maxLength: 3 }).map((rules) => ({ and_rules: { rules } })),
    fc.array(tie('rule'), { minLength: 1, maxLength: 3 }).map((rules) => ({ or_rules: { rules } })),
    tie('rule').map((r) => ({ not_rule: r })),
  ),
})).rule;
const rbac: fc.Arbitrary<JsonObject> = fc
  .tuple(fc.constantFrom('ALLOW', 'DENY'), fc.array(rule, { minLength: 1, maxLength: 2 }))
  .map(([action, permissions]) => ({
    '@type': TYPE.rbacPerRoute,
    rbac: { rules: { action, policies: { p: { permissions, principals: [{ any: true }] } } } },
  }));
const vhost = fc.tuple(fc.array(match, { minLength: 1, maxLength: 6 }), fc.option(rbac, { nil: undefined, freq: 2 }));
const request = fc.record({
  method: fc.constantFrom('GET', 'DELETE', 'PATCH'),
  path,
  query: fc.oneof(
    fc.constant(''),
    fc
      .array(fc.tuple(fc.constantFrom('q', 'r', 's'), fc.constantFrom('', '=', '=a', '=ab', '=7', '=B')), {
        maxLength: 3,
      })
      .map((ps) => `?${ps.map(([k, v]) => k + v).join('&')}`),
  ),
  headers: fc.uniqueArray(
    fc.tuple(fc.constantFrom('x-a', 'x-b', 'accept', 'x-forwarded-for'), fc.oneof(word, fc.constant(''))),
    { maxLength: 3, selector: ([n]) => n },
  ),
});

describe('generated rules', { skip: envoy === undefined ? 'no Envoy found' : false }, () => {
  it('the same route as Envoy', async (t) => {
    t.diagnostic(`seed ${seed}, ${runs} virtual hosts`);
    const hosts = fc.sample(vhost, { seed, numRuns: runs });
    const virtualHosts = hosts.map(
      ([matches, policy], i): JsonObject => ({
        name: `v${i}`,
        domains: [`v${i}`],
        routes: matches.map((m, k) => ({
          match: m,
          direct_response: { status: 200, body: { inline_string: `route ${k}` } },
        })),
        ...(policy ? { typed_per_filter_config: { rbac: policy } } : {}),
      }),
    );
    const port = await freePort();
    const listener = listenerOf(virtualHosts, {
      port,
      filters: [{ name: 'rbac', typed_config: { '@type': TYPE.rbac } }],
    });
    const plan = buildPlan(resourcesOf([listener], []));
    const running = await startEnvoy(envoy!, { listeners: [listener] }, [port]);
    let kernel = 0;
    let total = 0;
    try {
      for (let i = 0; i < hosts.length; i++) {
        await Promise.all(
          fc.sample(request, { seed: seed + i, numRuns: 20 }).map(async (r) => {
            const target = r.path + r.query;
            const headers: [string, string][] = [['Host', `v${i}`], ...r.headers];
            const trace = evaluate(plan, { method: r.method, target, headers });
            total++;
            if (trace.verdict === 'proxy') return;
            kernel++;
            const got = await sendRaw(port, [
              `${r.method} ${target} HTTP/1.1`,
              ...headers.map(([n, v]) => `${n}: ${v}`),
            ]);
            assert.ok(trace.result?.kind === 'reply');
            const what = `seed ${seed}: ${r.method} ${target} ${JSON.stringify(headers)}\n${JSON.stringify(virtualHosts[i])}\n${trace.why}`;
            assert.deepEqual([got.status, got.body], [trace.result.status, trace.result.body], what);
          }),
        );
      }
    } finally {
      await running.stop();
    }
    t.diagnostic(`${kernel} of ${total} requests decided without the proxy`);
    assert.ok(kernel > 0.9 * total);
  });
});
