/** Requests made of both sides' words, and what becomes of them on each side. */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import type { Trace } from '../../src/plan/evaluate.js';
import type { PlanRequest } from '../../src/plan/request-view.js';
import { asObject, asString } from '../../src/policy/envoy/walk.js';
import type { Identity } from '../../src/policy/istio/identities.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { type Hints, requestOf } from '../wild/hints.js';
import { API_ROUTES, CLIENT } from './asked.js';
import { type Around, atTheirServers, serversSide } from './at-servers.js';
import { kindOf } from './documents.js';
import type { Generated, ProxyResources } from './generator.js';
import { normalAction, withClusters, withPath } from './normal.js';
import { decisionOf, Side } from './side.js';
import type { Differ, Tally } from './tally.js';
import { clustersOf, readEnvoy } from './theirs.js';

const ROUTING = new Set(['VirtualService', ...API_ROUTES]);

/** One client's view of one set. */
export interface View {
  readonly set: string;
  readonly objects: readonly JsonObject[];
  readonly answer: Generated;
  readonly namespace: string;
  readonly identity?: Identity;
}

/** One listener on both sides. */
export interface Pair {
  readonly ours: JsonObject;
  readonly proxy: ProxyResources;
  readonly theirs: JsonObject;
  readonly hints: Hints;
}

const madeBy = (route: JsonObject | undefined): boolean =>
  /\/(virtual-service|httproute|grpcroute)\//i.test(
    asString(asObject(asObject(asObject(route?.metadata)?.filter_metadata)?.istio)?.config),
  );

/** The plan leaves the request to the proxy before it looks at routes. */
const left = ({ trace, route }: { trace: Trace; route: JsonObject | undefined }): boolean =>
  trace.verdict === 'proxy' && !route;

/** Asks both sides for the same requests to every listener. */
export async function compareRequests(
  pairs: readonly Pair[],
  resources: Resources,
  { objects, answer, identity }: View,
  options: { readonly seed: number; readonly requests: number },
  tally: Tally,
  differ: Differ,
): Promise<void> {
  const servers = await serversSide(answer, identity);
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
      .filter((address) => servers.plan.listeners.length > 0 && !answer.proxies?.[address]),
  );
  for (const [index, pair] of pairs.entries()) {
    const theirs = sides.get(pair.proxy)!;
    const around = { client: theirs.resources, servers, unasked };
    const requests = fc.sample(requestOf(pair.hints), { seed: options.seed + index, numRuns: options.requests });
    comparePair(asString(pair.ours.name), requests, ours, theirs, around, tally, differ);
  }
}

function comparePair(
  name: string,
  requests: readonly Pick<PlanRequest, 'method' | 'target' | 'headers'>[],
  ours: Side,
  theirs: Side,
  around: Around,
  tally: Tally,
  differ: Differ,
): void {
  const grpc = ours.resources.rules.filter((r) => r.kind === 'GRPCRoute');
  const seen = new Set<string>();
  for (const request of requests) {
    tally.requests++;
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
