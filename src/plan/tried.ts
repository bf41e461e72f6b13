/**
 * Retries that go to other endpoints than the tries before (previous_hosts). All but the first try are the proxy's, which is
 * told where that was (src/proxy/tried.ts): as a try that it has made itself, and that could not connect.
 */
import net from 'node:net';
import type { JsonObject } from '../policy/resources.js';
import type { ClusterInfo } from './clusters.js';
import type { ForwardAction, Plan } from './ir.js';
import { anyType, has, list, obj, str } from './notes.js';
import { MAX_RETRIES, retriesOf } from './retry.js';

const PREVIOUS_HOSTS = 'envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate';

/** Conditions that a failure to connect meets. */
const CONNECTING = /(^|,)\s*(connect-failure|5xx|gateway-error|reset)\s*(,|$)/;

/** Of these, Envoy writes the last four bytes with dots. */
const WITH_DOTS = /^::(ffff:)?[0-9a-f]+:[0-9a-f]+$/;

/** An endpoint as Envoy writes its address; undefined: as it writes it is not known. */
export function hostText(address: string, port: number): string | undefined {
  if (net.isIPv4(address)) return `${address}:${port}`;
  if (!net.isIPv6(address) || address.includes('%')) return undefined;
  const { hostname } = new URL(`http://[${address}]`);
  return WITH_DOTS.test(hostname.slice(1, -1)) ? undefined : `${hostname}:${port}`;
}

/** Why the proxy cannot be told of a try under a RetryPolicy that avoids endpoints; undefined: it can. */
export function untoldUnder(policy: JsonObject): string | undefined {
  const predicates = list(policy, 'retry_host_predicate');
  if (predicates.some((p) => anyType(obj(p, 'typed_config')) !== PREVIOUS_HOSTS))
    return 'by a predicate of another kind';
  if (has(policy, 'retry_priority')) return 'and in other priorities';
  if (!CONNECTING.test(str(policy, 'retry_on'))) return 'but not after a failure to connect';
  return retriesOf(policy) < MAX_RETRIES ? undefined : `${MAX_RETRIES} times and more`;
}

/**
 * Why the proxy cannot be told of a try at one of a cluster's endpoints; undefined: it can. Those that it is told of are of
 * a first priority without any load, which it has as long as the others are healthy.
 */
export function untoldOf({ discovered, detection, checked, breaker, endpoints }: ClusterInfo): string | undefined {
  if (discovered) return 'which the proxy looks up';
  if (detection || checked) return 'whose health changes';
  if (breaker) return 'whose requests are counted';
  const known = endpoints.every(({ address, port, state }) => state.health === 'healthy' && hostText(address, port));
  return known ? undefined : 'not all of which are healthy';
}

/**
 * Whether logs may call clusters by other names than their own (%UPSTREAM_CLUSTER% says these). Where they do not, that operator takes the place of
 * %UPSTREAM_CLUSTER_RAW%, which would give the name of the copy that leads to other endpoints.
 */
export function areRenamed(clusters: readonly JsonObject[]): boolean {
  return clusters.some((cluster) => !['', str(cluster, 'name')].includes(str(cluster, 'alt_stat_name')));
}

/** The actions of a plan that forward requests. */
export function forwardsOf(plan: Plan): ForwardAction[] {
  const routes = plan.listeners.flatMap((l) => l.virtualHosts.flatMap((host) => host.routes));
  return routes.flatMap(({ action }) => (action.kind === 'forward' ? [action] : []));
}

/** Clusters of a plan whose endpoints are avoided that the kernel has tried. */
export function triedOf(plan: Plan): readonly string[] {
  return forwardsOf(plan).flatMap(({ retry }) => retry?.tried ?? []);
}

/** Routes of the proxy's for first tries at endpoints, in one route configuration. */
const MAX_ROUTES = 20_000;

/** Why there would be too many routes for the endpoints of an action; undefined: there are not. @param counts by cluster */
export function tooMany(counts: readonly number[], config: JsonObject): string | undefined {
  const routes = list(config, 'virtual_hosts').reduce((sum, host) => sum + list(host, 'routes').length, 0);
  const endpoints = counts.reduce((sum, n) => sum + n, 0);
  return routes * endpoints > MAX_ROUTES ? `in ${routes} routes with ${endpoints} endpoints` : undefined;
}

/** Whether endpoints are avoided, as far as the clusters' numbers of them go. */
export function isAmongSeveral(counts: readonly number[]): boolean {
  return counts.some((n) => n > 1);
}

/** Whether the proxy is told of first tries at clusters of so many endpoints each, of which it can be told. */
export function isTold(policy: JsonObject, counts: readonly number[]): boolean {
  return isAmongSeveral(counts) && untoldUnder(policy) === undefined;
}
