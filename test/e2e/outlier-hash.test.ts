/**
 * Outlier detection together with consistent hashing: which server a key leads to, after generated failures, through Envoy
 * alone and through Sidestep. SIDESTEP_SEED says which, SIDESTEP_OUTLIERS how many rounds each cluster gets.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Driver } from '../../src/lab/driver.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort, freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { outcomeOf } from '../agreement/world.js';
import { exchange, type Request } from '../differential/requests.js';
import { hostOf, listenerOf, to } from '../plan/resources.js';
import { Draw } from '../wild/draw.js';
import { eventually } from './eventually.js';
import { allInKernel } from './in-kernel.js';
import { sideBySide } from './side-by-side.js';
import { ALONE, MESH, skip } from './world.js';

const ECHO_SERVER = join(dirname(fileURLToPath(import.meta.url)), '../differential/echo-server.ts');
const SEED = Number(process.env.SIDESTEP_SEED ?? 4);
const ROUNDS = Number(process.env.SIDESTEP_OUTLIERS ?? 5);
const CLUSTERS = 6;
const SERVERS = 4;
const KEYS = Array.from({ length: 10 }, (_, i) => `key-${i}`);

interface Cluster {
  readonly json: JsonObject;
  /** failures in a row after which a server is ejected, if as many may be */
  readonly failures: number;
}

function cluster(name: string, ports: readonly number[], draw: Draw): Cluster {
  const failures = 1 + draw.below(3);
  const gateway = draw.below(3) === 0;
  const json: JsonObject = {
    ...{ name, type: 'STATIC', connect_timeout: '2s' },
    ...draw.one<JsonObject>([
      { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: '64' } },
      { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '101' } },
    ]),
    common_lb_config: { healthy_panic_threshold: { value: draw.one([0, 0, 60]) }, update_merge_window: '0s' },
    outlier_detection: {
      ...{ interval: '0.2s', base_ejection_time: '300s', enforcing_success_rate: 0 },
      max_ejection_percent: draw.one([100, 50, 30]),
      ...(gateway
        ? { consecutive_5xx: 0, consecutive_gateway_failure: failures, enforcing_consecutive_gateway_failure: 100 }
        : { consecutive_5xx: failures }),
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: ports.map((port_value) => ({
            endpoint: { address: { socket_address: { address: '127.0.0.1', port_value } } },
          })),
        },
      ],
    },
  };
  return { json, failures };
}

test('keys lead to the same servers, whatever was ejected', { skip, timeout: 200_000 }, async (t) => {
  const lab = await Lab.open('outlier-hash');
  try {
    const draw = new Draw(SEED);
    const names = Array.from({ length: CLUSTERS * SERVERS }, (_, i) => `o${i}`);
    const ports = await freePorts(names.length);
    const echo = lab.start('echo servers', [...nodeScript(ECHO_SERVER), ...names.map((n, i) => `${n}=${ports[i]}`)]);
    await echo.waitFor(/listening/);
    const clusters = Array.from({ length: CLUSTERS }, (_, i) =>
      cluster(`c${i}`, ports.slice(i * SERVERS, (i + 1) * SERVERS), draw),
    );
    const port = await freePort();
    const routes = clusters.map((_, i) =>
      to(`c${i}`, `/c${i}/`, {}, { hash_policy: [{ header: { header_name: 'x-key' } }] }),
    );
    const { sidestep, mesh, alone } = await sideBySide(lab, join(lab.dir, 'policy.json'), (address) => {
      const listener = listenerOf([hostOf(routes)], { port, name: 'test' });
      ((listener.address as JsonObject).socket_address as JsonObject).address = address;
      return { static_resources: { listeners: [listener], clusters: clusters.map(({ json }) => json) } };
    });
    const ask = async (client: Driver, address: string, index: number, keys: readonly string[], answer?: string) => {
      const exchanges = keys.map((key) => {
        const headers: [string, string][] = [
          ['Host', 'h'],
          ['x-key', key],
        ];
        if (answer) headers.push(['x-answer', answer]);
        const request: Request = {
          ...{ method: 'GET', target: `/c${index}/`, version: 'HTTP/1.1', headers },
          ...{ body: -1, chunked: false, cuts: [] },
        };
        return exchange([request]);
      });
      const { answers } = await client.run({ address, port, exchanges });
      return answers.map((a) => outcomeOf(a).first.slice(0, 1).join());
    };
    const inMesh = (index: number, keys: readonly string[], answer?: string) => ask(mesh, MESH, index, keys, answer);
    const inAlone = (index: number, keys: readonly string[], answer?: string) => ask(alone, ALONE, index, keys, answer);
    for (const [index] of clusters.entries())
      await allInKernel(sidestep, KEYS.length, (i) => inMesh(index, [KEYS[i]!]));
    const before = (await sidestep.status()).counters?.kernel ?? 0;
    let ejected = 0;
    let sent = 0;
    for (let round = 0; round < ROUNDS; round++)
      for (const [index, { failures }] of clusters.entries()) {
        const key = draw.one(KEYS);
        const some = Array.from({ length: draw.below(4) === 0 ? failures - 1 : failures }, () => key);
        const was = await inAlone(index, KEYS);
        await inAlone(index, some, '503');
        await inMesh(index, some, '503');
        sent += some.length;
        let now: string[] = [];
        await eventually(async () => {
          now = await inAlone(index, KEYS);
          const own = await inMesh(index, KEYS);
          assert.deepEqual(own, now, `seed ${SEED}, round ${round}, ${JSON.stringify(clusters[index]!.json)}`);
          // what takes effect later than the one look must not go unseen
          assert.deepEqual(await inMesh(index, KEYS), await inAlone(index, KEYS), 'a look later');
        });
        if (now.join() !== was.join()) ejected++;
      }
    const kernel = ((await sidestep.status()).counters?.kernel ?? 0) - before;
    t.diagnostic(`seed ${SEED}: ${sent} failures, ${ejected} ejections, ${kernel} requests in the kernel`);
    assert.ok(ejected >= ROUNDS, `only ${ejected} ejections`);
    assert.ok(kernel > sent, `only ${kernel} requests were the kernel's`);
  } finally {
    await lab.close();
  }
});
