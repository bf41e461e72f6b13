/**
 * Outlier detection that can never eject: what the plan takes for harmless must not eject a single endpoint of the real
 * Envoy although all of them fail; where Envoy does eject, the plan must not take it.
 */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../../src/lab/ports.js';
import { clusterInfo } from '../../src/plan/clusters.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { findEnvoy, type RunningEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from './resources.js';

const envoy = findEnvoy();
const PERCENTS = [undefined, 0, 10, 33, 34, 50, 51, 99, 100];
const SIZES = [1, 2, 3, 9, 10, 11];

describe('outlier detection of small clusters', { skip: envoy ? false : 'no Envoy', timeout: 60_000 }, () => {
  const servers: Server[] = [];
  const clusters: JsonObject[] = [];
  let running: RunningEnvoy | undefined;
  let port: number;

  before(async () => {
    for (let i = 0; i < Math.max(...SIZES); i++) {
      const server = createServer((_, response) =>
        response.writeHead(500, { 'content-length': '0', 'x-server': `${i}` }).end(),
      );
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      servers.push(server);
    }
    const ports = servers.map((server) => (server.address() as AddressInfo).port);
    for (const size of SIZES)
      for (const percent of PERCENTS)
        for (const always of [false, true]) {
          clusters.push(
            clusterOf(`c${size}-${percent}-${always}`, ports.slice(0, size), {
              // no endpoint may be passed over while few are left
              common_lb_config: { healthy_panic_threshold: { value: 0 } },
              outlier_detection: {
                consecutive_5xx: 1,
                interval: '600s',
                base_ejection_time: '600s',
                ...(percent === undefined ? {} : { max_ejection_percent: percent }),
                ...(always ? { always_eject_one_host: true } : {}),
              },
            }),
          );
        }
    port = await freePort();
    const routes = clusters.map((c) => to(String(c.name), `/${c.name}/`));
    running = await startEnvoy(envoy!, { listeners: [listenerOf([hostOf(routes)], { port })], clusters }, [port]);
  });
  after(async () => {
    await running?.stop();
    for (const server of servers) server.close();
  });

  /** The servers that answered n requests in turn; '-' for an answer of Envoy's own. */
  async function asked(name: string, n: number): Promise<Set<string>> {
    const seen = new Set<string>();
    for (let i = 0; i < n; i++) {
      const { headers } = await sendRaw(port, [`GET /${name}/ HTTP/1.1`, 'Host: h']);
      seen.add(headers.find(([key]) => key === 'x-server')?.[1] ?? '-');
    }
    return seen;
  }

  it('agrees with Envoy', async () => {
    const counts = { never: 0, ejects: 0 };
    const sizeOf = (cluster: JsonObject) => Number(/c(\d+)/.exec(String(cluster.name))![1]);
    for (const cluster of clusters) await asked(String(cluster.name), sizeOf(cluster) + 1);
    // Envoy ejects in its main thread, which must find the time for it
    await new Promise((resolve) => setTimeout(resolve, 500));
    for (const cluster of clusters) {
      const name = String(cluster.name);
      const size = sizeOf(cluster);
      const left = await asked(name, size + 1);
      const ejected = left.size < size || left.has('-');
      counts[ejected ? 'ejects' : 'never']++;
      const { notes, detection } = clusterInfo(cluster, resourcesOf([], [cluster]));
      const harmless = notes.clean && !detection;
      assert.equal(harmless, !ejected, `${name}: ${[...left].join()}`);
    }
    assert.ok(counts.never > 10 && counts.ejects > 10, JSON.stringify(counts));
  });
});
