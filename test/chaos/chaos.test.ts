/** A short chaos run; `script/chaos` runs it longer and with other seeds. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { whyNoSidestep } from '../../src/lab/sidestep.js';
import { type ChaosResult, runChaos } from './run.js';

const skip = whyNoSidestep()?.includes('root') ? 'needs root' : false;
const seconds = Number(process.env.SIDESTEP_CHAOS_SECONDS ?? 15);
const seed = Number(process.env.SIDESTEP_CHAOS_SEED ?? 1);

/** Every request got its own whole answer or one clean error, and nothing is left. */
function verify(result: ChaosResult): void {
  assert.deepEqual(
    result.reports.flatMap((r) => r.faults),
    [],
  );
  const sum = (of: (r: ChaosResult['reports'][number]) => number): number =>
    result.reports.reduce((total, r) => total + of(r), 0);
  assert.ok(sum((r) => r.right) > 200 * seconds, `${sum((r) => r.right)} right answers in ${seconds} s`);
  // most errors are those that servers were asked for
  assert.ok(sum((r) => r.right) > 0.8 * sum((r) => r.requests), 'too many errors');
  assert.ok(result.requests.kernel > result.requests.proxy, JSON.stringify(result.requests));
  const { connections, owned, broken, clients } = result.left;
  assert.deepEqual({ connections, owned, broken, clients }, { connections: 0, owned: 0, broken: [], clients: 0 });
  assert.ok(result.left.descriptors < 400, `${result.left.descriptors} descriptors`);
  assert.ok(result.left.residentMb < 400, `${result.left.residentMb} MB`);
}

describe('chaos', { skip, timeout: 600_000 }, () => {
  for (const agent of [false, true]) {
    test(agent ? 'the agent is killed, too' : 'servers, clients, policies, endpoints', async (t) => {
      const result = await runChaos({ seconds, seed, agent, log: () => undefined });
      t.diagnostic(JSON.stringify({ ...result, reports: result.reports.map((r) => ({ ...r, policies: undefined })) }));
      verify(result);
    });
  }
});
