/** What becomes of a request at the sidecars of the servers. */

import { isDeepStrictEqual } from 'node:util';
import type { Trace } from '../../src/plan/evaluate.js';
import type { PlanRequest } from '../../src/plan/request-view.js';
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { Identity } from '../../src/policy/istio/identities.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { type Generated, isServer, type ProxyResources } from './generator.js';
import { decisionOf, Side } from './side.js';
import { inboundClusters, inboundManager, listenerOf, readEnvoy } from './theirs.js';

/** What the servers' filters look at. */
export function rbacWords(answer: Generated): JsonObject {
  const out: JsonObject[] = [];
  for (const [name, proxy] of Object.entries(answer.proxies ?? {}))
    if (isServer(name)) out.push(...proxy.listeners.filter((l) => l.name === 'virtualInbound'));
  return { servers: out };
}

/** Ports of the workload that its sidecar has filter chains for. */
export function portsOf(proxy: ProxyResources): number[] {
  const listener = proxy.listeners.find((l) => l.name === 'virtualInbound');
  const ports = asObjects(listener?.filter_chains).map((c) =>
    Number(asObject(c.filter_chain_match)?.destination_port ?? 0),
  );
  return [...new Set(ports)].filter((p) => p > 0 && p !== 15006);
}

/** What is behind a listener on istiod's side. `unasked`: addresses of servers that it was not asked about. */
export interface Around {
  readonly client: Resources;
  readonly servers: Side;
  readonly unasked: ReadonlySet<string>;
}

/** What becomes of a request that a client's sidecar forwards, when it comes to the servers' sidecars; undefined: unknown. */
export function atTheirServers(
  decision: JsonObject,
  trace: Trace,
  asked: PlanRequest,
  around: Around,
): JsonObject | undefined {
  const { client, servers } = around;
  const { result } = trace;
  if (result?.kind !== 'forward' || servers.plan.listeners.length === 0) return decision;
  const known = new Set(servers.plan.listeners.map((l) => l.name));
  const outcomes: JsonObject[] = [];
  for (const { cluster, weight } of result.action.clusters) {
    if (weight === 0) continue;
    const found = client.clusters.find((c) => c.name === cluster);
    for (const locality of asObjects(asObject(found?.load_assignment)?.endpoints))
      for (const entry of asObjects(locality.lb_endpoints)) {
        const socket = asObject(asObject(asObject(entry.endpoint)?.address)?.socket_address);
        const listener = `inbound|${String(socket?.port_value)}|${asString(socket?.address)}`;
        if (!known.has(listener)) {
          // a server that istiod was not asked about
          if (around.unasked.has(asString(socket?.address))) return undefined;
          outcomes.push(decision);
          continue;
        }
        const { trace: there } = servers.evaluate({
          ...asked,
          listener,
          target: result.target,
          headers: result.headers.filter(([name]) => name !== 'x-request-id' && !name.startsWith('x-envoy-')),
        });
        if (there.verdict !== 'kernel' || !there.result) return undefined;
        outcomes.push(there.result.kind === 'reply' ? (decisionOf(there) ?? {}) : decision);
      }
  }
  const [first, ...rest] = outcomes;
  if (!first) return decision;
  return rest.every((o) => isDeepStrictEqual(o, first)) ? first : undefined;
}

/** The servers' inbound listeners, as istiod makes them. `identity`: whom they take the client for. */
export async function serversSide(answer: Generated, identity: Identity | undefined): Promise<Side> {
  const listeners: JsonObject[] = [];
  for (const [address, proxy] of Object.entries(answer.proxies ?? {})) {
    if (!isServer(address)) continue;
    for (const port of portsOf(proxy)) {
      const manager = inboundManager(proxy, port);
      if (!manager) continue;
      const name = `inbound|${port}|${address}`;
      const at = { address, port, ...(identity && { identity }) };
      listeners.push(listenerOf(name, manager, proxy, at));
    }
  }
  const resources = await readEnvoy(
    listeners,
    Object.entries(answer.proxies ?? {})
      .filter(([name]) => isServer(name))
      .flatMap(([, proxy]) => inboundClusters(proxy))
      .filter((c, i, all) => all.findIndex((o) => o.name === c.name) === i),
  );
  return new Side(resources);
}
