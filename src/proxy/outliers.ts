/**
 * The proxy's part of outlier detection that the agent does for both of them: the proxy detects nothing for these clusters
 * itself, reports each of its tries to the agent (upstream_log of the router, as gRPC access log), and is told by the
 * health of the endpoints in a watched file what is ejected.
 */
import { asObject, asObjects, asString, TYPE } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { agentCluster } from './agent-cluster.js';
import { mapManagers, serviceName } from './bootstrap.js';

const REPORTS = 'sidestep-tries';

/** What a host is called among those of its cluster: its address and port. */
export function hostKey(address: string, port: number): string {
  return `${address} ${port}`;
}

/** What the load assignment of a cluster is called that the agent ejects endpoints of. */
export function ejectableName(cluster: string): string {
  return `${cluster} (ejectable)`;
}

/** The load assignment in which the `ejected` endpoints (`address port`) are not healthy, whatever else they are. */
export function withEjections(assignment: JsonObject, ejected: ReadonlySet<string>): JsonObject {
  const places = asObjects(assignment.endpoints).map((place): JsonObject => {
    const endpoints = asObjects(place.lb_endpoints).map((e): JsonObject => {
      const at = asObject(asObject(asObject(e.endpoint)?.address)?.socket_address);
      const out = ejected.has(hostKey(asString(at?.address), Number(at?.port_value ?? 0)));
      return out && e.health_status !== 'DRAINING' ? { ...e, health_status: 'UNHEALTHY' } : e;
    });
    return place.lb_endpoints ? { ...place, lb_endpoints: endpoints } : place;
  });
  return assignment.endpoints ? { ...assignment, endpoints: places } : assignment;
}

function reports(more: JsonObject = {}): JsonObject {
  return {
    ...more,
    name: 'envoy.access_loggers.http_grpc',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig',
      common_config: {
        log_name: 'tries',
        transport_api_version: 'V3',
        // each at once
        buffer_size_bytes: 0,
        grpc_service: { envoy_grpc: { cluster_name: REPORTS } },
      },
    },
  };
}

function reporting(hcm: JsonObject): JsonObject {
  const filters = asObjects(hcm.http_filters).map((filter): JsonObject => {
    const config = asObject(filter.typed_config);
    if (config?.['@type'] !== TYPE.ROUTER) return filter;
    const log = [...asObjects(config.upstream_log), reports()];
    return { ...filter, typed_config: { ...config, upstream_log: log } };
  });
  // when the time of a request is over, its last try says nothing of it
  const timeouts = reports({ filter: { response_flag_filter: { flags: ['UT'] } } });
  return { ...hcm, http_filters: filters, access_log: [...asObjects(hcm.access_log), timeouts] };
}

function loadAssignment(cluster: JsonObject, resources: Resources): JsonObject | undefined {
  const wanted = serviceName(cluster);
  return asObject(cluster.load_assignment) ?? resources.endpoints.find((e) => e.cluster_name === wanted);
}

/** The load assignment of an ejectable cluster with nothing ejected, as the proxy asks for it; undefined when it is not known. */
export function ejectableAssignment(resources: Resources, name: string): JsonObject | undefined {
  const cluster = resources.clusters.find((c) => c.name === name);
  const assignment = cluster && loadAssignment(cluster, resources);
  return assignment && { ...assignment, cluster_name: ejectableName(name) };
}

/**
 * What the proxy is given where the agent detects the outliers of some clusters. Nothing is ejected in it.
 *
 * @param assignments of these clusters, by name (see `ejectableAssignment`)
 * @param path of the Unix socket at which the agent takes reports
 */
export function withOutliers(
  resources: Resources,
  assignments: ReadonlyMap<string, JsonObject>,
  path: string,
): Resources {
  if (assignments.size === 0) return resources;
  const clusters = resources.clusters.map((cluster): JsonObject => {
    const name = asString(cluster.name);
    if (!assignments.has(name)) return cluster;
    const { outlier_detection: _, load_assignment: __, type: ___, ...rest } = cluster;
    return { ...rest, type: 'EDS', eds_cluster_config: { service_name: ejectableName(name) } };
  });
  return {
    ...resources,
    clusters: [...clusters, agentCluster(REPORTS, path, { connect_timeout: '1s' })],
    endpoints: [...resources.endpoints, ...assignments.values()],
    listeners: resources.listeners.map((listener) => mapManagers(listener, reporting)),
  };
}
