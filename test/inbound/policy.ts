/** The policy of the inbound tests: every kind of decision, and rules that only the proxy can carry out. */
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import type { JsonObject } from '../../src/policy/resources.js';

export interface InboundPolicy {
  readonly address: string;
  readonly port: number;
  /** address and port of the server */
  readonly server: string;
  readonly serverPort: number;
  /** clients of this address are refused below /private */
  readonly banned: string;
  readonly direction?: 'INBOUND';
  /** paths below /swap are answered with 403 */
  readonly closed?: boolean;
}

const LIMIT = 'envoy.filters.http.local_ratelimit';
/** Requests that get below /limited, in the whole test. */
export const INBOUND_TOKENS = 40;
const ALL: JsonObject = { default_value: { numerator: 100 } };
const limit = (max_tokens: number): JsonObject => ({
  '@type': `${FILTER_TYPE}.http.local_ratelimit.v3.LocalRateLimit`,
  stat_prefix: 'in',
  token_bucket: { max_tokens, fill_interval: '3000s' },
  filter_enabled: ALL,
  filter_enforced: ALL,
});

const everybody = [{ any: true }];
const path = (prefix: string): JsonObject => ({ url_path: { path: { prefix } } });

function rules(p: InboundPolicy): JsonObject {
  const length = p.banned.includes(':') ? 128 : 32;
  const deny: JsonObject = {
    banned: {
      permissions: [path('/private')],
      principals: [{ direct_remote_ip: { address_prefix: p.banned, prefix_len: length } }],
    },
    // the same, as a header may not decide: x-forwarded-for is not believed
    remote: {
      permissions: [path('/remote')],
      principals: [{ remote_ip: { address_prefix: p.banned, prefix_len: length } }],
    },
    token: {
      permissions: [
        {
          and_rules: {
            rules: [path('/token'), { not_rule: { header: { name: 'x-token', string_match: { exact: 'good' } } } }],
          },
        },
      ],
      principals: everybody,
    },
    port: {
      permissions: [{ and_rules: { rules: [path('/port'), { destination_port: p.port }] } }],
      principals: everybody,
    },
  };
  if (p.closed) deny.closed = { permissions: [path('/swap')], principals: everybody };
  return { action: 'DENY', policies: deny };
}

/** A bootstrap with one listener before one server. */
export function inboundPolicy(p: InboundPolicy): JsonObject {
  const proxied = {
    response_headers_to_add: [
      { header: { key: 'x-proxied', value: 'yes' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ],
  };
  const route = { cluster: 'server', timeout: '30s' };
  const routes = [
    {
      match: { path: '/direct' },
      direct_response: { status: 418, body: { inline_string: 'a teapot’s answer' } },
    },
    { match: { prefix: '/moved' }, redirect: { path_redirect: '/echo' } },
    { match: { prefix: '/private/proxied' }, route: { ...route, prefix_rewrite: '/echo' }, ...proxied },
    {
      match: { prefix: '/limited' },
      route: { ...route, prefix_rewrite: '/echo' },
      typed_per_filter_config: { [LIMIT]: limit(INBOUND_TOKENS) },
    },
    { match: { prefix: '/proxied' }, route: { ...route, prefix_rewrite: '/echo' }, ...proxied },
    {
      match: { prefix: '/' },
      route,
      request_headers_to_add: [
        { header: { key: 'x-gen', value: 'inbound' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    },
  ];
  const filters = [
    { name: 'envoy.filters.http.rbac', typed_config: { '@type': `${FILTER_TYPE}.http.rbac.v3.RBAC`, rules: rules(p) } },
    {
      name: LIMIT,
      typed_config: { '@type': `${FILTER_TYPE}.http.local_ratelimit.v3.LocalRateLimit`, stat_prefix: 'in' },
    },
  ];
  const more = p.direction ? { traffic_direction: p.direction } : {};
  return plainBootstrap(
    [{ name: 'inbound', address: p.address, port: p.port, routes, filters, more }],
    [{ name: 'server', address: p.server, ports: [p.serverPort] }],
  );
}
