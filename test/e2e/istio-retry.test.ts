/** Retries: the first try in the kernel, the rest in the proxy; as many in all as Envoy alone would make. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { instanceFolder } from '../../src/kernel/instance.js';
import { eventually } from './eventually.js';
import { IstioWorld, outcome, service } from './istio-world.js';
import { skip } from './world.js';

const route = (prefix: string, more: string): string => `
    - match: [{ uri: { prefix: ${prefix} } }]
      route: [{ destination: { host: shaky } }]
      ${more}`;

describe('retries of Istio policies', { skip, timeout: 180_000 }, () => {
  let world: IstioWorld;
  let serial = 0;

  before(async () => {
    world = await IstioWorld.open('istio-retry');
    const [only, ...several] = await world.upstreams('only', 'a', 'b', 'c');
    await world.write(`${service('shaky', 'clusterIP: 10.96.178.1', [only!])}${service('several', 'clusterIP: 10.96.178.2', several)}---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: mesh, namespace: istio-system }
spec: { accessLogging: [{ providers: [{ name: envoy }], match: { mode: CLIENT } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: several }
spec: { host: several, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: several }
spec:
  hosts: [several]
  http:
    - match: [{ uri: { prefix: /often/ } }]
      route: [{ destination: { host: several } }]
      retries: { attempts: 5, retryOn: 5xx, backoff: 1ms }
    - match: [{ uri: { prefix: /codes/ } }]
      route: [{ destination: { host: several } }]
      retries: { attempts: 2, retryOn: "503" }
    - match: [{ uri: { prefix: /try/ } }]
      route: [{ destination: { host: several } }]
      retries: { attempts: 2, retryOn: "connect-failure,gateway-error", perTryTimeout: 150ms }
    - route: [{ destination: { host: several } }]
      retries: { attempts: 2, retryOn: "connect-failure,5xx" }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shaky }
spec:
  hosts: [shaky]
  http:${[
    route('/off/', 'retries: { attempts: 0 }'),
    route('/one/', 'retries: { attempts: 1, retryOn: "503" }'),
    route('/two/', 'retries: { attempts: 2, retryOn: "503" }'),
    route('/far/', 'retries: { attempts: 2, retryOn: "503", retryRemoteLocalities: true }'),
    route('/five/', 'retries: { attempts: 5, retryOn: "503" }'),
    route('/twenty/', 'retries: { attempts: 20, retryOn: "503" }'),
    route('/', ''),
  ].join('')}
`);
    await world.start();
  });
  after(() => world?.close());

  /** Both sides' answers to requests of which the upstream fails the first `failures`, and the tries it saw. */
  async function both(prefix: string, status: number, failures: number, method = 'GET', body?: string) {
    const key = `k${++serial}`;
    const ask = (side: string) => ({
      host: 'shaky',
      method,
      path: `${prefix}/fail/${status}/${failures}/${key}${side}`,
      ...(body === undefined ? {} : { body }),
    });
    const tries = async (side: string): Promise<number> => {
      const r = await world.alone({ host: 'shaky', path: `/tries/${key}${side}` });
      return JSON.parse(Buffer.from(r.answers[0]?.body ?? '', 'base64').toString()) as number;
    };
    const alone = outcome(await world.alone(ask('a')));
    const mesh = outcome(await world.mesh(ask('m')));
    return { alone, mesh, aloneTries: await tries('a'), meshTries: await tries('m') };
  }

  const CASES: readonly [what: string, prefix: string, status: number, failures: number, tries: number][] = [
    // Istio's default retries what never reached a server, no answers (since 1.24)
    ['default policy, never fails', '', 503, 0, 1],
    ['default policy, fails', '', 503, 2, 1],
    ['attempts: 2, never fails', '/two', 503, 0, 1],
    ['attempts: 2, fails once', '/two', 503, 1, 2],
    ['attempts: 2, fails twice', '/two', 503, 2, 3],
    ['attempts: 2, always fails', '/two', 503, 99, 3],
    ['attempts: 2, another status', '/two', 500, 1, 1],
    ['other priorities first, fails twice', '/far', 503, 2, 3],
    ['attempts: 0', '/off', 503, 2, 1],
    ['attempts: 1, fails once', '/one', 503, 1, 2],
    ['attempts: 1, always fails', '/one', 503, 99, 2],
    ['attempts: 5, always fails', '/five', 503, 99, 6],
    ['attempts: 20, left to the proxy', '/twenty', 503, 18, 19],
  ];
  for (const [what, prefix, status, failures, tries] of CASES) {
    test(what, async () => {
      // the first request may find no idle upstream; what is tested is the request in the kernel
      for (let i = 0; i < 3; i++) await world.mesh({ host: 'shaky', path: '/warm' });
      const decided = async () => (await world.sidestep.status()).counters?.kernel ?? 0;
      const before = await decided();
      const r = await both(prefix, status, failures);
      assert.equal(r.aloneTries, tries, 'Envoy alone');
      assert.equal(r.meshTries, tries, 'through Sidestep');
      assert.equal(r.mesh.status, r.alone.status);
      assert.deepEqual(r.mesh.headers, r.alone.headers);
      const first = (await decided()) - before;
      assert.equal(first, prefix === '/twenty' ? 0 : 1, `${first} first tries in the kernel`);
    });
  }

  test('a request with a body', async () => {
    const r = await both('/two', 503, 2, 'POST', 'hello');
    assert.equal(r.mesh.status, 200);
    assert.deepEqual([r.aloneTries, r.meshTries], [3, 3]);
  });

  test('what the upstream receives with the try that succeeds', async () => {
    const r = await both('/five', 503, 1);
    const plain = (o: typeof r.mesh) => {
      const { headers, target: _, ...rest } = o.received as { headers: string[]; target: string };
      return { ...rest, headers };
    };
    assert.deepEqual(plain(r.mesh), plain(r.alone));
  });

  // what is tried, how often, at how many of three endpoints, and whether the kernel makes the first try
  const SEVERAL: readonly [target: string, tries: number, places: number, kernel: boolean][] = [
    ['/fail/503/0', 1, 1, true],
    ['/fail/500/1', 2, 2, true],
    ['/fail/503/2', 3, 3, true],
    ['/fail/503/9', 3, 3, true],
    ['/reset/1', 2, 2, true],
    ['/reset/2', 3, 3, true],
    ['/reset/9', 3, 3, true],
    ['/often/fail/503/9', 6, 3, true],
    ['/try/slow/400/1', 2, 2, true],
    ['/try/slow/400/9', 3, 3, true],
    // a first try that could not fail in the proxy
    ['/codes/fail/503/2', 3, 3, false],
  ];
  for (const [target, times, places, kernel] of SEVERAL)
    test(`several endpoints: ${target}`, async () => {
      const key = `s${++serial}`;
      const decided = async () => (await world.sidestep.status()).counters?.kernel ?? 0;
      const ask = (side: string) => ({ host: 'several', path: `${target}/${key}${side}` });
      const tried = async (side: string): Promise<string[]> => {
        const r = await world.alone({ host: 'shaky', path: `/tried/${key}${side}` });
        return JSON.parse(Buffer.from(r.answers[0]?.body ?? '', 'base64').toString()) as string[];
      };
      // each endpoint has an idle connection, also when one of them was reset
      for (let i = 0, streak = 0; i < 200 && streak < 6; i++) {
        const before = await decided();
        await world.mesh({ host: 'several', path: '/warm' });
        streak = (await decided()) > before ? streak + 1 : 0;
      }
      const before = await decided();
      const mesh = outcome(await world.mesh(ask('m')));
      assert.equal((await decided()) - before, kernel ? 1 : 0, 'first tries in the kernel');
      const alone = outcome(await world.alone(ask('a')));
      const without = (o: typeof mesh) => {
        const { headers } = (o.received ?? {}) as { headers?: string[] };
        return { ...o, upstream: '', received: headers, headers: o.headers.filter((h) => !/^x-upstream/i.test(h)) };
      };
      assert.deepEqual(without(mesh), without(alone));
      for (const at of [await tried('m'), await tried('a')])
        assert.deepEqual([at.length, new Set(at).size], [times, places], `tried at ${at}`);
    });

  test('the line about a request that was tried at several endpoints names their cluster', async () => {
    // "host:port" cluster, in Istio's format
    const clusters = (text: string, key: string): string[] =>
      text
        .split('\n')
        .flatMap((line) => (line.includes(key) ? [/" ([^ ]+)(?: [^ ]+){5}$/.exec(line)?.[1] ?? line] : []));
    const own = join(instanceFolder(world.sidestep.name), 'proxy', 'envoy.log');
    await eventually(async () => {
      const mesh = clusters(await readFile(own, 'utf8'), `/fail/503/9/s`);
      const alone = clusters(world.envoy.process.output, `/fail/503/9/s`);
      assert.ok(mesh.length > 0 && alone.length > 0, 'no line yet');
      assert.deepEqual(new Set(mesh), new Set(alone));
      assert.deepEqual(new Set(mesh), new Set(['outbound|80||several.default.svc.cluster.local']));
    });
  });
});
