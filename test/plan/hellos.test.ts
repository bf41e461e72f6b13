/** Listeners whose chains are chosen by what clients say first: what is the kernel's, and where a ClientHello leads. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compileImage } from '../../src/compile/image.js';
import { buildPlan } from '../../src/plan/build.js';
import { routeFor } from '../../src/plan/hellos.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { explain } from '../../src/report/explain.js';
import { cluster, tcpListener } from '../e2e/connection-world.js';
import { resourcesOf } from './resources.js';

const inspector = (more: JsonObject = {}): JsonObject => ({
  name: 'tls',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
    ...more,
  },
});

/** A chain to a cluster of its own name. */
function chain(to: string, match?: JsonObject, more: JsonObject = {}): JsonObject {
  const [own] = tcpListener(to, '127.0.0.9', 1, { cluster: to }).filter_chains as JsonObject[];
  return { ...own, ...(match ? { filter_chain_match: match } : {}), ...more };
}

function planOf(chains: readonly JsonObject[], more: JsonObject = {}) {
  const made = tcpListener('names', '127.0.0.9', 7777, {});
  const names = ['a', 'b', 'c', 'd'].map((name, i) => cluster(name, [['127.0.0.1', 8001 + i]]));
  const listener = { ...made, listener_filters: [inspector()], filter_chains: [...chains], ...more };
  return buildPlan(resourcesOf([listener], names));
}

/** The cluster that a ClientHello leads to. */
function to(plan: ReturnType<typeof planOf>, name?: string, ...protocols: string[]): string | undefined {
  const { hellos } = plan.listeners[0]!;
  const route = routeFor(hellos!, { ...(name === undefined ? {} : { name }), protocols });
  return route === undefined ? undefined : hellos!.routes[route]!.clusters[0]!.cluster;
}

describe('listeners about ClientHellos', () => {
  test('names, wildcards, and the default chain', () => {
    const plan = planOf(
      [
        chain('a', { server_names: ['a.test', '*.x.test'] }),
        chain('b', { server_names: ['*.test'] }),
        chain('c', { server_names: ['raw.test'], transport_protocol: 'raw_buffer' }),
      ],
      { default_filter_chain: chain('d') },
    );
    assert.equal(plan.listeners[0]?.offloaded, true, JSON.stringify(plan.listeners[0]?.reasons));
    const found = ['a.test', 'Y.x.TEST', 'z.y.x.test', 'x.test', 'test', 'raw.test', undefined].map((n) => to(plan, n));
    assert.deepEqual(found, ['a', 'a', 'a', 'b', 'd', 'd', 'd']);
    assert.equal(plan.listeners[0]?.hellos?.plain.route, 3);
    const options = { generation: 1, endpointId: (_: string, port: number) => port, proxyEndpointId: () => 0 };
    const ids = ['names/filter_chains[0]', 'names/filter_chains[1]', 'names/filter_chains[2]'];
    const { rules, verdicts } = compileImage(plan, options);
    assert.deepEqual([rules, [...verdicts]], [[...ids, 'names/default_filter_chain'], []]);
  });

  test('protocols: the first of the client’s that a chain has', () => {
    const plan = planOf([
      chain('a', { server_names: ['a.test'], application_protocols: ['h2'] }),
      chain('b', { server_names: ['a.test'], application_protocols: ['http/1.1'] }),
      chain('c', { application_protocols: ['h2'] }),
    ]);
    assert.equal(to(plan, 'a.test', 'x', 'http/1.1', 'h2'), 'b');
    assert.equal(to(plan, 'a.test', 'x'), undefined);
    assert.equal(to(plan, 'b.test', 'h2'), 'c');
  });

  test('explain', () => {
    const plan = planOf([chain('a', { server_names: ['a.test'] })]);
    const base = { listener: 'names', method: 'GET', target: '/', headers: [['host', 'x']] as const };
    const named = explain(plan, { ...base, hello: { name: 'a.test', protocols: [] } });
    assert.deepEqual(
      [named.verdict, named.winner?.name, named.result?.kind],
      ['kernel', 'names/filter_chains[0]', 'connect'],
    );
    const plain = explain(plan, base);
    assert.deepEqual([plain.verdict, plain.winner, plain.result], ['proxy', null, null]);
  });

  const A = { server_names: ['a.test'] };
  const TLS = { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext' };
  const LEFT: readonly [what: string, chains: JsonObject[], more: JsonObject, codes: readonly string[]][] = [
    ['another selector', [chain('a', { ...A, source_type: 'EXTERNAL' })], {}, ['filter-chain']],
    ['another listener filter', [chain('a', A)], { listener_filters: [inspector(), { name: 'x' }] }, ['filter-chain']],
    [
      'a smaller inspector',
      [chain('a', A)],
      { listener_filters: [inspector({ initial_read_buffer_size: 512 })] },
      ['unsupported-field'],
    ],
    ['TLS that ends here', [chain('a', A, { transport_socket: { name: 'tls', typed_config: TLS } })], {}, ['tls']],
    ['a long protocol', [chain('a', { application_protocols: ['a-protocol-of-twenty'] })], {}, ['filter-chain']],
    ['upper case', [chain('a', { server_names: ['A.test'] })], {}, ['filter-chain']],
    ['from everywhere', [chain('a', A)], { traffic_direction: 'INBOUND' }, ['not-http']],
  ];
  for (const [what, chains, more, codes] of LEFT)
    test(`the proxy’s: ${what}`, () => {
      const { offloaded, reasons } = planOf(chains, more).listeners[0]!;
      assert.deepEqual([offloaded, reasons.map(({ code }) => code)], [false, codes], JSON.stringify(reasons));
    });

  test('a chain of the proxy’s beside one of the kernel’s', () => {
    const plan = planOf([chain('a', A, { transport_socket: { name: 'tls', typed_config: TLS } }), chain('b')]);
    assert.equal(plan.listeners[0]?.offloaded, true, 'one is');
    assert.deepEqual([to(plan, 'a.test'), to(plan, 'b.test')], [undefined, 'b']);
  });
});
