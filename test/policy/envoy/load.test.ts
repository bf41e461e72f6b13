import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, describe, test } from 'node:test';
import { fromJson, toJson } from '@bufbuild/protobuf';
import { formatDiagnostic } from '../../../src/policy/diagnostics.js';
import { envoyMessage, envoyRegistry } from '../../../src/policy/envoy/descriptors.js';
import { loadFiles } from '../../../src/policy/load.js';
import type { JsonObject, Resources } from '../../../src/policy/resources.js';
import { bootstrapWith } from './probes.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-load-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function write(name: string, text: string | Buffer): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

/** What is said about input, without the folder's name. */
async function said(...paths: string[]): Promise<string[]> {
  const { diagnostics } = await loadFiles(paths, { stdin: Readable.from([]) });
  return diagnostics.map((d) => formatDiagnostic(d).replaceAll(`${dir}/`, ''));
}

const vhost = '{name: v, domains: [a], routes: [{match: {prefix: /}, route: {cluster: a}}]}';

describe('reading files', () => {
  test('input that cannot be used is told so', async () => {
    mkdirSync(join(dir, 'empty'));
    assert.match(
      (await said(join(dir, 'none.yaml')))[0]!,
      /^none\.yaml:1:1: error: cannot be read: there is no such file/,
    );
    assert.match((await said(join(dir, 'empty')))[0]!, /no \.yaml/);
    assert.match((await said(write('void.yaml', '')))[0]!, /void\.yaml:1:1: error: nothing in this file/);
    assert.match((await said(write('comment.yaml', '# nothing\n---\n')))[0]!, /nothing in this file/);
    assert.match((await said('-'))[0]!, /^<stdin>:1:1: error: nothing in this file/);
    assert.match((await said(write('utf16.yaml', Buffer.from('a: b', 'utf16le'))))[0]!, /NUL/);
    assert.match(
      (await said(write('binary.yaml', Buffer.from([0x7f, 0x45, 0xff, 0xfe]))))[0]!,
      /not a text file in UTF-8/,
    );
    assert.match((await said('/dev/zero'))[0]!, /larger than 8 MiB/);
    assert.match((await said(write('large.yaml', `a: ${'x'.repeat(10_000_000)}`)))[0]!, /larger than 8 MiB/);
    assert.match((await said(write('text.yaml', 'just words')))[0]!, /not a policy/);
    assert.match((await said())[0]!, /no files given/);
  });

  test('a text "0" is not a default', async () => {
    const header = '{header: {key: x, value: "0"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}';
    const config = `{name: r, virtual_hosts: [{name: v, domains: [a], routes: [{match: {prefix: /}, route: {cluster: a},
      request_headers_to_add: [${header}]}]}]}`;
    const file = write(
      'zero.yaml',
      `{"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, ${config.slice(1)}`,
    );
    const { routeConfigs } = await loadFiles([file], { stdin: Readable.from([]) });
    assert.match(JSON.stringify(routeConfigs), /"key":"x","value":"0"/);
  });

  test('hostile files end in an error, soon', { timeout: 60_000 }, async () => {
    const lines = ['x0: &x0 [a, a, a, a, a, a, a, a, a, a]'];
    for (let i = 1; i < 12; i++)
      lines.push(
        `x${i}: &x${i} [${Array(10)
          .fill(`*x${i - 1}`)
          .join(', ')}]`,
      );
    const bomb = `node:\n  metadata:\n    ${lines.join('\n    ')}\n`;
    assert.match((await said(write('bomb.yaml', bomb)))[0]!, /aliases multiply/);
    assert.match(
      (await said(write('deep.yaml', `node: {metadata: {a: ${'['.repeat(500)}${']'.repeat(500)}}}`)))[0]!,
      /deep/,
    );
    const deeper = await said(write('deeper.yaml', `node: {metadata: {a: ${'['.repeat(100_000)}`));
    assert.match(deeper[0]!, /deep/);
    assert.equal(deeper.length, 1);
    assert.match((await said(write('alias.yaml', 'node: {id: *nowhere}')))[0]!, /nowhere/);
    const proto = await loadFiles([write('proto.yaml', 'node: {metadata: {__proto__: {a: 1}, constructor: {b: 2}}}')]);
    assert.deepEqual(proto.diagnostics, []);
    const metadata = (proto.bootstrap.node as JsonObject).metadata as JsonObject;
    assert.deepEqual(Object.keys(metadata), ['__proto__', 'constructor']);
    assert.equal(({} as JsonObject).a, undefined);
    assert.match((await said(write('key.yaml', '{static_resources: {}, __proto__: {}}')))[0]!, /unknown field/);
    assert.match((await said(write('self.yaml', 'node: &n {metadata: {a: *n}}')))[0]!, /deep|multiply|alias/i);
  });

  test('folders, several documents, standard input and single resources come together', async () => {
    const folder = join(dir, 'folder');
    mkdirSync(join(folder, 'sub'), { recursive: true });
    writeFileSync(join(folder, 'sub', 'b.yml'), bootstrapWith(vhost));
    writeFileSync(join(folder, 'a.json'), '{"node": {"id": "me"}}');
    writeFileSync(join(folder, 'notes.txt'), 'not read');
    writeFileSync(join(folder, '.hidden.yaml'), 'not read either');
    const stdin = Readable.from([
      'resources:\n- {"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}\n',
      '---\n"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\ncluster_name: c\n',
      '---\n"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\nname: named\n',
      '---\n"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\nname: s\n',
    ]);
    const loaded = await loadFiles([folder, '-'], { stdin });
    assert.deepEqual(loaded.diagnostics, []);
    assert.deepEqual([loaded.documents, loaded.listeners.length], [6, 1]);
    assert.deepEqual(
      loaded.clusters.map((c) => c.name),
      ['a', 'c'],
    );
    assert.deepEqual(loaded.endpoints, [{ cluster_name: 'c' }]);
    assert.deepEqual(loaded.routeConfigs, [{ name: 'named' }]);
    assert.deepEqual(loaded.bootstrap, { node: { id: 'me' }, static_resources: { secrets: [{ name: 's' }] } });
    assert.deepEqual(loaded.provenance.get(loaded.clusters[1]!, 'type'), { file: '<stdin>', line: 2, column: 75 });
  });
});

const RULES = `
static_resources:
  listeners:
  - address: {socket_address: {address: "::", port_value: 8080}}
    additional_addresses: [{address: {socket_address: {address: 0.0.0.0, port_value: 8081}}}]
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - name: first
                match: {prefix: /a}
                route:
                  cluster: a
                typed_per_filter_config:
                  rbac:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute
                    rbac: {rules: {policies: {only: {permissions: [{any: true}], principals: [{any: true}]}}}}
              - match: {prefix: /}
                direct_response: {status: 404}
          http_filters:
          - name: rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: DENY
                policies:
                  one: {permissions: [{any: true}], principals: [{any: true}]}
                  two: {permissions: [{any: true}], principals: [{any: true}]}
          - name: cors
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - {name: a, connect_timeout: 1.50s, dns_lookup_family: 2, per_connection_buffer_limit_bytes: {value: 0x400}}
`;

function bootstrapOf(loaded: Resources): JsonObject {
  return { ...loaded.bootstrap, static_resources: { listeners: loaded.listeners, clusters: loaded.clusters } };
}

describe('what comes out', () => {
  test('rules, intercepts and positions', async () => {
    const file = write('rules.yaml', RULES);
    const loaded = await loadFiles([file]);
    assert.deepEqual(loaded.diagnostics, []);
    assert.deepEqual(loaded.intercepts, [
      { address: '::', port: 8080, listener: ':::8080' },
      { address: '0.0.0.0', port: 8081, listener: ':::8080' },
    ]);
    assert.deepEqual(
      loaded.rules.map((r) => [r.kind, r.name, r.rule, r.position.line]),
      [
        ['RBAC', 'rbac', 'policies["one"]', 34],
        ['RBAC', 'rbac', 'policies["two"]', 35],
        ['HttpFilter', 'cors', 'http_filters[1]', 36],
        ['Route', 'v', 'first', 17],
        ['RBAC', 'v/first', 'policies["only"]', 24],
        ['Route', 'v', 'routes[1]', 25],
      ],
    );
    assert.equal(new Set(loaded.rules.map((r) => r.id)).size, loaded.rules.length);
    const route = loaded.rules[3]!.objects[0] as JsonObject;
    assert.equal((route.route as JsonObject).cluster, 'a');
    assert.deepEqual(loaded.provenance.get(route.route as JsonObject), { file, line: 19, column: 17 });
    assert.deepEqual(loaded.provenance.get(route.route as JsonObject, 'cluster'), { file, line: 20, column: 19 });
  });

  test('canonical proto JSON: protobuf reads it and writes the same', async () => {
    const loaded = await loadFiles([write('canonical.yaml', RULES)]);
    const desc = envoyMessage('envoy.config.bootstrap.v3.Bootstrap');
    const registry = envoyRegistry();
    const ours = bootstrapOf(loaded);
    const theirs = toJson(desc, fromJson(desc, ours, { registry }), { registry, useProtoFieldName: true });
    assert.deepEqual(ours, theirs);
    assert.deepEqual(loaded.clusters[0], {
      name: 'a',
      connect_timeout: '1.500s',
      dns_lookup_family: 'V6_ONLY',
      per_connection_buffer_limit_bytes: 1024,
    });
  });

  test('10,000 routes', { timeout: 60_000 }, async () => {
    const routes = Array.from(
      { length: 10_000 },
      (_, i) => `              - match:
                  prefix: "/svc/${i}/"
                  headers:
                  - name: x-k
                    string_match: { exact: "v${i}" }
                route:
                  cluster: a
                  timeout: 3s
`,
    );
    const [head, tail] = RULES.split('              - name: first\n') as [string, string];
    const file = write('many.yaml', `${head}${routes.join('')}              - name: first\n${tail}`);
    const start = process.cpuUsage();
    const loaded = await loadFiles([file]);
    const { user, system } = process.cpuUsage(start);
    assert.deepEqual(loaded.diagnostics, []);
    assert.equal(loaded.rules.length, 10_006);
    // about 3 s with the collector's threads, 2 s by the clock; the clock would tell of other tests that run meanwhile
    assert.ok(user + system < 8_000_000, `${(user + system) / 1000} ms of CPU time`);
  });
});
