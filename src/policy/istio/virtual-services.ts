/** Which VirtualService speaks for which host, and the routes that it gives each port. */
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path } from './context.js';
import { expandDelegates } from './delegates.js';
import { hostMatches, resolveHost } from './hosts.js';
import { exportTo, metadata, type Typed, visible } from './kubernetes-services.js';
import { isHttp, type Service } from './registry.js';
import { buildRoutes, type HttpRule, type RouteInput } from './routes.js';
import type { HttpRoute, VirtualService } from './schema/virtual-service.js';

interface Bound {
  readonly document: Document;
  readonly hosts: readonly string[];
  readonly rules: readonly HttpRule[];
  readonly routes: Map<number, JsonObject[]>;
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

/** The VirtualServices that are bound to the mesh and visible to its clients. */
export class VirtualServices {
  readonly #bound: Bound[] = [];
  readonly #delegates = new Map<string, HttpRule[]>();
  readonly #context: Context;

  constructor(context: Context, documents: readonly Typed<VirtualService>[]) {
    this.#context = context;
    const read = [...documents]
      .sort(byAge)
      .map(({ document, spec }) => ({ document, spec, rules: this.#rules(document, spec) }));
    for (const { document, spec, rules } of read) {
      if (!spec.hosts?.length) this.#delegates.set(`${document.namespace}/${document.name}`, rules);
    }
    for (const { document, spec, rules } of read) this.#bind(document, spec, rules);
    for (const rule of [...this.#delegates.values()].flat().map((http) => http.rule)) {
      if (rule.unsupported.length > 0 || this.#bound.some((bound) => bound.rules.some((http) => http.rule === rule)))
        continue;
      context.unsupported(rule, ['spec', 'hosts'], 'no-host', 'names no host, and no rule delegates to it');
    }
  }

  #rules(document: Document, spec: VirtualService): HttpRule[] {
    const context = this.#context;
    for (const kind of ['tls', 'tcp'] as const) {
      spec[kind]?.forEach((_, index) => {
        const path = ['spec', kind, index];
        const rule = context.rule(document, path, `${kind}[${index}]`);
        context.unsupported(rule, path, 'not-http', `${kind.toUpperCase()} routes are not intercepted`);
      });
    }
    return (spec.http ?? []).map((route, index): HttpRule => {
      const path = ['spec', 'http', index];
      weights(context, document, path, route);
      return { document, path, route, rule: context.rule(document, path, `http[${index}]`) };
    });
  }

  #bind(document: Document, spec: VirtualService, own: readonly HttpRule[]): void {
    const context = this.#context;
    if (!spec.hosts?.length) return;
    const why = (code: string, path: string[], message: string) => {
      for (const http of own) context.unsupported(http.rule, ['spec', ...path], code, message);
    };
    const gateways = spec.gateways ?? [];
    const gatewayOnly = gateways.length > 0 && !gateways.includes('mesh');
    if (gatewayOnly && !context.assumeGateways) {
      why(
        'gateway',
        ['gateways'],
        `bound to gateway ${gateways.join(', ')} only, which the clients of this node do not go through`,
      );
      return;
    }
    if (!visible(exportTo(spec.exportTo, document.namespace), context.namespace)) {
      why('not-exported', ['exportTo'], `not exported to namespace ${context.namespace}`);
      return;
    }
    const hosts: string[] = [];
    spec.hosts.forEach((host, index) => {
      const resolved = resolveHost(host.toLowerCase(), document.namespace, context.domain);
      if (resolved === '*' && gatewayOnly) hosts.push(`${document.name || 'any'}.any-host.${document.namespace}`);
      else if (resolved === '*') {
        const hint = 'name the services, or bind it to a gateway';
        context.error(
          document,
          ['spec', 'hosts', index],
          'invalid-value',
          'the host * is not allowed for the mesh',
          hint,
        );
      } else hosts.push(resolved);
    });
    const rules = expandDelegates(context, own, (namespace, name) => this.#delegates.get(`${namespace}/${name}`));
    if (rules.length > 0 && hosts.length > 0) this.#bound.push({ document, hosts, rules, routes: new Map() });
  }

  /** Hosts, and hosts and ports of destinations, that the bound VirtualServices speak of. */
  *mentions(): Iterable<{
    host: string;
    port?: number;
    subset?: string;
    document: Document;
    path: (string | number)[];
  }> {
    const { domain } = this.#context;
    for (const bound of this.#bound) {
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
    let routes = bound.routes.get(port);
    if (!routes) {
      routes = buildRoutes(input, bound.rules, port);
      bound.routes.set(port, routes);
    }
    return routes.length > 0 ? routes : undefined;
  }

  /** Gives reasons to rules that no listener uses. */
  explainUnused(services: readonly Service[]): void {
    for (const bound of this.#bound) {
      const covered = services.filter((service) => bound.hosts.some((host) => hostMatches(host, service.host)));
      const withHttp = covered.some((service) => service.ports.some((p) => isHttp(p.protocol)));
      for (const { rule } of bound.rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        if (!withHttp) {
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
