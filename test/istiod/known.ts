/** Differences that are meant, each with its reason and how it is told from others. */
import { isDeepStrictEqual } from 'node:util';
import { asObject, asString } from '../../src/policy/envoy/walk.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';

/** What is known of a difference. */
export interface Seen {
  readonly what: string;
  /** name of the listener or cluster, and for clusters the field */
  readonly name: string;
  readonly field?: string;
  /** of a request */
  readonly host?: string;
  readonly clientNamespace: string;
  readonly ours: unknown;
  readonly theirs: unknown;
  /** istiod's route for the request, istiod's cluster */
  readonly route?: JsonObject;
  readonly cluster?: JsonObject;
  /** hosts that istiod leads to the address that was asked for */
  readonly original: ReadonlySet<string>;
  /** each listener only knows its own service's names */
  readonly crowded: boolean;
  /** hosts that several documents describe */
  readonly twice: ReadonlySet<string>;
  /** our route is a GRPCRoute's, or there is none and there are GRPCRoutes */
  readonly grpc?: boolean;
  /** hosts of Services and ServiceEntries that AuthorizationPolicies are attached to */
  readonly attached: ReadonlySet<string>;
  /** why istiod does not program a gateway's listener, if it does not */
  readonly unprogrammed?: string;
}

/** A kind of difference that is meant. */
export interface Known {
  readonly code: string;
  /** for the documentation */
  readonly why: string;
  readonly is: (seen: Seen) => boolean;
}

const hostOf = (name: string): string => name.split('|')[3] ?? '';
/** True for the names under which clients know a service. */
const isNameOf = (service: string, host: string): boolean =>
  service === host || (service.startsWith(`${host}.`) && host.includes('.'));
const decorated = (route: JsonObject | undefined): string =>
  asString(asObject(route?.decorator)?.operation).replace(/:\d+\/.*$/, '');

/** True if one text is the other with a slash more. */
function slashMore(a: string, b: string): boolean {
  const [long, short] = a.length > b.length ? [a, b] : [b, a];
  return [...long].some((c, i) => c === '/' && long.slice(0, i) + long.slice(i + 1) === short);
}

/** Where istiod departs from the text of the Gateway API: see `specification`. */
function departs(ours: JsonObject, theirs: JsonObject): boolean {
  const [a, b] = [asObject(ours.route), asObject(theirs.route)];
  if (a && b) {
    const same = isDeepStrictEqual({ ...a, path: '' }, { ...b, path: '' });
    return same && slashMore(asString(a.path), asString(b.path));
  }
  const location = (of: JsonObject) => JSON.stringify(of.headers ?? '');
  const [to, their] = [asObject(ours.redirect), asObject(theirs.redirect)];
  if (to && their) return isDeepStrictEqual({ ...to, port_redirect: '' }, { ...their, port_redirect: '' });
  return ours.status === theirs.status && Number(ours.status) >= 300 && slashMore(location(ours), location(theirs));
}

export const KNOWN: readonly Known[] = [
  {
    code: 'short-name',
    why: 'A client that has reached a service of another namespace at its address may call it by its short name (`Host: reviews`), which istiod knows in the service’s own namespace only. Under Istio such a request goes to the address that was asked for, without routes; here it has the service’s routes: the name led here.',
    is: ({ what, name, host, clientNamespace }) => {
      const [service, namespace] = hostOf(name).split('.');
      return (what === 'route' || what === 'decision') && host === service && namespace !== clientNamespace;
    },
  },
  {
    code: 'allocated-address',
    why: 'Services without an address get one here (240.240.0.0/16), and that address is a name of theirs; istiod’s own allocation is a controller which needs an API server, and has other addresses.',
    is: ({ host }) => /^240\.240\./.test(host ?? ''),
  },
  {
    code: 'original-destination',
    why: 'ServiceEntries with the resolution NONE and headless Services: an Istio sidecar passes connections on to the very address that was asked for. Here a headless Service’s address stands for all of its servers, and its cluster chooses one; connections to addresses of others are not intercepted, and where a `Host` names them, requests go to the service whose address was asked for.',
    is: ({ name, cluster, route, original }) =>
      asString(cluster?.type) === 'ORIGINAL_DST' || original.has(decorated(route)) || original.has(hostOf(name)),
  },
  {
    code: 'many-services',
    why: 'In a mesh of many services, each listener here knows the names of its own service only (a warning of `check` says so): a request that goes to one service’s address with the name of another goes to the former.',
    is: ({ crowded, what, name, host, ours }) =>
      crowded &&
      (what === 'route' || what === 'decision') &&
      host !== undefined &&
      !isNameOf(hostOf(name), host) &&
      JSON.stringify(ours).includes(`|${hostOf(name)}`),
  },
  {
    code: 'duplicate-host',
    why: 'Of several ServiceEntries for one host the first counts (a warning of `check` says so), also where they are in different namespaces; istiod chooses by what the client sees.',
    is: ({ name, host, twice }) => twice.has(hostOf(name)) || twice.has(host ?? ''),
  },
  {
    code: 'specification',
    why: 'Where istiod departs from the text of the Gateway API, the text is followed: of a redirect, the scheme’s own port is meant where none is given, and port 80 is 80; replacing the prefix `/` leaves the slash that follows it, and replacing one by `/` makes no second one; a BackendTLSPolicy’s hostname is verified, not only asked for.',
    is: ({ what, field, ours, theirs }) =>
      (what !== 'cluster' && departs(asObject(ours as Json) ?? {}, asObject(theirs as Json) ?? {})) ||
      (field === 'tls' &&
        /match_typed_subject_alt_names/.test(JSON.stringify(ours)) &&
        !/match_typed_subject_alt_names/.test(JSON.stringify(theirs)) &&
        asObject(ours as Json)?.sni === asObject(theirs as Json)?.sni),
  },
  {
    code: 'grpc',
    why: 'GRPCRoutes follow the specification: the order of their matches (services, then methods, then headers, where istiod compares whole paths), names of methods taken as they are, and calls without a backend answered UNAVAILABLE (istiod: 500).',
    is: ({ grpc }) => grpc === true,
  },
  {
    code: 'not-programmed',
    why: 'Gateways of the Gateway API that istiod does not program: those with several addresses, or one that is no IP address, none of which names a Service that is there, and ports all of whose listeners have names that another listener has, too (which the API server refuses). Here their HTTP listeners count.',
    is: ({ what, theirs, unprogrammed }) => what === 'listener' && theirs === 'none' && unprogrammed !== undefined,
  },
  {
    code: 'waypoint',
    why: 'AuthorizationPolicies that are attached to a Service or ServiceEntry (`targetRefs`) count at waypoints under Istio, which are not compared; here they are enforced on the way to the servers. Meant is only that a request is refused which would come to a service with such a policy.',
    is: ({ attached, what, ours, theirs }) => {
      const [refused, led] = [asObject(ours as Json), asObject(theirs as Json)?.clusters];
      if (what !== 'decision' || refused?.status !== 403 || refused.body !== 'RBAC: access denied') return false;
      // each of a route's clusters that is refused has such a policy
      return Array.isArray(led) && led.some((cluster) => attached.has(hostOf(asString(cluster).replace(/ .*$/, ''))));
    },
  },
  {
    code: 'not-imported',
    why: 'Clusters of services that a Sidecar hides are there, but no route leads to them.',
    is: ({ what, theirs }) => what === 'hidden' && theirs === 'not there',
  },
];

/** The kind of a difference that is meant, if it is one. */
export const knownCode = (seen: Seen): string | undefined => KNOWN.find((k) => k.is(seen))?.code;
