/** Patches of route configurations, virtual hosts and routes, in istiod's order. */
import { envoyMessage } from '../../envoy/descriptors.js';
import { mergeMessage } from '../../envoy/merge-message.js';
import type { JsonObject, Provenance } from '../../resources.js';
import type { Effect } from './filters.js';
import { hostMatches, namesRoute, type Place, routeMatches, routesMatch } from './match.js';
import { type Patch, replacesLists, TARGETS } from './patch.js';

/** Rules that an object stands for are told of its copies. */
export type Copied = (copy: JsonObject, of: JsonObject) => void;

export interface RoutePatches {
  readonly place: Place;
  readonly patches: readonly Patch[];
  readonly provenance: Provenance;
  readonly copied: Copied;
  /** the name by which istiod knows a virtual host */
  readonly nameOf: (host: JsonObject) => string;
}

function merged(type: string, into: JsonObject, patch: Patch, input: RoutePatches): JsonObject {
  const out = mergeMessage(envoyMessage(TARGETS[type] ?? ''), into, structuredClone(patch.value), replacesLists(patch));
  input.copied(out, into);
  for (const key of Object.keys(patch.value)) {
    const position = patch.document.at([...patch.path, 'patch', 'value', key]);
    input.provenance.set(out, position, key);
    const part = out[key];
    if (part && typeof part === 'object' && part !== patch.value[key]) {
      const before = into[key];
      if (before && typeof before === 'object') input.provenance.derive(part, before);
      for (const inner of Object.keys((patch.value[key] as object | null) ?? {}))
        input.provenance.set(part, position, inner);
    }
  }
  return out;
}

function patchRoutes(host: JsonObject, input: RoutePatches, effects: Effect[]): JsonObject[] {
  const own = input.patches.filter((patch) => patch.applyTo === 'HTTP_ROUTE' && routesMatch(patch, input.place));
  const patches = own.filter((patch) => hostMatches(patch, input.nameOf(host), host));
  let routes = ((host.routes as JsonObject[] | undefined) ?? []).flatMap((original): JsonObject[] => {
    let route = original;
    const later: Patch[] = [];
    for (const patch of patches) {
      if (!/^(MERGE|REMOVE)/.test(patch.operation) || !routeMatches(patch, route)) continue;
      if (patch.operation === 'REMOVE') {
        effects.push({ patch, objects: [] });
        return [];
      }
      route = merged('HTTP_ROUTE', route, patch, input);
      later.push(patch);
    }
    for (const patch of later) effects.push({ patch, objects: [route] });
    return [route];
  });
  for (const patch of patches) {
    if (!/^(ADD|INSERT_)/.test(patch.operation)) continue;
    const found = routes.findIndex((route) => routeMatches(patch, route));
    const any = !namesRoute(patch);
    if (!any && found < 0 && patch.operation !== 'ADD') continue;
    const json = structuredClone(patch.value);
    input.provenance.set(json, patch.document.at([...patch.path, 'patch', 'value']));
    let at = routes.length;
    if (patch.operation === 'INSERT_FIRST') at = 0;
    else if (patch.operation === 'INSERT_BEFORE') at = any ? 0 : found;
    else if (patch.operation === 'INSERT_AFTER' && !any) at = found + 1;
    routes = [...routes.slice(0, at), json, ...routes.slice(at)];
    effects.push({ patch, objects: [json] });
  }
  return routes;
}

/** Objects of a route configuration that a patch of all of it is about. */
const routesIn = (host: JsonObject): JsonObject[] => (host.routes as JsonObject[] | undefined) ?? [];

/** The route configuration after the patches; the original is not changed. */
export function patchRouteConfig(config: JsonObject, input: RoutePatches): { config: JsonObject; effects: Effect[] } {
  const effects: Effect[] = [];
  const about = (target: string) =>
    input.patches.filter((patch) => patch.applyTo === target && routesMatch(patch, input.place));
  let out = config;
  for (const patch of about('ROUTE_CONFIGURATION')) {
    if (!/^MERGE/.test(patch.operation)) continue;
    out = merged('ROUTE_CONFIGURATION', out, patch, input);
    effects.push({ patch, objects: [out] });
  }
  const whole = effects.length;
  let hosts = ((out.virtual_hosts as JsonObject[] | undefined) ?? []).flatMap((original): JsonObject[] => {
    let host = original;
    const later: Patch[] = [];
    for (const patch of about('VIRTUAL_HOST')) {
      if (!hostMatches(patch, input.nameOf(original), original)) continue;
      if (patch.operation === 'REMOVE') {
        effects.push({ patch, objects: [] });
        return [];
      }
      if (/^MERGE/.test(patch.operation)) host = merged('VIRTUAL_HOST', host, patch, input);
      else if (patch.operation === 'REPLACE') host = structuredClone(patch.value);
      else continue;
      later.push(patch);
    }
    const routes = patchRoutes(host, input, effects);
    const same = routes.length === routesIn(host).length && routes.every((route, i) => route === routesIn(host)[i]);
    if (!same) {
      const copy: JsonObject = { ...host, routes };
      input.copied(copy, host);
      host = copy;
    }
    for (const patch of later) effects.push({ patch, objects: routesIn(host) });
    return [host];
  });
  for (const patch of about('VIRTUAL_HOST')) {
    if (patch.operation !== 'ADD') continue;
    const json = structuredClone(patch.value);
    input.provenance.set(json, patch.document.at([...patch.path, 'patch', 'value']));
    hosts = [...hosts, json];
    effects.push({ patch, objects: routesIn(json) });
  }
  if (effects.length === 0) return { config, effects };
  const copy: JsonObject = { ...out, virtual_hosts: hosts };
  input.provenance.derive(copy, out);
  const all = hosts.flatMap(routesIn);
  return {
    config: copy,
    effects: effects.map((effect, index) => (index < whole ? { ...effect, objects: all } : effect)),
  };
}
