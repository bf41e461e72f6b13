/** IPv6: a bootstrap with a listener and an endpoint on ::1, and clients whose IPv6 sockets hold IPv4 addresses. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { outcome } from './istio-world.js';
import { bootstrap, MESH, one, skip } from './world.js';

const SERVER = join(packageRoot(), 'test/e2e/istio-server.ts');

/** The bootstrap with its upstream at ::1 too. */
function six(address: string, port: number, upstream: number): JsonObject {
  const text = JSON.stringify(bootstrap({ address, port, upstream, gen: '6' }));
  return JSON.parse(
    text.replaceAll(`"address":"127.0.0.1","port_value":${upstream}`, `"address":"::1","port_value":${upstream}`),
  );
}

describe('IPv6', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let four: SidestepHandle;
  let inside: Driver;
  let outside: Driver;
  let port: number;
  let alone: number;

  before(async () => {
    lab = await Lab.open('ipv6');
    const upstream = await freePort();
    [port, alone] = [await freePort(), await freePort()];
    const server = lab.start('upstream', [...nodeScript(SERVER), `six=::1:${upstream}`, `four=127.0.0.1:${upstream}`]);
    await server.waitFor(/listening/);
    const config = six('::1', port, upstream);
    assert.match(JSON.stringify(config), /"::1","port_value":\d+\}\}\}\}/);
    const file = join(lab.dir, 'six.json');
    await writeFile(file, JSON.stringify(config));
    const mapped = join(lab.dir, 'four.json');
    await writeFile(mapped, JSON.stringify(bootstrap({ address: MESH, port, upstream, gen: '4' })));
    sidestep = await startSidestep(lab, [file]);
    four = await startSidestep(lab, [mapped]);
    await startEnvoy(lab, 'alone', six('::1', alone, upstream));
    const client = sidestep.start('client in the mesh', RAW_CLIENT, { stdin: true });
    const other = lab.start('client outside', RAW_CLIENT, { stdin: true });
    [inside, outside] = [await Driver.of(client), await Driver.of(other)];
  });
  after(() => lab?.close());

  test('answers are Envoy’s, most from the kernel, the peer is what was asked for', async (t) => {
    for (const path of ['/', '/denied', '/a?b', '/sleep/5']) {
      for (let i = 0; i < 5; i++) {
        const result = await inside.run(one('::1', port, 'GET', path));
        assert.deepEqual(outcome(result), outcome(await outside.run(one('::1', alone, 'GET', path))), path);
        assert.equal(result.peer, `::1:${port}`);
      }
    }
    const { requests } = await sidestep.status();
    t.diagnostic(JSON.stringify(requests));
    assert.ok(requests.kernel > 0.8 * 20, JSON.stringify(requests));
  });

  test('an IPv6 socket to an IPv4-mapped address', async () => {
    const program = `
import socket
for i in range(10):
    s = socket.socket(socket.AF_INET6); s.connect(('::ffff:${MESH}', ${port}))
    s.sendall(b'GET /mapped HTTP/1.1\\r\\nHost: load.test\\r\\n\\r\\n')
    data = b''
    while b'"six"' not in data and b'"four"' not in data and b'}' not in data: data += s.recv(4000)
    print(data.split()[1].decode(), s.getpeername()[0], b'x-gen' in data)
`;
    const r = await four.run(['python3', '-c', program], { timeoutMs: 20_000 });
    assert.deepEqual([...new Set(r.stdout.trim().split('\n'))], [`200 ::ffff:${MESH} True`], r.stderr);
    const { requests } = await four.status();
    assert.ok(requests.kernel >= 8, JSON.stringify(requests));
  });
});
