/** Rule 6: what kernel, proxy and the kernel's own replies answer on one connection stays in order, whatever its way. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNoFailures, RulesWorld, skip } from './world.js';

/** How answers go: over pooled connections, from socket to socket, or through the agent's accepted sockets. */
const WAYS = {
  pooled: {},
  'from socket to socket': { inside: true },
  'at listener intake': { args: ['--intake', 'listener'] },
};
const TURNS = 400;

describe('rule 6: the order of answers, pipelined and read in nine ways', { skip, timeout: 300_000 }, () => {
  for (const [way, options] of Object.entries(WAYS)) {
    test(way, async (t) => {
      const world = await RulesWorld.open('order', options);
      try {
        const before = await world.status();
        const seed = Date.now() % 100_000;
        const report = await world.client('rule06.py', [TURNS, seed], 80_000);
        const { counters = {}, requests } = await world.status();
        t.diagnostic(`seed ${seed}: ${JSON.stringify({ report, requests, counters })}`);
        assertNoFailures(report);
        const total = ['turns', 'separately', 'at once', 'in pieces'].reduce((n, key) => n + Number(report[key]), 0);
        assert.ok(total >= 9 * TURNS);
        const grown = (key: 'kernel' | 'proxy'): number => requests[key] - before.requests[key];
        assert.ok(grown('kernel') > TURNS / 2 && grown('proxy') > TURNS / 2, 'both ways must have been taken');
        assert.ok(counters.replies! > TURNS / 9 && counters.pipelined! > TURNS / 9, 'not enough of a mixture');
        assert.equal(counters.redirect_failed, 0);
        if (way === 'from socket to socket') assert.ok(counters.bypassed! > TURNS / 2);
      } finally {
        await world.close();
      }
    });
  }
});
