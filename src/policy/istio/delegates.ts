/** Delegation: a rule that names another VirtualService is replaced by that one's rules, narrowed by its own matches. */
import type { Context } from './context.js';
import type { HttpRule } from './routes.js';
import type { StringMatch } from './schema/common.js';
import type { HttpMatch, HttpRoute } from './schema/virtual-service.js';

/** True if not everything that `leaf` matches is matched by `root` (which Istio demands and can only see in simple cases). */
function stringConflict(root: StringMatch | undefined, leaf: StringMatch | undefined): boolean {
  if (!root || !leaf) return false;
  if (root.regex !== undefined || leaf.regex !== undefined) return true;
  if (root.exact !== undefined) return leaf.exact !== root.exact;
  if (root.prefix !== undefined) return !(leaf.prefix ?? leaf.exact ?? '').startsWith(root.prefix);
  return true;
}

function mapConflict<T>(
  root: Readonly<Record<string, T>> | undefined,
  leaf: Readonly<Record<string, T>> | undefined,
  conflict: (a: T, b: T) => boolean,
): boolean {
  return Object.entries(leaf ?? {}).some(([key, value]) => {
    const other = root?.[key];
    return other !== undefined && conflict(other, value);
  });
}

function conflicts(root: HttpMatch, leaf: HttpMatch): boolean {
  const strings = (['uri', 'scheme', 'method', 'authority'] as const).some((key) =>
    stringConflict(root[key], leaf[key]),
  );
  const maps = (['headers', 'withoutHeaders', 'queryParams'] as const).some((key) =>
    mapConflict(root[key], leaf[key], stringConflict),
  );
  if (strings || maps || !!root.ignoreUriCase !== !!leaf.ignoreUriCase) return true;
  if (root.port !== undefined && leaf.port !== undefined && root.port !== leaf.port) return true;
  if (mapConflict(root.sourceLabels, leaf.sourceLabels, (a, b) => a !== b)) return true;
  if (root.sourceNamespace && leaf.sourceNamespace && root.sourceNamespace !== leaf.sourceNamespace) return true;
  const { gateways } = root;
  return !!gateways?.length && !!leaf.gateways && leaf.gateways.some((gateway) => !gateways.includes(gateway));
}

function mergeMatch(root: HttpMatch, leaf: HttpMatch): HttpMatch {
  const out: Record<string, unknown> = { ...root, ...leaf };
  for (const key of ['headers', 'withoutHeaders', 'queryParams', 'sourceLabels'] as const) {
    if (root[key] || leaf[key]) out[key] = { ...root[key], ...leaf[key] };
  }
  const name = [root.name, leaf.name].filter((n) => n).join('-');
  if (name) out.name = name;
  return out as HttpMatch;
}

/** Every pair that can match together; undefined if there are matches, but none can. */
function mergeMatches(root: HttpMatch[] | undefined, leaf: HttpMatch[] | undefined): HttpMatch[] | undefined {
  if (!root?.length) return leaf ?? [];
  if (!leaf?.length) return root;
  const out = root.flatMap((r) => leaf.filter((l) => !conflicts(r, l)).map((l) => mergeMatch(r, l)));
  return out.length > 0 ? out : undefined;
}

const INHERITED = [
  'rewrite',
  'timeout',
  'retries',
  'fault',
  'mirror',
  'mirrors',
  'mirrorPercent',
  'mirrorPercentage',
  'corsPolicy',
  'headers',
] as const;

/**
 * Replaces the delegating rules. Delegates do not delegate further.
 *
 * @param find the rules of a VirtualService without hosts, by namespace and name
 */
export function expandDelegates(
  context: Context,
  rules: readonly HttpRule[],
  find: (namespace: string, name: string) => readonly HttpRule[] | undefined,
): HttpRule[] {
  return rules.flatMap((root): HttpRule[] => {
    const { delegate } = root.route;
    if (!delegate) return [root];
    const path = [...root.path, 'delegate'];
    const namespace = delegate.namespace ?? root.document.namespace;
    const leaves = find(namespace, delegate.name);
    if (!leaves) {
      context.warn(
        root.document,
        path,
        'unknown-delegate',
        `there is no VirtualService ${namespace}/${delegate.name} without hosts`,
      );
      context.unsupported(
        root.rule,
        path,
        'unknown-delegate',
        `no VirtualService ${namespace}/${delegate.name} gives it routes`,
      );
      return [];
    }
    return leaves.flatMap((leaf): HttpRule[] => {
      if (leaf.route.delegate) {
        context.warn(
          leaf.document,
          [...leaf.path, 'delegate'],
          'nested-delegate',
          'a delegate cannot delegate further',
        );
        return [];
      }
      const match = mergeMatches(root.route.match, leaf.route.match);
      if (!match) {
        const message = `no match of it is part of a match of ${root.document.namespace}/${root.document.name} ${root.rule.rule}`;
        context.warn(leaf.document, leaf.path, 'delegate-conflict', message);
        context.unsupported(leaf.rule, [...leaf.path, 'match'], 'delegate-conflict', message);
        return [];
      }
      const route: HttpRoute = { ...leaf.route, match };
      const inherited: Record<string, unknown> = {};
      for (const key of INHERITED) inherited[key] = leaf.route[key] ?? root.route[key];
      const name = [root.route.name, leaf.route.name].filter((n) => n).join('-');
      const defined = Object.entries(inherited).filter(([, value]) => value !== undefined);
      Object.assign(route, Object.fromEntries(defined), name ? { name } : {});
      return [{ ...leaf, route, delegating: root.rule }];
    });
  });
}
