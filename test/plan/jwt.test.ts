/** Tokens: what the plan and the judge in user space decide is what the real Envoy's jwt_authn filter decides. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { findToken } from '../../src/agent/token-places.js';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import { factWords, judgeToken, type KeysOf, keysOfSet } from '../../src/plan/judge-token.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { confused, forged, type Signer, setOf, signer } from './jwt-keys.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const skip = envoy === undefined ? 'no Envoy was found' : false;
const JWT = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication';
const PER_ROUTE = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig';

const keysOf: KeysOf = async ({ keys }) => (keys.kind === 'inline' ? keysOfSet(keys.jwks) : undefined);
const provider = (name: string): JsonObject => ({ provider_name: name });
const anyOf = (...requirements: JsonObject[]): JsonObject => ({ requires_any: { requirements } });
const allOf = (...requirements: JsonObject[]): JsonObject => ({ requires_all: { requirements } });
const MISSING: JsonObject = { allow_missing: {} };
const FAILED: JsonObject = { allow_missing_or_failed: {} };

/** Requirements by the path of their route. */
const REQUIREMENTS: Record<string, JsonObject> = {
  'a-or-none': anyOf(provider('a'), MISSING),
  a: provider('a'),
  'a-audience': { provider_and_audiences: { provider_name: 'a', audiences: ['other', 'web'] } },
  'a-or-b': anyOf(provider('a'), provider('b')),
  istio: anyOf(provider('a'), provider('b'), allOf(anyOf(provider('a'), MISSING), anyOf(provider('b'), MISSING))),
  all: allOf(anyOf(provider('a'), MISSING), anyOf(provider('b'), MISSING)),
  twice: allOf(provider('a'), provider('a')),
  'kept-twice': allOf(provider('kept'), provider('kept')),
  failed: anyOf(provider('a'), FAILED),
  kept: anyOf(provider('kept'), MISSING),
  header: anyOf(provider('header'), MISSING),
  'header-or-a': anyOf(provider('header'), provider('a'), MISSING),
  cookie: anyOf(provider('cookie'), MISSING),
  anyone: anyOf(provider('anyone'), MISSING),
  audiences: anyOf(provider('audiences'), MISSING),
  nothing: {},
};

const claim = (path: string[], value: JsonObject): JsonObject => ({
  metadata: { filter: 'envoy.filters.http.jwt_authn', path: path.map((key) => ({ key })), value },
});
const text = (exact: string): JsonObject => ({ string_match: { exact } });
/** RBAC rules behind the filter, by the beginning of the path. */
const PRINCIPALS: Record<string, JsonObject> = {
  open: { any: true },
  sub: claim(['payload', 'sub'], text('alice')),
  'not-sub': { not_id: claim(['payload', 'sub'], text('alice')) },
  scope: claim(['payload', 'scope'], { list_match: { one_of: text('write') } }),
  role: claim(['payload', 'realm', 'roles'], {
    or_match: { value_matchers: [text('x'), { list_match: { one_of: { string_match: { prefix: 'adm' } } } }] },
  }),
  regex: claim(['payload', 'iss'], { string_match: { safe_regex: { regex: '.+' } } }),
  bearer: { header: { name: 'authorization', present_match: true } },
};

describe('jwt_authn against Envoy', { skip, timeout: 120_000 }, () => {
  let running: RunningEnvoy;
  let server: Awaited<ReturnType<typeof echoServer>>;
  let resources: ReturnType<typeof resourcesOf>;
  let port: number;
  let a: Signer;
  let b: Signer;
  let stranger: Signer;
  const now = Math.floor(Date.now() / 1000);
  const good = {
    iss: 'https://a',
    sub: 'alice',
    aud: ['web'],
    exp: now + 3600,
    scope: 'read write',
    realm: { roles: ['admin', 7] },
  };

  before(async () => {
    a = await signer('RS256', 'k1');
    b = await signer('ES256');
    stranger = await signer('RS256', 'k1');
    server = await echoServer('web');
    port = await freePort();
    const local = (...signers: Signer[]): JsonObject => ({ local_jwks: { inline_string: setOf(...signers) } });
    const common: JsonObject = {
      payload_in_metadata: 'payload',
      normalize_payload_in_metadata: { space_delimited_claims: ['scope'] },
    };
    const config: JsonObject = {
      '@type': JWT,
      providers: {
        a: { issuer: 'https://a', ...local(stranger, a), ...common, ...local(a) },
        b: { issuer: 'https://b', ...local(b), ...common },
        kept: { issuer: 'https://a', forward: true, ...local(a), ...common },
        header: { issuer: 'https://a', ...local(a), ...common, from_headers: [{ name: 'x-token', value_prefix: '' }] },
        cookie: {
          issuer: 'https://a',
          ...local(a),
          ...common,
          from_cookies: ['session'],
          from_headers: [{ name: 'x-token', value_prefix: 'JWT ' }],
        },
        anyone: { ...local(a, b), ...common },
        audiences: { issuer: 'https://a', audiences: ['https://web/', 'web'], ...local(a), ...common },
      },
      requirement_map: REQUIREMENTS,
      bypass_cors_preflight: true,
    };
    const rbac = (principal: JsonObject): JsonObject => ({
      '@type': TYPE.rbacPerRoute,
      rbac: { rules: { policies: { p: { permissions: [{ any: true }], principals: [principal] } } } },
    });
    const routes = Object.entries(PRINCIPALS).flatMap(([first, principal]) =>
      Object.keys(REQUIREMENTS).map((second) =>
        to('c', `/${first}/${second}/`, {
          typed_per_filter_config: {
            jwt: { '@type': PER_ROUTE, requirement_name: second },
            rbac: rbac(principal),
          },
        }),
      ),
    );
    routes.push(to('c', '/unprotected'));
    const filters: JsonObject[] = [
      { name: 'jwt', typed_config: config },
      { name: 'rbac', typed_config: { '@type': TYPE.rbac } },
    ];
    const listener = listenerOf([hostOf(routes)], { port, filters });
    resources = resourcesOf([listener], [clusterOf('c', [server.port])]);
    running = await startEnvoy(envoy!, { listeners: resources.listeners, clusters: resources.clusters }, [port]);
  });
  after(async () => {
    await running?.stop();
    server?.close();
  });

  /** Requests: what the headers are, and whether the kernel is to know the answer once the token has been seen. */
  async function cases(): Promise<[what: string, headers: [string, string][], query?: string][]> {
    const bearer = (token: string): [string, string][] => [['Authorization', `Bearer ${token}`]];
    const token = await a.sign(good);
    const fromB = await b.sign({ ...good, iss: 'https://b', sub: 'bob' });
    const [head, body, signature] = token.split('.') as [string, string, string];
    const flipped = Buffer.from(signature, 'base64url');
    flipped[9]! ^= 1;
    const last = signature.at(-1) === 'A' ? 'B' : 'A';
    const claims = (more: object) => a.sign({ ...good, ...more });
    return [
      ['no token', []],
      ['good', bearer(token)],
      ["another issuer's", bearer(fromB)],
      ['of a stranger with the same key id', bearer(await stranger.sign(good))],
      ['expired', bearer(await claims({ exp: now - 120 }))],
      ['expired within the skew', bearer(await claims({ exp: now - 20 }))],
      ['not valid yet', bearer(await claims({ nbf: now + 300 }))],
      ['not valid yet, within the skew', bearer(await claims({ nbf: now + 30 }))],
      ['without end', bearer(await a.sign({ iss: 'https://a', sub: 'alice' }))],
      ['wrong audience', bearer(await claims({ aud: 'else' }))],
      ['one audience', bearer(await claims({ aud: 'web' }))],
      ['audience with a slash', bearer(await claims({ aud: 'http://web/' }))],
      ['wrong issuer', bearer(await claims({ iss: 'https://a/' }))],
      ['no issuer', bearer(await a.sign({ sub: 'alice' }))],
      ['issuer is no text', bearer(await claims({ iss: 7 }))],
      ['exp is a text', bearer(await claims({ exp: `${now + 100}` }))],
      ['exp with a fraction', bearer(await claims({ exp: now + 100.5 }))],
      ['a key twice', bearer(await a.sign(`{"iss":"https://a","sub":"bob","sub":"alice","exp":${now + 100}}`))],
      ['white space in JSON', bearer(await a.sign(`{ "iss" : "https://a",\n"sub":"alice", "exp" : ${now + 100} }`))],
      ['escapes in JSON', bearer(await a.sign(`{"iss":"https:\\/\\/a","sub":"\\u0061lice","exp":${now + 100}}`))],
      ['no object', bearer(await a.sign('[]'))],
      ['unknown key id', bearer(await a.sign(good, { kid: 'k2' }))],
      ['no key id', bearer(await a.sign(good, { kid: undefined }))],
      ['bad signature', bearer(`${head}.${body}.${flipped.toString('base64url')}`)],
      ['signature not canonical', bearer(`${head}.${body}.${signature.slice(0, -1)}${last}`)],
      ['padded', bearer(`${token}==`)],
      ['no signature', bearer(`${head}.${body}.`)],
      ['alg none', bearer(forged({ alg: 'none' }, good, ''))],
      ['public key as a secret', bearer(confused(good, JSON.stringify(a.jwk)))],
      ['garbage', bearer('garbage')],
      ['nothing behind Bearer', [['Authorization', 'Bearer']]],
      ['lower case bearer', [['Authorization', `bearer ${token}`]]],
      ['two spaces', [['Authorization', `Bearer  ${token}`]]],
      ['something before Bearer', [['Authorization', `x Bearer ${token}`]]],
      ['something behind', [['Authorization', `Bearer ${token} x`]]],
      ['a comma behind', [['Authorization', `Bearer ${token},x`]]],
      ['Basic', [['Authorization', 'Basic YTpi']]],
      ['two headers', [...bearer(token), ...bearer(token)]],
      ['two tokens in one', [['Authorization', `Bearer ${token}, Bearer ${fromB}`]]],
      ['in the query', [], `?access_token=${token}`],
      ['in the query with an escape in its name', [], `?%61ccess_token=${token}`],
      ['garbage in the query', [], '?x=1&access_token=garbage'],
      ['an escape in a value', [], '?x=%31'],
      ['good, and garbage in the query', bearer(token), '?access_token=garbage'],
      ['good, and garbage in the query, escaped', bearer(token), '?access_toke%6e=garbage'],
      ['x-token', [['x-token', token]]],
      ['x-token with its prefix', [['X-Token', `JWT ${token}`]]],
      ['x-token garbage', [['x-token', 'garbage']]],
      ['both headers', [...bearer(token), ['x-token', token]]],
      ['cookie', [['Cookie', `a=b; session=${token}`]]],
      ['another cookie', [['Cookie', 'a=b']]],
    ];
  }

  it('decides alike', async (t) => {
    const plan = buildPlan(resources);
    const [listener] = plan.listeners;
    assert.ok(listener?.offloaded && listener.tokens);
    assert.deepEqual(
      listener.virtualHosts.flatMap((v) => v.routes).flatMap((r) => (r.guard ? [] : r.reasons.map((x) => x.message))),
      [],
    );
    const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
    assert.deepEqual([...compiled.verdicts], []);
    const count = { kernel: 0, proxy: 0, known: 0 };
    for (const [what, headers, query = ''] of await cases()) {
      const lower = headers.map(([n, v]) => [n.toLowerCase(), v.trim()] as const);
      const found = findToken(listener.tokens, `/${query}`, lower);
      const known =
        found && (await judgeToken(listener.tokens, listener.tokens.places[found.place]!, found.value, keysOf, now));
      if (known) count.known++;
      const bits = factWords(known?.facts ?? []);
      for (const first of Object.keys(PRINCIPALS))
        for (const second of Object.keys(REQUIREMENTS)) {
          const target = `/${first}/${second}/x${query}`;
          const all: [string, string][] = [['Host', 'h'], ...headers];
          const at = `${what}: ${target}`;
          const trace = evaluate(plan, {
            method: 'GET',
            target,
            headers: all,
            ...(known ? { tokenFacts: known.facts } : {}),
          });
          const lines = [`GET ${target} HTTP/1.1`, ...all.map(([n, v]) => `${n}: ${v}`)];
          const decision = interpret(compiled.image, 0, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), {
            sourceIp: Uint8Array.of(127, 0, 0, 1),
            random: 0,
            uuid: 'x'.repeat(36),
            tokenFacts: bits,
          });
          const image = decision.result === 'decided' ? decision.action : 'proxy';
          if (trace.verdict === 'proxy') assert.equal(image, 'proxy', `image: ${at}`);
          if (image === 'proxy') {
            count.proxy++;
            continue;
          }
          count.kernel++;
          const answer = await sendRaw(port, lines);
          const result = trace.result!;
          assert.equal(image, result.kind, `image and plan: ${at}`);
          assert.equal(answer.status, result.kind === 'reply' ? result.status : 200, `Envoy: ${at}: ${answer.body}`);
          if (result.kind !== 'forward') continue;
          const without = (list: readonly (readonly [string, string])[]) =>
            list
              .filter(([n]) => !['x-request-id', 'x-envoy-expected-rq-timeout-ms', 'host'].includes(n))
              .map(([n, v]) => `${n.toLowerCase()}: ${v}`)
              .sort();
          assert.deepEqual(without(result.headers), without(answer.seen!.headers), `headers: ${at}`);
          const sent = Buffer.from(decision.output).toString('latin1').split('\r\n').slice(1, -2);
          const bytes = sent.map(
            (line) =>
              [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()] as const,
          );
          assert.deepEqual(without(bytes), without(answer.seen!.headers), `image headers: ${at}`);
          assert.equal(answer.seen!.target, target);
        }
    }
    t.diagnostic(JSON.stringify(count));
    assert.ok(count.kernel > 1000 && count.known >= 8, JSON.stringify(count));
  });

  it('of what it knows, the kernel leaves nothing to the proxy', async () => {
    const plan = buildPlan(resources);
    const listener = plan.listeners[0]!;
    const value = `Bearer ${await a.sign(good)}`;
    const known = await judgeToken(listener.tokens!, { kind: 'header', name: 'authorization' }, value, keysOf, now);
    for (const [target, status] of [
      ['/sub/a-or-none/', 200],
      ['/not-sub/a-or-none/', 403],
      ['/scope/a/', 200],
      ['/role/istio/', 200],
      ['/open/kept-twice/', 200],
      ['/sub/a-audience/', 200],
    ] as const) {
      const headers = [
        ['Host', 'h'],
        ['Authorization', value],
      ] as const;
      const trace = evaluate(plan, { method: 'GET', target, headers, tokenFacts: known!.facts });
      assert.equal(trace.verdict, 'kernel', `${target}: ${trace.why}`);
      assert.equal(trace.result?.kind === 'reply' ? trace.result.status : 200, status, target);
      const unknown = evaluate(plan, { method: 'GET', target, headers });
      assert.equal(unknown.verdict, 'proxy', target);
    }
    const none = evaluate(plan, { method: 'GET', target: '/sub/a-or-none/', headers: [['Host', 'h']] });
    assert.deepEqual([none.verdict, none.result?.kind], ['kernel', 'reply']);
    // a request that fails even without a route is the proxy's
    const required = evaluate(plan, { method: 'GET', target: '/open/a/', headers: [['Host', 'h']] });
    assert.equal(required.verdict, 'proxy');
  });
});
