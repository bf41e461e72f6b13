/** envoy.extensions.filters.network.http_connection_manager.v3: what its own fields mean for the kernel. */

import type { JsonObject } from '../policy/resources.js';
import type { Edge } from './actions.js';
import { all, any, headerPresent, not, test } from './conditions.js';
import type { Condition } from './ir.js';
import { anyType, bool, durationMs, has, join, type Notes, num, obj, onlyFields, str } from './notes.js';

/** Type of the connection manager's configuration. */
export const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';

/** Heads and header lines that the fast path accepts; a proxy with tighter limits would refuse some of them. */
const MAX_HEAD_KB = 8;

const MAX_HEADERS = 64;

const HCM_FIELDS = [
  'codec_type',
  'stat_prefix',
  'rds',
  'route_config',
  'http_filters',
  'normalize_path',
  'merge_slashes',
  'path_with_escaped_slashes_action',
  'generate_request_id',
  'preserve_external_request_id',
  'request_id_extension',
  'use_remote_address',
  'xff_num_trusted_hops',
  'skip_xff_append',
  'server_name',
  'server_header_transformation',
  'forward_client_cert_details',
  'set_current_client_cert_details',
  'proxy_100_continue',
  'stream_idle_timeout',
  'stream_flush_timeout',
  'request_timeout',
  'request_headers_timeout',
  'drain_timeout',
  'delayed_close_timeout',
  'max_request_headers_kb',
  'common_http_protocol_options',
  'http_protocol_options',
  'http2_protocol_options',
  'access_log',
  'access_log_options',
  'tracing',
  'upgrade_configs',
  'strip_any_host_port',
  'strip_matching_host_port',
  'strip_trailing_host_dot',
  'stream_error_on_invalid_http_message',
  'local_reply_config',
  'add_proxy_protocol_connection_state',
  'add_user_agent',
];

/** Which fields of a connection manager, at `path`, leave its listener to the proxy. `http2`: the data plane speaks it. */
export function hcmNotes(notes: Notes, hcm: JsonObject, path: string, http2: boolean): void {
  const at = (key: string) => join(path, key);
  onlyFields(notes, hcm, path, [...HCM_FIELDS, 'scoped_routes']);
  const codec = str(hcm, 'codec_type') || 'AUTO';
  const spoken = codec === 'AUTO' || codec === 'HTTP1' || (http2 && codec === 'HTTP2');
  if (!spoken) notes.add('codec', `codec ${codec}`, at('codec_type'), hcm, 'codec_type');
  if (bool(hcm, 'strip_trailing_host_dot'))
    notes.add('host-normalization', 'a dot at the end of the host is stripped', at('strip_trailing_host_dot'), hcm);
  const requestId = obj(obj(hcm, 'request_id_extension'), 'typed_config');
  if (requestId && !anyType(requestId).endsWith('.UuidRequestIdConfig')) {
    notes.add(
      'unsupported-field',
      'another kind of request id',
      at('request_id_extension'),
      hcm,
      'request_id_extension',
    );
  }
  if ((durationMs(hcm, 'request_timeout') ?? 0) > 0) {
    notes.add('stream-limits', 'request_timeout', at('request_timeout'), hcm, 'request_timeout');
  }
  if (has(hcm, 'max_request_headers_kb') && num(hcm, 'max_request_headers_kb') < MAX_HEAD_KB) {
    notes.add(
      'stream-limits',
      'heads shorter than the fast path’s limit are refused',
      at('max_request_headers_kb'),
      hcm,
    );
  }
  const common = obj(hcm, 'common_http_protocol_options');
  if (common) {
    const key = at('common_http_protocol_options');
    onlyFields(notes, common, key, ['idle_timeout', 'max_headers_count', 'headers_with_underscores_action']);
    if (has(common, 'max_headers_count') && num(common, 'max_headers_count') < MAX_HEADERS) {
      notes.add(
        'stream-limits',
        'max_headers_count is below the fast path’s limit',
        join(key, 'max_headers_count'),
        common,
      );
    }
    const underscores = str(common, 'headers_with_underscores_action');
    if (underscores !== '' && underscores !== 'ALLOW') {
      notes.add(
        'unsupported-field',
        `headers with underscores: ${underscores}`,
        join(key, 'headers_with_underscores_action'),
        common,
      );
    }
  }
  const http1 = obj(hcm, 'http_protocol_options');
  if (http1) {
    onlyFields(notes, http1, at('http_protocol_options'), [
      'accept_http_10',
      'default_host_for_http_10',
      'allow_absolute_url',
      'allow_chunked_length',
      'override_stream_error_on_invalid_http_message',
      'header_key_format',
    ]);
  }
}

/**
 * What use_remote_address does (ConnectionManagerUtility::mutateRequestHeaders): the kernel appends the client's address
 * and names it. What a client says about itself is dropped or overwritten by the proxy, and where the client is this host
 * the proxy appends an address of its own choice.
 */
export function edgeOf(hcm: JsonObject, secure: boolean): Edge | undefined {
  if (!bool(hcm, 'use_remote_address')) return undefined;
  const append = !bool(hcm, 'skip_xff_append');
  const direct = num(hcm, 'xff_num_trusted_hops') === 0;
  const value = secure ? 'https' : 'http';
  const own = test({ kind: 'header', name: 'x-forwarded-proto' }, { kind: 'exact', value, ignoreCase: false });
  const guards: Condition[] = [];
  if (append) guards.push(test({ kind: 'source_ip' }, { kind: 'addresses', addresses: ['127.0.0.1', '::1'] }));
  if (direct) guards.push(all([headerPresent('x-forwarded-proto'), not(own)]));
  else guards.push(headerPresent('x-forwarded-for'));
  if (bool(hcm, 'generate_request_id', true) && !bool(hcm, 'preserve_external_request_id'))
    guards.push(headerPresent('x-request-id'));
  return { append, direct, guard: any(guards) };
}
