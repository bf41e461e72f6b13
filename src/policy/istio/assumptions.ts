/**
 * Services that documents speak of but none describes. A folder of policies alone is still to be checked and explained,
 * so such a service is assumed to exist, without address and endpoints: nothing is intercepted for it, and requests that
 * other services' routes send there are answered 503, as with Istio.
 */
import type { Document } from '../documents.js';
import { policyTargets } from './authorization.js';
import type { Context } from './context.js';
import type { DestinationRules } from './destination-rules.js';
import { isGatewaySelector } from './gateway-labels.js';
import { hostMatches } from './hosts.js';
import type { Typed } from './kubernetes-services.js';
import { entryServices, isHttp, labelsMatch, type Registry, type Service, type ServicePort } from './registry.js';
import type { AuthorizationPolicy } from './schema/authorization-policy.js';
import type { EnvoyFilter } from './schema/extensions.js';
import type { VirtualServices } from './virtual-services.js';

/** The port that is assumed where no document names one. */
const ASSUMED_PORT = 80;

/** A host, or a host and port of it, that a document speaks of. */
export interface HostMention {
  readonly host: string;
  readonly port?: number;
  readonly subset?: string;
  /** it is about connections */
  readonly tcp?: true;
  readonly document: Document;
  readonly path: readonly (string | number)[];
}

interface Mention {
  readonly document: Document;
  readonly path: readonly (string | number)[];
  readonly ports: Set<number>;
  /** nobody but GRPCRoutes speaks of it */
  grpc?: boolean;
  /** ports of connections; undefined: nobody speaks of such */
  tcp?: Set<number>;
  /** somebody speaks of requests */
  http?: boolean;
}

export function assumedService(
  host: string,
  document: Document,
  path: Service['path'],
  ports: Iterable<number>,
  selector: Service['selector'] = {},
  protocol: 'http' | 'http2' | 'tcp' = 'http',
): Service {
  const numbers = [...ports];
  return {
    host,
    namespace: /^[^.]+\.([^.]+)\.svc\./.exec(host)?.[1] ?? document.namespace,
    ports: (numbers.length > 0 ? numbers : [ASSUMED_PORT])
      .sort((a, b) => a - b)
      .map((number): ServicePort => ({ number, name: protocol, protocol })),
    addresses: [],
    resolution: 'static',
    external: false,
    headless: false,
    selector,
    endpoints: [],
    assumed: true,
    exportTo: ['*'],
    document,
    path,
  };
}

/** Adds a service for every host that routes and DestinationRules mention and the registry lacks. */
export function assumeServices(
  context: Context,
  registry: Registry,
  spoken: Iterable<HostMention>,
  rules: DestinationRules,
): void {
  const mentions = new Map<string, Mention>();
  for (const { host, port, document, path, tcp } of spoken) {
    const service = registry.get(host);
    if (service) continue;
    if (host.startsWith('*') && registry.all().some((s) => hostMatches(host, s.host))) continue;
    let mention = mentions.get(host);
    if (!mention) {
      mention = { document, path, ports: new Set(), grpc: true };
      mentions.set(host, mention);
    }
    if (tcp) {
      mention.tcp ??= new Set();
      if (port !== undefined) mention.tcp.add(port);
      continue;
    }
    mention.http = true;
    if (document.kind !== 'GRPCRoute') mention.grpc = false;
    if (port !== undefined) mention.ports.add(port);
  }
  for (const { host, policy, subsets } of rules.hosts()) {
    const covers = (name: string) => hostMatches(host, name);
    if (host === '*' || registry.all().some((s) => covers(s.host)) || [...mentions.keys()].some(covers)) continue;
    const source = policy ?? subsets.find((s) => s.policy)?.policy;
    if (!source) continue;
    mentions.set(host, {
      document: source.document,
      http: true,
      path: ['spec', 'host'],
      ports: new Set([ASSUMED_PORT, ...(policy?.byPort.keys() ?? [])]),
    });
  }
  for (const [host, mention] of mentions) {
    const { document, path, ports, tcp } = mention;
    const protocol = mention.grpc ? 'http2' : 'http';
    const service =
      tcp && !mention.http
        ? assumedService(host, document, path, tcp, {}, 'tcp')
        : assumedService(host, document, path, ports, {}, protocol);
    const more = [...(tcp && mention.http ? tcp : [])].filter((n) => !service.ports.some((p) => p.number === n));
    registry.add({
      ...service,
      ports: [...service.ports, ...more.map((number): ServicePort => ({ number, name: 'tcp', protocol: 'tcp' }))],
    });
    const [name, namespace, ...rest] = host.split('.');
    const full = rest.length === 0 && namespace ? `${name}.${namespace}.svc.${context.domain}` : undefined;
    const hint = full && registry.get(full) ? `Istio does not complete names with a dot: write ${full}` : undefined;
    const message = `no Service or ServiceEntry describes ${host}: its traffic is not intercepted`;
    context.warn(mention.document, mention.path, 'unknown-service', message, hint);
  }
}

const PORT_KEYS = new Set(['destination.port']);

/** The ports that a policy speaks of. */
function policyPorts(spec: Pick<AuthorizationPolicy, 'rules'>): number[] {
  const ports = (spec.rules ?? []).flatMap((rule) => [
    ...(rule.to ?? []).flatMap((to) => to.operation?.ports ?? []),
    ...(rule.when ?? []).flatMap((when) => (PORT_KEYS.has(when.key) ? (when.values ?? []) : [])),
  ]);
  return ports.map(Number).filter((port) => port > 0 && port <= 65535);
}

/** An address for documentation (RFC 5737): nobody answers there. */
const NOBODY = '192.0.2.1';

/** Gives services without servers one that nobody has, so that what is said about them can be judged. */
export function assumeEndpoints(registry: Registry): void {
  for (const service of registry.all()) {
    if (service.endpoints.length > 0 || service.resolution !== 'static') continue;
    service.endpoints.push({
      address: NOBODY,
      ports: new Map(service.ports.map((p) => [p.number, typeof p.targetPort === 'number' ? p.targetPort : p.number])),
      labels: service.selector,
      labelsKnown: false,
      document: service.document,
      path: service.path,
    });
  }
}

/** Adds a service for every policy that would protect one if the documents described it. */
export function assumeProtected(
  context: Context,
  registry: Registry,
  policies: readonly Typed<Pick<AuthorizationPolicy, 'rules' | 'selector' | 'targetRef' | 'targetRefs'>>[],
): void {
  for (const { document, spec } of policies) {
    const targets = policyTargets(spec);
    for (const { kind, name } of targets) {
      const entry = kind === 'ServiceEntry';
      if (kind !== 'Service' && !entry) continue;
      const host = entry ? name.toLowerCase() : `${name}.${document.namespace}.svc.${context.domain}`;
      if (entry ? entryServices(registry.all(), document.namespace, name).length > 0 : registry.get(host)) continue;
      const path = ['spec', spec.targetRef ? 'targetRef' : 'targetRefs'];
      registry.add(assumedService(host, document, path, policyPorts(spec)));
      context.warn(document, path, 'unknown-service', `no ${kind} describes ${host}: its traffic is not intercepted`);
    }
    if (targets.length > 0) continue;
    const wanted = spec.selector?.matchLabels ?? {};
    if (isGatewaySelector(wanted)) continue;
    const { namespace } = document;
    const everywhere = namespace === context.rootNamespace;
    const may = (service: Service) =>
      !service.external &&
      // one that is assumed for connections alone is nobody whom requests are sent to
      (!service.assumed || service.ports.some((port) => isHttp(port.protocol))) &&
      (everywhere || service.namespace === namespace) &&
      (service.endpoints.some((e) => labelsMatch(wanted, e.labels)) ||
        // of a service that is only assumed no server has labels that nobody spoke of
        (service.assumed
          ? labelsMatch(wanted, service.selector)
          : !(service.endpoints.length > 0 && service.endpoints.every((e) => e.labelsKnown)) &&
            Object.entries(wanted).every(([key, value]) => (service.selector[key] ?? value) === value)));
    if (registry.all().some(may)) continue;
    const name =
      wanted.app ?? wanted['app.kubernetes.io/name'] ?? wanted['k8s-app'] ?? Object.values(wanted)[0] ?? 'any-service';
    const ports = new Set(policyPorts(spec));
    const add = (host: string) =>
      registry.add(
        assumedService(`${host}.${namespace}.svc.${context.domain}`, document, ['spec', 'selector'], ports, wanted),
      );
    if (!add(name.toLowerCase()) && !add(`${name.toLowerCase()}-selected`)) continue;
    const message = 'no Service describes servers that it selects: nothing is intercepted for them';
    context.warn(document, ['spec', 'selector'], 'unknown-service', message);
  }
}

/** A port that stands at the end of a name, as in `reviews.default.svc.cluster.local:80`. */
const NAMED = /^([^:]+):(\d{1,5})$/;

/** A cluster of a service's, as istiod names them. */
const CLUSTER = /^outbound\|(\d{1,5})\|\|([^|]+)$/;

/** Adds the services whose clusters the configuration of a patch names. */
function assumeClusters(context: Context, registry: Registry, document: Document, index: number, value: unknown): void {
  if (Array.isArray(value)) for (const item of value) assumeClusters(context, registry, document, index, item);
  else if (value !== null && typeof value === 'object') {
    for (const [key, child] of Object.entries(value)) {
      const [, port, host] = (/^cluster(_name)?$/.test(key) && CLUSTER.exec(String(child))) || [];
      if (host === undefined) assumeClusters(context, registry, document, index, child);
      else if (!registry.get(host.toLowerCase())) {
        const path = ['spec', 'configPatches', index, 'patch', 'value'];
        registry.add(assumedService(host.toLowerCase(), document, path, [Number(port)]));
        context.warn(document, path, 'unknown-service', `no Service describes ${host}: its traffic is not intercepted`);
      }
    }
  }
}

/** Adds the services that patches for clients name; where clients have none at all, one that stands for any. */
export function assumePatched(context: Context, registry: Registry, filters: readonly Typed<EnvoyFilter>[]): void {
  const any = () => registry.all().some((service) => service.ports.some((port) => isHttp(port.protocol)));
  for (const { document, spec } of filters) {
    for (const [index, { match, patch }] of (spec.configPatches ?? []).entries()) {
      assumeClusters(context, registry, document, index, patch?.value);
      const side = match?.context ?? 'ANY';
      const gateway = isGatewaySelector(spec.workloadSelector?.labels ?? {}) || (spec.targetRefs ?? []).length > 0;
      if (side !== 'SIDECAR_OUTBOUND' && (side !== 'ANY' || gateway)) continue;
      const path = ['spec', 'configPatches', index, 'match'];
      const { routeConfiguration: routes, listener, cluster } = match ?? {};
      const [, vhost, port] = NAMED.exec(routes?.vhost?.name ?? '') ?? [];
      const named = vhost ?? cluster?.service;
      const number = Number(port ?? routes?.portNumber ?? listener?.portNumber ?? cluster?.portNumber ?? ASSUMED_PORT);
      if (named === undefined ? any() : registry.get(named.toLowerCase())) continue;
      const host = named?.toLowerCase() ?? `any-service.${document.namespace}.svc.${context.domain}`;
      registry.add(assumedService(host, document, path, [number]));
      context.warn(document, path, 'unknown-service', `no Service describes ${host}: its traffic is not intercepted`);
    }
  }
}

/** The gateways that patches are for, as `assumeProtected` takes what policies select. */
export function gatewaysOfPatches(filters: readonly Typed<EnvoyFilter>[]): Typed<{
  selector: { matchLabels: Record<string, string> };
}>[] {
  return filters.flatMap(({ document, spec }) => {
    const labels = spec.workloadSelector?.labels;
    const contexts = new Set((spec.configPatches ?? []).map(({ match }) => match?.context ?? 'ANY'));
    const meant = contexts.has('GATEWAY') || (contexts.has('ANY') && isGatewaySelector(labels ?? {}));
    if (!meant || spec.targetRefs?.length) return [];
    return [{ document, spec: { selector: { matchLabels: labels ?? { istio: 'ingressgateway' } } } }];
  });
}

/** Warns of subsets that routes name and no DestinationRule defines. */
export function checkSubsets(
  context: Context,
  registry: Registry,
  virtualServices: VirtualServices,
  rules: DestinationRules,
): void {
  for (const { host, subset, document, path } of virtualServices.mentions()) {
    const service = registry.get(host);
    if (!service || !subset || rules.subsets(host, service.namespace).has(subset)) continue;
    const known = [...rules.subsets(host, service.namespace).keys()];
    const hint = known.length > 0 ? `there are ${known.join(', ')}` : 'a DestinationRule defines subsets';
    context.warn(
      document,
      [...path, 'subset'],
      'unknown-subset',
      `${host} has no subset "${subset}": requests are answered 503`,
      hint,
    );
  }
}
