/**
 * Retries that avoid the endpoints of the tries before, where the first one was made without the proxy. It is told of that as
 * if it had been its own. A header makes a filter (stateful_session) choose the host for the request's first try: in a copy of
 * the cluster, a Unix socket that does not exist. That fails at once, and counts among the policy's tries; of the next ones,
 * the route for the endpoint that was tried (one for each, by the same header) has that endpoint avoided, too.
 */
import { areRenamed, hostText, isTold } from '../plan/tried.js';
import { asObject, asObjects, asString, TYPE } from '../policy/envoy/walk.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import { serviceName } from './bootstrap.js';

/** Says where the first try was; the proxy removes it. */
export const TRIED_HEADER = 'x-sidestep-tried';
const FILTER = 'sidestep.tried';
/** A relative path, of which Envoy's folder has none. */
const NOBODY = 'sidestep/tried';
/** What endpoints are called in the copy: among the labels for subsets, because predicates look at no others. */
const LABEL = 'sidestep.tried';
const EXTENSIONS = 'type.googleapis.com/envoy.extensions';
const SWITCHED_ON = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} };

const coded = (text: string): string => Buffer.from(text).toString('base64');

/** The header's value for a first try at an endpoint: the host for the proxy's first try, and behind it what is the filter's to restore. */
function triedAtHost(host: string): string {
  return `${coded(NOBODY)};UV:${coded(host)}`;
}

/** The header's value for a first try at an endpoint. */
export function triedAt(address: string, port: number): string {
  return triedAtHost(hostText(address, port) ?? 'unknown');
}

function copyName(cluster: string): string {
  return `${cluster} (tried before)`;
}

/** Which routes for requests that are tried again are told of the first try, and what they need. */
export class TriedRoutes {
  readonly #used = new Set<string>();
  #count = 0;
  /** route configurations that have such routes, those that connection managers name by their names */
  readonly #configs = new Set<JsonObject | string>();
  readonly #assignments = new Map<string, JsonObject>();

  /** @param clusters those of which the kernel's first tries are told */
  constructor(
    private readonly resources: Resources,
    clusters: ReadonlySet<string>,
  ) {
    if (clusters.size === 0) return;
    const found = new Map(resources.endpoints.map((e) => [asString(e.cluster_name), e]));
    for (const cluster of resources.clusters) {
      const name = asString(cluster.name);
      const assignment = asObject(cluster.load_assignment) ?? found.get(serviceName(cluster));
      if (clusters.has(name) && assignment) this.#assignments.set(name, assignment);
    }
  }

  /**
   * Whether the first tries of an action are told. (The plan decides by the same: what it does not have the proxy told is the
   * proxy's as a whole, or never goes elsewhere.)
   */
  areTold(action: JsonObject, policy: JsonObject): boolean {
    const names = clustersOf(action);
    const assignments = names.map((name) => this.#assignments.get(name)).filter((a) => a !== undefined);
    if (asObjects(policy.retry_host_predicate).length === 0 || assignments.length < names.length) return false;
    return isTold(
      policy,
      assignments.map((a) => endpointsOf(a).length),
    );
  }

  /**
   * The routes of requests whose first try is told, one for each endpoint.
   * @param route for a request whose first try is not told; it leads to one cluster
   * @param policy for that first try and those that follow
   */
  told(route: JsonObject, policy: JsonObject): JsonObject[] {
    const action = asObject(route.route) ?? {};
    const match = asObject(route.match);
    const [cluster = ''] = clustersOf(action);
    this.#used.add(cluster);
    this.#count++;
    return endpointsOf(this.#assignments.get(cluster) ?? {}).flatMap((e) => {
      const host = hostOf(e);
      if (host === undefined) return [];
      const header = { name: TRIED_HEADER, string_match: { exact: triedAtHost(host) } };
      return {
        ...route,
        match: { ...match, headers: [...asObjects(match?.headers), header] },
        route: { ...copied(action), retry_policy: avoiding(policy, host) },
        typed_per_filter_config: { ...asObject(route.typed_per_filter_config), [FILTER]: SWITCHED_ON },
      };
    });
  }

  /** A route configuration with whatever routes `change` adds. */
  config(config: JsonObject, change: () => JsonObject): JsonObject {
    const before = this.#count;
    const changed = change();
    if (this.#count > before) this.#configs.add(changed).add(asString(config.name));
    return changed;
  }

  /** Connection managers with such routes get the filter, which nothing but these routes switches on. */
  manager(hcm: JsonObject): JsonObject {
    const rds = asString(asObject(hcm.rds)?.route_config_name);
    if (!this.#configs.has(asObject(hcm.route_config) ?? rds)) return hcm;
    const filters = asObjects(hcm.http_filters);
    const router = filters.findIndex((f) => asString(asObject(f.typed_config)?.['@type']) === TYPE.ROUTER);
    const at = router < 0 ? filters.length : router;
    const state = {
      '@type': `${EXTENSIONS}.http.stateful_session.envelope.v3.EnvelopeSessionState`,
      header: { name: TRIED_HEADER },
    };
    const filter = {
      ...{ name: FILTER, disabled: true },
      typed_config: {
        '@type': `${EXTENSIONS}.filters.http.stateful_session.v3.StatefulSession`,
        session_state: { name: 'envoy.http.stateful_session.envelope', typed_config: state },
      },
    };
    const logs = areRenamed(this.resources.clusters) ? {} : { access_log: calledAlike(hcm.access_log ?? []) };
    return { ...hcm, ...logs, http_filters: [...filters.slice(0, at), filter, ...filters.slice(at)] };
  }

  /** The copies of clusters that such routes lead to. */
  clusters(): JsonObject[] {
    return this.resources.clusters.flatMap((cluster) => {
      const name = asString(cluster.name);
      return this.#used.has(name) ? [copyOf(cluster, this.#assignments.get(name)!)] : [];
    });
  }
}

/** Formats in which a cluster and its copy have the same name. */
function calledAlike(json: Json): Json {
  if (typeof json === 'string') return json.replace(/%UPSTREAM_CLUSTER_RAW(?=[%:])/g, '%UPSTREAM_CLUSTER');
  if (Array.isArray(json)) return json.map(calledAlike);
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, calledAlike(value as Json)]));
}

/** The clusters that an action may lead to. */
function clustersOf(action: JsonObject): string[] {
  const weighted = asObjects(asObject(action.weighted_clusters)?.clusters).filter((c) => Number(c.weight ?? 0) > 0);
  return asString(action.cluster) === '' ? weighted.map(({ name }) => asString(name)) : [asString(action.cluster)];
}

/** The same action with the copies of its clusters. */
function copied(action: JsonObject): JsonObject {
  if (asString(action.cluster) !== '') return { ...action, cluster: copyName(asString(action.cluster)) };
  const weighted = asObject(action.weighted_clusters);
  const clusters = asObjects(weighted?.clusters).map((c) => ({ ...c, name: copyName(asString(c.name)) }));
  return { ...action, weighted_clusters: { ...weighted, clusters } };
}

/** A policy that avoids an endpoint from the first retry on. */
function avoiding(policy: JsonObject, host: string): JsonObject {
  const predicate = {
    name: 'envoy.retry_host_predicates.omit_host_metadata',
    typed_config: {
      '@type': `${EXTENSIONS}.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig`,
      metadata_match: { filter_metadata: { 'envoy.lb': { [LABEL]: host } } },
    },
  };
  return { ...policy, retry_host_predicate: [...asObjects(policy.retry_host_predicate), predicate] };
}

function endpointsOf(assignment: JsonObject): JsonObject[] {
  return asObjects(assignment.endpoints).flatMap((place) => asObjects(place.lb_endpoints));
}

function hostOf(endpoint: JsonObject): string | undefined {
  const at = asObject(asObject(asObject(endpoint.endpoint)?.address)?.socket_address);
  return hostText(asString(at?.address), Number(at?.port_value ?? 0));
}

/** An endpoint with its own address as a label. */
function labelled(endpoint: JsonObject): JsonObject {
  const metadata = asObject(endpoint.metadata);
  const filters = asObject(metadata?.filter_metadata);
  const labels = { ...asObject(filters?.['envoy.lb']), [LABEL]: hostOf(endpoint) ?? '' };
  return { ...endpoint, metadata: { ...metadata, filter_metadata: { ...filters, 'envoy.lb': labels } } };
}

/** A cluster whose first priority is the host that is not there, and has no load, since that is not healthy. */
function copyOf(cluster: JsonObject, assignment: JsonObject): JsonObject {
  const { eds_cluster_config: _, cluster_type: __, ...rest } = cluster;
  const nobody = { endpoint: { address: { pipe: { path: NOBODY } } }, health_status: 'UNHEALTHY' };
  const places = asObjects(assignment.endpoints).map((place) => ({
    ...place,
    priority: Number(place.priority ?? 0) + 1,
    lb_endpoints: asObjects(place.lb_endpoints).map(labelled),
  }));
  const name = copyName(asString(cluster.name));
  return {
    ...rest,
    name,
    alt_stat_name: asString(cluster.alt_stat_name) || asString(cluster.name),
    type: 'STATIC',
    load_assignment: { ...assignment, cluster_name: name, endpoints: [{ lb_endpoints: [nobody] }, ...places] },
    common_lb_config: {
      ...asObject(cluster.common_lb_config),
      override_host_status: { statuses: ['UNHEALTHY'] },
    },
  };
}
