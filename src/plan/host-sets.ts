/**
 * Which hosts of a cluster take which part of its traffic, by health, priority and locality: what Envoy's
 * LoadBalancerBase (load per priority, panic), ZoneAwareLoadBalancerBase (which hosts of a priority) and LocalityWrr
 * (localities with weights) make of it.
 */

/** `excluded`: not counted at all until its first health check, or while it drains; takes traffic in a panic only. */
export type Health = 'healthy' | 'degraded' | 'unhealthy' | 'excluded';

/** What is known of a host beside its address. */
export interface HostState {
  readonly health: Health;
  readonly priority: number;
  /** index into the cluster's localities */
  readonly locality: number;
}

/** How a cluster spreads traffic over its hosts. */
export interface Balancing {
  /** percent of hosts below which their health is not regarded */
  readonly panicThreshold: number;
  /** percent: how much more than its share a healthy host is trusted to take */
  readonly overprovisioning: number;
  /** weights by locality (index of HostState.locality), if they are to be observed */
  readonly localityWeights?: readonly number[];
  /** a hash table leads to the host: such policies know healthy hosts only */
  readonly hashing?: boolean;
}

/** Hosts that take `share` percent of the requests. */
export interface HostSet {
  readonly share: number;
  /** lists of hosts (indexes); each list takes turns with its weight, and hosts within a list as the policy says */
  readonly lists: readonly { readonly weight: number; readonly members: readonly number[] }[];
}

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

/** DistributeLoad: as much as possible to the first priorities. @returns loads, what is left, the first with any */
function distribute(available: readonly number[], total: number, normalized: number) {
  let left = total;
  const loads = available.map((percent) => {
    const load = Math.min(left, Math.floor((percent * 100) / normalized));
    left -= load;
    return load;
  });
  return { loads, left, first: available.findIndex((percent) => percent > 0) };
}

interface Priority {
  readonly all: readonly number[];
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  /** hosts that count */
  readonly count: number;
}

function prioritiesOf(hosts: readonly HostState[]): Priority[] {
  const n = 1 + Math.max(0, ...hosts.map((h) => h.priority));
  return Array.from({ length: n }, (_, p) => {
    const all = hosts.flatMap((h, i) => (h.priority === p ? [i] : []));
    const of = (health: Health) => all.filter((i) => hosts[i]!.health === health);
    return { all, healthy: of('healthy'), degraded: of('degraded'), count: all.length - of('excluded').length };
  });
}

function loadsOf(priorities: readonly Priority[], { panicThreshold, overprovisioning }: Balancing) {
  const percent = (part: readonly number[], count: number) =>
    count === 0 ? 0 : Math.min(100, Math.floor((overprovisioning * part.length) / count));
  const healths = priorities.map((p) => percent(p.healthy, p.count));
  const degrades = priorities.map((p) => percent(p.degraded, p.count));
  const normalized = Math.min(100, sum(healths) + sum(degrades));
  let healthy = priorities.map(() => 0);
  let degraded = priorities.map(() => 0);
  if (normalized > 0) {
    const first = distribute(healths, 100, normalized);
    const second = distribute(degrades, first.left, normalized);
    [healthy, degraded] = [first.loads, second.loads];
    // what is left by rounding
    if (first.first >= 0) healthy[first.first]! += second.left;
    else degraded[second.first]! += second.left;
  }
  const threshold = Math.min(100, panicThreshold);
  const panic = priorities.map(
    ({ healthy: h, degraded: d, count }) =>
      normalized < 100 && (count === 0 ? 0 : (100 * (h.length + d.length)) / count) < threshold,
  );
  if (threshold > 0 && panic.every((is) => is)) {
    const total = sum(priorities.map((p) => p.all.length));
    healthy = priorities.map((p) => (total === 0 ? 0 : Math.floor((100 * p.all.length) / total)));
    degraded = priorities.map(() => 0);
    healthy[
      Math.max(
        0,
        priorities.findIndex((p) => p.all.length > 0),
      )
    ]! += 100 - sum(healthy);
  }
  return { healthy, degraded, panic };
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/** The lists of one priority by locality; undefined where weights decide nothing. */
function localities(hosts: readonly HostState[], all: readonly number[], eligible: readonly number[], how: Balancing) {
  if (!how.localityWeights) return undefined;
  const places = [...new Set(all.map((i) => hosts[i]!.locality))].map((locality) => {
    const within = (i: number) => hosts[i]!.locality === locality;
    const counted = all.filter((i) => within(i) && hosts[i]!.health !== 'excluded').length;
    return { weight: how.localityWeights![locality] ?? 0, counted, members: eligible.filter(within) };
  });
  // the effective weight is weight * min(1, factor * eligible / counted): all of them over one denominator
  const common = places.reduce((l, { counted }) => (counted === 0 ? l : (l * counted) / divisor(l, counted)), 1);
  const lists = places.flatMap(({ weight, counted, members }) => {
    if (counted === 0 || weight === 0 || members.length === 0) return [];
    const part = Math.min(100 * counted, how.overprovisioning * members.length);
    return [{ weight: weight * part * (common / counted), members }];
  });
  if (lists.length === 0) return undefined;
  const shared = lists.map(({ weight }) => weight).reduce(divisor, 0);
  return lists.map(({ weight, members }) => ({ weight: weight / shared, members }));
}

/**
 * The sets of hosts that take traffic, in the order in which Envoy goes through them. A set without members stands for
 * requests that find no host.
 */
export function hostSets(hosts: readonly HostState[], how: Balancing): HostSet[] {
  const priorities = prioritiesOf(hosts);
  const { healthy, degraded, panic } = loadsOf(priorities, how);
  const setOf = (p: number, share: number, part: 'healthy' | 'degraded'): HostSet[] => {
    if (share === 0) return [];
    const { all, [how.hashing ? 'healthy' : part]: eligible } = priorities[p]!;
    const members = panic[p] ? all : eligible;
    const lists = panic[p] ? undefined : localities(hosts, all, eligible, how);
    return [{ share, lists: lists ?? [{ weight: 1, members }] }];
  };
  return [
    ...healthy.flatMap((share, p) => setOf(p, share, 'healthy')),
    ...degraded.flatMap((share, p) => setOf(p, share, 'degraded')),
  ];
}

/** The hosts that take any traffic, in their order. */
export function serving(sets: readonly HostSet[]): number[] {
  const members = sets.flatMap(({ lists }) => lists.flatMap((list) => list.members));
  return [...new Set(members)].sort((a, b) => a - b);
}
