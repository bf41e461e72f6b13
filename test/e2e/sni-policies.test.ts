/** TLS routes of Istio and the Gateway API: connections go where Envoy alone, given the same resources, leads them. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Lab } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { Authority, readCertificate } from './certificates.js';
import type { Client } from './connection-world.js';
import { istio, service, slice } from './mesh-text.js';
import { startBeside } from './routes-beside.js';
import { GREETING, tlsServer } from './tls-world.js';
import { skip } from './world.js';

function policies(one: number, two: number): string {
  return [
    service('web', '10.96.178.1', '{ name: tls-web, port: 443 }, { name: https-more, port: 8443 }'),
    ...['tls-web', 'https-more'].flatMap((port) => [slice('web', 'v1', one, port), slice('web', 'v2', two, port)]),
    service('first', '10.96.178.2', '{ name: tls, port: 443 }'),
    slice('first', 'v1', one, 'tls'),
    service('second', '10.96.178.3', '{ name: tls, port: 443 }'),
    slice('second', 'v2', two, 'tls'),
    service('gate', '10.96.178.4', '{ name: tls, port: 443 }, { name: other, port: 15443 }'),
    slice('gate', 'v1', one, 'tls'),
    istio(
      'VirtualService',
      'web',
      `{ hosts: [web, "*.web.test"], tls: [
        { match: [{ port: 443, sniHosts: [a.web.test] }], route: [{ destination: { host: first } }] },
        { match: [{ port: 443, sniHosts: ["*.web.test"], sourceLabels: { app: nobody } }], route: [{ destination: { host: first } }] },
        { match: [{ port: 443, sniHosts: ["*.web.test"] }, { port: 8443, sniHosts: [b.web.test], destinationSubnets: [10.96.178.0/24] }],
          route: [{ destination: { host: second } }] } ] }`,
    ),
    istio(
      'Gateway',
      'gate',
      `{ selector: { app: gate }, servers: [
        { port: { number: 443, protocol: TLS, name: tls }, tls: { mode: PASSTHROUGH }, hosts: ["*.gate.test"] },
        { port: { number: 15443, protocol: TLS, name: auto }, tls: { mode: AUTO_PASSTHROUGH }, hosts: ["*"] } ] }`,
    ),
    istio(
      'VirtualService',
      'at-gate',
      `{ hosts: ["*.gate.test"], gateways: [gate], tls: [
        { match: [{ port: 443, sniHosts: [a.gate.test, b.gate.test] }], route: [
          { destination: { host: first }, weight: 0 }, { destination: { host: second }, weight: 100 } ] },
        { match: [{ port: 443, sniHosts: [b.gate.test] }], route: [{ destination: { host: first } }] } ] }`,
    ),
    `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: api }
spec:
  addresses: [{ value: 10.96.178.5 }]
  listeners:
    - { name: tls, port: 443, protocol: TLS, hostname: "*.api.test", tls: { mode: Passthrough } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: { name: one }
spec:
  parentRefs: [{ name: api, sectionName: tls }]
  hostnames: [one.api.test]
  rules: [{ backendRefs: [{ name: first, port: 443 }] }]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: { name: rest }
spec:
  parentRefs: [{ name: api }]
  hostnames: ["*.api.test"]
  rules: [{ backendRefs: [{ name: second, port: 443 }] }]
---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: { name: elsewhere }
spec:
  parentRefs: [{ name: nobody }]
  hostnames: [x.api.test]
  rules: [{ backendRefs: [{ name: second, port: 443 }] }]
`,
  ].join('');
}

describe('TLS routes', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let inside: Client;
  let outside: Client;
  let places: Map<string, number>;
  let verdicts: Map<string, string>;

  before(async () => {
    lab = await Lab.open('sni-policies');
    const authority = await Authority.make(lab.dir, 'authority');
    const certificate = await readCertificate(await authority.sign('server', 'DNS:*.test'));
    const one = await tlsServer(lab, 'one', certificate, '127.0.1.1');
    const two = await tlsServer(lab, 'two', certificate, '127.0.1.2');
    ({ sidestep, inside, outside, places, verdicts } = await startBeside(lab, policies(one, two), 'tls-client.py'));
  });
  after(() => lab?.close());

  test('what check says of the rules', () => {
    assert.deepEqual(Object.fromEntries(verdicts), {
      'VirtualService web tls[0]': 'kernel',
      'VirtualService web tls[1]': 'source-match',
      'VirtualService web tls[2]': 'kernel',
      'VirtualService at-gate tls[0]': 'kernel',
      'VirtualService at-gate tls[1]': 'gateway',
      'TLSRoute one rules[0]': 'kernel',
      'TLSRoute rest rules[0]': 'kernel',
      'TLSRoute elsewhere rules[0]': 'gateway',
    });
  });

  const WEB = 'outbound|443||web.default.svc.cluster.local';
  const GATE = 'gateway|443|gate.default.svc.cluster.local';
  const API = 'gateway|443|api.default';
  const CASES: readonly [address: string, port: number, listener: string, name: string, server: string][] = [
    ['10.96.178.1', 443, WEB, 'a.web.test', 'one'],
    ['10.96.178.1', 443, WEB, 'x.web.test', 'two'],
    ['10.96.178.1', 8443, 'outbound|8443||web.default.svc.cluster.local', 'b.web.test', 'two'],
    ['10.96.178.4', 443, GATE, 'a.gate.test', 'two'],
    ['10.96.178.4', 443, GATE, 'b.gate.test', 'two'],
    ['10.96.178.5', 443, API, 'one.api.test', 'one'],
    ['10.96.178.5', 443, API, 'two.api.test', 'two'],
  ];
  for (const [to, port, listener, name, server] of CASES) {
    test(`${name} at ${listener}`, async () => {
      const { routed } = await sidestep.status();
      const job = { name, greeting: GREETING, send: 'hello' };
      for (let i = 0; i < 3; i++) {
        const m = await inside.run({ ...job, to, port });
        assert.equal(m.head?.split(' ').slice(0, 2).join(' '), `${server} ${name}`, JSON.stringify(m));
        const a = await outside.run({ ...job, to: '127.0.0.2', port: places.get(listener)! });
        assert.deepEqual([m.head, m.digest], [a.head, a.digest]);
      }
      assert.equal((await sidestep.status()).routed.kernel - routed.kernel, 3, 'decided in the kernel');
    });
  }

  test('a name that no rule has: the service itself, or nobody', async () => {
    const before = (await sidestep.status()).routed;
    const job = { name: 'not.there', greeting: GREETING };
    const heads = new Set<string | undefined>();
    for (let i = 0; i < 12; i++)
      heads.add((await inside.run({ ...job, to: '10.96.178.1', port: 443 })).head?.split(' ')[0]);
    assert.deepEqual([...heads].sort(), ['one', 'two']);
    const nobody = await inside.run({ ...job, to: '10.96.178.4', port: 443 });
    const alone = await outside.run({ ...job, to: '127.0.0.2', port: places.get(GATE)! });
    assert.equal(nobody.error, alone.error);
    assert.ok(nobody.error !== undefined, 'refused');
    const now = (await sidestep.status()).routed;
    assert.deepEqual([now.kernel - before.kernel, now.proxy - before.proxy], [12, 1]);
  });
});
