/** Clusters of which only the running proxy, or the agent, knows who takes traffic. */
import type { Balancing, HostState } from './host-sets.js';
import type { Detection } from './outliers.js';

/** A cluster whose hosts, or whose hosts' health, proxy or agent find out while they run. */
export interface FollowedPlan {
  /** what the proxy calls it */
  readonly cluster: string;
  /** the hosts' addresses are found out as well, so `endpoints` is empty */
  readonly names: boolean;
  /**
   * for streams, LOGICAL_DNS: it is one endpoint, wherever connections to it lead. Equal texts look the same name up in the same way
   */
  readonly logical?: string;
  /** by endpoint: where it is, and its health as far as the files say */
  readonly hosts: readonly HostState[];
  readonly balancing: Balancing;
  /** the agent ejects endpoints that fail, instead of the proxy */
  readonly detection?: Detection;
  /** with it: all hosts of the proxy's cluster, of which `endpoints` may be a subset */
  readonly all?: readonly { readonly address: string; readonly port: number }[];
}
