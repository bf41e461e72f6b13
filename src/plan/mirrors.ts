/** request_mirror_policies: to whom copies of requests go (envoy.config.route.v3.RouteAction.RequestMirrorPolicy). */
import { createHash } from 'node:crypto';
import type { JsonObject } from '../policy/resources.js';
import type { RouteContext } from './actions.js';
import { type Chance, chanceOf, share } from './fault.js';
import { has, join, list, type Notes, obj, onlyFields, str } from './notes.js';

/** Copies of a route's requests, which the proxy sends: it gets one of each from the agent. */
export interface MirrorPlan {
  /** sixteen hexadecimal digits, a digest of the rest: what agent and proxy call it */
  readonly key: string;
  /** what the proxy does with what it gets */
  readonly policies: readonly JsonObject[];
  /** of the route; 0: none */
  readonly timeoutMs: number;
  /** so many requests are copied; absent: all, of which the proxy draws */
  readonly chance?: Chance;
}

const KEY = 'request_mirror_policies';

/** The mirrors that apply to a route: the most specific ones, as in Envoy. */
function policiesOf(ctx: RouteContext, action: JsonObject, path: string) {
  const levels = [
    [action, path],
    [ctx.virtualHost, 'virtual_host'],
    [ctx.routeConfig, 'route_config'],
  ] as const;
  const [owner, at] = levels.find(([o]) => list(o, KEY).length > 0) ?? [];
  return owner && { owner, at: join(at!, KEY), policies: list(owner, KEY) };
}

/**
 * What is copied of a route's requests; undefined: nothing, or (with a reason in `notes`) it is for the proxy to do.
 * @param timeoutMs of the route
 * @param weighted the route chooses among clusters, by the number that Envoy draws for mirrors, too
 */
export function mirrorPlan(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  path: string,
  { timeoutMs, weighted }: { readonly timeoutMs: number; readonly weighted: boolean },
): MirrorPlan | undefined {
  const found = policiesOf(ctx, action, path);
  if (!found) return undefined;
  const { listener } = ctx;
  const leave = (message: string, at: string, key?: string, owner: JsonObject = found.owner) =>
    notes.add('mirror', message, at, owner, key ?? KEY);
  const problem = !listener.ownProxy
    ? 'only a proxy that Sidestep has started sends copies of requests'
    : listener.streams
      ? 'copies of streams'
      : listener.trace
        ? 'copies of requests that are traced'
        : listener.keepsCase
          ? 'copies with the names of headers as they came'
          : listener.suppressEnvoyHeaders
            ? 'copies without x-envoy headers'
            : undefined;
  if (problem !== undefined) leave(problem, found.at);
  const kept: JsonObject[] = [];
  const chances: Chance[] = [];
  found.policies.forEach((policy, i) => {
    const at = `${found.at}[${i}]`;
    onlyFields(notes, policy, at, [
      'cluster',
      'cluster_header',
      'runtime_fraction',
      'trace_sampled',
      'disable_shadow_host_suffix_append',
    ]);
    const fraction = obj(policy, 'runtime_fraction');
    if (str(fraction, 'runtime_key') !== '' && listener.mayChange(str(fraction, 'runtime_key')))
      leave('a runtime layer may change how many requests are mirrored', join(at, 'runtime_fraction'), '', policy);
    const some = fraction ? share(obj(fraction, 'default_value')) : 'all';
    if (some === 'none') return;
    const chance = some === 'some' ? chanceOf(fraction, 'default_value') : undefined;
    if (some === 'some' && !chance) leave('an unknown denominator', join(at, 'runtime_fraction'), '', policy);
    if (chance) chances.push(chance);
    const named = has(policy, 'cluster_header') ? [...listener.clusters.keys()] : [str(policy, 'cluster')];
    for (const name of named) {
      const info = listener.clusters.get(name);
      if (!info) leave(`no cluster ${name} is defined`, at, 'cluster', policy);
      else if (!info.notes.clean) leave(`cluster ${name} is not known well enough`, at, 'cluster', policy);
      else if (info.upstreamRbac.length > 0) leave(`cluster ${name} asks who the client is`, at, 'cluster', policy);
    }
    kept.push(policy);
  });
  if (chances.length > 0 && weighted) leave('a part of the requests, of which each part goes elsewhere', found.at);
  if (!notes.clean || kept.length === 0) return undefined;
  // one number is drawn for all mirrors of a request: where there are several, the proxy draws it
  const [chance] = kept.length === 1 ? chances : [];
  const policies = chance ? kept.map(({ runtime_fraction: _, ...rest }) => rest) : kept;
  const key = createHash('sha256')
    .update(JSON.stringify([policies, timeoutMs]))
    .digest('hex')
    .slice(0, 16);
  return { key, policies, timeoutMs, ...(chance ? { chance } : {}) };
}
