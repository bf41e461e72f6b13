/** `sidestep run --http2`: servers of HTTP/2 that are found by name, beside Envoy alone. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hostOf, listenerOf, TYPE, to } from '../plan/resources.js';
import { DnsServer, lookedUpAt } from './dns-server.js';
import { type Call, type Called, callsOf } from './h2-calls.js';
import { ALONE, MESH, skip } from './world.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'h2-calls.ts');
const [A, B] = ['127.0.0.11', '127.0.0.12'];
const TEXT = { 'content-type': 'text/plain' };

/** How often a call with an id was tried. */
const tried = new Map<unknown, number>();

/** A server that says who it is; what it is asked under /…/hold it answers when it is told to. */
class Server {
  readonly sessions = new Set<ServerHttp2Session>();
  #held: ServerHttp2Stream[] = [];

  private constructor(
    private readonly address: string,
    private readonly own: Http2Server,
  ) {
    own.on('session', (session) => {
      this.sessions.add(session);
      session.on('close', () => this.sessions.delete(session));
    });
    own.on('sessionError', () => undefined);
    own.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      const tries = (tried.get(headers['x-id']) ?? 0) + 1;
      tried.set(headers['x-id'], tries);
      if (headers[':path']!.endsWith('/hold')) this.#held.push(stream);
      else if (tries <= Number(headers['x-fails'] ?? 0))
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' },
          { endStream: true },
        );
      else this.#answer(stream);
    });
  }

  static async start(address: string, port: number): Promise<Server> {
    const own = createServer();
    await new Promise<void>((resolve) => own.listen(port, address, resolve));
    return new Server(address, own);
  }

  #answer(stream: ServerHttp2Stream): void {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(this.address);
  }

  /** How many streams wait to be answered. */
  get holding(): number {
    return this.#held.length;
  }

  release(): void {
    for (const stream of this.#held.splice(0)) this.#answer(stream);
  }

  /** Ends all connections. */
  drop(): void {
    for (const session of [...this.sessions]) session.destroy();
  }

  close(): void {
    this.drop();
    this.own.close();
  }
}

function bootstrap(address: string, port: number, shared: number, dns: number): JsonObject {
  const named = (name: string, type: string, more: JsonObject): JsonObject => ({
    name,
    type,
    connect_timeout: '1s',
    circuit_breakers: { thresholds: [{ max_retries: 4096 }] },
    ...lookedUpAt(dns),
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: `${name}.test`, port_value: shared } } } },
          ],
        },
      ],
    },
    ...more,
  });
  const explicit = {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': TYPE.protocolOptions,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
  const again = { timeout: '0s', retry_policy: { retry_on: 'unavailable', num_retries: 2 } };
  const routes = [
    to('strict', '/strict/again', {}, again),
    to('logical', '/logical/again', {}, again),
    to('strict', '/strict', {}, { timeout: '0s' }),
    to('logical', '/logical', {}, { timeout: '0s' }),
  ];
  const listener = listenerOf([hostOf(routes)], { name: 'names', hcm: { stream_idle_timeout: '0s' } });
  return {
    static_resources: {
      listeners: [{ ...listener, address: { socket_address: { address, port_value: port } } }],
      clusters: [
        named('strict', 'STRICT_DNS', explicit),
        // the deprecated way to say so
        named('logical', 'LOGICAL_DNS', { http2_protocol_options: {} }),
      ],
    },
  };
}

type Calls = Awaited<ReturnType<typeof callsOf>>;

describe('run --http2 with servers that are found by name', { skip, timeout: 90_000 }, () => {
  let lab: Lab;
  let dns: DnsServer;
  let a: Server;
  let b: Server;
  let mesh: SidestepHandle;
  let port = 0;
  let file = '';
  let inside: Calls;
  let alone: Calls;

  const started = async (where: 'inside' | 'alone', name: string): Promise<Calls> => {
    const argv = [...nodeScript(CLIENT), `http://${where === 'inside' ? MESH : ALONE}:${port}`];
    const own = where === 'inside' ? mesh : lab;
    return await callsOf(own.start(`${name} ${where}`, argv, { stdin: true }));
  };

  before(async () => {
    lab = await Lab.open('h2-names');
    const shared = await freePort();
    [a, b] = await Promise.all([Server.start(A!, shared), Server.start(B!, shared)]);
    dns = await DnsServer.start();
    port = await freePort();
    file = join(lab.dir, 'names.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH, port, shared, dns.port)));
    [mesh] = await Promise.all([
      startSidestep(lab, [file], { args: ['--http2'] }),
      startEnvoy(lab, 'alone', bootstrap(ALONE, port, shared, dns.port)),
    ]);
    inside = await started('inside', 'first');
    alone = await started('alone', 'first');
  });
  after(async () => {
    await lab?.close();
    dns?.close();
    a?.close();
    b?.close();
  });

  const streams = async () => (await mesh.status()).streams!;
  const until = async (what: string, fine: () => Promise<boolean> | boolean): Promise<void> => {
    for (const end = Date.now() + 15_000; !(await fine()); await sleep(30)) assert.ok(Date.now() < end, what);
  };
  /** Both lead to this server. */
  const lead = async (path: string, to: string): Promise<void> => {
    for (const by of [alone, inside])
      await until(`${path} leads to ${to}`, async () => (await by({ path })).body === to);
  };
  /** The kernel decides about a client's next calls. */
  const kernels = async (call: Call, by = inside): Promise<void> =>
    await until(`the kernel decides about ${call.path}`, async () => {
      const { kernel } = await streams();
      await by(call);
      await by(call);
      return (await streams()).kernel === kernel + 2;
    });
  /** What a call is answered, inside and by Envoy alone, which must be the same. */
  async function same(call: Call, by = inside): Promise<Called> {
    const own = await by(call);
    assert.deepEqual(own, await alone(call), JSON.stringify(call));
    return own;
  }

  test('names that nothing is known of are the proxy’s', async () => {
    for (const call of [{ path: '/strict' }, { path: '/logical' }, { path: '/strict', headers: TEXT }])
      await same(call);
    assert.deepEqual(await streams(), { kernel: 0, proxy: 3 });
  });

  test('STRICT_DNS: what was found is the kernel’s, and what is found next', async () => {
    dns.answers.set('strict.test', [A!]);
    await lead('/strict', A!);
    await kernels({ path: '/strict' });
    const before = await streams();
    for (let i = 0; i < 5; i++)
      for (const headers of [{}, TEXT]) assert.equal((await same({ path: '/strict', headers })).body, A);
    assert.deepEqual(await streams(), { kernel: before.kernel + 10, proxy: before.proxy });

    // what is under way is finished where it began
    const holder = await started('inside', 'holder');
    await kernels({ path: '/strict' }, holder);
    const held = [holder, await started('alone', 'holder')].map((by) => by({ path: '/strict/hold' }));
    await until('both wait', () => a.holding === 2);
    dns.answers.set('strict.test', [B!]);
    await lead('/strict', B!);
    await kernels({ path: '/strict' });
    const next = await streams();
    for (let i = 0; i < 10; i++) assert.equal((await same({ path: '/strict' })).body, B);
    assert.deepEqual(await streams(), { kernel: next.kernel + 10, proxy: next.proxy });
    await sleep(1500);
    assert.equal(a.sessions.size, 2, 'connections with streams stay, others do not');
    a.release();
    const [own, other] = await Promise.all(held);
    assert.deepEqual(own, other);
    assert.equal(own!.body, A);
    await until('connections to where nothing leads any more are closed', () => a.sessions.size === 0);
    assert.equal((await same({ path: '/strict' })).body, B);
  });

  test('STRICT_DNS: all of several take turns, and none is left of a name that is gone', async () => {
    dns.answers.set('strict.test', [A!, B!]);
    await lead('/strict', A!);
    await until('both are the kernel’s', async () => {
      const { kernel } = await streams();
      for (let i = 0; i < 4; i++) await inside({ path: '/strict' });
      return (await streams()).kernel === kernel + 4;
    });
    const before = await streams();
    const of = async (by: Calls): Promise<string[]> => {
      const found: string[] = [];
      for (let i = 0; i < 10; i++) found.push((await by({ path: '/strict' })).body);
      return found.sort();
    };
    assert.deepEqual(await of(inside), await of(alone));
    assert.deepEqual(await streams(), { kernel: before.kernel + 10, proxy: before.proxy });

    dns.answers.set('strict.test', []);
    for (const by of [alone, inside])
      await until(
        'it is gone',
        async () => Number((await by({ path: '/strict', headers: TEXT })).headers[':status']) === 503,
      );
    const gone = await streams();
    for (const headers of [{}, TEXT]) await same({ path: '/strict', headers });
    assert.deepEqual(await streams(), { kernel: gone.kernel, proxy: gone.proxy + 2 });

    dns.answers.set('strict.test', [B!]);
    await lead('/strict', B!);
    await kernels({ path: '/strict' });
  });

  test('no call fails while names change', async () => {
    let going = true;
    const load = async (): Promise<Called[]> => {
      const found: Called[] = [];
      while (going) found.push(await inside({ path: '/strict' }));
      return found;
    };
    const { kernel } = await streams();
    const loads = [load(), load(), load()];
    for (const addresses of [[A!], [A!, B!], [B!], [A!]]) {
      dns.answers.set('strict.test', addresses);
      await sleep(1500);
    }
    going = false;
    const all = (await Promise.all(loads)).flat();
    const odd = all.filter(({ body, trailers }) => ![A, B].includes(body) || trailers['grpc-status'] !== '0');
    assert.deepEqual(odd, []);
    for (const address of [A, B]) assert.ok(all.filter(({ body }) => body === address).length > 20, address);
    assert.ok((await streams()).kernel - kernel > all.length / 2, `${all.length}, of which most are the kernel’s`);
  });

  test('LOGICAL_DNS: new streams take the address that there is, and keep it when the name is gone', async () => {
    dns.answers.set('logical.test', [A!]);
    await lead('/logical', A!);
    await kernels({ path: '/logical' });
    const before = await streams();
    for (const headers of [{}, TEXT, {}]) assert.equal((await same({ path: '/logical', headers })).body, A);
    assert.deepEqual(await streams(), { kernel: before.kernel + 3, proxy: before.proxy });

    // of several, the first one
    dns.answers.set('logical.test', [B!, A!]);
    await lead('/logical', B!);
    await kernels({ path: '/logical' });
    const next = await streams();
    for (let i = 0; i < 10; i++) assert.equal((await same({ path: '/logical' })).body, B);
    assert.deepEqual(await streams(), { kernel: next.kernel + 10, proxy: next.proxy });

    dns.answers.set('logical.test', []);
    await sleep(1500);
    const gone = await streams();
    for (const headers of [{}, TEXT, {}]) assert.equal((await same({ path: '/logical', headers })).body, B);
    assert.deepEqual(await streams(), { kernel: gone.kernel + 3, proxy: gone.proxy });
  });

  test('what fails is tried again', async () => {
    for (const path of ['/strict/again', '/logical/again'])
      for (const fails of [0, 1, 2, 3]) {
        await kernels({ path });
        const { kernel } = await streams();
        const [own, other] = await Promise.all(
          [inside, alone].map((by, i) =>
            by({ path, headers: { 'x-id': `${path} ${fails} ${i}`, 'x-fails': `${fails}` } }),
          ),
        );
        assert.equal((await streams()).kernel, kernel + 1, 'begun by the kernel');
        assert.deepEqual({ ...own, body: '' }, { ...other, body: '' }, `${path}, ${fails} failures`);
        for (const i of [0, 1]) assert.equal(tried.get(`${path} ${fails} ${i}`), Math.min(3, fails + 1), 'tries');
      }
  });

  test('another policy knows what was found', async () => {
    const { generation } = await mesh.status();
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('"connect_timeout":"1s"', '"connect_timeout":"2s"'));
    await mesh.generationAfter(generation);
    for (const path of ['/strict', '/logical']) {
      await kernels({ path });
      const before = await streams();
      for (let i = 0; i < 5; i++) await same({ path });
      assert.deepEqual(await streams(), { kernel: before.kernel + 5, proxy: before.proxy });
    }
    dns.answers.set('strict.test', [B!]);
    await lead('/strict', B!);
    await kernels({ path: '/strict' });
  });

  test('the instance ends', async () => {
    assert.equal(await mesh.stop(), 0);
  });
});
