/** HTTPS at gateways of both kinds: what a client in the mesh sees is what Envoy alone shows it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Authority, type Certificate } from './certificates.js';
import { type Ask, IstioWorld, outcome, service, type Upstream } from './istio-world.js';
import { skip } from './world.js';

const base64 = (file: string) => readFileSync(file).toString('base64');
const indented = (file: string) => readFileSync(file, 'utf8').trimEnd().replaceAll('\n', '\n    ');

interface Certificates {
  readonly one: Certificate;
  readonly two: Certificate;
  readonly authority: Certificate;
}

function policies([v1, v2]: readonly Upstream[], { one, two, authority }: Certificates): string {
  const secret = (name: string, namespace: string) => `
---
apiVersion: v1
kind: Secret
metadata: { name: ${name}, namespace: ${namespace} }
type: kubernetes.io/tls
data: { tls.crt: ${base64(one.cert)}, tls.key: ${base64(one.key)}, ca.crt: ${base64(authority.cert)} }`;
  return `${service('web', 'clusterIP: 10.96.179.1', [v1!])}
${service('next', 'clusterIP: 10.96.179.2', [v2!])}${secret('one', 'istio-system')}${secret('one', 'default')}
---
apiVersion: v1
kind: Secret
metadata: { name: two, namespace: istio-system }
stringData:
  cert: |
    ${indented(two.cert)}
  key: |
    ${indented(two.key)}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  selector: { istio: ingressgateway }
  servers:
    - { port: { number: 80, protocol: HTTP }, hosts: ['*.one.test'], tls: { httpsRedirect: true } }
    - { port: { number: 443, protocol: HTTPS, name: one }, hosts: ['*.one.test'], tls: { mode: SIMPLE, credentialName: one } }
    - { port: { number: 443, protocol: HTTPS, name: two }, hosts: [two.test], tls: { mode: SIMPLE, credentialName: two } }
    - port: { number: 8443, protocol: HTTPS, name: files }
      hosts: ['*']
      tls: { mode: SIMPLE, serverCertificate: ${one.cert}, privateKey: ${one.key}, minProtocolVersion: TLSV1_3 }
    - { port: { number: 9443, protocol: HTTPS, name: mutual }, hosts: ['*'], tls: { mode: MUTUAL, credentialName: one } }
    - { port: { number: 9444, protocol: HTTPS, name: lost }, hosts: ['*'], tls: { mode: SIMPLE, credentialName: lost } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: at-edge }
spec:
  hosts: [a.one.test, two.test]
  gateways: [edge]
  http:
    - match: [{ uri: { prefix: /next } }]
      route: [{ destination: { host: next } }]
    - match: [{ uri: { prefix: /moved } }]
      redirect: { uri: /there }
    - route: [{ destination: { host: web } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: at-edge, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/denied] } }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: api }
spec:
  gatewayClassName: any
  listeners:
    - { name: a, port: 443, protocol: HTTPS, hostname: a.api.test, tls: { certificateRefs: [{ name: one }] } }
    - { name: b, port: 443, protocol: HTTPS, hostname: b.api.test, tls: { certificateRefs: [{ kind: Secret, name: one }] } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: both }
spec:
  parentRefs: [{ name: api }]
  hostnames: [a.api.test, b.api.test]
  rules:
    - matches: [{ path: { value: /moved } }]
      filters: [{ type: RequestRedirect, requestRedirect: { path: { type: ReplaceFullPath, replaceFullPath: /there } } }]
    - backendRefs: [{ name: web, port: 80 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: only-b }
spec:
  parentRefs: [{ name: api, sectionName: b }]
  rules: [{ matches: [{ path: { value: /next } }], backendRefs: [{ name: next, port: 80 }] }]
`;
}

describe('HTTPS at gateways', { skip, timeout: 240_000 }, () => {
  let world: IstioWorld;

  before(async () => {
    world = await IstioWorld.open('gateway-tls');
    const authority = await Authority.make(world.lab.dir, 'authority');
    const one = await authority.sign('one', 'DNS:a.one.test');
    const two = await authority.sign('two', 'DNS:two.test');
    await world.write(policies(await world.upstreams('one', 'two'), { one, two, authority }));
    await world.start();
  });
  after(() => world?.close());

  const at = (host: string, path: string, more: Partial<Ask> = {}): Ask => {
    const api = host.endsWith('api.test');
    return { host, path, to: `${api ? 'api' : 'istio=ingressgateway'}:443`, tls: { name: host }, ...more };
  };

  test('requests are the kernel’s, and answered as by Envoy', async () => {
    const gateway = world.resources.hosts.find(({ names }) => names.includes('edge.default.gateway'))!.names[0]!;
    const named = (ask: Ask): Ask => ({
      ...ask,
      to: ask.to!.replace('istio=ingressgateway', gateway).replace('api:', 'api.default.gateway:'),
    });
    const cases: readonly (readonly [Ask, number])[] = [
      [at('a.one.test', '/a'), 200],
      [at('a.one.test', '/next/a'), 200],
      [at('a.one.test', '/moved'), 301],
      [at('a.one.test', '/denied'), 403],
      [at('b.one.test', '/a'), 404],
      [at('two.test', '/next'), 200],
      // of another server’s host
      [at('two.test', '/a', { host: 'a.one.test' }), 404],
      [at('a.one.test', '/a', { to: 'istio=ingressgateway:8443' }), 200],
      [at('a.one.test', '/a', { to: 'istio=ingressgateway:80', tls: undefined as never }), 301],
      [at('a.api.test', '/a'), 200],
      [at('a.api.test', '/moved'), 302],
      [at('b.api.test', '/next'), 200],
      [at('a.api.test', '/a', { host: 'b.api.test' }), 404],
    ];
    for (const [ask, status] of cases) {
      const kernel = ask.tls !== undefined;
      assert.equal(await world.inKernel(named(ask), status, kernel), kernel, JSON.stringify(ask));
    }
    const mutual = named(at('a.one.test', '/a', { to: 'istio=ingressgateway:9443' }));
    assert.equal(outcome(await world.mesh(mutual)).status, undefined, 'without a certificate');
    assert.equal(outcome(await world.alone(mutual)).status, undefined, 'Envoy alone, without a certificate');
  });

  test('where certificates cannot be had, nobody listens, and the rules say so', () => {
    const ports = world.resources.intercepts.map(({ port }) => port);
    assert.ok(ports.includes(9443), 'mutual TLS is the proxy’s');
    assert.ok(!ports.includes(9444), 'no Secret, no listener');
    const rules = world.resources.rules.filter(({ name }) => name === 'at-edge');
    const reasons = rules.flatMap(({ unsupported }) => unsupported.map(({ code, message }) => `${code}: ${message}`));
    assert.match(reasons.join('\n'), /tls-secret: .* on port 9444, .*Secret istio-system\/lost/);
  });
});
