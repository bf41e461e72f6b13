/** Telemetry in force: the kernel's requests are in the log that Istio's provider writes, with the lines of Envoy. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { instanceFolder } from '../../src/kernel/instance.js';
import { eventually } from './eventually.js';
import { IstioWorld, service } from './istio-world.js';
import { skip } from './world.js';

const TELEMETRY = `---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: mesh, namespace: istio-system }
spec:
  accessLogging: [{ providers: [{ name: envoy }], match: { mode: CLIENT } }]
  tracing: [{ providers: [{ name: nobody }], randomSamplingPercentage: 100 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec:
  hosts: [web]
  http:
    - { name: gone, match: [{ uri: { prefix: /gone } }], directResponse: { status: 410, body: { string: gone } } }
    - { name: rest, route: [{ destination: { host: web } }] }
`;

/** Lines about a request, without what differs by nature: times, ids, addresses of this run. */
function lines(text: string, path: string): string[] {
  return text
    .split('\n')
    .filter((line) => line.includes(`"GET ${path} `))
    .map((line) =>
      line
        .replace(/^\[[-0-9T:.]+Z\]/, '[time]')
        .replace(/( "-" \d+ \d+) \d+ (\d+|-) /, '$1 ms ms ')
        .replace(/"[0-9a-f]{8}-[-0-9a-f]{27}"/, '"id"')
        .replace(/(?: (?:10|127)\.\d+\.\d+\.\d+:\d+)* - (\w+)$/, ' addresses - $1'),
    );
}

test('Telemetry: lines of Istio’s provider about requests of the kernel', { skip, timeout: 200_000 }, async () => {
  const world = await IstioWorld.open('telemetry');
  try {
    const [web] = await world.upstreams('web');
    await world.write(`${service('web', 'clusterIP: 10.96.183.1', [web!])}${TELEMETRY}`);
    await world.start();
    const own = join(instanceFolder(world.sidestep.name), 'proxy', 'envoy.log');
    for (const [path, status] of [
      ['/thing?x=1', 200],
      ['/gone/away', 410],
    ] as const) {
      assert.ok(await world.inKernel({ host: 'web', path }, status), `${path} is not the kernel's`);
      await eventually(async () => {
        const [line] = lines(world.envoy.process.output, path);
        const found = lines(await readFile(own, 'utf8'), path).at(-1);
        assert.ok(line !== undefined && found !== undefined, `no line about ${path}`);
        assert.equal(found, line);
      });
    }
    const { log } = (await world.sidestep.status()) as unknown as { log: { lines: number; lost: number } };
    assert.ok(log.lines >= 2, `${log.lines} lines are the kernel's`);
    assert.equal(log.lost, 0);
  } finally {
    await world.close();
  }
});
