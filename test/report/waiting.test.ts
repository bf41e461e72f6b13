/** What `check` says of rules that wait for HTTP/2 or TLS only, and of those that have other reasons, too. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { check } from '../../src/report/check.js';
import { checkHtml } from '../../src/report/html.js';
import { checkText } from '../../src/report/text.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-waiting-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const route = (name: string, rule: string, service = 'calls') => `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: ${name} }
spec:
  parentRefs: [{ group: '', kind: Service, name: ${service}, port: 80 }]
  rules: [${rule}]
`;

const TYPE = 'type.googleapis.com/envoy.extensions';
const cluster = (version: string, name = version, tls = false) => `
  - name: ${name}${tls ? `\n    transport_socket: { name: tls, typed_config: { "@type": ${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext } }` : ''}
    load_assignment:
      cluster_name: ${version}
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } }] }]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": ${TYPE}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { ${version}_protocol_options: {} }${tls ? '\n        upstream_http_protocol_options: { auto_sni: true }' : ''}`;
const ENVOY = `static_resources:
  listeners:
  - name: a
    address: { socket_address: { address: 127.0.0.1, port_value: 10000 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": ${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: a
          stream_idle_timeout: 0s
          http_filters: [{ name: router, typed_config: { "@type": ${TYPE}.filters.http.router.v3.Router } }]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - { match: { prefix: /grpc, grpc: {} }, route: { cluster: http2, timeout: 0s } }
              - { match: { prefix: /a }, route: { cluster: http2, timeout: 0s } }
              - { match: { prefix: /b }, route: { cluster: http2, request_mirror_policies: [{ cluster: http }] } }
              - { match: { prefix: /c }, route: { cluster: http } }
              - { match: { prefix: /d }, route: { cluster: https } }
              - { match: { prefix: /e }, route: { cluster: h2s, timeout: 0s } }
              - { match: { prefix: /f }, route: { cluster: https, max_stream_duration: { max_stream_duration: 5s } } }
              - { match: { prefix: /g, grpc: {} }, route: { cluster: http, timeout: 0s } }
  clusters:${cluster('http2')}${cluster('http')}${cluster('http', 'https', true)}${cluster('http2', 'h2s', true)}
`;

async function judged(name: string, text: string) {
  const file = join(dir, name);
  writeFileSync(file, text);
  return check([file]);
}

describe('check: rules that wait for HTTP/2 or TLS', () => {
  it('GRPCRoutes are the kernel’s; with another reason they are not', async () => {
    const { output } = await judged(
      'grpc.yaml',
      `${route('plain', '{ matches: [{ method: { service: a.B } }], backendRefs: [{ name: calls, port: 80 }] }')}---${route(
        'session',
        '{ sessionPersistence: { sessionName: s, type: Header }, backendRefs: [{ name: other, port: 80 }] }',
        'other',
      )}`,
    );
    assert.deepEqual([output.rules, output.kernel, output.proxy, output.http2], [2, 1, 1, 0]);
    assert.deepEqual(
      output.results.map(({ name, verdict }) => [name, verdict]),
      [
        ['plain', 'kernel'],
        ['session', 'proxy'],
      ],
    );
  });

  it('routes to servers that speak HTTP/2, and routes for gRPC only', async () => {
    const { output, sources } = await judged('envoy.yaml', ENVOY);
    const found = output.results.map((r) => [
      r.rule,
      r.verdict,
      r.waitsFor ?? '',
      [...new Set(r.reasons.map(({ code }) => code))].sort().join(),
    ]);
    assert.deepEqual(found, [
      ['routes[0]', 'kernel', '', ''],
      ['routes[1]', 'kernel', '', ''],
      ['routes[2]', 'proxy', 'http2', 'mirror'],
      ['routes[3]', 'kernel', '', ''],
      ['routes[4]', 'proxy', 'tls', 'tls'],
      ['routes[5]', 'proxy', 'tls', 'tls'],
      ['routes[6]', 'proxy', '', 'timeout'],
      ['routes[7]', 'proxy', 'http2', 'upstream-protocol'],
    ]);
    assert.deepEqual([output.kernel, output.http2, output.tls, output.http2AndTls], [3, 2, 2, 0]);
    assert.match(checkText(output), /2 of the proxy's would be in the kernel but for TLS \(25\.0%\)/);
    assert.match(checkHtml(output, sources), /<b>2<\/b> of the proxy’s would be in the kernel but for HTTP\/2/);
  });

  it('mutual TLS with the mesh’s certificates, which the node is taken to have', async () => {
    const rule = (name: string, more: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ${name} }
spec: { host: ${name}, trafficPolicy: { tls: { mode: ISTIO_MUTUAL }${more} } }
`;
    const { output } = await judged(
      'mesh.yaml',
      `${rule('a', '')}---${rule('b', ', loadBalancer: { simple: ROUND_ROBIN, warmup: { duration: 10s } }')}`,
    );
    assert.ok(output.warnings.some(({ code }) => code === 'assumed-certificates'));
    assert.deepEqual(
      output.results.map(({ name, verdict }) => [name, verdict]),
      [
        ['a', 'kernel'],
        ['b', 'proxy'],
      ],
    );
  });
});
