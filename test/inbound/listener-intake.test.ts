/** Listener intake: the tests of traffic once more, and per workload, with an application that socket intake breaks. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import type { OddEcho } from '../e2e/odd-server.js';
import { bodyOf, MESH, one, request, skip, World } from '../e2e/world.js';

const AGAIN = ['odd-traffic', 'odd-answers', 'bodies', 'ipv6', 'vanishing', 'reload', 'closing-servers', 'istio-retry'];

/** Runs one file of test/e2e with every instance at listener intake. */
function again(name: string): Promise<{ code: number | null; output: string }> {
  const file = join(packageRoot(), `test/e2e/${name}.test.ts`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env; // a run of its own, not a part of this one
  const child = spawn(process.execPath, ['--import', 'tsx', '--test', file], {
    cwd: packageRoot(),
    env: { ...env, SIDESTEP_TEST_INTAKE: 'listener' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })));
}

describe('the tests of traffic with listener intake', { skip }, () => {
  for (const name of AGAIN) {
    test(name, { timeout: 240_000 }, async () => {
      const { code, output } = await again(name);
      assert.equal(code, 0, output.slice(-6000));
      assert.match(output, /^# pass [1-9]/m, 'something ran');
    });
  }
});

/** Moves an answer with splice(2) from its socket into a pipe, as HAProxy and Go's io.Copy do. */
const SPLICE = `
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.settimeout(5)
for i in range(5):
    s.sendall(b'GET /echo HTTP/1.1\\r\\nHost: load.test\\r\\n\\r\\n')
    s.setblocking(True)
    r, w = os.pipe()
    n = os.splice(s.fileno(), w, 65536)
    print(os.read(r, n).split()[1].decode())
`;

test('exec --intake listener: splice works, the kernel decides, beside socket intake', {
  skip,
  timeout: 90_000,
}, async () => {
  const world = await World.open('per-workload');
  try {
    await world.writePolicy({ gen: '1' });
    const sidestep = await world.startSidestep();
    const at = sidestep.execCommand(['python3', '-c', SPLICE, MESH, String(world.port)], ['--intake', 'listener']);
    const splice = world.lab.start('splice', at);
    assert.equal((await splice.exited).code, 0, splice.output);
    assert.deepEqual(splice.output.trim().split('\n'), ['200', '200', '200', '200', '200']);
    const before = await sidestep.status();
    assert.ok(before.requests.kernel >= 3, JSON.stringify(before.requests));
    // an application of the same instance at socket intake
    const driver = await world.driver(sidestep);
    const exchanges = Array.from({ length: 10 }, () => ({ pieces: [request('GET /echo HTTP/1.1')], methods: ['GET'] }));
    const result = await driver.run({ address: MESH, port: world.port, exchanges });
    assert.equal(result.answers.length, 10, result.error);
    const denied = await driver.run(one(MESH, world.port, 'GET', '/denied'));
    assert.equal(denied.answers[0]?.status, 403);
    const after = await sidestep.status();
    assert.ok(after.requests.kernel - before.requests.kernel >= 10, JSON.stringify(after.requests));
  } finally {
    await world.close();
  }
});

test('to a server inside the mesh, whose connections are paired for the bypass', {
  skip,
  timeout: 90_000,
}, async (t) => {
  const world = await World.open('paired');
  try {
    const port = await freePort();
    await world.writePolicy({ gen: '1', upstream: port });
    const sidestep = await world.startSidestep();
    const script = join(packageRoot(), 'test/e2e/odd-server.ts');
    await sidestep
      .start('server inside', [...nodeScript(script), '127.0.0.1', String(port), 'inside'])
      .waitFor(/listening/);
    const p = world.lab.start('client', sidestep.execCommand(RAW_CLIENT, ['--intake', 'listener']), { stdin: true });
    const clients = [await Driver.of(p), await world.driver(sidestep)];
    const pieces = (n: number): string[] => {
      const whole = Buffer.from(
        request('POST /echo HTTP/1.1', [['Content-Length', String(n)]], Buffer.alloc(n, 'body ')),
        'base64',
      );
      const cuts = [0, whole.length - Math.floor(n / 2), whole.length - Math.floor(n / 3), whole.length];
      return [0, 1, 2].map((i) => whole.subarray(cuts[i], cuts[i + 1]).toString('base64'));
    };
    const exchange = (i: number) =>
      i % 3 === 0
        ? { pieces: [request('GET /echo HTTP/1.1')], methods: ['GET'] }
        : {
            pieces:
              i % 3 === 1
                ? pieces(300 * (i + 1))
                : [
                    pieces(3000 + i)
                      .map((b) => Buffer.from(b, 'base64'))
                      .reduce((a, b) => Buffer.concat([a, b]))
                      .toString('base64'),
                  ],
            methods: ['POST'],
          };
    const length = (i: number): number => (i % 3 === 0 ? 0 : i % 3 === 1 ? 300 * (i + 1) : 3000 + i);
    // both intakes share the pooled connections
    const results = await Promise.all(
      [0, 1, 2, 3, 4, 5].map((n) =>
        clients[n % 2]!.run({
          address: MESH,
          port: world.port,
          exchanges: Array.from({ length: 30 }, (_, i) => exchange(i)),
        }),
      ),
    );
    for (const result of results) {
      assert.equal(result.answers.length, 30, result.error);
      for (let i = 0; i < 30; i++) assert.equal(bodyOf<OddEcho>(result, i).length, length(i));
    }
    const status = await sidestep.status();
    t.diagnostic(JSON.stringify([status.requests, status.counters]));
    assert.ok(status.requests.kernel > status.requests.proxy, JSON.stringify(status.requests));
  } finally {
    await world.close();
  }
});
