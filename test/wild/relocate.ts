/** Policies' own addresses, certificates and logs exchanged for what this machine has. */
import { asObject, asObjects } from '../../src/policy/envoy/walk.js';
import type { Json, JsonObject, Resources } from '../../src/policy/resources.js';

/** Its own addresses for every process: two Envoys would share one without a word. */
const NETWORK = 64 + (process.pid % 190);

/** Echo servers that every set of policies shares. */
export interface Echoes {
  readonly names: readonly string[];
  readonly ports: readonly number[];
}

/** Certificates of the policies' own are not here, and the servers speak plain text: what is decided is the same. */
function inPlainText(owner: JsonObject): void {
  delete owner.transport_socket;
  delete owner.transport_socket_matches;
}

/** The lab reads Envoy's output through a socket, which cannot be opened anew for logs. */
function withoutConsole(value: Json | undefined): void {
  if (value === null || typeof value !== 'object') return;
  for (const [key, inner] of Object.entries(value)) {
    if (inner === '/dev/stdout' || inner === '/dev/stderr') (value as JsonObject)[key] = '/dev/null';
    else withoutConsole(inner);
  }
}

/** Addresses on this machine in place of the policies' own, in the resources themselves: other objects refer to them. */
export function relocate(resources: Resources, echoes: Echoes): void {
  resources.listeners.forEach((listener, i) => {
    const address = asObject(asObject(listener.address)?.socket_address);
    if (address) address.address = `127.${NETWORK}.${i >> 8}.${(i & 255) + 1}`;
    for (const chain of asObjects(listener.filter_chains)) inPlainText(chain);
    withoutConsole(listener);
  });
  let next = 0;
  const move = (assignment: JsonObject) => {
    for (const locality of asObjects(assignment.endpoints))
      for (const entry of asObjects(locality.lb_endpoints)) {
        const endpoint = asObject(entry.endpoint);
        if (!endpoint) continue;
        endpoint.address = {
          socket_address: { address: '127.0.0.1', port_value: echoes.ports[next++ % echoes.ports.length]! },
        };
      }
  };
  for (const cluster of resources.clusters) {
    const assignment = asObject(cluster.load_assignment);
    if (assignment) move(assignment);
    inPlainText(cluster);
    if (cluster.type === 'STRICT_DNS' || cluster.type === 'LOGICAL_DNS') cluster.type = 'STATIC';
  }
  for (const assignment of resources.endpoints) move(assignment);
}
