/** Mutual TLS with the certificates of the mesh: what a cluster says of the handshake. (That istiod says the same: test/istiod.) */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { asObject, asObjects, asString } from '../../../src/policy/envoy/walk.js';
import type { MeshCertificates } from '../../../src/policy/istio/mesh-tls.js';
import type { JsonObject } from '../../../src/policy/resources.js';
import { translate } from './helpers.js';

const service = (addresses: readonly string[]) => `
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { clusterIP: 10.96.0.1, selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web, labels: { kubernetes.io/service-name: web, app: web } }
addressType: IPv4
endpoints: [${addresses.map((a) => `{ addresses: [${a}] }`).join(', ')}]
ports: [{ name: http, port: 80 }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy: { tls: TLS }
  subsets: [{ name: v1, labels: { app: web } }]
`;
const pod = (ip: string, account: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: pod-${account}, labels: { app: web } }
spec: { serviceAccountName: ${account} }
status: { podIP: ${ip} }
`;

const mesh: MeshCertificates = {
  identity: '/x/identity.json',
  authorities: '/x/authorities.json',
  own: (address) => address.startsWith('127.'),
};

function clustersOf(text: string, tls = '{ mode: ISTIO_MUTUAL }', more: { mesh?: MeshCertificates } = { mesh }) {
  const { clusters, rules } = translate(text.replace('TLS', tls), more);
  const named = (subset: string) =>
    clusters.find((c) => c.name === `outbound|80|${subset}|web.default.svc.cluster.local`)!;
  const contextOf = (cluster: JsonObject) => asObject(asObject(cluster.transport_socket)?.typed_config);
  const names = (cluster: JsonObject) => {
    const common = asObject(contextOf(cluster)?.common_tls_context);
    const validation = asObject(asObject(common?.combined_validation_context)?.default_validation_context);
    return asObjects(validation?.match_typed_subject_alt_names).map(({ san_type, matcher }) => {
      const { exact, prefix } = asObject(matcher)!;
      return `${asString(san_type)} ${exact === undefined ? `${asString(prefix)}*` : asString(exact)}`;
    });
  };
  const codes = rules.flatMap(({ unsupported }) => unsupported.map(({ code }) => code));
  return { whole: named(''), subset: named('v1'), contextOf, names, codes };
}

describe('mutual TLS of the mesh', () => {
  it('names the cluster, and asks for the accounts of its servers', () => {
    const text = service(['10.1.0.1', '10.1.0.2']) + pod('10.1.0.1', 'b') + pod('10.1.0.2', 'a');
    const { whole, subset, contextOf, names, codes } = clustersOf(text);
    assert.deepEqual(codes, []);
    assert.equal(contextOf(whole)!.sni, 'outbound_.80_._.web.default.svc.cluster.local');
    assert.equal(contextOf(subset)!.sni, 'outbound_.80_.v1_.web.default.svc.cluster.local');
    const accounts = ['a', 'b'].map((name) => `URI spiffe://cluster.local/ns/default/sa/${name}`);
    assert.deepEqual(
      names(whole).filter((name) => name.startsWith('URI')),
      accounts,
    );
    const common = asObject(contextOf(whole)!.common_tls_context)!;
    assert.deepEqual(common.alpn_protocols, ['istio-http/1.1', 'istio', 'http/1.1']);
    const [own] = asObjects(common.tls_certificate_sds_secret_configs);
    assert.match(JSON.stringify(own), /"default".*\/x\/identity\.json/);
    assert.match(JSON.stringify(common.combined_validation_context), /"ROOTCA".*\/x\/authorities\.json/);
  });

  it('takes any account of the namespace where one is not known', () => {
    const { whole, names } = clustersOf(service(['10.1.0.1', '10.1.0.2']) + pod('10.1.0.1', 'b'));
    assert.deepEqual(names(whole), ['URI spiffe://cluster.local/ns/default/sa/*']);
  });

  it('takes the names that the rule gives', () => {
    const tls = '{ mode: ISTIO_MUTUAL, sni: other, subjectAltNames: [x] }';
    const { whole, contextOf, names } = clustersOf(service(['10.1.0.1']), tls);
    assert.equal(contextOf(whole)!.sni, 'other');
    assert.deepEqual(names(whole), ['DNS x', 'URI x', 'EMAIL x', 'IP_ADDRESS x']);
  });

  it('speaks plain text to the servers of this host', () => {
    const { whole, codes } = clustersOf(service(['127.0.0.5']));
    assert.deepEqual([whole.transport_socket, whole.transport_socket_matches, codes], [undefined, undefined, []]);
    const mixed = clustersOf(service(['127.0.0.5', '10.1.0.1'])).whole;
    assert.equal(mixed.transport_socket, undefined);
    assert.equal(asObjects(mixed.transport_socket_matches).length, 2);
    const marks = JSON.stringify(mixed.load_assignment).match(/tlsMode/g);
    assert.equal(marks?.length, 1);
  });

  it('is spoken to servers that insist on it, or have a sidecar that takes it', () => {
    const strict = `---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: peers }
spec: { mtls: { mode: STRICT } }
`;
    const alone = service(['10.1.0.1']).replace('trafficPolicy: { tls: TLS }', 'trafficPolicy: {}');
    const spoken = (text: string) => clustersOf(text).whole.transport_socket !== undefined;
    assert.equal(spoken(alone), false);
    assert.equal(spoken(alone + strict), true);
    assert.deepEqual(clustersOf(alone + strict).codes, []);
    assert.equal(spoken(alone + strict.replace('STRICT', 'PERMISSIVE')), false);
    const sidecar = pod('10.1.0.1', 'a').replace('{ app: web }', '{ app: web, security.istio.io/tlsMode: istio }');
    assert.equal(spoken(alone + sidecar), true);
    assert.equal(spoken(alone + sidecar + strict.replace('STRICT', 'DISABLE')), false);
    assert.equal(spoken(service(['10.1.0.1']).replace('TLS', '{ mode: DISABLE }') + strict), false);
    const port = strict.replace(
      'mtls: { mode: STRICT }',
      'selector: { matchLabels: { app: web } }, portLevelMtls: { 80: { mode: STRICT } }',
    );
    assert.equal(spoken(alone + pod('10.1.0.1', 'a') + port), true);
    assert.equal(spoken(alone + pod('10.1.0.1', 'a') + port.replace('80:', '81:')), false);
  });

  it('is not spoken without certificates', () => {
    const { whole, codes } = clustersOf(service(['10.1.0.1']), undefined, {});
    assert.equal(whole.transport_socket, undefined);
    assert.deepEqual([...new Set(codes)], ['mesh-tls']);
  });
});
