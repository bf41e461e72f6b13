/**
 * The proxy's part of mirrors: the agent hands it a copy of each mirrored request, which it forwards to a listener of its own
 * that answers at once, and mirrors on the way. So what mirrors' servers see is what Envoy makes of a shadow.
 */
import { join } from 'node:path';
import type { MirrorPlan } from '../plan/mirrors.js';
import { asObjects } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { filterOf, pipeListener } from './pipe-listener.js';

/** Says whom a copy is for; the proxy removes it. */
export const MIRROR_HEADER = 'x-sidestep-mirror';
const SINK = 'sidestep-mirrored';
const POLICIES = 'request_mirror_policies';

/** Where the proxy takes copies, in its folder. */
export const mirrorPath = (dir: string): string => join(dir, 'mirrors.sock');

/** Of both listeners. */
const manager: JsonObject = {
  codec_type: 'HTTP1',
  forward_client_cert_details: 'ALWAYS_FORWARD_ONLY',
  max_request_headers_kb: 96,
  common_http_protocol_options: { idle_timeout: '0s' },
};

/** The resources with a listener that mirrors what comes from the agent. */
export function withMirrors(resources: Resources, mirrors: Iterable<MirrorPlan>, dir: string): Resources {
  const unique = [...new Map([...mirrors].map((mirror) => [mirror.key, mirror] as const)).values()];
  if (unique.length === 0) return resources;
  const path = join(dir, 'mirrored.sock');
  const routes = unique.map(
    ({ key, policies, timeoutMs }): JsonObject => ({
      match: { prefix: '', headers: [{ name: MIRROR_HEADER, string_match: { exact: key } }] },
      route: { cluster: SINK, timeout: `${timeoutMs / 1000}s`, [POLICIES]: [...policies] },
      request_headers_to_remove: [MIRROR_HEADER],
    }),
  );
  // an answer before the end of the request would end its copies, too
  const whole = filterOf('buffer', 'http.buffer.v3.Buffer', { max_request_bytes: 1 << 20 });
  const sink: JsonObject = {
    name: SINK,
    type: 'STATIC',
    circuit_breakers: { thresholds: [{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }] },
    load_assignment: {
      cluster_name: SINK,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
  };
  return {
    ...resources,
    clusters: [...resources.clusters, sink],
    listeners: [
      ...resources.listeners,
      pipeListener('copies of the agent', mirrorPath(dir), routes, { manager }),
      pipeListener(SINK, path, [{ match: { prefix: '' }, direct_response: { status: 200 } }], {
        manager,
        filters: [whole],
      }),
    ],
  };
}

/** The action without mirrors, whatever its virtual host or route configuration says. */
export function withoutMirrors(action: JsonObject, ...around: readonly JsonObject[]): JsonObject {
  const [policy] = [action, ...around].flatMap((level) => asObjects(level[POLICIES]));
  if (!policy) return action;
  return { ...action, [POLICIES]: [{ ...policy, runtime_fraction: { default_value: { numerator: 0 } } }] };
}
