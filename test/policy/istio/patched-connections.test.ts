/** Which EnvoyFilters keep connections from being intercepted: those that may change what istiod makes for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { translate } from './helpers.js';

const MESH = `apiVersion: v1
kind: Service
metadata: { name: db }
spec: { clusterIP: 10.96.42.1, selector: { app: db }, ports: [{ name: tcp, port: 5432 }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec: { selector: { istio: ingressgateway }, servers: [{ port: { number: 31400, protocol: TCP, name: tcp }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: clients }
spec: { hosts: [db], tcp: [{ route: [{ destination: { host: db } }] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: gateway }
spec: { hosts: ["*"], gateways: [gate], tcp: [{ route: [{ destination: { host: db } }] }] }
`;

const MANAGER = 'listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager } } }';
const BOTH = ['clients', 'gateway'];

for (const [what, applyTo, operation, match, labels, left] of [
  ['merges with the connection manager', 'NETWORK_FILTER', 'MERGE', MANAGER, '', []],
  ['puts a filter before every other one', 'NETWORK_FILTER', 'INSERT_FIRST', MANAGER, '', BOTH],
  ['merges with any network filter', 'NETWORK_FILTER', 'MERGE', '', '', BOTH],
  ['patches HTTP filters', 'HTTP_FILTER', 'MERGE', MANAGER, '', []],
  ['patches listeners of clients', 'LISTENER', 'MERGE', 'context: SIDECAR_OUTBOUND', '', ['clients']],
  ['patches listeners of gateways', 'FILTER_CHAIN', 'MERGE', 'context: GATEWAY', '', ['gateway']],
  ['patches listeners of servers', 'LISTENER', 'MERGE', 'context: SIDECAR_INBOUND', '', []],
  ['patches listeners of a port', 'LISTENER', 'MERGE', 'listener: { portNumber: 31400 }', '', ['gateway']],
  ['adds a listener', 'LISTENER', 'ADD', '', '', []],
  ['is for gateways with the labels of the charts', 'LISTENER', 'MERGE', '', '{ app: istio-ingressgateway }', ['gateway']],
  ['is for other gateways', 'LISTENER', 'MERGE', '', '{ istio: egressgateway }', []],
  ['is for a gateway that may be this one', 'LISTENER', 'MERGE', '', '{ app: istio-ingressgateway, tier: x }', ['gateway']],
  ['is for other proxies', 'LISTENER', 'MERGE', "proxy: { proxyVersion: '^1\\.2' }", '', []],
] as const) // biome-ignore format: one case a line
  test(`an EnvoyFilter that ${what}`, () => {
    const { rules } = translate(`${MESH}---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: one, namespace: istio-system }
spec:
  ${labels && `workloadSelector: { labels: ${labels} }`}
  configPatches: [{ applyTo: ${applyTo}, match: { ${match} }, patch: { operation: ${operation}, value: {} } }]
`);
    const kept = rules.filter(({ rule, unsupported }) => rule === 'tcp[0]' && unsupported.length > 0);
    assert.deepEqual(
      kept.map(({ name, unsupported }) => [name, unsupported.map(({ code }) => code)]),
      left.map((name) => [name, ['envoy-filter']]),
    );
  });
