/**
 * What belongs to a request as a whole: headers of traces pass as they are whichever way it goes, and limits on the time that
 * a stream may be idle, or last at all, strike as they do in Envoy (the latter are the proxy's to keep).
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { type PlainListener, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import type { Echo } from '../differential/echo-server.js';
import { allInKernel } from './in-kernel.js';
import { visible } from './odd-cases.js';
import { ALONE, bodyOf, MESH, one, request, skip, World } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const ECHO = join(HERE, '../differential/echo-server.ts');
const SLOW = join(HERE, '../rules/programs/server.py');

const TRACES: HeaderList = [
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
  ['tracestate', 'congo=t61rcWkgMzE,rojo=00f067aa0ba902b7'],
  ['baggage', 'userId=alice,serverNode=DF%2028'],
  ['b3', '80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90'],
  ['X-B3-TraceId', '80f198ee56343ba864fe8b2a57d3eff7'],
  ['X-B3-SpanId', 'e457b5a2e4d86bd1'],
  ['X-B3-ParentSpanId', '05e3ac9a4f6e3b90'],
  ['X-B3-Sampled', '1'],
  ['X-B3-Flags', '1'],
  ['X-Cloud-Trace-Context', '105445aa7843bc8bf206b12000100000/1;o=1'],
  ['X-Ot-Span-Context', 'abc'],
];

describe('headers of traces', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;
  let ports: number[];

  before(async () => {
    lab = await Lab.open('traces');
    ports = await freePorts(3);
    const [port, plain, bypass] = ports as [number, number, number];
    const edit = [{ header: { key: 'x-gen', value: '1' } }];
    const when = [{ header: { key: 'x-when', value: '%START_TIME%' } }];
    const routes = [
      { match: { prefix: '/proxy' }, route: { cluster: 'plain' }, request_headers_to_add: when },
      { match: { prefix: '/bypass' }, route: { cluster: 'bypass' }, request_headers_to_add: edit },
      { match: { prefix: '/' }, route: { cluster: 'plain' }, request_headers_to_add: edit },
    ];
    const config = (address: string): JsonObject =>
      plainBootstrap(
        [{ name: 'traces', address, port, routes }],
        [
          { name: 'plain', ports: [plain] },
          { name: 'bypass', ports: [bypass] },
        ],
      );
    await startEnvoy(lab, 'envoy', config(ALONE));
    const file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(config(MESH)));
    sidestep = await startSidestep(lab, [file]);
    await lab.start('plain', [...nodeScript(ECHO), `s=${plain}`]).waitFor(/listening/);
    await sidestep.start('bypass', [...nodeScript(ECHO), `s=${bypass}`]).waitFor(/listening/);
    inside = await Driver.of(sidestep.start('client', RAW_CLIENT, { stdin: true }));
    outside = await Driver.of(lab.start('client outside', RAW_CLIENT, { stdin: true }));
  });
  after(() => lab?.close());

  /** The trace headers that arrived, in their order, and the path that said where. */
  const arrived = async (driver: Driver, address: string, method: string, path: string, body?: Buffer) => {
    const chunked: HeaderList = body ? [['Transfer-Encoding', 'chunked']] : [];
    const pieces = [request(`${method} ${path} HTTP/1.1`, [...TRACES, ...chunked], body ?? '')];
    const result = await driver.run({ address, port: ports[0]!, exchanges: [{ pieces, methods: [method] }] });
    assert.equal(result.error, undefined);
    assert.equal(result.answers[0]?.status, 200);
    const known = new Set(TRACES.map(([name]) => name.toLowerCase()));
    return bodyOf<Echo>(result).headers.filter(([name]) => known.has(name.toLowerCase()));
  };
  const folded = (headers: HeaderList): HeaderList => headers.map(([name, value]) => [name.toLowerCase(), value]);

  for (const [way, method, path, body] of [
    ['the kernel', 'GET', '/kernel', undefined],
    ['socket to socket', 'GET', '/bypass', undefined],
    ['the proxy', 'GET', '/proxy', undefined],
    ['the agent', 'POST', '/kernel', Buffer.from('3\r\nabc\r\n0\r\n\r\n')],
  ] as const)
    test(`by way of ${way}`, async () => {
      // the first request finds no idle connection to the server
      if (method === 'GET' && path !== '/proxy')
        await allInKernel(sidestep, 1, () => arrived(inside, MESH, method, path, body));
      else await arrived(inside, MESH, method, path, body);
      const before = await sidestep.status();
      const ours = await arrived(inside, MESH, method, path, body);
      const now = await sidestep.status();
      const grown = (of: 'kernel' | 'proxy'): number => now.requests[of] - before.requests[of];
      if (way === 'the proxy' || way === 'the agent') assert.equal(grown('proxy'), 1);
      else assert.equal(grown('kernel'), 1);
      if (way === 'socket to socket')
        assert.equal(now.bypassed - before.bypassed, process.env.SIDESTEP_TEST_INTAKE === 'listener' ? 0 : 1);
      assert.deepEqual(folded(ours), folded(TRACES));
      assert.deepEqual(folded(await arrived(outside, ALONE, method, path, body)), folded(TRACES));
    });
});

const REQUEST_TIME = 'the time for a request';
const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/** Listeners by the limit that they have; each has one route to a server that answers late, or stops in the middle. */
const LIMITS: Readonly<Record<string, { readonly route?: JsonObject; readonly manager?: JsonObject }>> = {
  'the idle timeout of a route': { route: { timeout: '30s', idle_timeout: '0.25s' } },
  'the idle timeout of a route without timeout': { route: { timeout: '0s', idle_timeout: '0.25s' } },
  'the idle timeout of a listener': { route: { timeout: '30s' }, manager: { stream_idle_timeout: '0.25s' } },
  'the longest stream of a route': { route: { timeout: '30s', max_stream_duration: { max_stream_duration: '0.25s' } } },
  'the longest stream of a listener': {
    route: { timeout: '30s' },
    manager: { common_http_protocol_options: { max_stream_duration: '0.25s' } },
  },
  'the longest stream of a cluster': { route: { timeout: '30s', cluster: 'short' } },
  [REQUEST_TIME]: { route: { timeout: '30s' }, manager: { request_timeout: '0.25s' } },
};

describe('limits on the time of a stream', { skip, timeout: 120_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;
  let ports: number[];

  const config = (address: string, upstream: number): JsonObject => {
    const listeners = Object.entries(LIMITS).map(
      ([name, { route, manager }], i): PlainListener => ({
        ...{ name, address, port: ports[i]!, ...(manager ? { manager } : {}) },
        routes: [{ match: { prefix: '/' }, route: { cluster: 'server', ...route } }],
      }),
    );
    const short = {
      typed_extension_protocol_options: {
        [OPTIONS]: {
          '@type': `type.googleapis.com/${OPTIONS}`,
          common_http_protocol_options: { max_stream_duration: '0.25s' },
          explicit_http_config: { http_protocol_options: {} },
        },
      },
    };
    return plainBootstrap(listeners, [
      { name: 'server', ports: [upstream] },
      { name: 'short', ports: [upstream], more: short },
    ]);
  };

  before(async () => {
    world = await World.open('streams');
    const [upstream, ...free] = (await freePorts(Object.keys(LIMITS).length + 1)) as [number, ...number[]];
    ports = free;
    await world.lab.start('server', ['python3', SLOW, '127.0.0.1', String(upstream)]).waitFor(/listening/);
    await startEnvoy(world.lab, 'envoy alone', config(ALONE, upstream));
    await world.writeText(JSON.stringify(config(MESH, upstream)));
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(() => world?.close());

  for (const [i, name] of Object.keys(LIMITS).entries())
    test(name, async (t) => {
      const seen: unknown[] = [];
      // the time for a request ends when it has come: answers may take as long as they want
      const ends = name !== REQUEST_TIME;
      for (const path of ['/echo/a', '/wait/50/b', '/wait/900/c', ...(ends ? ['/half/length', '/half/chunked'] : [])]) {
        // the second time connections to the server are there
        for (let again = 0; again < 2; again++) {
          const job = { ...one(MESH, ports[i]!, 'GET', path), timeoutMs: 4000 };
          const [ours, alone] = await Promise.all([inside.run(job), outside.run({ ...job, address: ALONE })]);
          assert.notEqual(ours.error, 'timeout', `${path} hangs`);
          assert.deepEqual(visible(ours), visible(alone), path);
          if (!again) seen.push([path, alone.answers[0]?.status ?? alone.error]);
        }
      }
      t.diagnostic(JSON.stringify(seen));
    });

  test('only idle times are the kernel’s', async () => {
    const { rules, requests } = await sidestep.status();
    assert.equal(rules.kernel, Object.keys(LIMITS).filter((name) => name.includes('idle')).length);
    assert.ok(requests.kernel > 0);
  });
});
