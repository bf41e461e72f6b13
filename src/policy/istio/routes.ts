/** One HTTP rule of a VirtualService -> Envoy routes for one port (pilot/pkg/networking/core/route/route.go). */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path, RuleBuilder } from './context.js';
import type { DestinationRules } from './destination-rules.js';
import { envoyDuration } from './duration.js';
import { clusterName, gatewayName, MESH, resolveHost } from './hosts.js';
import type { Registry } from './registry.js';
import { appendHeaderFields, headerOperations } from './route-headers.js';
import { isCatchAll, routeMatch } from './route-match.js';
import {
  CORS_FILTER,
  copies,
  corsConfig,
  FAULT_FILTER,
  faultConfig,
  hashPolicy,
  mirrors,
  retryPolicy,
} from './route-policies.js';
import type { Destination, HttpMatch, HttpRoute, Redirect, RouteDestination } from './schema/virtual-service.js';

export interface RouteInput {
  readonly context: Context;
  readonly registry: Registry;
  readonly destinationRules: DestinationRules;
}

/** One rule of a VirtualService (for delegated ones, of the delegate) with the source rule that stands for it. */
export interface HttpRule {
  readonly document: Document;
  readonly path: Path;
  readonly route: HttpRoute;
  readonly rule: RuleBuilder;
  /** the rule that delegated to this one */
  readonly delegating?: RuleBuilder;
}

/** Where clients of a rule come from. */
export interface From {
  /** the port of the service or gateway that they connect to */
  readonly port: number;
  readonly audience: Audience;
  /** of a service with one port that one is meant, whoever asks */
  readonly single?: boolean;
}

/**
 * The cluster that a destination means. Without a port it is the one that clients connect to: a sidecar looks at no others
 * of a service, even if it has only one. Gateways take that one.
 */
export function destinationCluster(
  input: Pick<RouteInput, 'context' | 'registry'>,
  document: Document,
  destination: Destination,
  path: Path,
  from: From,
): string {
  const { context } = input;
  const host = resolveHost(destination.host.toLowerCase(), document.namespace, context.domain);
  const service = input.registry.get(host);
  const single = service?.ports.length === 1 ? service.ports[0]?.number : undefined;
  const only = from.single || from.audience.gateways.length > 0 || service?.assumed ? single : undefined;
  const port = destination.port?.number ?? only ?? from.port;
  if (service && !service.assumed && !service.ports.some((p) => p.number === port)) {
    const ports = service.ports.map((p) => p.number).join(', ');
    const hint = destination.port
      ? undefined
      : `name its port (${ports}): the default is the one that clients connect to`;
    context.warn(document, path, 'unknown-port', `${host} has no port ${port}: requests are answered 503`, hint);
  }
  return clusterName(port, destination.subset ?? '', host);
}

function destinationHash(input: RouteInput, document: Document, destination: Destination): JsonObject | undefined {
  const host = resolveHost(destination.host.toLowerCase(), document.namespace, input.context.domain);
  const namespace = input.registry.get(host)?.namespace ?? document.namespace;
  return hashPolicy(input.destinationRules.hash(host, namespace, destination.port?.number, destination.subset ?? ''));
}

function redirectAction(redirect: Redirect, listenPort: number): JsonObject {
  const out: JsonObject = {};
  if (redirect.authority) out.host_redirect = redirect.authority;
  if (redirect.prefixRewrite) out.prefix_rewrite = redirect.prefixRewrite;
  else if (redirect.uri) out.path_redirect = redirect.uri;
  if (redirect.scheme) out.scheme_redirect = redirect.scheme;
  const port = redirect.derivePort === 'FROM_REQUEST_PORT' ? listenPort : redirect.port;
  // The scheme's own port is not written out.
  const usual = { http: 80, https: 443 }[redirect.scheme || 'http'];
  if (port !== undefined && port !== usual) out.port_redirect = port;
  const codes: Record<number, string> = {
    302: 'FOUND',
    303: 'SEE_OTHER',
    307: 'TEMPORARY_REDIRECT',
    308: 'PERMANENT_REDIRECT',
  };
  out.response_code = codes[redirect.redirectCode ?? 301] ?? 'MOVED_PERMANENTLY';
  return out;
}

function setDestinations(
  input: RouteInput,
  http: HttpRule,
  destinations: readonly RouteDestination[],
  from: From,
  out: JsonObject,
  action: JsonObject,
): boolean {
  const { context } = input;
  const { document } = http;
  const hashes: JsonObject[] = [];
  const [only] = destinations;
  if (only && destinations.length === 1) {
    action.cluster = destinationCluster(
      input,
      document,
      only.destination,
      [...http.path, 'route', 0, 'destination'],
      from,
    );
    context.origin(action, document, [...http.path, 'route', 0, 'destination'], 'cluster');
    const { fields, authority } = headerOperations(only.headers);
    appendHeaderFields(out, fields);
    if (authority && action.host_rewrite_literal === undefined) action.host_rewrite_literal = authority;
    const hash = destinationHash(input, document, only.destination);
    if (hash) hashes.push(hash);
  } else {
    const clusters: JsonObject[] = [];
    destinations.forEach((destination, index) => {
      // Istio drops destinations without weight if there are others.
      if (!destination.weight) return;
      const { fields, authority } = headerOperations(destination.headers);
      const weighted: JsonObject = {
        name: destinationCluster(
          input,
          document,
          destination.destination,
          [...http.path, 'route', index, 'destination'],
          from,
        ),
        weight: destination.weight,
        ...fields,
        ...(authority ? { host_rewrite_literal: authority } : {}),
      };
      clusters.push(context.origin(weighted, document, [...http.path, 'route', index]));
      const hash = destinationHash(input, document, destination.destination);
      if (hash) hashes.push(hash);
    });
    action.weighted_clusters = { clusters };
    context.origin(action, document, [...http.path, 'route'], 'weighted_clusters');
  }
  if (hashes.length > 0) action.hash_policy = hashes;
  return destinations.length === 1 && hashes.length > 0;
}

function forward(input: RouteInput, http: HttpRule, from: From, out: JsonObject, hostEdit: string): JsonObject {
  const { context } = input;
  const { document, route, path } = http;
  const action: JsonObject = {};
  const timeout = envoyDuration(route.timeout ?? '0s');
  action.timeout = timeout;
  action.max_grpc_timeout = timeout;
  if (route.timeout) context.origin(action, document, [...path, 'timeout'], 'timeout');
  let authority = hostEdit;
  const { rewrite } = route;
  if (rewrite) {
    if (rewrite.uriRegexRewrite) {
      action.regex_rewrite = {
        pattern: { regex: rewrite.uriRegexRewrite.match ?? '' },
        substitution: rewrite.uriRegexRewrite.rewrite ?? '',
      };
    } else if (rewrite.uri) action.prefix_rewrite = rewrite.uri;
    if (rewrite.authority) authority = rewrite.authority;
    for (const key of ['regex_rewrite', 'prefix_rewrite', 'host_rewrite_literal'])
      context.origin(action, document, [...path, 'rewrite'], key);
  }
  if (authority) action.host_rewrite_literal = authority;
  const mirrored = mirrors(route).map((mirror) => {
    const at = [...path, ...mirror.path];
    const cluster = destinationCluster(input, document, mirror.destination, at, from);
    return context.origin(copies(cluster, mirror.fraction), document, at);
  });
  if (mirrored.length > 0) action.request_mirror_policies = mirrored;
  const consistentHash = setDestinations(input, http, route.route ?? [], from, out, action);
  const retry = retryPolicy(route.retries, consistentHash);
  if (retry) action.retry_policy = retry;
  if (route.retries) context.origin(action, document, [...path, 'retries'], 'retry_policy');
  return action;
}

/** The route for one match of a rule (undefined: a rule without matches), or undefined if it is not for these clients. */
function buildRoute(
  input: RouteInput,
  http: HttpRule,
  match: HttpMatch | undefined,
  index: number,
  listenPort: number,
  audience: Audience,
): JsonObject | undefined {
  const { context } = input;
  const { document, route, path } = http;
  if (match?.port !== undefined && match.port !== listenPort) return undefined;
  if (match && !fromHere(audience, match, document)) return undefined;
  const matchPath = match ? [...path, 'match', index] : path;
  const out: JsonObject = {};
  const name = [route.name, match?.name].filter((n) => n).join('.');
  if (name) out.name = name;
  out.match = routeMatch(context, document, match, matchPath);
  if (match?.statPrefix) out.stat_prefix = match.statPrefix;
  const { fields, authority } = headerOperations(route.headers);
  Object.assign(out, fields);
  for (const key of Object.keys(fields)) context.origin(out, document, [...path, 'headers'], key);
  if (route.redirect) {
    out.redirect = redirectAction(route.redirect, listenPort);
    context.origin(out, document, [...path, 'redirect'], 'redirect');
  } else if (route.directResponse) {
    const { status, body } = route.directResponse;
    const content =
      body?.string !== undefined
        ? { inline_string: body.string }
        : body?.bytes !== undefined
          ? { inline_bytes: body.bytes }
          : undefined;
    out.direct_response = { status, ...(content ? { body: content } : {}) };
    context.origin(out, document, [...path, 'directResponse'], 'direct_response');
  } else out.route = forward(input, http, { port: listenPort, audience }, out, authority);
  const filters: JsonObject = {};
  const fault = route.fault ? faultConfig(route.fault) : undefined;
  if (fault) filters[FAULT_FILTER] = context.origin(fault, document, [...path, 'fault']);
  if (route.corsPolicy)
    filters[CORS_FILTER] = context.origin(corsConfig(route.corsPolicy), document, [...path, 'corsPolicy']);
  if (Object.keys(filters).length > 0) out.typed_per_filter_config = filters;
  return context.origin(out, document, matchPath);
}

/** Whose requests routes are made for: those of the mesh's clients, or those that a gateway receives. */
export interface Audience {
  /** names (`namespace/name`) of the gateway's documents; none: the mesh */
  readonly gateways: readonly string[];
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

export const meshClients = (context: Context): Audience => ({
  gateways: [],
  namespace: context.namespace,
  labels: context.labels,
});

/** What matches of all protocols say of clients. */
type ClientMatch = Pick<HttpMatch, 'gateways' | 'sourceLabels' | 'sourceNamespace'>;

/** True if a match is about this audience. */
export function fromHere(audience: Audience, match: ClientMatch, document: Document): boolean {
  if (match.gateways && match.gateways.length > 0) {
    const names = match.gateways.map((name) => gatewayName(name, document.namespace));
    return audience.gateways.length === 0
      ? names.includes(MESH)
      : names.some((name) => audience.gateways.includes(name));
  }
  const labels = Object.entries(match.sourceLabels ?? {});
  if (!labels.every(([key, value]) => audience.labels[key] === value)) return false;
  return !match.sourceNamespace || match.sourceNamespace === audience.namespace;
}

/** Says that a match counts for other clients than those of this translation. */
export function explainSkipped(
  input: Pick<RouteInput, 'context'>,
  http: Pick<HttpRule, 'document' | 'path' | 'rule'>,
  match: ClientMatch,
  index: number,
  audience: Audience,
): void {
  const { context } = input;
  // a match for gateways is carried out there
  if (match.gateways && match.gateways.length > 0) return;
  if (fromHere(audience, match, http.document)) return;
  const path = [...http.path, 'match', index, match.sourceLabels ? 'sourceLabels' : 'sourceNamespace'];
  const namespace = match.sourceNamespace || context.namespace;
  const labels = match.sourceLabels ?? {};
  const message = `counts only for clients of namespace ${namespace}${match.sourceLabels ? ' with the labels of sourceLabels' : ''}`;
  // a gateway is what it is: other clients make no difference there
  if (audience.gateways.length > 0) context.unsupported(http.rule, path, 'source-match', message);
  else context.elsewhere(http.rule, path, message, { namespace, labels });
}

/**
 * The routes that the rules of one VirtualService give the clients of one port, in order. What follows a route that
 * matches everything is dropped, as istiod does.
 *
 * @param listenPort the port of the service or gateway that clients connect to
 */
export function buildRoutes(
  input: RouteInput,
  rules: readonly HttpRule[],
  listenPort: number,
  audience: Audience = meshClients(input.context),
): JsonObject[] {
  const { context } = input;
  const out: JsonObject[] = [];
  for (const [position, http] of rules.entries()) {
    const matches = http.route.match ?? [];
    let catchAll = false;
    for (const [index, match] of (matches.length > 0 ? matches : [undefined]).entries()) {
      if (match && (match.sourceLabels || match.sourceNamespace)) explainSkipped(input, http, match, index, audience);
      const route = buildRoute(input, http, match, index, listenPort, audience);
      if (!route) continue;
      out.push(route);
      http.rule.objects.push(route);
      http.delegating?.objects.push(route);
      catchAll = isCatchAll(route.match as JsonObject);
      if (catchAll) break;
    }
    if (!catchAll) continue;
    for (const rest of rules.slice(position + 1)) {
      const message = `never reached: rule ${http.rule.rule} before it matches every request`;
      context.warn(rest.document, rest.path, 'unreachable-route', message);
    }
    break;
  }
  return out;
}

/** The route of a service that no VirtualService speaks of. */
export function defaultRoute(input: RouteInput, host: string, namespace: string, port: number): JsonObject {
  const hash = hashPolicy(input.destinationRules.effective(host, namespace, port, '').loadBalancer?.consistentHash);
  const retry = retryPolicy(undefined, false);
  return {
    name: 'default',
    match: { prefix: '/' },
    route: {
      cluster: clusterName(port, '', host),
      timeout: '0s',
      max_grpc_timeout: '0s',
      ...(hash ? { hash_policy: [hash] } : {}),
      ...(retry ? { retry_policy: retry } : {}),
    },
  };
}
