/** Which VirtualService speaks for which host, and the routes that it gives each port. */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import { ConnectionRoutes } from './connection-routes.js';
import type { Context, Path } from './context.js';
import { expandDelegates } from './delegates.js';
import { gatewayName, hostMatches, MESH, resolveHost } from './hosts.js';
import { audienceOf, exportTo, metadata, type Typed, visible } from './kubernetes-services.js';
import { isHttp, type Service } from './registry.js';
import { buildRoutes, type HttpRule, type RouteInput } from './routes.js';
import type { HttpRoute, VirtualService } from './schema/virtual-service.js';
import { type Sidecars, UNIMPORTED } from './sidecars.js';
import { TlsRoutes } from './tls-routes.js';

interface Bound {
  readonly document: Document;
  readonly hosts: readonly string[];
  readonly rules: readonly HttpRule[];
  readonly routes: Map<number, JsonObject[]>;
}

/** A VirtualService that is bound to gateways. */
export interface GatewayBound {
  readonly document: Document;
  readonly hosts: readonly string[];
  readonly rules: readonly HttpRule[];
  /** `namespace/name` of the gateways */
  readonly gateways: readonly string[];
  readonly exportTo: readonly string[];
}

function created(document: Document): string {
  const value = metadata(document).creationTimestamp;
  return typeof value === 'string' ? value : '';
}

/** Oldest first, then by name and namespace, as istiod orders what may conflict. */
export function byAge(a: { document: Document }, b: { document: Document }): number {
  const key = ({ document }: { document: Document }) =>
    [created(document), `${document.name}.${document.namespace}`] as const;
  const [ageA, nameA] = key(a);
  const [ageB, nameB] = key(b);
  if (ageA !== ageB) return ageA < ageB ? -1 : 1;
  return nameA < nameB ? -1 : nameA > nameB ? 1 : 0;
}

/** Sums that look as if percentages were meant; 1 and 1, or 9 and 1, are proportions and meant so. */
const LOOKS_LIKE_PERCENT = { least: 50, most: 200 };

/** Weights are proportions: who writes 90 and 20 may have meant something else. */
function weights(context: Context, document: Document, path: Path, { route = [] }: HttpRoute): void {
  const sum = route.reduce((total, { weight = 0 }) => total + weight, 0);
  if (route.length < 2 || sum === 100 || sum < LOOKS_LIKE_PERCENT.least || sum > LOOKS_LIKE_PERCENT.most) return;
  const shares = route.map(({ weight = 0 }) => `${Number(((100 * weight) / sum).toFixed(1))}%`);
  const message = `the weights add up to ${sum}, not 100: the shares are ${shares.join(', ')}`;
  context.warn(document, [...path, 'route'], 'weights', message);
}

/** The VirtualServices: those that are visible to the mesh's clients, and those that are bound to gateways. */
export class VirtualServices {
  readonly #bound: Bound[] = [];
  /** in the order in which they count */
  readonly atGateways: GatewayBound[] = [];
  /** what they say of connections */
  readonly connections: ConnectionRoutes;
  readonly hellos: TlsRoutes;
  readonly #delegates = new Map<string, HttpRule[]>();
  readonly #context: Context;
  readonly #sidecars: Sidecars;

  constructor(context: Context, documents: readonly Typed<VirtualService>[], sidecars: Sidecars) {
    this.#context = context;
    this.#sidecars = sidecars;
    this.hellos = new TlsRoutes(context, [...documents].sort(byAge), sidecars, 'tls');
    this.connections = new ConnectionRoutes(context, [...documents].sort(byAge), sidecars);
    const read = [...documents]
      .sort(byAge)
      .map(({ document, spec }) => ({ document, spec, rules: this.#rules(document, spec) }));
    for (const { document, spec, rules } of read) {
      if (!spec.hosts?.length) this.#delegates.set(`${document.namespace}/${document.name}`, rules);
    }
    for (const { document, spec, rules } of read) this.#bind(document, spec, rules);
    for (const { document, spec, rules } of read) {
      if (spec.hosts?.length) continue;
      const bound = [...this.#bound, ...this.atGateways].flatMap((b) => b.rules.map((http) => http.rule));
      const unused = rules.filter(({ rule }) => rule.unsupported.length === 0 && !bound.includes(rule));
      if (unused.length === 0) continue;
      if (context.assumeEndpoints) {
        // somebody delegates to it whom no document describes
        const host = `any-host.${document.namespace}.svc.${context.domain}`;
        const message = `names no host, and no rule of the files delegates to it: it is judged as if one for ${host} did`;
        context.warn(document, ['spec', 'hosts'], 'assumed-root', message);
        this.#bind(document, { ...spec, hosts: [host] }, unused);
      } else
        for (const { rule } of unused)
          context.unsupported(rule, ['spec', 'hosts'], 'no-host', 'names no host, and no rule delegates to it');
    }
  }

  #rules(document: Document, spec: VirtualService): HttpRule[] {
    const context = this.#context;
    return (spec.http ?? []).map((route, index): HttpRule => {
      const path = ['spec', 'http', index];
      weights(context, document, path, route);
      return { document, path, route, rule: context.rule(document, path, `http[${index}]`) };
    });
  }

  #bind(document: Document, spec: VirtualService, own: readonly HttpRule[]): void {
    const context = this.#context;
    if (!spec.hosts?.length) return;
    const gateways = (spec.gateways ?? []).map((name) => gatewayName(name, document.namespace));
    const others = gateways.filter((name) => name !== MESH);
    const mesh = gateways.length === 0 || gateways.includes(MESH);
    const exported = exportTo(spec.exportTo, document.namespace);
    const shown = mesh && visible(exported, context.namespace);
    const unseen = (code: string, field: string, message: string) => {
      const audience = audienceOf(exported, document.namespace);
      for (const { rule } of own) context.unseen(rule, ['spec', field], code, message, audience);
    };
    if (mesh && !shown && others.length === 0) {
      unseen('not-exported', 'exportTo', `not exported to namespace ${context.namespace}`);
      return;
    }
    const resolved = spec.hosts.map((host) => resolveHost(host.toLowerCase(), document.namespace, context.domain));
    const imported = resolved.some((host) => this.#sidecars.imports(document.namespace, host));
    const seen = shown && imported;
    if (shown && !imported && others.length === 0) {
      unseen('sidecar', 'hosts', UNIMPORTED);
      return;
    }
    if (mesh && resolved.includes('*')) {
      const hint = 'name the services, or bind it to a gateway';
      const message = 'the host * is not allowed for the mesh';
      context.error(document, ['spec', 'hosts', resolved.indexOf('*')], 'invalid-value', message, hint);
    }
    const rules = expandDelegates(context, own, (namespace, name) => this.#delegates.get(`${namespace}/${name}`));
    if (rules.length === 0) return;
    const hosts = resolved.filter((host) => host !== '*');
    if (seen && hosts.length > 0) this.#bound.push({ document, hosts, rules, routes: new Map() });
    if (others.length > 0)
      this.atGateways.push({ document, hosts: resolved, rules, gateways: others, exportTo: exported });
  }

  /** The gateways that VirtualServices are bound to, with the ports that matches ask for. */
  *gatewayMentions(): Iterable<{ name: string; document: Document; path: Path; ports: Set<number> }> {
    const found = new Map<string, { name: string; document: Document; path: Path; ports: Set<number> }>();
    for (const { document, rules, gateways } of this.atGateways) {
      const ports = rules.flatMap((http) => (http.route.match ?? []).flatMap((match) => match.port ?? []));
      for (const name of gateways) {
        const known = found.get(name);
        if (known) for (const port of ports) known.ports.add(port);
        else found.set(name, { name, document, path: ['spec', 'gateways'], ports: new Set(ports) });
      }
    }
    yield* found.values();
  }

  /** Gives reasons to the rules of VirtualServices that are bound to gateways that nothing describes, and to no other. */
  explainUnknownGateways(known: (name: string) => boolean): void {
    const meshed = new Set(this.#bound.map((bound) => bound.document));
    for (const bound of this.atGateways) {
      const { rules, gateways } = bound;
      for (const { rule, route, path, document } of rules) {
        route.match?.forEach((match, index) => {
          const names = (match.gateways ?? []).map((name) => gatewayName(name, document.namespace));
          if (names.length === 0 || names.some((name) => name === MESH || known(name))) return;
          const message = `only for gateway ${names.join(', ')}, which no document describes`;
          this.#context.unsupported(rule, [...path, 'match', index, 'gateways'], 'gateway', message);
        });
      }
      if (gateways.some(known) || meshed.has(bound.document)) continue;
      const message = `no document describes gateway ${gateways.join(', ')}: nothing is intercepted for it`;
      for (const { rule } of rules) this.#context.unsupported(rule, ['spec', 'gateways'], 'gateway', message);
    }
  }

  /** Hosts, and hosts and ports of destinations, that the bound VirtualServices speak of. */
  *mentions(): Iterable<{
    host: string;
    port?: number;
    subset?: string;
    document: Document;
    path: (string | number)[];
    tcp?: true;
  }> {
    const { domain } = this.#context;
    yield* this.connections.mentions();
    yield* this.hellos.mentions();
    const meshed = new Set(this.#bound.map((bound) => bound.document));
    const gatewayOnly = this.atGateways.filter((bound) => !meshed.has(bound.document));
    for (const bound of [...this.#bound, ...gatewayOnly]) {
      for (const http of bound.rules) {
        const { route, document } = http;
        const all = [
          ...(route.route ?? []).map((r, i) => ({ d: r.destination, path: ['route', i, 'destination'] })),
          ...(route.mirror ? [{ d: route.mirror, path: ['mirror'] }] : []),
          ...(route.mirrors ?? []).map((m, i) => ({ d: m.destination, path: ['mirrors', i, 'destination'] })),
        ];
        for (const { d, path } of all) {
          yield {
            host: resolveHost(d.host.toLowerCase(), document.namespace, domain),
            ...(d.port?.number ? { port: d.port.number } : {}),
            ...(d.subset ? { subset: d.subset } : {}),
            document,
            path: [...http.path, ...path],
          };
        }
      }
      if ('gateways' in bound) continue;
      const ports = new Set(
        bound.rules.flatMap((http) => (http.route.match ?? []).flatMap((match) => match.port ?? [])),
      );
      for (const [index, host] of bound.hosts.entries()) {
        const at = { host, document: bound.document, path: ['spec', 'hosts', index] };
        yield at;
        for (const port of ports) yield { ...at, port };
      }
    }
  }

  /** The oldest VirtualService for exactly this host, else the one with the most specific wildcard. */
  #for(host: string): Bound | undefined {
    const exact = this.#bound.find((bound) => bound.hosts.includes(host));
    if (exact) return exact;
    let best: Bound | undefined;
    let length = 0;
    for (const bound of this.#bound) {
      for (const pattern of bound.hosts) {
        if (pattern.startsWith('*') && pattern.length > length && hostMatches(pattern, host)) {
          best = bound;
          length = pattern.length;
        }
      }
    }
    return best;
  }

  /** The routes for clients of a service's port, or undefined if no VirtualService gives any. */
  routes(input: RouteInput, service: Service, port: number): JsonObject[] | undefined {
    const bound = this.#for(service.host);
    if (!bound) return undefined;
    const routes = this.#routesOf(input, bound, port);
    return routes.length > 0 ? routes : undefined;
  }

  #routesOf(input: RouteInput, bound: Bound, port: number): JsonObject[] {
    let routes = bound.routes.get(port);
    if (!routes) {
      routes = buildRoutes(input, bound.rules, port);
      bound.routes.set(port, routes);
    }
    return routes;
  }

  /**
   * Hosts that no service with this port has, which VirtualServices speak of all the same, with their routes: of all
   * VirtualServices on port 80, on others of those that also speak of a service with the port (istiod's
   * BuildSidecarVirtualHostWrapper).
   *
   * @param services hosts of the services with the port
   */
  *strays(
    input: RouteInput,
    port: number,
    services: readonly string[],
  ): Iterable<{ host: string; routes: JsonObject[]; document: Document; path: Path }> {
    const names = new Set(services);
    for (const bound of this.#bound) {
      const known = bound.hosts.map((host) =>
        host.startsWith('*') ? services.some((name) => hostMatches(host, name)) : names.has(host),
      );
      if (port !== 80 && !known.includes(true)) continue;
      for (const [index, host] of bound.hosts.entries()) {
        if (known[index]) continue;
        const routes = this.#routesOf(input, bound, port);
        if (routes.length > 0) yield { host, routes, document: bound.document, path: ['spec', 'hosts', index] };
      }
    }
  }

  /** Says that routes of the Gateway API count for a service instead of a VirtualService. */
  supersede(service: Service): void {
    const bound = this.#for(service.host);
    if (!bound) return;
    const message = `decides nothing for ${service.host}: a route of the Gateway API is attached to it`;
    this.#context.warn(bound.document, ['spec', 'hosts'], 'superseded', message);
  }

  /** Gives reasons to rules that no listener uses. */
  explainUnused(services: readonly Service[], seen: (service: Service) => boolean): void {
    for (const bound of this.#bound) {
      const covered = services.filter((service) => bound.hosts.some((host) => hostMatches(host, service.host)));
      const withHttp = covered.some((service) => service.ports.some((p) => isHttp(p.protocol)));
      for (const { rule } of bound.rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        if (covered.length > 0 && !covered.some(seen)) {
          const message = 'the Sidecar of the clients imports none of its hosts';
          this.#context.unsupported(rule, ['spec', 'hosts'], 'sidecar', message);
        } else if (!withHttp) {
          this.#context.unsupported(
            rule,
            ['spec', 'hosts'],
            'no-http-port',
            'none of its hosts has a port that carries HTTP',
          );
        } else if (covered.every((service) => this.#for(service.host) !== bound)) {
          const message = 'decides nothing: an older or more specific VirtualService has these hosts';
          this.#context.warn(bound.document, ['spec', 'hosts'], 'superseded', message);
        }
      }
    }
  }
}
