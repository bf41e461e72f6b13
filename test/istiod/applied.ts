/** Which VirtualServices made routes, on each side. */

import { asObject, asObjects, connectionManagers } from '../../src/policy/envoy/walk.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import type { ProxyResources } from './generator.js';

/** VirtualServices that made routes, on istiod's side. */
export function appliedTheirs(proxy: ProxyResources): Set<string> {
  const text = JSON.stringify(proxy.routes);
  const found = text.matchAll(/\/namespaces\/([^/"]+)\/virtual-service\/([^/"~]+)"/g);
  return new Set([...found].map(([, namespace, name]) => `${namespace}/${name}`));
}

/** Routes of a listener, objects as they are. */
function routesIn(listener: JsonObject): { host: JsonObject; route: JsonObject }[] {
  return connectionManagers(listener).flatMap((m) =>
    asObjects(asObject(m.route_config)?.virtual_hosts).flatMap((host) =>
      asObjects(host.routes).map((route) => ({ host, route })),
    ),
  );
}

export function appliedOurs(resources: Resources, listeners: readonly JsonObject[]): Set<string> {
  const made = new Set<object>(listeners.flatMap(routesIn).map(({ route }) => route));
  const out = new Set<string>();
  for (const rule of resources.rules) {
    if (rule.kind !== 'VirtualService' || !rule.objects.some((o) => made.has(o))) continue;
    out.add(/^VirtualService\/([^#]*)/.exec(rule.id)?.[1] ?? rule.name);
  }
  return out;
}
