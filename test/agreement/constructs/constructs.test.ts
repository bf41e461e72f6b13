/**
 * Generated policies, construct by construct, decided by the reference interpreter, the kernel's programs and a real
 * Envoy. SIDESTEP_CONSTRUCT_PAIRS says how many pairs each construct gets, SIDESTEP_CONSTRUCTS (names with commas) which.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findEnvoy } from '../../plan/envoy-oracle.js';
import { withTrial } from '../../wild/trial.js';
import { record } from '../table/record.js';
import { CONSTRUCTS } from './generated.js';
import { tryConstruct } from './run.js';

const PAIRS = Number(process.env.SIDESTEP_CONSTRUCT_PAIRS ?? 100);
const SEED = Number(process.env.SIDESTEP_SEED ?? 3);
const wanted = process.env.SIDESTEP_CONSTRUCTS?.split(',');
const skip = findEnvoy() === undefined ? 'no Envoy was found' : false;
const REQUESTS = 40;
/** Below this a share says nothing. */
const ENOUGH = 100;
/** Requests with a token that the kernel knows, of all constructs together. */
const LEAST_KNOWN = 20;

test('every construct is decided alike by the interpreter, the kernel and Envoy', { skip, timeout: 3_600_000 }, (t) =>
  withTrial({ seed: SEED * 1000, requests: REQUESTS }, async (trial) => {
    if (!trial.kernel) t.diagnostic('not root: the kernel is left out');
    const total = { pairs: 0, decided: 0, known: 0 };
    for (const [name, construct] of Object.entries(CONSTRUCTS)) {
      if (wanted && !wanted.includes(name)) continue;
      const { pairs, forward, reply, known, found } = await tryConstruct(name, construct, trial, {
        pairs: PAIRS,
        sets: PAIRS,
      });
      t.diagnostic(`${name}: ${pairs} pairs, ${forward} forwarded, ${reply} answered, ${known} with known tokens`);
      const [first] = found;
      assert.ok(
        !first,
        `${name}, seed ${SEED}, ${found.length} differences: ${first?.why}\nrequest: ${first?.request}\n${first?.text}`,
      );
      const share = (forward + reply) / pairs;
      assert.ok(pairs < ENOUGH || share >= construct.share, `${name}: only ${share} of ${pairs} were decided`);
      record(name, pairs, forward + reply);
      total.pairs += pairs;
      total.decided += forward + reply;
      total.known += known;
    }
    assert.ok(wanted || total.known >= LEAST_KNOWN, `only ${total.known} tokens were known`);
    t.diagnostic(`seed ${SEED}: ${total.pairs} pairs, ${total.decided} decided in the kernel`);
  }),
);
