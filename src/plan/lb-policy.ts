/** How a cluster chooses among its endpoints: lb_policy and its configuration, or load_balancing_policy. */
import type { JsonObject } from '../policy/resources.js';
import type { ClusterPlan } from './ir.js';
import { anyType, bool, has, list, type Notes, num, obj, onlyFields, str } from './notes.js';

export interface LbPolicy {
  readonly lb: ClusterPlan['lb'];
  readonly table?: ClusterPlan['table'];
}

const LB = {
  ROUND_ROBIN: 'round_robin',
  RANDOM: 'random',
  LEAST_REQUEST: 'least_request',
  RING_HASH: 'ring_hash',
  MAGLEV: 'maglev',
} as const;

/** Extensions that are the same as a policy of `lb_policy`, by the last part of their type. */
const TYPED: Readonly<Record<string, keyof typeof LB>> = {
  RoundRobin: 'ROUND_ROBIN',
  Random: 'RANDOM',
  LeastRequest: 'LEAST_REQUEST',
  RingHash: 'RING_HASH',
  Maglev: 'MAGLEV',
};

/** Envoy's defaults and its bound for both. */
const MINIMUM_RING = 1024;
const MAXIMUM_RING = 8 * 1024 * 1024;
const MAGLEV_SIZE = 65537;

function common(notes: Notes, config: JsonObject, at: string): void {
  onlyFields(notes, config, at, ['choice_count', 'active_request_bias']);
  if (has(config, 'choice_count') && num(config, 'choice_count') !== 2)
    notes.add('lb-policy', 'choice_count is not 2', `${at}.choice_count`, config, 'choice_count');
}

function hashing(
  notes: Notes,
  cluster: JsonObject,
  policy: 'RING_HASH' | 'MAGLEV',
  config: JsonObject,
  at: string,
): LbPolicy {
  const shared = obj(config, 'consistent_hashing_lb_config');
  if (shared) onlyFields(notes, shared, `${at}.consistent_hashing_lb_config`, ['use_hostname_for_hashing']);
  const everywhere = obj(obj(cluster, 'common_lb_config'), 'consistent_hashing_lb_config');
  const key = 'use_hostname_for_hashing';
  const hostnames = bool(config, key) || bool(shared, key) || bool(everywhere, key);
  const known = [key, 'consistent_hashing_lb_config'];
  if (policy === 'MAGLEV') {
    onlyFields(notes, config, at, ['table_size', ...known]);
    return { lb: 'maglev', table: { kind: 'maglev', size: num(config, 'table_size', MAGLEV_SIZE), hostnames } };
  }
  onlyFields(notes, config, at, ['minimum_ring_size', 'maximum_ring_size', 'hash_function', ...known]);
  const hash = str(config, 'hash_function');
  if (hash === 'MURMUR_HASH_2')
    notes.add('lb-policy', 'the ring is made with another hash function', `${at}.hash_function`, config);
  const minimum = num(config, 'minimum_ring_size', MINIMUM_RING);
  const maximum = num(config, 'maximum_ring_size', MAXIMUM_RING);
  return { lb: 'ring_hash', table: { kind: 'ring', minimum, maximum, hostnames } };
}

/** Reads the load balancing policy of a cluster; what the fast path cannot do becomes a reason. */
export function lbPolicy(notes: Notes, cluster: JsonObject): LbPolicy {
  for (const key of ['least_request_lb_config', 'round_robin_lb_config']) {
    const config = obj(cluster, key);
    if (config) common(notes, config, key);
  }
  const policies = list(obj(cluster, 'load_balancing_policy'), 'policies');
  const typed = policies[0] ? obj(obj(policies[0], 'typed_extension_config'), 'typed_config') : undefined;
  const at = typed ? 'load_balancing_policy' : 'lb_policy';
  const type = anyType(typed);
  const policy = typed ? (TYPED[type.split('.').pop()!] ?? type) : str(cluster, 'lb_policy') || 'ROUND_ROBIN';
  if (policy === 'RING_HASH')
    return hashing(notes, cluster, policy, typed ?? obj(cluster, 'ring_hash_lb_config') ?? {}, at);
  if (policy === 'MAGLEV') return hashing(notes, cluster, policy, typed ?? obj(cluster, 'maglev_lb_config') ?? {}, at);
  if (typed && type.split('.').pop() === 'LeastRequest') common(notes, typed, at);
  else if (typed) onlyFields(notes, typed, at, []);
  if (policy in LB) return { lb: LB[policy as keyof typeof LB] };
  notes.add('lb-policy', `${policy} is left to the proxy`, at, cluster, 'lb_policy');
  return { lb: 'random' };
}
