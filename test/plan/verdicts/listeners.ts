/** Listeners, and fields that nobody knows: what the kernel takes, or the code of the reason. */
import { to } from '../resources.js';
import type { Case } from './case.js';

export const LISTENERS: readonly Case[] = [
  { name: 'a plain route', expect: 'kernel' },
  { name: 'an unknown field of a route', route: to('a', '/', { new_field: 1 }), expect: 'unsupported-field' },
  { name: 'an unknown field of an action', route: to('a', '/', {}, { new_field: true }), expect: 'unsupported-field' },
  {
    name: 'an unknown field of a match',
    route: { match: { prefix: '/', new_field: {} }, route: { cluster: 'a' } },
    expect: 'unsupported-field',
  },
  { name: 'an unknown field of a virtual host', vhost: { new_field: 'x' }, expect: 'unsupported-field' },
  { name: 'an unknown field of a cluster', cluster: { new_field: 'x' }, expect: 'unsupported-field' },
  {
    name: 'an unknown field of the connection manager',
    options: { hcm: { new_field: 'x' } },
    expect: 'unsupported-field',
  },
  {
    name: 'an unknown field of the route configuration',
    options: { routeConfig: { new_field: 'x' } },
    expect: 'unsupported-field',
  },
  { name: 'a default in an unknown field', route: to('a', '/', { new_field: false, other: [] }), expect: 'kernel' },
  { name: 'access log', options: { hcm: { access_log: [{ name: 'x' }] } }, expect: 'access-log' },
  { name: 'tracing of some', options: { hcm: { tracing: { random_sampling: { value: 1 } } } }, expect: 'kernel' },
  { name: 'tracing without a tracer', options: { hcm: { tracing: {} } }, expect: 'kernel' },
  { name: 'tracing of nothing', options: { hcm: { tracing: { overall_sampling: {} } } }, expect: 'kernel' },
  { name: 'use_remote_address', options: { hcm: { use_remote_address: true } }, expect: 'kernel' },
  { name: 'HTTP/2 codec', options: { hcm: { codec_type: 'HTTP2' } }, expect: 'codec' },
  { name: 'HTTP/1 codec', options: { hcm: { codec_type: 'HTTP1' } }, expect: 'kernel' },
  {
    name: 'names of headers with capital letters',
    options: { hcm: { http_protocol_options: { header_key_format: { proper_case_words: {} } } } },
    expect: 'unsupported-field',
  },
  { name: 'local replies', options: { hcm: { local_reply_config: { mappers: [{}] } } }, expect: 'local-reply' },
  { name: 'no router', options: { hcm: { http_filters: [] } }, expect: 'http-filter' },
  { name: 'request timeout', options: { hcm: { request_timeout: '5s' } }, expect: 'stream-limits' },
  { name: 'no request timeout', options: { hcm: { request_timeout: '0s' } }, expect: 'kernel' },
  {
    name: 'an rds name that nobody defines',
    options: { hcm: { route_config: null, rds: { route_config_name: 'x' } } },
    expect: 'route-source',
  },
  {
    name: 'normalisation and ports',
    options: { hcm: { normalize_path: true, merge_slashes: true, strip_any_host_port: true } },
    expect: 'kernel',
  },
  { name: 'host dots', options: { hcm: { strip_trailing_host_dot: true } }, expect: 'host-normalization' },
  { name: 'upgrades', options: { hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }] } }, expect: 'kernel' },
];
