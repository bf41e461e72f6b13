/**
 * Rate limit descriptors: which requests have which, as conditions. The actions of a RateLimit make one entry each; a
 * configured descriptor is met by a request that has exactly its entries, in order.
 */
import { isIP, isIPv4 } from 'node:net';
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, NEVER, not, test } from './conditions.js';
import { headerCondition, MANAGED } from './header-match.js';
import type { Condition } from './ir.js';
import type { LimitContext, LimitPlace } from './local-limits.js';
import { bool, has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';

/** A descriptor with a bucket, and the requests that have it. */
export interface MetDescriptor {
  readonly descriptor: JsonObject;
  /** its field path, and its index among the descriptors of the configuration */
  readonly at: string;
  readonly index: number;
  /**
   * both must hold. They differ where a header is repeated, which the kernel leaves alone: values of request_headers are
   * the first line's, header matchers see all lines joined by ','
   */
  readonly first: Condition;
  readonly joined: Condition;
}

interface Entry {
  readonly key: string;
  readonly value: string;
}

const NAMES: Readonly<Record<string, string>> = { ':method': 'method', ':path': 'target', ':authority': 'host' };

/** The RateLimits that apply to the requests of a configuration; undefined, with a reason, if they differ by route. */
function limitsOf(
  notes: Notes,
  config: JsonObject,
  path: string,
  place: LimitPlace,
  context: LimitContext,
): JsonObject[] | undefined {
  if (has(config, 'rate_limits')) return list(config, 'rate_limits');
  const { route, virtualHost } = place;
  if (!route || !virtualHost) {
    if (!context.routeLimits) return [];
    notes.add('rate-limit', 'descriptors of many routes', join(path, 'descriptors'), config, 'descriptors');
    return undefined;
  }
  const action = obj(route, 'route');
  if (!action) return [];
  const stage = num(config, 'stage');
  const own = list(action, 'rate_limits');
  const shared = list(virtualHost, 'rate_limits');
  const option = bool(action, 'include_vh_rate_limits') ? 'INCLUDE' : str(config, 'vh_rate_limits') || 'OVERRIDE';
  const both = option === 'INCLUDE' || (option === 'OVERRIDE' && own.length === 0);
  return [...own, ...(both ? shared : [])].filter((limit) => num(limit, 'stage') === stage);
}

/** What requests must be like for an action to make this entry; undefined, with a reason: that is for the proxy to say. */
function entryCondition(
  notes: Notes,
  action: JsonObject,
  path: string,
  { key, value }: Entry,
  place: LimitPlace,
  context: LimitContext,
): Condition | undefined {
  const constant = (wantKey: string, wantValue: string) => (key === wantKey && value === wantValue ? ALWAYS : NEVER);
  const unknown = (what: string): undefined => {
    notes.add('rate-limit', `the proxy makes descriptors of ${what}`, path, action);
    return undefined;
  };
  const literal = (o: JsonObject): boolean => {
    if (!str(o, 'descriptor_value').includes('%')) return true;
    unknown('a value that is computed');
    return false;
  };
  const generic = obj(action, 'generic_key');
  if (generic) {
    onlyFields(notes, generic, join(path, 'generic_key'), ['descriptor_value', 'descriptor_key']);
    return literal(generic)
      ? constant(str(generic, 'descriptor_key') || 'generic_key', str(generic, 'descriptor_value'))
      : undefined;
  }
  const header = obj(action, 'request_headers');
  if (header) {
    onlyFields(notes, header, join(path, 'request_headers'), ['header_name', 'descriptor_key', 'skip_if_absent']);
    const name = str(header, 'header_name').toLowerCase();
    if (bool(header, 'skip_if_absent')) return unknown('headers that may be absent');
    if (MANAGED.has(name) || (name.startsWith(':') && !NAMES[name])) return unknown(name);
    if (key !== str(header, 'descriptor_key')) return NEVER;
    const kind = name === 'host' ? 'host' : NAMES[name];
    const field = kind ? { kind: kind as 'method' | 'target' | 'host' } : ({ kind: 'header', name } as const);
    return test(field, { kind: 'exact', value, ignoreCase: false });
  }
  const match = obj(action, 'header_value_match');
  if (match) {
    const at = join(path, 'header_value_match');
    onlyFields(notes, match, at, ['descriptor_value', 'descriptor_key', 'expect_match', 'headers']);
    if (!literal(match)) return undefined;
    const met = list(match, 'headers').map((h, i) => headerCondition(notes, h, `${join(at, 'headers')}[${i}]`));
    if (met.includes(undefined)) return undefined;
    const wanted = constant(str(match, 'descriptor_key') || 'header_match', str(match, 'descriptor_value'));
    const condition = all(met as Condition[]);
    return all([wanted, bool(match, 'expect_match', true) ? condition : not(condition)]);
  }
  if (obj(action, 'remote_address')) {
    if (key !== 'remote_address' || isIP(value) === 0) return NEVER;
    const prefixLength = isIPv4(value) ? 32 : 128;
    return test({ kind: 'source_ip' }, { kind: 'cidr', address: value, prefixLength });
  }
  if (obj(action, 'source_cluster'))
    return context.sourceCluster === ''
      ? unknown('an unnamed node')
      : constant('source_cluster', context.sourceCluster);
  if (obj(action, 'destination_cluster')) {
    const cluster = str(obj(place.route, 'route'), 'cluster');
    return cluster === '' ? unknown('clusters that are chosen') : constant('destination_cluster', cluster);
  }
  return unknown(Object.keys(action)[0] ?? 'nothing');
}

/** Whether some condition of `of` looks at the client's address, which x-forwarded-for may change for the proxy. */
export function looksAtAddress(of: Condition): boolean {
  if (of.op === 'test') return of.predicate.field.kind === 'source_ip';
  if (of.op === 'not') return looksAtAddress(of.of);
  return of.op !== 'const' && of.of.some(looksAtAddress);
}

/**
 * The descriptors of a LocalRateLimit that requests may have, in the order in which Envoy makes them. Adds reasons for
 * what the proxy alone can say.
 */
export function descriptorConditions(
  notes: Notes,
  config: JsonObject,
  path: string,
  place: LimitPlace,
  context: LimitContext,
): MetDescriptor[] {
  const descriptors = list(config, 'descriptors');
  if (descriptors.length === 0) return [];
  const limits = limitsOf(notes, config, path, place, context) ?? [];
  const found: MetDescriptor[] = [];
  const entriesOf = descriptors.map((descriptor, index) => {
    const at = `${join(path, 'descriptors')}[${index}]`;
    onlyFields(notes, descriptor, at, ['entries', 'token_bucket']);
    const entries = list(descriptor, 'entries').map((e): Entry => ({ key: str(e, 'key'), value: str(e, 'value') }));
    if (entries.some(({ value }) => value === ''))
      notes.add('rate-limit', 'a bucket for each value', join(at, 'entries'), descriptor, 'entries');
    return entries;
  });
  for (const [l, limit] of limits.entries()) {
    const where = `rate_limits[${l}]`;
    // what a stage is for, the caller has seen to; a disable_key is a runtime key that nobody sets, or the limit is off
    onlyFields(notes, limit, where, ['stage', 'actions']);
    const actions = list(limit, 'actions');
    for (const [index, descriptor] of descriptors.entries()) {
      const entries = entriesOf[index]!;
      if (entries.length !== actions.length) {
        // what an action is, counts all the same: it could leave its entry out
        for (const [a, action] of actions.entries())
          entryCondition(notes, action, `${where}.actions[${a}]`, { key: '', value: '' }, place, context);
        continue;
      }
      const parts = actions.map((action, a) =>
        entryCondition(notes, action, `${where}.actions[${a}]`, entries[a]!, place, context),
      );
      if (parts.includes(undefined)) continue;
      const of = (matches: boolean): Condition =>
        all(parts.filter((_, a) => has(actions[a], 'header_value_match') === matches) as Condition[]);
      const [first, joined] = [of(false), of(true)];
      if (all([first, joined]) === NEVER) continue;
      found.push({ descriptor, at: `${join(path, 'descriptors')}[${index}]`, index, first, joined });
    }
  }
  return found;
}
