/** What a set of documents has that excuses differences: see known.ts. */
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { kindOf, nameOf, namespaceOf } from './documents.js';
import { asArray, boundTo, ofGatewayApi } from './gateway-api.js';
import type { Generated } from './generator.js';
import type { Seen } from './known.js';

export type Circumstances = Pick<Seen, 'original' | 'crowded' | 'twice' | 'attached'>;

/** Hosts of the Services and ServiceEntries to which AuthorizationPolicies are attached. */
function attachedHosts(objects: readonly JsonObject[]): Set<string> {
  const out = new Set<string>();
  for (const object of objects.filter((o) => kindOf(o) === 'AuthorizationPolicy')) {
    const spec = asObject(object.spec);
    const namespace = namespaceOf(object);
    for (const { kind, name } of [...asObjects(spec?.targetRefs), asObject(spec?.targetRef) ?? {}]) {
      if (kind === 'Service') out.add(`${asString(name)}.${namespace}.svc.cluster.local`);
      if (kind !== 'ServiceEntry') continue;
      for (const entry of objects)
        if (kindOf(entry) === 'ServiceEntry' && nameOf(entry) === name && namespaceOf(entry) === namespace)
          for (const host of asArray(asObject(entry.spec)?.hosts)) out.add(asString(host).toLowerCase());
    }
  }
  return out;
}

/**
 * What is special about a set.
 *
 * @param resources what Sidestep makes of it
 * @param answer what istiod makes of it
 */
export function circumstancesOf(
  objects: readonly JsonObject[],
  resources: Resources,
  answer: Generated,
): Circumstances {
  const { diagnostics } = resources;
  const original = Object.values(answer.proxies ?? {})
    .flatMap((p) => p.clusters)
    .filter((c) => c.type === 'ORIGINAL_DST')
    .map((c) => asString(c.name).split('|')[3] ?? '');
  const twice = diagnostics
    .filter((d) => d.code === 'duplicate-host')
    .map((d) => d.message.split(' ')[0]!.toLowerCase());
  return {
    original: new Set(original.filter((host) => host !== '')),
    crowded: diagnostics.some((d) => d.code === 'many-services'),
    twice: new Set(twice),
    attached: attachedHosts(objects),
  };
}

/** Why istiod does not program a port of a Gateway (Gateway API, `name.namespace`); undefined if it does. */
export function unprogrammed(objects: readonly JsonObject[], key: string, port: number): string | undefined {
  const gateway = objects.find(
    (o) => kindOf(o) === 'Gateway' && ofGatewayApi(o) && `${nameOf(o)}.${namespaceOf(o)}` === key,
  );
  const spec = asObject(gateway?.spec);
  const bound = gateway && boundTo(gateway);
  if (bound) {
    const host = (o: JsonObject) => `${nameOf(o)}.${namespaceOf(o)}.svc.cluster.local`;
    const there = objects.some((o) => kindOf(o) === 'Service' && bound.includes(host(o)));
    return there ? undefined : 'its addresses name no Service';
  }
  const listeners = asObjects(spec?.listeners);
  const own = listeners.filter((l) => Number(l.port) === port);
  const twice = (name: unknown) => listeners.filter((l) => l.name === name).length > 1;
  return own.length > 0 && own.every((l) => twice(l.name)) ? 'its listeners have one name' : undefined;
}
