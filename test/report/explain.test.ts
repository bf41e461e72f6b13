/** The trace of a request, and that it says what the policy image (which the kernel runs) does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { toJsonText } from '../../src/cli/input.js';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { buildPlan } from '../../src/plan/build.js';
import { formProblems, headText } from '../../src/plan/form.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { explain } from '../../src/report/explain.js';
import { explainText } from '../../src/report/explain-text.js';
import { explainSchema, jsonSchema } from '../../src/report/schema.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from '../plan/resources.js';

const policy = (prefix: string): JsonObject => ({
  permissions: [
    {
      and_rules: {
        rules: [{ url_path: { path: { prefix } } }, { header: { name: ':method', string_match: { exact: 'DELETE' } } }],
      },
    },
  ],
  principals: [{ any: true }],
});

const PLAN = buildPlan(
  resourcesOf(
    [
      listenerOf(
        [
          hostOf(
            [
              {
                ...to('a', '/beta/', {}),
                name: 'beta',
                match: { prefix: '/beta/', headers: [{ name: 'x-user', string_match: { exact: 'ann' } }] },
              },
              {
                ...to('a', '/', {}, {}),
                name: 'split',
                route: {
                  weighted_clusters: {
                    clusters: [
                      { name: 'a', weight: 3 },
                      { name: 'b', weight: 1 },
                    ],
                  },
                  prefix_rewrite: '/v1/',
                },
                request_headers_to_add: [{ header: { key: 'x-mesh', value: 'yes' } }],
              },
            ],
            { domains: ['shop.example'] },
          ),
        ],
        {
          filters: [
            {
              name: 'rbac',
              typed_config: {
                '@type': TYPE.rbac,
                rules: { action: 'DENY', policies: { internal: policy('/internal'), admin: policy('/admin') } },
              },
            },
          ],
        },
      ),
    ],
    [clusterOf('a', [9001, 9002]), clusterOf('b', [9003])],
  ),
);

type Headers = readonly (readonly [string, string])[];
const HOST: Headers = [['Host', 'shop.example']];
const ask = (method: string, target: string, headers: Headers = [], more = {}) =>
  explain(PLAN, { method, target, headers: [...HOST, ...headers], ...more });

describe('explain', () => {
  it('every rule considered, with the predicates that fail, expected and actual', () => {
    const x = ask('GET', '/x', [['X-User', 'bob']]);
    assert.equal(x.verdict, 'kernel');
    assert.deepEqual(
      x.considered.map((c) => [c.name, c.outcome]),
      [
        ['beta', 'not matched'],
        ['split', 'matched'],
      ],
    );
    assert.deepEqual(x.considered[0]!.failed, [
      { field: 'path', expected: 'has prefix "/beta/"', actual: '/x' },
      { field: 'header x-user', expected: 'is "ann"', actual: 'bob' },
    ]);
    assert.equal(ask('GET', '/beta/').considered[0]!.failed[0]!.actual, null);
  });

  it('clusters with weights and endpoints, edits, the target', () => {
    const { result } = ask('GET', '/x?y');
    assert.ok(result?.kind === 'forward');
    assert.deepEqual(
      result.clusters.map((c) => [c.cluster, c.weight, c.share, c.endpoints.length]),
      [
        ['a', 3, 75, 2],
        ['b', 1, 25, 1],
      ],
    );
    assert.equal(result.target, '/v1/x?y');
    assert.ok(result.edits.includes('path: /x?y becomes /v1/x?y'));
    assert.ok(result.edits.includes('append x-mesh: yes'));
  });

  it('every policy of an RBAC filter, with its result', () => {
    const denied = ask('DELETE', '/admin/x');
    assert.equal(denied.result?.kind === 'reply' && denied.result.status, 403);
    const [check] = denied.access;
    assert.deepEqual([check!.action, check!.outcome], ['deny', 'denied']);
    assert.deepEqual(check!.policies.map((p) => [p.name, p.outcome]).sort(), [
      ['admin', 'matched'],
      ['internal', 'not matched'],
    ]);
    assert.deepEqual(check!.policies.find((p) => p.name === 'internal')!.failed, [
      { field: 'path', expected: 'has prefix "/internal"', actual: '/admin/x' },
    ]);
    assert.equal(ask('GET', '/admin/x').access[0]!.outcome, 'passed');
  });

  const FORMS: readonly (readonly [string, string, string, Headers, object?])[] = [
    ['Connection: close', 'GET', '/x', [['Connection', 'close']]],
    ['chunked', 'POST', '/x', [['Transfer-Encoding', 'chunked']]],
    [
      'two framings',
      'POST',
      '/x',
      [
        ['Transfer-Encoding', 'chunked'],
        ['Content-Length', '3'],
      ],
    ],
    [
      'Expect',
      'POST',
      '/x',
      [
        ['Expect', '100-continue'],
        ['Content-Length', '3'],
      ],
    ],
    ['TE', 'GET', '/x', [['TE', 'trailers']]],
    ['Trailer', 'GET', '/x', [['Trailer', 'x']]],
    [
      'Upgrade',
      'GET',
      '/x',
      [
        ['Connection', 'upgrade'],
        ['Upgrade', 'websocket'],
      ],
    ],
    ['Proxy-Connection', 'GET', '/x', [['Proxy-Connection', 'keep-alive']]],
    ['HTTP/1.0', 'GET', '/x', [], { version: '1.0' }],
    ['HTTP/2', 'GET', '/x', [], { version: '2' }],
    ['a long head', 'GET', `/${'x'.repeat(8200)}`, []],
    ['many lines', 'GET', '/x', Array.from({ length: 70 }, (_, i) => [`x-${i}`, 'y'] as const)],
    ['x-envoy-*', 'GET', '/x', [['x-envoy-max-retries', '1']]],
    ['CONNECT', 'CONNECT', 'shop.example:80', []],
    ['an unknown method', 'BREW', '/x', []],
    ['an absolute target', 'GET', 'http://shop.example/x', []],
    ['two slashes', 'GET', '//x', []],
    ['a fragment', 'GET', '/x#y', []],
    [
      'a repeated header of a rule',
      'GET',
      '/x',
      [
        ['x-user', 'a'],
        ['x-user', 'b'],
      ],
    ],
    [
      'a repeated header of the proxy',
      'GET',
      '/x',
      [
        ['x-request-id', 'a'],
        ['x-request-id', 'b'],
      ],
    ],
    ['no plain Content-Length', 'POST', '/x', [['Content-Length', '+3']]],
    ['bytes outside ASCII', 'GET', '/x', [['x-name', 'J\u00fcrgen']]],
    ['an odd Referer', 'GET', '/x', [['Referer', 'about:blank']]],
    ['gRPC', 'POST', '/x', [['Content-Type', 'application/grpc']]],
  ];
  for (const [name, method, target, headers, more] of FORMS) {
    it(`goes to the proxy: ${name}`, () => {
      const x = ask(method, target, headers, more);
      assert.equal(x.verdict, 'proxy');
      assert.equal(x.result, null);
      assert.notEqual(x.why, '');
      const image = compileImage(PLAN, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 0 });
      const head = Buffer.from(headText({ method, target, headers: [...HOST, ...headers], ...more }), 'latin1');
      const around = {
        sourceIp: new Uint8Array([127, 0, 0, 1]),
        random: 0,
        uuid: '00000000-0000-4000-8000-000000000000',
      };
      assert.equal(interpret(image.image, 0, head, around).action, 'proxy', 'so does the image');
    });
  }

  it('large bodies, and bodies of requests that may be retried, go to the proxy', () => {
    assert.match(ask('POST', '/x', [['Content-Length', '2000000']]).why, /a body of more than 1048576 bytes/);
    assert.equal(ask('POST', '/x', [['Content-Length', '1000']]).verdict, 'kernel');
  });

  it('what is named as an odd form is odd for the image, too, and the plain form is not', () => {
    assert.deepEqual(formProblems({ method: 'GET', target: '/x', headers: HOST }), []);
    assert.equal(
      ask('GET', '/x', [
        ['Connection', 'keep-alive'],
        ['Accept', '*/*'],
        ['x-a', '1'],
        ['x-a', '2'],
      ]).verdict,
      'kernel',
    );
  });

  it('what the compiler has no room for goes to the proxy', async () => {
    const regex = '/(a|b)*a(a|b){14}';
    const plan = buildPlan(
      resourcesOf(
        [listenerOf([hostOf([{ match: { safe_regex: { regex } }, route: { cluster: 'a' } }])])],
        [clusterOf('a', [9001])],
      ),
    );
    const x = explain(plan, { method: 'GET', target: '/abaaaaaaaaaaaaaaaaa', headers: HOST });
    assert.deepEqual([x.verdict, x.reasons[0]?.code], ['proxy', 'budget']);
  });

  it('the JSON is as its schema says; the text has the same story', async () => {
    const plan = buildPlan(await loadFiles(['examples/shop/policies'], { assumeEndpoints: true }));
    for (const x of [
      ask('GET', '/x'),
      ask('DELETE', '/admin'),
      ask('GET', '/x', [['TE', 'x']]),
      explain(plan, {
        method: 'GET',
        target: '/recommendations/traced',
        headers: [['Host', 'recommendations']],
        listener: 'outbound|80||recommendations.shop.svc.cluster.local',
      }),
    ]) {
      explainSchema.parse(JSON.parse(toJsonText(x)));
      assert.match(explainText(x), new RegExp(`decided by +the ${x.verdict}: `));
    }
    assert.equal(readFileSync('docs/explanation.schema.json', 'utf8'), jsonSchema(explainSchema));
    assert.match(explainText(ask('GET', '/x')), /needs: path has prefix "\/beta\/"; it is "\/x"/);
    assert.match(explainText(ask('GET', '/x')), /weight 3 \(75%\)/);
  });
});
