/** TCP routes of clients in other network namespaces: each is connected from there, as by a sidecar of its own. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../e2e/connection-world.js';
import { skip } from '../e2e/world.js';
import { PodsWorld } from './world.js';

/** Says whom it sees, and sends back what it gets. */
const SERVER = `
import socket, threading
def serve(c, peer):
    c.sendall((peer + "\\n").encode())
    while True:
        data = c.recv(65536)
        if not data: break
        c.sendall(data)
    c.close()
s = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    c, a = s.accept()
    threading.Thread(target=serve, args=(c, a[0].replace("::ffff:", ""))).start()
`;

function tcpService(name: string, clusterIp: string, address: string): string {
  return `---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { clusterIP: "${clusterIp}", selector: { app: ${name} }, ports: [{ name: tcp, port: 7000, targetPort: 9000 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, labels: { kubernetes.io/service-name: ${name} } }
addressType: ${address.includes(':') ? 'IPv6' : 'IPv4'}
ports: [{ name: tcp, port: 9000, protocol: TCP }]
endpoints: [{ addresses: ["${address}"] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ${name} }
spec: { hosts: [${name}], tcp: [{ route: [{ destination: { host: ${name} } }] }] }
`;
}

describe('connections from pods', { skip, timeout: 120_000 }, () => {
  let world: PodsWorld;
  let client: Client;

  before(async () => {
    world = await PodsWorld.open('pods-tcp', 2);
    const [server] = world.pods;
    const process = world.lab.start('server', server!.command(['python3', '-c', SERVER]));
    await process.waitFor(/listening/);
    await world.start(
      tcpService('four', '10.96.188.1', server!.ipv4) +
        tcpService('six', 'fd96:188::2', server!.ipv6) +
        tcpService('agents', '10.96.188.3', '127.0.0.1'),
    );
    client = await Client.start(world.lab, world.sidestep, ['--netns', world.pods[1]!.name]);
  });
  after(() => world?.close());

  for (const [name, to] of [
    ['four', '10.96.188.1'],
    ['six', 'fd96:188::2'],
  ] as const) {
    test(`a service at an address of family ${name}`, async () => {
      const before = (await world.sidestep.status()).routed.kernel;
      const m = await client.run({ to, port: 7000, send: 'hello', half: true });
      const own = world.pods[1]!;
      assert.equal(m.head, `${name === 'four' ? own.ipv4 : own.ipv6}\nhello`, JSON.stringify(m));
      assert.deepEqual([m.end, m.peer], ['end', `${to} 7000`]);
      assert.equal((await world.sidestep.status()).routed.kernel - before, 1);
    });
  }

  test('an endpoint at a loopback address is the agent’s: refused, whatever listens there', async () => {
    const m = await client.run({ to: '10.96.188.3', port: 7000 });
    assert.equal(m.error, 'ECONNREFUSED');
  });
});
