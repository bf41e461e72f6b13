/** Configurations of local rate limits, and requests in forms for the kernel and for the proxy, as the tests of both send them. */
import type { WireAnswer } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';
import { request } from './world.js';

/** What configurations of HTTP filters are named by. */
export const HTTP = 'type.googleapis.com/envoy.extensions.filters.http';
/** The name of the filter. */
export const NAME = 'envoy.filters.http.local_ratelimit';
/** All requests. */
const ALL: JsonObject = { default_value: { numerator: 100, denominator: 'HUNDRED' } };
/** Long enough that nothing comes back while the test runs. */
const bucket = (max_tokens: number): JsonObject => ({ max_tokens, tokens_per_fill: 1, fill_interval: '3000s' });
/** A configuration of the filter. */
export const limit = (tokens: number, more: JsonObject = {}): JsonObject => ({
  '@type': `${HTTP}.local_ratelimit.v3.LocalRateLimit`,
  stat_prefix: 'test',
  token_bucket: bucket(tokens),
  filter_enabled: ALL,
  filter_enforced: ALL,
  ...more,
});
/** Switches the filter off. */
export const OFF: JsonObject = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true };
/** A configuration for one route or virtual host. */
export const per = (config: JsonObject): JsonObject => ({ typed_per_filter_config: { [NAME]: config } });
/** A HeaderValueOption. */
export const add = (key: string, value: string, append_action = 'APPEND_IF_EXISTS_OR_ADD'): JsonObject => ({
  header: { key, value },
  append_action,
});
/** A descriptor with a bucket of its own. */
export const descriptor = (tokens: number, ...entries: [string, string][]): JsonObject => ({
  entries: entries.map(([key, value]) => ({ key, value })),
  token_bucket: bucket(tokens),
});
/** Lists of actions that make descriptors. */
export const limits = (...actions: Json[][]): JsonObject => ({
  rate_limits: actions.map((list) => ({ actions: list })),
});
/** The descriptor `user` from a header. */
export const USER: JsonObject = { request_headers: { header_name: 'x-user', descriptor_key: 'user' } };
/** Forms of requests: the first is one that the kernel decides, the others are the proxy's. */
export const FORMS: Record<string, (path: string, headers: HeaderList) => { piece: string; method: string }> = {
  plain: (path, headers) => ({ piece: request(`GET ${path} HTTP/1.1`, headers), method: 'GET' }),
  chunked: (path, headers) => ({
    piece: request(`POST ${path} HTTP/1.1`, [...headers, ['Transfer-Encoding', 'chunked']], '3\r\nabc\r\n0\r\n\r\n'),
    method: 'POST',
  }),
  close: (path, headers) => ({
    piece: request(`GET ${path} HTTP/1.1`, [...headers, ['Connection', 'close']]),
    method: 'GET',
  }),
  body: (path, headers) => ({
    piece: request(`POST ${path} HTTP/1.1`, [...headers, ['Content-Length', '2']], 'ab'),
    method: 'POST',
  }),
  head: (path, headers) => ({ piece: request(`HEAD ${path} HTTP/1.1`, headers), method: 'HEAD' }),
};
/** The name of a form. */
export type Form = keyof typeof FORMS;

/**
 * What both must have alike; `server`, `date` and times are documented differences, and so is that Envoy, which refuses
 * before a body has come, then closes the connection: while it asks for the token, the body comes.
 */
export function shown(answer: WireAnswer | undefined, form: Form): unknown {
  if (!answer) return 'no answer';
  const early = form === 'chunked' || form === 'body' ? ['connection'] : [];
  const headers = answer.headers
    .map(([n, v]) => [n.toLowerCase(), v.trim()] as const)
    .filter(([n]) => !['server', 'date', 'x-envoy-upstream-service-time', ...early].includes(n))
    .map(([n, v]) => `${n}: ${v}`)
    .sort();
  return { status: answer.status, headers, body: Buffer.from(answer.body, 'base64').toString() };
}
