/**
 * How many connections the pools may have to endpoints of clusters with circuit breakers on connections. What is in use at
 * a time is limited by the breaker itself; this is about those that are open.
 */
import type { Breaker } from '../plan/ir.js';

/** Clusters that lead to an endpoint, with the connections that each may have; any number: Infinity. */
export type Bounds = ReadonlyMap<string, number>;

/** Adds one cluster to the bounds of an endpoint. */
export function bounded(before: Bounds | undefined, breaker: Breaker | undefined): Bounds {
  const most = breaker?.waiting === undefined ? Number.POSITIVE_INFINITY : breaker.most;
  return new Map(before).set(most === Number.POSITIVE_INFINITY ? '' : breaker!.cluster, most);
}

export class PoolBounds {
  #bounds: ReadonlyMap<number, Bounds> = new Map();
  readonly #members = new Map<string, number[]>();

  /** @param bounds by endpoint; others have any number of connections */
  use(bounds: ReadonlyMap<number, Bounds>): void {
    this.#bounds = bounds;
    this.#members.clear();
    for (const [endpoint, clusters] of bounds)
      for (const cluster of clusters.keys())
        this.#members.set(cluster, [...(this.#members.get(cluster) ?? []), endpoint]);
  }

  /**
   * Whether one more connection to an endpoint may be opened. One always may, as with Envoy: requests would wait for ever
   * behind others' idle connections.
   * @param open how many an endpoint has
   */
  allows(endpoint: number, open: (endpoint: number) => number): boolean {
    const clusters = this.#bounds.get(endpoint);
    if (!clusters || open(endpoint) === 0) return true;
    const all = (cluster: string): number => this.#members.get(cluster)!.reduce((n, of) => n + open(of), 0);
    return [...clusters].some(([cluster, most]) => most === Number.POSITIVE_INFINITY || all(cluster) < most);
  }

  /** Whether a cluster leads to both endpoints. */
  together(a: number, b: number): boolean {
    return [...(this.#bounds.get(a)?.keys() ?? [])].some((cluster) => this.#bounds.get(b)?.has(cluster));
  }
}
