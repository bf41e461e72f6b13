/**
 * One set of documents, translated by Sidestep and by istiod, and compared by what becomes of requests.
 *
 * For every listener of ours, requests are made of both sides' words. Each is given to the plan's evaluator over our
 * resources and over istiod's (the client's sidecar, then the sidecars of the servers behind the cluster), and the routes
 * that decide it are compared: their actions in normal form, and where the plan computes the whole, its result. Clusters
 * are compared in normal form, and by their endpoints. Which VirtualServices take part at all must be the same.
 */
import { isIP } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { buildPlan, outcomesOf } from '../../src/plan/build.js';
import { evaluate, type Trace } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import type { PlanRequest } from '../../src/plan/request-view.js';
import { asObject, asObjects, asString, connectionManagers } from '../../src/policy/envoy/walk.js';
import { type Identity, parseIdentity } from '../../src/policy/istio/identities.js';
import { translateKubernetes } from '../../src/policy/istio/index.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { type Hints, hintsOf, requestOf } from '../wild/hints.js';
import { circumstancesOf, unprogrammed } from './circumstances.js';
import { compared, complete, DOMAIN, documentsOf, gatewayService, kindOf, nameOf, namespaceOf } from './documents.js';
import { apiDefaults, boundTo, GATEWAY_NAME, ofGatewayApi, wholeRouteRefused } from './gateway-api.js';
import { type AskedProxy, type Generated, isServer, type ProxyResources } from './generator.js';
import { knownCode, type Seen } from './known.js';
import { normalAction, normalCluster, normalMatch, plainCluster, withClusters, withPath } from './normal.js';
import { comparePeers } from './peers.js';
import { compareServers } from './servers.js';
import {
  autoTls,
  clustersOf,
  gatewayManager,
  gatewayProxy,
  inboundClusters,
  inboundManager,
  listenerOf,
  outboundManager,
  outboundProxy,
  readEnvoy,
  routesOf,
  tcpProxyOf,
} from './theirs.js';

export const CLIENT = '10.9.9.9';
const MOST_SERVERS = 60;
const API_ROUTES = ['HTTPRoute', 'GRPCRoute'];
const ROUTING = new Set(['VirtualService', ...API_ROUTES]);

export interface Difference {
  readonly set: string;
  /** what is different: `applied`, `host`, `route`, `decision`, `cluster`, `listener` ... */
  readonly what: string;
  readonly where: string;
  readonly ours: string;
  readonly theirs: string;
  /** why it is meant, if it is */
  readonly known?: string;
}

/** A document that only one side takes. */
export interface Refusal {
  readonly set: string;
  readonly by: 'istiod' | 'sidestep';
  readonly document: string;
  readonly why: string;
}

export interface Tally {
  sets: number;
  documents: number;
  requests: number;
  /** of these: decided by a route that a VirtualService made, on our side and on istiod's */
  ours: number;
  theirs: number;
  /** of these: left to the proxy, on one side, before the routes are looked at */
  left: number;
  /** of these: the plan computed the whole on both sides */
  computed: number;
  /** of these: an RBAC filter refused it on istiod's side */
  denied: number;
  /** routes that are the same as written, of all */
  same: number;
  routes: number;
  clusters: number;
  virtualServices: number;
  apiRoutes: number;
  /** servers with policies, and of these: token providers, requests, and those that both sides judge */
  servers: number;
  providers: number;
  inbound: number;
  judged: number;
  /** ports of servers whose mode of mutual TLS was compared, and of these: those that a PeerAuthentication changes */
  peers: number;
  decidedPeers: number;
  differences: Difference[];
  refused: Refusal[];
  failed: { set: string; why: string }[];
}

export const emptyTally = (): Tally => ({
  ...{ sets: 0, documents: 0, requests: 0, ours: 0, theirs: 0, left: 0, computed: 0, denied: 0, same: 0, routes: 0 },
  ...{ apiRoutes: 0, servers: 0, providers: 0, inbound: 0, judged: 0, peers: 0, decidedPeers: 0 },
  ...{ clusters: 0, virtualServices: 0, differences: [], refused: [], failed: [] },
});

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

/** Where clients may be: the namespaces of policies and services. */
function clientNamespaces(objects: readonly JsonObject[]): string[] {
  const kinds = new Set(['VirtualService', 'DestinationRule', 'Sidecar', 'Service', 'ServiceEntry', ...API_ROUTES]);
  const found = objects.filter((o) => kinds.has(kindOf(o))).map(namespaceOf);
  return [...new Set(['default', ...found])].slice(0, 3);
}

/** Whom policies name. */
function identitiesIn(objects: readonly JsonObject[]): Identity[] {
  const names = new Set(JSON.stringify(objects).match(/[a-z0-9.-]+\/ns\/[a-z0-9-]+\/sa\/[a-z0-9-]+/g));
  return [...names]
    .map((name) => parseIdentity(name))
    .filter((i) => i !== undefined)
    .slice(0, 3);
}

const podLabels = (pod: JsonObject): Record<string, string> =>
  Object.fromEntries(Object.entries(asObject(asObject(pod.metadata)?.labels) ?? {}).map(([k, v]) => [k, String(v)]));

/** The servers of a set: pods, and workloads that ServiceEntries have. */
function serversOf(objects: readonly JsonObject[]): AskedProxy[] {
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
function gatewaysOf(objects: readonly JsonObject[]): AskedProxy[] {
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

/** VirtualServices that made routes, on istiod's side. */
function appliedTheirs(proxy: ProxyResources): Set<string> {
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

function appliedOurs(resources: Resources, listeners: readonly JsonObject[]): Set<string> {
  const made = new Set<object>(listeners.flatMap(routesIn).map(({ route }) => route));
  const out = new Set<string>();
  for (const rule of resources.rules) {
    if (rule.kind !== 'VirtualService' || !rule.objects.some((o) => made.has(o))) continue;
    out.add(/^VirtualService\/([^#]*)/.exec(rule.id)?.[1] ?? rule.name);
  }
  return out;
}

/** A plan with the route objects behind its routes. */
export class Side {
  readonly plan: Plan;
  readonly #route = new Map<string, JsonObject>();

  readonly #clusters: ReadonlySet<string>;

  constructor(readonly resources: Resources) {
    this.plan = buildPlan(resources);
    this.#clusters = new Set(resources.clusters.map((c) => plainCluster(asString(c.name))));
    for (const [object, ids] of outcomesOf(this.plan)?.routeIds ?? [])
      for (const id of ids) this.#route.set(id, object as JsonObject);
  }

  readonly has = (cluster: string): boolean => this.#clusters.has(cluster);

  evaluate(request: PlanRequest): { trace: Trace; route: JsonObject | undefined } {
    const trace = evaluate(this.plan, request);
    return { trace, route: trace.winner && this.#route.get(trace.winner.id) };
  }
}

const madeBy = (route: JsonObject | undefined): boolean =>
  /\/(virtual-service|httproute|grpcroute)\//i.test(
    asString(asObject(asObject(asObject(route?.metadata)?.filter_metadata)?.istio)?.config),
  );

/** What becomes of a request, in words that both sides share. */
export function decisionOf(trace: Trace): JsonObject | undefined {
  const { result } = trace;
  if (trace.verdict !== 'kernel' || !result) return undefined;
  const sorted = (headers: readonly (readonly [string, string])[]) => headers.map(([n, v]) => `${n}: ${v}`).sort();
  if (result.kind === 'reply') return { status: result.status, body: result.body, headers: sorted(result.headers) };
  const clusters = new Map<string, number>();
  for (const { cluster, weight } of result.action.clusters)
    clusters.set(plainCluster(cluster), (clusters.get(plainCluster(cluster)) ?? 0) + weight);
  const total = [...clusters.values()].reduce((a, b) => a + b, 0);
  return {
    clusters: [...clusters].map(([c, w]) => `${c} ${(w / total).toFixed(4)}`).sort(),
    target: result.target,
    headers: sorted(result.headers),
    answer: result.answer.map((a) => `${a.op} ${a.name} ${a.value}`),
    timeout: result.action.timeoutMs,
    retry: JSON.stringify(result.action.retry ?? null),
  };
}

/** One client's view of one set. */
export interface View {
  readonly set: string;
  readonly objects: readonly JsonObject[];
  readonly answer: Generated;
  readonly namespace: string;
  readonly identity?: Identity;
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

interface Pair {
  readonly ours: JsonObject;
  readonly proxy: ProxyResources;
  readonly theirs: JsonObject;
  readonly hints: Hints;
}

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
    const connections = tcpProxyOf(ours);
    if (connections) {
      const theirs = outboundProxy(client, address, Number(port));
      if (!identity && !isDeepStrictEqual(connections, theirs)) differ('listener', name, connections, theirs ?? 'none');
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
  const servers: { name: string; listener: JsonObject }[] = [];
  for (const [address, proxy] of Object.entries(answer.proxies ?? {})) {
    if (!isServer(address)) continue;
    for (const port of portsOf(proxy)) {
      const manager = inboundManager(proxy, port);
      if (!manager) continue;
      const name = `inbound|${port}|${address}`;
      const at = { address, port, ...(identity && { identity }) };
      servers.push({ name, listener: listenerOf(name, manager, proxy, at) });
    }
  }
  const inbound = await readEnvoy(
    servers.map((s) => s.listener),
    Object.entries(answer.proxies ?? {})
      .filter(([name]) => isServer(name))
      .flatMap(([, proxy]) => inboundClusters(proxy))
      .filter((c, i, all) => all.findIndex((o) => o.name === c.name) === i),
  );
  const atServers = new Side(inbound);
  // each proxy knows its own clusters only
  const sides = new Map<ProxyResources, Side>();
  for (const proxy of new Set(pairs.map((p) => p.proxy))) {
    const own = pairs.filter((p) => p.proxy === proxy).map((p) => p.theirs);
    sides.set(proxy, new Side(await readEnvoy(own, clustersOf(proxy))));
  }
  const ours = new Side(resources);
  const unasked = new Set(
    objects
      .filter((o) => kindOf(o) === 'Pod')
      .map((o) => asString(asObject(o.status)?.podIP))
      .filter((address) => servers.length > 0 && !answer.proxies?.[address]),
  );
  const grpc = resources.rules.filter((r) => r.kind === 'GRPCRoute');
  for (const [index, pair] of pairs.entries()) {
    const theirs = sides.get(pair.proxy)!;
    const around = { client: theirs.resources, servers: atServers, unasked };
    const requests = fc.sample(requestOf(pair.hints), { seed: options.seed + index, numRuns: options.requests });
    const seen = new Set<string>();
    for (const request of requests) {
      tally.requests++;
      const name = asString(pair.ours.name);
      const asked: PlanRequest = {
        ...{ listener: name, method: request.method, target: request.target, headers: request.headers },
        sourceIp: CLIENT,
      };
      const [own, other] = [ours.evaluate(asked), theirs.evaluate(asked)];
      const asker = {
        host: (request.headers[0]?.[1] ?? '').replace(/\.$/, ''),
        ...(other.route ? { route: other.route } : {}),
        grpc: grpc.some((r) => (own.route ? r.objects.includes(own.route) : true)),
      };
      const line = `${name} ${request.method} ${JSON.stringify(request.headers)} ${request.target}`;
      if (madeBy(other.route)) tally.theirs++;
      if (own.route && ours.resources.rules.some((r) => ROUTING.has(r.kind) && r.objects.includes(own.route!)))
        tally.ours++;
      if (left(own) || left(other)) {
        tally.left++;
        continue;
      }
      if (own.route || other.route) {
        const inForm = (route: JsonObject | undefined, side: Side) =>
          route && withPath(route, withClusters(normalAction(route), side.has), request.target);
        const [a, b] = [inForm(own.route, ours), inForm(other.route, theirs)];
        if (!isDeepStrictEqual(a, b)) {
          const key = JSON.stringify([a, b]);
          if (!seen.has(key)) differ('route', line, a ?? own.trace.why, b ?? other.trace.why, asker);
          seen.add(key);
          continue;
        }
      }
      const mine = decisionOf(own.trace);
      const sidecar = decisionOf(other.trace);
      if (!mine || !sidecar) continue;
      const final = atTheirServers(sidecar, other.trace, asked, around);
      if (!final) continue;
      tally.computed++;
      if (final.status === 403) tally.denied++;
      // a server's refusal passes the client's route, which may edit the answer
      const refused = final !== sidecar && mine.status === 403 && final.status === 403;
      if (!refused && !isDeepStrictEqual(mine, final)) {
        const key = JSON.stringify([mine.status, final.status, other.trace.winner?.id]);
        if (!seen.has(key)) differ('decision', line, mine, final, asker);
        seen.add(key);
      }
    }
  }
}

/** The plan leaves the request to the proxy before it looks at routes. */
const left = ({ trace, route }: { trace: Trace; route: JsonObject | undefined }): boolean =>
  trace.verdict === 'proxy' && !route;

/** What the servers' filters look at. */
function rbacWords(answer: Generated): JsonObject {
  const out: JsonObject[] = [];
  for (const [name, proxy] of Object.entries(answer.proxies ?? {}))
    if (isServer(name)) out.push(...proxy.listeners.filter((l) => l.name === 'virtualInbound'));
  return { servers: out };
}

export function portsOf(proxy: ProxyResources): number[] {
  const listener = proxy.listeners.find((l) => l.name === 'virtualInbound');
  const ports = asObjects(listener?.filter_chains).map((c) =>
    Number(asObject(c.filter_chain_match)?.destination_port ?? 0),
  );
  return [...new Set(ports)].filter((p) => p > 0 && p !== 15006);
}

/** What becomes of a request that a client's sidecar forwards, when it comes to the servers' sidecars; undefined: unknown. */
function atTheirServers(
  decision: JsonObject,
  trace: Trace,
  asked: PlanRequest,
  around: { readonly client: Resources; readonly servers: Side; readonly unasked: ReadonlySet<string> },
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

/** The port of a gateway's workload behind a port of the Service in front of it. */
function targetOf(objects: readonly JsonObject[], host: string, port: number): number {
  const service = objects.find(
    (o) => kindOf(o) === 'Service' && `${nameOf(o)}.${namespaceOf(o)}.svc.cluster.local` === host,
  );
  const found = asObjects(asObject(service?.spec)?.ports).find((p) => Number(p.port) === port);
  return typeof found?.targetPort === 'number' ? found.targetPort : port;
}

export type Differ = (
  what: string,
  where: string,
  ours: unknown,
  theirs: unknown,
  more?: Pick<Seen, 'field' | 'host' | 'route' | 'cluster' | 'grpc' | 'unprogrammed'>,
) => void;

/** Virtual hosts of the same name, route by route. */
function compareTables(ours: JsonObject, theirs: JsonObject, tally: Tally, differ: Differ): void {
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

function compareClusters(resources: Resources, client: ProxyResources, tally: Tally, differ: Differ): void {
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
