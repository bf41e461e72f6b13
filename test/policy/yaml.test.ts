/** YAML as people write it: aliases, merge keys, lists, templates that were not rendered. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { LineCounter, parseAllDocuments } from 'yaml';
import { formatDiagnostic } from '../../src/policy/diagnostics.js';
import { kubernetesDocument } from '../../src/policy/documents.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject } from '../../src/policy/resources.js';

const HEAD = 'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n';

async function said(text: string, of: 'error' | 'warning' = 'error'): Promise<string[]> {
  const { diagnostics } = await loadFiles(['-'], { stdin: Readable.from([Buffer.from(text)]), assumeEndpoints: true });
  return diagnostics.filter((d) => d.severity === of).map((d) => formatDiagnostic(d).replace('<stdin>:', ''));
}

function spec(text: string): JsonObject {
  const lineCounter = new LineCounter();
  const [doc] = parseAllDocuments(text, { lineCounter, uniqueKeys: false });
  return kubernetesDocument(doc!, lineCounter, 'test.yaml').json;
}

test('aliases stand for their anchors, merge keys for what they lead to', async () => {
  const routes = `spec:
  hosts: &hosts [a.example.com]
  http:
  - match: [&m {uri: {prefix: /a}}]
    route: [&r {destination: &d {host: b}}]
  - match: [{<<: *m, method: {exact: GET}}]
    route: [{destination: {<<: *d, subset: v1}}, *r]
`;
  const { http } = spec(HEAD + routes).spec as { http: JsonObject[] };
  assert.deepEqual(http[1], {
    match: [{ uri: { prefix: '/a' }, method: { exact: 'GET' } }],
    route: [{ destination: { host: 'b', subset: 'v1' } }, { destination: { host: 'b' } }],
  });
  const merged = spec('a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\nd: {"<<": text}');
  assert.deepEqual([merged.c, merged.d], [{ x: 0, y: 1, z: 2 }, { '<<': 'text' }]);
  // in a list of documents, too, whose items may share them
  const list = `apiVersion: v1\nkind: List\nitems:\n${['x', 'y']
    .map(
      (name, i) => `- apiVersion: networking.istio.io/v1\n  kind: VirtualService\n  metadata: {name: ${name}}
  spec:\n    hosts: [${name}]\n    http: [{route: ${i === 0 ? '&r [{destination: {host: h}}]' : '*r'}}]\n`,
    )
    .join('')}`;
  const { diagnostics, rules } = await loadFiles(['-'], { stdin: Readable.from([list]), assumeEndpoints: true });
  assert.deepEqual(
    diagnostics.filter((d) => d.severity === 'error'),
    [],
  );
  assert.deepEqual(
    rules.map(({ name, position }) => [name, position.line]),
    [
      ['x', 9],
      ['y', 15],
    ],
  );
});

test('plain scalars are those of YAML 1.1, as kubectl reads them', () => {
  assert.deepEqual(spec('{a: yes, b: "yes", c: Off, d: 010, e: 0x10, f: ~, g: 1.50, h: !!str no}'), {
    ...{ a: true, b: 'yes', c: false, d: 8, e: 16, g: 1.5, h: 'no' },
  });
});

test('what cannot be read is told with its place', async () => {
  assert.deepEqual(await said(`${HEAD}spec: {hosts: *h}\n`), ['4:15: error: the alias *h has no anchor &h before it']);
  assert.deepEqual(await said(`${HEAD}spec:\n  ? {a: 1}\n  : 2\n`), [
    '5:5: error: a key is text, not an object or a list',
  ]);
  assert.deepEqual(await said(`${HEAD}spec:\n  <<: 1\n`), [
    '5:7: error: what << merges is an object, or a list of them',
  ]);
  assert.match((await said(`${HEAD}spec: &s {a: *s}\n`))[0]!, /^4:14: error: nested more than 500 levels deep/);
  // Envoy refuses such text, and what has it could not be sent to it
  for (const field of ['hosts: ["a\\ud800"]', '"\\udc00b": 1'])
    assert.match((await said(`${HEAD}spec: {${field}}\n`))[0]!, /^4:\d+: error: half of a surrogate pair/);
  assert.doesNotMatch((await said(`${HEAD}spec: {hosts: ["\\ud83d\\ude00"]}\n`)).join(), /surrogate/);
  const bomb = [...'bcdefghi'].map((c, i) => `${c}: &${c} [${`*${'abcdefgh'[i]},`.repeat(9)}]\n`).join('');
  assert.match((await said(`${HEAD}a: &a [1,1,1,1,1,1,1,1,1]\n${bomb}`))[0]!, /aliases multiply/);
  assert.deepEqual(await said('apiVersion: v1\nkind: List\nitems: [text]\n'), ['3:9: error: kind: is required']);
  assert.match((await said(`${HEAD}spec: {__proto__: {a: 1}}`))[0]!, /^4:8: error: a key of this name/);
});

test('a template that was not rendered is called one', async () => {
  const hint = '(render it first, for example with helm template)';
  assert.deepEqual(await said(`# {{ no }}\n${HEAD}spec:\n  hosts: [a]\n  gateways: {{ .Values.gateways }}\n`), [
    `7:13: error: a template, not yet a policy: {{ .Values.gateways }} ${hint}`,
  ]);
  assert.deepEqual(await said(`{{- if .Values.on }}\n${HEAD}{{- end }}\n`), [
    `1:1: error: a template, not yet a policy: {{- if .Values.on }} ${hint}`,
  ]);
  const warnings = async (text: string) =>
    (await said(text, 'warning')).filter((line) => line.includes('a template that was'));
  const quoted = await warnings(`${HEAD}spec:\n  hosts: ["{{ .Values.host }}"]\n  gateways: ['{{ .Values.g }}']\n`);
  assert.equal(quoted.length, 1);
  assert.match(
    quoted[0]!,
    /^5:11: warning: text of a template that was not rendered: \{\{ \.Values\.host \}\} \(it is/,
  );
  const meant = `${HEAD}spec:\n  hosts: [a]\n  http: [{directResponse: {status: 200, body: {string: "{{x}} {{ 1 }}"}}}]\n`;
  assert.deepEqual(
    (await said(meant)).filter((line) => line.includes('template')),
    [],
  );
});

test('a policy of a kind or group that is none is not passed over', async () => {
  const document = (apiVersion: string, kind: string) =>
    `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: {name: x}\n`;
  const cases: [string, string, RegExp | undefined][] = [
    ['security.istio.io/v1', 'AuthorisationPolicy', /^2:1: error: kind: .*did you mean "AuthorizationPolicy"/],
    ['networking.istio.io/v1', 'AuthorizationPolicy', /it is one of security.istio.io/],
    ['v1', 'VirtualService', /it is one of networking.istio.io/],
    ['v1', 'service', /did you mean "Service"/],
    ['networking.istio.oi/v1', 'VirtualService', /did you mean "networking.istio.io"/],
    ['gateway.networking.k8s.io/v1', 'HttpRoutes', /did you mean "HTTPRoute"/],
    ['v1', '""', undefined],
    ['v1', 'ConfigMap', undefined],
    ['policy.linkerd.io/v1beta3', 'AuthorizationPolicy', undefined],
    ['gateway.networking.x-k8s.io/v1alpha1', 'XMesh', undefined],
  ];
  for (const [apiVersion, kind, expected] of cases) {
    const [first] = await said(document(apiVersion, kind));
    if (expected) assert.match(first ?? '', expected);
    else assert.equal(first, undefined);
  }
});
