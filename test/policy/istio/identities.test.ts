/** Who clients are: the translation of principals and namespaces, and the real Envoy's word on what it means. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseAddress } from '../../../src/compile/address.js';
import { compileImage } from '../../../src/compile/image.js';
import { interpret } from '../../../src/compile/interpret.js';
import { freePort } from '../../../src/lab/ports.js';
import { buildPlan } from '../../../src/plan/build.js';
import { evaluate } from '../../../src/plan/evaluate.js';
import { report } from '../../../src/plan/report.js';
import { matchesIdentity, parseIdentity, spiffe } from '../../../src/policy/istio/identities.js';
import type { JsonObject, Resources } from '../../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from '../../plan/envoy-oracle.js';
import { hostOf, listenerOf, resourcesOf, TYPE, to } from '../../plan/resources.js';
import { translate } from './helpers.js';

const envoy = findEnvoy();
const skip = envoy === undefined ? 'no Envoy was found' : false;

/** A policy for a service of its own, whose server is at `port`. */
function guarded(name: string, port: number, action: string, rule: string, n: number): string {
  return `---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec: {clusterIP: 10.96.0.${n}, selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: ${port}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}, namespace: default, labels: {kubernetes.io/service-name: ${name}, app: ${name}}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: http, port: ${port}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ${name}, namespace: default}
spec: {selector: {matchLabels: {app: ${name}}}, action: ${action}, rules: [${rule}]}
`;
}

const PODS = [
  ['sleep', 'default', '127.0.9.1'],
  ['cart', 'shop', '127.0.9.2'],
  ['till', 'prod-eu', '127.0.9.3'],
  ['sleep', 'prod-us', '127.0.9.4'],
] as const;
const pods = PODS.map(
  ([account, namespace, ip]) => `---
apiVersion: v1
kind: Pod
metadata: {name: ${account}, namespace: ${namespace}}
spec: {serviceAccountName: ${account}}
status: {phase: Running, podIP: ${ip}}
`,
).join('');

/** Conditions on the source, and what Istio's matchers say of a certificate: undefined is a client without one. */
const SOURCES: readonly [text: string, holds: (uri: string | undefined) => boolean][] = [
  ["principals: ['cluster.local/ns/default/sa/sleep']", (u) => u === 'spiffe://cluster.local/ns/default/sa/sleep'],
  ["principals: ['*']", (u) => u !== undefined],
  ["principals: ['*/sa/sleep']", (u) => u?.endsWith('/sa/sleep') ?? false],
  ["principals: ['cluster.local/ns/shop/*']", (u) => u?.startsWith('spiffe://cluster.local/ns/shop/') ?? false],
  ["notPrincipals: ['cluster.local/ns/shop/sa/cart']", (u) => u !== 'spiffe://cluster.local/ns/shop/sa/cart'],
  ["notPrincipals: ['*']", (u) => u === undefined],
  ["namespaces: ['prod-*', shop]", (u) => /\/ns\/(prod-.*|shop)\//.test(u ?? '')],
  ['notNamespaces: [shop]', (u) => !/\/ns\/shop\//.test(u ?? '')],
  ["serviceAccounts: [sleep, 'prod-eu/till']", (u) => /ns\/(default\/sa\/sleep|prod-eu\/sa\/till)$/.test(u ?? '')],
  [
    "namespaces: [default, prod-us], notPrincipals: ['cluster.local/ns/default/sa/sleep']",
    (u) => /\/ns\/prod-us\//.test(u ?? '') || (u?.includes('/ns/default/') === true && !u.endsWith('/sa/sleep')),
  ],
];

describe('identities', () => {
  it('are written in several ways', () => {
    const shop = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' };
    for (const text of ['shop/cart', 'ns/shop/sa/cart', 'cluster.local/ns/shop/sa/cart']) {
      assert.deepEqual(parseIdentity(text), shop);
      assert.equal(spiffe(parseIdentity(text)!), 'spiffe://cluster.local/ns/shop/sa/cart');
    }
    assert.equal(parseIdentity('spiffe://td.example/ns/a/sa/b')?.trustDomain, 'td.example');
    for (const text of ['', 'shop', '10.0.0.1', 'a/b/c', 'ns/a/sa/', 'spiffe://td/ns/a', 'a b/c']) {
      assert.equal(parseIdentity(text), undefined, text);
    }
    assert.equal(matchesIdentity({ exact: 'spiffe://a' }, 'spiffe://ab'), false);
  });

  it('of a policy may be named by cluster.local whatever the trust domain', () => {
    const text = guarded('web', 1, 'ALLOW', "{from: [{source: {principals: ['cluster.local/ns/shop/sa/cart']}}]}", 1);
    const text2 = JSON.stringify(translate(text, { identity: parseIdentity('td.example/ns/shop/sa/cart')! }).listeners);
    assert.match(text2, /"or_ids":\{"ids":\[\{"any":true\}\]\}/);
    const other = JSON.stringify(translate(text, { identity: parseIdentity('td.example/ns/shop/sa/x')! }).listeners);
    assert.match(other, /"not_id":\{"any":true\}/);
  });

  it('are assumed to be known when policies are judged without their cluster', () => {
    const text = guarded('web', 1, 'DENY', "{from: [{source: {notNamespaces: ['shop']}}]}", 1);
    const resources = translate(text, { assumeEndpoints: true });
    assert.deepEqual(
      resources.diagnostics.map((d) => [d.severity, d.code]),
      [['warning', 'unknown-identity']],
    );
    const rules = report(resources, buildPlan(resources)).results;
    assert.deepEqual(
      rules.map((r) => r.verdict),
      ['kernel'],
    );
  });

  it('of thousands of workloads fit', () => {
    const many = Array.from({ length: 3000 }, (_, i) => {
      const ip = `10.${i % 7}.${i >> 8}.${i & 255}`;
      return `---\n{apiVersion: v1, kind: Pod, metadata: {name: p${i}, namespace: n${i % 3}}, spec: {}, status: {podIP: ${ip}}}\n`;
    }).join('');
    const text = guarded('web', 1, 'ALLOW', '{from: [{source: {namespaces: [n1]}}]}', 1) + many;
    const plan = buildPlan(translate(text));
    const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
    assert.deepEqual([...compiled.verdicts], []);
    const head = Buffer.from('GET / HTTP/1.1\r\nHost: web\r\n\r\n');
    for (const [ip, status] of [
      ['10.1.0.1', 'forward'],
      ['10.2.0.2', 'reply'],
      ['10.1.0.2', 'reply'],
      ['10.4.0.4', 'forward'],
    ] as const) {
      const around = { sourceIp: parseAddress(ip)!, random: 0, uuid: 'x'.repeat(36) };
      assert.equal(interpret(compiled.image, 0, head, around).action, status, ip);
    }
  });
});

for (const instance of [undefined, 'shop/agent', 'default/sleep']) {
  describe(`clients of an instance ${instance ? `that is ${instance}` : 'without identity'}, as Envoy sees them`, {
    skip,
  }, () => {
    let resources: Resources;
    let running: RunningEnvoy;
    let server: Awaited<ReturnType<typeof echoServer>>;
    const ports = new Map<string, number>();

    before(async () => {
      server = await echoServer('web');
      const identity = instance === undefined ? undefined : parseIdentity(instance)!;
      const text = SOURCES.map(([source], i) =>
        (['ALLOW', 'DENY'] as const)
          .map((action, k) => {
            const rule = `{from: [{source: {${source}}}]}`;
            return guarded(`s${i}-${action.toLowerCase()}`, server.port, action, rule, 2 * i + k + 1);
          })
          .join(''),
      ).join('');
      resources = translate(text + pods, identity ? { identity } : {});
      const listeners: JsonObject[] = [];
      for (const l of resources.listeners) {
        const port = await freePort();
        ports.set(String(l.name), port);
        listeners.push({ ...l, address: { socket_address: { address: '127.0.0.1', port_value: port } } });
      }
      running = await startEnvoy(envoy!, { listeners, clusters: resources.clusters }, [...ports.values()]);
    });
    after(async () => {
      await running?.stop();
      server?.close();
    });

    it('are let in and refused alike by Envoy, the plan and the image', async () => {
      const plan = buildPlan(resources);
      const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 1 });
      assert.deepEqual([...compiled.verdicts], []);
      const known: [string, string | undefined][] = PODS.map(([account, namespace, ip]) => [
        ip,
        `spiffe://cluster.local/ns/${namespace}/sa/${account}`,
      ]);
      const own = instance && spiffe(parseIdentity(instance)!);
      for (const [ip, uri] of [...known, ['127.0.9.9', own] as const, ['127.0.0.1', own] as const]) {
        for (const [i, [source, holds]] of SOURCES.entries()) {
          for (const action of ['allow', 'deny']) {
            const name = `s${i}-${action}`;
            const index = plan.listeners.findIndex((l) => l.name.includes(`|${name}.default.`));
            const listener = plan.listeners[index]!;
            const lines = ['GET /x HTTP/1.1', `Host: ${name}`];
            const what = `${ip} (${uri}) ${action} {${source}}`;
            const expected = holds(uri) === (action === 'allow') ? 200 : 403;
            const answer = await sendRaw(ports.get(listener.name)!, lines, ip);
            assert.equal(answer.status, expected, `Envoy: ${what}`);
            const request = { method: 'GET', target: '/x', headers: [['Host', name]] as const, sourceIp: ip };
            const trace = evaluate(plan, { ...request, listener: listener.name });
            assert.equal(trace.verdict, 'kernel', `plan: ${what}: ${trace.why}`);
            assert.equal(trace.result?.kind, expected === 200 ? 'forward' : 'reply', `plan: ${what}`);
            const decision = interpret(compiled.image, index, Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), {
              sourceIp: parseAddress(ip)!,
              random: 0,
              uuid: 'x'.repeat(36),
            });
            assert.equal(decision.action, expected === 200 ? 'forward' : 'reply', `image: ${what}`);
          }
        }
      }
    });
  });
}

describe('certificates on a listener without TLS', { skip }, () => {
  it('are never there for Envoy, so the kernel takes them for a constant', async () => {
    const server = await echoServer('web');
    const principals: readonly JsonObject[] = [
      { authenticated: {} },
      { authenticated: { principal_name: { prefix: 's' } } },
      { authenticated: { principal_name: { safe_regex: { regex: '.*' } } } },
      { not_id: { authenticated: {} } },
      { not_id: { authenticated: { principal_name: { exact: 'spiffe://a/b' } } } },
    ];
    const rbac = (principal: JsonObject): JsonObject => ({
      '@type': TYPE.rbacPerRoute,
      rbac: { rules: { policies: { p: { permissions: [{ any: true }], principals: [principal] } } } },
    });
    const routes = principals.map((p, i) => to('c', `/${i}`, { typed_per_filter_config: { rbac: rbac(p) } }));
    const port = await freePort();
    const filters = [{ name: 'rbac', typed_config: { '@type': TYPE.rbac } }];
    const endpoint = { address: { socket_address: { address: '127.0.0.1', port_value: server.port } } };
    const cluster: JsonObject = {
      name: 'c',
      type: 'STATIC',
      load_assignment: { cluster_name: 'c', endpoints: [{ lb_endpoints: [{ endpoint }] }] },
    };
    const resources = resourcesOf([listenerOf([hostOf(routes)], { port, filters })], [cluster]);
    let running: RunningEnvoy | undefined;
    try {
      running = await startEnvoy(envoy!, { listeners: resources.listeners, clusters: [cluster] }, [port]);
      for (const [i] of principals.entries()) {
        // what a client says about its certificate is not believed either
        const xfcc = 'By=spiffe://a/b;URI=spiffe://a/b';
        const { status } = await sendRaw(port, [`GET /${i} HTTP/1.1`, 'Host: a', `x-forwarded-client-cert: ${xfcc}`]);
        assert.equal(status, i < 3 ? 403 : 200, JSON.stringify(principals[i]));
        const trace = evaluate(buildPlan(resources), { method: 'GET', target: `/${i}`, headers: [['Host', 'a']] });
        assert.equal(trace.verdict, 'kernel', trace.why);
        assert.equal(trace.result?.kind === 'reply' ? trace.result.status : 200, status);
      }
    } finally {
      await running?.stop();
      server.close();
    }
  });
});
