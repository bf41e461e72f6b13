/** What a route does: its `route`, `redirect` or `direct_response` -> variants of an action. */
import type { JsonObject, Provenance, Resources } from '../policy/resources.js';
import type { ClusterInfo } from './clusters.js';
import type { FilterOutcome } from './filter-outcome.js';
import type { Action, ClusterPlan, Condition, RbacCheck, Reason } from './ir.js';
import type { LogOperator } from './log-format.js';
import type { Notes } from './notes.js';
import type { MayChange } from './runtime.js';
import type { Decoration, TracePlan } from './tracing.js';
import type { UserAgent } from './user-agent.js';

/**
 * A route becomes one or more variants, tried in order: a condition on top of the route's own and what is done then.
 * Variants exist because edits are literal: the old host, for example, is known only per domain.
 */
export interface Variant {
  readonly when: Condition;
  readonly action: Action;
  /** why the action is the proxy; empty for the kernel */
  readonly reasons: readonly Reason[];
  /** the variant only catches requests of an unusual form: it does not make the rule a proxied one */
  readonly guard: boolean;
  /** checks beyond those of the filter chain (RBAC filters of the cluster) */
  readonly checks?: readonly RbacCheck[];
}

/** What use_remote_address means: the proxy stands at the edge and tells servers whose requests they get. */
export interface Edge {
  /** the client's address is appended to x-forwarded-for */
  readonly append: boolean;
  /** requests whose headers the edge changes in another way: to the proxy */
  readonly guard: Condition;
  /** x-forwarded-for is not believed */
  readonly direct: boolean;
}

/** What applies to all routes of a listener. */
export interface ListenerContext {
  readonly provenance: Provenance;
  /** objects that the translation leaves to the proxy */
  readonly left: Resources['left'];
  readonly clusters: ReadonlyMap<string, ClusterInfo>;
  /** clusters that kernel routes use, by the name in the plan */
  readonly used: Map<string, ClusterPlan>;
  readonly address: string;
  readonly port: number;
  /** ports that clients connect to when they mean this listener */
  readonly clientPorts: readonly number[];
  /** called when a rule that is used looks at the remote address */
  readonly usesRemoteIp: () => void;
  /** a runtime layer may override runtime keys */
  readonly mayChange: MayChange;
  /** connections are protected by TLS, which the proxy takes off */
  readonly secure: boolean;
  /** HTTP/2 keeps nothing from the kernel (see `Assumptions`) */
  readonly http2: boolean;
  /** see `Assumptions.streams` */
  readonly streams: boolean;
  /** names of headers keep their spelling: of requests, or of some servers' answers */
  readonly keepsCase: boolean;
  /** see `Assumptions.relays` */
  readonly ownProxy: boolean;
  /** router filter: suppress_envoy_headers */
  readonly suppressEnvoyHeaders: boolean;
  /** use_remote_address: what the proxy says about the client */
  readonly edge: Edge | undefined;
  readonly trace?: TracePlan;
  /** requests get an id where they have none */
  readonly requestIds: boolean;
  /** add_user_agent: what the proxy says about itself */
  readonly userAgent: UserAgent | undefined;
  /** the operators of the listener's access logs */
  readonly logged: readonly LogOperator[];
  /** the log tells a cluster from its copy that leads to other endpoints (tried.ts) */
  readonly logsCopies: boolean;
  /** see `RbacContext` */
  readonly details: boolean;
  /** HCM stream_idle_timeout, 0: none */
  readonly streamIdleTimeoutMs: number;
  /** per_connection_buffer_limit_bytes is another than Envoy's own */
  readonly otherBuffers: boolean;
  /** x-forwarded-client-cert is removed from requests */
  readonly removeClientCert: boolean;
  readonly stripPort: 'none' | 'any' | number;
  /** filters of the chain that act on rate limit descriptors */
  readonly hasRateLimitFilter: boolean;
}

/** What applies to one route beside its own fields. */
export interface RouteContext {
  readonly listener: ListenerContext;
  readonly routeConfig: JsonObject;
  readonly virtualHost: JsonObject;
  readonly domains: readonly string[];
  readonly route: JsonObject;
  /** field path of the route */
  readonly path: string;
  /** bytes of the path that the match covered */
  readonly matched: number | 'whole';
  /** what the HTTP filters do to its requests */
  readonly filters: Pick<FilterOutcome, 'request' | 'whole'>;
  /** how spans are called */
  readonly decoration: Decoration;
}

/** The one variant of a route that is left to the proxy. */
export function proxied(notes: Notes, when: Condition): Variant {
  return { when, action: { kind: 'proxy' }, reasons: notes.reasons, guard: false };
}
