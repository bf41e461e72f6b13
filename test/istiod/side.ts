/** What one side makes of requests. */

import { buildPlan, outcomesOf } from '../../src/plan/build.js';
import { evaluate, type Trace } from '../../src/plan/evaluate.js';
import type { Plan } from '../../src/plan/ir.js';
import type { PlanRequest } from '../../src/plan/request-view.js';
import { asString } from '../../src/policy/envoy/walk.js';
import type { JsonObject, Resources } from '../../src/policy/resources.js';
import { plainCluster } from './normal.js';

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
