/** Servers of HTTP/2 that the proxy finds out while it runs (discovery.ts), and the numbers that they have. */
import type { FollowedCluster, SetHosts } from '../../compile/clusters.js';
import { Discovery, type DiscoveryContext } from '../discovery.js';
import type { StreamPolicy, StreamServer, StreamServers } from '../policy.js';
import { MAX_SERVERS } from './policy.js';

/** For so long after a reload the proxy may tell of the cluster that had a name before: one of a name that nobody answers for warms long. */
const WARM_MS = 60_000;

type Followed = Pick<StreamPolicy, 'image' | 'followed'>;

export interface NamesContext {
  readonly clusters: DiscoveryContext['clusters'];
  /** a number for a text, the same whenever it is asked for */
  readonly number: (text: string) => number;
  /** see SetHosts */
  readonly setHosts: SetHosts;
  /** clients are to have connections to other servers than before, perhaps */
  readonly changed: () => void;
}

/** What an endpoint is known by. */
export function endpointText(address: string, port: number): string {
  return `${port} ${address}`;
}

export class Names {
  readonly #discovery: Discovery;
  /** of the image in force */
  #followed: ReadonlyMap<string, FollowedCluster> = new Map();
  /** clusters that are one endpoint: which, and until when each address counts as another one */
  readonly #logical = new Map<string, { readonly id: number; readonly until: number }>();
  /** how many were prepared */
  #policies = 0;

  constructor(private readonly context: NamesContext) {
    this.#discovery = new Discovery({
      clusters: context.clusters,
      endpointId: (address, port, _relay, logical) => this.#id(endpointText(address, port), logical),
      setHosts: (cluster, ...hosts) => {
        if (this.#followed.get(cluster.plan.name) === cluster) context.setHosts(cluster, ...hosts);
      },
      limits: () => context.changed(),
      retire: () => undefined, // each client gives its connections up
    });
  }

  #id(endpoint: string, logical: string | undefined): number {
    if (logical === undefined) return this.context.number(endpoint);
    const now = performance.now();
    const known = this.#logical.get(logical);
    if (known && now > known.until) return known.id;
    const id = this.context.number(`${logical} ${endpoint}`);
    this.#logical.set(logical, { id, until: known?.until ?? (this.#policies > 1 ? now + WARM_MS : now) });
    return id;
  }

  /** Asks the proxy, and writes what it knows into an image that is not in force yet. */
  async prepare(policy: Followed): Promise<void> {
    this.#policies++;
    await this.#discovery.prepare(policy);
  }

  /** Another image is about to come into force: what is found out meanwhile is not written into it. */
  pause(): void {
    this.#followed = new Map();
  }

  /** The image that was prepared is in force. */
  enforce(policy: Followed): void {
    this.#followed = policy.followed;
    const used = new Set([...policy.followed.values()].map(({ plan }) => plan.followed.logical));
    for (const logical of this.#logical.keys()) if (!used.has(logical)) this.#logical.delete(logical);
    this.#discovery.enforce(policy, new Map(), new Map());
  }

  /** The servers of a listener that there are now. */
  servers({ fixed, named }: StreamServers): readonly StreamServer[] {
    let all = new Map(fixed.map((server) => [server.endpoint, server]));
    for (const cluster of named) {
      const found = this.#discovery.hosts(cluster).map(({ address, port, id }) => ({ address, port, endpoint: id }));
      const more = new Map([...all, ...found.map((server) => [server.endpoint, server] as const)]);
      // what has no connections is the proxy's
      if (more.size <= MAX_SERVERS) all = more;
    }
    return [...all.values()];
  }

  stop(): void {
    this.#discovery.stop();
  }
}
