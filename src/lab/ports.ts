/** TCP ports for the servers of a lab. */
import { connect, createServer, type Server } from 'node:net';
import { sleep } from './processes.js';

/** Below the range of ephemeral ports, so that an outgoing connection cannot grab one before its server binds it. */
const FIRST = 10_240;
const SHARES = 35;
const SHARE = 640;
/** Ports that this process may give out still. */
const ours: number[] = [];
let taking: Promise<void> | undefined;

/** A server that listens at the port, if nobody else does. */
function listen(port: number, address: string): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(undefined));
    server.listen(port, address, () => resolve(server));
  });
}

async function isFree(port: number): Promise<boolean> {
  const server = await listen(port, '0.0.0.0');
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  return server !== undefined;
}

/**
 * A share of the ports becomes this process's own: who listens at its first port has it, until it ends. So processes that
 * run at the same time never give out the same port, though it is free until its server binds it.
 * @throws Error when all shares are taken
 */
async function takeShare(): Promise<void> {
  const start = Math.floor(Math.random() * SHARES);
  for (let i = 0; i < SHARES; i++) {
    const first = FIRST + ((start + i) % SHARES) * SHARE;
    const holder = await listen(first, '127.0.0.1');
    if (!holder) continue;
    holder.unref();
    ours.push(...Array.from({ length: SHARE - 1 }, (_, k) => first + 1 + k));
    return;
  }
  throw new Error('no ports are left: other labs have them all');
}

/** `count` TCP ports that nobody listens on at any IPv4 address, and that no other lab is given. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    if (ours.length === 0) {
      taking ??= takeShare().finally(() => {
        taking = undefined;
      });
      await taking;
    }
    const [port] = ours.splice(Math.floor(Math.random() * ours.length), 1);
    if (port !== undefined && (await isFree(port))) ports.push(port);
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
export async function waitForPort(address: string, port: number, timeoutMs = 60_000): Promise<void> {
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
