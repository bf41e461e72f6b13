/**
 * Who a client is. Policies are enforced at the application's own socket, in a cgroup on this node, so that needs no
 * certificate: the address of the connection tells the workload (a Pod, a WorkloadEntry or an endpoint of a ServiceEntry
 * in the files), and where no document knows the address, it is the identity that the instance was started with. Both
 * paths must mean the same, so an identity becomes what the kernel and the proxy see alike: the connection's own
 * address (Envoy's `direct_remote_ip`; the agent binds to it when it goes to the proxy).
 *
 * An address that nobody knows has no identity without the instance's, as a plain-text client has none with Istio:
 * `principals` do not match, `notPrincipals` do.
 */
import { isIP } from 'node:net';
import { RE2JS } from 're2js';
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context, Path } from './context.js';
import type { Typed } from './kubernetes-services.js';
import type { Pod, ServiceEntry, WorkloadEntry } from './schema/services.js';

export const LOCAL_TRUST_DOMAIN = 'cluster.local';
const DEFAULT_ACCOUNT = 'default';

/** A workload's SPIFFE identity in its parts. */
export interface Identity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/**
 * Reads an identity: `spiffe://TD/ns/NS/sa/SA`, `TD/ns/NS/sa/SA`, or `ns/NS/sa/SA` and `NS/SA` in the trust domain
 * `cluster.local`. Undefined if it is none of these.
 */
export function parseIdentity(text: string): Identity | undefined {
  const name = '([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)';
  const full = new RegExp(`^(?:spiffe://)?${name}/ns/${name}/sa/${name}$`).exec(text);
  if (full) return { trustDomain: full[1]!, namespace: full[2]!, serviceAccount: full[3]! };
  const short = new RegExp(`^(?:ns/${name}/sa/${name}|${name}/${name})$`).exec(text);
  if (!short) return undefined;
  return {
    trustDomain: LOCAL_TRUST_DOMAIN,
    namespace: (short[1] ?? short[3])!,
    serviceAccount: (short[2] ?? short[4])!,
  };
}

/** The identity as certificates have it. */
export function spiffe({ trustDomain, namespace, serviceAccount }: Identity): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

/** Whether an envoy.type.matcher.v3.StringMatcher of an identity (exact, prefix or safe_regex) holds for `uri`. */
export function matchesIdentity(matcher: JsonObject, uri: string): boolean {
  if (typeof matcher.exact === 'string') return uri === matcher.exact;
  if (typeof matcher.prefix === 'string') return uri.startsWith(matcher.prefix);
  const regex = (matcher.safe_regex as JsonObject | undefined)?.regex;
  return typeof regex === 'string' && RE2JS.compile(regex).matches(uri);
}

/** The name of the service account of a pod. */
export const podAccount = ({ spec }: Pod): string =>
  spec?.serviceAccountName ?? spec?.serviceAccount ?? DEFAULT_ACCOUNT;

export interface IdentitySources {
  readonly pods: readonly Typed<Pod>[];
  readonly workloadEntries: readonly Typed<WorkloadEntry>[];
  readonly serviceEntries: readonly Typed<ServiceEntry>[];
}

export class Identities {
  /** undefined: documents disagree about the address */
  readonly #byAddress = new Map<string, string | undefined>();
  readonly #instance: string | undefined;
  readonly #context: Context;
  #warned = false;

  /** @param instance identity of clients whose address no document knows */
  constructor(context: Context, sources: IdentitySources, instance: Identity | undefined) {
    this.#context = context;
    this.#instance = instance && spiffe(instance);
    for (const { document, spec } of sources.pods) {
      // A pod in the host's network has the node's address; a pod that has ended has none any more.
      if (spec.spec?.hostNetwork || /^(Succeeded|Failed)$/.test(spec.status?.phase ?? '')) continue;
      const account = podAccount(spec);
      const addresses = [spec.status?.podIP, ...(spec.status?.podIPs ?? []).map((p) => p.ip)];
      for (const address of addresses) this.#add(document, ['status'], address, document.namespace, account);
    }
    for (const { document, spec } of sources.workloadEntries)
      this.#add(document, ['spec', 'address'], spec.address, document.namespace, spec.serviceAccount);
    for (const { document, spec } of sources.serviceEntries)
      spec.endpoints?.forEach((entry, index) => {
        const path = ['spec', 'endpoints', index, 'address'];
        this.#add(document, path, entry.address, document.namespace, entry.serviceAccount);
      });
  }

  #add(document: Document, path: Path, address: string | undefined, namespace: string, account?: string): void {
    if (!address || isIP(address) === 0 || !account) return;
    const { trustDomain } = this.#context;
    const uri = spiffe({ trustDomain, namespace, serviceAccount: account });
    if (this.#byAddress.has(address) && this.#byAddress.get(address) !== uri) {
      const message = `several workloads with different service accounts have the address ${address}: it says nothing about who the client is`;
      this.#context.warn(document, path, 'ambiguous-identity', message);
      this.#byAddress.set(address, undefined);
    } else this.#byAddress.set(address, uri);
  }

  /** Addresses with their identities, in order of the documents. */
  known(): { readonly address: string; readonly identity: string }[] {
    return [...this.#byAddress].flatMap(([address, identity]) => (identity ? [{ address, identity }] : []));
  }

  /** A principal that holds for the clients whose identity satisfies one of `matchers`. */
  principal(matchers: readonly JsonObject[], document: Document, path: Path): JsonObject {
    if (this.#byAddress.size === 0 && this.#instance === undefined && !this.#warned) {
      this.#warned = true;
      const message = 'no document gives a workload an address, and the instance has no identity: nobody has one here';
      const hint = 'add Pod documents (kubectl get pods -o yaml), or run with --identity NAMESPACE/SERVICEACCOUNT';
      this.#context.warn(document, path, 'unknown-identity', message, hint);
    }
    const matches = (uri: string | undefined) => uri !== undefined && matchers.some((m) => matchesIdentity(m, uri));
    const others = matches(this.#instance);
    // Where the instance's own identity matches, everybody does but the addresses that are known to be somebody else.
    const listed = [...this.#byAddress].filter(([, uri]) => matches(uri) !== others).map(([address]) => range(address));
    if (listed.length === 0) return others ? { any: true } : { not_id: { any: true } };
    const some: JsonObject = listed.length === 1 ? listed[0]! : { or_ids: { ids: listed } };
    return others ? { not_id: some } : some;
  }
}

function range(address: string): JsonObject {
  return { direct_remote_ip: { address_prefix: address, prefix_len: isIP(address) === 6 ? 128 : 32 } };
}
