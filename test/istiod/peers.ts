/** Modes of mutual TLS: what PeerAuthentications make of each port of each server here, against the filter chains that istiod gives its sidecar. */
import { asObject, asString, filterChains } from '../../src/policy/envoy/walk.js';
import { type PeerMode, peerMode } from '../../src/policy/istio/peer-authentication.js';
import { peerAuthentication } from '../../src/policy/istio/schema/request-authentication.js';
import { byAge } from '../../src/policy/istio/virtual-services.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { portsOf } from './at-servers.js';
import { documentsOf, kindOf } from './documents.js';
import { type AskedProxy, type Generated, isServer, type ProxyResources } from './generator.js';
import type { Differ, Tally } from './tally.js';

const ROOT_NAMESPACE = 'istio-system';

/** The mode that a port's filter chains carry out. */
function modeOf(proxy: ProxyResources, port: number): PeerMode {
  const listener = proxy.listeners.find((l) => l.name === 'virtualInbound');
  const matches = filterChains(listener ?? {}).flatMap((chain) => {
    const match = asObject(chain.filter_chain_match);
    return Number(match?.destination_port) === port ? [asString(match?.transport_protocol) === 'tls'] : [];
  });
  if (!matches.includes(true)) return 'DISABLE';
  return matches.includes(false) ? 'PERMISSIVE' : 'STRICT';
}

/** Compares the modes of all servers that istiod was asked about. */
export function comparePeers(
  objects: readonly JsonObject[],
  servers: readonly AskedProxy[],
  answer: Generated,
  tally: Tally,
  differ: Differ,
): void {
  const policies = documentsOf(objects.filter((o) => kindOf(o) === 'PeerAuthentication'))
    .map((document) => ({ document, spec: peerAuthentication.parse(document.json.spec ?? {}) }))
    .sort(byAge);
  for (const { name, namespace, labels } of servers) {
    const proxy = answer.proxies?.[name];
    if (!proxy || !isServer(name)) continue;
    for (const port of portsOf(proxy)) {
      tally.peers++;
      const [ours, theirs] = [
        peerMode(policies, ROOT_NAMESPACE, { namespace, labels, port }).mode,
        modeOf(proxy, port),
      ];
      if (theirs !== 'PERMISSIVE') tally.decidedPeers++;
      if (ours !== theirs) differ('peers', `inbound|${port}|${name}`, ours, theirs);
    }
  }
}
