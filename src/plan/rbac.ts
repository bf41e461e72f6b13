/** The RBAC filter (envoy.config.rbac.v3.RBAC) -> checks. On plain text, a peer has no certificate and no SNI. */
import net from 'node:net';
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, NEVER, not, test } from './conditions.js';
import { headerCondition } from './header-match.js';
import type { Condition, RbacCheck } from './ir.js';
import { JWT_METADATA, TOO_MANY_QUESTIONS } from './jwt.js';
import { inCidr, matchesValue } from './matchers.js';
import { bool, has, isObject, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { matcherAllows } from './rbac-matcher.js';
import { type PolicyPart, placeOf, rememberPolicies } from './rbac-policies.js';
import { stringMatcher } from './string-match.js';

/** What RBAC rules may refer to beside the request. */
export interface RbacContext {
  readonly address: string;
  readonly port: number;
  /** tests of the metadata that the jwt_authn filter has left when the rules are evaluated; undefined: not known */
  readonly claims?:
    | ((notes: Notes, path: readonly string[], value: JsonObject, at: string) => Condition | undefined)
    | undefined;
  /** something writes which policy has stopped a request */
  readonly details?: boolean;
}

/** A check, and what %RESPONSE_CODE_DETAILS% is of what it stops where that is written; '': only the proxy can say. */
export interface NamedCheck extends RbacCheck {
  readonly details?: string;
}

export interface RbacOutcome {
  /** none: nothing is checked (no rules, or LOG) */
  readonly checks: readonly NamedCheck[];
  /** clean, or why the filter is left to the proxy */
  readonly notes: Notes;
  /** a rule looks at the remote address, which x-forwarded-for may change */
  readonly remoteIp: boolean;
  /** the policy objects of the resources */
  readonly policies: readonly JsonObject[];
}

class Rules {
  remoteIp = false;
  constructor(
    readonly notes: Notes,
    readonly context: RbacContext,
  ) {}

  /** A Permission; undefined, with a reason, if it cannot be computed. */
  permission(p: JsonObject, path: string): Condition | undefined {
    const at = (key: string) => join(path, key);
    if (has(p, 'any')) return constant(bool(p, 'any'));
    if (isObject(p.and_rules))
      return this.several(all, list(p.and_rules, 'rules'), at('and_rules.rules'), 'permission');
    if (isObject(p.or_rules)) return this.several(any, list(p.or_rules, 'rules'), at('or_rules.rules'), 'permission');
    if (isObject(p.not_rule)) return negate(this.permission(p.not_rule, at('not_rule')));
    if (isObject(p.header)) return headerCondition(this.notes, p.header, at('header'));
    if (isObject(p.url_path)) return this.urlPath(p.url_path, at('url_path'));
    if (has(p, 'destination_port')) return constant(num(p, 'destination_port') === this.context.port);
    if (isObject(p.destination_port_range)) {
      const range = p.destination_port_range;
      return constant(this.context.port >= num(range, 'start') && this.context.port < num(range, 'end'));
    }
    if (isObject(p.destination_ip)) {
      const { address } = this.context;
      if (address === '0.0.0.0' || address === '::') {
        this.notes.add('rbac-unknown-listener-address', 'the listener has a wildcard address', at('destination_ip'), p);
        return undefined;
      }
      const range = cidr(p.destination_ip);
      return range
        ? constant(inCidr(address, range.address, range.prefixLength))
        : this.unknown('destination_ip', p, path);
    }
    if (isObject(p.metadata)) return this.metadata(p.metadata, at('metadata'));
    if (isObject(p.requested_server_name)) {
      const m = stringMatcher(this.notes, p.requested_server_name, at('requested_server_name'));
      return m && constant(matchesValue(m, ''));
    }
    return this.unknown(Object.keys(p)[0] ?? 'an empty permission', p, path);
  }

  /** A Principal; undefined, with a reason, if it cannot be computed. */
  principal(p: JsonObject, path: string): Condition | undefined {
    const at = (key: string) => join(path, key);
    if (has(p, 'any')) return constant(bool(p, 'any'));
    if (isObject(p.and_ids)) return this.several(all, list(p.and_ids, 'ids'), at('and_ids.ids'), 'principal');
    if (isObject(p.or_ids)) {
      const several = addresses(list(p.or_ids, 'ids'));
      return several ?? this.several(any, list(p.or_ids, 'ids'), at('or_ids.ids'), 'principal');
    }
    if (isObject(p.not_id)) return negate(this.principal(p.not_id, at('not_id')));
    if (isObject(p.header)) return headerCondition(this.notes, p.header, at('header'));
    if (isObject(p.url_path)) return this.urlPath(p.url_path, at('url_path'));
    if (isObject(p.metadata)) return this.metadata(p.metadata, at('metadata'));
    // no peer is authenticated on a plain-text connection
    if (isObject(p.authenticated)) return NEVER;
    for (const key of ['source_ip', 'direct_remote_ip', 'remote_ip']) {
      const o = p[key];
      if (!isObject(o)) continue;
      if (key === 'remote_ip') this.remoteIp = true;
      const range = cidr(o);
      return range ? test({ kind: 'source_ip' }, { kind: 'cidr', ...range }) : this.unknown(key, p, path);
    }
    return this.unknown(Object.keys(p)[0] ?? 'an empty principal', p, path);
  }

  private several(
    combine: (of: readonly Condition[]) => Condition,
    parts: readonly JsonObject[],
    path: string,
    kind: 'permission' | 'principal',
  ): Condition | undefined {
    const conditions = parts.map((p, i) => this[kind](p, `${path}[${i}]`));
    return conditions.includes(undefined) ? undefined : combine(conditions as Condition[]);
  }

  private urlPath(o: JsonObject, path: string): Condition | undefined {
    const inner = obj(o, 'path');
    const m = inner && stringMatcher(this.notes, inner, join(path, 'path'));
    return m && test({ kind: 'path' }, m);
  }

  /** A MetadataMatcher: of what the jwt_authn filter writes, if that is known. */
  private metadata(o: JsonObject, path: string): Condition | undefined {
    const { claims } = this.context;
    if (!claims || str(o, 'filter') !== JWT_METADATA)
      return this.unknown(`metadata of ${str(o, 'filter') || 'a filter'}`, o, path);
    onlyFields(this.notes, o, path, ['filter', 'path', 'value', 'invert']);
    const before = this.notes.reasons.length;
    const keys = list(o, 'path').map((segment) => str(segment, 'key'));
    const condition = claims(this.notes, keys, obj(o, 'value') ?? {}, join(path, 'value'));
    if (!condition) {
      if (this.notes.reasons.length === before) this.notes.add('budget', TOO_MANY_QUESTIONS, path, o);
      return undefined;
    }
    return bool(o, 'invert') ? not(condition) : condition;
  }

  private unknown(what: string, o: JsonObject, path: string): undefined {
    this.notes.add('rbac-rule', `${what} is evaluated by the proxy`, path, o);
    return undefined;
  }
}

function constant(value: boolean): Condition {
  return value ? ALWAYS : NEVER;
}

function negate(c: Condition | undefined): Condition | undefined {
  return c && not(c);
}

/**
 * Alternatives that are all single addresses of the connection, as one predicate: a list of workloads may be longer than
 * a condition may have terms.
 */
function addresses(ids: readonly JsonObject[]): Condition | undefined {
  if (ids.length < 2) return undefined;
  const found: string[] = [];
  for (const id of ids) {
    const range = Object.keys(id).length === 1 && isObject(id.direct_remote_ip) ? cidr(id.direct_remote_ip) : undefined;
    if (!range || range.prefixLength !== (net.isIPv4(range.address) ? 32 : 128)) return undefined;
    found.push(range.address);
  }
  return test({ kind: 'source_ip' }, { kind: 'addresses', addresses: [...new Set(found)].sort() });
}

function cidr(o: JsonObject): { address: string; prefixLength: number } | undefined {
  const address = str(o, 'address_prefix');
  const family = net.isIP(address);
  const prefixLength = num(o, 'prefix_len');
  return family === 0 || prefixLength > (family === 4 ? 32 : 128) ? undefined : { address, prefixLength };
}

/**
 * Reads an RBAC filter configuration (type RBAC of the filter extension).
 * @param path field path of `config`, for reasons
 */
export function rbacOutcome(provenanceOf: Notes, config: JsonObject, context: RbacContext, path: string): RbacOutcome {
  const notes = new Notes(provenanceOf.provenance);
  onlyFields(notes, config, path, [
    'rules',
    'rules_stat_prefix',
    'matcher',
    'track_per_rule_stats',
    // shadow rules only count
    'shadow_rules',
    'shadow_rules_stat_prefix',
    'shadow_matcher',
  ]);
  const none = { checks: [], notes, remoteIp: false, policies: [] };
  const matcher = obj(config, 'matcher');
  if (matcher) {
    const condition = matcherAllows(notes, matcher, join(path, 'matcher'));
    const check = condition && { action: 'allow' as const, condition, ...(context.details ? { details: '' } : {}) };
    return { ...none, checks: notes.clean && check ? [check] : [], policies: [matcher] };
  }
  const rules = obj(config, 'rules');
  if (!rules) return none;
  const at = join(path, 'rules');
  onlyFields(notes, rules, at, ['action', 'policies']);
  const action = str(rules, 'action') || 'ALLOW';
  if (action === 'LOG') return none;
  if (action !== 'ALLOW' && action !== 'DENY') notes.add('rbac-rule', `action ${action}`, join(at, 'action'), rules);

  const reader = new Rules(notes, context);
  const objects: JsonObject[] = [];
  const parts: PolicyPart[] = [];
  // Envoy keeps policies in a sorted map; any that matches is enough, so the order does not matter
  for (const [name, policy] of Object.entries(obj(rules, 'policies') ?? {})) {
    if (!isObject(policy)) continue;
    objects.push(policy);
    const where = `${at}.policies["${name}"]`;
    onlyFields(notes, policy, where, ['permissions', 'principals']);
    const permissions = list(policy, 'permissions').map((p, i) => reader.permission(p, `${where}.permissions[${i}]`));
    const principals = list(policy, 'principals').map((p, i) => reader.principal(p, `${where}.principals[${i}]`));
    const known = (c: Condition | undefined): c is Condition => c !== undefined;
    const condition = all([any(permissions.filter(known)), any(principals.filter(known))]);
    parts.push({ name, condition, ...placeOf(notes, policy) });
  }
  const checks = action === 'DENY' && context.details ? denials(parts) : [whole(action, parts, context.details)];
  return { checks: notes.clean ? checks : [], notes, remoteIp: reader.remoteIp, policies: objects };
}

/** More policies than these are one check, whose denials the proxy writes down. */
const MAX_DENIALS = 8;

/** All policies as one check. */
function whole(action: string, parts: readonly PolicyPart[], details = false): NamedCheck {
  const condition = any(parts.map((part) => part.condition));
  const check: NamedCheck =
    action === 'DENY'
      ? { action: 'deny', condition, ...(details ? { details: '' } : {}) }
      : { action: 'allow', condition, ...(details ? { details: deniedBy('none') } : {}) };
  rememberPolicies(check, parts);
  return check;
}

/** A check for each policy, in Envoy's order: the first that matches has its name written down. */
function denials(parts: readonly PolicyPart[]): NamedCheck[] {
  if (parts.length > MAX_DENIALS) return [whole('DENY', parts, true)];
  const sorted = [...parts].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  return sorted.map((part) => {
    const check: NamedCheck = { action: 'deny', condition: part.condition, details: deniedBy(part.name) };
    rememberPolicies(check, [part]);
    return check;
  });
}

/** As RoleBasedAccessControlFilter::responseDetail. */
const deniedBy = (policy: string): string =>
  `rbac_access_denied_matched_policy[${policy.replace(/[ \t\n\v\f\r]/g, '_')}]`;
