import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadFiles } from '../../../src/policy/load.js';
import type { JsonObject, Resources } from '../../../src/policy/resources.js';
import { pod, service } from '../../netns/policy.js';

const DENY = `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  action: DENY
  rules: [{ to: [{ operation: { methods: [DELETE] } }] }]
`;

const FILES = [
  service('shop', '10.96.187.1', 9080, '10.1.0.1', '10.1.0.2'),
  service('again', '10.96.187.2', 9080, '10.1.0.1'),
  service('open', '10.96.187.3', 9080, '10.1.0.3'),
  ...['10.1.0.1', '10.1.0.2'].map((ip, i) => pod({ name: `shop-${i}`, ip, app: 'shop' })),
  pod({ name: 'open-1', ip: '10.1.0.3', app: 'open' }),
  DENY,
].join('');

async function load(text: string, atServers: boolean): Promise<Resources> {
  const dir = mkdtempSync(join(tmpdir(), 'sidestep-inbound-'));
  try {
    writeFileSync(join(dir, 'mesh.yaml'), text);
    return await loadFiles([join(dir, 'mesh.yaml')], { atServers });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const inbound = (resources: Resources): JsonObject[] =>
  resources.listeners.filter((l) => String(l.name).startsWith('inbound|'));

describe('listeners before servers', () => {
  it('are made for servers of which policies speak, once each', async () => {
    const resources = await load(FILES, true);
    assert.deepEqual(
      resources.diagnostics.filter((d) => d.severity === 'error'),
      [],
    );
    assert.deepEqual(
      inbound(resources)
        .map((l) => l.name)
        .sort(),
      ['inbound|9080||10.1.0.1', 'inbound|9080||10.1.0.2'],
    );
    const taken = resources.intercepts.filter((i) => i.inbound === 'workload');
    assert.deepEqual(taken.map((i) => `${i.address}:${i.port} ${i.listener}`).sort(), [
      '10.1.0.1:9080 inbound|9080||10.1.0.1',
      '10.1.0.2:9080 inbound|9080||10.1.0.2',
    ]);
    for (const { own, address, listener } of taken) {
      assert.ok(own && own.address !== address, 'the proxy has a place of its own');
      const cluster = resources.clusters.find((c) => c.name === listener);
      assert.match(JSON.stringify(cluster), new RegExp(`"address":"${address}","port_value":9080`));
    }
    for (const listener of inbound(resources)) {
      const text = JSON.stringify(listener);
      assert.match(text, /RBACPerRoute.*"DELETE"/);
      assert.equal(resources.provenance.get(listener)?.file.endsWith('mesh.yaml'), true);
    }
  });

  it('only when they are asked for, and nothing else changes', async () => {
    const [without, among] = [await load(FILES, false), await load(FILES, true)];
    assert.deepEqual(inbound(without), []);
    assert.deepEqual(
      among.listeners.filter((l) => !String(l.name).startsWith('inbound|')),
      without.listeners,
    );
    assert.deepEqual(
      among.clusters.filter((c) => !String(c.name).startsWith('inbound|')),
      without.clusters,
    );
  });

  it('a policy that is attached to a service is not its servers’', async () => {
    const attached = DENY.replace(
      'selector: { matchLabels: { app: shop } }',
      'targetRefs: [{ kind: Service, group: "", name: shop }]',
    );
    assert.deepEqual(inbound(await load(FILES.replace(DENY, attached), true)), []);
  });
});
