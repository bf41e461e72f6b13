/** Who waits until a socket can take more must not wait for ever when the socket ends meanwhile, or has ended already. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { drained } from '../../src/agent/drained.js';

describe('a socket that has had enough', { timeout: 30_000 }, () => {
  let server: Server;
  before(async () => {
    server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => server.close());

  /** A socket whose other end has read nothing, and both have all that they can hold. */
  async function full(): Promise<{ socket: Socket; other: Socket }> {
    const accepted = once(server, 'connection');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [other] = (await accepted) as [Socket];
    for (const end of [socket, other]) end.on('error', () => undefined);
    assert.equal(socket.write(Buffer.alloc(32_000_000)), false);
    return { socket, other };
  }

  test('takes more when the other end reads', async () => {
    const { socket, other } = await full();
    let resolved = false;
    const waiting = drained(socket).then(() => {
      resolved = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(resolved, false);
    other.resume();
    await waiting;
    assert.equal(socket.writableNeedDrain, false);
    socket.destroy();
    other.destroy();
  });

  test('takes nothing any more when the other end resets it', async () => {
    const { socket, other } = await full();
    const waiting = drained(socket);
    other.resetAndDestroy();
    await waiting;
    assert.equal(socket.destroyed, true);
  });

  test('is not waited for when it was destroyed before', async () => {
    const { socket, other } = await full();
    socket.destroy();
    assert.equal(socket.write('more'), false);
    await drained(socket);
    other.destroy();
  });
});
