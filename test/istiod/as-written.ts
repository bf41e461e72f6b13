/** Routes and clusters of both sides, compared as they are written. */

import { isDeepStrictEqual } from 'node:util';
import { asObject, asObjects, asString, connectionManagers } from '../../src/policy/envoy/walk.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import type { ProxyResources } from './generator.js';
import { normalAction, normalCluster, normalMatch } from './normal.js';
import type { Differ, Tally } from './tally.js';
import { autoTls, clustersOf } from './theirs.js';

/** Virtual hosts of the same name, route by route. */
export function compareTables(ours: JsonObject, theirs: JsonObject, tally: Tally, differ: Differ): void {
  const hostsOf = (listener: JsonObject) =>
    connectionManagers(listener).flatMap((m) => asObjects(asObject(m.route_config)?.virtual_hosts));
  const [kind, , , host = ''] = asString(ours.name).split('|');
  if (kind !== 'outbound') return;
  const has = (v: JsonObject) => Array.isArray(v.domains) && v.domains.includes(host);
  const own = hostsOf(ours).find(has);
  // of a service whose protocol is found out by looking, istiod makes a table of its own
  const other = hostsOf(theirs).find(has) ?? (hostsOf(theirs).length === 1 ? hostsOf(theirs)[0] : undefined);
  if (!own || !other) {
    if (own)
      differ(
        'host',
        host,
        own.domains,
        hostsOf(theirs).map((v) => v.domains),
      );
    return;
  }
  const form = (v: JsonObject) => asObjects(v.routes).map((r) => ({ match: normalMatch(r), ...normalAction(r) }));
  const [a, b] = [form(own), form(other)];
  tally.routes += Math.max(a.length, b.length);
  for (const [i, route] of a.entries()) if (isDeepStrictEqual(route, b[i])) tally.same++;
}

export function compareClusters(resources: Resources, client: ProxyResources, tally: Tally, differ: Differ): void {
  const theirs = new Map(clustersOf(client).map((c) => [asString(c.name), c]));
  const auto = new Map(client.clusters.map((c) => [asString(c.name), autoTls(c)]));
  for (const own of resources.clusters) {
    const name = asString(own.name);
    if (!name.startsWith('outbound|') || name.includes(';')) continue;
    const other = theirs.get(name);
    tally.clusters++;
    if (!other) {
      // one that routes of istiod's name, and that is not there, answers 503
      const led = JSON.stringify(client.routes).includes(JSON.stringify(name));
      differ(led ? 'cluster' : 'hidden', name, 'there', 'not there');
      continue;
    }
    // istiod is told by each server whether it has a sidecar, so every cluster may speak TLS (which what is stored of
    // its answers leaves out); here one has that must not be spoken to without
    const may = !other.transport_socket && JSON.stringify(own.transport_socket ?? '').includes('"ROOTCA"');
    const socket = may ? (auto.get(name) ?? own.transport_socket) : undefined;
    const told = socket ? { ...other, transport_socket: socket } : other;
    const [a, b] = [own, told].map((c) => normalCluster(c, asObject(c.load_assignment)));
    for (const field of new Set([...Object.keys(a!), ...Object.keys(b!)]))
      if (!isDeepStrictEqual(a![field], b![field]))
        differ('cluster', `${name} ${field}`, a![field] ?? null, b![field] ?? null, { field, cluster: other });
  }
  for (const [name, cluster] of theirs)
    if (name.startsWith('outbound|') && !resources.clusters.some((c) => c.name === name))
      differ('cluster', name, 'not there', 'there', { cluster });
}
