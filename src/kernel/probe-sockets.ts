/** A connected pair of TCP sockets on the loopback, for probes and tests. */
import { connect, createServer, type Socket } from 'node:net';

export interface SocketPair {
  readonly client: Socket;
  readonly server: Socket;
  close(): void;
}

/**
 * Connects to a listener of its own on an ephemeral port.
 * @param unread nothing is read at the server's end until its `resume`
 * @throws the socket's error
 */
export function loopbackPair(unread = false): Promise<SocketPair> {
  return new Promise((resolve, reject) => {
    const listener = createServer({ pauseOnConnect: unread }, (server) => {
      listener.close();
      const close = (): void => {
        client.destroy();
        server.destroy();
      };
      server.on('error', close);
      client.on('error', close);
      const done = (): void => resolve({ client, server, close });
      if (client.connecting) client.once('connect', done);
      else done();
    });
    let client: Socket;
    listener.once('error', reject);
    listener.listen(0, '127.0.0.1', () => {
      client = connect((listener.address() as { port: number }).port, '127.0.0.1');
      client.once('error', reject);
    });
  });
}

/** The next `count` bytes, or what has come after `timeout` milliseconds. */
export function readExactly(socket: Socket, count: number, timeout: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const finish = (): void => {
      clearTimeout(timer);
      socket.off('data', onData);
      socket.pause();
      resolve(text);
    };
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (text.length >= count) finish();
    };
    const timer = setTimeout(finish, timeout);
    socket.on('data', onData);
    socket.resume();
  });
}
