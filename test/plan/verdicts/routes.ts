/** Matches and actions: what the kernel takes, or the code of the reason. */
import { answer, to } from '../resources.js';
import { type Case, endpoints, PREVIOUS_PRIORITIES } from './case.js';

export const ROUTES: readonly Case[] = [
  // matches
  {
    name: 'a runtime fraction',
    route: answer('', { prefix: '/', runtime_fraction: { default_value: { numerator: 50 } } }),
    expect: 'runtime-fraction',
  },
  {
    name: 'all of them',
    route: answer('', { prefix: '/', runtime_fraction: { default_value: { numerator: 100 } } }),
    expect: 'kernel',
  },
  {
    name: 'all of them, with a key that a runtime layer may change',
    route: answer('', { prefix: '/', runtime_fraction: { runtime_key: 'k', default_value: { numerator: 100 } } }),
    bootstrap: { layered_runtime: { layers: [{ name: 'static', static_layer: { k: 5 } }] } },
    expect: 'runtime-fraction',
  },
  {
    name: 'all of them, with a key that no runtime layer speaks of',
    route: answer('', { prefix: '/', runtime_fraction: { runtime_key: 'k', default_value: { numerator: 100 } } }),
    bootstrap: { layered_runtime: { layers: [{ name: 'static', static_layer: { other: 5 } }] } },
    expect: 'kernel',
  },
  {
    name: 'metadata of another filter',
    route: answer('', { prefix: '/', dynamic_metadata: [{ filter: 'x' }] }),
    expect: 'metadata',
  },
  { name: 'a byte of no character', route: answer('', { safe_regex: { regex: '/\\C+' } }), expect: 'regex' },
  { name: 'a look-ahead', route: answer('', { safe_regex: { regex: '/(?=a)' } }), expect: 'regex' },
  {
    name: 'the scheme',
    route: answer('', { prefix: '/', headers: [{ name: ':scheme', present_match: true }] }),
    expect: 'match-header',
  },
  {
    name: 'x-envoy-*',
    route: answer('', { prefix: '/', headers: [{ name: 'x-envoy-internal', present_match: true }] }),
    expect: 'match-header',
  },
  // actions
  { name: 'mirroring', route: to('a', '/', {}, { request_mirror_policies: [{ cluster: 'a' }] }), expect: 'mirror' },
  {
    name: 'retries before an answer',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'connect-failure,refused-stream' } }),
    expect: 'kernel',
  },
  {
    name: 'retries on 5xx, many at a time',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', per_try_timeout: '1s' } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'kernel',
  },
  {
    name: 'retries elsewhere, among two',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_host_predicate: [{ name: 'p' }] } }),
    cluster: { ...endpoints({}), circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'retry',
  },
  {
    name: 'retries elsewhere, where there is but one',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_host_predicate: [{ name: 'p' }] } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'kernel',
  },
  ...['hedge_on_per_try_timeout', 'initial_requests'].flatMap((key) => [
    {
      name: `hedging, ${key}`,
      route: to('a', '/', {}, { hedge_policy: { [key]: true } }),
      expect: key === 'initial_requests' ? 'unsupported-field' : 'kernel',
    },
  ]),
  {
    name: 'hedging where a try may take too long',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'connect-failure', per_try_timeout: '1s' } }),
    vhost: { hedge_policy: { hedge_on_per_try_timeout: true } },
    expect: 'retry',
  },
  ...[0, 1].map((priority) => ({
    name: `retries in other priorities than ${priority}`,
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_priority: PREVIOUS_PRIORITIES } }),
    cluster: { ...endpoints({ priority }), circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: priority === 0 ? 'kernel' : 'retry',
  })),
  {
    name: 'retries in priorities that something else chooses',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx', retry_priority: { name: 'x' } } }),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 2000 }] } },
    expect: 'retry',
  },
  {
    name: 'retries on headers',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'retriable-headers' } }),
    expect: 'retry',
  },
  {
    name: 'retries on 5xx, three at a time',
    route: to('a', '/', {}, { retry_policy: { retry_on: '5xx' } }),
    expect: 'retry',
  },
  {
    name: 'retries on 429',
    route: to('a', '/', {}, { retry_policy: { retry_on: 'retriable-status-codes', retriable_status_codes: [429] } }),
    expect: 'retry',
  },
  {
    name: 'no timeout, with the default idle timeout',
    route: to('a', '/', {}, { timeout: '0s' }),
    expect: 'kernel',
  },
  {
    name: 'an idle timeout shorter than the timeout',
    route: to('a', '/', {}, { timeout: '30s', idle_timeout: '10s' }),
    expect: 'kernel',
  },
  {
    name: 'an idle timeout shorter than the timeout, before a cluster with another buffer',
    route: to('a', '/', {}, { timeout: '30s', idle_timeout: '10s' }),
    cluster: { per_connection_buffer_limit_bytes: 32768 },
    expect: 'idle-timeout',
  },
  {
    name: 'an idle timeout longer than the timeout, which always strikes first',
    route: to('a', '/', {}, { timeout: '10s', idle_timeout: '30s' }),
    expect: 'kernel',
  },
  {
    name: 'a longest stream',
    route: to('a', '/', {}, { max_stream_duration: { max_stream_duration: '60s' } }),
    expect: 'timeout',
  },
  {
    name: 'no timeout and no idle timeout',
    route: to('a', '/', {}, { timeout: '0s', idle_timeout: '0s' }),
    expect: 'kernel',
  },
  {
    name: 'cluster by header',
    route: to('', '/', {}, { cluster: null, cluster_header: 'x' }),
    expect: 'cluster-unknown',
  },
  { name: 'a cluster that nobody defines', route: to('nobody'), expect: 'cluster-unknown' },
  { name: 'host from a header', route: to('a', '/', {}, { host_rewrite_header: 'x' }), expect: 'host-rewrite' },
  { name: 'host on a wildcard', route: to('a', '/', {}, { host_rewrite_literal: 'x' }), expect: 'host-rewrite' },
  { name: 'path policy', route: to('a', '/', {}, { path_rewrite_policy: {} }), expect: 'path-rewrite' },
  {
    name: 'a regex rewrite that may leave nothing',
    route: to('a', '/', {}, { regex_rewrite: { pattern: { regex: '/a(.*)' }, substitution: '\\1' } }),
    expect: 'path-rewrite',
  },
  {
    name: 'a redirect by regex',
    route: { match: { prefix: '/' }, redirect: { regex_rewrite: {} } },
    expect: 'redirect',
  },
  {
    name: 'a body from a file',
    route: { match: { prefix: '/' }, direct_response: { status: 200, body: { filename: '/x' } } },
    expect: 'direct-response',
  },
  {
    name: 'an answer of 204',
    route: { match: { prefix: '/' }, direct_response: { status: 204 } },
    expect: 'kernel',
  },
  {
    name: 'an answer of 204 with a body',
    route: { match: { prefix: '/' }, direct_response: { status: 204, body: { inline_string: 'x' } } },
    expect: 'direct-response',
  },
  {
    name: 'an empty value behind what answers have',
    route: to('a', '/', {
      response_headers_to_add: [{ header: { key: 'cache-control', value: '' }, keep_empty_value: true }],
    }),
    expect: 'response-headers',
  },
  {
    name: 'an answer that closes the connection',
    route: { match: { prefix: '/' }, direct_response: { status: 400 } },
    expect: 'direct-response',
  },
  {
    name: 'non_forwarding_action',
    route: { match: { prefix: '/' }, non_forwarding_action: {} },
    expect: 'route-action',
  },
  { name: 'response headers', route: to('a', '/', { response_headers_to_remove: ['x'] }), expect: 'kernel' },
  {
    name: 'a response header that frames the message',
    route: to('a', '/', { response_headers_to_remove: ['connection'] }),
    expect: 'response-headers',
  },
  {
    name: 'response headers of the virtual host',
    vhost: { response_headers_to_add: [{ header: { key: 'a', value: 'b' } }] },
    expect: 'kernel',
  },
  {
    name: 'a computed header',
    route: to('a', '/', { request_headers_to_add: [{ header: { key: 'a', value: '%REQ(b)%' } }] }),
    expect: 'header-format',
  },
  {
    name: 'an edit of a framing header',
    route: to('a', '/', { request_headers_to_remove: ['content-length'] }),
    expect: 'header-edit',
  },
  {
    name: 'headers that are removed from what is not internal',
    options: { routeConfig: { internal_only_headers: ['x-user'] } },
    expect: 'unsupported-field',
  },
  { name: 'TLS required', vhost: { require_tls: 'ALL' }, expect: 'require-tls' },
];
