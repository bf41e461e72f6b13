/** Rule 15: long answers are carried by the agent, byte for byte and with backpressure. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { sleep } from '../../src/lab/processes.js';
import { assertNoFailures, type Report, RulesWorld, skip } from './world.js';

const MB = 1_000_000;

describe('long answers', { skip, timeout: 180_000 }, () => {
  let world: RulesWorld;

  before(async () => {
    world = await RulesWorld.open('long');
  });
  after(() => world?.close());

  const residentMb = (): number => {
    const text = readFileSync(`/proc/${world.sidestep.process.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(text)![1]) / 1024;
  };
  /** what TCP says it uses, and everything that is used (redirected data is counted nowhere else) */
  const socketMb = (): number =>
    (Number(/^TCP:.* mem (\d+)/m.exec(readFileSync('/proc/net/sockstat', 'utf8'))![1]) * 4096) / 2 ** 20;
  const usedMb = (): number => {
    const text = readFileSync('/proc/meminfo', 'utf8');
    const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)![1]);
    return (of('MemTotal') - of('MemFree') - of('Cached') - of('Buffers') - of('AnonPages')) / 1024;
  };

  const kinds = {
    'content-length': '/size',
    chunked: '/chunks',
    'close-delimited': '/untilclose',
  };
  const path = (kind: keyof typeof kinds, bytes: number): string =>
    `${kinds[kind]}/${bytes}${kind === 'chunked' ? '/20000/0/1' : kind === 'content-length' ? '/1' : ''}`;

  for (const kind of Object.keys(kinds) as (keyof typeof kinds)[]) {
    test(`rule 15: 50 MB, ${kind}, are byte-exact and carried by the agent`, async (t) => {
      const before = await world.status();
      const report = await world.client('rule15.py', [path(kind, 50 * MB), 50 * MB, 0]);
      const agent = (await world.status()).requests.agent - before.requests.agent;
      t.diagnostic(`${JSON.stringify(report)}, ${agent} carried`);
      assertNoFailures(report);
      assert.equal(report.read, 50 * MB);
      assert.equal(agent, 1);
    });

    test(`rule 15: a slow reader of 200 MB, ${kind}, holds the server back`, async (t) => {
      const before = { resident: residentMb(), sockets: socketMb(), used: usedMb() };
      const client = world.start('rule15.py', path(kind, 200 * MB), 200 * MB, MB);
      await client.waitFor(/^reading$/m);
      const most = { resident: 0, sockets: 0, used: 0 };
      for (let i = 0; i < 20; i++) {
        await sleep(100);
        most.resident = Math.max(most.resident, residentMb() - before.resident);
        most.sockets = Math.max(most.sockets, socketMb() - before.sockets);
        most.used = Math.max(most.used, usedMb() - before.used);
      }
      client.child.stdin!.write('\n');
      const report = JSON.parse((await client.waitFor(/^\{.*\}$/m))[0]) as Report;
      t.diagnostic(`${JSON.stringify(report)}, at most ${JSON.stringify(most)} MB more`);
      assertNoFailures(report);
      assert.ok(Number(report.read) > MB && Number(report.read) < 20 * MB, `it read ${report.read}`);
      // an answer that is not held back is in memory as a whole: 200 MB, in the agent or in the kernel
      assert.ok(most.resident < 80, `the agent grew by ${most.resident} MB`);
      assert.ok(most.sockets < 60, `the kernel's sockets grew by ${most.sockets} MB`);
      assert.ok(most.used < 120, `memory that belongs to no process grew by ${most.used} MB`);
    });
  }
});
