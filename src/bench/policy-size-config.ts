/** The policies that the `policy-size` suite measures: N routes of every kind over several hosts, one cluster. */
import { plainBootstrap } from '../lab/plain-bootstrap.js';
import type { JsonObject } from '../policy/resources.js';

/** Hosts that the routes are spread over: small policies have fewer. */
function hostsFor(routes: number): number {
  return Math.max(1, Math.min(20, Math.floor(routes / 10)));
}

/** One request of the measurement, and the number of the route that takes it. */
export interface Probe {
  readonly host: string;
  readonly path: string;
  readonly route: number;
}

const TEAMS = ['shop', 'find', 'news', 'maps', 'film', 'cash', 'mail', 'docs'];
const WORDS = ['items', 'carts', 'users', 'posts', 'files', 'bills', 'pages', 'notes'];
/** Numbers of routes have five digits, so that paths are as long in small policies as in large ones. */
const FIRST = 10_000;
/** Forms whose paths can be told apart at their ends. */
const OPEN_FORMS = [1, 2, 4, 5, 6, 8];
/** Forms of matches; the last one of each ten routes is never asked for, because ten routes end with a catch-all. */
const FORMS = 10;
const ASKED = 9;

const word = (list: readonly string[], i: number): string => list[i % list.length]!;
const regex = (pattern: string): JsonObject => ({ safe_regex: { regex: pattern } });

interface Shape {
  readonly match: JsonObject;
  /** a path that this route takes */
  readonly example: string;
}

/**
 * The match of route `i`, with an example that ends with the digits of `end` where its form is open: half of them regular expressions, some of which begin alike, or with a wildcard; the others
 * exact paths, with and without a condition on the method, and prefixes of both kinds.
 */
function shape(i: number, end = ''): Shape {
  const team = word(TEAMS, i);
  const kind = word(WORDS, i >> 3);
  const n = FIRST + i;
  switch (i % FORMS) {
    case 0:
    case 9:
      return { match: { path: `/${team}/v1/${kind}-${n}` }, example: `/${team}/v1/${kind}-${n}` };
    case 1:
      return { match: { prefix: `/${team}/v1/${kind}-${n}/` }, example: `/${team}/v1/${kind}-${n}/42/detail${end}` };
    case 2:
      return {
        match: { path_separated_prefix: `/api/${team}-${n}/${kind}` },
        example: `/api/${team}-${n}/${kind}/7${end}`,
      };
    case 3:
      return {
        match: {
          path: `/${team}/internal/${n}`,
          headers: [{ name: ':method', string_match: { exact: 'GET' } }],
        },
        example: `/${team}/internal/${n}`,
      };
    case 4:
      return { match: regex(`/${team}/v2/${kind}-${n}/[0-9]+`), example: `/${team}/v2/${kind}-${n}/1234${end}` };
    case 5:
      return {
        match: regex(`/${team}/v[0-9]+/svc${n}/[^/]+/${kind}(/.*)?`),
        example: `/${team}/v3/svc${n}/eu-1/${kind}/x${end}`,
      };
    case 6:
      return { match: regex(`^/(en|de|fr)/${team}-${n}/.*$`), example: `/de/${team}-${n}/page${end}` };
    case 7:
      return { match: regex(`/[^/]+/tenant-${n}/${kind}`), example: `/${team}/tenant-${n}/${kind}` };
    default:
      return {
        match: regex(`(?i)/${team}/files/${n}/[\\w.-]+\\.(png|jpg)`),
        example: `/${team}/files/${n}/a-picture${end}.png`,
      };
  }
}

/** The host of route `i`, when there are `n` routes. */
function hostOf(i: number, n: number): number {
  return Math.floor((i * hostsFor(n)) / n);
}

const domainOf = (host: number): string => `host-${10 + host}.example.test`;

/** Virtual hosts with `n` routes to `cluster` in all, each with a last route that answers 404. */
function virtualHosts(n: number, cluster: string): JsonObject[] {
  const hosts = Array.from({ length: hostsFor(n) }, (_, h) => ({
    name: `host-${10 + h}`,
    domains: [domainOf(h)],
    routes: [] as JsonObject[],
  }));
  for (let i = 0; i < n - hosts.length; i++)
    hosts[hostOf(i, n)]!.routes.push({ match: shape(i).match, route: { cluster } });
  for (const host of hosts) host.routes.push({ match: { prefix: '/' }, direct_response: { status: 404 } });
  return hosts;
}

/**
 * At most `count` requests spread evenly over the routes, with as many of each form, and as many different ones, in policies
 * of every size: their queries tell those of one route apart. (Always the same few would flatter small policies: the
 * processor foresees every branch.)
 */
export function probes(n: number, count: number): Probe[] {
  const tens = Math.max(1, Math.floor((n - hostsFor(n)) / FORMS));
  const turns = Math.max(1, Math.floor(count / ASKED));
  const wanted = Math.min(tens, turns);
  return Array.from({ length: turns * ASKED }, (_, k) => {
    const ten = Math.floor(((Math.floor(k / ASKED) % wanted) * tens) / wanted);
    const route = ten * FORMS + (k % ASKED);
    return { host: domainOf(hostOf(route, n)), path: `${shape(route).example}?n=${FIRST + k}`, route };
  });
}

/** `count` requests with different paths, spread evenly over the routes whose forms are open, as many of each form. */
export function freshProbes(n: number, count: number): Probe[] {
  const tens = Math.max(1, Math.floor((n - hostsFor(n)) / FORMS));
  return Array.from({ length: count }, (_, k) => {
    const turn = Math.floor(k / OPEN_FORMS.length);
    const route = (turn % tens) * FORMS + OPEN_FORMS[k % OPEN_FORMS.length]!;
    return { host: domainOf(hostOf(route, n)), path: shape(route, String(FIRST + k)).example, route };
  });
}

/** A bootstrap with these routes on one listener. */
export function policyOfSize(n: number, address: string, port: number, server: number): JsonObject {
  const hosts = virtualHosts(n, 'server');
  return plainBootstrap([{ name: 'policy', address, port, hosts }], [{ name: 'server', ports: [server] }]);
}
