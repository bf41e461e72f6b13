/**
 * What a server's sidecar asks of requests: Sidestep's listeners before servers (`run --inbound policies`) against istiod's
 * inbound ones. Tokens are compared by what the filters ask of them, and by what becomes of requests of clients whose token
 * was found to be good.
 */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { asObject, asString } from '../../src/policy/envoy/walk.js';
import { translateKubernetes } from '../../src/policy/istio/index.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hintsOf, requestOf } from '../wild/hints.js';
import { CLIENT } from './asked.js';
import { documentsOf } from './documents.js';
import type { Generated } from './generator.js';
import { decisionOf, Side } from './side.js';
import type { Differ, Tally } from './tally.js';
import { inboundClusters, inboundManager, listenerOf, readEnvoy } from './theirs.js';
import { decideClaims, tokensAsked, tokensFor } from './tokens.js';

interface Server {
  readonly ours: JsonObject;
  readonly theirs: JsonObject;
}

/** Compares the servers of a set. */
export async function compareServers(
  objects: readonly JsonObject[],
  answer: Generated,
  options: { readonly seed: number; readonly requests: number },
  tally: Tally,
  differ: Differ,
): Promise<void> {
  const resources = translateKubernetes(documentsOf(objects), { atServers: true });
  const servers: Server[] = [];
  const clusters: JsonObject[] = [];
  for (const intercept of resources.intercepts) {
    if (intercept.inbound !== 'workload') continue;
    const { listener: name, port, address } = intercept;
    const ours = resources.listeners.find((l) => l.name === name);
    const proxy = answer.proxies?.[address];
    if (!ours || !proxy) continue;
    const manager = inboundManager(proxy, port);
    if (!manager) {
      differ('listener', name, 'HTTP', `none at ${address}:${port}`);
      continue;
    }
    const theirs = listenerOf(name, manager, proxy, { address, port });
    servers.push({ ours, theirs });
    tally.servers++;
    clusters.push(...inboundClusters(proxy));
    const [a, b] = [tokensAsked(ours), tokensAsked(theirs)];
    if (b) tally.providers += Number((b.providers as JsonObject[]).length);
    if (!isDeepStrictEqual(a, b)) differ('tokens', name, a ?? 'nothing', b ?? 'nothing');
  }
  if (servers.length === 0) return;
  const known = clusters.filter((c, i) => clusters.findIndex((o) => o.name === c.name) === i);
  for (const claims of [undefined, ...tokensFor(objects)]) {
    const read = async (side: keyof Server, own: readonly JsonObject[]) => {
      const listeners = servers.map((s) => decideClaims(s[side], claims) as JsonObject);
      return new Side(await readEnvoy(listeners, own));
    };
    const [ours, theirs] = [
      await read(
        'ours',
        resources.clusters.filter((c) => asString(c.name).startsWith('inbound|')),
      ),
      await read('theirs', known),
    ];
    for (const [index, server] of servers.entries()) {
      const hints = hintsOf({ ...server });
      const name = asString(server.ours.name);
      const seen = new Set<string>();
      for (const request of fc.sample(requestOf(hints), { seed: options.seed + index, numRuns: options.requests })) {
        const { method, target, headers } = request;
        const asked = { listener: name, method, target, headers, sourceIp: CLIENT };
        tally.inbound++;
        const [a, b] = [ours, theirs].map((side) => outcome(decisionOf(side.evaluate(asked).trace)));
        if (a === undefined || b === undefined) continue;
        tally.judged++;
        if (a === b) continue;
        const line = `${name} ${method} ${JSON.stringify(headers)} ${target}${claims ? ` with ${JSON.stringify(claims)}` : ''}`;
        if (!seen.has(`${a} ${b}`)) differ('inbound', line, a, b);
        seen.add(`${a} ${b}`);
      }
    }
  }
}

/** The server gets it, or it is refused; undefined: the plan does not say. */
const outcome = (decision: JsonObject | undefined): string | undefined =>
  decision && (decision.status === undefined ? 'passed on' : `answered ${String(asObject(decision)?.status)}`);
