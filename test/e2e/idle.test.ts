/** Connections that nobody uses are closed on both sides, as Envoy alone closes them, and no request is lost on the way. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { sleep } from '../../src/lab/processes.js';
import type { Exchange } from '../../src/lab/raw-client.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { ALONE, MESH, request, skip, World } from './world.js';

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const idle = (seconds: number): JsonObject => ({ common_http_protocol_options: { idle_timeout: `${seconds}s` } });

/** Ports of the listeners: ordinary idle times, and short ones. */
interface Ports {
  readonly plain: number;
  readonly short: number;
}

function bootstrap(address: string, ports: Ports, upstreams: Ports): JsonObject {
  const listener = (name: keyof Ports, cluster: string, seconds: number, close: string) => ({
    ...{ name, address, port: ports[name] },
    routes: [
      { match: { prefix: '/direct' }, direct_response: { status: 200, body: { inline_string: 'd' } } },
      { match: { prefix: '/' }, route: { cluster, timeout: '20s' } },
    ],
    manager: { ...idle(seconds), drain_timeout: close, delayed_close_timeout: close },
  });
  const cluster = (name: keyof Ports, seconds: number) => ({
    name,
    ports: [upstreams[name]],
    more: {
      typed_extension_protocol_options: {
        [OPTIONS]: {
          '@type': `type.googleapis.com/${OPTIONS}`,
          ...idle(seconds),
          explicit_http_config: { http_protocol_options: {} },
        },
      },
    },
  });
  return plainBootstrap(
    [listener('plain', 'plain', 1, '0.5s'), listener('short', 'short', 0.1, '0.05s')],
    [cluster('plain', 1), cluster('short', 0.1)],
  );
}

/** A server that keeps connections for ever, and what it saw of them. */
class Watcher {
  /** per connection: when it was last busy, and for how long it was idle when it was closed */
  readonly idle: number[] = [];
  readonly seen = new Set<string>();
  open = 0;
  readonly #server: Server;

  constructor() {
    const used = new WeakMap<Socket, number>();
    this.#server = createServer((asked, response) => {
      const { pathname, searchParams } = new URL(asked.url ?? '/', 'http://a');
      this.seen.add(searchParams.get('n') ?? '');
      response.on('close', () => used.set(asked.socket, performance.now()));
      setTimeout(() => response.end(pathname), Number(searchParams.get('ms') ?? 0));
    });
    this.#server.keepAliveTimeout = 0;
    this.#server.on('connection', (socket) => {
      this.open++;
      used.set(socket, performance.now());
      socket.on('end', () => this.idle.push(performance.now() - used.get(socket)!));
      socket.on('close', () => this.open--);
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const get = (path: string, pauseMs = 0): Exchange => ({
  pieces: [request(`GET ${path} HTTP/1.1`)],
  methods: ['GET'],
  ...(pauseMs > 0 ? { pauseMs } : {}),
});
/** Waits until the connection is closed. */
const END: Exchange = { pieces: [], methods: ['GET'] };

test('idle connections', { skip, timeout: 200_000 }, async (t) => {
  const world = await World.open('idle');
  const watchers = {
    mesh: { plain: new Watcher(), short: new Watcher() },
    alone: { plain: new Watcher(), short: new Watcher() },
  };
  const listen = async (w: Record<keyof Ports, Watcher>): Promise<Ports> => ({
    plain: await w.plain.listen(),
    short: await w.short.listen(),
  });
  try {
    const { lab } = world;
    const ports: Ports = { plain: world.port, short: await freePort() };
    await world.writeText(JSON.stringify(bootstrap(MESH, ports, await listen(watchers.mesh))));
    await startEnvoy(lab, 'alone', bootstrap(ALONE, ports, await listen(watchers.alone)));
    const sidestep = await startSidestep(lab, [world.file]);
    const [mesh, alone] = await Promise.all([world.driver(sidestep), world.driver()]);
    const sides: [string, Driver, string, Record<keyof Ports, Watcher>][] = [
      ['Sidestep', mesh, MESH, watchers.mesh],
      ['Envoy', alone, ALONE, watchers.alone],
    ];
    const kernel = async (): Promise<number> => (await sidestep.status()).requests.kernel;

    await t.test('to servers: a pool shrinks after the idle time, and not before', async () => {
      for (const [name, driver, address, { plain: server }] of sides) {
        const burst = () =>
          Promise.all(
            Array.from({ length: 6 }, () =>
              driver.run({
                address,
                port: ports.plain,
                exchanges: [get('/a?ms=150'), get('/a?ms=150'), get('/a?ms=150')],
              }),
            ),
          );
        const results = await burst();
        assert.ok(
          results.every(({ answers }) => answers.length === 3 && answers.every((a) => a.status === 200)),
          name,
        );
        assert.ok(server.open >= 6, `${name}: ${server.open} connections`);
        const end = Date.now() + 20_000;
        while (server.open > 0 && Date.now() < end) await sleep(50);
        assert.equal(server.open, 0, name);
        assert.ok(
          server.idle.every((ms) => ms > 950),
          `${name}: ${server.idle}`,
        );
      }
      // and grows again
      for (let i = 0; i < 3; i++) {
        const { answers } = await mesh.run({ address: MESH, port: ports.plain, exchanges: [get('/b')] });
        assert.equal(answers[0]?.status, 200);
        await sleep(100);
      }
    });

    await t.test('to servers: what is used stays', async () => {
      const before = await kernel();
      const exchanges = [get('/used'), ...Array.from({ length: 8 }, () => get('/used', 400))];
      const { answers } = await mesh.run({ address: MESH, port: ports.plain, exchanges, timeoutMs: 20_000 });
      assert.equal(answers.filter(({ status }) => status === 200).length, exchanges.length);
      assert.ok((await kernel()) - before >= exchanges.length / 2);
    });

    await t.test('of clients: never used, used, answered here, and by the proxy', async () => {
      const chunked: Exchange = {
        pieces: [request('POST /c HTTP/1.1', [['Transfer-Encoding', 'chunked']], '0\r\n\r\n')],
        methods: ['POST'],
      };
      for (const [name, driver, address] of sides) {
        const ended = async (exchanges: Exchange[]) => {
          const { error, micros, answers } = await driver.run({
            ...{ address, port: ports.plain, timeoutMs: 20_000 },
            exchanges: [...exchanges, END],
          });
          assert.equal(error, 'closed', name);
          assert.ok(answers.every(({ status }) => status === 200));
          assert.equal(answers.length, exchanges.length);
          return micros / 1000;
        };
        const [never, used, direct, proxied, often, long] = await Promise.all([
          ended([]),
          ended([get('/')]),
          ended([get('/direct'), get('/direct', 600)]),
          ended([chunked]),
          ended([get('/'), get('/direct', 400), get('/', 400), chunked, get('/direct', 400), get('/direct', 400)]),
          ended([get('/?ms=4000')]),
        ]);
        // nothing, or the time for draining and for the close as well
        assert.ok(never >= 980, `${name}: never used ${never}`);
        for (const ms of [used, proxied]) assert.ok(ms >= 1950, `${name}: used ${ms}`);
        assert.ok(direct >= 2550, `${name}: direct ${direct}`);
        assert.ok(often >= 4 * 400 + 1950, `${name}: often ${often}`);
        assert.ok(long >= 4000 + 1950, `${name}: long ${long}`);
      }
    });

    await t.test('a request in the moment of the end is answered, or was never sent on', async () => {
      for (const [name, driver, address, { short: server }] of sides) {
        const asked = async (c: number) => {
          // around the idle time of servers (100 ms), of clients (200 ms), and that with what the kernel gets to finish
          const around = [115, 200, 410][c % 3]!;
          const pauses = Array.from({ length: 12 }, (_, i) => (i === 0 ? 0 : around - 30 + ((c * 37 + i * 61) % 60)));
          const names = pauses.map((_, i) => `${name}-${c}-${i}`);
          const exchanges = pauses.map((ms, i) => get(`/?n=${names[i]}`, ms));
          const result = await driver.run({ address, port: ports.short, exchanges, timeoutMs: 20_000 });
          assert.ok(
            result.error === undefined || ['closed', 'ECONNRESET', 'EPIPE'].includes(result.error),
            result.error,
          );
          assert.ok(
            result.answers.every(({ status }) => status === 200),
            JSON.stringify(result.answers),
          );
          const got = result.answers.length;
          for (const n of names.slice(got)) assert.ok(!server.seen.has(n), `${n} was sent on`);
          return got;
        };
        const counts = await Promise.all(Array.from({ length: 24 }, (_, c) => asked(c)));
        assert.ok(
          counts.some((n) => n > 3),
          `${name}: ${counts}`,
        );
      }
    });
  } finally {
    await world.close();
    for (const { plain, short } of Object.values(watchers)) for (const w of [plain, short]) w.close();
  }
});
