/** Policies whose keys must be asked for: what becomes of them is what those that name the keys' place become. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PolicyTask } from '../../src/agent/policy.js';
import { type LoadedPolicy, loadPolicy } from '../../src/agent/policy-load.js';
import type { Resources } from '../../src/policy/resources.js';
import { check } from '../../src/report/check.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-issuers-'));

const service = (name: string, port: number) => `apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { clusterIP: 10.96.0.${name.length}, selector: { app: ${name} }, ports: [{ name: http, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, labels: { kubernetes.io/service-name: ${name}, app: ${name} } }
endpoints: [{ addresses: [127.0.0.1] }]
ports: [{ name: http, port: ${port} }]
---
`;
const authentication = (rule: string) => `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: web }
spec: { selector: { matchLabels: { app: web } }, jwtRules: [{ ${rule} }] }
`;

describe('keys that issuers must be asked for', () => {
  let server: Server;
  let port = 0;
  let answer = { status: 200, text: '' };
  let asked: string[] = [];

  before(async () => {
    server = createServer((request, response) => {
      asked.push(`${request.headers.host}${request.url}`);
      response.writeHead(answer.status).end(answer.text);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  function task(rule: string, more: Partial<PolicyTask> = {}): PolicyTask {
    const file = join(dir, 'policy.yaml');
    writeFileSync(file, `${service('web', 8080)}${service('keycloak', port)}${authentication(rule)}`);
    return {
      ...{ files: [file], instance: 'x', proxy: 'own', proxyFolder: dir, inbound: [], elsewhere: false, number: 1 },
      ...{ consultPath: join(dir, 'c'), reportsPath: join(dir, 'r'), relaySecret: '' },
      ...more,
    };
  }
  async function load(rule: string, more: Partial<PolicyTask> = {}): Promise<LoadedPolicy> {
    asked = [];
    return await loadPolicy(task(rule, more));
  }
  const what = ({ listeners, clusters }: Resources) => ({ listeners, clusters });
  const warnings = ({ resources }: LoadedPolicy) =>
    resources.diagnostics.filter(({ code }) => code === 'unknown-keys').map(({ message }) => message);
  const sourcesOf = ({ texts }: LoadedPolicy) => Buffer.from(JSON.stringify([...texts]));

  it('an address, asked as its documents say: the same as with jwksUri', async () => {
    const issuer = `http://127.0.0.1:${port}/realms/a/`;
    const keys = `http://127.0.0.1:${port}/keys`;
    answer = { status: 200, text: JSON.stringify({ issuer, jwks_uri: keys }) };
    const found = await load(`issuer: '${issuer}'`);
    assert.deepEqual(asked, [`127.0.0.1:${port}/realms/a/.well-known/openid-configuration`]);
    assert.deepEqual(warnings(found), []);
    const named = await load(`issuer: '${issuer}', jwksUri: '${keys}'`);
    assert.deepEqual(asked, []);
    assert.deepEqual(what(found.resources), what(named.resources));
  });

  it('a service of the mesh is asked at its servers', async () => {
    answer = { status: 200, text: '{"jwks_uri": "http://keycloak/keys"}' };
    const found = await load('issuer: http://keycloak.default/realms/a');
    assert.deepEqual(asked, ['keycloak.default/realms/a/.well-known/openid-configuration']);
    const named = await load('issuer: http://keycloak.default/realms/a, jwksUri: http://keycloak/keys');
    assert.deepEqual(what(found.resources), what(named.resources));
  });

  it('who does not answer well accepts nobody, or counts as before', async () => {
    const issuer = `http://127.0.0.1:${port}`;
    const rule = `issuer: '${issuer}'`;
    const none = await load(`issuer: nobody`);
    for (const bad of [
      { status: 500, text: '{"jwks_uri": "http://a/"}' },
      { status: 200, text: 'no JSON' },
      { status: 200, text: '{}' },
      { status: 200, text: '{"jwks_uri": "file:///etc/passwd"}' },
      { status: 200, text: '{"jwks_uri": ["http://a/"]}' },
    ]) {
      answer = bad;
      const found = await load(rule);
      assert.equal(warnings(found).length, 2, JSON.stringify(bad));
      const same = JSON.stringify(what(none.resources)).replaceAll('"nobody"', JSON.stringify(issuer));
      assert.equal(JSON.stringify(what(found.resources)), same);
    }
    answer = { status: 200, text: '{"jwks_uri": "http://keycloak/keys"}' };
    const first = await load(rule);
    answer = { status: 500, text: '' };
    const later = await load(rule, { before: sourcesOf(first) });
    assert.deepEqual(what(later.resources), what(first.resources));
    assert.match(warnings(later).join(), /status 500.*what it said before counts/);
  });

  it('made again from what was read, nobody is asked', async () => {
    answer = { status: 200, text: '{"jwks_uri": "http://keycloak/keys"}' };
    const rule = `issuer: 'http://127.0.0.1:${port}'`;
    const first = await load(rule);
    const again = await load(rule, { sources: sourcesOf(first) });
    assert.deepEqual(asked, []);
    assert.deepEqual(what(again.resources), what(first.resources));
    assert.deepEqual([...again.texts], [...first.texts]);
  });

  it('check asks nobody, and takes an issuer with an address to say where its keys are', async () => {
    const { files } = task(`issuer: 'http://127.0.0.1:${port}'`);
    asked = [];
    const { output } = await check([...files]);
    assert.deepEqual([output.rules, output.kernel, asked.length], [1, 1, 0]);
    const { output: unknown } = await check([...task('issuer: nobody').files]);
    // it accepts no token, which is certain
    assert.deepEqual([unknown.rules, unknown.kernel], [1, 1]);
    assert.deepEqual(
      unknown.warnings.map(({ code }) => code),
      ['unknown-keys'],
    );
  });
});
