/** The jwt_authn filter among others, in several orders: what the plan and the image decide is what the real Envoy does. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { freePort } from '../../src/lab/ports.js';
import { editText } from '../../src/plan/answers.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import { factWords, judgeToken, type KeysOf, keysOfSet } from '../../src/plan/judge-token.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { type Signer, setOf, signer } from './jwt-keys.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';
const typed = (type: string, config: JsonObject = {}): JsonObject => ({ '@type': `${HTTP}.${type}`, ...config });
const filter = (name: string, type: string, config: JsonObject = {}): JsonObject => ({
  name,
  typed_config: typed(type, config),
});
const keysOf: KeysOf = async ({ keys }) => (keys.kind === 'inline' ? keysOfSet(keys.jwks) : undefined);
const add = (key: string, value: string): JsonObject => ({ append: { header: { key, value } } });

const rbac: JsonObject = {
  name: 'rbac',
  typed_config: {
    '@type': TYPE.rbac,
    rules: {
      action: 'DENY',
      policies: {
        p: {
          permissions: [{ any: true }],
          principals: [
            {
              and_ids: {
                ids: [
                  { header: { name: 'x-deny', present_match: true } },
                  {
                    metadata: {
                      filter: 'envoy.filters.http.jwt_authn',
                      path: [{ key: 'payload' }, { key: 'sub' }],
                      value: { string_match: { exact: 'alice' } },
                    },
                  },
                ],
              },
            },
          ],
        },
      },
    },
  },
};
const cors = filter('cors', 'cors.v3.Cors');
const mutation = filter('mutation', 'header_mutation.v3.HeaderMutation', {
  mutations: { request_mutations: [add('x-m', '1')], response_mutations: [add('x-n', '1')] },
});
/** Aborts requests with x-fault; and looks at a header that a good token takes away. */
const fault = filter('fault', 'fault.v3.HTTPFault', {
  abort: { http_status: 429, percentage: { numerator: 100 } },
  headers: [{ name: 'x-fault', present_match: true }],
});
const looking = filter('fault', 'fault.v3.HTTPFault', {
  abort: { http_status: 418, percentage: { numerator: 100 } },
  headers: [{ name: 'authorization', present_match: true }],
});
const tampering = filter('mutation', 'header_mutation.v3.HeaderMutation', {
  mutations: { request_mutations: [{ remove: 'authorization' }] },
});
const putting = filter('mutation', 'header_mutation.v3.HeaderMutation', {
  mutations: {
    request_mutations: [
      {
        append: { ...(add('authorization', 'mine').append as JsonObject), append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      },
    ],
  },
});
const JWT: JsonObject = { name: 'jwt' };

/** `JWT` stands for the filter. */
const CHAINS: JsonObject[][] = [
  [cors, JWT, rbac, fault],
  [fault, JWT, cors, rbac],
  [rbac, JWT, mutation, fault, cors],
  [mutation, cors, fault, JWT, rbac],
  [JWT, looking, rbac],
  [tampering, JWT, rbac],
  [JWT, putting, rbac],
];

const CORS = { cors: typed('cors.v3.CorsPolicy', { allow_origin_string_match: [{ exact: 'http://a' }] }) };
const requires = (name: string) => ({ jwt: typed('jwt_authn.v3.PerRouteConfig', { requirement_name: name }) });
const per = (config: JsonObject): JsonObject => ({ typed_per_filter_config: config });
const ABORTED = { fault: typed('fault.v3.HTTPFault', { abort: { http_status: 503, percentage: { numerator: 100 } } }) };
const routes: JsonObject[] = [
  to('c', '/must', per(requires('must'))),
  to('c', '/may', per(requires('may'))),
  to('c', '/kept', per(requires('kept'))),
  to('c', '/cors', per({ ...requires('must'), ...CORS })),
  to('c', '/may-cors', per({ ...requires('may'), ...CORS })),
  to('c', '/aborted', per({ ...requires('must'), ...ABORTED })),
  to('c', '/off', per({ jwt: { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true } })),
  // the filter's own rules
  to('c', '/ruled'),
];

describe('jwt_authn among other filters against Envoy', { skip: envoy ? false : 'no Envoy was found' }, () => {
  let running: RunningEnvoy;
  let server: Awaited<ReturnType<typeof echoServer>>;
  let plan: Plan;
  let a: Signer;
  const ports: number[] = [];
  const now = Math.floor(Date.now() / 1000);

  before(async () => {
    a = await signer('ES256');
    server = await echoServer('c');
    const provider = {
      issuer: 'https://a',
      local_jwks: { inline_string: setOf(a) },
      payload_in_metadata: 'payload',
    };
    const may = (name: string): JsonObject => ({
      requires_any: { requirements: [{ provider_name: name }, { allow_missing: {} }] },
    });
    const jwt = filter('jwt', 'jwt_authn.v3.JwtAuthentication', {
      providers: { a: provider, kept: { ...provider, forward: true } },
      requirement_map: { must: { provider_name: 'a' }, may: may('a'), kept: may('kept') },
      rules: [{ match: { prefix: '/ruled' }, requires: { provider_name: 'a' } }],
    });
    const listeners: JsonObject[] = [];
    for (const [i, chain] of CHAINS.entries()) {
      ports[i] = await freePort();
      const filters = chain.map((f) => (f === JWT ? jwt : f));
      listeners.push(listenerOf([hostOf(routes, { domains: ['h'] })], { name: `l${i}`, port: ports[i]!, filters }));
    }
    const clusters = [clusterOf('c', [server.port])];
    plan = buildPlan(resourcesOf(listeners, clusters));
    running = await startEnvoy(envoy!, { listeners, clusters }, ports);
  });
  after(async () => {
    await running?.stop();
    server?.close();
  });

  it('decides alike', { timeout: 60_000 }, async (t) => {
    const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
    assert.deepEqual([...compiled.verdicts], []);
    const good = `Bearer ${await a.sign({ iss: 'https://a', sub: 'alice', exp: now + 3600 })}`;
    const bob = `Bearer ${await a.sign({ iss: 'https://a', sub: 'bob', exp: now + 3600 })}`;
    const tokens = [undefined, good, bob, `${good.slice(0, -6)}AAAAAA`, 'Basic YTpi'];
    const more: [string, string][][] = [
      [],
      [['x-deny', '1']],
      [['x-fault', '1']],
      [
        ['x-fault', '1'],
        ['x-deny', '1'],
        ['origin', 'http://a'],
      ],
      [['origin', 'http://a']],
      [
        ['origin', 'http://a'],
        ['access-control-request-method', 'PUT'],
      ],
    ];
    const counts = CHAINS.map(() => 0);
    for (const [i] of CHAINS.entries())
      for (const value of tokens)
        for (const extra of more)
          for (const path of [...routes.map((r) => (r.match as JsonObject).prefix as string), '/nothing']) {
            const method = extra.some(([n]) => n === 'access-control-request-method') ? 'OPTIONS' : 'GET';
            const { tokens: asked } = plan.listeners[i]!;
            const known =
              asked && value
                ? await judgeToken(asked, { kind: 'header', name: 'authorization' }, value, keysOf, now)
                : undefined;
            const headers: [string, string][] = [['host', 'h'], ...extra];
            if (value) headers.push(['authorization', value]);
            const facts = known ? { tokenFacts: known.facts } : {};
            const trace = evaluate(plan, { listener: `l${i}`, method, target: path, headers, ...facts });
            const lines = [`${method} ${path} HTTP/1.1`, ...headers.map(([n, v]) => `${n}: ${v}`)];
            const decision = interpret(compiled.image, i, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), {
              sourceIp: Uint8Array.of(127, 0, 0, 1),
              random: 0,
              uuid: 'x'.repeat(36),
              tokenFacts: factWords(known?.facts ?? []),
            });
            const at = `l${i} ${lines.join(' | ')} -> ${trace.why}`;
            const image = decision.result === 'decided' ? decision.action : 'proxy';
            if (trace.verdict === 'proxy') {
              assert.equal(image, 'proxy', at);
              continue;
            }
            counts[i]!++;
            const result = trace.result!;
            assert.ok(image === 'proxy' || image === result.kind, at);
            const got = await sendRaw(ports[i]!, lines);
            const own = (list: readonly (readonly [string, string])[]) =>
              list
                .filter(([n]) => !['date', 'server', 'x-envoy-upstream-service-time', 'content-length'].includes(n))
                .map(([n, v]) => `${n}: ${v}`)
                .sort();
            if (result.kind === 'reply') {
              assert.equal(got.status, result.status, `${at}: ${got.body}`);
              assert.deepEqual(own(got.headers), own(result.headers), at);
              continue;
            }
            assert.ok(got.seen, `${at}: Envoy says ${got.status} ${got.body}`);
            const sent = (list: readonly (readonly [string, string])[]) =>
              own(list.filter(([n]) => n !== 'x-request-id'));
            assert.deepEqual(sent(got.seen.headers), sent(result.headers), at);
            const received = editText([['x-upstream', 'c']], result.answer);
            assert.deepEqual(own(got.headers), own(received), at);
          }
    t.diagnostic(JSON.stringify(counts));
    // where an edit comes before the filter, only the route without the filter is not the proxy's
    assert.deepEqual(
      counts.map((n, i) => (i === 5 ? n === tokens.length * more.length : n > 60)),
      counts.map(() => true),
      JSON.stringify(counts),
    );
  });

  it('what stands before the filter needs no token', () => {
    const asked: [string, string][] = [
      ['host', 'h'],
      ['origin', 'http://a'],
      ['access-control-request-method', 'PUT'],
    ];
    const preflight = (listener: string) =>
      evaluate(plan, { listener, method: 'OPTIONS', target: '/cors', headers: asked });
    assert.equal(preflight('l0').verdict, 'kernel');
    assert.match(preflight('l1').why, /a token is missing/);
    const get = (listener: string, headers: [string, string][]) =>
      evaluate(plan, { listener, method: 'GET', target: '/must', headers: [['host', 'h'], ...headers] });
    assert.equal(get('l1', [['x-fault', '1']]).verdict, 'kernel');
    assert.equal(get('l0', [['x-fault', '1']]).verdict, 'proxy');
    assert.equal(get('l1', []).verdict, 'proxy');
  });

  it('a lot is not drawn for what only the proxy can judge', () => {
    const lot = filter('fault', 'fault.v3.HTTPFault', {
      abort: { http_status: 429, percentage: { numerator: 50 } },
    });
    const jwt = filter('jwt', 'jwt_authn.v3.JwtAuthentication', {
      providers: { a: { issuer: 'https://a', local_jwks: { inline_string: setOf(a) } } },
      requirement_map: { must: { provider_name: 'a' } },
    });
    for (const filters of [
      [lot, jwt],
      [jwt, lot],
    ]) {
      const routed = [to('c', '/must', per(requires('must'))), to('c', '/open')];
      const own = buildPlan(resourcesOf([listenerOf([hostOf(routed)], { filters })], [clusterOf('c', [1])]));
      const { image } = compileImage(own, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
      for (const [target, verdict, action] of [
        ['/must', 'proxy', 'proxy'],
        ['/open', 'kernel', 'reply'],
      ] as const) {
        const request = { method: 'GET', target, headers: [['host', 'h']] as const, random: 0 };
        assert.equal(evaluate(own, request).verdict, verdict, target);
        const around = { sourceIp: Uint8Array.of(127, 0, 0, 1), random: 0, uuid: 'x'.repeat(36) };
        const bytes = Buffer.from(`GET ${target} HTTP/1.1\r\nhost: h\r\n\r\n`);
        assert.equal(interpret(image, 0, bytes, around).action, action, target);
      }
    }
  });
});
