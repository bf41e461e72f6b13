/** Patches that need a filter which Istio's proxies only have where a policy asks for it: without one they change nothing. */
import type { Typed } from '../kubernetes-services.js';
import { subFilter } from './match.js';
import type { Patch } from './patch.js';

type Labels = Readonly<Record<string, string>>;

/** Documents that make servers' sidecars have filters. */
export interface FilterSources {
  readonly requestAuthentications: readonly Typed<{ selector?: { matchLabels?: Labels | undefined } | undefined }>[];
  readonly authorizationPolicies: readonly Typed<{
    selector?: { matchLabels?: Labels | undefined } | undefined;
    action?: string | undefined;
  }>[];
}

/** Operations that do nothing where the filter that they name is not there. */
const AT_FILTER = /^(MERGE|MERGE_AND_REPLACE_LIST|REMOVE|REPLACE|INSERT_BEFORE|INSERT_AFTER)$/;

/** The HTTP filter without which a patch does nothing; undefined: it needs none. */
export function neededFilter(patch: Patch): string | undefined {
  return patch.applyTo === 'HTTP_FILTER' && AT_FILTER.test(patch.operation) ? subFilter(patch) || undefined : undefined;
}

const adds = ({ applyTo, operation }: Patch): boolean =>
  applyTo === 'HTTP_FILTER' && /^(ADD|REPLACE|INSERT_)/.test(operation);

/** Whether a patch gives routes nothing but rate limits. */
function limitsOnly({ applyTo, operation, value }: Patch): boolean {
  if (!/^(VIRTUAL_HOST|HTTP_ROUTE)$/.test(applyTo) || !/^MERGE/.test(operation)) return false;
  const own = applyTo === 'HTTP_ROUTE' && Object.keys(value).join() === 'route' ? value.route : value;
  return own !== null && typeof own === 'object' && Object.keys(own).join() === 'rate_limits';
}

/**
 * The HTTP filter that a patch needs and that the sidecars of the servers it selects do not have.
 *
 * @param labels what it selects servers by
 * @param others all patches of the files: they may add the filter
 */
export function absentAtServers(
  patch: Patch,
  labels: Labels,
  sources: FilterSources,
  others: Iterable<Patch>,
  rootNamespace: string,
): string | undefined {
  const added = [...others].filter((other) => other !== patch && adds(other));
  // limits of routes are for a filter that EnvoyFilters alone bring in
  if (limitsOnly(patch))
    return added.some(({ value }) => /rate_?limit/i.test(JSON.stringify(value))) ? undefined : 'for rate limits';
  const name = neededFilter(patch);
  if (name === undefined || added.some(({ value }) => value.name === name)) return undefined;
  const { namespace } = patch.document;
  type Policy = Typed<{ selector?: { matchLabels?: Labels | undefined } | undefined }>;
  const may = ({ document, spec }: Policy) =>
    (namespace === rootNamespace || document.namespace === rootNamespace || document.namespace === namespace) &&
    Object.entries(spec.selector?.matchLabels ?? {}).every(([key, value]) => (labels[key] ?? value) === value);
  const { requestAuthentications, authorizationPolicies } = sources;
  const custom = authorizationPolicies.filter(({ spec }) => spec.action === 'CUSTOM');
  const asking: Readonly<Record<string, readonly Policy[]>> = {
    'envoy.filters.http.jwt_authn': requestAuthentications,
    'envoy.filters.http.rbac': authorizationPolicies,
    'envoy.filters.http.ext_authz': custom,
  };
  // the others of this form are names that filters had once
  const once = /^envoy\.(?!filters\.)/.test(name) ? [] : undefined;
  const policies = Object.hasOwn(asking, name) ? asking[name] : once;
  return policies?.some(may) === false ? name : undefined;
}

/** Whether filters that patches add take their configuration from patches of EXTENSION_CONFIG. */
export function extensionsAreUsed(patches: Iterable<Patch>): boolean {
  for (const { value } of patches) if (JSON.stringify(value).includes('"config_discovery"')) return true;
  return false;
}
