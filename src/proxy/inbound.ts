/**
 * The proxy's part of inbound listeners. Their clients may be anywhere, so the agent cannot connect to the proxy from
 * their addresses. It says whose connection it is by the PROXY protocol, to a copy of the listener that waits on a Unix
 * socket which only root may open: a copy, since on the listener itself any client could send such a header.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { asObjects, asString } from '../policy/envoy/walk.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';

const PROXY_PROTOCOL = 'type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol';
const RBAC = /\/envoy\.(extensions\.filters\.(http|network)\.rbac|config\.rbac)\.v3\./;

/** Where the copy of a listener waits, in the proxy's folder. */
export function inboundPath(dir: string, listener: string): string {
  return join(dir, `in-${createHash('sha256').update(listener).digest('hex').slice(0, 12)}.sock`);
}

/**
 * Why the proxy could not judge a forwarded connection of this listener as it judges a direct one; undefined if it can.
 * `direct` addresses are those of the agent's connection then. Principals of RBAC are rewritten, others stay.
 */
export function inboundProblem(listener: JsonObject, resources: Resources): string | undefined {
  const mentions = (what: string): boolean => JSON.stringify(listener).includes(what) || routesMention(resources, what);
  if (mentions('DOWNSTREAM_DIRECT_')) return 'a format mentions the direct address of the client';
  if (mentions('direct_source_prefix_ranges')) return 'a filter chain is chosen by the direct address of the client';
  const filters = resources.listeners.map((l) => l.listener_filters ?? []);
  if (JSON.stringify(filters).includes('proxy_protocol')) return 'a listener reads the PROXY protocol itself';
  return undefined;
}

const known = new WeakMap<readonly JsonObject[], Map<string, boolean>>();

/** Looked for once for all listeners: the routes can be many. */
function routesMention({ routeConfigs }: Resources, what: string): boolean {
  const found = known.get(routeConfigs) ?? new Map<string, boolean>();
  known.set(routeConfigs, found);
  const answer = found.get(what) ?? JSON.stringify(routeConfigs).includes(what);
  found.set(what, answer);
  return answer;
}

/** The resources with a copy of each of `listeners` for the agent. What is not changed is shared with the original. */
export function withInboundListeners(resources: Resources, listeners: readonly string[], dir: string): Resources {
  if (listeners.length === 0) return resources;
  const wanted = new Set(listeners);
  const copies = resources.listeners
    .filter((listener) => wanted.has(asString(listener.name)))
    .map((listener) => agentCopy(listener, asString(listener.name), dir));
  return { ...undirectedRoutes(resources), listeners: [...resources.listeners, ...copies] };
}

/** The resources with routes that mean the same in a copy for the agent. */
export function undirectedRoutes(resources: Resources): Resources {
  return { ...resources, routeConfigs: resources.routeConfigs.map((config) => undirected(config) as JsonObject) };
}

/** A listener as the agent reaches it, where `inboundPath` of this name is. */
export function agentCopy(listener: JsonObject, name: string, dir: string): JsonObject {
  const { additional_addresses: _, ...rest } = listener;
  return {
    ...(undirected(rest) as JsonObject),
    name: `${name} for the agent`,
    address: { pipe: { path: inboundPath(dir, name), mode: 0o600 } },
    listener_filters: [
      { name: 'envoy.filters.listener.proxy_protocol', typed_config: { '@type': PROXY_PROTOCOL } },
      ...asObjects(listener.listener_filters),
    ],
  };
}

/**
 * RBAC with `direct_remote_ip` as `source_ip`, wherever it is configured. Both mean the peer of the connection, but
 * with the PROXY protocol only the latter is the client whom the header names; without, they are the same.
 */
function undirected(value: Json, inside = false): Json {
  if (Array.isArray(value)) return value.map((item) => undirected(item, inside));
  if (value === null || typeof value !== 'object') return value;
  const rbac = inside || (typeof value['@type'] === 'string' && RBAC.test(value['@type']));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      rbac && key === 'direct_remote_ip' ? 'source_ip' : key,
      undirected(item, rbac),
    ]),
  );
}
