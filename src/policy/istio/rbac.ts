/**
 * One rule of an AuthorizationPolicy -> envoy.config.rbac.v3.Policy (pilot/pkg/security/authz/model in istiod), with one
 * difference: it is enforced before the request leaves for the server, so what the server's sidecar would read off its
 * own socket (port and address of the destination) is decided here from the endpoints.
 */
import { BlockList, isIP } from 'node:net';
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path, RuleBuilder } from './context.js';
import { type Identities, LOCAL_TRUST_DOMAIN } from './identities.js';
import {
  cidr,
  claimMatcher,
  headerMatcher,
  hostMatcher,
  pathPermission,
  requestPrincipal,
  stringMatcher,
} from './rbac-matchers.js';
import type { Condition, Operation, PolicyRule, Source } from './schema/authorization-policy.js';

/** What is known of the servers that the rule protects. */
export interface Servers {
  readonly ports: readonly number[];
  readonly addresses: readonly string[];
  /** the port that clients connect to */
  readonly servicePort: number;
  /** clients come straight to where the rule is enforced: no x-forwarded-for of theirs is believed */
  readonly edge?: boolean;
}

export interface RbacInput {
  readonly context: Context;
  readonly document: Document;
  readonly rule: RuleBuilder;
  readonly deny: boolean;
  readonly servers: Servers;
  readonly identities: Identities;
  /** filled with what the rule looks at that a route may change: `path`, `host`, or names of headers */
  readonly looksAt: Set<string>;
}

/** Undefined for a value that validation has refused. */
type Generator = (value: string, path: Path) => JsonObject | undefined;

interface Clause {
  readonly values: readonly string[] | undefined;
  readonly notValues: readonly string[] | undefined;
  readonly make: Generator;
  readonly path: Path;
  readonly field: string;
  readonly notField: string;
  /** values of one clause are one matcher instead of alternatives */
  readonly together?: (values: readonly string[], path: Path) => JsonObject;
}

const ANY: JsonObject = { any: true };

class RuleTranslator {
  constructor(readonly input: RbacInput) {}

  unsupported(path: Path, code: string, message: string): void {
    this.input.context.unsupported(this.input.rule, path, code, message);
  }

  #jwt(path: Path): void {
    this.unsupported(path, 'jwt', 'needs a validated JWT, which only the proxy can look into');
  }

  /** A test of the servers whose outcome is known; if they differ, the answer is the one that lets less pass. */
  #known(outcomes: readonly boolean[], negated: boolean, path: Path, what: string): JsonObject {
    const first = outcomes[0] ?? false;
    if (outcomes.every((outcome) => outcome === first)) return first ? { ...ANY } : { not_rule: { ...ANY } };
    const message = `the servers' ${what}s differ, and with them the rule's outcome: it is applied as if each were the stricter one`;
    this.unsupported(path, 'mixed-servers', message);
    return this.input.deny !== negated ? { ...ANY } : { not_rule: { ...ANY } };
  }

  port(negated: boolean): Generator {
    return (value, path) =>
      this.#known(
        this.input.servers.ports.map((port) => port === Number(value)),
        negated,
        path,
        'port',
      );
  }

  destinationIp(negated: boolean): Generator {
    return (value, path) => {
      const range = cidr(value);
      if (!range) return undefined;
      const list = new BlockList();
      const family = isIP(String(range.address_prefix)) === 6 ? 'ipv6' : 'ipv4';
      list.addSubnet(String(range.address_prefix), Number(range.prefix_len), family);
      const inside = (address: string) => list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
      return this.#known(this.input.servers.addresses.map(inside), negated, path, 'address');
    };
  }

  readonly sourceIp: Generator = (value) => {
    const range = cidr(value);
    return range && { direct_remote_ip: range };
  };

  readonly remoteIp: Generator = (value) => {
    const range = cidr(value);
    return range && (this.input.servers.edge ? { direct_remote_ip: range } : { remote_ip: range });
  };

  /** Clients with an identity that one of the values describes: Istio's matchers of certificates, asked of what is known. */
  identity(matcher: (value: string) => JsonObject): (values: readonly string[], path: Path) => JsonObject {
    return (values, path) => this.input.identities.principal(values.map(matcher), this.input.document, path);
  }

  readonly principal = this.identity((value) => {
    // a policy's `cluster.local` stands for the cluster's own trust domain, whatever its name
    const own = `${this.input.context.trustDomain}/`;
    const name = value.startsWith(`${LOCAL_TRUST_DOMAIN}/`) ? own + value.slice(LOCAL_TRUST_DOMAIN.length + 1) : value;
    return stringMatcher(name, 'spiffe://');
  });
  readonly namespace = this.identity((value) => ({
    safe_regex: { regex: `.*/ns/${value.replaceAll('*', '.*')}/.*` },
  }));
  readonly trustDomain = this.identity((value) => ({
    safe_regex: { regex: `spiffe://${value.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}/.*` },
  }));
  readonly serviceAccount = this.identity((value) => {
    const [first = '', second] = value.split('/', 2);
    const [ns, account] = second === undefined ? [this.input.document.namespace, first] : [first, second];
    return { safe_regex: { regex: `spiffe://.+/ns/${ns}/(.+/|)sa/${account}(/.+)?` } };
  });

  readonly requestPrincipal: Generator = (value, path) => {
    this.#jwt(path);
    return requestPrincipal(value);
  };

  claim(claims: readonly string[]): (values: readonly string[], path: Path) => JsonObject {
    return (values, path) => {
      this.#jwt(path);
      return {
        metadata: claimMatcher(
          claims,
          values.map((value) => stringMatcher(value)),
        ),
      };
    };
  }

  header(name: string): Generator {
    const lower = name.toLowerCase();
    this.input.looksAt.add(lower === ':path' ? 'path' : lower === ':authority' || lower === 'host' ? 'host' : lower);
    return (value) => ({ header: headerMatcher(name, value) });
  }

  readonly host: Generator = (value) => {
    this.input.looksAt.add('host');
    return { header: hostMatcher(value) };
  };

  readonly path: Generator = (value) => {
    this.input.looksAt.add('path');
    return pathPermission(value);
  };

  readonly method: Generator = (value) => ({ header: headerMatcher(':method', value) });
}

/** All values of a clause as alternatives, and none of its `not` values. */
function clause(c: Clause, or: 'or_rules' | 'or_ids', not: 'not_rule' | 'not_id', list: 'rules' | 'ids'): JsonObject[] {
  const out: JsonObject[] = [];
  const any = (values: readonly string[] | undefined, field: string): JsonObject | undefined => {
    if (!values || values.length === 0) return undefined;
    if (c.together) return { [or]: { [list]: [c.together(values, [...c.path, field])] } };
    const each = values.map((value, index) => c.make(value, [...c.path, field, index])).filter((v) => v !== undefined);
    return each.length > 0 ? { [or]: { [list]: each } } : undefined;
  };
  const yes = any(c.values, c.field);
  if (yes) out.push(yes);
  const no = any(c.notValues, c.notField);
  if (no) out.push({ [not]: no });
  return out;
}

const permissionClause = (c: Clause) => clause(c, 'or_rules', 'not_rule', 'rules');
const principalClause = (c: Clause) => clause(c, 'or_ids', 'not_id', 'ids');

/** A clause whose generators must know whether they are negated. */
function both(
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
  make: (negated: boolean) => Generator,
  path: Path,
  field: string,
  notField: string,
): JsonObject[] {
  return [
    ...permissionClause({ values, notValues: undefined, make: make(false), path, field, notField }),
    ...permissionClause({ values: undefined, notValues, make: make(true), path, field, notField }),
  ];
}

function operationPermissions(t: RuleTranslator, operation: Operation, path: Path): JsonObject[] {
  const simple = (name: 'hosts' | 'methods' | 'paths', make: Generator) => {
    const notField = `not${name[0]?.toUpperCase()}${name.slice(1)}` as 'notHosts' | 'notMethods' | 'notPaths';
    return permissionClause({
      values: operation[name],
      notValues: operation[notField],
      make,
      path,
      field: name,
      notField,
    });
  };
  return [
    ...simple('hosts', t.host),
    ...simple('methods', t.method),
    ...simple('paths', t.path),
    ...both(operation.ports, operation.notPorts, (negated) => t.port(negated), path, 'ports', 'notPorts'),
  ];
}

const nothing: Generator = () => undefined;

function sourcePrincipals(t: RuleTranslator, source: Source, path: Path): JsonObject[] {
  const identities: readonly (readonly [name: keyof Source, not: keyof Source, make: typeof t.principal])[] = [
    ['principals', 'notPrincipals', t.principal],
    ['namespaces', 'notNamespaces', t.namespace],
    ['trustDomains', 'notTrustDomains', t.trustDomain],
    ['serviceAccounts', 'notServiceAccounts', t.serviceAccount],
  ];
  const fields: readonly (readonly [name: keyof Source, not: keyof Source, make: Generator])[] = [
    ['requestPrincipals', 'notRequestPrincipals', t.requestPrincipal],
    ['remoteIpBlocks', 'notRemoteIpBlocks', t.remoteIp],
    ['ipBlocks', 'notIpBlocks', t.sourceIp],
  ];
  const base = (field: keyof Source, notField: keyof Source) => ({
    values: source[field],
    notValues: source[notField],
    path,
    field,
    notField,
  });
  return [
    ...identities.flatMap(([field, notField, together]) =>
      principalClause({ ...base(field, notField), make: nothing, together }),
    ),
    ...fields.flatMap(([field, notField, make]) => principalClause({ ...base(field, notField), make })),
  ];
}

const bracketed = (key: string) => [...key.matchAll(/\[([^\]]*)\]/g)].map((m) => m[1] ?? '');

/** A `when` condition, as permissions or principals. */
function condition(
  t: RuleTranslator,
  when: Condition,
  path: Path,
): { permissions: JsonObject[]; principals: JsonObject[] } {
  const { key, values, notValues } = when;
  const base = { values, notValues, path, field: 'values', notField: 'notValues' };
  const principals = (make: Generator) => ({ permissions: [], principals: principalClause({ ...base, make }) });
  const permissions = (list: JsonObject[]) => ({ permissions: list, principals: [] });
  const identities = (together: typeof t.principal) => ({
    permissions: [],
    principals: principalClause({ ...base, make: nothing, together }),
  });
  const claims = (names: readonly string[]) => {
    const make = t.claim(names);
    return {
      permissions: [],
      principals: principalClause({ ...base, make: nothing, together: (v) => make(v, [...path, 'key']) }),
    };
  };
  if (key === 'destination.port')
    return permissions(both(values, notValues, (n) => t.port(n), path, 'values', 'notValues'));
  if (key === 'destination.ip')
    return permissions(both(values, notValues, (n) => t.destinationIp(n), path, 'values', 'notValues'));
  if (key === 'connection.sni') {
    t.unsupported([...path, 'key'], 'sni', 'the name that a TLS client asks for is known to the proxy only');
    return permissions(
      permissionClause({ ...base, make: (value) => ({ requested_server_name: stringMatcher(value) }) }),
    );
  }
  if (key.startsWith('experimental.envoy.filters.')) {
    t.unsupported([...path, 'key'], 'metadata', 'metadata of other filters is known to the proxy only');
    const [filter = '', name = ''] = key.slice('experimental.'.length).replace(/\]$/, '').split('[', 2);
    const make: Generator = (value) => {
      const list = /^\[(.*)\]$/.exec(value)?.[1];
      const match = { string_match: stringMatcher(list ?? value) };
      return {
        metadata: {
          filter,
          path: [{ key: name }],
          value: list === undefined ? match : { list_match: { one_of: match } },
        },
      };
    };
    return permissions(permissionClause({ ...base, make }));
  }
  if (key === 'source.ip') return principals(t.sourceIp);
  if (key === 'remote.ip') return principals(t.remoteIp);
  if (key === 'source.namespace') return identities(t.namespace);
  if (key === 'source.principal') return identities(t.principal);
  if (key === 'source.trustDomain') return identities(t.trustDomain);
  if (key === 'source.serviceAccount') return identities(t.serviceAccount);
  if (key === 'request.auth.principal') return principals(t.requestPrincipal);
  if (key === 'request.auth.audiences') return claims(['aud']);
  if (key === 'request.auth.presenter') return claims(['azp']);
  if (key.startsWith('request.auth.claims')) return claims(bracketed(key));
  return principals(t.header(bracketed(key)[0] ?? ''));
}

/** A policy that no request meets: what Istio makes of a policy without rules. */
export function neverPolicy(): JsonObject {
  return { permissions: [{ not_rule: { ...ANY } }], principals: [{ not_id: { ...ANY } }] };
}

/**
 * Translates one rule.
 *
 * @param path where the rule stands in the document
 */
export function rbacPolicy(input: RbacInput, rule: PolicyRule, path: Path): JsonObject {
  const t = new RuleTranslator(input);
  const conditions = (rule.when ?? []).map((when, index) => condition(t, when, [...path, 'when', index]));
  const permissionBase = conditions.flatMap((c) => c.permissions);
  const principalBase = conditions.flatMap((c) => c.principals);
  const permissions = (rule.to?.length ? rule.to : [{}]).map((to, index) => [
    ...(to.operation ? operationPermissions(t, to.operation, [...path, 'to', index, 'operation']) : []),
    ...permissionBase,
  ]);
  const principals = (rule.from?.length ? rule.from : [{}]).map((from, index) => [
    ...(from.source ? sourcePrincipals(t, from.source, [...path, 'from', index, 'source']) : []),
    ...principalBase,
  ]);
  const out: JsonObject = {
    permissions: permissions.map((rules) => ({ and_rules: { rules: rules.length > 0 ? rules : [{ ...ANY }] } })),
    principals: principals.map((ids) => ({ and_ids: { ids: ids.length > 0 ? ids : [{ ...ANY }] } })),
  };
  return input.context.origin(out, input.document, path);
}
