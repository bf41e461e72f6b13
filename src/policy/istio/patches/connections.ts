/** Which EnvoyFilters may change listeners for connections, to which no patch is applied here. */
import type { Context } from '../context.js';
import { mayMean } from '../gateway-labels.js';
import { type GatewayWorkload, workloadPort } from '../gateways.js';
import type { Typed } from '../kubernetes-services.js';
import { labelsMatch } from '../registry.js';
import type { ConfigPatch, EnvoyFilter } from '../schema/extensions.js';
import { MANAGER, proxyMatches } from './match.js';

/** Whether patches may change what listens for connections to a port: the clients' own, or a gateway's. */
export type PatchesConnections = (port: number, workload?: GatewayWorkload) => boolean;

/** Operations on a filter that must be there, or that one is put next to. */
const ON_FILTERS = /^(MERGE|MERGE_AND_REPLACE_LIST|REMOVE|REPLACE|INSERT_BEFORE|INSERT_AFTER)$/;

/** Whether a patch may be about something that such a listener has. */
function touches({ applyTo, match, patch }: ConfigPatch): boolean {
  if (proxyMatches({ match }) === 'no') return false;
  const operation = patch?.operation ?? '';
  switch (applyTo) {
    case 'LISTENER':
      return operation !== 'ADD';
    case 'NETWORK_FILTER':
      // there is no connection manager in them
      return !(match?.listener?.filterChain?.filter?.name === MANAGER && ON_FILTERS.test(operation));
    default:
      return applyTo === 'FILTER_CHAIN' || applyTo === 'LISTENER_FILTER';
  }
}

/** @returns says of a port, and of the gateway whose it is, whether patches may change its listener */
export function patchesConnections(context: Context, filters: readonly Typed<EnvoyFilter>[]): PatchesConnections {
  const root = context.rootNamespace;
  const patching = filters.filter(({ spec }) => spec.configPatches?.some(touches));
  return (port, workload) =>
    patching.some(({ document, spec }) => {
      const labels = spec.workloadSelector?.labels ?? {};
      const targets = [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];
      const { namespace } = document;
      if (!workload && (targets.length > 0 || (namespace !== root && namespace !== context.namespace))) return false;
      if (!workload && !labelsMatch(labels, context.labels)) return false;
      if (workload && targets.length === 0 && !mayMean(labels, workload)) return false;
      const side = workload ? 'GATEWAY' : 'SIDECAR_OUTBOUND';
      const opened = workload ? [port, workloadPort(workload, port)] : [port];
      return (spec.configPatches ?? []).some((patch) => {
        const { context: of = 'ANY', listener } = patch.match ?? {};
        if (!touches(patch) || (of !== 'ANY' && of !== side)) return false;
        return !listener?.portNumber || opened.includes(listener.portNumber);
      });
    });
}
