/** What backendRefs mean: a cluster, or nothing that may be used. */
import type { Document } from '../documents.js';
import type { Context, Path, RuleBuilder } from '../istio/context.js';
import { clusterName } from '../istio/hosts.js';
import type { Typed } from '../istio/kubernetes-services.js';
import type { Registry } from '../istio/registry.js';
import type { ObjectRef, ReferenceGrant } from './schema.js';

/** Why a reference cannot be used; `known` tells what Istio or nobody could make of it. */
export interface Refused {
  readonly code: string;
  readonly message: string;
  /** another controller may know the kind: what happens there is not known here */
  readonly foreign: boolean;
}

export type Backend = { readonly cluster: string; readonly host: string; readonly port: number } | Refused;

/** The host that a reference means; undefined for kinds that are no host. */
export function backendHost(
  ref: Omit<ObjectRef, 'port'>,
  namespace: string,
  domain: string,
): { host: string; namespace: string } | undefined {
  const group = ref.group ?? '';
  const kind = ref.kind ?? 'Service';
  const own = ref.namespace ?? namespace;
  if ((group === '' || group === 'core') && kind === 'Service') {
    return { host: `${ref.name}.${own}.svc.${domain}`.toLowerCase(), namespace: own };
  }
  // Istio's way to name any host of its registry.
  if (group === 'networking.istio.io' && kind === 'Hostname') return { host: ref.name.toLowerCase(), namespace };
  return undefined;
}

/** True if a grant of the backend's namespace lets routes of this kind and namespace refer to it. */
function granted(grants: readonly Typed<ReferenceGrant>[], from: Document, ref: ObjectRef, namespace: string): boolean {
  return grants.some(
    ({ document, spec }) =>
      document.namespace === namespace &&
      spec.from?.some(
        (f) => f.group === 'gateway.networking.k8s.io' && f.kind === from.kind && f.namespace === from.namespace,
      ) === true &&
      spec.to?.some(
        (t) => (t.group ?? '') === '' && t.kind === 'Service' && (t.name === undefined || t.name === ref.name),
      ) === true,
  );
}

/** Resolves references of routes to backends. */
export class Backends {
  constructor(
    readonly context: Context,
    readonly registry: Registry,
    readonly grants: readonly Typed<ReferenceGrant>[],
    readonly granting = true,
  ) {}

  /** For routes of the mesh, which need no grants under istiod, or of gateways. */
  forParent(mesh: boolean): Backends {
    return mesh === this.granting ? new Backends(this.context, this.registry, this.grants, !mesh) : this;
  }

  /** What a reference means; see `Refused` where it means nothing. */
  resolve(document: Document, ref: ObjectRef): Backend {
    const { context, registry } = this;
    const refused = (code: string, message: string, foreign = false): Refused => ({ code, message, foreign });
    const place = backendHost(ref, document.namespace, context.domain);
    if (!place) {
      const kind = `${ref.group ? `${ref.group}/` : ''}${ref.kind}`;
      return refused('backend-kind', `backends of kind ${kind} are not known here`, true);
    }
    const service = registry.get(place.host);
    const missing = !service || (service.assumed && !context.assumeEndpoints);
    if (missing) return refused('unknown-service', `no Service describes ${place.host}`);
    const across = place.namespace !== document.namespace;
    // Where not even the Service is in the files, its namespace's grants are not expected there either.
    if (this.granting && across && !service.assumed && !granted(this.grants, document, ref, place.namespace)) {
      const message = `no ReferenceGrant of namespace ${place.namespace} lets ${document.kind}s of ${document.namespace} use it`;
      return refused('reference-grant', message);
    }
    if (ref.port === undefined) return refused('backend-port', 'names no port');
    const port = service.ports.find((p) => p.number === ref.port);
    if (!port) return refused('backend-port', `${place.host} has no port ${ref.port}`);
    return { cluster: clusterName(port.number, '', place.host), host: place.host, port: port.number };
  }

  /**
   * As `resolve`, and says what is wrong at the reference.
   *
   * @param shared other backends of the rule take requests: the rule is not simply answered 500
   */
  report(rule: RuleBuilder, ref: ObjectRef, path: Path, shared: boolean): Backend {
    const found = this.resolve(rule.document, ref);
    if ('cluster' in found) return found;
    const status = rule.document.kind === 'GRPCRoute' ? 503 : 500;
    const message = `${found.message}: requests for it are answered ${status}`;
    this.context.warn(rule.document, path, found.code, message);
    if (found.foreign && shared) this.context.unsupported(rule, path, found.code, message);
    return found;
  }
}
