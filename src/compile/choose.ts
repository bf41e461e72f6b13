/** From a forward action of the image to endpoints: what bpf/balance.h does, for the reference interpreter. */
import { ActionSpec, HASH, HASH_FLAG, HashSourceSpec, WeightedClusterSpec } from '../layout/actions.js';
import {
  ClusterSpec,
  EndpointListSpec,
  EndpointRefSpec,
  HostListSpec,
  HostSetSpec,
  HostSetsSpec,
  LB,
} from '../layout/clusters.js';
import { SLOT } from '../layout/image.js';
import { get, type StructSpec } from '../layout/struct.js';
import { tableIndex } from './hash-table.js';
import { type Head, headerValue, type Span, slice } from './head.js';
import { capture } from './produce.js';
import { xxh64 } from './xxhash.js';

export interface Choice {
  /** ids of the endpoints that come into question, as often as their share says */
  readonly endpoints: readonly number[];
  readonly lb: number;
}

function chooseCluster(image: DataView, action: number, random: number): number {
  const clusters = get(image, action, ActionSpec, 'clusters');
  const n = get(image, action, ActionSpec, 'n_clusters');
  let left = random % get(image, action, ActionSpec, 'total_weight');
  for (let i = 0; i < n; i++) {
    const at = clusters + i * WeightedClusterSpec.size;
    const weight = get(image, at, WeightedClusterSpec, 'weight');
    if (left < weight) return get(image, at, WeightedClusterSpec, 'cluster');
    left -= weight;
  }
  return get(image, clusters + (n - 1) * WeightedClusterSpec.size, WeightedClusterSpec, 'cluster');
}

/** The address as text; undefined for IPv6, whose text has many forms. */
function addressText(ip: Uint8Array): Uint8Array | undefined {
  return ip.length === 4 ? Buffer.from([...ip].join('.')) : undefined;
}

const QUOTE = 0x22;

/** The bytes that a source gives; 'absent', or 'proxy' where the proxy must decide. */
function sourceBytes(image: DataView, at: number, head: Head, sourceIp: Uint8Array): Uint8Array | 'absent' | 'proxy' {
  const found = (over: Span): Span | undefined => {
    const start = get(image, at, HashSourceSpec, 'find');
    return capture(image, start, get(image, at, HashSourceSpec, 'find_classes'), head, over)?.[0];
  };
  const slot = get(image, at, HashSourceSpec, 'slot');
  switch (get(image, at, HashSourceSpec, 'kind')) {
    case HASH.HEADER:
      return headerValue(head, slot) ?? 'absent';
    case HASH.HOST:
      return headerValue(head, SLOT.HOST) ?? 'absent';
    case HASH.TARGET:
      return slice(head, head.target);
    case HASH.METHOD:
      return slice(head, head.method);
    case HASH.QUERY: {
      const span = head.query && found(head.query);
      return span ? slice(head, span) : 'absent';
    }
    case HASH.COOKIE: {
      const line = head.lines.find((l) => l.slot === slot);
      const span = line && found(line.value);
      let value = span ? slice(head, span) : new Uint8Array();
      if (value.length >= 2 && value[0] === QUOTE && value.at(-1) === QUOTE) value = value.subarray(1, -1);
      if (value.length > 0) return value;
      return get(image, at, HashSourceSpec, 'flags') & HASH_FLAG.GENERATED ? 'proxy' : 'absent';
    }
    default:
      return addressText(sourceIp) ?? 'proxy';
  }
}

/** The hash of a request: undefined when no source gives one, 'proxy' when it must decide. */
function requestHash(image: DataView, action: number, head: Head, sourceIp: Uint8Array) {
  let hash: bigint | undefined;
  const n = get(image, action, ActionSpec, 'n_hashes');
  for (let i = 0; i < n; i++) {
    const at = get(image, action, ActionSpec, 'hashes') + i * HashSourceSpec.size;
    const bytes = sourceBytes(image, at, head, sourceIp);
    if (bytes === 'proxy') return 'proxy';
    if (bytes !== 'absent') {
      const before = hash ?? 0n;
      hash = (((before << 1n) | (before >> 63n)) & 0xffffffffffffffffn) ^ xxh64(bytes);
    }
    if (hash !== undefined && get(image, at, HashSourceSpec, 'flags') & HASH_FLAG.TERMINAL) break;
  }
  return hash;
}

function rows(at: number, spec: StructSpec, n: number): number[] {
  return Array.from({ length: n }, (_, i) => at + i * spec.size);
}

/** The host set that a hash leads to (without one: each of them may be chosen). */
function setFor(image: DataView, sets: readonly number[], hash: bigint): number {
  let left = Number(hash % 100n);
  for (const set of sets) {
    const share = get(image, set, HostSetSpec, 'share');
    if (left < share) return set;
    left -= share;
  }
  return sets.at(-1)!;
}

/** The endpoints that a forward action may send the request to; undefined: the proxy chooses. */
export function choose(
  image: DataView,
  action: number,
  head: Head,
  around: { readonly random: number; readonly sourceIp: Uint8Array },
): Choice | undefined {
  const cluster = chooseCluster(image, action, around.random);
  const at = get(image, cluster, ClusterSpec, 'sets');
  const sets = rows(at + HostSetsSpec.size, HostSetSpec, get(image, at, HostSetsSpec, 'n'));
  if (sets.length === 0) return undefined;
  const idsOf = (list: number): number[] => {
    const endpoints = get(image, list, HostListSpec, 'endpoints');
    const n = get(image, endpoints, EndpointListSpec, 'n');
    return rows(endpoints + EndpointListSpec.size, EndpointRefSpec, n).map((ref) =>
      get(image, ref, EndpointRefSpec, 'id'),
    );
  };
  const listsOf = (set: number): number[] =>
    rows(get(image, set, HostSetSpec, 'lists'), HostListSpec, get(image, set, HostSetSpec, 'n_lists'));
  const lb = get(image, cluster, ClusterSpec, 'lb');
  if (lb === LB.RING_HASH || lb === LB.MAGLEV) {
    const hash = requestHash(image, action, head, around.sourceIp);
    if (hash === 'proxy') return undefined;
    if (hash !== undefined) {
      const set = setFor(image, sets, hash);
      const ids = idsOf(listsOf(set)[0]!);
      if (ids.length === 0) return undefined;
      const table = get(image, set, HostSetSpec, 'table');
      const hashAt = table === 0 ? undefined : (i: number) => image.getBigUint64(table + 8 * i, true);
      const entry = tableIndex(hash, get(image, set, HostSetSpec, 'n_table'), hashAt);
      const members = get(image, set, HostSetSpec, 'members');
      return { endpoints: [ids[image.getUint16(members + 2 * entry, true)]!], lb };
    }
  }
  const endpoints = sets.flatMap((set) => listsOf(set).flatMap(idsOf));
  return endpoints.length === 0 ? undefined : { endpoints, lb };
}
