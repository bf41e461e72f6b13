/**
 * Endpoints that the proxy finds out while it runs (DNS). It is asked what it has found, so that both paths lead to the
 * same servers whatever the resolver, its settings and its failures; the kernel's lists are changed in the image in
 * force. Until the first answer, and when there is no proxy to ask, such clusters have no endpoints here and their
 * requests are the proxy's.
 */
import { type DiscoveredCluster, MAX_DISCOVERED, writeEndpointList } from '../compile/clusters.js';
import type { CompiledImage } from '../compile/image.js';
import { serving } from '../plan/endpoints.js';
import { asObject, asObjects, asString } from '../policy/envoy/walk.js';
import type { JsonObject } from '../policy/resources.js';

/** What is asked of the rest of the agent. */
export interface DiscoveryContext {
  /** the proxy's `/clusters?format=json`; undefined: there is no proxy that can be asked */
  readonly clusters: () => Promise<string> | undefined;
  /** the id of an endpoint. @throws RangeError when there are too many */
  readonly endpointId: (address: string, port: number) => number;
  /** puts a list in force */
  readonly setEndpoints: (cluster: DiscoveredCluster, ids: readonly number[]) => void;
  /** no cluster leads to this endpoint any more */
  readonly retire: (endpoint: number) => void;
}

export interface Host {
  readonly address: string;
  readonly port: number;
  readonly healthy: boolean;
}

const POLL_MS = 500;
/** The proxy is to spend no more than a twentieth of its main thread on answering. */
const SPARING = 20;

function hostOf(status: JsonObject): Host | undefined {
  const socket = asObject(asObject(status.address)?.socket_address);
  const health = asObject(status.health_status) ?? {};
  const reported = asString(health.eds_health_status);
  if (!socket || reported === 'DEGRADED' || health.failed_active_degraded_check === true) return undefined;
  const failed = Object.entries(health).some(([key, value]) => key.startsWith('failed_') && value === true);
  return {
    address: asString(socket.address),
    port: Number(socket.port_value),
    healthy: !failed && (reported === '' || reported === 'UNKNOWN' || reported === 'HEALTHY'),
  };
}

/** The hosts of each cluster; those of a cluster with a host that the kernel cannot use are left out. */
export function parseClusters(text: string): Map<string, Host[]> {
  const found = new Map<string, Host[]>();
  const statuses = asObject(JSON.parse(text) as JsonObject)?.cluster_statuses;
  for (const status of asObjects(statuses)) {
    const hosts = asObjects(status.host_statuses).map(hostOf);
    if (hosts.every((host) => host !== undefined)) found.set(asString(status.name), hosts);
  }
  return found;
}

export class Discovery {
  #hosts = new Map<string, Host[]>();
  #clusters: ReadonlyMap<string, DiscoveredCluster> = new Map();
  /** ids of the endpoints in force, by cluster */
  #inForce = new Map<string, readonly number[]>();
  #fixed: ReadonlySet<number> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly context: DiscoveryContext) {}

  /** Asks the proxy, and writes what it knows into an image that is not in force yet. */
  async prepare(compiled: CompiledImage): Promise<void> {
    if (compiled.discovered.size === 0) return;
    await this.#ask();
    for (const cluster of compiled.discovered.values())
      writeEndpointList(compiled.image, cluster.lists[0], this.#idsOf(cluster));
  }

  /**
   * An image that was prepared is in force.
   * @param fixed endpoints that its other clusters lead to
   */
  enforce(compiled: CompiledImage, fixed: ReadonlySet<number>): void {
    this.#fixed = fixed;
    this.#clusters = compiled.discovered;
    const before = this.#inForce;
    this.#inForce = new Map([...this.#clusters].map(([name, cluster]) => [name, this.#idsOf(cluster)]));
    this.#retire([...before.values()].flat());
    this.#schedule(POLL_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#clusters.size === 0) return;
    this.#timer = setTimeout(() => void this.#poll(), ms);
    this.#timer.unref();
  }

  async #poll(): Promise<void> {
    const begun = performance.now();
    await this.#ask();
    const took = performance.now() - begun;
    if (this.#stopped) return;
    for (const [name, cluster] of this.#clusters) {
      const ids = this.#idsOf(cluster);
      const before = this.#inForce.get(name) ?? [];
      if (ids.length === before.length && ids.every((id, i) => id === before[i])) continue;
      this.context.setEndpoints(cluster, ids);
      this.#inForce.set(name, ids);
      this.#retire(before);
    }
    this.#schedule(Math.max(POLL_MS, took * SPARING));
  }

  async #ask(): Promise<void> {
    try {
      const text = await this.context.clusters();
      if (text !== undefined) this.#hosts = parseClusters(text);
    } catch {
      // a proxy that does not answer knows nothing new
    }
  }

  #idsOf({ plan }: DiscoveredCluster): number[] {
    const hosts = this.#hosts.get(plan.name) ?? [];
    const { panicThreshold = 0, overprovisioning = 100 } = plan.discovered ?? {};
    const used = serving(hosts, panicThreshold, overprovisioning);
    if (used.length > MAX_DISCOVERED) return [];
    try {
      return used.map(({ address, port }) => this.context.endpointId(address, port));
    } catch {
      return []; // no more room for endpoints: the proxy balances
    }
  }

  #retire(ids: readonly number[]): void {
    const used = new Set([...this.#inForce.values()].flat());
    for (const id of new Set(ids)) if (!used.has(id) && !this.#fixed.has(id)) this.context.retire(id);
  }
}
