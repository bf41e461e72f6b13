/**
 * Requests in flight of clusters with circuit breakers (bpf/breaker.h): the agent's part, for those that the proxy has. The
 * proxy asks before it sends one, and the agent answers when there is a place; it is over when its connection to the proxy,
 * which the agent or the kernel carries, has the answer, is asked about again, or is closed.
 */
import type { Mapping } from '../kernel/libbpf.js';
import { BreakerSpec, MAX_BREAKERS } from '../layout/counts.js';
import { set } from '../layout/struct.js';
import type { Breaker } from '../plan/ir.js';
import { BreakerQueue, REQUEST_TIMEOUT } from './breaker-queue.js';
import type { Advice, ConsultedRequest } from './consult.js';

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
  /** whether the request in flight on a slot was sent to its end */
  complete(slot: number): boolean;
}

/** What is known of a connection of the agent to the proxy. */
interface Session {
  /** which breaker counts what is in flight on it */
  counted?: number | undefined;
  /** requests that were sent to their end, and those that were answered */
  sent: number;
  answered: number;
}

export type SessionEvent = 'opened' | 'sent' | 'answered' | 'closed';

const OVERFLOW = 'upstream connect error or disconnect/reset before headers. reset reason: overflow';
/** How often it is looked whether an exchange of the kernel's has made room for a request that waits. */
const LOOK_MS = 1;

export class Breakers {
  readonly #places = new Map<string, number>();
  /** what was asked for since the last generation came into force */
  #next = new Map<string, Breaker>();
  #current = new Map<string, Breaker>();
  /** by local end */
  readonly #sessions = new Map<string, Session>();
  /** by place */
  readonly #queues = new Map<number, BreakerQueue>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly plane: BreakerPlane) {}

  /** Where a breaker's counter is; it is made if it is not there. undefined: there is no room. */
  place(breaker: Breaker): number | undefined {
    const { cluster, most } = breaker;
    const place = this.#places.get(cluster) ?? this.#places.size;
    if (place >= MAX_BREAKERS) return undefined;
    if (!this.#places.has(cluster)) this.#set(place, 'most', most);
    this.#places.set(cluster, place);
    this.#next.set(cluster, breaker);
    return place;
  }

  /** The generation for which places were asked since the last call is in force. */
  enforced(): void {
    this.#current = this.#next;
    this.#next = new Map();
    for (const [cluster, { most }] of this.#current) this.#set(this.#places.get(cluster)!, 'most', most);
    for (const [cluster, place] of this.#places) {
      if (this.#current.has(cluster)) this.#admit(place);
      else {
        this.#queues.get(place)?.release();
        this.#tell(place);
      }
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #set(place: number, field: 'most' | 'waiting', value: number): void {
    set(this.plane.mapping.view, place * BreakerSpec.size, BreakerSpec, field, value);
  }

  /** What becomes of the exchanges of a connection of the agent to the proxy. */
  exchange(event: SessionEvent, end: string): void {
    if (event === 'opened') this.#sessions.set(end, { sent: 0, answered: 0 });
    const session = this.#sessions.get(end);
    if (!session) return;
    if (event === 'sent') session.sent++;
    if (event === 'answered') session.answered++;
    if (event === 'closed') {
      this.#sessions.delete(end);
      for (const [place, queue] of this.#queues) {
        queue.drop(end);
        this.#tell(place);
      }
    }
    if (event !== 'sent') this.#uncount(session);
  }

  #uncount(session: Session): void {
    const { counted } = session;
    session.counted = undefined;
    if (counted === undefined) return;
    this.plane.leave(counted);
    this.#admit(counted);
  }

  /**
   * The proxy is about to send a request to a cluster.
   * @param gone calls what it is given when the proxy does not want to know any more
   * @returns when there is a place, or it is certain that there is none; undefined when the agent cannot tell when the
   *   request will be over: its connection is none of its own
   */
  ask(request: ConsultedRequest, gone: (then: () => void) => void): Advice | Promise<Advice> {
    const { cluster, end } = request;
    const place = this.#places.get(cluster);
    const breaker = this.#current.get(cluster) ?? this.#next.get(cluster);
    if (place === undefined || !breaker) return {};
    const session = this.#sessions.get(end);
    const slot = session ? undefined : this.plane.slotOf(end);
    if (slot !== undefined) this.plane.uncount(slot);
    else if (session) this.#uncount(session);
    else return undefined;
    const count = (): void => {
      if (slot !== undefined) this.plane.countOn(slot, place);
      else session!.counted = place;
    };
    const queue = this.#queues.get(place) ?? new BreakerQueue();
    this.#queues.set(place, queue);
    this.#admit(place); // those who have come before, if a place is free
    if (queue.length === 0 && this.plane.enter(place)) {
      count();
      return {};
    }
    if (queue.length >= (breaker.waiting ?? 0)) {
      const headers = [{ name: 'x-envoy-overloaded', value: [{ kind: 'literal' as const, value: 'true' }] }];
      return { refusal: { status: 503, body: OVERFLOW, headers: request.quiet ? [] : headers } };
    }
    let left = false;
    gone(() => {
      left = true;
    });
    // the one in flight on a connection is the one after those that were answered
    const answered = session?.answered ?? 0;
    return new Promise((answer) => {
      queue.add({
        end,
        timeoutMs: timeoutOf(request),
        alive: () => !left && (session ? this.#sessions.get(end) === session : this.plane.slotOf(end) === slot),
        complete: () => (session ? session.sent > answered : this.plane.complete(slot!)),
        count,
        answer,
      });
      this.#admit(place);
    });
  }

  /** Lets those pass for which there is a place, and looks again in a moment as long as others wait. */
  #admit(place: number): void {
    this.#queues.get(place)?.admit(performance.now(), () => this.plane.enter(place));
    this.#tell(place);
  }

  #tell(place: number): void {
    const waiting = this.#queues.get(place)?.length ?? 0;
    this.#set(place, 'waiting', waiting);
    if (waiting > 0) this.#timer ??= setTimeout(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    this.#timer = undefined;
    for (const [place, queue] of this.#queues) if (queue.length > 0) this.#admit(place);
  }
}

/** The time that a request has: what its client asks for, else its route's. */
function timeoutOf({ headers, timeoutMs }: ConsultedRequest): number {
  const own = headers.find(([name]) => name.toLowerCase() === REQUEST_TIMEOUT)?.[1];
  return own !== undefined && /^\d{1,9}$/.test(own) ? Number(own) : timeoutMs;
}
