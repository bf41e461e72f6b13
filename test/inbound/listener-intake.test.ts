/** Listener intake: the tests of traffic once more, and per workload, with an application that socket intake breaks. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../../src/lab/paths.js';
import { MESH, one, request, skip, World } from '../e2e/world.js';

const AGAIN = ['odd-traffic', 'bodies', 'ipv6', 'vanishing', 'reload', 'closing-servers', 'istio-retry'];

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
