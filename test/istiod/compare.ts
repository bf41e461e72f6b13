/**
 * One set of documents, translated by Sidestep and by istiod, and compared by what becomes of requests.
 *
 * For every listener of ours, requests are made of both sides' words. Each is given to the plan's evaluator over our
 * resources and over istiod's (the client's sidecar, then the sidecars of the servers behind the cluster), and the routes
 * that decide it are compared: their actions in normal form, and where the plan computes the whole, its result. Clusters
 * are compared in normal form, and by their endpoints. Which VirtualServices take part at all must be the same.
 */

import { isDeepStrictEqual } from 'node:util';
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { Identity } from '../../src/policy/istio/identities.js';
import { translateKubernetes } from '../../src/policy/istio/index.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hintsOf } from '../wild/hints.js';
import { appliedOurs, appliedTheirs } from './applied.js';
import { compareClusters, compareTables } from './as-written.js';
import { API_ROUTES, CLIENT, clientNamespaces, gatewaysOf, identitiesIn, serversOf } from './asked.js';
import { rbacWords } from './at-servers.js';
import { circumstancesOf, unprogrammed } from './circumstances.js';
import { compareRequests, type Pair, type View } from './compare-requests.js';
import { compared, complete, documentsOf, kindOf, nameOf, namespaceOf } from './documents.js';
import { apiDefaults, boundTo, ofGatewayApi, wholeRouteRefused } from './gateway-api.js';
import type { AskedProxy, Generated, ProxyResources } from './generator.js';
import { knownCode } from './known.js';
import { comparePeers } from './peers.js';
import { compareServers } from './servers.js';
import type { Differ, Tally } from './tally.js';
import {
  gatewayManager,
  gatewayProxy,
  listenerOf,
  namesOf,
  outboundManager,
  outboundProxy,
  routesOf,
  tcpProxyOf,
} from './theirs.js';

/** What istiod answers: a process, or what it once answered. */
export type Ask = (
  documents: readonly JsonObject[],
  proxies: readonly AskedProxy[],
  strict: boolean,
) => Promise<Generated>;

const idOf = (object: JsonObject): string => `${kindOf(object)} ${namespaceOf(object)}/${nameOf(object)}`;

/** Objects without those that our translators refuse. */
function accepted(set: string, objects: readonly JsonObject[], tally: Tally): JsonObject[] {
  const { diagnostics } = translateKubernetes(documentsOf(objects));
  const wrong = new Map<number, string>();
  for (const d of diagnostics) {
    if (d.severity !== 'error') continue;
    const index = Number(/(\d+)$/.exec(d.position?.file ?? '')?.[1] ?? -1);
    if (!wrong.has(index)) wrong.set(index, `${d.field ?? ''}: ${d.message}`);
  }
  for (const [index, why] of wrong) {
    const object = objects[index];
    if (object) tally.refused.push({ set, by: 'sidestep', document: idOf(object), why });
  }
  return objects.filter((_, index) => !wrong.has(index));
}

/** Makes the questions that a set asks, and compares the answers. */
export async function compareSet(
  set: string,
  objects: readonly JsonObject[],
  ask: Ask,
  options: { readonly seed: number; readonly requests: number },
  tally: Tally,
): Promise<void> {
  tally.sets++;
  tally.documents += objects.length;
  let kept = accepted(set, compared(objects), tally).filter((object, _, all) => {
    const why = wholeRouteRefused(object, all);
    if (why) tally.refused.push({ set, by: 'istiod', document: idOf(object), why });
    return why === undefined;
  });
  if (kept.length === 0) return;
  tally.apiRoutes += kept.filter((o) => API_ROUTES.includes(kindOf(o))).length;
  const namespaces = clientNamespaces(kept);
  const clients = namespaces.map(
    (namespace): AskedProxy => ({
      name: `client in ${namespace}`,
      type: 'sidecar',
      namespace,
      address: CLIENT,
      labels: {},
      serviceAccount: 'client',
    }),
  );
  let whole = complete(kept, namespaces);
  const question = () => [...clients, ...serversOf(whole), ...gatewaysOf(whole)];
  let answer = await ask(whole.map(apiDefaults), question(), false);
  const note = ({ index, why }: { index: number; why: string }) =>
    tally.refused.push({ set, by: 'istiod', document: idOf(whole[index]!), why: why.trim().slice(0, 300) });
  let refused = answer.refused ?? [];
  // what validation refuses is translated nevertheless, unless istiod cannot
  const strict = answer.error !== '';
  if (strict) {
    answer = await ask(whole.map(apiDefaults), question(), true);
    refused = answer.refused ?? [];
  }
  refused.forEach(note);
  if (refused.some((r) => r.left)) {
    kept = kept.filter((_, index) => !refused.some((r) => r.index === index && r.left));
    whole = complete(kept, namespaces);
    answer = await ask(whole.map(apiDefaults), question(), strict);
  }
  if (answer.error !== '' || !answer.proxies) {
    tally.failed.push({ set, why: answer.error.slice(0, 300) });
    return;
  }
  const identities: (Identity | undefined)[] = [undefined, ...identitiesIn(kept)];
  for (const namespace of namespaces)
    for (const identity of identities) {
      // who has an identity is in its namespace, too, unless no policy can tell
      if (identity && identity.namespace !== namespace && namespace !== namespaces[0]) continue;
      const view: View = { set, objects: whole, answer, namespace, ...(identity && { identity }) };
      await compareView(view, namespace === namespaces[0], options, tally);
    }
}

/** Compares what one client sees. `first`: with what is the same for all of them. */
async function compareView(
  view: View,
  first: boolean,
  options: { readonly seed: number; readonly requests: number },
  tally: Tally,
): Promise<void> {
  const { set, objects, answer, namespace, identity } = view;
  const client = answer.proxies?.[`client in ${namespace}`];
  if (!client) return;
  const who = `${namespace}${identity ? ` as ${identity.namespace}/${identity.serviceAccount}` : ''}`;
  const resources = translateKubernetes(documentsOf(objects), {
    workload: { namespace, labels: {} },
    ...(identity && { identity }),
    mesh: { identity: '', authorities: '', own: () => false },
  });
  const circumstances = circumstancesOf(objects, resources, answer);
  const differ: Differ = (what, where, ours, theirs, more = {}) => {
    const text = (v: unknown) => (typeof v === 'string' ? v : JSON.stringify(v));
    const name = /^\S+/.exec(where)?.[0] ?? where;
    const known = knownCode({ what, name, clientNamespace: namespace, ours, theirs, ...circumstances, ...more });
    const shown = { set, what, where: `${who}: ${where}`, ours: text(ours), theirs: text(theirs) };
    tally.differences.push({ ...shown, ...(known ? { known } : {}) });
  };
  const outbound = resources.listeners.filter((l) => asString(l.name).startsWith('outbound|'));

  if (!identity) {
    // a delegate's routes are its root's on istiod's side
    const delegates = new Set(
      objects
        .filter((o) => kindOf(o) === 'VirtualService' && !((asObject(o.spec)?.hosts as [] | undefined) ?? []).length)
        .map((o) => `${namespaceOf(o)}/${nameOf(o)}`),
    );
    const [own, other] = [appliedOurs(resources, outbound), appliedTheirs(client)];
    for (const name of delegates) own.delete(name);
    tally.virtualServices += other.size;
    for (const name of own) if (!other.has(name)) differ('applied', name, 'makes routes', 'makes none');
    for (const name of other) if (!own.has(name)) differ('applied', name, 'makes none', 'makes routes');
    compareClusters(resources, client, tally, differ);
    if (first) {
      await compareServers(objects, answer, options, tally, differ);
      comparePeers(objects, serversOf(objects), answer, tally, differ);
    }
  }

  const pairs: Pair[] = [];
  // rules at gateways may ask for the workload's port
  const add = (ours: JsonObject, manager: JsonObject, proxy: ProxyResources, passthrough: string, port = 10000) => {
    const theirs = listenerOf(asString(ours.name), manager, proxy, {
      ...{ address: `127.1.${pairs.length >> 8}.${pairs.length & 255}`, port, passthrough },
      ...(identity && { identity }),
    });
    const hints = hintsOf({ ours, routes: routesOf(manager, proxy), servers: rbacWords(answer) });
    pairs.push({ ours, proxy, theirs, hints });
    if (!identity) compareTables(ours, theirs, tally, differ);
  };
  for (const ours of outbound) {
    const name = asString(ours.name);
    const [, port = '', host = ''] = /^outbound\|(\d+)\|\|(.*)$/.exec(name) ?? [];
    const address = resources.intercepts.find((i) => i.listener === name)?.address ?? '';
    if (tcpProxyOf(ours)) {
      for (const names of identity ? [] : asObjects(ours.filter_chains).map(namesOf)) {
        const [connections, theirs] = [tcpProxyOf(ours, names), outboundProxy(client, address, Number(port), names)];
        if (!isDeepStrictEqual(connections, theirs))
          differ('listener', `${name} ${names}`, connections ?? 'none', theirs ?? 'none');
      }
      continue;
    }
    const manager = outboundManager(client, address, Number(port));
    if (manager) add(ours, manager, client, `outbound|${port}||${host}`);
    else if (!identity) differ('listener', name, 'HTTP', `none for ${address}:${port}`);
  }
  // what is at gateways does not depend on where the client is
  for (const ours of first ? resources.listeners.filter((l) => asString(l.name).startsWith('gateway|')) : []) {
    const name = asString(ours.name);
    const [, port = '', key = ''] = name.split('|');
    const proxy = answer.proxies?.[`gateway ${key}`];
    const api = objects.find(
      (o) => kindOf(o) === 'Gateway' && ofGatewayApi(o) && `${nameOf(o)}.${namespaceOf(o)}` === key,
    );
    const target = targetOf(objects, (api && boundTo(api)?.[0]) ?? key, Number(port));
    const connections = tcpProxyOf(ours);
    if (connections) {
      const theirs = proxy && gatewayProxy(proxy, Number(port), target);
      const why = theirs ? undefined : unprogrammed(objects, key, Number(port));
      if (!identity && !isDeepStrictEqual(connections, theirs))
        differ('listener', name, connections, theirs ?? 'none', why ? { unprogrammed: why } : {});
      continue;
    }
    const manager = proxy && gatewayManager(proxy, Number(port), target);
    if (manager) add(ours, { ...manager, use_remote_address: false }, proxy, '', target);
    else if (!identity) {
      const why = unprogrammed(objects, key, Number(port));
      differ('listener', name, 'HTTP', 'none', why ? { unprogrammed: why } : {});
    }
  }
  await compareRequests(pairs, resources, view, options, tally, differ);
}

/** The port of a gateway's workload behind a port of the Service in front of it. */
function targetOf(objects: readonly JsonObject[], host: string, port: number): number {
  const service = objects.find(
    (o) => kindOf(o) === 'Service' && `${nameOf(o)}.${namespaceOf(o)}.svc.cluster.local` === host,
  );
  const found = asObjects(asObject(service?.spec)?.ports).find((p) => Number(p.port) === port);
  return typeof found?.targetPort === 'number' ? found.targetPort : port;
}
