/** Listeners about connections: what is the kernel's, and why something is not. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compileImage } from '../../src/compile/image.js';
import { ActionSpec, WeightedClusterSpec } from '../../src/layout/actions.js';
import { ClusterSpec } from '../../src/layout/clusters.js';
import { ImageHeader, RouteSpec } from '../../src/layout/image.js';
import { get } from '../../src/layout/struct.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { explain } from '../../src/report/explain.js';
import { cluster, tcpListener } from '../e2e/connection-world.js';
import { resourcesOf } from './resources.js';

const TLS = { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext' };

interface Given {
  readonly proxy?: JsonObject;
  readonly listener?: JsonObject;
  readonly chain?: JsonObject;
  readonly cluster?: JsonObject;
}

function planOf({ proxy = { cluster: 'one' }, listener = {}, chain = {}, cluster: more = {} }: Given) {
  const made = tcpListener('tcp', '127.0.0.9', 7777, proxy);
  const [own] = made.filter_chains as JsonObject[];
  return buildPlan(
    resourcesOf(
      [{ ...made, filter_chains: [{ ...own, ...chain }], ...listener }],
      [cluster('one', [['127.0.0.1', 8001]], more), cluster('two', [['127.0.0.1', 8002]])],
    ),
  );
}

const listenerOf = (given: Given) => planOf(given).listeners[0]!;

describe('listeners about connections', () => {
  test('weighted clusters in the image, with the time to connect', () => {
    const weighted = { clusters: [{ name: 'one', weight: 3 }, { name: 'two', weight: 1 }] }; // biome-ignore format: as it is
    const plan = planOf({ proxy: { weighted_clusters: weighted, idle_timeout: '3600s' } });
    assert.deepEqual([plan.listeners[0]?.offloaded, plan.listeners[0]?.reasons], [true, []]);
    const { image, rules } = compileImage(plan, {
      generation: 1,
      endpointId: (_, port) => port,
      proxyEndpointId: () => 0,
    });
    assert.deepEqual(rules, ['tcp/tcp_proxy']);
    const view = new DataView(image.buffer, image.byteOffset);
    const word = (at: number) => view.getUint32(at, true);
    // HTTP programs that still have a connection to a listener of this name leave it to the proxy
    assert.equal(word(get(view, 0, ImageHeader, 'listeners')), 0);
    const route = word(get(view, 0, ImageHeader, 'connections'));
    const action = get(view, route, RouteSpec, 'action');
    assert.deepEqual(
      [get(view, action, ActionSpec, 'n_clusters'), get(view, action, ActionSpec, 'total_weight')],
      [2, 4],
    );
    const at = get(view, get(view, action, ActionSpec, 'clusters'), WeightedClusterSpec, 'cluster');
    assert.equal(get(view, at, ClusterSpec, 'connect_ms'), 2000);
  });

  test('explain says where connections lead', () => {
    const plan = planOf({});
    const x = explain(plan, { listener: 'tcp', method: 'GET', target: '/', headers: [['host', 'x']] });
    assert.deepEqual([x.verdict, x.result?.kind], ['kernel', 'connect']);
    const left = explain(planOf({ proxy: { cluster: 'one', max_connect_attempts: 3 } }), {
      ...{ listener: 'tcp', method: 'GET', target: '/', headers: [['host', 'x']] },
    });
    assert.deepEqual(
      [left.verdict, left.reasons.map(({ code }) => code), left.result],
      ['proxy', ['stream-limits'], null],
    );
  });

  const LEFT: readonly [what: string, given: Given, codes: readonly string[]][] = [
    ['another idle time', { proxy: { cluster: 'one', idle_timeout: '60s' } }, ['stream-limits']],
    ['several attempts', { proxy: { cluster: 'one', max_connect_attempts: 2 } }, ['stream-limits']],
    [
      'a field that is not known',
      { proxy: { cluster: 'one', max_downstream_connection_duration: '9s' } },
      ['unsupported-field'],
    ],
    ['a log', { proxy: { cluster: 'one', access_log: [{ name: 'x' }] } }, ['access-log']],
    ['a cluster that is not there', { proxy: { cluster: 'none' } }, ['cluster-unknown']],
    ['a listener filter', { listener: { listener_filters: [{ name: 'tls_inspector' }] } }, ['filter-chain']],
    ['a match', { chain: { filter_chain_match: { server_names: ['a'] } } }, ['filter-chain']],
    ['connections from elsewhere', { listener: { traffic_direction: 'INBOUND' } }, ['not-http']],
    ['TLS of clients', { chain: { transport_socket: { name: 'tls', typed_config: TLS } } }, ['tls']],
    ['TLS to servers', { cluster: { transport_socket: { name: 'tls', typed_config: TLS } } }, ['tls']],
    ['a hash table', { cluster: { lb_policy: 'MAGLEV' } }, ['lb-policy']],
    ['outlier detection', { cluster: { outlier_detection: { max_ejection_percent: 100 } } }, ['outlier-detection']],
    [
      'keepalive',
      { cluster: { upstream_connection_options: { tcp_keepalive: { keepalive_time: 9 } } } },
      ['unsupported-field'],
    ],
    [
      'few connections',
      { cluster: { circuit_breakers: { thresholds: [{ max_connections: 9 }] } } },
      ['circuit-breaker'],
    ],
    ['few requests', { cluster: { circuit_breakers: { thresholds: [{ max_requests: 9 }] } } }, ['circuit-breaker']],
  ];
  for (const [what, given, codes] of LEFT) {
    test(`left to the proxy: ${what}`, () => {
      const { offloaded, reasons } = listenerOf(given);
      assert.equal(offloaded, false);
      assert.deepEqual([...new Set(reasons.map(({ code }) => code))], codes, JSON.stringify(reasons));
    });
  }
});
