/**
 * Requests in flight of clusters with circuit breakers (bpf/breaker.h): the agent's part, for those that the proxy has. The
 * proxy asks before it sends one; it is over when its connection to the proxy, which the agent or the kernel carries, has
 * the answer, is asked about again, or is closed.
 */
import type { Mapping } from '../kernel/libbpf.js';
import { BreakerSpec, MAX_BREAKERS } from '../layout/counts.js';
import { set } from '../layout/struct.js';
import type { Breaker } from '../plan/ir.js';
import type { Advice } from './consult.js';

/** What the data plane and the pool do for breakers. */
export interface BreakerPlane {
  /** the map of breakers in this process's memory */
  readonly mapping: Mapping;
  enter(breaker: number): boolean;
  leave(breaker: number): void;
  uncount(slot: number): void;
  countOn(slot: number, breaker: number): void;
  /** the slot whose connection to the proxy has this local end, while an exchange is in flight on it */
  slotOf(end: string): number | undefined;
}

const OVERFLOW = 'upstream connect error or disconnect/reset before headers. reset reason: overflow';

export class Breakers {
  readonly #places = new Map<string, number>();
  /** what was asked for since the last generation came into force */
  #next = new Map<string, number>();
  #current = new Map<string, number>();
  /** connections of the agent to the proxy by local end, with the breaker that counts what is in flight on them */
  readonly #sessions = new Map<string, number | undefined>();

  constructor(private readonly plane: BreakerPlane) {}

  /** Where a breaker's counter is; it is made if it is not there. undefined: there is no room. */
  place({ cluster, most }: Breaker): number | undefined {
    const place = this.#places.get(cluster) ?? this.#places.size;
    if (place >= MAX_BREAKERS) return undefined;
    if (!this.#places.has(cluster)) this.#most(place, most);
    this.#places.set(cluster, place);
    this.#next.set(cluster, most);
    return place;
  }

  /** The generation for which places were asked since the last call is in force. */
  enforced(): void {
    this.#current = this.#next;
    this.#next = new Map();
    for (const [cluster, most] of this.#current) this.#most(this.#places.get(cluster)!, most);
  }

  #most(place: number, most: number): void {
    set(this.plane.mapping.view, place * BreakerSpec.size, BreakerSpec, 'most', most);
  }

  /** What becomes of the exchanges of a connection of the agent to the proxy. */
  exchange(event: 'opened' | 'answered' | 'closed', end: string): void {
    const counted = this.#sessions.get(end);
    if (counted !== undefined) this.plane.leave(counted);
    if (event === 'closed') this.#sessions.delete(end);
    else this.#sessions.set(end, undefined);
  }

  /**
   * The proxy is about to send a request to a cluster.
   * @param end the client's end of the connection on which it came
   * @returns undefined when the agent cannot tell when that will be over: it is no connection of its own
   */
  ask(cluster: string, end: string, suppressed: boolean): Advice {
    const place = this.#places.get(cluster);
    if (place === undefined || !(this.#current.has(cluster) || this.#next.has(cluster))) return {};
    const slot = this.#sessions.has(end) ? undefined : this.plane.slotOf(end);
    if (slot !== undefined) this.plane.uncount(slot);
    else if (this.#sessions.has(end)) this.exchange('answered', end);
    else return undefined;
    if (!this.plane.enter(place)) {
      const headers = [{ name: 'x-envoy-overloaded', value: [{ kind: 'literal' as const, value: 'true' }] }];
      return { refusal: { status: 503, body: OVERFLOW, headers: suppressed ? [] : headers } };
    }
    if (slot !== undefined) this.plane.countOn(slot, place);
    else this.#sessions.set(end, place);
    return {};
  }
}
