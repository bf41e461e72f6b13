/** The endpoints of a cluster: config.endpoint.v3.ClusterLoadAssignment -> what takes traffic. */
import net from 'node:net';
import type { JsonObject, Resources } from '../policy/resources.js';
import type { Health, HostState } from './host-sets.js';
import { anyType, has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

export interface EndpointInfo {
  readonly address: string;
  readonly port: number;
  readonly state: HostState;
  readonly hostname: string;
  /** load_balancing_weight, 1 unless given */
  readonly weight: number;
  /** metadata for subset load balancing (`envoy.lb`) */
  readonly labels: JsonObject;
}

export interface EndpointSet {
  readonly endpoints: readonly EndpointInfo[];
  /** the proxy finds the addresses out while it runs (DNS); `endpoints` is empty then */
  readonly discovered: boolean;
  /** how many there are in all priorities; 0 when they are not known */
  readonly all: number;
  /** percent: how much more than its share a healthy endpoint is trusted to take */
  readonly overprovisioning: number;
  /** weights of the localities, if they are to be observed */
  readonly localityWeights?: readonly number[];
}

const DNS_CLUSTER = 'envoy.extensions.clusters.dns.v3.DnsCluster';
const DEFAULT_OVERPROVISIONING = 140;

/** Whether the proxy looks the endpoints of the cluster up in the DNS, so that each has a name. */
export function usesDns(cluster: JsonObject): boolean {
  const type = str(cluster, 'type');
  return type.endsWith('_DNS') || anyType(obj(obj(cluster, 'cluster_type'), 'typed_config')) === DNS_CLUSTER;
}

function loadAssignment(notes: Notes, cluster: JsonObject, resources: Resources): JsonObject | undefined {
  const type = str(cluster, 'type') || 'STATIC';
  const known = has(cluster, 'cluster_type')
    ? usesDns(cluster)
    : ['STATIC', 'STRICT_DNS', 'LOGICAL_DNS', 'EDS'].includes(type);
  if (!known) {
    const field = has(cluster, 'cluster_type') ? 'cluster_type' : 'type';
    notes.add('cluster-discovery', `clusters of type ${type} are resolved by the proxy`, field, cluster, field);
    return undefined;
  }
  const inline = obj(cluster, 'load_assignment');
  if (inline) return inline;
  const wanted = str(obj(cluster, 'eds_cluster_config'), 'service_name') || str(cluster, 'name');
  return resources.endpoints.find((e) => str(e, 'cluster_name') === wanted);
}

const HEALTH: Readonly<Record<string, Health>> = {
  UNKNOWN: 'healthy',
  HEALTHY: 'healthy',
  DEGRADED: 'degraded',
  DRAINING: 'excluded',
};

/** What a value of core.v3.HealthStatus means for load balancing. */
export function healthOf(status: string): Health {
  return HEALTH[status || 'UNKNOWN'] ?? 'unhealthy';
}

/** One endpoint; 'name' when its address is to be looked up, undefined (with a reason) when it is nothing we can use. */
function endpoint(
  notes: Notes,
  e: JsonObject,
  at: string,
  dns: boolean,
  place: Omit<HostState, 'health'>,
): EndpointInfo | 'name' | undefined {
  onlyFields(notes, e, at, ['endpoint', 'health_status', 'metadata', 'load_balancing_weight']);
  const target = obj(e, 'endpoint') ?? {};
  onlyFields(notes, target, join(at, 'endpoint'), ['address', 'hostname', 'health_check_config']);
  const socket = obj(obj(target, 'address'), 'socket_address');
  if (!socket) {
    notes.add('cluster-endpoints', 'not a TCP address', join(at, 'endpoint.address'), target);
    return undefined;
  }
  onlyFields(notes, socket, join(at, 'endpoint.address.socket_address'), [
    'protocol',
    'address',
    'port_value',
    'ipv4_compat',
  ]);
  const address = str(socket, 'address');
  const port = num(socket, 'port_value');
  const plain = port !== 0 && (str(socket, 'protocol') || 'TCP') === 'TCP';
  if (dns && plain && address !== '' && net.isIP(address) === 0) return 'name';
  if (net.isIP(address) === 0 || !plain) {
    notes.add(
      'cluster-discovery',
      `${address} is not an IP address with a port`,
      join(at, 'endpoint.address.socket_address.address'),
      socket,
      'address',
    );
    return undefined;
  }
  return {
    address,
    port,
    state: { health: healthOf(str(e, 'health_status')), ...place },
    hostname: str(target, 'hostname'),
    weight: num(e, 'load_balancing_weight', 1),
    labels: obj(obj(obj(e, 'metadata'), 'filter_metadata'), 'envoy.lb') ?? {},
  };
}

/** Each may have two sets of hosts. */
const MAX_PRIORITIES = 32;

interface Locality {
  readonly json: JsonObject;
  readonly at: string;
  readonly endpoints: readonly (EndpointInfo | 'name')[];
}

/** What the fast path cannot do with several priorities or localities. */
function together(
  notes: Notes,
  assignment: JsonObject,
  localities: readonly Locality[],
  how: { readonly weighted: boolean; readonly zones: boolean; readonly subsets: boolean; readonly hashing: boolean },
): void {
  const note = (message: string) =>
    notes.add('cluster-endpoints', message, 'load_assignment.endpoints', assignment, 'endpoints');
  const priorities = new Set(localities.map(({ json }) => num(json, 'priority')));
  if (how.subsets && (priorities.size > 1 || !priorities.has(0))) note('priorities within subsets');
  if (Math.max(...priorities) >= MAX_PRIORITIES) note(`more than ${MAX_PRIORITIES} priorities`);
  if (localities.length < 2) return;
  const names = localities.some(({ endpoints }) => endpoints.includes('name'));
  const several = `${localities.length} localities`;
  if (how.zones) note(`${several}, and a local cluster to compare them with`);
  else if (how.weighted && how.subsets) note(`${several} with weights, within subsets`);
  else if (how.weighted && how.hashing) note(`${several} with weights in a hash table`);
  else if (how.weighted && names) note(`${several} with weights, of endpoints with names`);
}

/** The same place: Envoy takes the localities of one priority that are called alike for one. */
function placeOf(json: JsonObject): string {
  const { region = '', zone = '', sub_zone = '' } = obj(json, 'locality') ?? {};
  return JSON.stringify([num(json, 'priority'), region, zone, sub_zone]);
}

/**
 * Reads the endpoints of a cluster, those that the files name and those that the proxy looks up.
 *
 * @param how whether the cluster observes the weights of localities, and whether a hash table leads to its endpoints
 * @returns an empty set with a reason in `notes` where that is not possible
 */
export function endpointSet(
  notes: Notes,
  cluster: JsonObject,
  resources: Resources,
  how: { readonly weighted: boolean; readonly hashing: boolean },
): EndpointSet {
  const nothing: EndpointSet = {
    endpoints: [],
    discovered: false,
    all: 0,
    overprovisioning: DEFAULT_OVERPROVISIONING,
  };
  const assignment = loadAssignment(notes, cluster, resources);
  if (!assignment) {
    if (notes.clean) notes.add('no-endpoints', 'no endpoints are known', 'load_assignment', cluster);
    return nothing;
  }
  onlyFields(notes, assignment, 'load_assignment', ['cluster_name', 'endpoints', 'policy']);
  const policy = obj(assignment, 'policy');
  if (policy)
    onlyFields(notes, policy, 'load_assignment.policy', [
      'overprovisioning_factor',
      'endpoint_stale_after',
      'weighted_priority_health',
    ]);
  if (policy?.weighted_priority_health === true)
    notes.add(
      'cluster-endpoints',
      'priorities are weighted',
      'load_assignment.policy.weighted_priority_health',
      policy,
    );
  const dns = usesDns(cluster);
  const localities: Locality[] = [];
  const places = new Map<string, number>();
  const localityWeights: number[] = [];
  list(assignment, 'endpoints').forEach((json, i) => {
    const at = `load_assignment.endpoints[${i}]`;
    if (!has(json, 'lb_endpoints')) return; // an empty locality takes part in nothing
    onlyFields(notes, json, at, ['locality', 'lb_endpoints', 'load_balancing_weight', 'priority', 'metadata']);
    const key = placeOf(json);
    const locality = places.has(key) ? places.get(key)! : places.size;
    places.set(key, locality);
    // one without a name, or without a weight, has none
    if (has(json, 'locality') && has(json, 'load_balancing_weight'))
      localityWeights[locality] = num(json, 'load_balancing_weight');
    const place = { priority: num(json, 'priority'), locality };
    const found = list(json, 'lb_endpoints').map((e, k) => endpoint(notes, e, `${at}.lb_endpoints[${k}]`, dns, place));
    localities.push({ json, at, endpoints: found.filter((e) => e !== undefined) });
  });
  const overprovisioning = num(policy, 'overprovisioning_factor', DEFAULT_OVERPROVISIONING);
  const zones = has(obj(resources.bootstrap, 'cluster_manager'), 'local_cluster_name');
  together(notes, assignment, localities, { ...how, zones, subsets: has(cluster, 'lb_subset_config') });
  const found = localities.flatMap(({ endpoints }) => endpoints);
  const addresses = new Set(found.map((e) => (e === 'name' ? e : `${e.address} ${e.port}`)));
  if (!found.includes('name') && addresses.size < found.length)
    notes.add(
      'cluster-endpoints',
      'an endpoint that is there twice',
      'load_assignment.endpoints',
      assignment,
      'endpoints',
    );
  if (notes.clean && found.length === 0)
    notes.add('no-endpoints', 'the cluster has no endpoint', 'load_assignment', cluster);
  if (localities.some(({ endpoints }) => endpoints.includes('name'))) {
    discoverable(notes, localities);
    return { endpoints: [], discovered: true, all: 0, overprovisioning };
  }
  const all = localities.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  return {
    endpoints: found.filter((e) => e !== 'name'),
    discovered: false,
    all,
    overprovisioning,
    ...(how.weighted ? { localityWeights: Array.from(localityWeights, (weight) => weight ?? 0) } : {}),
  };
}

/** What is told about endpoints that the proxy has found is their addresses, priorities and health, so the rest must be the same. */
function discoverable(notes: Notes, localities: readonly Locality[]): void {
  for (const { json, at } of localities) {
    list(json, 'lb_endpoints').forEach((e, k) => {
      if (num(e, 'load_balancing_weight', 1) !== 1)
        notes.add(
          'cluster-endpoints',
          'weights of endpoints with names',
          join(at, `lb_endpoints[${k}].load_balancing_weight`),
          e,
          'load_balancing_weight',
        );
    });
  }
}
