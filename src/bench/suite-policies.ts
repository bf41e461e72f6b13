/** What the suites `slow-path` and `rbac` measure: the policies, given to one Envoy and to Sidestep alike. */
import { FILTER_TYPE, plainBootstrap } from '../lab/plain-bootstrap.js';
import type { JsonObject } from '../policy/resources.js';

/** A listener's policies, before a server at 127.0.0.1. */
export type PolicyPoint = (address: string, port: number, server: number) => JsonObject;

const CLUSTER = 'catalog';

/** Every request gets a header that only the proxy can compute. */
export const slowPath: PolicyPoint = (address, port, server) => {
  const when = { header: { key: 'x-when', value: '%START_TIME%' } };
  const routes = [{ match: { prefix: '/' }, route: { cluster: CLUSTER }, request_headers_to_add: [when] }];
  return plainBootstrap([{ name: CLUSTER, address, port, routes }], [{ name: CLUSTER, ports: [server] }]);
};

/** How many rules the suite `rbac` has. */
export const RBAC_RULES = 100;

/** One rule of an AuthorizationPolicy as istiod would write it: who, which methods, which paths. */
function rule(i: number): JsonObject {
  const paths = i === RBAC_RULES - 1 ? ['/api/v2/items/'] : [`/team-${i}/`, `/api/v1/team-${i}/`];
  const methods = ['GET', i % 2 ? 'POST' : 'PUT'];
  const anyOf = (rules: JsonObject[]): JsonObject => ({ or_rules: { rules } });
  return {
    permissions: [
      {
        and_rules: {
          rules: [
            anyOf(methods.map((m) => ({ header: { name: ':method', string_match: { exact: m } } }))),
            anyOf(paths.map((prefix) => ({ url_path: { path: { prefix } } }))),
          ],
        },
      },
    ],
    principals: [{ direct_remote_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } }],
  };
}

/** A hundred rules that allow; only the last one (in the order of their names, which is Envoy's) allows the request. */
export const accessRules: PolicyPoint = (address, port, server) => {
  const named = Array.from({ length: RBAC_RULES }, (_, i) => [`rule-${String(i).padStart(3, '0')}`, rule(i)] as const);
  const rbac = {
    name: 'envoy.filters.http.rbac',
    typed_config: {
      '@type': `${FILTER_TYPE}.http.rbac.v3.RBAC`,
      rules: { action: 'ALLOW', policies: Object.fromEntries(named) },
    },
  };
  const routes = [{ match: { prefix: '/' }, route: { cluster: CLUSTER } }];
  const listener = { name: CLUSTER, address, port, routes, filters: [rbac] };
  return plainBootstrap([listener], [{ name: CLUSTER, ports: [server] }]);
};
