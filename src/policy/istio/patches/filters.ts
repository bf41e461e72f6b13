/** Patches of the filters of a listener: its HTTP connection manager and the HTTP filters in it. */
import { descriptorOf, mergeAny } from '../../envoy/merge-message.js';
import type { Json, JsonObject } from '../../resources.js';
import { RBAC_FILTERS } from '../listeners.js';
import { JWT_FILTER } from '../request-authentication.js';
import { CORS_FILTER, FAULT_FILTER } from '../route-policies.js';
import { managerMatches, subFilter } from './match.js';
import type { Patch } from './patch.js';

const ROUTER = 'envoy.filters.http.router';
const RBAC = 'envoy.filters.http.rbac';
const FILTERS = 'envoy.extensions.filters.http';

/** Filters of ours that do what servers' sidecars would; in Istio's chain they are not. */
const OF_SERVERS = new Set<string>([JWT_FILTER, RBAC_FILTERS.deny, RBAC_FILTERS.allow]);

/** Filters that the proxy can run here: it needs nothing for them that is not in their configuration. */
const RUNNABLE = new Set([
  'buffer',
  'compressor',
  'cors',
  'csrf',
  'custom_response',
  'decompressor',
  'ext_authz',
  'fault',
  'grpc_stats',
  'grpc_web',
  'header_mutation',
  'header_to_metadata',
  'health_check',
  'jwt_authn',
  'local_ratelimit',
  'lua',
  'ratelimit',
  'rbac',
  'set_filter_state',
  'set_metadata',
]);

/** What a patch did, or why it was not done. */
export interface Effect {
  readonly patch: Patch;
  /** objects that are as they are because of it */
  readonly objects: readonly object[];
  readonly left?: string;
}

/** A filter of Istio's chain, under the name that it has there; without `json` it is not needed here. */
interface Link {
  name: string;
  json?: JsonObject;
  /** added by a patch */
  added?: boolean;
}

const istioName = (name: string): string => {
  if (name === `${JWT_FILTER}.gateway`) return JWT_FILTER;
  return name.startsWith(`${RBAC}.gateway`) ? RBAC : name;
};

/**
 * Istio's chain for the filters of a listener. What stands for servers' sidecars comes right before the router, and stays
 * there.
 */
function chainOf(filters: readonly JsonObject[], gateway: boolean): { links: Link[]; tail: JsonObject[] } {
  const name = (filter: JsonObject) => String(filter.name);
  const tail = filters.filter((filter) => OF_SERVERS.has(name(filter)) || name(filter) === ROUTER);
  const own = filters.filter((filter) => !tail.includes(filter));
  const used = new Set(own.map((filter) => istioName(name(filter))));
  const links: Link[] = own.map((json) => ({ name: istioName(name(json)), json }));
  const place = (missing: string, before: readonly string[]) => {
    if (used.has(missing)) return;
    const at = links.findIndex((link) => before.includes(link.name));
    links.splice(at < 0 ? links.length : at, 0, { name: missing });
  };
  const session = 'envoy.filters.http.stateful_session';
  place('istio.stats', [session]);
  place(CORS_FILTER, ['istio.stats', session]);
  place(FAULT_FILTER, [CORS_FILTER]);
  place('istio.alpn', [FAULT_FILTER]);
  place('envoy.filters.http.grpc_stats', ['istio.alpn']);
  if (gateway) {
    // where there are no policies they have no filters
    place(RBAC, ['envoy.filters.http.grpc_stats']);
    place(JWT_FILTER, [RBAC]);
  }
  return { links: [...links, { name: ROUTER }], tail };
}

/** Names of clusters that a configuration speaks of. */
function clusterNames(value: Json, found: Set<string>): Set<string> {
  if (Array.isArray(value)) for (const item of value) clusterNames(item, found);
  else if (value !== null && typeof value === 'object') {
    for (const [key, child] of Object.entries(value)) {
      if (/^cluster(_name)?$/.test(key) && typeof child === 'string') found.add(child);
      else clusterNames(child, found);
    }
  }
  return found;
}

/** Why the proxy here could not run a filter that a patch adds; undefined if it can. */
function notRunnable(
  value: JsonObject,
  known: (cluster: string) => boolean,
  tail: readonly JsonObject[],
): string | undefined {
  const config = value.typed_config as JsonObject | undefined;
  if (!config) return 'the filter has no configuration of its own';
  // routes of other filters would configure this one
  if (tail.some(({ name }) => name === value.name && name !== ROUTER))
    return `the name ${value.name} is taken by what servers' policies ask for`;
  const type = descriptorOf(config)?.typeName ?? '';
  const kind = type.startsWith(`${FILTERS}.`) ? (type.slice(FILTERS.length + 1).split('.')[0] ?? '') : '';
  if (!RUNNABLE.has(kind)) return `filters of type ${type || 'unknown'} are not run here`;
  const missing = [...clusterNames(config, new Set())].find((name) => !known(name));
  return missing === undefined ? undefined : `there is no cluster ${missing}`;
}

/**
 * The HTTP filters after the patches, in istiod's order: what adds and removes first, then what merges.
 *
 * @param known whether there is a cluster of this name
 */
export function patchHttpFilters(
  filters: readonly JsonObject[],
  gateway: boolean,
  patches: readonly Patch[],
  known: (cluster: string) => boolean,
): { filters: JsonObject[]; effects: Effect[] } {
  const { links, tail } = chainOf(filters, gateway);
  const effects: Effect[] = [];
  const leave = (patch: Patch, left: string) => effects.push({ patch, objects: [], left });
  const add = (patch: Patch, at: number) => {
    const problem = notRunnable(patch.value, known, tail);
    if (problem !== undefined) {
      leave(patch, problem);
      return;
    }
    const json = structuredClone(patch.value);
    links.splice(at, 0, { name: String(json.name ?? ''), json, added: true });
    effects.push({ patch, objects: [json] });
  };
  for (const patch of patches) {
    if (!managerMatches(patch)) continue;
    const wanted = subFilter(patch);
    const at = wanted === undefined ? -1 : links.findIndex((link) => link.name === wanted);
    switch (patch.operation) {
      case 'ADD':
        add(patch, links.length);
        break;
      case 'INSERT_FIRST':
        add(patch, 0);
        break;
      case 'INSERT_BEFORE':
        if (wanted === undefined) add(patch, 0);
        else if (at >= 0) add(patch, at);
        break;
      case 'INSERT_AFTER':
        if (wanted === undefined) add(patch, links.length);
        else if (at >= 0) add(patch, at + 1);
        break;
      case 'REMOVE':
      case 'REPLACE': {
        const link = links[at];
        if (!link) break;
        if (link.name === ROUTER) leave(patch, 'the router is taken away');
        else if (patch.operation === 'REPLACE') {
          links.splice(at, 1);
          add(patch, at);
        } else {
          for (let i = links.length - 1; i >= 0; i--) if (links[i]?.name === wanted) links.splice(i, 1);
          effects.push({ patch, objects: [] });
        }
        break;
      }
    }
  }
  for (const patch of patches) {
    if (!/^MERGE/.test(patch.operation) || !managerMatches(patch)) continue;
    const wanted = subFilter(patch);
    for (const link of links) {
      if (wanted !== undefined && link.name !== wanted) continue;
      const { typed_config: config, name } = patch.value;
      if (link.name === ROUTER || wanted === undefined) {
        leave(patch, 'the router or all filters are merged with something');
        break;
      }
      const before = link.json?.typed_config as JsonObject | undefined;
      if (!link.json || !before) continue;
      const merged = config ? mergeAny(before, config as JsonObject) : undefined;
      link.json = { ...link.json, ...(merged ? { typed_config: merged } : {}) };
      // the name is what routes know it by
      if (name && name !== link.name) link.json.name = name;
      effects.push({ patch, objects: [link.json] });
    }
  }
  const router = links.findIndex((link) => link.name === ROUTER);
  const late = links.slice(router + 1).find((link) => link.json);
  if (late) {
    const patch = effects.find(({ objects }) => late.json && objects.includes(late.json))?.patch ?? patches[0];
    const left = `a filter would stand behind the router, which Envoy refuses`;
    if (patch) leave(patch, left);
    // one that is refused takes the others with it
    return { filters: [...filters], effects: effects.map((effect) => ({ left, ...effect, objects: [] })) };
  }
  const own = links.slice(0, router).flatMap((link): JsonObject[] => (link.json ? [link.json] : []));
  return { filters: [...own, ...tail], effects };
}
