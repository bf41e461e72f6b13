/** Which listeners log and trace, as Telemetries and MeshConfig say; what istiod makes of the same was looked at. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { managerOf } from '../../../src/policy/istio/patches/envoy-filters.js';
import { translate } from './helpers.js';

const SERVICE = `apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.96.2.1, selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-1, labels: { app: web } }
status: { podIP: 10.2.0.1 }
`;

const telemetry = (spec: string, name = 'one', namespace = 'istio-system'): string => `---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;

const PROVIDERS = `---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    extensionProviders:
      - { name: Zipkin, zipkin: { service: zipkin.istio-system.svc.cluster.local, port: 9411 } }
      - { name: als, envoyHttpAls: { service: als.istio-system.svc.cluster.local, port: 9411 } }
      - { name: prometheus, prometheus: {} }
`;

/** How many logs the listener has, why it is left to the proxy, and warnings. */
function seen(...documents: string[]): { logs: number; left: string[]; warnings: string[] } {
  const resources = translate([SERVICE, ...documents].join(''));
  const [listener] = resources.listeners;
  assert.ok(listener, 'there is a listener');
  const { access_log } = managerOf(listener);
  return {
    logs: Array.isArray(access_log) ? access_log.length : 0,
    left: (resources.left?.get(listener) ?? []).map(({ code }) => code),
    warnings: resources.diagnostics.map(({ code }) => code),
  };
}

const ENVOY = 'accessLogging: [{ providers: [{ name: envoy }], match: { mode: CLIENT } }]';
const TRACED = 'tracing: [{ providers: [{ name: zipkin }] }]';

for (const [what, documents, expected] of [
  ['the provider of every mesh', [telemetry(`{ ${ENVOY} }`)], { logs: 1, left: [], warnings: [] }],
  ['a condition in CEL', [telemetry(`{ ${ENVOY.replace('CLIENT }', "CLIENT }, filter: { expression: 'true' }")} }`)], { logs: 0, left: ['access-log'], warnings: [] }],
  ['off in the namespace', [telemetry(`{ ${ENVOY} }`), telemetry('{ accessLogging: [{ disabled: true }] }', 'silent', 'default')], { logs: 0, left: [], warnings: [] }],
  ['the first of a namespace', [telemetry(`{ ${ENVOY} }`, 'b'), telemetry('{ accessLogging: [{ disabled: true }] }', 'a')], { logs: 0, left: [], warnings: [] }],
  ['not for clients', [telemetry(`{ ${ENVOY.replace('CLIENT', 'SERVER')} }`)], { logs: 0, left: [], warnings: [] }],
  ['other workloads', [telemetry(`{ selector: { matchLabels: { app: other } }, ${ENVOY} }`, 'one', 'default')], { logs: 0, left: [], warnings: [] }],
  ['traces to nobody', [telemetry(`{ ${TRACED} }`)], { logs: 0, left: [], warnings: ['no-effect'] }],
  ['traces to a provider of MeshConfig', [PROVIDERS, telemetry(`{ ${TRACED} }`)], { logs: 0, left: ['tracing'], warnings: [] }],
  ['traces switched off', [PROVIDERS, telemetry(`{ ${TRACED} }`), telemetry('{ tracing: [{ disableSpanReporting: true }] }', 'silent', 'default')], { logs: 0, left: [], warnings: [] }],
  ['logs to a provider of MeshConfig', [PROVIDERS, telemetry(`{ ${ENVOY.replace('envoy', 'ALS')} }`)], { logs: 0, left: ['access-log'], warnings: [] }],
] as const) // biome-ignore format: one case a line
  test(`Telemetry: ${what}`, () => assert.deepEqual(seen(...documents), expected));

for (const [what, labels, unsupported] of [
  ['is perhaps meant', '{ app: istio-ingressgateway, tier: front }', ['access-log']],
  ['is meant by the labels of Istio’s charts', '{ app: istio-ingressgateway }', []],
] as const)
  test(`a gateway that ${what} logs, and stays the kernel’s`, () => {
    const resources = translate(
      [
        SERVICE,
        `---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec: { hosts: ['*'], gateways: [front], http: [{ route: [{ destination: { host: web } }] }] }
`,
        telemetry(`{ selector: { matchLabels: ${labels} }, accessLogging: [{ providers: [{ name: envoy }] }] }`),
      ].join(''),
    );
    const listeners = resources.listeners.filter((listener) => managerOf(listener).access_log);
    assert.equal(listeners.length, 1);
    assert.equal(resources.left?.get(listeners[0]!), undefined);
    const rule = resources.rules.find(({ kind }) => kind === 'Telemetry');
    assert.deepEqual(
      rule?.unsupported.map(({ code }) => code),
      unsupported,
    );
  });
