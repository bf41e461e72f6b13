/** The image that decides about streams: which one is in force, and who takes traffic in it. */
import { type FollowedCluster, type FollowedHost, writeHostSets } from '../../compile/clusters.js';
import { type BpfMap, type Mapping, u32 } from '../../kernel/libbpf.js';
import type { HostState } from '../../plan/host-sets.js';
import { imageMap } from '../image-map.js';

export class StreamImage {
  #map: BpfMap | undefined;
  #mapping: Mapping | undefined;

  /** @param policy the map that programs find it by */
  constructor(private readonly policy: BpfMap) {}

  /** Another image for the streams that begin from now on. @returns when no program uses the old one any more */
  async install(image: Uint8Array): Promise<void> {
    const { map, mapping } = imageMap(image);
    await this.policy.updateAside(u32(0), u32(map.fd));
    this.close();
    this.#map = map;
    this.#mapping = mapping;
  }

  /**
   * Changes who takes the traffic of a cluster for every stream that begins from now on.
   * @param cluster of the image in force; @param room no program reads it any more
   */
  setHosts(cluster: FollowedCluster, room: 0 | 1, hosts: readonly FollowedHost[], states: readonly HostState[]): void {
    if (!this.#mapping) return;
    const { buffer, bytes } = this.#mapping;
    const next = writeHostSets(bytes, cluster, room, hosts, states);
    Atomics.store(new Int32Array(buffer, bytes.byteOffset + cluster.pointer, 1), 0, next);
  }

  close(): void {
    this.#mapping?.unmap();
    this.#map?.close();
    this.#mapping = undefined;
    this.#map = undefined;
  }
}
