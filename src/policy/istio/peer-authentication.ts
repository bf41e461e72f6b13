/**
 * PeerAuthentications: which mode of mutual TLS a server's port has. Like istiod (ComposePeerAuthentication in
 * pilot/pkg/security/authn/policy_applier.go) the oldest policy of each level counts: of the mesh, of the namespace, of the workload.
 */
import type { JsonObject } from '../resources.js';
import type { Context, Path, RuleBuilder } from './context.js';
import type { Typed } from './kubernetes-services.js';
import { ASSUMED } from './mesh-tls.js';
import { type Endpoint, labelsMatch, type Service, type ServicePort } from './registry.js';
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

/** Label of workloads that have a sidecar, which takes mutual TLS. */
const TLS_MODE = 'security.istio.io/tlsMode';

/** All PeerAuthentications: who is spoken to in mutual TLS where no DestinationRule says it (istiod: auto mTLS). */
export class Peers {
  readonly #policies: readonly Policy[];
  /** clusters that speak TLS because of a policy */
  readonly #made = new Map<Policy, JsonObject[]>();

  constructor(
    private readonly context: Context,
    documents: readonly Policy[],
  ) {
    this.#policies = [...documents].sort(byAge);
  }

  #modeOf({ namespace }: Service, { number }: ServicePort, { labels, ports }: Endpoint): ReturnType<typeof peerMode> {
    const server = { namespace, labels, port: ports.get(number) ?? number };
    return peerMode(this.#policies, this.context.rootNamespace, server);
  }

  /** Whether a server takes mutual TLS only, or is known to have a sidecar that takes it. */
  wants(service: Service, port: ServicePort, endpoint: Endpoint): boolean {
    const { mode } = this.#modeOf(service, port, endpoint);
    return mode === 'STRICT' || (mode === 'PERMISSIVE' && endpoint.labels[TLS_MODE] === 'istio');
  }

  /** Whether a server of a cluster is one; notes the policies that make it so. */
  insist(cluster: JsonObject, service: Service, port: ServicePort, endpoints: readonly Endpoint[]): boolean {
    if (!this.context.mesh || service.external || service.assumed) return false;
    const wanted = endpoints.filter((endpoint) => this.wants(service, port, endpoint));
    for (const by of new Set(wanted.flatMap((endpoint) => this.#modeOf(service, port, endpoint).by ?? [])))
      this.#made.set(by, [...(this.#made.get(by) ?? []), cluster]);
    return wanted.length > 0;
  }

  /**
   * A PeerAuthentication decides something about requests that leave this node only if it is STRICT: such servers are
   * spoken to in mutual TLS where the node has certificates, and refuse what it sends where it has none. Gives that reason
   * to the policies that make a server's port STRICT, or may, and says of the others that they decide nothing.
   */
  explain(services: readonly Service[]): void {
    const { context } = this;
    const { rootNamespace, mesh, assumeEndpoints } = context;
    const servers = serversOf(services);
    for (const { policy, path, rule } of strictOnes(context, this.#policies)) {
      const { namespace } = policy.document;
      const near = servers.filter((s) => namespace === rootNamespace || s.namespace === namespace);
      const counting = near.filter((s) => {
        const { mode, by } = peerMode(this.#policies, rootNamespace, s);
        return !s.known || (mode === 'STRICT' && by === policy);
      });
      // nothing selects workloads from the root namespace, and ports count with a selector only
      const vain = selects(policy) ? namespace === rootNamespace : said(policy.spec.mtls) !== 'STRICT';
      if (!vain && (counting.length > 0 || near.length === 0)) {
        rule.objects.push(...(this.#made.get(policy) ?? []));
        const guessed = selects(policy) && counting.some(({ known }) => !known);
        if (mesh && guessed) {
          const message = 'which servers insist on mutual TLS cannot be told: their labels are not known';
          context.unsupported(rule, path, 'mesh-tls', message);
        } else if (!mesh) {
          const message =
            'requests go in plain text without certificates of the mesh (run --certificates): servers that insist on mutual TLS refuse them, and servers without a sidecar do not';
          context.unsupported(rule, path, 'mesh-tls', message);
        } else if (assumeEndpoints) {
          context.warn(policy.document, path, 'assumed-certificates', ASSUMED);
        }
        continue;
      }
      const message = vain
        ? 'decides nothing: workloads are not selected from the root namespace, and portLevelMtls needs a selector'
        : 'decides nothing: it selects no server of a service here, or other PeerAuthentications count for all that it selects';
      context.warn(policy.document, path, 'superseded', message);
    }
  }
}
