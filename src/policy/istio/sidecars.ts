/** Sidecar documents: which services and VirtualServices the clients of this node get to see. */
import type { Context } from './context.js';
import { hostMatches } from './hosts.js';
import type { Typed } from './kubernetes-services.js';
import { labelsMatch } from './registry.js';
import type { Sidecar } from './schema/extensions.js';

/** Why what clients do not see decides nothing for them. */
export const UNIMPORTED = 'the Sidecar of the clients does not import it';

type Imports = readonly { readonly namespace: string; readonly host: string }[];

export class Sidecars {
  #imports: Imports | undefined;

  /** The Sidecar that counts is one for these clients in their namespace, else the root namespace's for everybody. */
  constructor(context: Context, documents: readonly Typed<Sidecar>[]) {
    const mine = ({ document, spec }: Typed<Sidecar>) => {
      const selector = spec.workloadSelector?.labels ?? {};
      if (!labelsMatch(selector, context.labels)) return false;
      const root = document.namespace === context.rootNamespace && Object.keys(selector).length === 0;
      return document.namespace === context.namespace || root;
    };
    const weight = ({ document, spec }: Typed<Sidecar>) =>
      (document.namespace === context.namespace ? 2 : 0) + (spec.workloadSelector?.labels ? 1 : 0);
    const [counting] = documents.filter(mine).sort((a, b) => weight(b) - weight(a));
    for (const typed of documents) {
      const { document, spec } = typed;
      const rule = context.rule(document, ['spec'], 'spec');
      if (typed !== counting) {
        const { namespace } = document;
        const labels = spec.workloadSelector?.labels ?? {};
        const selected = spec.workloadSelector ? ' with the labels of its workloadSelector' : '';
        if (mine(typed)) {
          const message = 'another Sidecar counts for the clients of this node';
          // that of the root namespace is for every namespace without one of its own
          if (namespace === context.rootNamespace && context.namespace !== namespace && !spec.workloadSelector)
            context.elsewhere(rule, ['spec'], message, { namespace, labels: {} });
          else context.unsupported(rule, ['spec'], 'source-match', message);
        } else {
          const message = `counts only for clients of namespace ${namespace}${selected}`;
          context.elsewhere(rule, ['spec'], message, { namespace, labels });
        }
        continue;
      }
      for (const field of ['ingress', 'inboundConnectionPool'] as const) {
        if (spec[field] === undefined) continue;
        context.unsupported(rule, ['spec', field], 'sidecar', `${field} is about servers, whose side is not run here`);
      }
      if (spec.outboundTrafficPolicy?.mode === 'REGISTRY_ONLY') {
        const message = 'connections to addresses that are in no document are not refused';
        context.unsupported(rule, ['spec', 'outboundTrafficPolicy'], 'sidecar', message);
      }
      if (spec.outboundTrafficPolicy?.egressProxy !== undefined) {
        const message = 'connections to addresses that are in no document are not led to a proxy';
        context.unsupported(rule, ['spec', 'outboundTrafficPolicy', 'egressProxy'], 'sidecar', message);
      }
      spec.egress?.forEach((egress, index) => {
        for (const field of ['port', 'bind', 'captureMode'] as const) {
          if (egress[field] === undefined) continue;
          const message = `egress.${field} is not translated: its hosts are seen at their own addresses and ports`;
          context.unsupported(rule, ['spec', 'egress', index, field], 'sidecar', message);
        }
      });
      if (!spec.egress) continue;
      this.#imports = spec.egress.flatMap(({ hosts }) =>
        hosts.map((text) => {
          const [namespace = '', host = ''] = text.split('/');
          // `.` is the client's namespace, in the root namespace's Sidecar too
          return { namespace: namespace === '.' ? context.namespace : namespace, host: host.toLowerCase() };
        }),
      );
    }
  }

  /** True if clients see something of this namespace with this host. */
  imports(namespace: string, host: string): boolean {
    if (!this.#imports) return true;
    return this.#imports.some(
      (i) =>
        (i.namespace === '*' || i.namespace === namespace) && (hostMatches(i.host, host) || hostMatches(host, i.host)),
    );
  }
}
