/** TCP routes of Istio and the Gateway API: connections go where Envoy alone, given the same resources, leads them. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Lab } from '../../src/lab/processes.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { type Client, Echo } from './connection-world.js';
import { istio, service, slice } from './mesh-text.js';
import { startBeside } from './routes-beside.js';
import { skip } from './world.js';

function policies(one: number, two: number): string {
  return [
    service('db', '10.96.177.1', '{ name: tcp-db, port: 5432 }, { name: tcp-more, port: 5433 }'),
    slice('db', 'v1', one, 'tcp-db'),
    slice('db', 'v2', two, 'tcp-db'),
    slice('db', 'v1', one, 'tcp-more'),
    slice('db', 'v2', two, 'tcp-more'),
    service('other', '10.96.177.2', '{ name: tcp, port: 7000 }'),
    slice('other', 'v2', two, 'tcp'),
    service('guarded', '10.96.177.3', '{ name: tcp, port: 7001 }'),
    slice('guarded', 'v2', two, 'tcp'),
    service('gate', '10.96.177.4', '{ name: tcp, port: 31400 }'),
    slice('gate', 'v1', one, 'tcp'),
    istio(
      'DestinationRule',
      'db',
      '{ host: db, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }',
    ),
    istio(
      'VirtualService',
      'db',
      `{ hosts: [db], tcp: [
        { match: [{ port: 5433, sourceLabels: { app: nobody } }], route: [{ destination: { host: db, subset: v1 } }] },
        { match: [{ port: 5433, destinationSubnets: [10.96.177.0/24] }], route: [{ destination: { host: other } }] },
        { match: [{ port: 5432 }], route: [{ destination: { host: db, subset: v2 } }] } ] }`,
    ),
    istio(
      'VirtualService',
      'other',
      `{ hosts: [other], tcp: [{ route: [
        { destination: { host: db, subset: v1, port: { number: 5432 } }, weight: 100 },
        { destination: { host: other }, weight: 0 } ] }] }`,
    ),
    istio('VirtualService', 'guarded', '{ hosts: [guarded], tcp: [{ route: [{ destination: { host: guarded } }] }] }'),
    `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: guarded }
spec: { selector: { matchLabels: { app: guarded } }, rules: [{ from: [{ source: { namespaces: [friends] } }] }] }
`,
    istio(
      'Gateway',
      'gate',
      '{ selector: { app: gate }, servers: [{ port: { number: 31400, protocol: TCP, name: tcp }, hosts: ["*"] }] }',
    ),
    istio(
      'VirtualService',
      'at-gate',
      '{ hosts: ["*"], gateways: [gate], tcp: [{ match: [{ port: 31400 }], route: [{ destination: { host: other } }] }] }',
    ),
    // neither is about listeners for connections to these ports
    `---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: requests, namespace: istio-system }
spec:
  configPatches:
    - applyTo: NETWORK_FILTER
      match: { context: GATEWAY, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager } } } }
      patch: { operation: MERGE, value: { typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, server_name: mesh } } }
    - applyTo: LISTENER
      match: { context: SIDECAR_OUTBOUND, listener: { portNumber: 9999 } }
      patch: { operation: MERGE, value: { per_connection_buffer_limit_bytes: 4096 } }
`,
    `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: api }
spec:
  addresses: [{ value: 10.96.177.5 }]
  listeners: [{ name: tcp, port: 9000, protocol: TCP, allowedRoutes: { kinds: [{ kind: TCPRoute }] } }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: api }
spec:
  parentRefs: [{ name: api, sectionName: tcp }]
  rules: [{ backendRefs: [{ name: db, port: 5432, weight: 0 }, { name: other, port: 7000, weight: 3 }] }]
`,
  ].join('');
}

describe('TCP routes', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let inside: Client;
  let outside: Client;
  let places: Map<string, number>;
  let verdicts: Map<string, string>;

  before(async () => {
    lab = await Lab.open('connection-policies');
    const [one, two] = [await Echo.start(lab, 'one', '127.0.1.1'), await Echo.start(lab, 'two', '127.0.1.2')];
    ({ sidestep, inside, outside, places, verdicts } = await startBeside(lab, policies(one.port, two.port)));
  });
  after(() => lab?.close());

  test('what check says of the rules', () => {
    assert.deepEqual(Object.fromEntries([...verdicts].filter(([rule]) => !rule.startsWith('Dest'))), {
      'VirtualService db tcp[0]': 'source-match',
      'VirtualService db tcp[1]': 'kernel',
      'VirtualService db tcp[2]': 'kernel',
      'VirtualService other tcp[0]': 'kernel',
      'VirtualService guarded tcp[0]': 'network-filter',
      'AuthorizationPolicy guarded rules[0]': 'no-workload',
      'EnvoyFilter requests spec': 'kernel',
      'VirtualService at-gate tcp[0]': 'kernel',
      'TCPRoute api rules[0]': 'kernel',
    });
  });

  const CASES: readonly [what: string, address: string, port: number, listener: string, server: string][] = [
    ['a subset, by port', '10.96.177.1', 5432, 'outbound|5432||db.default.svc.cluster.local', 'two'],
    ['a destination subnet', '10.96.177.1', 5433, 'outbound|5433||db.default.svc.cluster.local', 'two'],
    ['another service', '10.96.177.2', 7000, 'outbound|7000||other.default.svc.cluster.local', 'one'],
    ['a gateway’s TCP server', '10.96.177.4', 31400, 'gateway|31400|gate.default.svc.cluster.local', 'two'],
    ['a TCPRoute', '10.96.177.5', 9000, 'gateway|9000|api.default', 'two'],
  ];
  for (const [what, to, port, listener, server] of CASES) {
    test(what, async () => {
      const { routed } = await sidestep.status();
      for (let i = 0; i < 5; i++) {
        const m = await inside.run({ to, port, send: 'hello', half: true });
        assert.equal(m.head, `${server}\nhello`, JSON.stringify(m));
        assert.equal(m.end, 'end');
        assert.equal(m.peer, `${to} ${port}`);
        const a = await outside.run({ to: '127.0.0.2', port: places.get(listener)!, send: 'hello', half: true });
        assert.equal(a.head, m.head, listener);
      }
      const now = (await sidestep.status()).routed;
      assert.equal(now.kernel - routed.kernel, 5);
    });
  }
});
