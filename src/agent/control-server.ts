/** The agent's control interface: HTTP on a socket in its folder and on the admin address. */

import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createNetServer } from 'node:net';
import { json } from 'node:stream/consumers';
import { z } from 'zod';

export interface ControlHandlers {
  readonly status: () => unknown;
  readonly ready: () => boolean;
  /** JSON */
  readonly config: () => Uint8Array;
  /** serves the network namespace of a file for as long as `path` is there; @throws what the asker is to be told */
  readonly join?: (file: string, path: string | undefined) => Promise<void>;
}

/** What `exec` asks for before it enters another network namespace. */
const Join = z.object({ file: z.string(), path: z.string().optional() });

/** Serves /status, /ready and /config. `listen`: a path, or a host and port. @returns the server, listening */
export function serveControl(
  handlers: ControlHandlers,
  listen: { path: string } | { host: string; port: number },
): Promise<Server> {
  const server = createServer((request, response) => {
    const send = (status: number, body: unknown): void => {
      const text =
        typeof body === 'string' || body instanceof Uint8Array
          ? body
          : `${JSON.stringify(body, (_, v) => (typeof v === 'bigint' ? `${v}` : v), 2)}\n`;
      response.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/plain' : 'application/json' });
      response.end(text);
    };
    const { join } = handlers;
    if (request.method === 'POST' && request.url === '/namespaces' && join)
      json(request)
        .then((body) => Join.parse(body))
        .then(({ file, path }) => join(file, path))
        .then(
          () => send(200, 'ok\n'),
          (error: Error) => send(500, `${error.message}\n`),
        );
    else if (request.method !== 'GET') send(405, 'only GET\n');
    else if (request.url === '/status') send(200, handlers.status());
    else if (request.url === '/ready') send(handlers.ready() ? 200 : 503, handlers.ready() ? 'ready\n' : 'not ready\n');
    else if (request.url === '/config') send(200, handlers.config());
    else send(404, 'try /status, /ready or /config\n');
  });
  if ('path' in listen) rmSync(listen.path, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen, () => {
      server.off('error', reject);
      server.unref();
      resolve(server);
    });
  });
}

/** Holds the name of an instance for this process's life. @returns false when another process holds it */
export function holdName(name: string): Promise<(() => void) | false> {
  // An abstract socket: it vanishes with its process, whatever way that ends.
  const server = createNetServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen({ path: `\0sidestep/${name}` }, () => {
      server.unref();
      resolve(() => server.close());
    });
  });
}
