/** For which proxies istiod is asked: clients, servers and gateways of a set of documents. */

import { isIP } from 'node:net';
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import { type Identity, parseIdentity } from '../../src/policy/istio/identities.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { DOMAIN, gatewayService, kindOf, nameOf, namespaceOf } from './documents.js';
import { boundTo, GATEWAY_NAME, ofGatewayApi } from './gateway-api.js';
import type { AskedProxy } from './generator.js';

export const CLIENT = '10.9.9.9';

const MOST_SERVERS = 60;

export const API_ROUTES = ['HTTPRoute', 'GRPCRoute'];

/** Where clients may be: the namespaces of policies and services. */
export function clientNamespaces(objects: readonly JsonObject[]): string[] {
  const kinds = new Set(['VirtualService', 'DestinationRule', 'Sidecar', 'Service', 'ServiceEntry', ...API_ROUTES]);
  const found = objects.filter((o) => kinds.has(kindOf(o))).map(namespaceOf);
  return [...new Set(['default', ...found])].slice(0, 3);
}

/** Whom policies name. */
export function identitiesIn(objects: readonly JsonObject[]): Identity[] {
  const names = new Set(JSON.stringify(objects).match(/[a-z0-9.-]+\/ns\/[a-z0-9-]+\/sa\/[a-z0-9-]+/g));
  return [...names]
    .map((name) => parseIdentity(name))
    .filter((i) => i !== undefined)
    .slice(0, 3);
}

const podLabels = (pod: JsonObject): Record<string, string> =>
  Object.fromEntries(Object.entries(asObject(asObject(pod.metadata)?.labels) ?? {}).map(([k, v]) => [k, String(v)]));

/** The servers of a set: pods, and workloads that ServiceEntries have. */
export function serversOf(objects: readonly JsonObject[]): AskedProxy[] {
  if (!objects.some((o) => /^(Authorization|PeerAuth|RequestAuth)/.test(kindOf(o)))) return [];
  const pods = objects.filter((o) => kindOf(o) === 'Pod');
  const ofPods = pods.slice(0, MOST_SERVERS).flatMap((pod): AskedProxy[] => {
    const address = asString(asObject(pod.status)?.podIP);
    const labels = podLabels(pod);
    if (labels[GATEWAY_NAME] !== undefined) return [];
    const serviceAccount = asString(asObject(pod.spec)?.serviceAccountName) || 'default';
    return address === ''
      ? []
      : [{ name: address, type: 'sidecar', namespace: namespaceOf(pod), address, labels, serviceAccount }];
  });
  return [...ofPods, ...entryServers(objects).filter(({ name }) => !ofPods.some((p) => p.name === name))];
}

/** The servers that ServiceEntries of the mesh describe themselves. */
function entryServers(objects: readonly JsonObject[]): AskedProxy[] {
  return objects
    .filter((o) => kindOf(o) === 'ServiceEntry' && asObject(o.spec)?.location === 'MESH_INTERNAL')
    .flatMap((entry) =>
      asObjects(asObject(entry.spec)?.endpoints).flatMap((endpoint): AskedProxy[] => {
        const address = asString(endpoint.address);
        const serviceAccount = asString(endpoint.serviceAccount) || 'default';
        const labels = podLabels({ metadata: { labels: endpoint.labels ?? {} } });
        return isIP(address) === 0 || address.startsWith('127.')
          ? []
          : [{ name: address, type: 'sidecar', namespace: namespaceOf(entry), address, labels, serviceAccount }];
      }),
    )
    .slice(0, MOST_SERVERS);
}

/** The workloads of gateways, by the hosts of the Services in front of them. */
export function gatewaysOf(objects: readonly JsonObject[]): AskedProxy[] {
  const out = new Map<string, AskedProxy>();
  for (const object of objects) {
    if (kindOf(object) !== 'Gateway' || !asString(object.apiVersion).includes('istio.io')) continue;
    const found = gatewayService(objects, object);
    if (!found) continue;
    const { host, namespace, labels } = found;
    const name = `gateway ${host}`;
    out.set(name, { name, type: 'router', namespace, address: CLIENT, labels, serviceAccount: 'gateway' });
  }
  for (const object of objects) {
    if (kindOf(object) !== 'Gateway' || !ofGatewayApi(object)) continue;
    const [host] = boundTo(object) ?? [];
    const bound = objects.find(
      (o) => kindOf(o) === 'Service' && host === `${nameOf(o)}.${namespaceOf(o)}.svc.${DOMAIN}`,
    );
    const namespace = namespaceOf(bound ?? object);
    const wanted = Object.entries(
      bound ? (asObject(asObject(bound.spec)?.selector) ?? {}) : { [GATEWAY_NAME]: nameOf(object) },
    );
    const pod = objects.find(
      (o) =>
        kindOf(o) === 'Pod' &&
        namespaceOf(o) === namespace &&
        wanted.every(([key, value]) => podLabels(o)[key] === value),
    );
    const address = asString(asObject(pod?.status)?.podIP);
    const name = `gateway ${nameOf(object)}.${namespaceOf(object)}`;
    if (pod)
      out.set(name, { name, type: 'router', namespace, address, labels: podLabels(pod), serviceAccount: 'gateway' });
  }
  return [...out.values()];
}
