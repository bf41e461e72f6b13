/**
 * Who takes the traffic of a cluster that is followed. The image has two rooms for it: what is new is written into the one
 * that is not in force, which was given up at the change before, so that no program reads it any more.
 */
import {
  type FollowedCluster,
  type FollowedHost,
  type SetHosts,
  useHostSets,
  writeHostSets,
} from '../compile/clusters.js';
import type { HostState } from '../plan/host-sets.js';

export class HostRooms {
  /** the room written last; the first to be written is 0 */
  #room: 0 | 1 = 1;

  constructor(readonly cluster: FollowedCluster) {}

  /** Writes into an image that is not in force yet. */
  prepare(image: Uint8Array, hosts: readonly FollowedHost[], states: readonly HostState[]): void {
    this.#room = 0;
    useHostSets(image, this.cluster, writeHostSets(image, this.cluster, this.#room, hosts, states));
  }

  /** Writes into the image in force, and switches. */
  change(setHosts: SetHosts, hosts: readonly FollowedHost[], states: readonly HostState[]): void {
    const room = this.#room === 0 ? 1 : 0;
    setHosts(this.cluster, room, hosts, states);
    this.#room = room;
  }
}
