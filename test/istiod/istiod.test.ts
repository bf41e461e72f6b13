/** The golden inputs against what istiod makes of them, stored by script/compare-istiod --write: see docs/istiod.md. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareSet } from './compare.js';
import { meshesOf, readObjects } from './documents.js';
import { goldenInputs, stored } from './fixtures.js';
import { emptyTally } from './tally.js';

const SEED = Number(process.env.SIDESTEP_SEED ?? 7);

test('golden inputs mean what istiod makes of them', { timeout: 300_000 }, async (t) => {
  const tally = emptyTally();
  for (const set of goldenInputs())
    for (const mesh of meshesOf(readObjects(set)))
      await compareSet(set, mesh, stored(set), { seed: SEED, requests: 25 }, tally);
  const {
    requests,
    ours,
    theirs,
    computed,
    denied,
    clusters,
    virtualServices,
    servers,
    providers,
    judged,
    peers,
    decidedPeers,
  } = tally;
  t.diagnostic(
    `seed ${SEED}: ${requests} requests, ${theirs} by routes of policies, ${computed} computed whole, ${judged} at servers`,
  );
  assert.deepEqual(tally.failed, []);
  assert.deepEqual(
    tally.differences.filter((d) => !d.known),
    [],
  );
  // two empty configurations would agree, too
  assert.ok(virtualServices >= 25, `${virtualServices} VirtualServices`);
  assert.ok(ours > requests / 5 && theirs > requests / 5, `${ours} and ${theirs} of ${requests}`);
  assert.ok(computed > requests / 3 && denied > 10 && clusters > 80, `${computed}, ${denied}, ${clusters}`);
  assert.ok(peers >= 30 && decidedPeers >= 6, `modes of ${peers} ports, ${decidedPeers} decided`);
  assert.ok(servers >= 12 && providers >= 5 && judged > 200, `${servers} servers, ${providers}, ${judged}`);
});
