import { connect, createServer } from 'node:net';
import { sleep } from './processes.js';

const FIRST = 10_240;
const LAST = 32_000;
const given = new Set<number>();

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)));
  });
}

/**
 * `count` TCP ports that nobody listens on at any IPv4 address. They are taken from below the range of ephemeral ports,
 * so that an outgoing connection cannot grab one before its server binds it.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

/** One port as `freePorts` gives it. */
export async function freePort(): Promise<number> {
  return (await freePorts(1))[0]!;
}

/**
 * Waits until something accepts connections at the address.
 * @throws Error after `timeoutMs`
 */
export async function waitForPort(address: string, port: number, timeoutMs = 10_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, address);
      socket.on('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (open) return;
    if (Date.now() > end) throw new Error(`nothing listens at ${address}:${port} after ${timeoutMs} ms`);
    await sleep(20);
  }
}
