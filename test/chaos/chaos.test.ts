/** A short chaos run; `script/chaos` runs it longer and with other seeds. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { whyNoSidestep } from '../../src/lab/sidestep.js';
import { type ChaosResult, runChaos } from './run.js';

const skip = whyNoSidestep()?.includes('root') ? 'needs root' : false;
const seconds = Number(process.env.SIDESTEP_CHAOS_SECONDS ?? 8);
const seed = Number(process.env.SIDESTEP_CHAOS_SEED ?? 1);

/** Every request got its own whole answer or one clean error, and nothing is left. */
function verify(result: ChaosResult, share: number, agent: boolean): void {
  assert.deepEqual(
    result.reports.flatMap((r) => r.faults),
    [],
  );
  const sum = (of: (r: ChaosResult['reports'][number]) => number): number =>
    result.reports.reduce((total, r) => total + of(r), 0);
  assert.ok(sum((r) => r.right) > 100 * seconds, `${sum((r) => r.right)} right answers in ${seconds} s`);
  // most errors are those that servers were asked for
  assert.ok(sum((r) => r.right) > share * sum((r) => r.requests), 'too many errors');
  // an agent that has just come back counts from 0, and its pools are empty; while a server is away, the proxy has more
  assert.ok(result.requests.kernel > (agent ? 0 : result.requests.proxy / 2), JSON.stringify(result.requests));
  const { connections, owned, broken, clients } = result.left;
  assert.deepEqual({ connections, owned, broken, clients }, { connections: 0, owned: 0, broken: [], clients: 0 });
  assert.ok(result.left.descriptors < 400, `${result.left.descriptors} descriptors`);
  assert.ok(result.left.residentMb < 400, `${result.left.residentMb} MB`);
}

describe('chaos', { skip, timeout: 600_000 }, () => {
  for (const [agent, serversInside] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ] as const) {
    const what = agent ? 'the agent is killed, too' : 'servers, clients, policies, endpoints';
    test(serversInside ? `${what}; from socket to socket` : what, async (t) => {
      const result = await runChaos({ seconds, seed, agent, serversInside, log: () => undefined });
      t.diagnostic(JSON.stringify({ ...result, reports: result.reports.map((r) => ({ ...r, policies: undefined })) }));
      // a server inside takes longer to come back, and each request meanwhile is an error
      verify(result, serversInside ? 0.6 : 0.8, agent);
      assert.ok(serversInside ? result.bypassed > result.requests.kernel / 4 : result.bypassed === 0, 'bypassed');
    });
  }
});
