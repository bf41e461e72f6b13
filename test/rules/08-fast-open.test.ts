/** Rule 8: a socket is taken over only once it is established, and one whose SYN carried data not at all. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertNoFailures, output, RulesWorld, skip } from './world.js';

/** Client and server side on, no cookies needed, and every listening socket takes part. */
const FAST_OPEN = 0x1 | 0x2 | 0x4 | 0x200 | 0x400;

describe('fast open', { skip, timeout: 60_000 }, () => {
  let world: RulesWorld;

  before(async () => {
    world = await RulesWorld.open('fast-open', {
      ownNetwork: `echo ${FAST_OPEN} > /proc/sys/net/ipv4/tcp_fastopen`,
    });
  });
  after(() => world?.close());

  test('rule 8: clients with TCP fast open get their answers; nothing in the SYN is lost or seen twice', async (t) => {
    const report = await world.client('rule08.py', [60]);
    const status = await world.status();
    t.diagnostic(JSON.stringify({ report, requests: status.requests, counters: status.counters }));
    assertNoFailures(report);
    assert.equal(report.connections, 120);
    assert.ok(Number(report.data_in_syn) > 60, 'too few SYNs carried data: nothing was tested');
    // 120 connections with 4 requests each, 10 with one
    const stats = JSON.parse(await output([...world.inNetwork(), 'curl', '-s', world.statsUrl])) as {
      requests: number;
    };
    assert.equal(stats.requests, 490, 'requests that the server saw');
    assert.ok(status.requests.proxy >= Number(report.data_in_syn), 'what was in a SYN can only have gone to the proxy');
  });
});
