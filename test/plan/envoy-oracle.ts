/** The real Envoy as an oracle: starts it with given resources, sends raw requests, says what came back and what the upstream saw. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

/** The Envoy to test against: SIDESTEP_ENVOY, else the checkout's cache, else PATH; undefined if there is none. */
export function findEnvoy(): string | undefined {
  const candidates = [process.env.SIDESTEP_ENVOY, path.resolve('.cache/envoy/bin/envoy')];
  for (const dir of (process.env.PATH ?? '').split(':')) candidates.push(path.join(dir, 'envoy'));
  return candidates.find((c) => c !== undefined && c !== '' && existsSync(c));
}

/** What an upstream server received. */
export interface Seen {
  readonly server: string;
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
}

export interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  readonly seen?: Seen;
}

/** Upstream that answers with what it saw, as JSON. */
export async function echoServer(name: string): Promise<{ port: number; close(): void }> {
  const server = net.createServer((socket) => {
    let buffer = '';
    socket.setEncoding('latin1');
    socket.on('error', () => {});
    socket.on('data', (data) => {
      buffer += data;
      for (let end = buffer.indexOf('\r\n\r\n'); end >= 0; end = buffer.indexOf('\r\n\r\n')) {
        const lines = buffer.slice(0, end).split('\r\n');
        buffer = buffer.slice(end + 4);
        const [method = '', target = ''] = lines[0]!.split(' ');
        const headers = lines.slice(1).map((l) => {
          const colon = l.indexOf(':');
          return [l.slice(0, colon).toLowerCase(), l.slice(colon + 1).trim()] as const;
        });
        const seen: Seen = { server: name, method, target, headers };
        const body = JSON.stringify(seen);
        const length = Buffer.byteLength(body);
        socket.write(`HTTP/1.1 200 OK\r\nx-upstream: ${name}\r\ncontent-length: ${length}\r\n\r\n${body}`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const sockets = new Set<net.Socket>();
  server.on('connection', (s) => {
    sockets.add(s);
    s.on('close', () => sockets.delete(s));
  });
  return {
    port: (server.address() as net.AddressInfo).port,
    close() {
      server.close();
      for (const s of sockets) s.destroy();
    },
  };
}

/**
 * Sends one raw request (head as a list of lines) on a connection of its own. Bodiless methods only.
 * @param from the client's address, if it matters
 */
export function sendRaw(port: number, lines: readonly string[], from?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1', ...(from ? { localAddress: from } : {}) });
    let data = Buffer.alloc(0);
    const timer = setTimeout(() => socket.destroy(new Error('no answer within 10 s')), 10_000);
    socket.on('connect', () => socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
    const finish = (closed: boolean) => {
      const text = data.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const [statusLine = '', ...headerLines] = text.slice(0, end).split('\r\n');
      const headers = headerLines.map((l) => {
        const colon = l.indexOf(':');
        return [l.slice(0, colon).toLowerCase(), l.slice(colon + 1).trim()] as const;
      });
      const length = Number(headers.find(([n]) => n === 'content-length')?.[1] ?? Number.NaN);
      const rest = data.subarray(end + 4);
      if (!closed && !(rest.length >= length)) return;
      clearTimeout(timer);
      socket.destroy();
      const body = rest.toString();
      const echoed = headers.some(([n]) => n === 'x-upstream') && body !== '';
      const answer = { status: Number(statusLine.split(' ')[1]), headers, body };
      resolve(echoed ? { ...answer, seen: JSON.parse(body) as Seen } : answer);
    };
    socket.on('data', (chunk) => {
      data = Buffer.concat([data, chunk]);
      finish(false);
    });
    socket.on('error', reject);
    socket.on('close', () => finish(true));
  });
}

export interface RunningEnvoy {
  stop(): Promise<void>;
}

/**
 * Starts Envoy with these resources and waits until `ports` accept. Throws with Envoy's own words if it refuses them.
 * @param more the rest of its bootstrap
 */
export async function startEnvoy(
  envoy: string,
  staticResources: object,
  ports: readonly number[],
  more: object = {},
): Promise<RunningEnvoy> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'sidestep-oracle-'));
  const file = path.join(dir, 'envoy.json');
  writeFileSync(file, JSON.stringify({ ...more, static_resources: staticResources }));
  const child: ChildProcess = spawn(
    envoy,
    ['-c', file, '--use-dynamic-base-id', '--concurrency', '1', '-l', 'error', '--disable-hot-restart'],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let log = '';
  child.stderr!.on('data', (d) => {
    log += d;
  });
  child.stdout!.on('data', (d) => {
    log += d;
  });
  let exited = false;
  const gone = new Promise<void>((resolve) => {
    child.on('exit', () => {
      exited = true;
      resolve();
    });
  });
  const deadline = Date.now() + 20_000;
  for (const port of ports) {
    for (;;) {
      const open = await new Promise<boolean>((resolve) => {
        const s = net.connect(port, '127.0.0.1');
        s.on('connect', () => {
          s.destroy();
          resolve(true);
        });
        s.on('error', () => resolve(false));
      });
      if (open) break;
      if (exited || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`Envoy did not start: ${log.slice(-600)}`);
      }
      await new Promise((r) => setTimeout(r, 50));
    }
  }
  return {
    async stop() {
      child.kill('SIGKILL');
      await gone;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
