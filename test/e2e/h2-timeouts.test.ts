/** How long streams may take: routes' timeouts, grpc-timeout, durations and idle streams, in the kernel as by Envoy alone. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { TYPE } from '../plan/resources.js';
import { type Call, type Called, callsOf } from './h2-calls.js';
import { ALONE, MESH, skip } from './world.js';

const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'h2-calls.ts');

/** What a server was told of the time, and how its stream ended. */
interface Told {
  readonly timeout: string | undefined;
  readonly expected: string | undefined;
  code: number | undefined;
}

/** Answers as the method says: /…/Fast at the request's end, /…/Half never to the end, /…/Drip in pieces, /…/Never. */
class Server {
  readonly told: Told[] = [];
  readonly own: Http2Server = createServer();
  constructor() {
    this.own.on('sessionError', () => undefined);
    this.own.on('stream', (stream, headers) => {
      const seen: Told = {
        timeout: headers['grpc-timeout'] as string | undefined,
        expected: headers['x-envoy-expected-rq-timeout-ms'] as string | undefined,
        code: undefined,
      };
      this.told.push(seen);
      stream.on('error', () => undefined);
      stream.on('close', () => {
        seen.code = stream.rstCode;
      });
      stream.resume();
      void this.#answer(stream, headers[':path']!.split('/').at(-1)!);
    });
  }

  async #answer(stream: ServerHttp2Stream, how: string): Promise<void> {
    if (how === 'Never') return;
    // an answer that is complete before its request makes Envoy reset the stream
    if (how === 'Fast') await new Promise((resolve) => stream.once('end', resolve));
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: how !== 'Half' });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    if (how === 'Half') stream.write('half');
    if (how === 'Drip') for (let i = 0; i < 8 && !stream.destroyed; i++, await sleep(100)) stream.write('x');
    if (how !== 'Half' && !stream.destroyed) stream.end('all');
  }
}

const ROUTES: Readonly<Record<string, JsonObject>> = {
  whole: { timeout: '0.4s' },
  grpc: { timeout: '0.4s', max_grpc_timeout: '0.4s' },
  free: { timeout: '0s', max_grpc_timeout: '0s' },
  apart: { timeout: '0.4s', max_grpc_timeout: '0s' },
  lasting: { max_stream_duration: { max_stream_duration: '0.4s' } },
  header: { max_stream_duration: { grpc_timeout_header_max: '0.5s' } },
  both: { max_stream_duration: { max_stream_duration: '0.3s', grpc_timeout_header_max: '0s' } },
  idle: { timeout: '0s', idle_timeout: '0.4s' },
  try: { timeout: '2s', retry_policy: { per_try_timeout: '0.3s' } },
  tries: { timeout: '2s', retry_policy: { retry_on: '5xx', num_retries: 1, per_try_timeout: '0.3s' } },
  short: { timeout: '0.5s', retry_policy: { retry_on: 'reset', num_retries: 3, per_try_timeout: '0.3s' } },
  mesh: {
    timeout: '0s',
    max_grpc_timeout: '0s',
    retry_policy: { retry_on: 'reset,unavailable', num_retries: 1, per_try_timeout: '0.3s' },
  },
};

const PLAIN = { 'content-type': 'text/plain' };
const within = (time: string, more: Record<string, string> = {}) => ({ 'grpc-timeout': time, ...more });
type Case = readonly [path: string, headers?: Record<string, string>, more?: { open?: boolean; proxy?: boolean }];
const CASES: readonly Case[] = [
  ...(['Never', 'Half', 'Fast', 'Drip'] as const).flatMap((how): Case[] => [
    [`/whole/${how}`, PLAIN],
    [`/grpc/${how}`],
  ]),
  ['/whole/Never'],
  ['/whole/Fast', within('10S')],
  ['/grpc/Never', PLAIN],
  ['/grpc/Fast', within('10S')],
  ['/grpc/Never', within('150m')],
  ['/grpc/Never', within('150001u')],
  ['/grpc/Half', within('99000001n')],
  ['/free/Fast'],
  ['/free/Fast', within('1H')],
  ['/free/Fast', within('2M')],
  ['/free/Fast', within('10S', PLAIN)],
  ['/free/Never', within('200m')],
  ['/free/Drip', within('300m')],
  ['/apart/Fast'],
  ['/apart/Fast', within('3S')],
  ['/free/Fast', within('0S'), { proxy: true }],
  ['/free/Fast', within('99H'), { proxy: true }],
  ['/free/Fast', within('soon'), { proxy: true }],
  ['/lasting/Never'],
  ['/lasting/Never', PLAIN],
  ['/lasting/Never', PLAIN, { open: true }],
  ['/lasting/Never', {}, { open: true }],
  ['/lasting/Drip'],
  ['/lasting/Fast', within('10S')],
  ['/header/Never', within('9S')],
  ['/header/Half', within('200m')],
  ['/header/Never', within('200m', PLAIN)],
  ['/header/Fast'],
  ['/both/Never'],
  ['/both/Fast', within('4S')],
  ['/idle/Never'],
  ['/idle/Never', PLAIN, { open: true }],
  ['/idle/Half'],
  ['/idle/Drip'],
  ...['try', 'tries', 'short', 'mesh'].flatMap((route): Case[] =>
    ['Never', 'Half', 'Fast'].flatMap((how): Case[] =>
      route === 'mesh' && how === 'Half' ? [] : [[`/${route}/${how}`], [`/${route}/${how}`, PLAIN]],
    ),
  ),
  ['/mesh/Fast', within('10S')],
  ['/mesh/Fast', within('200m')],
  ['/mesh/Never', within('200m')],
  ['/mesh/Never', within('400m')],
];

describe('times of streams', { skip, timeout: 60_000 }, () => {
  let lab: Lab;
  let mesh: SidestepHandle;
  const servers = [new Server(), new Server()] as const;
  const clients: ((call: Call) => Promise<Called>)[] = [];

  before(async () => {
    lab = await Lab.open('h2-timeouts');
    const port = await freePort();
    const bootstrap = (address: string, server: Server): JsonObject => {
      const routes = Object.entries(ROUTES).map(([name, route]) => ({
        match: { prefix: `/${name}/` },
        route: { cluster: 'calls', ...route },
      }));
      const more = {
        circuit_breakers: { thresholds: [{ max_retries: 1024 }] },
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': TYPE.protocolOptions,
            explicit_http_config: { http2_protocol_options: {} },
          },
        },
      };
      const ports = [(server.own.address() as AddressInfo).port];
      const manager = { stream_idle_timeout: '0s' };
      return plainBootstrap([{ name: 'calls', address, port, routes, manager }], [{ name: 'calls', ports, more }]);
    };
    for (const { own } of servers) await new Promise<void>((resolve) => own.listen(0, '127.0.0.1', resolve));
    const file = join(lab.dir, 'mesh.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH, servers[0])));
    [mesh] = await Promise.all([
      startSidestep(lab, [file], { args: ['--http2'] }),
      startEnvoy(lab, 'alone', bootstrap(ALONE, servers[1])),
    ]);
    const options = { stdin: true } as const;
    clients.push(
      await callsOf(mesh.start('inside', [...nodeScript(CLIENT), `http://${MESH}:${port}`], options)),
      await callsOf(lab.start('outside', [...nodeScript(CLIENT), `http://${ALONE}:${port}`], options)),
    );
  });

  after(async () => {
    await lab?.close();
    for (const { own } of servers) own.close();
  });

  const streams = async () => (await mesh.status()).streams!;

  /** What a case leads to by one of both, with what its server saw. */
  async function outcome(i: 0 | 1, [path, headers = {}, { open = false } = {}]: Case): Promise<unknown> {
    const { told } = servers[i];
    const before = told.length;
    const began = performance.now();
    const called = await clients[i]!({ path, headers, open });
    const took = performance.now() - began;
    for (let n = 0; n < 100 && told.slice(before).some(({ code }) => code === undefined); n++) await sleep(5);
    // of a second try, what is left of the whole time is told by the proxy in its own way
    const seen = told.slice(before).map((one, i) => (i === 0 ? one : { code: one.code }));
    // how much of an answer in pieces has come is a matter of milliseconds
    const body = path.endsWith('Drip') ? called.body.slice(0, 2) : called.body;
    return { called: { ...called, body }, told: seen, early: !path.endsWith('Fast') && took < 80 };
  }

  test('end as by Envoy alone, and the kernel decides', async () => {
    for (let before = await streams(); (await streams()).kernel === before.kernel; await sleep(20))
      await clients[0]!({ path: '/free/Fast' });
    const differ: string[] = [];
    for (const one of CASES) {
      const before = await streams();
      const [own, alone] = await Promise.all([outcome(0, one), outcome(1, one)]);
      const after = await streams();
      const decided = after.kernel - before.kernel === (one[2]?.proxy ? 0 : 1);
      if (!isDeepStrictEqual(own, alone)) differ.push(`${JSON.stringify({ one, own, alone })}`);
      if (!decided) differ.push(`${JSON.stringify(one)}: who decides`);
    }
    assert.equal(differ.join('\n'), '');
  });
});
