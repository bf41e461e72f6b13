/** Fields that few configurations have, added to generated listeners: each is understood by the plan, or leaves what has it to the proxy. */
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';
import { Draw } from '../wild/draw.js';
import type { ListenerConfig } from './route-config.js';

const HCM: readonly JsonObject[] = [
  { path_with_escaped_slashes_action: 'KEEP_UNCHANGED' },
  { path_with_escaped_slashes_action: 'REJECT_REQUEST' },
  { path_with_escaped_slashes_action: 'UNESCAPE_AND_REDIRECT' },
  { path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' },
  { generate_request_id: false },
  { preserve_external_request_id: true },
  { always_set_request_id_in_response: true },
  { common_http_protocol_options: { headers_with_underscores_action: 'REJECT_REQUEST' } },
  { common_http_protocol_options: { headers_with_underscores_action: 'DROP_HEADER' } },
  { common_http_protocol_options: { max_headers_count: 12 } },
  { stream_idle_timeout: '0s' },
  { server_name: 'someone' },
  { skip_xff_append: true },
  { via: 'someone' },
  { xff_num_trusted_hops: 1 },
  { use_remote_address: true },
];
const CONFIG: readonly JsonObject[] = [
  { ignore_port_in_host_matching: true },
  { internal_only_headers: ['x-user'] },
  { max_direct_response_body_size_bytes: 5000 },
  { metadata: { filter_metadata: { 'com.example': { a: 'b' } } } },
];
const HOST: readonly JsonObject[] = [
  { include_request_attempt_count: true },
  { retry_policy: { retry_on: '5xx', num_retries: 1 } },
  { require_tls: 'ALL' },
  { metadata: { filter_metadata: { 'com.example': { a: 'b' } } } },
];
const ROUTE: readonly JsonObject[] = [
  { metadata: { filter_metadata: { 'com.example': { a: 'b' } } } },
  { decorator: { operation: 'op' } },
  { stat_prefix: 'some' },
  { name: 'some-route' },
  ...['%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', 'a %PROTOCOL% b', '100%%', '%REQ(x-env)%', '%HOSTNAME%'].map(
    (value): JsonObject => ({ request_headers_to_add: [{ header: { key: 'x-added', value } }] }),
  ),
  { request_headers_to_add: [{ header: { key: 'x-added', value: '' }, keep_empty_value: true }] },
  { request_headers_to_add: [{ header: { key: 'x-added', value: '' } }] },
  { response_headers_to_add: [{ header: { key: 'x-a', value: '' }, keep_empty_value: true }] },
  { response_headers_to_add: [{ header: { key: 'x-a', value: '100%%' } }] },
];
const ACTION: readonly JsonObject[] = [
  { timeout: '20s' },
  { timeout: '0s' },
  { idle_timeout: '30s' },
  { append_x_forwarded_host: true },
  { max_stream_duration: { max_stream_duration: '0s' } },
  { priority: 'HIGH' },
  { cluster_not_found_response_code: 'NOT_FOUND' },
  { upgrade_configs: [{ upgrade_type: 'websocket' }] },
  { internal_redirect_policy: { max_internal_redirects: 1 } },
];
const MATCH: readonly JsonObject[] = [
  ...[0, 100].map((numerator): JsonObject => ({ runtime_fraction: { default_value: { numerator } } })),
  { runtime_fraction: { default_value: { numerator: 100 }, runtime_key: 'some.key' } },
  { grpc: {} },
  { tls_context: { presented: false } },
];
/** Specifiers of before StringMatcher, which Envoy still takes. */
const OLD = { exact: 'exact_match', prefix: 'prefix_match', suffix: 'suffix_match', contains: 'contains_match' };

function oldMatcher(header: JsonObject): JsonObject {
  const { string_match: matcher, ...rest } = header;
  const entries = Object.entries((matcher ?? {}) as JsonObject);
  const [kind, value] = entries[0] ?? [];
  if (entries.length !== 1 || kind === undefined || !Object.hasOwn(OLD, kind)) return header;
  return { ...rest, [OLD[kind as keyof typeof OLD]]: value ?? '' };
}

function change(config: ListenerConfig, draw: Draw): ListenerConfig {
  const some = (n: number, list: readonly JsonObject[]): JsonObject => (draw.below(n) === 0 ? draw.one(list) : {});
  const route = (json: JsonObject): JsonObject => {
    const match = json.match as JsonObject;
    const headers = (match.headers ?? []) as JsonObject[];
    return {
      ...json,
      match: {
        ...match,
        ...some(8, MATCH),
        ...(headers.length > 0 && { headers: headers.map((h) => (draw.below(6) === 0 ? oldMatcher(h) : h)) }),
      },
      ...(json.route !== undefined && { route: { ...(json.route as JsonObject), ...some(5, ACTION) } }),
      ...some(6, ROUTE),
    };
  };
  const { virtual_hosts: hosts, ...rest } = config.hcm.route_config as JsonObject & { virtual_hosts: JsonObject[] };
  const virtual_hosts = hosts.map((host) => ({
    ...host,
    routes: (host.routes as JsonObject[]).map(route),
    ...some(8, HOST),
  }));
  const route_config = { ...rest, virtual_hosts, ...some(6, CONFIG) };
  return { ...config, hcm: { ...config.hcm, ...some(3, HCM), route_config } };
}

/** Listeners as they were generated, with some rare fields in addition. */
export const withRareFields = (configs: fc.Arbitrary<ListenerConfig>): fc.Arbitrary<ListenerConfig> =>
  fc.tuple(configs, fc.nat()).map(([config, seed]) => change(config, new Draw(seed)));
