/** Generated RBAC rules (envoy.config.rbac.v3.RBAC). */
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';
import { headerMatcher, PREFIXES, stringMatcher, word } from './matchers.js';

const method = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE');

function permission(port: number): fc.Arbitrary<JsonObject> {
  const leaf: fc.Arbitrary<JsonObject> = fc.oneof(
    fc.constant<JsonObject>({ any: true }),
    method.map((m): JsonObject => ({ header: { name: ':method', string_match: { exact: m } } })),
    fc.constantFrom(...PREFIXES).map((p): JsonObject => ({ url_path: { path: { prefix: p } } })),
    fc.constantFrom('/api', '/shop/cart', '/items/42').map((p): JsonObject => ({ url_path: { path: { exact: p } } })),
    stringMatcher.map((m): JsonObject => ({ url_path: { path: m.json } })),
    headerMatcher.map((m): JsonObject => ({ header: m.json })),
    word.map((w): JsonObject => ({ header: { name: ':authority', string_match: { contains: w, ignore_case: true } } })),
    fc
      .constantFrom('shop.test', 'api.shop.test')
      .map((h): JsonObject => ({ header: { name: ':authority', string_match: { exact: h, ignore_case: true } } })),
    fc.constantFrom(port, port + 1).map((p): JsonObject => ({ destination_port: p })),
  );
  return fc.oneof(
    { weight: 5, arbitrary: leaf },
    leaf.map((not_rule): JsonObject => ({ not_rule })),
    fc.array(leaf, { minLength: 1, maxLength: 3 }).map((rules): JsonObject => ({ and_rules: { rules } })),
    fc.array(leaf, { minLength: 1, maxLength: 3 }).map((rules): JsonObject => ({ or_rules: { rules } })),
  );
}

const cidr = fc.constantFrom(
  { address_prefix: '127.0.0.0', prefix_len: 8 },
  { address_prefix: '127.0.0.1', prefix_len: 32 },
  { address_prefix: '10.0.0.0', prefix_len: 8 },
  { address_prefix: '0.0.0.0', prefix_len: 0 },
);

const principal: fc.Arbitrary<JsonObject> = (() => {
  const leaf: fc.Arbitrary<JsonObject> = fc.oneof(
    { weight: 3, arbitrary: fc.constant<JsonObject>({ any: true }) },
    cidr.map((c): JsonObject => ({ direct_remote_ip: c })),
    cidr.map((c): JsonObject => ({ remote_ip: c })),
    headerMatcher.map((m): JsonObject => ({ header: m.json })),
    fc.constantFrom(...PREFIXES).map((p): JsonObject => ({ url_path: { path: { prefix: p } } })),
  );
  return fc.oneof(
    { weight: 5, arbitrary: leaf },
    leaf.map((not_id): JsonObject => ({ not_id })),
    fc.array(leaf, { minLength: 1, maxLength: 2 }).map((ids): JsonObject => ({ and_ids: { ids } })),
    fc.array(leaf, { minLength: 1, maxLength: 2 }).map((ids): JsonObject => ({ or_ids: { ids } })),
  );
})();

/** Rules for a listener at `port`. ALLOW and DENY alike let a good part of the requests pass. */
export function rbacRules(port: number): fc.Arbitrary<JsonObject> {
  const policy = fc
    .tuple(
      fc.array(permission(port), { minLength: 1, maxLength: 2 }),
      fc.array(principal, { minLength: 1, maxLength: 2 }),
    )
    .map(([permissions, principals]): JsonObject => ({ permissions, principals }));
  return fc
    .record({
      action: fc.constantFrom('ALLOW', 'DENY'),
      policies: fc.array(policy, { minLength: 1, maxLength: 3 }),
      // what ALLOW names is little of all requests: mostly add a policy that lets almost everything pass
      except: fc.option(permission(port), { freq: 3, nil: undefined }),
    })
    .map(({ action, policies, except }) => ({
      action,
      policies: Object.fromEntries([
        ...policies.map((p, i) => [`policy-${i}`, p] as const),
        ...(action === 'ALLOW' && except
          ? [['almost-all', { permissions: [{ not_rule: except }], principals: [{ any: true }] }] as const]
          : []),
      ]),
    }));
}
