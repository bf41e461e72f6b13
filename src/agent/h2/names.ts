/** Servers of HTTP/2 that the proxy finds out while it runs (discovery.ts). */
import type { FollowedCluster, SetHosts } from '../../compile/clusters.js';
import { Discovery, type DiscoveryContext } from '../discovery.js';
import type { StreamPolicy, StreamServer, StreamServers } from '../policy.js';
import { MAX_SERVERS } from './policy.js';

type Followed = Pick<StreamPolicy, 'image' | 'followed'>;

/** What is asked of the rest of the agent. */
export interface NamesContext extends Pick<DiscoveryContext, 'clusters' | 'endpointId'> {
  /** see SetHosts */
  readonly setHosts: SetHosts;
  /** clients are to have connections to other servers than before, perhaps */
  readonly changed: () => void;
}

export class Names {
  readonly #discovery: Discovery;
  /** of the image in force */
  #followed: ReadonlyMap<string, FollowedCluster> = new Map();

  constructor({ clusters, endpointId, setHosts, changed }: NamesContext) {
    this.#discovery = new Discovery({
      clusters,
      endpointId,
      setHosts: (cluster, ...hosts) => {
        if (this.#followed.get(cluster.plan.name) === cluster) setHosts(cluster, ...hosts);
      },
      limits: () => changed(),
      retire: () => undefined, // each client gives its connections up
    });
  }

  /** Asks the proxy, and writes what it knows into an image that is not in force yet. */
  async prepare(policy: Followed): Promise<void> {
    await this.#discovery.prepare(policy);
  }

  /** Another image is about to come into force: what is found out meanwhile is not written into it. */
  pause(): void {
    this.#followed = new Map();
  }

  /** The image that was prepared is in force. */
  enforce(policy: Followed): void {
    this.#followed = policy.followed;
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
