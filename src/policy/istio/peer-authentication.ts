/**
 * PeerAuthentications: which mode of mutual TLS a server's port has. Like istiod (ComposePeerAuthentication in
 * pilot/pkg/security/authn/policy_applier.go) the oldest policy of each level counts: of the mesh, of the namespace, of the workload.
 */
import type { Context, Path, RuleBuilder } from './context.js';
import type { Typed } from './kubernetes-services.js';
import { labelsMatch, type Service } from './registry.js';
import type { PeerAuthentication } from './schema/request-authentication.js';
import { byAge } from './virtual-services.js';

type Policy = Typed<PeerAuthentication>;
export type PeerMode = 'DISABLE' | 'PERMISSIVE' | 'STRICT';

/** A server, as policies select it. */
export interface PeerServer {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** where the workload itself listens */
  readonly port: number;
}

const selectorOf = ({ spec }: Policy): Readonly<Record<string, string>> => spec.selector?.matchLabels ?? {};
const selects = (policy: Policy): boolean => Object.keys(selectorOf(policy)).length > 0;
const said = (mode: { readonly mode?: PeerMode | 'UNSET' | undefined } | undefined): PeerMode | undefined =>
  mode?.mode === 'UNSET' ? undefined : mode?.mode;

/**
 * The mode at a server's port, and the policy that says it (none: PERMISSIVE, as Istio has it).
 *
 * @param policies all of them, the oldest first
 */
export function peerMode(
  policies: readonly Policy[],
  rootNamespace: string,
  server: PeerServer,
): { readonly mode: PeerMode; readonly by?: Policy } {
  const first = (namespace: string, own: boolean) =>
    policies.find(
      (p) => p.document.namespace === namespace && selects(p) === own && labelsMatch(selectorOf(p), server.labels),
    );
  const { namespace } = server;
  const root = namespace === rootNamespace;
  // in the root namespace there are none for workloads
  const levels = [first(rootNamespace, false), root ? undefined : first(namespace, false)];
  const workload = root ? undefined : first(namespace, true);
  let found: { mode: PeerMode; by?: Policy } = { mode: 'PERMISSIVE' };
  for (const by of [...levels, workload]) {
    const mode = said(by?.spec.mtls);
    if (by && mode) found = { mode, by };
  }
  const mode = said(workload?.spec.portLevelMtls?.[String(server.port)]);
  return workload && mode ? { mode, by: workload } : found;
}

/** The policies that ask for mutual TLS anywhere, each with the place where it does so and its rule. */
function strictOnes(
  context: Context,
  policies: readonly Policy[],
): { policy: Policy; path: Path; rule: RuleBuilder }[] {
  return policies.flatMap((policy) => {
    const { document, spec } = policy;
    const port = Object.entries(spec.portLevelMtls ?? {}).find(([, mode]) => said(mode) === 'STRICT');
    const whole = said(spec.mtls) === 'STRICT';
    if (!whole && !port) return [];
    const path = whole ? ['spec', 'mtls', 'mode'] : ['spec', 'portLevelMtls', port![0], 'mode'];
    return [{ policy, path, rule: context.rule(document, ['spec'], 'spec') }];
  });
}

/** The servers of services, once for each of their ports; of a service without any, little is known. */
function serversOf(services: readonly Service[]): (PeerServer & { known: boolean })[] {
  return services
    .filter(({ external, assumed }) => !external && !assumed)
    .flatMap(({ namespace, endpoints, selector }) => {
      if (endpoints.length === 0) return [{ namespace, labels: selector, known: false, port: 0 }];
      return endpoints.flatMap(({ labels, labelsKnown: known, ports }) =>
        [...ports.values()].map((port) => ({ namespace, labels, known, port })),
      );
    });
}

/**
 * Requests travel in plain text on this node, so a PeerAuthentication decides nothing about them unless it is STRICT:
 * servers with a sidecar then refuse them, which neither this proxy nor the kernel can spare them. Gives that reason to
 * the policies that make a server's port STRICT, or may, and says of the others that they decide nothing.
 */
export function explainPeers(context: Context, documents: readonly Policy[], services: readonly Service[]): void {
  const policies = [...documents].sort(byAge);
  const { rootNamespace } = context;
  const servers = serversOf(services);
  for (const { policy, path, rule } of strictOnes(context, policies)) {
    const { namespace } = policy.document;
    const near = servers.filter((s) => namespace === rootNamespace || s.namespace === namespace);
    const counts = near.some((s) => {
      const { mode, by } = peerMode(policies, rootNamespace, s);
      return !s.known || (mode === 'STRICT' && by === policy);
    });
    // nothing selects workloads from the root namespace, and ports count with a selector only
    const vain = selects(policy) ? namespace === rootNamespace : said(policy.spec.mtls) !== 'STRICT';
    if (!vain && (counts || near.length === 0)) {
      const message =
        'requests go in plain text on this node: servers that insist on mutual TLS refuse them, and servers without a sidecar do not';
      context.unsupported(rule, path, 'mesh-tls', message);
      continue;
    }
    const message = vain
      ? 'decides nothing: workloads are not selected from the root namespace, and portLevelMtls needs a selector'
      : 'decides nothing: it selects no server of a service here, or other PeerAuthentications count for all that it selects';
    context.warn(policy.document, path, 'superseded', message);
  }
}
