/** Policies change under load: no request fails, none is decided by a mixture of two generations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { sleep } from '../../src/lab/processes.js';
import { eventually } from './eventually.js';
import { skip, World } from './world.js';

test('a change of the file switches all at once, without a failed request', { skip, timeout: 180_000 }, async (t) => {
  const world = await World.open('reload');
  try {
    const second = await freePort();
    await world.startUpstream('two', second);
    // upstream and header change together: an answer of `one` with generation 2 would be a mixture
    await world.writePolicy({ gen: '1' });
    const sidestep = await world.startSidestep();
    const load = await world.load(sidestep, 8);
    let generation = (await sidestep.status()).generation;
    for (const to of [2, 1, 2, 1, 2]) {
      await world.writePolicy({ gen: String(to), upstream: to === 2 ? second : world.upstream });
      generation = await sidestep.generationAfter(generation);
      await sleep(300);
    }
    const report = await load.finish();
    t.diagnostic(
      `${report.answers} answers: ${JSON.stringify(report.variants)}; longest gap ${report.longestGapMs} ms`,
    );
    assert.deepEqual(report.failures, []);
    assert.deepEqual(Object.keys(report.variants).sort(), ['one/1', 'two/2']);
    const after = await (await world.load(sidestep, 2)).finish();
    assert.deepEqual(Object.keys(after.variants), ['two/2'], 'the last change is in force');
  } finally {
    await world.close();
  }
});

test('a file with errors changes nothing', { skip, timeout: 120_000 }, async () => {
  const world = await World.open('reload-bad');
  try {
    await world.writePolicy({ gen: '1' });
    const sidestep = await world.startSidestep();
    const load = await world.load(sidestep, 4);
    const { generation } = await sidestep.status();
    for (const bad of ['{ "static_resources": { "listeners": [ { "nam": 1 } ] } }', 'a: [', '']) {
      const said = sidestep.process.output.length;
      await world.writeText(bad);
      await eventually(async () => assert.notEqual(sidestep.process.output.length, said));
      assert.equal((await sidestep.status()).generation, generation, `after ${JSON.stringify(bad)}`);
    }
    assert.match(sidestep.process.output, /bootstrap\.json:1/, 'the error names file and line');
    const report = await load.finish();
    assert.deepEqual(report.failures, []);
    assert.deepEqual(Object.keys(report.variants), ['one/1']);
    await world.writePolicy({ gen: '2' });
    await sidestep.generationAfter(generation);
  } finally {
    await world.close();
  }
});
