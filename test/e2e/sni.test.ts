/** Connections routed by their ClientHello: the endpoint, and every byte, are those of Envoy alone. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { Authority, readCertificate } from './certificates.js';
import { Client, cluster, Echo, type Outcome, type TlsJob, tcpListener } from './connection-world.js';
import { eventually } from './eventually.js';
import { GREETING, tlsServer } from './tls-world.js';
import { ALONE, MESH, skip } from './world.js';

const INSPECTOR = {
  name: 'tls',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};

type Case = readonly [what: string, job: Omit<TlsJob, 'to' | 'port'>, server: string | undefined, kernel: boolean];

describe('connections routed by their ClientHello', { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sidestep: SidestepHandle;
  let inside: Client;
  let outside: Client;
  let file: string;
  let plain: Echo;
  const port: Record<string, number> = {};
  const servers: Record<string, number> = {};

  function listener(name: string, address: string, chains: readonly [JsonObject | undefined, string][]): JsonObject {
    const made = tcpListener(name, address, port[name]!, { cluster: name });
    const [chain] = tcpListener(name, address, 1, {}).filter_chains as JsonObject[];
    const [filter] = chain!.filters as JsonObject[];
    const config = filter!.typed_config as JsonObject;
    return {
      ...made,
      listener_filters: [INSPECTOR],
      filter_chains: chains.map(([match, to]) => ({
        ...(match ? { filter_chain_match: match } : {}),
        filters: [{ ...filter, typed_config: { ...config, stat_prefix: to, cluster: to } }],
      })),
    };
  }

  function bootstrap(address: string, wild = 'wild'): JsonObject {
    const to = (name: string, target = name) => cluster(name, [['127.0.0.1', servers[target] ?? plain.port]]);
    return {
      static_resources: {
        listeners: [
          listener('names', address, [
            [{ server_names: ['a.test', 'b.test'] }, 'a'],
            [{ server_names: ['*.test'] }, 'wild'],
            [{ server_names: ['*.deep.test'] }, 'deep'],
            [{ server_names: ['raw.test'], transport_protocol: 'raw_buffer' }, 'a'],
            [{ server_names: ['two.test'], transport_protocol: 'tls', application_protocols: ['h2'] }, 'h2'],
            [{ server_names: ['two.test'], transport_protocol: 'tls' }, 'a'],
          ]),
          listener('protocols', address, [
            [{ transport_protocol: 'tls', application_protocols: ['h2'] }, 'h2'],
            [{ transport_protocol: 'tls', application_protocols: ['http/1.1', 'other'] }, 'a'],
            [undefined, 'plain'],
          ]),
        ],
        clusters: [to('a'), to('wild', wild), to('deep'), to('h2'), to('plain')],
      },
    };
  }

  before(async () => {
    lab = await Lab.open('sni');
    const authority = await Authority.make(lab.dir, 'authority');
    const certificate = await readCertificate(await authority.sign('server', 'DNS:*.test'));
    for (const name of ['a', 'wild', 'deep', 'h2', 'later']) servers[name] = await tlsServer(lab, name, certificate);
    plain = await Echo.start(lab, 'plain');
    [port.names, port.protocols] = (await freePorts(2)) as [number, number];
    file = join(lab.dir, 'bootstrap.json');
    await writeFile(file, JSON.stringify(bootstrap(MESH)));
    await startEnvoy(lab, 'alone', bootstrap(ALONE));
    sidestep = await startSidestep(lab, [file]);
    outside = await Client.start(lab, undefined, [], 'tls-client.py');
    inside = await Client.start(lab, sidestep, [], 'tls-client.py');
  });
  after(() => lab?.close());

  const routed = async () => (await sidestep.status()).routed;
  const seen = ({ size, digest, head, end, error }: Outcome) => ({ size, digest, head, end, error });

  /** The same through both; who decided. */
  async function same(listener: string, job: Omit<TlsJob, 'to' | 'port'>, kernel: boolean): Promise<Outcome> {
    const full = { greeting: GREETING, ...job, port: port[listener]! };
    const a = await outside.run({ ...full, to: ALONE });
    const before = await routed();
    const m = await inside.run({ ...full, to: MESH });
    assert.deepEqual(seen(m), seen(a), JSON.stringify([m, a]));
    const now = await routed();
    assert.deepEqual([now.kernel - before.kernel, now.proxy - before.proxy], kernel ? [1, 0] : [0, 1], 'who decided');
    return m;
  }

  const text = 'x'.repeat(100);
  const NAMES: readonly Case[] = [
    ['an exact name', { name: 'a.test', send: text }, 'a', true],
    ['another one of the same chain', { name: 'b.test', send: text }, 'a', true],
    ['upper case', { name: 'A.TeSt', send: text }, 'a', true],
    ['a wildcard', { name: 'c.test', send: text }, 'wild', true],
    ['the longer wildcard', { name: 'x.y.deep.test', send: text }, 'deep', true],
    ['the name that a wildcard is about', { name: 'deep.test', send: text }, 'wild', true],
    ['a name of no chain', { name: 'a.other' }, undefined, false],
    ['a name whose chain is for other transports', { name: 'raw.test' }, undefined, false],
    ['no name', {}, undefined, false],
    ['a protocol', { name: 'two.test', protocols: ['x', 'h2'], send: text }, 'h2', true],
    ['no such protocol', { name: 'two.test', protocols: ['x', 'http/1.1'], send: text }, 'a', true],
    ['a ClientHello in pieces', { name: 'a.test', cut: 100, send: text }, 'a', false],
    ['a ClientHello of many KiB', { name: 'c.test', protocols: many(20), send: text }, 'wild', true],
    ['one that the kernel does not look at', { name: 'c.test', protocols: many(159), send: text }, 'wild', false],
    ['8 MiB both ways', { name: 'a.test', send: 'y'.repeat(1024), times: 8192 }, 'a', true],
  ];
  for (const [what, job, server, kernel] of NAMES)
    test(`names: ${what}`, async () => {
      const m = await same('names', job, kernel);
      assert.equal(m.head?.split(' ')[0], server, JSON.stringify(m));
    });

  const hex = (value: string) => Buffer.from(value).toString('hex');
  const PROTOCOLS: readonly Case[] = [
    ['the first of two', { protocols: ['h2', 'http/1.1'], send: text }, 'h2', true],
    ['the second', { protocols: ['http/1.1', 'h2'], send: text }, 'a', true],
    ['with a name', { name: 'any.where', protocols: ['other'], send: text }, 'a', true],
    ['what begins with text', { pieces: [hex('GET / HTTP/1.1\r\n\r\n')] }, 'plain', true],
    ['one byte, then more', { pieces: [hex('G'), hex('ET / HTTP/1.1\r\n\r\n')] }, 'plain', false],
    ['bytes that are neither', { pieces: ['00112233445566778899'] }, 'plain', false],
    ['silence at first', { pieces: [hex('hello to you all')], wait: 1.3 }, 'plain', false],
  ];
  for (const [what, job, server, kernel] of PROTOCOLS)
    test(`protocols: ${what}`, async () => {
      const counted = what !== 'silence at first';
      const m = counted
        ? await same('protocols', job, kernel)
        : await inside.run({ ...job, to: MESH, port: port.protocols! });
      assert.equal(m.head?.split(' ')[0], server, JSON.stringify(m));
    });

  test('connections live on when the policy changes, new ones follow it', async () => {
    const job = { to: MESH, port: port.names!, name: 'c.test', greeting: GREETING, send: text };
    const kept = await inside.run({ ...job, keep: 'kept' });
    assert.match(kept.head ?? '', /^wild /, JSON.stringify(kept));
    await writeFile(file, JSON.stringify(bootstrap(MESH, 'later')));
    await eventually(async () => assert.match((await inside.run(job)).head ?? '', /^later /));
    const again = await inside.run({ to: MESH, port: port.names!, of: 'kept', send: text, times: 1000 });
    assert.equal(again.size, text.length * 1000, JSON.stringify(again));
  });
});

/** So many long protocols: a hundred bytes each. */
function many(count: number): string[] {
  return ['h2', ...Array.from({ length: count }, (_, i) => `p${i}`.padEnd(99, '-'))];
}
