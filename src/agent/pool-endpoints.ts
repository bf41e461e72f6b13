/** The endpoints that pooled connections lead to, by the ids that they have in the kernel. */
import { ENDPOINT_FLAG, MAX_ENDPOINTS } from '../layout/exchanges.js';
import type { Address } from './address.js';
import type { DataPlane } from './data-plane.js';
import { RelayPauses } from './relays.js';
import { ServerCloses } from './server-closes.js';

export interface Endpoint extends Address {
  readonly id: number;
  readonly proxy: boolean;
  /** connections lead through this relay */
  readonly relay: string | undefined;
  connecting: number;
  /** connections that there are, or are being opened */
  open: number;
  /** times that an idle connection was missed, as of the last look */
  wanted: number;
  readonly closes: ServerCloses;
  readonly pauses: RelayPauses;
  /** no cluster leads to it any more */
  retired: boolean;
}

type EndpointKind = { readonly proxy?: boolean; readonly relay?: string | undefined };

/** Endpoints are numbered from 0 on, which is REPLY_ENDPOINT, and never go. */
export class PoolEndpoints implements Iterable<Endpoint> {
  readonly #byKey = new Map<string, Endpoint>();
  readonly #all: Endpoint[] = [];

  constructor(private readonly plane: DataPlane) {
    this.#add('', 0, {}); // REPLY_ENDPOINT
  }

  [Symbol.iterator](): Iterator<Endpoint> {
    return this.#all[Symbol.iterator]();
  }

  find(id: number): Endpoint | undefined {
    return this.#all[id];
  }

  /** One that is known to be there. */
  get(id: number): Endpoint {
    return this.#all[id]!;
  }

  /**
   * The id of the endpoint with this key, given out at its first mention. A retired one is in use again.
   * @throws RangeError when there are too many
   */
  idOf(key: string, address: string, port: number, kind: EndpointKind): number {
    let endpoint = this.#byKey.get(key);
    if (!endpoint) {
      endpoint = this.#add(address, port, kind);
      this.#byKey.set(key, endpoint);
      if (kind.proxy) this.plane.steering.pairProxy(endpoint);
      else if (kind.relay === undefined) this.plane.steering.place(endpoint.id, endpoint);
    }
    endpoint.retired = false;
    return endpoint.id;
  }

  #add(address: string, port: number, { proxy = false, relay }: EndpointKind): Endpoint {
    const id = this.#all.length;
    if (id >= MAX_ENDPOINTS) throw new RangeError(`more than ${MAX_ENDPOINTS} endpoints`);
    const closes = new ServerCloses((toProxy) =>
      this.plane.slots.setEndpoint(id, 'flags', toProxy ? ENDPOINT_FLAG.NO_POOL : 0),
    );
    const counts = { connecting: 0, open: 0, wanted: 0, retired: false };
    const endpoint = { id, address, port, proxy, relay, ...counts, closes, pauses: new RelayPauses() };
    this.#all.push(endpoint);
    return endpoint;
  }

  /** Connections that were missed since the last look, without those that are being opened; 0 while there is a pause. */
  missed(endpoint: Endpoint): number {
    // what it misses meanwhile is no reason to open connections afterwards
    if (endpoint.closes.paused()) return 0;
    const wanted = this.plane.slots.endpoint(endpoint.id, 'wanted');
    const missed = (wanted - endpoint.wanted) | 0;
    if (missed <= 0) return 0;
    endpoint.wanted = wanted;
    return endpoint.pauses.paused() ? 0 : missed - endpoint.connecting;
  }
}
