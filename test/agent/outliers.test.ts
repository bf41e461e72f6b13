/** The agent's outlier detection, without a kernel and a proxy (test/e2e/outliers.test.ts has both). */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Outliers } from '../../src/agent/outliers.js';
import { decodeReports } from '../../src/agent/try-reports.js';
import { compileImage } from '../../src/compile/image.js';
import { interpret } from '../../src/compile/interpret.js';
import { DetectorSpec, MAX_DETECTORS } from '../../src/layout/counts.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';

const PORTS = [1, 2, 3, 4];

function world(t: TestContext, detection: JsonObject) {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  let now = 1000;
  const tell: string[][] = [];
  const force: number[][] = [];
  const cluster = clusterOf('c', PORTS, {
    common_lb_config: { healthy_panic_threshold: { value: 0 } },
    outlier_detection: { enforcing_success_rate: 0, interval: '1s', base_ejection_time: '2s', ...detection },
  });
  const compile = () =>
    compileImage(buildPlan(resourcesOf([listenerOf([hostOf([to('c')])])], [cluster])), {
      generation: 1,
      endpointId: (_, port) => port,
      proxyEndpointId: () => 0,
    });
  const outliers = new Outliers({
    words: new Int32Array(new SharedArrayBuffer(MAX_DETECTORS * DetectorSpec.size)),
    enabled: true,
    endpointId: (_, port) => port,
    setHosts: (_cluster, _room, hosts, states) =>
      force.push(hosts.flatMap(({ id }, i) => (states[i]!.health === 'healthy' ? [id] : []))),
    tell: (_, ejected) => tell.push([...ejected].map((key) => key.split(' ')[1]!)),
    now: () => now,
    random: () => 0.5,
  });
  outliers.prepare(compile());
  outliers.enforce();
  const fail = (port: number, times: number, status = 500): void => {
    for (let i = 0; i < times; i++) outliers.report('c', '127.0.0.1', port, status);
  };
  const wait = (ms: number): void => {
    for (let i = 0; i < ms; i += 100) {
      now += 100;
      t.mock.timers.tick(100);
    }
  };
  return { outliers, compile, tell, force, fail, wait };
}

describe('Outliers', () => {
  it('ejects after failures in a row, and takes back after a time that grows', (t) => {
    const { fail, wait, tell, force, outliers } = world(t, { consecutive_5xx: 3, max_ejection_percent: 50 });
    fail(1, 2);
    fail(1, 1, 200);
    fail(1, 2);
    assert.deepEqual(tell, []);
    fail(1, 1);
    assert.deepEqual(tell, [['1']]);
    assert.deepEqual(force, [[2, 3, 4]]);
    wait(1900);
    assert.equal(tell.length, 1);
    wait(200);
    assert.deepEqual(tell.at(-1), []);
    assert.deepEqual(force.at(-1), [1, 2, 3, 4]);
    // a moment after it has come back: twice as long
    fail(1, 3);
    wait(4800);
    assert.deepEqual(tell.at(-1), ['1']);
    wait(200);
    assert.deepEqual(tell.at(-1), []);
    // an interval without failures later: as long as that again
    wait(1000);
    fail(1, 3);
    wait(4800);
    assert.deepEqual(tell.at(-1), ['1']);
    wait(200);
    assert.deepEqual(tell.at(-1), []);
    assert.equal(outliers.ejections, 3);
  });
  it('stays away longer each time, up to the longest, as Envoy was measured to', (t) => {
    const { fail, wait, tell } = world(t, {
      consecutive_5xx: 1,
      max_ejection_percent: 100,
      max_ejection_time: '5s',
    });
    const away: number[] = [];
    for (let round = 0; round < 3; round++) {
      fail(2, 1);
      let ms = 0;
      wait(100); // a change of moments ago rests a little
      for (ms = 100; tell.at(-1)!.length > 0 && ms < 20_000; ms += 100) wait(100);
      away.push(Math.round(ms / 1000));
    }
    assert.deepEqual(away, [2, 4, 5]);
  });
  it('ejects no more than it may', (t) => {
    const { fail, wait, tell } = world(t, { consecutive_5xx: 1, max_ejection_percent: 50 });
    for (const port of PORTS) fail(port, 3);
    wait(100);
    assert.deepEqual(tell.at(-1), ['1', '2']);
  });
  it('ejects one in any case, if it is told so', (t) => {
    const { fail, tell, wait } = world(t, { consecutive_5xx: 1, max_ejection_percent: 0, always_eject_one_host: true });
    for (const port of PORTS) fail(port, 1);
    wait(100);
    assert.deepEqual(tell, [['1']]);
  });
  it('regards the percentage that is enforced', (t) => {
    const { fail, tell } = world(t, {
      consecutive_5xx: 1,
      enforcing_consecutive_5xx: 50,
      consecutive_gateway_failure: 1,
      enforcing_consecutive_gateway_failure: 51,
      max_ejection_percent: 100,
    });
    fail(1, 5);
    assert.deepEqual(tell, [], '0.5 is not less than 50 percent');
    fail(1, 1, 503);
    assert.deepEqual(tell, [['1']]);
  });
  it('keeps what is ejected in the next generation, unless the detection is another', (t) => {
    const { fail, compile, outliers } = world(t, { consecutive_5xx: 1, max_ejection_percent: 100 });
    fail(3, 1);
    const compiled = compile();
    outliers.prepare(compiled);
    assert.deepEqual([...outliers.toEject.get('c')!], ['127.0.0.1 3']);
    const around = { sourceIp: Uint8Array.of(127, 0, 0, 1), random: 0, uuid: '' };
    const decision = interpret(compiled.image, 0, Buffer.from('GET / HTTP/1.1\r\nhost: h\r\n\r\n'), around);
    assert.deepEqual(decision.endpoints, [1, 2, 4]);
    outliers.enforce();
    outliers.stop();
  });
});

describe('reports of tries', () => {
  const message = (field: number, write: (w: BinaryWriter) => void) => (w: BinaryWriter) => {
    w.uint32((field << 3) | 2).fork();
    write(w);
    w.join();
  };
  const all =
    (...parts: ((w: BinaryWriter) => void)[]) =>
    (w: BinaryWriter) => {
      for (const part of parts) part(w);
    };
  const text = (field: number, value: string) => (w: BinaryWriter) => void w.uint32((field << 3) | 2).string(value);
  const number = (field: number, value: number) => (w: BinaryWriter) => void w.uint32(field << 3).uint32(value);
  const report = (...response: ((w: BinaryWriter) => void)[]) => {
    const w = new BinaryWriter();
    const address = message(13, message(1, all(text(2, '10.0.0.1'), number(3, 8080))));
    const entry = all(message(1, all(address, text(15, 'c'), message(16, number(7, 1)))), message(4, all(...response)));
    all(message(1, text(2, 'tries')), message(2, message(1, entry)))(w);
    return decodeReports(w.finish());
  };
  const base = { cluster: 'c', address: '10.0.0.1', port: 8080 };

  it('read the host, the status and what broke', () => {
    const status = message(1, number(1, 200));
    assert.deepEqual(report(status), [{ ...base, status: 200, lost: true, timedOut: false }]);
    assert.deepEqual(report(message(1, number(1, 504)), text(6, 'response_timeout')), [
      { ...base, status: 0, lost: false, timedOut: true },
    ]);
  });
  it('refuse what is none', () => {
    assert.throws(() => decodeReports(Uint8Array.of(0x12, 0x7f, 1)));
  });
});
