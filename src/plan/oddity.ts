/** Forms of requests that are the proxy's, whatever the rules say. */

import { formProblems } from './form.js';
import type { ListenerPlan } from './ir.js';
import { asciiLower } from './matchers.js';
import type { View } from './request-view.js';

/** Methods that are decided here; Envoy refuses methods that it does not know, and tunnels CONNECT. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']);

/** What the proxy would change: dot segments, backslashes, characters to escape, escapes of what needs none; half escapes. */
const NOT_NORMAL =
  /["<>\\^`{|}]|\/\.\.?(?:[/;]|$)|%(?![0-9a-f]{2})|%(?:00|2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])/i;

/** Why the form of a request sends it to the proxy whatever the rules say; undefined: it does not. */
export function oddity(listener: ListenerPlan, view: View): string | undefined {
  const { method, target } = view.request;
  if (!METHODS.has(method)) return `the method ${method}`;
  if (!target.startsWith('/')) return 'the target is not a path';
  if (/[^!-~]|#/.test(target)) return 'the target has a fragment or bytes outside ASCII';
  if ((view.headers.get('host') ?? []).length !== 1) return 'not exactly one Host header';
  for (const name of view.headers.keys()) {
    if (name.startsWith('x-envoy-')) return `the header ${name} instructs the proxy`;
    if (name === 'upgrade' || name === 'expect' || name === 'proxy-connection') return `the header ${name}`;
  }
  const proto = view.headers.get('x-forwarded-proto') ?? ['http'];
  if (proto.length > 1 || !/^https?$/.test(proto[0]!)) return 'an odd x-forwarded-proto';
  if (view.headers.has('transfer-encoding') && view.headers.has('content-length')) return 'two framings';
  const tokens = (view.headers.get('connection') ?? [])
    .join(',')
    .split(',')
    .map((t) => asciiLower(t.trim()));
  if (tokens.some((t) => t !== '' && t !== 'close' && t !== 'keep-alive')) return 'Connection names headers';
  const { paths } = listener;
  if (paths.normalize && NOT_NORMAL.test(view.path)) return 'the path may need normalising';
  if (paths.mergeSlashes && view.path.includes('//')) return 'the path has double slashes';
  if (paths.escapedSlashes && /%2f|%5c|%(?![0-9a-f]{2})/i.test(view.path)) return 'the path has escaped slashes';
  return formProblems(view.request)[0];
}
