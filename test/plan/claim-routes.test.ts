/** Routes on claims: where the plan and the image send requests with tokens is where the real Envoy sends them. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import { factWords, judgeToken, type KeysOf, keysOfSet } from '../../src/plan/judge-token.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { type Signer, setOf, signer } from './jwt-keys.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const skip = envoy === undefined ? 'no Envoy was found' : false;
const JWT = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication';
const keysOf: KeysOf = async ({ keys }) => (keys.kind === 'inline' ? keysOfSet(keys.jwks) : undefined);

const claim = (path: string[], value: JsonObject, more: JsonObject = {}): JsonObject => ({
  filter: 'envoy.filters.http.jwt_authn',
  path: path.map((key) => ({ key })),
  value,
  ...more,
});
const text = (exact: string): JsonObject => ({ string_match: { exact } });
const either = (value: JsonObject): JsonObject => ({
  or_match: { value_matchers: [value, { list_match: { one_of: value } }] },
});
const on = (prefix: string, more: JsonObject): JsonObject => ({
  match: { prefix, ...more },
  route: { cluster: 'claims' },
});

/** Routes, each of which gives way to one for every request. */
const ROUTES: JsonObject[] = [
  on('/sub', { dynamic_metadata: [claim(['payload', 'sub'], text('alice'))] }),
  on('/group', { dynamic_metadata: [claim(['payload', 'groups'], either(text('admin')))] }),
  on('/nested', {
    dynamic_metadata: [claim(['payload', 'realm', 'role'], either({ string_match: { prefix: 'ad' } }))],
  }),
  on('/scope', { dynamic_metadata: [claim(['payload', 'scope'], either(text('write')))] }),
  on('/not', { dynamic_metadata: [claim(['payload', 'sub'], text('alice'), { invert: true })] }),
  on('/regex', { dynamic_metadata: [claim(['payload', 'sub'], { string_match: { safe_regex: { regex: 'a.*' } } })] }),
  on('/both', {
    dynamic_metadata: [claim(['payload', 'sub'], text('alice')), claim(['payload', 'groups'], either(text('admin')))],
  }),
  on('/key', { dynamic_metadata: [claim(['other', 'sub'], text('alice'))] }),
  on('/header', { headers: [{ name: 'authorization', present_match: true }] }),
  on('/no-header', { headers: [{ name: 'authorization', present_match: true, invert_match: true }] }),
  {
    match: { prefix: '/redirect', dynamic_metadata: [claim(['payload', 'sub'], text('alice'))] },
    redirect: { path_redirect: '/alice' },
  },
  {
    match: { prefix: '/denied', dynamic_metadata: [claim(['payload', 'sub'], text('alice'))] },
    route: { cluster: 'claims' },
    typed_per_filter_config: {
      rbac: {
        '@type': TYPE.rbacPerRoute,
        rbac: {
          rules: { action: 'DENY', policies: { p: { permissions: [{ any: true }], principals: [{ any: true }] } } },
        },
      },
    },
  },
  to('plain', '/'),
];

interface Variant {
  readonly providers: JsonObject;
  readonly requires: JsonObject;
  readonly before?: JsonObject[];
  readonly routes?: JsonObject[];
  /** requests of which the kernel knows the answer */
  readonly known: number;
}

describe('routes on claims against Envoy', { skip, timeout: 120_000 }, () => {
  let running: RunningEnvoy;
  const servers: Awaited<ReturnType<typeof echoServer>>[] = [];
  const variants: Record<string, Variant> = {};
  const ports: number[] = [];
  let plan: ReturnType<typeof buildPlan>;
  let a: Signer;
  let b: Signer;
  const now = Math.floor(Date.now() / 1000);

  before(async () => {
    [a, b] = await Promise.all([signer('RS256', 'k1'), signer('ES256')]);
    const common: JsonObject = {
      payload_in_metadata: 'payload',
      normalize_payload_in_metadata: { space_delimited_claims: ['scope'] },
    };
    const of = (issuer: string, by: Signer, more: JsonObject = {}): JsonObject => ({
      issuer,
      local_jwks: { inline_string: setOf(by) },
      ...common,
      ...more,
    });
    const optional = (...names: string[]): JsonObject => ({
      requires_any: { requirements: [...names.map((provider_name) => ({ provider_name })), { allow_missing: {} }] },
    });
    const clear = { clear_route_cache: true };
    const preflight = { name: 'cors', typed_config: { '@type': TYPE.cors } };
    variants.one = { providers: { a: of('https://a', a, clear) }, requires: optional('a'), known: 46 };
    variants.kept = {
      providers: { a: of('https://a', a, { ...clear, forward: true }) },
      requires: optional('a'),
      known: 46,
    };
    variants.never = { providers: { a: of('https://a', a) }, requires: optional('a'), known: 52 };
    variants.two = {
      providers: { a: of('https://a', a, clear), b: of('https://b', b) },
      requires: optional('a', 'b'),
      known: 59,
    };
    variants.must = { providers: { a: of('https://a', a, clear) }, requires: { provider_name: 'a' }, known: 33 };
    variants.unwritten = {
      providers: { a: { issuer: 'https://a', local_jwks: { inline_string: setOf(a) }, ...clear } },
      requires: optional('a'),
      known: 52,
    };
    variants.second = {
      providers: { a: of('https://a', a, clear) },
      requires: optional('a'),
      before: [preflight],
      // the first route that asks for claims ends what the kernel knows
      known: 0,
    };
    const listeners: JsonObject[] = [];
    for (const [name, { providers, requires, before = [], routes = ROUTES }] of Object.entries(variants)) {
      const port = await freePort();
      ports.push(port);
      const filters = [
        ...before,
        { name: 'jwt', typed_config: { '@type': JWT, providers, rules: [{ match: { prefix: '/' }, requires }] } },
        { name: 'rbac', typed_config: { '@type': TYPE.rbac } },
      ];
      listeners.push(listenerOf([hostOf(routes)], { name, port, filters }));
    }
    const clusters: JsonObject[] = [];
    for (const name of ['claims', 'plain']) {
      const server = await echoServer(name);
      servers.push(server);
      clusters.push(clusterOf(name, [server.port]));
    }
    plan = buildPlan(resourcesOf(listeners, clusters));
    running = await startEnvoy(envoy!, { listeners, clusters }, ports);
  });
  after(async () => {
    await running?.stop();
    for (const server of servers) server.close();
  });

  it('decides alike', { timeout: 100_000 }, async (t) => {
    const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
    assert.deepEqual([...compiled.verdicts], []);
    const exp = now + 3600;
    const sign = (by: Signer, claims: object) => by.sign({ iss: by === a ? 'https://a' : 'https://b', exp, ...claims });
    const alice = await sign(a, {
      sub: 'alice',
      groups: ['users', 'admin'],
      realm: { role: 'admin' },
      scope: 'read write',
    });
    const tokens = [
      undefined,
      alice,
      await sign(a, { sub: 'bob', groups: 'admin', realm: { role: ['x', 'adx'] } }),
      await sign(a, { sub: 'bob', groups: ['users'], realm: 'admin', scope: 'read' }),
      await sign(a, { sub: 7 }),
      await sign(b, { sub: 'alice', groups: ['admin'] }),
      `${alice.slice(0, -6)}AAAAAA`,
    ];
    const known: Record<string, number> = {};
    const rerouted = new Set<string>();
    for (const [i, name] of Object.keys(variants).entries())
      for (const [k, token] of tokens.entries())
        for (const { match } of ROUTES) {
          const path = (match as JsonObject).prefix as string;
          const headers: [string, string][] = [['host', 'h']];
          if (token) headers.push(['authorization', `Bearer ${token}`]);
          const { tokens: asked } = plan.listeners[i]!;
          const judged =
            asked && token
              ? await judgeToken(asked, { kind: 'header', name: 'authorization' }, `Bearer ${token}`, keysOf, now)
              : undefined;
          const facts = judged ? { tokenFacts: judged.facts } : {};
          const trace = evaluate(plan, { listener: name, method: 'GET', target: path, headers, ...facts });
          const lines = [`GET ${path} HTTP/1.1`, ...headers.map(([n, v]) => `${n}: ${v}`)];
          const decision = interpret(compiled.image, i, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), {
            sourceIp: Uint8Array.of(127, 0, 0, 1),
            random: 0,
            uuid: 'x'.repeat(36),
            tokenFacts: factWords(judged?.facts ?? []),
          });
          const at = `${name} token ${k} ${path} -> ${trace.why}`;
          const image = decision.result === 'decided' ? decision.action : 'proxy';
          assert.equal(image, trace.verdict === 'proxy' ? 'proxy' : trace.result!.kind, at);
          const got = await sendRaw(ports[i]!, lines);
          if (token && got.seen?.server === 'claims') rerouted.add(`${name}${path}`);
          if (trace.verdict === 'proxy') continue;
          known[name] = (known[name] ?? 0) + 1;
          const result = trace.result!;
          if (result.kind === 'reply') assert.equal(got.status, result.status, `${at}: ${got.body}`);
          else assert.equal(got.seen?.server, result.action.clusters[0]!.cluster, `${at}: ${got.status} ${got.body}`);
        }
    t.diagnostic(JSON.stringify(known));
    for (const [name, variant] of Object.entries(variants)) assert.equal(known[name] ?? 0, variant.known, name);
    for (const path of ['/sub', '/group', '/nested', '/scope', '/regex', '/both'])
      assert.ok(rerouted.has(`one${path}`) && !rerouted.has(`never${path}`), path);
  });

  it('says why not', () => {
    const why = (name: string) => {
      const listener = plan.listeners.find((l) => l.name === name)!;
      return listener.virtualHosts.flatMap((h) => h.routes.flatMap((r) => r.reasons.map(({ code }) => code)));
    };
    assert.ok(!why('one').includes('metadata'));
    assert.ok(why('second').includes('metadata'));
  });
});
