/** What the tables of verdicts are made of. */
import type { JsonObject } from '../../../src/policy/resources.js';
import { type ListenerOptions, TYPE, to } from '../resources.js';

export const LIMIT = 'x/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';
export const BUCKET: JsonObject = { max_tokens: 1, fill_interval: '1s' };
export const limited = (more: JsonObject): JsonObject =>
  to('a', '/', {
    typed_per_filter_config: {
      f: {
        '@type': LIMIT,
        token_bucket: BUCKET,
        filter_enabled: { default_value: { numerator: 100 } },
        filter_enforced: { default_value: { numerator: 100 } },
        ...more,
      },
    },
  });

export interface Case {
  readonly name: string;
  readonly route?: JsonObject;
  readonly vhost?: JsonObject;
  readonly cluster?: JsonObject;
  readonly clusters?: JsonObject[];
  readonly options?: ListenerOptions;
  readonly bootstrap?: JsonObject;
  readonly expect: string;
}

export const any = { any: true };
export const rbac = (config: JsonObject): ListenerOptions => ({
  filters: [{ name: 'rbac', typed_config: { '@type': TYPE.rbac, ...config } }],
});
export const policies = (permission: JsonObject, principal: JsonObject = any): JsonObject => ({
  rules: { policies: { p: { permissions: [permission], principals: [principal] } } },
});
export const filter = (type: string, more: JsonObject = {}): ListenerOptions => ({
  filters: [{ name: 'f', typed_config: { '@type': type }, ...more }],
});
export const endpoints = (more: JsonObject, each: JsonObject[] = [{}, {}]): JsonObject => ({
  load_assignment: {
    cluster_name: 'a',
    endpoints: [
      {
        lb_endpoints: each.map((e, i) => ({
          endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: i + 1 } } },
          ...e,
        })),
        ...more,
      },
    ],
  },
});
export const protocol = (options: JsonObject): JsonObject => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': { '@type': TYPE.protocolOptions, ...options },
  },
});

export const PREVIOUS_PRIORITIES = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
    update_frequency: 2,
  },
};
