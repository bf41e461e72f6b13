/** Kinds and fields that only newer releases have, and such that nobody knows: never passed over in silence. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { check } from '../../../src/report/check.js';

const WORLD = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
---
`;

/** The verdict on the VirtualService's route, with the codes of its reasons. */
async function verdictWith(document: string): Promise<string> {
  const { output } = await check(['-'], { stdin: Readable.from([Buffer.from(WORLD + document)]) });
  assert.deepEqual(output.errors, []);
  const route = output.results.find(({ kind }) => kind === 'VirtualService');
  return [route?.verdict, ...(route?.reasons ?? []).map(({ code }) => code)].join(' ');
}

const filterOf = (patch: string) =>
  `apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {configPatches: [${patch}]}`;
const streams = '{route: {max_stream_duration: {max_stream_duration: 5s}}}';

test('without anything else the route is the kernel’s', async () => {
  assert.equal(await verdictWith(''), 'kernel');
});

test('a TrafficExtension leaves what it selects to the proxy', async () => {
  const head = 'apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: x}\nspec: ';
  assert.match(await verdictWith(`${head}{lua: {inlineCode: x}}`), /^proxy wasm/);
  assert.equal(await verdictWith(`${head}{lua: {inlineCode: x}, selector: {matchLabels: {app: other}}}`), 'kernel');
});

test('a PROXY protocol for the servers is the proxy’s', async () => {
  const verdict = await verdictWith(
    'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: web, trafficPolicy: {proxyProtocol: {}}}',
  );
  assert.match(verdict, /^proxy tls/);
});

test('a patch whose match has a field that is not known is not applied to more than was meant', async () => {
  const at = (vhost: string) => `{context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: ${vhost}}}`;
  const patch = (match: string, operation = 'MERGE') =>
    filterOf(`{applyTo: HTTP_ROUTE, match: ${match}, patch: {operation: ${operation}, value: ${streams}}}`);
  assert.match(await verdictWith(patch(at('{future: x}'))), /^proxy envoy-filter/);
  assert.match(
    await verdictWith(patch(at('{name: "web.default.svc.cluster.local:80"}'), 'FUTURE')),
    /^proxy envoy-filter/,
  );
  assert.equal(await verdictWith(patch(at('{domainName: elsewhere}'))), 'kernel');
  assert.match(await verdictWith(patch(at('{domainName: web}'))), /^proxy (?!envoy-filter)/);
});

test('lists are put in the place of those before where a patch says so', async () => {
  const edit = (operation: string, value: string) =>
    filterOf(
      `{applyTo: CLUSTER, match: {cluster: {service: web.default.svc.cluster.local}}, patch: {operation: ${operation}, value: ${value}}}`,
    );
  const breaker = '{circuit_breakers: {thresholds: [{max_connection_pools: 3}]}}';
  // Envoy takes the first of a priority: appended, it counts for nothing
  assert.equal(await verdictWith(edit('MERGE', breaker)), 'kernel');
  assert.equal(await verdictWith(edit('MERGE_AND_REPLACE_LIST', breaker)), 'proxy circuit-breaker');
});

test('a Gateway that verifies its clients’ certificates takes no connections here', async () => {
  const gateway = (more: string) =>
    `apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {gatewayClassName: istio, addresses: [{value: 10.0.0.9}], listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}]${more}}
---
apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: web, port: 80}]}]}`;
  const verdict = async (more: string) => {
    const stdin = Readable.from([Buffer.from(WORLD + gateway(more))]);
    const { output } = await check(['-'], { stdin });
    const route = output.results.find(({ kind }) => kind === 'HTTPRoute');
    return [route?.verdict, ...(route?.reasons ?? []).map(({ message }) => message)].join(' ');
  };
  assert.equal(await verdict(''), 'kernel');
  assert.match(
    await verdict(
      ', tls: {frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, group: "", name: x}]}}}}',
    ),
    /^proxy .*tls\.frontend/,
  );
});
