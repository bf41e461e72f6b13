/** Access logs: the lines of Envoy alone and of Sidestep about the same requests, operator by operator. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { sleep } from '../../src/lab/processes.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import { DEFAULT_FORMAT } from '../../src/plan/log-format.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { logBootstrap, logs } from './access-log-config.js';
import { differ, type Lines, settled, textLines } from './access-log-lines.js';
import { ALONE, MESH, request, skip, World } from './world.js';

interface Case {
  readonly id: string;
  readonly method?: string;
  readonly path: string;
  readonly headers?: [string, string][];
  readonly body?: string;
  /** the client leaves after so many milliseconds */
  readonly abandonMs?: number;
  /** who decides it; only for those that are to be the kernel's */
  readonly kernel?: false;
}

const CASES: readonly Case[] = [
  { id: 'echo', path: '/echo?q=1' },
  { id: 'post', method: 'POST', path: '/echo', body: 'twelve bytes' },
  { id: 'agent', path: '/echo', headers: [['User-Agent', 'a "quoted" agent, quite a long one']] },
  { id: 'forwarded', path: '/echo', headers: [['X-Forwarded-For', '10.1.2.3, 192.168.7.9']] },
  { id: 'odd-forwarded', path: '/echo', headers: [['X-Forwarded-For', 'unknown']] },
  { id: 'request-id', path: '/echo', headers: [['X-Request-Id', '11111111-2222-4333-8444-555555555555']] },
  { id: 'twice', path: '/echo', headers: [['X-Two', 'one'], ['X-Two', 'two']] }, // biome-ignore format: one case a line
  { id: 'bytes', path: '/bytes/3000' },
  { id: 'large', path: '/bytes/2000000' },
  { id: 'head', method: 'HEAD', path: '/bytes/100' },
  { id: 'chunks', path: '/chunks/100/3' },
  { id: 'many-chunks', path: '/chunks/3000/40' },
  { id: 'trailers', path: '/trailers' },
  { id: 'dribble', path: '/dribble' },
  { id: 'interim', path: '/interim' },
  { id: 'close', path: '/close' },
  { id: 'direct', path: '/direct' },
  { id: 'bodiless', path: '/bodiless' },
  { id: 'direct-head', method: 'HEAD', path: '/direct' },
  { id: 'redirect', path: '/old/place?x=y', kernel: false },
  { id: 'elsewhere', path: '/elsewhere?x=y' },
  { id: 'none', path: '/none', headers: [['Host', 'nobody.test']] },
  { id: 'rewritten', path: '/long/way/echo?z' },
  { id: 'added', path: '/added/echo' },
  { id: 'fault', path: '/echo', headers: [['X-Fault', 'yes']] },
  { id: 'denied', path: '/echo', headers: [['X-Rbac', 'c and b']] },
  { id: 'denied-first', path: '/echo', headers: [['X-Rbac', 'any of b and a']] },
  { id: 'not-allowed', path: '/echo', headers: [['X-Rbac', 'd']] },
  { id: 'allowed', path: '/echo', headers: [['X-Rbac', 'c']] },
  { id: 'weighted', path: '/weighted/echo' },
  { id: 'vanish', path: '/vanish' },
  { id: 'vanish-head', path: '/vanish-head' },
  { id: 'reset', path: '/reset' },
  { id: 'vanish-length', path: '/vanish-length' },
  { id: 'vanish-chunked', path: '/vanish-chunked' },
  { id: 'reset-body', path: '/reset-body' },
  { id: 'garbage', path: '/garbage' },
  { id: 'slow', path: '/slow/hold/700' },
  { id: 'gone', path: '/hold/400', abandonMs: 100 },
  { id: 'retried', path: '/again/vanish', kernel: false },
  { id: 'odd', path: '/echo', headers: [['Expect', '100-continue']], kernel: false },
  { id: 'last', path: '/echo' },
];

async function ask(driver: Driver, address: string, port: number, c: Case): Promise<void> {
  const method = c.method ?? 'GET';
  const headers: [string, string][] = [...(c.headers ?? []), ['X-Id', c.id]];
  if (c.body !== undefined) headers.push(['Content-Length', String(c.body.length)]);
  const gone = c.abandonMs === undefined ? {} : { abandon: 'fin' as const, abandonAfterMs: c.abandonMs };
  await driver.run({
    address,
    port,
    exchanges: [{ pieces: [request(`${method} ${c.path} HTTP/1.1`, headers, c.body)], methods: [method], ...gone }],
  });
  await sleep(c.abandonMs === undefined ? 5 : 500);
}

async function jsonLines(file: string): Promise<Lines> {
  const lines: Lines = new Map();
  for (const line of (await readFile(file, 'utf8')).trimEnd().split('\n')) {
    const found = JSON.parse(line) as { id: string; operators: Record<string, unknown> };
    for (const [name, value] of Object.entries(found.operators)) found.operators[name] = settled(found.id, name, value);
    lines.set(found.id, found);
  }
  return lines;
}

/** Lines of the default format, by path and agent; their times and ids as patterns. */
async function defaultLines(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replace(/^\[[-0-9T:.]+Z\]/, '[time]')
        .replace(/( \d+ \S+ \d+ \d+) \d+ (\d+|-) /, '$1 ms ms ')
        .replace(/"[0-9a-f]{8}-[-0-9a-f]{27}"/, '"id"'),
    )
    .sort();
}

const file = (dir: string, kind: string): string => join(dir, `${kind}.log`);

for (const inside of [false, true])
  test(`access logs are those of Envoy, ${inside ? 'socket to socket' : 'server outside'}`, {
    skip,
    timeout: 200_000,
  }, async () => {
    const world = await World.open('access-log');
    try {
      const bootstrap = (address: string, who: string): JsonObject =>
        logBootstrap({
          address,
          port: world.port,
          upstream: world.upstream,
          logs: logs((k) => file(world.lab.dir, `${who}-${k}`)),
        });
      await world.writeText(JSON.stringify(bootstrap(MESH, 'mesh')));
      const alone = await startEnvoy(world.lab, 'envoy alone', bootstrap(ALONE, 'alone'));
      const sidestep = await startSidestep(world.lab, [world.file]);
      if (inside) await world.moveUpstreamInside(sidestep);
      const driver = await world.driver(sidestep);
      const outside = await world.driver();
      for (const c of CASES) {
        // the first opens a connection, so that the kernel finds one
        for (const warm of [true, false]) {
          if (
            warm &&
            (c.kernel === false || c.abandonMs !== undefined || /vanish|reset|close|slow|garbage/.test(c.path))
          ) {
            await ask(driver, MESH, world.port, {
              id: `warm-${c.id}`,
              path: c.path.startsWith('/weighted') ? c.path : '/echo',
            });
            continue;
          }
          await ask(driver, MESH, world.port, warm ? { ...c, id: `warm-${c.id}` } : c);
        }
        await ask(outside, ALONE, world.port, c);
      }
      const before = await sidestep.status();
      assert.equal(await sidestep.stop(), 0);
      await alone.process.stop();

      const kernels = CASES.filter((c) => c.kernel !== false);
      const log = (before as unknown as { log: { lines: number; lost: number; proxied: number } }).log;
      assert.equal(log.lost, 0);
      assert.equal(log.proxied, 0);
      const both = async <T>(kind: string, read: (path: string) => Promise<T>): Promise<[alone: T, mesh: T]> => [
        await read(file(world.lab.dir, `alone-${kind}`)),
        await read(file(world.lab.dir, `mesh-${kind}`)),
      ];
      const differences: string[] = [];
      for (const [kind, read] of [
        ['text', textLines],
        ['json', jsonLines],
        ['omit', jsonLines],
      ] as const) {
        const [a, s] = await both(kind, read);
        for (const c of CASES) {
          assert.ok(s.has(c.id), `${kind}: no line about ${c.id}`);
          if (c.id === 'retried') continue; // written by the proxy, about its own try
          differences.push(...differ(`${kind}: ${c.id}`, s.get(c.id), a.get(c.id)));
        }
      }
      assert.deepEqual(differences, []);
      const failures = await both('failures', textLines);
      const own = (lines: Lines) =>
        [...lines.keys()].filter((id) => !id.startsWith('warm-') && id !== 'retried').sort();
      assert.deepEqual(own(failures[1]), own(failures[0]));
      const ids = (lines: string[]) => lines.filter((l) => !l.includes('/again/'));
      const [d, e] = await both('default', defaultLines);
      const missing = ids(d).filter((line) => !e.includes(line));
      assert.deepEqual(missing, [], DEFAULT_FORMAT);
      // most of it must have been the kernel's, or nothing is shown
      assert.ok(log.lines / 5 > kernels.length * 0.9, `only ${log.lines} lines for ${kernels.length} cases in 5 logs`);
    } finally {
      await world.close();
    }
  });

test('while the agent is behind, requests go to the proxy, and no line is lost', {
  skip,
  timeout: 120_000,
}, async () => {
  const world = await World.open('access-log-full');
  try {
    const only = (who: string) => logs((k) => file(world.lab.dir, `${who}-${k}`)).slice(0, 1);
    const config = { address: MESH, port: world.port, upstream: world.upstream, logs: only('mesh') };
    await world.writeText(JSON.stringify(logBootstrap(config)));
    const sidestep = await startSidestep(world.lab, [world.file]);
    const driver = await world.driver(sidestep);
    // connections to the server, and (this route is the proxy's) to the proxy
    for (const path of ['/echo', '/echo?2', '/old/a', '/old/b', '/old/c'])
      await ask(driver, MESH, world.port, { id: `warm-${path}`, path });
    const count = 5000;
    const exchanges = Array.from({ length: count }, (_, i) => ({
      pieces: [request('GET /echo HTTP/1.1', [['X-Id', `n-${i}`], ['X-Pad', 'p'.repeat(600)]])], // biome-ignore format: short
      methods: ['GET'],
    }));
    const { pid } = (await sidestep.status()) as unknown as { pid: number };
    process.kill(pid, 'SIGSTOP');
    const result = await driver
      .run({ address: MESH, port: world.port, exchanges, timeoutMs: 60_000 })
      .finally(() => process.kill(pid, 'SIGCONT'));
    assert.equal(result.answers.length, count, result.error);
    await sleep(300);
    const { log, requests } = (await sidestep.status()) as unknown as {
      log: { lines: number; lost: number; proxied: number };
      requests: { kernel: number };
    };
    assert.equal(log.lost, 0);
    assert.ok(log.proxied > 100, `only ${log.proxied} of ${count} found the buffer full`);
    assert.ok(requests.kernel > 1000, `only ${requests.kernel} were the kernel's`);
    assert.equal(await sidestep.stop(), 0);
    const lines = await textLines(file(world.lab.dir, 'mesh-text'));
    for (let i = 0; i < count; i++) assert.ok(lines.has(`n-${i}`), `no line about request ${i}`);
  } finally {
    await world.close();
  }
});
