/** The clusters of the image (image.ts): their endpoints, and how one of them is chosen. */
import { type Layout, struct } from './struct.js';

export const LB = { ROUND_ROBIN: 0, RANDOM: 1, LEAST_REQUEST: 2, RING_HASH: 3, MAGLEV: 4 } as const;

/** Most entries of a hash table. */
export const MAX_TABLE = 131072;
/** Sets of equally healthy endpoints of one priority that a cluster may have. */
export const MAX_HOST_SETS = 64;

export const ClusterSpec = struct('cluster', 'Endpoints and how one of them is chosen.', [
  ['lb', 'u32', 'LB'],
  ['sets', 'u32', 'offset of host_sets; the agent changes it where who takes traffic is found out at run time'],
  ['max_requests', 'u32', 'requests after which a connection is closed; 0: any number'],
  ['breaker', 'u32', 'index plus one of the counter of its requests in flight; 0: they are not limited'],
  ['connect_ms', 'u32', 'connections that clients open themselves fail after this time; 0: as the system has it'],
  ['pad', 'u32', 'zero'],
]);
export const HostSetsSpec = struct('host_sets', 'u32 n, then n host_sets; none: the proxy answers.', [
  ['n', 'u32', 'at most MAX_HOST_SETS'],
  ['pad', 'u32', 'zero'],
]);
export const HostSetSpec = struct('host_set', 'Endpoints of one priority that are equally healthy.', [
  ['share', 'u32', 'percent of the requests; those of all sets are 100'],
  ['lists', 'u32', 'offset of host_list[n_lists], which take turns'],
  ['n_lists', 'u32', 'at least 1'],
  ['counter', 'u32', 'index of the counter of these turns'],
  ['table', 'u32', 'hash tables: offset of u64[n_table], ascending (RING_HASH)'],
  ['members', 'u32', 'hash tables: offset of u16[n_table], indexes of endpoints in the list'],
  ['n_table', 'u32', 'at most MAX_TABLE'],
  ['pad', 'u32', 'zero'],
]);
export const HostListSpec = struct('host_list', 'Endpoints among which the policy chooses.', [
  ['endpoints', 'u32', 'offset of an endpoint_list'],
  ['counter', 'u32', 'index of the round robin counter'],
]);
export const EndpointListSpec = struct('endpoint_list', 'u32 n, then n endpoint_refs; empty: the proxy answers.', [
  ['n', 'u32', 'number of endpoints'],
  ['pad', 'u32', 'zero'],
]);
export const EndpointRefSpec = struct('endpoint_ref', 'A global endpoint id.', [
  ['id', 'u32', 'index into the endpoints map'],
  ['watch', 'u32', 'index into the detectors map; 0: its failures are not counted'],
]);

export const CLUSTERS_LAYOUT: Layout = {
  constants: { MAX_TABLE, MAX_HOST_SETS },
  enums: { LB },
  structs: [ClusterSpec, HostSetsSpec, HostSetSpec, HostListSpec, EndpointListSpec, EndpointRefSpec],
};
