/** The proxy's part of reporting spans: it forwards what the agent sends to the clusters of collectors. */
import { join } from 'node:path';
import type { JsonObject, Resources } from '../policy/resources.js';
import { pipeListener } from './pipe-listener.js';

/** Names the cluster that the agent means; the proxy removes it. */
export const COLLECTOR_HEADER = 'x-sidestep-collector';

/** Where the proxy takes spans, in its folder. */
export const collectorPath = (dir: string): string => join(dir, 'spans.sock');

/** The resources with a listener that forwards to these clusters. */
export function withCollectors(resources: Resources, clusters: readonly string[], dir: string): Resources {
  if (clusters.length === 0) return resources;
  const routes = clusters.map(
    (cluster): JsonObject => ({
      match: { prefix: '/', headers: [{ name: COLLECTOR_HEADER, string_match: { exact: cluster } }] },
      route: { cluster, timeout: '5s' },
      request_headers_to_remove: [COLLECTOR_HEADER, 'x-forwarded-proto'],
    }),
  );
  const listener = pipeListener('spans of the agent', collectorPath(dir), routes);
  return { ...resources, listeners: [...resources.listeners, listener] };
}
