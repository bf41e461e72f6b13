/**
 * Circuit breakers on connections: as many requests are at the server, and as many wait, as with Envoy alone, and the kernel
 * decides what need not wait.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab, sleep } from '../../src/lab/processes.js';
import type { Exchange, JobResult } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { eventually } from './eventually.js';
import { HoldingServer } from './holding-server.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, request, skip } from './world.js';

const MOST = 3;
const WAITING = 4;
const FREE = { max_connections: MOST, max_pending_requests: WAITING };

function bootstrap(address: string, port: number, upstreams: readonly number[], threshold: JsonObject): JsonObject {
  const to = (prefix: string, cluster: string, timeout: string, more: JsonObject = {}): JsonObject => ({
    match: { prefix },
    route: { cluster, timeout, ...more },
  });
  const [one, ...two] = upstreams;
  const circuit_breakers = { thresholds: [{ ...threshold, track_remaining: true }] };
  return plainBootstrap(
    [
      {
        ...{ name: 'test', address, port },
        routes: [
          to('/soon', 'one', '0.5s'),
          to('/later', 'one', '1.5s'),
          // the proxy's own, to the same cluster
          to('/proxied', 'one', '60s', { max_stream_duration: { max_stream_duration: '60s' } }),
          to('/two', 'two', '60s'),
          to('/', 'one', '60s'),
        ],
      },
    ],
    [
      { name: 'one', ports: [one!], more: { circuit_breakers } },
      { name: 'two', ports: two, more: { circuit_breakers } },
    ],
  );
}

const get = (path: string, headers: HeaderList = []): Exchange => ({
  pieces: [request(`GET ${path} HTTP/1.1`, headers)],
  methods: ['GET'],
});
const statusOf = ({ answers, error }: JobResult): string => String(answers.at(-1)?.status ?? error);
const count = (results: readonly JobResult[], status: string): number =>
  results.filter((r) => statusOf(r) === status).length;

/** One of the two that are compared. */
class Side {
  readonly #answered: JobResult[] = [];
  #sent = 0;

  constructor(
    readonly what: string,
    readonly server: HoldingServer,
    readonly two: readonly HoldingServer[],
    private readonly driver: Driver,
    private readonly address: string,
    private readonly port: number,
  ) {}

  run(exchanges: readonly Exchange[]): Promise<JobResult> {
    return this.driver.run({ address: this.address, port: this.port, exchanges, timeoutMs: 30_000 });
  }

  send(n: number, path: string, headers: HeaderList = []): void {
    for (; n > 0; n--) {
      this.#sent++;
      void this.run([get(path, headers)]).then((result) => this.#answered.push(result));
    }
  }

  async active(n: number, servers: readonly HoldingServer[] = [this.server]): Promise<void> {
    await eventually(async () =>
      assert.equal(
        servers.reduce((sum, s) => sum + s.active, 0),
        n,
        `${this.what}: active`,
      ),
    );
  }

  /** Waits until so many are answered (or more), of all that were sent since `done`. */
  async answered(n: number, orMore = false): Promise<void> {
    await eventually(async () => {
      const { length } = this.#answered;
      assert.ok(orMore ? length >= n : length === n, `${this.what}: ${length} answered, not ${n}`);
    });
  }

  /** As many requests at the server as may be, one after the other. */
  async fill(path = '/'): Promise<void> {
    for (let i = 1; i <= MOST; i++) {
      this.send(1, path);
      await this.active(i);
    }
  }

  /** Answers everything. @returns all answers since the last time */
  async done(): Promise<JobResult[]> {
    await eventually(async () => {
      this.server.release();
      for (const server of this.two) server.release();
      assert.equal(this.#answered.length, this.#sent, `${this.what}: all answered`);
    });
    this.#sent = 0;
    return this.#answered.splice(0);
  }
}

test('requests wait for a connection as with Envoy', { skip, timeout: 200_000 }, async (t) => {
  const lab = await Lab.open('connection-breakers');
  const servers = await Promise.all(Array.from({ length: 6 }, () => HoldingServer.open()));
  try {
    const port = await freePort();
    const [o, o1, o2, a, a1, a2] = servers as [HoldingServer, HoldingServer, ...HoldingServer[]] & HoldingServer[];
    const ports = (list: readonly HoldingServer[]): number[] => list.map((s) => s.port);
    let threshold: JsonObject = FREE;
    const policy = (address: string): JsonObject =>
      bootstrap(address, port, ports(address === MESH ? [o, o1, o2!] : [a!, a1!, a2!]), threshold);
    const world = await sideBySide(lab, `${lab.dir}/bootstrap.json`, policy);
    const { sidestep } = world;
    const ours = new Side('sidestep', o, [o1, o2!], world.mesh, MESH, port);
    const theirs = new Side('Envoy', a!, [a1!, a2!], world.alone, ALONE, port);
    const kernel = async (): Promise<number> => (await sidestep.status()).requests.kernel;

    /** Until the kernel has a connection for each that may be in flight. */
    const warm = async (): Promise<void> => {
      await eventually(async () => {
        const before = await kernel();
        await ours.fill();
        await ours.done();
        assert.equal((await kernel()) - before, MOST, 'the kernel decides');
      });
    };
    const both = async (check: (side: Side) => Promise<void>): Promise<void> => {
      await Promise.all([ours, theirs].map(check));
    };

    await t.test('below the limit, the kernel decides', async () => {
      await theirs.fill();
      await theirs.done();
      await warm();
      const before = await kernel();
      for (const side of [ours, theirs]) side.server.holds = false;
      await both(async (side) => {
        const list = Array.from({ length: 40 }, () => get('/'));
        const results = await Promise.all(Array.from({ length: MOST }, () => side.run(list)));
        const statuses = results.flatMap(({ answers }) => answers.map(({ status }) => status));
        assert.deepEqual(new Set(statuses), new Set([200]), side.what);
        assert.equal(statuses.length, MOST * 40, side.what);
      });
      for (const side of [ours, theirs]) side.server.holds = true;
      assert.equal((await kernel()) - before, MOST * 40, 'decided by the kernel');
      assert.ok(o.peakConnections <= 2 * MOST, `${o.peakConnections} connections`);
    });

    await t.test('above it they wait, first come, first served, and the rest is refused', async () => {
      const refusals = new Map<Side, unknown>();
      for (const path of ['/', '/proxied'])
        await both(async (side) => {
          await side.fill(path);
          side.send(WAITING + 2, '/?x');
          await side.answered(2);
          assert.equal(side.server.active, MOST, side.what);
          for (let i = 1; i <= WAITING; i++) {
            side.server.release(1);
            await side.answered(2 + i);
            await side.active(MOST);
          }
          const results = await side.done();
          assert.equal(count(results, '200'), MOST + WAITING, side.what);
          assert.equal(count(results, '503'), 2, side.what);
          assert.equal(side.server.peak, MOST, side.what);
          const { headers, body } = results.flatMap(({ answers }) => answers).find(({ status }) => status === 503)!;
          const lines = headers.map(([n, v]) => `${n.toLowerCase()}: ${v}`).filter((h) => !/^(date|server)/.test(h));
          refusals.set(side, { lines: lines.sort(), body });
        });
      assert.deepEqual(refusals.get(ours), refusals.get(theirs));
      await both(async (side) => {
        await side.fill();
        for (let i = 0; i < WAITING; i++) {
          side.send(1, `/wait${i}`, [['X-Turn', String(i)]]);
          await sleep(60);
        }
        for (let i = 0; i < WAITING; i++) {
          side.server.release(1);
          await side.active(MOST);
        }
        const results = await side.done();
        assert.equal(count(results, '200'), MOST + WAITING, side.what);
        const turns = side.server.seen.flatMap((headers) =>
          headers['x-turn'] === undefined ? [] : [headers['x-turn']],
        );
        assert.deepEqual(turns, ['0', '1', '2', '3'], side.what);
      });
      await warm();
    });

    await t.test('clients that leave while they wait make room', async () => {
      await both(async (side) => {
        await side.fill();
        await Promise.all(
          (['fin', 'reset'] as const).flatMap((abandon) =>
            ['/', '/proxied'].map((path) => side.run([{ ...get(path), abandon, abandonAfterMs: 100 }])),
          ),
        );
        await sleep(300);
        side.send(WAITING + 1, '/');
        await side.answered(1);
        const results = await side.done();
        assert.equal(count(results, '503'), 1, side.what);
        assert.equal(count(results, '200'), MOST + WAITING, side.what);
      });
    });

    await t.test('the route’s time runs while they wait', async () => {
      const answers = new Map<Side, unknown>();
      await both(async (side) => {
        await side.fill();
        const { answers: timed } = await side.run([get('/soon')]);
        const [answer] = timed;
        answers.set(side, [answer?.status, Buffer.from(answer!.body, 'base64').toString(), answer?.headers.length]);
        // what is left is what counts afterwards
        const later = side.run([get('/later', [['X-Turn', 'later']])]);
        await sleep(900);
        side.server.release(1);
        const late = await later;
        assert.equal(statusOf(late), '504', side.what);
        assert.ok(late.micros < 2_200_000 && late.micros > 1_400_000, `${side.what}: ${late.micros} us`);
        const seen = side.server.seen.find((headers) => headers['x-turn'] === 'later');
        assert.equal(seen?.['x-envoy-upstream-rq-timeout-ms'], undefined, side.what);
        await side.active(MOST - 1);
        side.send(1, '/');
        await side.active(MOST);
        side.send(WAITING + 1, '/');
        await side.answered(2);
        assert.equal(count(await side.done(), '503'), 1, side.what);
      });
      assert.deepEqual(answers.get(ours), answers.get(theirs));
      assert.equal((answers.get(theirs) as unknown[])[0], 504);
    });

    await t.test('several endpoints share a cluster’s limit', async () => {
      for (const server of [o1, o2!]) server.peakConnections = 0;
      await both(async (side) => {
        for (let i = 1; i <= MOST; i++) {
          side.send(1, '/two');
          await side.active(i, side.two);
        }
        side.send(WAITING + 1, '/two');
        await side.answered(1);
        const results = await side.done();
        assert.equal(count(results, '503'), 1, side.what);
        assert.equal(count(results, '200'), MOST + WAITING, side.what);
      });
    });

    await t.test('load above the limit', async () => {
      await both(async (side) => {
        await side.fill();
        await side.done();
        side.server.holds = false;
      });
      for (const [more, refused] of [
        [WAITING, false],
        [WAITING + 5, true],
      ] as const)
        await both(async (side) => {
          side.server.peak = 0;
          const list = Array.from({ length: 30 }, (_, i) => get(i % 7 === 0 ? '/proxied' : '/'));
          const results = await Promise.all(Array.from({ length: MOST + more }, () => side.run(list)));
          const statuses = results.flatMap(({ answers }) => answers.map(({ status }) => status));
          assert.equal(statuses.length, (MOST + more) * list.length, side.what);
          const overflown = statuses.filter((s) => s === 503).length;
          assert.equal(overflown > 0, refused, `${side.what}: ${overflown} refused`);
          assert.equal(side.server.peak, MOST, side.what);
        });
      for (const side of [ours, theirs]) side.server.holds = true;
      await warm();
    });

    await t.test('another policy', async () => {
      const change = async (to: JsonObject): Promise<void> => {
        threshold = to;
        const { generation } = await sidestep.status();
        await writeFile(`${lab.dir}/bootstrap.json`, JSON.stringify(policy(MESH)));
        await sidestep.generationAfter(generation);
      };
      await ours.fill();
      ours.send(WAITING, '/');
      await sleep(200);
      await change({ max_connections: MOST + 1, max_pending_requests: WAITING });
      await ours.active(MOST + 1);
      await change({});
      await ours.active(MOST + WAITING);
      assert.equal(count(await ours.done(), '200'), MOST + WAITING);
      await change(FREE);
      await warm();
    });

    await t.test('without the agent, the proxy’s own breaker is left', async () => {
      ours.send(MOST, '/');
      await ours.active(MOST);
      ours.send(WAITING, '/proxied');
      await sleep(200);
      sidestep.process.child.kill('SIGKILL');
      await sidestep.process.exited;
      await ours.active(0);
      await ours.done();
      o.peak = 0;
      await ours.fill();
      // for each of its workers, and each opens one connection whatever the others have
      const most = (MOST + 1) * availableParallelism();
      ours.send(most + WAITING, '/');
      await ours.answered(MOST, true);
      assert.ok(count(await ours.done(), '503') >= MOST, 'refused');
      assert.ok(o.peak <= most, `at once: ${o.peak}`);
    });
  } finally {
    for (const server of servers) server.close();
    await lab.close();
  }
});
