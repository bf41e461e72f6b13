/** One generation of the policy, as the agent has it: what is in force, and nothing that is only needed to make it. */
import type { AnswerProgram } from '../compile/answer-edits.js';
import type { CompiledImage } from '../compile/image.js';
import type { DownstreamIdle } from '../plan/idle-times.js';
import type { Breaker, ListenerPlan, RoutePlan, TokenBucket } from '../plan/ir.js';
import type { LocalLimit } from '../plan/local-limits.js';
import type { TokenPlan } from '../plan/tokens.js';
import type { Diagnostic } from '../policy/diagnostics.js';
import type { Identity } from '../policy/istio/identities.js';
import type { LoadOptions } from '../policy/load.js';
import type { HostEntry, Intercept, JsonObject } from '../policy/resources.js';
import type { ChainTarget, NamedChain, PreparedProxy } from '../proxy/index.js';
import type { Address } from './address.js';
import type { SecretFiles } from './mesh-certificates.js';
import type { Bounds } from './pool-bounds.js';
import type { TokenGeneration } from './token-cache.js';

/** `run --inbound LISTENER=ADDRESS:PORT[/refuse]`. */
export interface InboundOption extends Address {
  readonly listener: string;
  readonly away: 'proxy' | 'refuse';
}

/** What a generation is made of. Plain values: it is handed to another thread. */
export interface PolicyTask {
  readonly files: readonly string[];
  /** what `-` among the files stands for */
  readonly stdin?: Uint8Array;
  readonly instance: string;
  readonly identity?: Identity;
  readonly workload?: LoadOptions['workload'];
  /** 'own': an Envoy of the instance's; 'none': there is no proxy; else its address, port 0 meaning the listener's own */
  readonly proxy: 'own' | 'none' | { readonly address: string; readonly port: number };
  /** folder of the instance's own proxy */
  readonly proxyFolder: string;
  readonly inbound: readonly InboundOption[];
  /** the proxy waits on behalf of clients in other network namespaces */
  readonly elsewhere: boolean;
  /** requests of HTTP/2 are decided, too */
  readonly http2?: boolean;
  /** what the files' policies ask of servers on this host is asked where connections arrive, too; who keeps that meanwhile */
  readonly atServers?: 'proxy' | 'refuse';
  /** files of secret discovery with the node's certificates of the mesh, if it has some */
  readonly secrets?: SecretFiles;
  /** Unix sockets at which the proxy asks the agent, and at which it reports its tries */
  readonly consultPath: string;
  readonly reportsPath: string;
  /** where the proxy hands on the connections of relayed chains */
  readonly chains?: ChainTarget;
  /** in the names of relays, which are for the agent alone */
  readonly relaySecret: string;
  /** of the generation */
  readonly number: number;
  /** digest of the policy in force: files that say the same make no generation */
  readonly inForce?: string;
  /** what that policy was made of (see `Generation.sources`) */
  readonly before?: Uint8Array;
  /** what the files said when a generation was made (see `Generation.sources`): it is made anew, whatever they say now */
  readonly sources?: Uint8Array;
}

/** An endpoint that connections are pooled for. */
export interface EndpointWanted {
  readonly address: string;
  readonly port: number;
  readonly proxy: boolean;
  /** see `relayId`: connections lead through a relay */
  readonly relay?: string;
}

/** What only the agent can give numbers to, the same in all generations. */
export interface NumbersWanted {
  readonly listeners: readonly string[];
  readonly endpoints: readonly EndpointWanted[];
  readonly programs: readonly AnswerProgram[];
  readonly buckets: readonly TokenBucket[];
  readonly breakers: readonly Breaker[];
  /** servers of HTTP/2 */
  readonly streams: readonly Address[];
}

export interface Numbers {
  /** an index for each listener that there ever was */
  readonly listeners: ReadonlyMap<string, number>;
  /** ids in the order of what was wanted; -1: there is no room */
  readonly endpoints: readonly number[];
  readonly programs: readonly number[];
  /** -1: there is no room, or the proxy cannot be told about it */
  readonly buckets: readonly number[];
  readonly breakers: readonly number[];
  /** none: there are no programs for HTTP/2 */
  readonly streams?: readonly number[];
}

/** What lines of access logs need of a rule. */
export type LoggedRoute = Pick<RoutePlan, 'action' | 'guard' | 'routeName' | 'operation'>;

/** What lines of access logs are made of, for a listener: its plan without routes, and the routes by rule. */
export interface LoggedListener {
  readonly listener: ListenerPlan;
  /** see `replyDetails` */
  readonly details: readonly string[];
  /** `LoggedRoute`s as v8 serializes them (there are thousands, and few are asked for), one after the other */
  readonly routes: Uint8Array;
  /** where the one of each rule begins in `routes`, and where the last one ends; an empty one: it is no rule of this listener */
  readonly offsets: Uint32Array;
}

/** What decides about requests of HTTP/2. */
export interface StreamPolicy {
  /** of the generation */
  readonly number: number;
  readonly image: Uint8Array;
  /** see `Generation` */
  readonly ruleNames: Uint8Array;
  readonly ruleCount: number;
  readonly logged: readonly LoggedListener[];
  /** the servers that requests may go to, by listener; no listener that leaves all of them to the proxy */
  readonly servers: ReadonlyMap<string, StreamServers>;
  /** see CompiledImage */
  readonly followed: CompiledImage['followed'];
}

/** Servers of one listener. */
export interface StreamServers {
  readonly fixed: readonly StreamServer[];
  /** clusters of which the proxy finds them out */
  readonly named: readonly string[];
}

export interface StreamServer extends Address {
  readonly endpoint: number;
}

export interface Generation {
  readonly number: number;
  /** of what the policy says */
  readonly digest: string;
  readonly compiled: Pick<CompiledImage, 'image' | 'followed' | 'stats'>;
  /** where servers speak HTTP/2 */
  readonly streams?: StreamPolicy;
  /** ids of the image's rules by index, as JSON; they are as many as `ruleCount` */
  readonly ruleNames: Uint8Array;
  readonly ruleCount: number;
  /** time from resources to image, in milliseconds */
  readonly compileMs: number;
  /** the users' rules */
  readonly report: { readonly rules: number; readonly kernel: number; readonly proxy: number };
  /** everything that is to be intercepted */
  readonly wanted: readonly Intercept[];
  /** intercepts of offloaded listeners: the others' connections go to the proxy without us */
  readonly intercepts: readonly Intercept[];
  readonly hosts: readonly HostEntry[];
  /** listeners that decide about connections from everywhere, with the Unix socket at which the proxy waits for the agent */
  readonly inbound: ReadonlyMap<string, string>;
  /** chains whose connections come from the proxy, by their names in the plan */
  readonly chains: ReadonlyMap<string, NamedChain>;
  /** rate limits that the kernel enforces */
  readonly limits: readonly LocalLimit[];
  /** clusters whose requests in flight the kernel counts, too */
  readonly breakers: ReadonlySet<string>;
  /** load assignments of the proxy's clusters that the agent ejects endpoints of, as long as nothing is ejected */
  readonly ejectable: ReadonlyMap<string, JsonObject>;
  /** the Unix sockets at which the proxy waits on behalf of clients in other network namespaces, by listener */
  readonly elsewhere: ReadonlyMap<string, string>;
  readonly logged: readonly LoggedListener[];
  /** the agent gets copies of some requests */
  readonly mirrors: boolean;
  /** where the proxy listens, by listener */
  readonly proxies: ReadonlyMap<string, { readonly address: string; readonly port: number }>;
  /** ids of the endpoints that the plan's clusters have, with how long connections to them may be idle (ms, 0: for ever) */
  readonly endpoints: ReadonlyMap<number, number>;
  /** how many connections there may be to them, where that is limited, by id */
  readonly bounds: ReadonlyMap<number, Bounds>;
  /** the same of clients' connections, by listener */
  readonly idle: ReadonlyMap<string, DownstreamIdle>;
  /** what is asked about tokens, by listener */
  readonly tokens: ReadonlyMap<string, TokenPlan>;
  /** where clusters are that keys are fetched from */
  readonly keyServers: ReadonlyMap<string, { readonly address: string; readonly port: number }>;
  /** what the instance's own proxy is given */
  readonly prepared?: PreparedProxy;
  /** listeners and clusters as JSON, for who asks */
  readonly config: Uint8Array;
  /** names and texts of the files, as JSON */
  readonly sources: Uint8Array;
}

/** Those for which a policy is not taken. */
export function errorsOf(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  return diagnostics.filter((d) => d.severity === 'error');
}

/** What the agent must know to verify tokens for a generation. */
export function tokenGeneration(generation: Generation, index: ReadonlyMap<string, number>): TokenGeneration {
  const listeners = [...generation.tokens].map(
    ([name, plan]) => [name, { index: index.get(name) ?? 0, plan }] as const,
  );
  return {
    number: generation.number,
    listeners: new Map(listeners),
    reach: (cluster) => generation.keyServers.get(cluster),
  };
}
