import type { Diagnostic, Position } from './diagnostics.js';

/** A JSON object in proto3 JSON form with proto (snake_case) field names, as `toJson(..., {useProtoFieldName: true})` gives. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/**
 * Where the objects of the resources came from. Keyed by identity: an object that is copied loses its origin, so
 * translators register what they make (`set`) and readers look up the nearest object that they hold.
 */
export class Provenance {
  readonly #objects = new WeakMap<object, Position>();
  readonly #fields = new WeakMap<object, Map<string, Position>>();
  readonly #sources = new WeakMap<object, object>();

  /** Says that `object` (or its field `key`) comes from `position`. */
  set(object: object, position: Position, key?: string): void {
    if (key === undefined) {
      this.#objects.set(object, position);
      return;
    }
    let fields = this.#fields.get(object);
    if (!fields) {
      fields = new Map();
      this.#fields.set(object, fields);
    }
    fields.set(key, position);
  }

  /** Says that `copy` was made of `object`: what is not said of it is as there. */
  derive(copy: object, object: object): void {
    this.#sources.set(copy, object);
  }

  /** The position of field `key` of `object` if known, else that of `object`, else undefined. */
  get(object: object, key?: string): Position | undefined {
    const own = (key === undefined ? undefined : this.#fields.get(object)?.get(key)) ?? this.#objects.get(object);
    const source = own ? undefined : this.#sources.get(object);
    return source ? this.get(source, key) : own;
  }
}

/** A user's rule as he wrote it: one route / HTTP rule / authorization rule / traffic policy block / filter. */
export interface SourceRule {
  /** unique within one load, e.g. `default/reviews#http[0]` */
  readonly id: string;
  readonly kind: string;
  readonly name: string;
  /** human-readable name of the rule inside its document, e.g. `http[0]` */
  readonly rule: string;
  readonly position: Position;
  /**
   * The objects of the resources that stand for this rule (routes, rbac policies, clusters ...), by identity. The rule
   * is offloaded when everything that they lead to is. Empty: the rule takes part in nothing here (see `note`).
   */
  readonly objects: object[];
  /** constructs that translation already knows the kernel cannot do, each becomes a reason */
  readonly unsupported: {
    readonly code: string;
    readonly message: string;
    readonly field: string;
    readonly line: number;
    /** it is so for these resources, and not for those that are for these clients */
    readonly clients?: Clients;
  }[];
}

/** Why a translator leaves an object of the resources to the proxy; the codes are those of the plan's reasons. */
export interface LeftReason {
  readonly code: 'envoy-filter' | 'wasm' | 'access-log' | 'tracing' | 'unsupported-kind';
  readonly message: string;
  readonly field: string;
  readonly position: Position;
}

/** Clients as policies tell them apart. */
export interface Clients {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** True for clients in the same namespace with the same labels. */
export function sameClients(a: Clients, b: Clients): boolean {
  const words = ({ labels }: Clients) => JSON.stringify(Object.entries(labels).sort());
  return a.namespace === b.namespace && words(a) === words(b);
}

/** A name that applications may look up, with the address that stands for it. */
export interface HostEntry {
  readonly address: string;
  readonly names: readonly string[];
}

/** An address that applications connect to and the listener that decides about such connections. */
export interface Intercept {
  /** IPv4 or IPv6 literal; `0.0.0.0` and `::` mean any address of this host */
  readonly address: string;
  readonly port: number;
  /** name of the listener in `listeners` */
  readonly listener: string;
  /**
   * connections from everywhere are decided here, not only those of the mesh's own applications. `proxy`: the address is
   * the listener's own; `workload`: a server has it, and the listener stands before it
   */
  readonly inbound?: 'proxy' | 'workload';
  /** of a workload: the listener's own address, which is what its rules see as the destination */
  readonly own?: { readonly address: string; readonly port: number };
  /** connections are decided when they are opened, and nobody else takes them */
  readonly direct?: true;
  /** what a client says first tells where its connection goes */
  readonly hello?: true;
  /** of a workload: who keeps the policy while the agent is away, the proxy or nobody (connections are refused) */
  readonly away?: 'proxy' | 'refuse';
}

/** Everything that one set of files says, in Envoy's terms: the waist between the inputs and both data paths. */
export interface Resources {
  /** envoy.config.listener.v3.Listener */
  readonly listeners: JsonObject[];
  /** envoy.config.route.v3.RouteConfiguration that listeners refer to by name (rds) */
  readonly routeConfigs: JsonObject[];
  /** envoy.config.cluster.v3.Cluster; their load assignments inline or in `endpoints` */
  readonly clusters: JsonObject[];
  /** envoy.config.endpoint.v3.ClusterLoadAssignment */
  readonly endpoints: JsonObject[];
  /** the rest of the user's bootstrap (admin, node, layered_runtime ...), without static_resources; {} for Istio input */
  readonly bootstrap: JsonObject;
  readonly intercepts: Intercept[];
  readonly hosts: HostEntry[];
  /** who the clients at known addresses are (SPIFFE URIs), as translated policies take them to be */
  readonly identities?: readonly { readonly address: string; readonly identity: string }[];
  readonly rules: SourceRule[];
  /** clients that some of the rules count for, and these resources are not for */
  readonly otherClients?: readonly Clients[];
  /** issuers of tokens, by address, that must be asked where their keys are (OpenID Connect Discovery) */
  readonly issuers?: readonly string[];
  /**
   * Listeners, virtual hosts, routes and clusters, by identity, that are the proxy's whatever they say: something in the
   * files changes them in a way that the resources do not show
   */
  readonly left?: ReadonlyMap<object, readonly LeftReason[]>;
  /** number of documents read */
  readonly documents: number;
  readonly provenance: Provenance;
  readonly diagnostics: Diagnostic[];
}
