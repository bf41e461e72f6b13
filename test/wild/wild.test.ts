/** The policies of this repository (examples, golden inputs) against a real Envoy: see wild.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findEnvoy } from '../plan/envoy-oracle.js';
import { filesBelow } from './files.js';
import { tryAll } from './wild.js';

const SETS = ['examples/shop/policies', 'test/golden/istio', 'test/golden/gateway-api'];
const SEED = Number(process.env.SIDESTEP_SEED ?? 5);
const skip = findEnvoy() === undefined ? 'no Envoy was found' : false;

test('policies as people write them are decided as Envoy decides them', { skip, timeout: 300_000 }, async (t) => {
  const inputs = SETS.flatMap(filesBelow).filter((file) => !file.includes('.out.'));
  const tally = await tryAll(['examples/shop/policies', ...inputs], { seed: SEED, requests: 25 });
  const { pairs, forward, reply, proxy, met } = tally;
  t.diagnostic(`seed ${SEED}: ${pairs} requests, ${forward} forwarded, ${reply} answered, ${proxy} left to Envoy`);
  assert.deepEqual(tally.refused, []);
  assert.deepEqual(tally.differences, []);
  assert.ok(forward > 300 && reply > 30 && met > 60, `too few were decided: ${forward}, ${reply}, ${met} routes`);
});
