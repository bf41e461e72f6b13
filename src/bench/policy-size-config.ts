/** The policies that the `policy-size` suite measures: N routes of every kind over several hosts, one cluster. */
import type { JsonObject } from '../policy/resources.js';

/** Hosts that the routes are spread over: small policies have fewer. */
export function hostsFor(routes: number): number {
  return Math.max(1, Math.min(20, Math.floor(routes / 10)));
}

/** One request of the measurement: which host, which path, and the number of the route that takes it. */
export interface Probe {
  readonly host: string;
  readonly path: string;
  readonly route: number;
}

const TEAMS = ['shop', 'search', 'ads', 'maps', 'media', 'pay', 'mail', 'docs'];
const WORDS = ['items', 'orders', 'users', 'carts', 'reports', 'invoices', 'images', 'events'];

const word = <T>(list: readonly T[], i: number): T => list[i % list.length]!;

interface Shape {
  readonly match: JsonObject;
  /** a path that this route takes */
  readonly example: string;
}

/**
 * The match of route `i`: two in five exact paths, two prefixes, one a regular expression (of five forms, among them some
 * that begin alike and some with a wildcard in front), some with a header or a method besides.
 */
function shape(i: number): Shape {
  const team = word(TEAMS, i);
  const kind = word(WORDS, i >> 3);
  switch (i % 5) {
    case 0:
      return { match: { path: `/${team}/v1/${kind}-${i}` }, example: `/${team}/v1/${kind}-${i}` };
    case 1:
      return { match: { prefix: `/${team}/v1/${kind}-${i}/` }, example: `/${team}/v1/${kind}-${i}/42/detail` };
    case 2:
      return { match: { path_separated_prefix: `/api/${team}-${i}/${kind}` }, example: `/api/${team}-${i}/${kind}/7` };
    case 3:
      return {
        match: {
          path: `/${team}/internal/${i}`,
          headers: [{ name: ':method', string_match: { exact: 'GET' } }],
        },
        example: `/${team}/internal/${i}`,
      };
  }
  switch (Math.floor(i / 5) % 5) {
    case 0:
      return { match: regex(`/${team}/v2/${kind}-${i}/[0-9]+`), example: `/${team}/v2/${kind}-${i}/1234` };
    case 1:
      return {
        match: regex(`/${team}/v[0-9]+/svc${i}/[^/]+/${kind}(/.*)?`),
        example: `/${team}/v3/svc${i}/eu-1/${kind}/x`,
      };
    case 2:
      return { match: regex(`^/(en|de|fr)/${team}-${i}/.*$`), example: `/de/${team}-${i}/page` };
    case 3:
      return { match: regex(`/[^/]+/tenant-${i}/${kind}`), example: `/${team}/tenant-${i}/${kind}` };
    default:
      return {
        match: regex(`(?i)/${team}/files/${i}/[\\w.-]+\\.(png|jpg)`),
        example: `/${team}/files/${i}/a-picture.png`,
      };
  }
}

function regex(pattern: string): JsonObject {
  return { safe_regex: { regex: pattern } };
}

/** The host of route `i`, when there are `n` routes. */
function hostOf(i: number, n: number): number {
  return Math.floor((i * hostsFor(n)) / n);
}

/** Virtual hosts with `n` routes to `cluster` in all, each with a last route that answers 404. */
export function virtualHosts(n: number, cluster: string): JsonObject[] {
  const hosts = Array.from({ length: hostsFor(n) }, (_, h) => ({
    name: `host-${h}`,
    domains: [`host-${h}.example.test`],
    routes: [] as JsonObject[],
  }));
  for (let i = 0; i < n - hosts.length; i++)
    hosts[hostOf(i, n)]!.routes.push({ match: shape(i).match, route: { cluster } });
  for (const host of hosts) host.routes.push({ match: { prefix: '/' }, direct_response: { status: 404 } });
  return hosts;
}

/** `count` requests spread evenly over the routes. */
export function probes(n: number, count: number): Probe[] {
  const routes = n - hostsFor(n);
  const step = Math.max(1, Math.floor(routes / count));
  return Array.from({ length: count }, (_, k) => {
    // an odd number of steps, so that every kind of route comes in turn
    const route = (k * (step | 1)) % routes;
    return { host: `host-${hostOf(route, n)}.example.test`, path: shape(route).example, route };
  });
}

/** A bootstrap with these routes on one listener. */
export function policyOfSize(n: number, address: string, port: number, server: number): JsonObject {
  const type = 'type.googleapis.com/envoy.extensions.filters';
  const at = (host: string, p: number): JsonObject => ({ socket_address: { address: host, port_value: p } });
  return {
    static_resources: {
      listeners: [
        {
          name: 'policy',
          address: at(address, port),
          filter_chains: [
            {
              filters: [
                {
                  name: 'envoy.filters.network.http_connection_manager',
                  typed_config: {
                    '@type': `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
                    stat_prefix: 'policy',
                    route_config: { name: 'policy', virtual_hosts: virtualHosts(n, 'server') },
                    http_filters: [
                      {
                        name: 'envoy.filters.http.router',
                        typed_config: { '@type': `${type}.http.router.v3.Router` },
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'server',
          connect_timeout: '2s',
          type: 'STATIC',
          load_assignment: {
            cluster_name: 'server',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: at('127.0.0.1', server) } }] }],
          },
        },
      ],
    },
  };
}
