/**
 * Connections whose endpoint their first message says. The kernel has decided when that message comes here; the agent
 * connects to the endpoint (or to the proxy, where the kernel has not decided), sends on what has come, and joins the ends.
 */
import { isIPv6 } from 'node:net';
import type { Address } from './address.js';
import type { DataPlane } from './data-plane.js';
import { HelloConnection, type HelloTarget } from './hello-connection.js';
import type { Arrival } from './listeners.js';

export interface HellosContext {
  /** where the proxy listens for a listener; `elsewhere`: for a client in another network namespace */
  readonly proxy: (listener: string, elsewhere: boolean) => Address | undefined;
  readonly placeOf: (endpoint: number) => Address | undefined;
}

const DRAIN_POLL_MS = 10;

export class Hellos {
  readonly #connections = new Set<HelloConnection>();

  constructor(
    private readonly plane: DataPlane,
    private readonly context: HellosContext,
  ) {}

  get connections(): number {
    return this.#connections.size;
  }

  /** A client's connection has arrived. */
  accept(arrival: Arrival): void {
    const { socket, listener, client, cookie, netns } = arrival;
    const connection: HelloConnection = new HelloConnection(this.plane, socket, cookie, {
      endpoint: (id) => {
        const at = this.context.placeOf(id);
        // bound, so that it is not taken for a pooled connection (bpf/proxy-end.h)
        return at && { ...at, localAddress: at.address.includes(':') ? '::' : '0.0.0.0' };
      },
      proxy: (): HelloTarget | undefined => {
        const at = this.context.proxy(listener, netns !== undefined);
        if (!at) return undefined;
        const six = isIPv6(at.address);
        return { ...at, localAddress: isIPv6(client.address) === six ? client.address : six ? '::' : '0.0.0.0' };
      },
      closed: () => {
        this.#connections.delete(connection);
        if (this.plane.steering.arrived(client, netns)?.cookie === cookie) this.plane.steering.forget(client, netns);
      },
    });
    this.#connections.add(connection);
  }

  /** Waits until all connections have ended, at most `ms`, and resets the others. */
  async drain(ms: number): Promise<void> {
    for (const end = Date.now() + ms; this.#connections.size > 0 && Date.now() < end; )
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    for (const connection of [...this.#connections]) connection.reset();
  }
}
