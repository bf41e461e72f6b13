import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LINTS, lintMarkdown } from '../../src/lint/codes.js';
import { implies } from '../../src/lint/implies.js';
import { lint } from '../../src/lint/index.js';
import { all, any, not, test } from '../../src/plan/conditions.js';
import type { Condition } from '../../src/plan/ir.js';
import { View } from '../../src/plan/request-view.js';
import { type Diagnostic, formatDiagnostic } from '../../src/policy/diagnostics.js';
import { loadFiles } from '../../src/policy/load.js';

async function warnings(text: string): Promise<Diagnostic[]> {
  const resources = await loadFiles(['-'], { stdin: Readable.from([text]), assumeEndpoints: true });
  assert.deepEqual(
    resources.diagnostics.filter((d) => d.severity === 'error'),
    [],
  );
  return [...resources.diagnostics, ...lint(resources)].filter((d) => d.code in LINTS);
}

const codes = async (text: string): Promise<string[]> => (await warnings(text)).map((d) => d.code);

const service = (http: string, hosts = '[reviews]') => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: ${hosts}
  http:
${http.replace(/^/gm, '    ')}
`;
const TO = 'route: [{ destination: { host: reviews } }]';

describe('lint', () => {
  for (const [code, { example }] of Object.entries(LINTS)) {
    it(`${code}: the documented example gives it, with a place`, async () => {
      const found = (await warnings(example)).filter((d) => d.code === code);
      assert.equal(found.length, 1, found.map(formatDiagnostic).join('\n'));
      assert.ok(found[0]!.position!.line > 5);
    });
  }

  it('docs/lint.md is what codes.ts says', () => {
    assert.equal(readFileSync('docs/lint.md', 'utf8'), lintMarkdown());
  });

  it('what may be meant is not warned of', async () => {
    const quiet = [
      service(`- match: [{ uri: { exact: /api } }]\n  ${TO}\n- match: [{ uri: { prefix: /api } }]\n  ${TO}\n- ${TO}`),
      service(
        `- match: [{ uri: { prefix: /api }, headers: { x: { exact: a } } }]\n  ${TO}\n- match: [{ uri: { prefix: /api/x } }]\n  ${TO}`,
      ),
      service(`- match: [{ uri: { regex: "/api/.*" } }]\n  ${TO}\n- match: [{ uri: { prefix: /api } }]\n  ${TO}`),
      service(`- match: [{ uri: { prefix: /api/ } }]\n  rewrite: { uri: / }\n  ${TO}`),
      service(`- match: [{ uri: { prefix: /old } }]\n  redirect: { uri: /new }\n- ${TO}`),
      service(`- match: [{ uri: { exact: /a } }]\n  ${TO}\n- match: [{ uri: { prefix: / } }]\n  redirect: { uri: /a }`),
      service(`- match: [{ uri: { prefix: / } }]\n  redirect: { uri: /a, authority: other.example }`),
      service(
        '- route:\n    - { destination: { host: reviews }, weight: 1 }\n    - { destination: { host: ratings }, weight: 1 }',
      ),
      service(`- match: [{ uri: { regex: "^/a(/.*)?$" } }]\n  ${TO}`),
      service(`- timeout: 0s\n  ${TO}`),
      'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: nothing }\nspec: {}\n',
      'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: port }\nspec: { action: DENY, rules: [{ to: [{ operation: { ports: ["80"] } }] }] }\n',
    ];
    for (const text of quiet) assert.deepEqual(await codes(text), [], text);
  });

  it('a regular expression may be covered, too: by a prefix, and by another one', async () => {
    const regexes = (first: string, second: string) =>
      codes(service(`- match: [{ uri: { ${first} } }]\n  ${TO}\n- match: [{ uri: { ${second} } }]\n  ${TO}`));
    assert.deepEqual(await regexes('prefix: /api', 'regex: "/api/v[0-9]+/.*"'), ['unreachable-route']);
    assert.deepEqual(await regexes('regex: "/api/.*"', 'regex: "/api/v[0-9]+/.*"'), ['unreachable-route']);
    // a dot matches no line feed and no bytes outside UTF-8, so that something is left for the prefix
    assert.deepEqual(await regexes('regex: "/api/.*"', 'prefix: /api/x'), []);
    assert.deepEqual(await regexes('regex: "/api/[a-z]*"', 'prefix: /api/x'), []);
    assert.deepEqual(await regexes('regex: "/apis?/.*"', 'exact: /api/x'), ['unreachable-route']);
  });

  it('a route that one host shadows and another does not is reached', async () => {
    const two = `${service(`- match: [{ uri: { prefix: /api }, port: 80 }]\n  ${TO}\n- match: [{ uri: { prefix: /api/x } }]\n  ${TO}`)}---
apiVersion: v1
kind: Service
metadata: { name: reviews }
spec: { clusterIP: 10.96.0.10, ports: [{ name: http, port: 80 }, { name: http-other, port: 81 }] }
`;
    assert.deepEqual(await codes(two), []);
  });

  it('implication is sound: no request meets the one and not the other', () => {
    const value = fc.constantFrom('/', '/a', '/a/', '/a/b', '/ab', '/b', 'x');
    const matcher = fc.oneof(
      fc.record({ kind: fc.constantFrom('exact', 'prefix', 'suffix', 'contains'), value, ignoreCase: fc.boolean() }),
      fc.record({
        kind: fc.constant('regex'),
        pattern: fc.constantFrom('/a.*', '/[ab]', '/a/b', '.*', '/a?b?', '(?i)/A'),
      }),
      fc.constant({ kind: 'present' }),
    );
    const field = fc.constantFrom({ kind: 'path' }, { kind: 'header', name: 'x' }, { kind: 'header', name: 'y' });
    const leaf = fc.tuple(field, matcher).map(([f, m]) => test(f as never, m as never));
    const { tree } = fc.letrec<{ tree: Condition }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 3 },
        leaf,
        fc.array(tie('tree'), { minLength: 1, maxLength: 3 }).map(all),
        fc.array(tie('tree'), { minLength: 1, maxLength: 3 }).map(any),
        tie('tree').map(not),
      ),
    }));
    let proven = 0;
    fc.assert(
      fc.property(
        tree,
        tree,
        fc.array(fc.tuple(value, fc.option(value), fc.option(value)), { minLength: 20 }),
        (a, b, requests) => {
          if (!implies(a, b)) return;
          proven++;
          for (const [target, x, y] of requests) {
            const headers = [...(x === null ? [] : [['x', x] as const]), ...(y === null ? [] : [['y', y] as const])];
            const view = new View({ method: 'GET', target, headers });
            assert.ok(!view.holds(a) || view.holds(b), `${JSON.stringify(a)} does not imply ${JSON.stringify(b)}`);
          }
        },
      ),
      { numRuns: 3000 },
    );
    assert.ok(proven > 100, `${proven} implications were proven`);
  });
});
