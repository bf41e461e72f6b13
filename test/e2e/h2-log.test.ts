/** Access logs of streams: the lines of Envoy alone and of the kernel's about the same requests, operator by operator. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { TYPE } from '../plan/resources.js';
import { logBootstrap, logs } from './access-log-config.js';
import { differ, type Lines, textLines } from './access-log-lines.js';
import { type Call, callsOf } from './h2-calls.js';
import { ALONE, MESH, skip } from './world.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'h2-calls.ts');

const tries = new Map<string, number>();
/** How a server's streams were ended, by id and who asked. */
const codes = new Map<string, number>();

/** Answers as the last part of the path says. */
async function answer(stream: ServerHttp2Stream, path: string, id: string): Promise<void> {
  const [, how = '', size = '0'] = /\/([a-z]+)-?(\d*)(?:\?.*)?$/.exec(path) ?? [];
  const began = (tries.get(id) ?? 0) + 1;
  tries.set(id, began);
  stream.on('error', () => undefined);
  stream.on('close', () => codes.set(id, stream.rstCode ?? 0));
  stream.resume();
  if (how === 'reset') return stream.close(8);
  if (how === 'refuse') return stream.close(7);
  if (how === 'close') return stream.session?.destroy();
  if (how === 'never') return;
  if (how !== 'early') await new Promise((resolve) => stream.once('end', resolve));
  if (how === 'fails' && began === 1) return stream.respond({ ':status': 503 }, { endStream: true });
  if (how === 'interim') stream.additionalHeaders({ ':status': 103, link: '</a>' });
  if (how === 'head') return stream.respond({ ':status': 204, 'content-type': 'text/plain' }, { endStream: true });
  stream.respond(
    { ':status': 201, 'content-type': 'application/grpc', 'x-two': ['a', 'b'] },
    { waitForTrailers: true },
  );
  stream.on('wantTrailers', () => {
    if (how !== 'late') stream.sendTrailers({ 'grpc-status': '0' });
  });
  if (how === 'late') return void stream.write('begun', () => setTimeout(() => stream.close(8), 20));
  if (how === 'cut') return void stream.write('begun', () => setTimeout(() => stream.session?.destroy(), 20));
  if (how === 'half') return void stream.write('half');
  stream.end(Buffer.alloc(Number(size) || 10));
}

interface Case extends Call {
  readonly id: string;
  /** whose it is, where it is not the kernel's */
  readonly proxy?: true;
}

const TEXT = { 'content-type': 'text/plain' };
const CASES: readonly Case[] = [
  { id: 'plain', path: '/x.Cart/echo?q=1' },
  { id: 'text', path: '/x.Cart/echo', headers: TEXT },
  { id: 'get', path: '/x.Cart/echo-300', headers: { ...TEXT, ':method': 'GET' }, size: 0 },
  { id: 'post', path: '/x.Cart/echo', size: 12_345 },
  { id: 'up', path: '/x.Cart/echo', size: 400_000 },
  { id: 'down', path: '/x.Cart/echo-900000' },
  { id: 'headers', path: '/x.Cart/echo', headers: { 'user-agent': 'a "quoted" agent, long', 'x-two': 'one', 'x-forwarded-for': '10.1.2.3, 192.168.7.9', 'x-request-id': '11111111-2222-4333-8444-555555555555' } }, // biome-ignore format: one case a line
  { id: 'cookies', path: '/x.Cart/echo', headers: { cookie: ['a=b', 'c=d'], 'x-two': ['one', 'two'] } },
  { id: 'cookie-none', path: '/direct', headers: { cookie: ['a=b', 'c=d'] } },
  { id: 'within', path: '/x.Cart/echo', headers: { 'grpc-timeout': '10S' } },
  { id: 'nothing', path: '/x.Cart/head' },
  { id: 'interim', path: '/x.Cart/interim' },
  { id: 'early', path: '/x.Cart/early-20', open: true },
  { id: 'told', path: '/told/echo' },
  { id: 'told-down', path: '/told/echo-400000', headers: TEXT },
  { id: 'told-late', path: '/told/late' },
  { id: 'told-reset', path: '/told/reset', headers: TEXT },
  { id: 'told-left', path: '/told/half', resetMs: 100 },
  { id: 'redirect', path: '/elsewhere?x=y', headers: TEXT },
  { id: 'direct', path: '/direct' },
  { id: 'direct-text', path: '/direct', headers: TEXT },
  { id: 'direct-head', path: '/direct', headers: { ...TEXT, ':method': 'HEAD' }, size: 0 },
  { id: 'direct-open', path: '/direct', headers: TEXT, open: true },
  { id: 'none', path: '/none', headers: { ':authority': 'nobody.test' } },
  { id: 'rewritten', path: '/long/way/echo?z' },
  { id: 'added', path: '/added/x.Cart/echo' },
  { id: 'weighted', path: '/weighted/x.Cart/echo' },
  { id: 'denied', path: '/x.Cart/echo', headers: { 'x-rbac': 'c and b' } },
  { id: 'denied-text', path: '/x.Cart/echo', headers: { ...TEXT, 'x-rbac': 'a b' } },
  { id: 'not-allowed', path: '/x.Cart/echo', headers: { 'x-rbac': 'd' } },
  { id: 'allowed', path: '/x.Cart/echo', headers: { 'x-rbac': 'c' } },
  { id: 'reset', path: '/x.Cart/reset' },
  { id: 'reset-text', path: '/x.Cart/reset', headers: TEXT },
  { id: 'refused', path: '/x.Cart/refuse' },
  { id: 'late', path: '/x.Cart/late' },
  { id: 'closed', path: '/x.Cart/close' },
  { id: 'cut', path: '/x.Cart/cut' },
  { id: 'slow', path: '/slow/x.Cart/never' },
  { id: 'slow-text', path: '/slow/x.Cart/never', headers: TEXT },
  { id: 'slow-half', path: '/slow/x.Cart/half' },
  { id: 'slow-lasting', path: '/lasting/never' },
  { id: 'slow-lasting-half', path: '/lasting/half', headers: TEXT },
  { id: 'slow-idle', path: '/idle/never', open: true },
  { id: 'slow-idle-half', path: '/idle/half' },
  { id: 'left', path: '/x.Cart/never', resetMs: 100 },
  { id: 'left-half', path: '/x.Cart/half', resetMs: 100 },
  { id: 'left-open', path: '/x.Cart/never', resetMs: 100, open: true, size: 2000 },
  { id: 'retried', path: '/again/x.Cart/fails' },
  { id: 'slow-again', path: '/again/x.Cart/never' },
  { id: 'gone', path: '/x.Cart/half', goneMs: 100 },
];

const manager = (listener: JsonObject): JsonObject =>
  (listener.filter_chains as { filters: { typed_config: JsonObject }[] }[])[0]!.filters[0]!.typed_config;

/** The bootstrap of HTTP/1.1's test, with servers that speak HTTP/2, and times. */
function bootstrap(p: Parameters<typeof logBootstrap>[0]): JsonObject {
  const { listeners, clusters } = logBootstrap(p).static_resources as Record<'listeners' | 'clusters', JsonObject[]>;
  const hcm = manager(listeners[0]!);
  hcm.http_filters = (hcm.http_filters as JsonObject[]).filter(({ name }) => name !== 'envoy.filters.http.fault');
  const [host] = (hcm.route_config as { virtual_hosts: { routes: JsonObject[] }[] }).virtual_hosts;
  host!.routes.unshift(
    {
      match: { prefix: '/told/' },
      route: { cluster: 'up' },
      response_headers_to_add: [
        { header: { key: 'content-type', value: 'text/odd' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    },
    { match: { prefix: '/lasting/' }, route: { cluster: 'up', max_stream_duration: { max_stream_duration: '0.6s' } } },
    { match: { prefix: '/idle/' }, route: { cluster: 'up', timeout: '0s', idle_timeout: '0.6s' } },
    {
      match: { prefix: '/again/' },
      route: {
        cluster: 'up',
        timeout: '0.6s',
        retry_policy: { retry_on: 'unavailable,5xx', num_retries: 2, retry_back_off: { base_interval: '0.001s' } },
      },
    },
  );
  for (const cluster of clusters) {
    cluster.circuit_breakers = { thresholds: [{ max_retries: 1024 }] };
    cluster.typed_extension_protocol_options = {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': TYPE.protocolOptions,
        explicit_http_config: { http2_protocol_options: {} },
      },
    };
  }
  return { static_resources: { listeners, clusters } };
}

test('access logs of streams are those of Envoy', { skip, timeout: 60_000 }, async () => {
  const lab = await Lab.open('h2-log');
  const server = createServer();
  try {
    server.on('sessionError', () => undefined);
    server.on('stream', (stream, headers) => {
      void answer(stream, headers[':path']!, `${headers['x-id']} ${headers['x-who']}`).catch(() => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const [port, upstream] = [await freePort(), (server.address() as AddressInfo).port];
    const of = (address: string, who: string): JsonObject =>
      bootstrap({ address, port, upstream, logs: logs((kind) => join(lab.dir, `${who}-${kind}`)) });
    const file = join(lab.dir, 'mesh.json');
    await writeFile(file, JSON.stringify(of(MESH, 'mesh')));
    const [mesh, alone] = await Promise.all([
      startSidestep(lab, [file], { args: ['--http2'] }),
      startEnvoy(lab, 'alone', of(ALONE, 'alone')),
    ]);
    const options = { stdin: true } as const;
    const inside = await callsOf(mesh.start('inside', [...nodeScript(CLIENT), `http://${MESH}:${port}`], options));
    const outside = await callsOf(lab.start('outside', [...nodeScript(CLIENT), `http://${ALONE}:${port}`], options));
    const streams = async () => (await mesh.status()).streams!;
    let warm = 0;
    const wrong: string[] = [];
    for (const { id, proxy, headers, ...call } of CASES) {
      // a server's connection that has ended is opened anew
      for (let before = (await streams()).kernel; (await streams()).kernel === before; await sleep(20))
        await inside({ path: '/x.Cart/echo', headers: { ':authority': 'load.test', 'x-id': `warm-${warm++}` } });
      const own = { ...call, headers: { ':authority': 'load.test', ...headers, 'x-id': id } };
      const before = await streams();
      const gone = (): undefined => undefined;
      const [a, b] = await Promise.all([
        inside(own).catch(gone),
        outside({ ...own, headers: { ...own.headers, 'x-who': 'alone' } }).catch(gone),
      ]);
      const keys = [`${id} undefined`, `${id} alone`] as const;
      for (let n = 0; n < 100 && codes.has(keys[0]) !== codes.has(keys[1]); n++) await sleep(5);
      const [x, y] = keys.map((key) => codes.get(key));
      // a client's own connections to servers end with it
      if (x !== y && own.goneMs === undefined) wrong.push(`${id}: the server was told ${x}, not ${y}`);
      const after = await streams();
      if (!isDeepStrictEqual(a, b)) wrong.push(`${id}: ${JSON.stringify([a, b])}`);
      if (after.kernel - before.kernel !== (proxy ? 0 : 1)) wrong.push(`${id}: who decides`);
    }
    await sleep(100);
    const { log } = (await mesh.status()) as unknown as { log: { lines: number; lost: number } };
    assert.equal(await mesh.stop(), 0);
    await alone.process.stop();
    const both = async (kind: string): Promise<[Lines, Lines]> => [
      await textLines(join(lab.dir, `mesh-${kind}`)),
      await textLines(join(lab.dir, `alone-${kind}`)),
    ];
    const [own, envoys] = await both('text');
    for (const { id } of CASES) {
      if (!own.has(id)) wrong.push(`no line about ${id}`);
      // written by the proxy, about its own tries
      else if (id !== 'retried') wrong.push(...differ(id, own.get(id), envoys.get(id)));
    }
    const failures = (await both('failures')).map((lines) =>
      [...lines.keys()].filter((id) => !/^warm/.test(id)).sort(),
    );
    assert.equal(wrong.join('\n'), '');
    assert.deepEqual(failures[0], failures[1]);
    assert.equal(log.lost, 0, 'lines were lost');
    assert.ok(log.lines / 5 > CASES.length * 0.9, `only ${log.lines} lines in 5 logs for ${CASES.length} cases`);
  } finally {
    await lab.close();
    server.close();
  }
});
