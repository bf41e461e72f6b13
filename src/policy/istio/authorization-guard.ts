/** Judging requests after a route has changed them: RBAC as a filter of the cluster (an HTTP filter upstream). */
import type { JsonObject } from '../resources.js';

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const RBAC_TYPE = 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC';
const CODEC_TYPE = 'type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec';

/**
 * A copy of a cluster that lets only those requests out that the policies allow.
 *
 * @param rbac filter name -> envoy.config.rbac.v3.RBAC, in the order of the filters
 */
export function guardedCluster(
  cluster: JsonObject,
  name: string,
  rbac: Readonly<Record<string, JsonObject>>,
): JsonObject {
  const extensions = cluster.typed_extension_protocol_options as JsonObject | undefined;
  const options = (extensions?.[HTTP_OPTIONS] as JsonObject | undefined) ?? {
    '@type': `type.googleapis.com/${HTTP_OPTIONS}`,
    explicit_http_config: { http_protocol_options: {} },
  };
  const filters = Object.entries(rbac).map(
    ([filter, config]): JsonObject => ({ name: filter, typed_config: { '@type': RBAC_TYPE, ...config } }),
  );
  filters.push({ name: 'envoy.filters.http.upstream_codec', typed_config: { '@type': CODEC_TYPE } });
  return {
    ...cluster,
    name,
    load_assignment: { ...(cluster.load_assignment as JsonObject), cluster_name: name },
    typed_extension_protocol_options: { [HTTP_OPTIONS]: { ...options, http_filters: filters } },
  };
}

/** True if a route (or its weighted cluster) changes something that policies look at before the request leaves. */
export function changes(
  route: JsonObject,
  action: JsonObject,
  weighted: JsonObject | undefined,
  looksAt: ReadonlySet<string>,
): boolean {
  if (looksAt.has('path') && (action.prefix_rewrite || action.regex_rewrite)) return true;
  if (looksAt.has('host') && (action.host_rewrite_literal || weighted?.host_rewrite_literal)) return true;
  return [route, weighted].some((holder) => {
    const added = ((holder?.request_headers_to_add as JsonObject[] | undefined) ?? []).map(
      (h) => (h.header as JsonObject).key,
    );
    const removed = (holder?.request_headers_to_remove as string[] | undefined) ?? [];
    return [...added, ...removed].some((name) => looksAt.has(String(name).toLowerCase()));
  });
}
