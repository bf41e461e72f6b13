/** %ENVIRONMENT% and add_user_agent: what the plan writes is what Envoy writes. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { withEnvironment } from '../../src/plan/environment.js';
import { evaluate } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from './resources.js';

const VARIABLES = { SIDESTEP_T_SET: 'some value', SIDESTEP_T_EMPTY: '', SIDESTEP_T_PERCENT: '50%%PROTOCOL%' };
const VALUES = [
  '%ENVIRONMENT(SIDESTEP_T_SET)%',
  '%ENVIRONMENT(SIDESTEP_T_UNSET)%',
  '%ENVIRONMENT(SIDESTEP_T_EMPTY)%',
  '<%ENVIRONMENT(SIDESTEP_T_EMPTY)%>',
  '%ENVIRONMENT(SIDESTEP_T_PERCENT)%',
  'a%%%ENVIRONMENT(SIDESTEP_T_SET):4%b',
  '%ENVIRONMENT(SIDESTEP_T_SET):0%',
  '%ENVIRONMENT(SIDESTEP_T_UNSET):1%',
  '%%ENVIRONMENT(SIDESTEP_T_SET)%%',
];
const added = VALUES.map((value, i): JsonObject => ({ header: { key: `x-e${i}`, value } }));
const envoy = findEnvoy();

describe('what the proxy knows of itself', { skip: envoy === undefined ? 'no Envoy found' : false }, () => {
  let running: RunningEnvoy | undefined;
  let server: Awaited<ReturnType<typeof echoServer>>;
  let port = 0;
  let listeners: JsonObject[] = [];
  let plan: Plan;
  before(async () => {
    Object.assign(process.env, VARIABLES);
    server = await echoServer('a');
    port = await freePort();
    const clusters = [clusterOf('a', [server.port])];
    const edits = { request_headers_to_add: added, response_headers_to_add: added };
    const hcm = { add_user_agent: true };
    listeners = [listenerOf([hostOf([to('a', '/', edits)])], { name: 'l', port, hcm })];
    const bootstrap = { node: { id: 'here', cluster: 'shop' } };
    plan = buildPlan(resourcesOf(listeners, clusters, { bootstrap }), { environment: process.env });
    running = await startEnvoy(envoy!, { listeners, clusters }, [port], bootstrap);
  });
  after(async () => {
    await running?.stop();
    server?.close();
    for (const name of Object.keys(VARIABLES)) delete process.env[name];
  });

  it('values in requests and answers', async () => {
    const agent = ['user-agent', 'me'] as const;
    const request = { listener: 'l', method: 'GET', target: '/', headers: [['host', 'x'], agent] as const };
    const { verdict, result, why } = evaluate(plan, { ...request, sourceIp: '127.0.0.1' });
    assert.ok(verdict === 'kernel' && result?.kind === 'forward', why);
    const got = await sendRaw(port, ['GET / HTTP/1.1', 'host: x', 'user-agent: me']);
    const mine = (headers: readonly (readonly [string, string])[] = []) =>
      headers.filter(([name]) => /^(x-e\d|x-envoy-down|user)/.test(name)).sort();
    assert.deepEqual(mine(result.headers), mine(got.seen?.headers));
    const written = result.answer.map(({ name, value }) => [name, value] as const);
    assert.deepEqual(mine(written), mine(got.headers));
  });

  it('clients without a name are left to the proxy', () => {
    for (const headers of [[], [['user-agent', '']]] as [string, string][][]) {
      const request = { listener: 'l', method: 'GET', target: '/', sourceIp: '127.0.0.1' };
      assert.equal(evaluate(plan, { ...request, headers: [['host', 'x'], ...headers] }).verdict, 'proxy');
    }
  });

  it('nothing is known of the environment of somebody else’s proxy, nor of values that are not plain', () => {
    const value = '%ENVIRONMENT(X)%';
    assert.equal(withEnvironment(value, undefined), value);
    for (const X of ['é', ' a', 'a\n', 'a\tb ']) assert.equal(withEnvironment(value, { X }), value);
    const foreign = buildPlan(resourcesOf(listeners, [clusterOf('a', [1])]));
    assert.deepEqual(
      foreign.listeners[0]?.reasons.map(({ code }) => code),
      ['unsupported-field'],
    );
  });
});
