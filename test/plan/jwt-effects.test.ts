/**
 * Tokens in query parameters and cookies, and what good ones do to a request (claims in headers, subjects): the plan, the
 * judge in user space and the image say what the real Envoy's jwt_authn filter does.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { findToken } from '../../src/agent/token-places.js';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import { factWords, judgeToken, type KeysOf, keysOfSet } from '../../src/plan/judge-token.js';
import { headerLines } from '../../src/plan/token-headers.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { type Signer, setOf, signer } from './jwt-keys.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const envoy = findEnvoy();
const skip = envoy === undefined ? 'no Envoy was found' : false;
const JWT = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication';
const keysOf: KeysOf = async ({ keys }) => (keys.kind === 'inline' ? keysOfSet(keys.jwks) : undefined);
const provider = (name: string): JsonObject => ({ provider_name: name });
const anyOf = (...requirements: JsonObject[]): JsonObject => ({ requires_any: { requirements } });
const allOf = (...requirements: JsonObject[]): JsonObject => ({ requires_all: { requirements } });
const MISSING: JsonObject = { allow_missing: {} };
const FAILED: JsonObject = { allow_missing_or_failed: {} };

const HEADERS: JsonObject[] = [
  { header_name: 'X-Sub', claim_name: 'sub' },
  { header_name: 'x-n', claim_name: 'n' },
  { header_name: 'x-list', claim_name: 'list' },
  { header_name: 'x-deep', claim_name: 'deep.er' },
  { header_name: 'x-flag', claim_name: 'flag' },
];
type Providers = Record<string, JsonObject>;
/** Listeners: providers (without issuer and keys, which their first letter names), and requirements by path. */
const LISTENERS: Record<string, { providers: Providers; requirements: Record<string, JsonObject>; known: number }> = {
  places: {
    providers: {
      a: {
        from_params: ['tok', 'other.tok'],
        from_cookies: ['session'],
        from_headers: [{ name: 'x-token' }],
        forward: true,
      },
      b: { from_params: ['tok'], from_headers: [{ name: 'x-b', value_prefix: 'B ' }] },
    },
    requirements: {
      a: provider('a'),
      'a-or-none': anyOf(provider('a'), MISSING),
      'b-or-none': anyOf(provider('b'), MISSING),
      both: anyOf(provider('a'), provider('b'), allOf(anyOf(provider('a'), MISSING), anyOf(provider('b'), MISSING))),
      none: {},
    },
    known: 516,
  },
  headers: {
    providers: {
      a: { claim_to_headers: HEADERS, from_headers: [{ name: 'x-token' }], from_cookies: ['session'] },
      akept: { claim_to_headers: HEADERS.slice(0, 2), from_headers: [{ name: 'x-token' }], forward: true },
      b: {
        claim_to_headers: [HEADERS[0]!, { header_name: 'x-b', claim_name: 'n' }],
        forward_payload_header: 'x-payload',
        pad_forward_payload_header: true,
        from_headers: [{ name: 'x-token' }],
      },
    },
    requirements: {
      'a-or-none': anyOf(provider('a'), MISSING),
      kept: provider('akept'),
      'b-or-none': anyOf(provider('b'), MISSING),
      both: anyOf(provider('a'), provider('b'), allOf(anyOf(provider('a'), MISSING), anyOf(provider('b'), MISSING))),
      all: allOf(anyOf(provider('a'), MISSING), anyOf(provider('b'), MISSING)),
      failed: anyOf(provider('a'), FAILED),
      none: {},
    },
    known: 627,
  },
  subjects: {
    providers: {
      a: { subjects: { prefix: 'ali' }, from_headers: [{ name: 'x-token' }] },
      b: { subjects: { safe_regex: { regex: 'b.*' } }, from_headers: [{ name: 'x-token' }] },
    },
    requirements: { a: anyOf(provider('a'), MISSING), b: provider('b') },
    known: 369,
  },
  payload: {
    providers: { a: { forward_payload_header: 'x-payload', from_headers: [{ name: 'x-token' }] } },
    requirements: { 'a-or-none': anyOf(provider('a'), MISSING) },
    known: 351,
  },
};

describe('what tokens do, against Envoy', { skip, timeout: 120_000 }, () => {
  let running: RunningEnvoy;
  let server: Awaited<ReturnType<typeof echoServer>>;
  let plan: ReturnType<typeof buildPlan>;
  const ports: number[] = [];
  let a: Signer;
  let b: Signer;
  const exp = Math.floor(Date.now() / 1000) + 3600;

  before(async () => {
    [a, b] = await Promise.all([signer('ES256', 'k1'), signer('ES256')]);
    server = await echoServer('web');
    const listeners: JsonObject[] = [];
    for (const [name, { providers, requirements }] of Object.entries(LISTENERS)) {
      const port = await freePort();
      ports.push(port);
      const whole = Object.entries(providers).map(([key, own]) => {
        const issuer = key.startsWith('a') ? 'https://a' : 'https://b';
        return [key, { issuer, local_jwks: { inline_string: setOf(key.startsWith('a') ? a : b) }, ...own }] as const;
      });
      const rules = Object.entries(requirements).map(([path, requires]) => ({
        match: { prefix: `/${path}/` },
        requires,
      }));
      const config = { '@type': JWT, providers: Object.fromEntries(whole), rules, bypass_cors_preflight: true };
      // a rule with no provider still takes the headers for claims out of requests
      const routes = [
        to('c', '/a-or-none/edited', {
          request_headers_to_remove: ['x-n'],
          request_headers_to_add: [{ header: { key: 'x-list', value: 'mine' } }],
        }),
        to('c', '/'),
      ];
      const filters = [{ name: 'jwt', typed_config: config }];
      listeners.push(listenerOf([hostOf(routes)], { name, port, filters }));
    }
    const clusters = [clusterOf('c', [server.port])];
    plan = buildPlan(resourcesOf(listeners, clusters));
    running = await startEnvoy(envoy!, { listeners, clusters }, ports);
  });
  after(async () => {
    await running?.stop();
    server?.close();
  });

  type Case = readonly [query: string, headers: readonly (readonly [string, string])[]];

  async function cases(): Promise<Case[]> {
    const ofA = (more: object = {}) => a.sign({ iss: 'https://a', sub: 'alice', exp, ...more });
    const good = await ofA();
    const ofB = await b.sign({ iss: 'https://b', sub: 'bob', n: 7, exp });
    const bad = `${good.slice(0, -6)}AAAAAA`;
    const spoofed = [
      ['x-sub', 'mallory'],
      ['x-payload', 'mallory'],
      ['x-b', 'mallory'],
    ] as const;
    const found: Case[] = [
      ['', []],
      ['?q=1', spoofed],
      [`?tok=${good}`, spoofed],
    ];
    for (const t of [good, ofB, bad, 'x', '']) {
      found.push(
        [`?tok=${t}`, []],
        [`?a=1&tok=${t}&b=%41+c`, []],
        [`?other.tok=${t}`, []],
        [`?tok=${t}&tok=x`, []],
        [`?tok=x&tok=${t}`, []],
        [`?t%6fk=${t}`, []],
        [`?tok=${t}#x`, []],
        [`?tok=${t}`, [['cookie', `session=${t}`]]],
        ['', [['cookie', `session=${t}`]]],
        ['', [['cookie', `a=b; session=${t}; c=d`]]],
        ['', [['cookie', `session=${t}; session=x`]]],
        ['', [['cookie', `session=x; session=${t}`]]],
        ['', [['cookie', `session="${t}"`]]],
        ['', [['cookie', `xsession=${t}`]]],
        ['', [['cookie', `a=b;\tsession=${t}`]]],
        ['', [['x-token', t]]],
        ['', [['x-token', t], ...spoofed]],
        ['', [['x-b', `B ${t}`]]],
        [`?tok=${t}`, [['x-token', t]]],
      );
    }
    found.push(['?tok', []]);
    const values = [
      1,
      -1,
      0,
      1.5,
      -1.25e-9,
      3.3333333,
      123456.789,
      0.1,
      1e20,
      2 ** 53 - 1,
      2 ** 64,
      true,
      null,
      '',
      'x y',
      'é',
      ' x ',
      'a\tb',
    ];
    const lists = [['a', 'b'], [], ['<a>', "it's"], ['é'], [1, 'x'], { z: 1, a: 2 }, ['a/b', 'c:d'], 'plain', [['x']]];
    for (const n of values) found.push(['', [['x-token', await ofA({ n, flag: n, deep: { er: n } })]]]);
    for (const list of lists) found.push(['', [['x-token', await ofA({ list, deep: list })]]]);
    found.push(['', [['x-token', await ofA({ sub: 'alicia', 'deep.er': 'flat' })]]]);
    found.push(['', [['x-token', await ofA({ sub: 'carol' })]]]);
    found.push(['', [['x-token', await ofA({ sub: undefined })]]]);
    found.push(['', [['x-token', await ofA({ n: 'y'.repeat(900) })]]]);
    found.push(['', [['x-token', await ofA({ n: 'y'.repeat(1100) })]]]);
    found.push(['', [['x-token', await b.sign({ iss: 'https://b', sub: 'eve', exp })]]]);
    return found;
  }

  it('decides alike', { timeout: 100_000 }, async (t) => {
    const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
    assert.deepEqual([...compiled.verdicts], []);
    const known: Record<string, number> = {};
    const filled: Record<string, number> = {};
    const places: Record<string, number> = {};
    for (const [i, [name, { requirements }]] of Object.entries(LISTENERS).entries())
      for (const [query, headers] of await cases())
        for (const path of [...Object.keys(requirements).map((p) => `/${p}/x`), '/a-or-none/edited', '/nothing']) {
          const target = `${path}${query}`;
          const all = [['host', 'h'], ...headers] as const;
          const { tokens } = plan.listeners[i]!;
          const found = tokens && findToken(tokens, target, all);
          const judged =
            found && (await judgeToken(tokens, tokens.places[found.place]!, found.value, keysOf, exp - 3600));
          const trace = evaluate(plan, {
            listener: name,
            method: 'GET',
            target,
            headers: all,
            ...(judged ? { tokenFacts: judged.facts, tokenHeaders: judged.headers } : {}),
          });
          const lines = [`GET ${target} HTTP/1.1`, ...all.map(([n, v]) => `${n}: ${v}`)];
          const decision = interpret(compiled.image, i, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), {
            sourceIp: Uint8Array.of(127, 0, 0, 1),
            random: 0,
            uuid: 'x'.repeat(36),
            tokenFacts: factWords(judged?.facts ?? []),
            tokenLines: headerLines(judged?.headers ?? []),
          });
          const at = `${name} ${target} ${JSON.stringify(headers)} -> ${trace.why}`;
          const image = decision.result === 'decided' ? decision.action : 'proxy';
          assert.equal(image, trace.verdict === 'proxy' ? 'proxy' : trace.result!.kind, at);
          if (trace.verdict === 'proxy') continue;
          known[name] = (known[name] ?? 0) + 1;
          const place = judged && tokens.places[found.place]!.kind;
          if (place) places[place] = (places[place] ?? 0) + 1;
          const got = await sendRaw(ports[i]!, lines);
          const result = trace.result!;
          assert.equal(result.kind, 'forward', at);
          assert.ok(got.seen, `${at}: ${got.status} ${got.body}`);
          if (result.kind !== 'forward') continue;
          if (judged?.headers.length && result.action.tokenHeaders) filled[name] = (filled[name] ?? 0) + 1;
          const own = (list: readonly (readonly [string, string])[]) =>
            list
              .filter(([n]) => !['x-request-id', 'x-forwarded-proto', 'x-envoy-expected-rq-timeout-ms'].includes(n))
              .map(([n, v]) => `${n}: ${v}`)
              .sort();
          assert.deepEqual(own(got.seen.headers), own(result.headers), at);
          assert.equal(got.seen.target, result.target, at);
          const sent = Buffer.from(decision.output).toString('latin1').split('\r\n');
          const made = sent
            .slice(1, -2)
            .map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()] as const);
          assert.deepEqual(own(made), own(result.headers), `the image, ${at}`);
        }
    t.diagnostic(JSON.stringify({ known, filled, places }));
    for (const [name, { known: least }] of Object.entries(LISTENERS)) assert.equal(known[name], least, name);
    assert.ok((places.param ?? 0) >= 10 && (places.cookie ?? 0) >= 10, JSON.stringify(places));
    assert.ok((filled.headers ?? 0) >= 40 && (filled.payload ?? 0) >= 10, JSON.stringify(filled));
  });

  it('leaves what looks at the tokens of all providers to the proxy', () => {
    for (const requires of [MISSING, FAILED, allOf(provider('a'), MISSING), anyOf(MISSING, FAILED)]) {
      const config = {
        '@type': JWT,
        providers: { a: { issuer: 'https://a', local_jwks: { inline_string: setOf(a) } } },
        rules: [{ match: { prefix: '/' }, requires }],
      };
      const own = listenerOf([hostOf([to('c', '/')])], { filters: [{ name: 'jwt', typed_config: config }] });
      const route = buildPlan(resourcesOf([own], [clusterOf('c', [1])])).listeners[0]!.virtualHosts[0]!.routes.at(-1)!;
      assert.deepEqual([route.action.kind, route.reasons[0]?.code], ['proxy', 'jwt'], JSON.stringify(requires));
    }
  });

  it('leaves headers that somebody maintains, and those that are looked at afterwards, to the proxy', () => {
    const chain = (header: string, more: JsonObject[] = []) => {
      const a1 = {
        issuer: 'https://a',
        local_jwks: { inline_string: setOf(a) },
        claim_to_headers: [{ header_name: header, claim_name: 'sub' }],
      };
      const config = {
        '@type': JWT,
        providers: { a: a1 },
        rules: [{ match: { prefix: '/' }, requires: anyOf(provider('a'), MISSING) }],
      };
      const own = listenerOf([hostOf([to('c', '/')])], { filters: [{ name: 'jwt', typed_config: config }, ...more] });
      return buildPlan(resourcesOf([own], [clusterOf('c', [1])]))
        .listeners[0]!.virtualHosts[0]!.routes.at(-1)!
        .reasons.map(({ code }) => code);
    };
    assert.deepEqual(chain('x-plain'), []);
    for (const name of ['x-forwarded-for', 'host', 'cookie', 'x-envoy-internal', 'authorization', 'connection'])
      assert.ok(chain(name).includes('jwt'), name);
    const rbac = (name: string) => ({
      name: 'rbac',
      typed_config: {
        '@type': TYPE.rbac,
        rules: {
          policies: { p: { permissions: [{ header: { name, present_match: true } }], principals: [{ any: true }] } },
        },
      },
    });
    assert.deepEqual(chain('x-plain', [rbac('x-other')]), []);
    assert.deepEqual(chain('x-plain', [rbac('x-plain')]), ['header-edit']);
  });
});
