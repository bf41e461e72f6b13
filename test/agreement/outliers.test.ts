/**
 * Generated outlier detection, and sequences of answers: which endpoints a real Envoy ejects, the agent ejects, too, answer by
 * answer. SIDESTEP_OUTLIER_PAIRS says how many answers, SIDESTEP_SEED which.
 */
import assert from 'node:assert/strict';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Outliers } from '../../src/agent/outliers.js';
import { compileImage } from '../../src/compile/image.js';
import { freePort } from '../../src/lab/ports.js';
import { DetectorSpec, MAX_DETECTORS } from '../../src/layout/counts.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy, sendRaw, startEnvoy } from '../plan/envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';
import { Draw } from '../wild/damage.js';
import { record } from './table/record.js';

const PAIRS = Number(process.env.SIDESTEP_OUTLIER_PAIRS ?? 400);
const SEED = Number(process.env.SIDESTEP_SEED ?? 3);
const CLUSTERS = 12;
const ANSWERS = 40;
const MOST_HOSTS = 4;
/** Envoy ejects in its main thread, after the answer. */
const LATEST_MS = 2000;
const envoy = findEnvoy();

/** With certain outcomes, and times that no test waits for. */
function detection(draw: Draw): JsonObject {
  const maybe = (n: number, fields: JsonObject): JsonObject => (draw.below(n) === 0 ? fields : {});
  return {
    ...{ interval: '600s', base_ejection_time: '600s', enforcing_success_rate: 0 },
    ...maybe(2, { consecutive_5xx: draw.one([0, 1, 2, 3, 7]) }),
    ...maybe(4, { enforcing_consecutive_5xx: draw.one([0, 100]) }),
    ...maybe(2, { consecutive_gateway_failure: draw.one([0, 1, 2, 4]) }),
    ...maybe(2, { enforcing_consecutive_gateway_failure: draw.one([0, 100, 100]) }),
    ...maybe(1, { max_ejection_percent: draw.one([0, 25, 33, 34, 49, 50, 51, 75, 100, 100]) }),
    ...maybe(4, { always_eject_one_host: true }),
  };
}

/** Statuses of answers: failures often come in rows. */
function* statuses(draw: Draw): Generator<number> {
  for (;;) {
    const status = draw.one([200, 404, 500, 500, 501, 502, 503, 503, 504, 599, 499]);
    for (let n = draw.one([1, 2, 3, 8, 12]); n > 0; n--) yield status;
  }
}

test('endpoints are ejected by the agent as by Envoy', {
  skip: envoy ? false : 'no Envoy',
  timeout: 3_600_000,
}, async (t) => {
  const servers = Array.from({ length: MOST_HOSTS }, (_, i) =>
    createServer((request, response) =>
      response.writeHead(Number(request.headers['x-status']), { 'content-length': '0', 'x-server': `${i}` }).end(),
    ),
  );
  for (const server of servers) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  let [pairs, ejections] = [0, 0];
  try {
    for (let set = 0; pairs < PAIRS; set++) {
      const draw = new Draw(SEED * 1000 + set);
      const tried = await trySet(draw, ports);
      pairs += tried.pairs;
      ejections += tried.ejections;
    }
  } finally {
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  }
  record('outliers', pairs, pairs);
  t.diagnostic(`seed ${SEED}: ${pairs} pairs, ${ejections} ejections`);
  assert.ok(ejections > pairs / 100, `only ${ejections} ejections among ${pairs} answers`);
});

/** Tries clusters with one Envoy. */
async function trySet(draw: Draw, ports: readonly number[]): Promise<{ pairs: number; ejections: number }> {
  const clusters = Array.from({ length: CLUSTERS }, (_, i) =>
    clusterOf(`c${i}`, ports.slice(0, 1 + draw.below(MOST_HOSTS)), {
      // an endpoint is passed over however few are left
      common_lb_config: { healthy_panic_threshold: { value: 0 } },
      outlier_detection: detection(draw),
    }),
  );
  const port = await freePort();
  const admin = await freePort();
  const resources = resourcesOf(
    [listenerOf([hostOf(clusters.map((c) => to(String(c.name), `/${c.name}/`)))], { port })],
    clusters,
  );
  const ejected = new Map<string, readonly number[]>();
  const outliers = new Outliers({
    words: new Int32Array(new SharedArrayBuffer(MAX_DETECTORS * DetectorSpec.size)),
    enabled: true,
    endpointId: (_, p) => p,
    setHosts: () => undefined,
    tell: (cluster, keys) => ejected.set(cluster, [...keys].map((key) => Number(key.split(' ')[1])).sort()),
    now: () => performance.now(),
    random: () => 0.5,
  });
  const compiled = compileImage(buildPlan(resources), {
    generation: 1,
    endpointId: (_, p) => p,
    proxyEndpointId: () => 0,
  });
  outliers.prepare(compiled);
  outliers.enforce();
  const { listeners } = resources;
  const running = await startEnvoy(envoy!, { listeners, clusters }, [port, admin], {
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: admin } } },
  });
  let pairs = 0;
  try {
    for (const { name } of clusters) {
      const cluster = String(name);
      const answers = statuses(draw);
      for (let i = 0; i < ANSWERS; i++) {
        const asked = `${answers.next().value}`;
        const answer = await sendRaw(port, [`GET /${cluster}/ HTTP/1.1`, 'Host: h', `x-status: ${asked}`]);
        pairs++;
        const server = answer.headers.find(([key]) => key === 'x-server')?.[1];
        // nobody is left
        if (server === undefined) break;
        outliers.report(cluster, '127.0.0.1', ports[Number(server)]!, Number(asked));
        const [own, envoys] = await settled(admin, cluster, () => [...(ejected.get(cluster) ?? [])]);
        const said = JSON.stringify(clusters.find((c) => c.name === name));
        assert.deepEqual(own, envoys, `seed ${SEED}, after ${i + 1} answers, the last ${asked} by ${server}: ${said}`);
      }
    }
  } finally {
    await running.stop();
    outliers.stop();
  }
  return { pairs, ejections: outliers.ejections };
}

/** The ports that the agent and Envoy have ejected, when they agree, or after a while. */
async function settled(admin: number, cluster: string, own: () => number[]): Promise<[number[], number[]]> {
  for (const end = Date.now() + LATEST_MS; ; ) {
    const found = await ejectedOf(admin, cluster);
    if (String(found) === String(own()) || Date.now() > end) return [own(), found];
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function ejectedOf(admin: number, cluster: string): Promise<number[]> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port: admin, path: `/clusters?filter=^${cluster}$` }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => {
        const flags = text.matchAll(/^(\w+)::[\d.]+:(\d+)::health_flags::.*failed_outlier_check/gm);
        resolve(
          [...flags]
            .filter(([, name]) => name === cluster)
            .map(([, , p]) => Number(p))
            .sort(),
        );
      });
    }).on('error', reject);
  });
}
