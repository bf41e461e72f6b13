/**
 * The plan: what is decided for each listener, in terms that the compiler can turn into automata and tables. Everything
 * that the plan cannot express is a `proxy` verdict with reasons; nothing is dropped silently.
 */
import type { Position } from '../policy/diagnostics.js';
import type { JsonObject } from '../policy/resources.js';
import type { AccessLog } from './access-log.js';
import type { ChainRelay } from './chains.js';
import type { Compressible } from './compressible.js';
import type { Balancing, HostSet, HostState } from './host-sets.js';
import type { LocalReplies } from './local-replies.js';
import type { MirrorPlan } from './mirrors.js';
import type { Detection } from './outliers.js';
import type { TokenPlan } from './tokens.js';
import type { TracePlan } from './tracing.js';

/** Why something is left to the proxy. Codes come from the closed list in `reasons.ts`. */
export interface Reason {
  readonly code: string;
  readonly message: string;
  /** path of the field in the Envoy resource, e.g. `route.retry_policy.retry_on` */
  readonly field: string;
  readonly position?: Position;
}

/** Which bytes of a request a predicate looks at. Header names are lower case; `:authority` is `host`. */
export type Field =
  | { readonly kind: 'method' | 'host' | 'path' | 'target' | 'source_ip' }
  | { readonly kind: 'query'; readonly name: string }
  | { readonly kind: 'header'; readonly name: string }
  /** a fact about the request's verified token: its number in `ListenerPlan.tokens`; there when it holds */
  | { readonly kind: 'token'; readonly fact: number };

/** How the bytes are tested. Regexes are RE2 syntax and must match the whole field. Ranges are half-open int64. */
export type Matcher =
  | { readonly kind: 'exact' | 'prefix' | 'suffix' | 'contains'; readonly value: string; readonly ignoreCase: boolean }
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'present' }
  | { readonly kind: 'range'; readonly start: bigint; readonly end: bigint }
  | { readonly kind: 'cidr'; readonly address: string; readonly prefixLength: number }
  /** any of several single addresses: the workloads with an identity, for example */
  | { readonly kind: 'addresses'; readonly addresses: readonly string[] };

/** True when the field is there and its bytes match. A missing header or query parameter satisfies no predicate. */
export interface Predicate {
  readonly field: Field;
  readonly matcher: Matcher;
}

export type Condition =
  | { readonly op: 'const'; readonly value: boolean }
  | { readonly op: 'test'; readonly predicate: Predicate }
  | { readonly op: 'not'; readonly of: Condition }
  | { readonly op: 'and' | 'or'; readonly of: readonly Condition[] };

/** A piece of a produced string. */
export type Piece =
  | { readonly kind: 'literal'; readonly value: string }
  /** the path without its query from byte `from` on */
  | { readonly kind: 'path'; readonly from: number }
  /** '?' and the query, or nothing */
  | { readonly kind: 'query' }
  | { readonly kind: 'host' }
  /** the host without its port */
  | { readonly kind: 'host_name' }
  /** the value of a request header, nothing if it is not there; with `length`: so many of its bytes */
  | { readonly kind: 'header'; readonly name: string; readonly from?: number; readonly length?: number }
  | { readonly kind: 'capture'; readonly group: number }
  /** the address that the connection comes from, as text */
  | { readonly kind: 'source_ip' }
  /** sixteen random hexadecimal digits; `again`: the last ones once more */
  | { readonly kind: 'random'; readonly again?: boolean }
  /** the id of a request that is traced */
  | { readonly kind: 'request_id' }
  /** 1 where the request's span is sampled, else 0 */
  | { readonly kind: 'sampled' }
  /** a random UUID; address and port of the server; Base64 of the pieces since the last literal, in their place */
  | { readonly kind: 'uuid' | 'endpoint' | 'base64' }
  /** a number about a bucket when the answer is made; without `bucket` about the first that the request took from */
  | { readonly kind: 'figure'; readonly of: Figure; readonly bucket?: TokenBucket };

/** What x-ratelimit headers say of a bucket: its size, whole tokens left, seconds until there is one. */
export type Figure = 'limit' | 'remaining' | 'reset';

/**
 * One edit of the request's headers, applied in order. Values are literal, or made of the request as received. `join`
 * adds to what is there, behind a comma. `renew` takes the header's lines out, and adds one: with `value` where the request
 * as received has the header `by` (default: the same), else with `absent`, if there is that. `sampled` adds a line where the
 * request's span is sampled; the request has no such header. Names are lower case.
 */
export type HeaderEdit =
  | { readonly op: 'remove'; readonly name: string }
  | {
      readonly op: 'append' | 'overwrite' | 'add_if_absent' | 'overwrite_if_present' | 'join';
      readonly name: string;
      readonly value: string | readonly Piece[];
    }
  | { readonly op: 'sampled'; readonly name: string; readonly value: readonly Piece[] }
  | {
      readonly op: 'renew';
      readonly name: string;
      readonly value: readonly Piece[];
      readonly absent?: readonly Piece[];
      readonly by?: string;
    };

/**
 * One edit of an answer's headers, applied in order. `overwrite` takes all lines of the name out and adds one at the end;
 * `set` changes the value where it stands (and adds the header if it is not there), `list` adds an element that a list
 * does not have. Pieces are about the request as
 * received. Names are lower case.
 */
export interface AnswerEdit {
  readonly op: 'remove' | 'append' | 'overwrite' | 'set' | 'add_if_absent' | 'overwrite_if_present' | 'list';
  readonly name: string;
  /** empty for `remove`, a literal for `list` */
  readonly value: readonly Piece[];
  /** with `list`: only then */
  readonly when?: Compressible;
}

/** What is done to the headers of an answer that an upstream gives, or that the mesh gives in its place. */
export interface AnswerEdits {
  /** by the router (route, virtual host, route configuration) */
  readonly route: readonly AnswerEdit[];
  /** by the HTTP filters, afterwards; of the mesh's own replies, when they have content-length and content-type */
  readonly filters: readonly AnswerEdit[];
  /** how the mesh's own replies are rewritten before that */
  readonly local?: LocalReplies;
}

/** How the target (path and query) of a forwarded request is made. */
export type TargetRewrite =
  | { readonly kind: 'pieces'; readonly pieces: readonly Piece[] }
  /** RE2 GlobalReplace over the path (the query is kept); `substitution` as Envoy takes it (\0..\9) */
  | { readonly kind: 'regex'; readonly pattern: string; readonly substitution: string };

export interface ForwardAction {
  readonly kind: 'forward';
  readonly clusters: readonly { readonly cluster: string; readonly weight: number }[];
  readonly target?: TargetRewrite;
  /** new Host value */
  readonly host?: string;
  readonly edits: readonly HeaderEdit[];
  /** adds `x-envoy-original-path: <target as received>` (Envoy does so for rewritten paths unless suppressed) */
  readonly originalPath: boolean;
  /** the headers that come with the request's known token are added */
  readonly tokenHeaders?: boolean;
  /** 0: none */
  readonly timeoutMs: number;
  /** between two pieces of the request; absent: none (it is never shorter than `timeoutMs`, so answers cannot meet it) */
  readonly idleTimeoutMs?: number;
  /** until the head of the answer to one try; absent: none */
  readonly perTryTimeoutMs?: number;
  /** of streams; absent: neither grpc-timeout nor a duration counts */
  readonly streamTimes?: StreamTimes;
  /** answers that are not given to the client: the proxy carries out what is left of the retry policy */
  readonly retry?: RetryAction;
  /** for clusters with hash tables; none: a random endpoint */
  readonly hash?: readonly HashPolicy[];
  /** edits of the answer, if there are any */
  readonly answer?: AnswerEdits;
  /** the request is forwarded only when it is here as a whole (buffer filter); else it goes to the proxy */
  readonly whole?: boolean;
  /** the agent gets a copy of the request */
  readonly mirror?: MirrorPlan;
}

/** How long a stream may take besides `timeoutMs` (RouteAction's max_grpc_timeout, or max_stream_duration). */
export interface StreamTimes {
  /** gRPC requests have the time of their grpc-timeout instead of `timeoutMs`, and are told what counts */
  readonly grpc: boolean;
  /** the most that grpc-timeout can ask for, here or for `header`; 0: no limit */
  readonly grpcMs: number;
  /** max_stream_duration is there, and gRPC requests are told of it; 0: no limit */
  readonly durationMs?: number;
  /** grpc-timeout instead of `durationMs` */
  readonly header: boolean;
  /** Envoy's own headers are not written */
  readonly quiet: boolean;
}

export interface RetryAction {
  /** statuses of answers that are retried, from 200 to 599 */
  readonly statuses: readonly number[];
  /** a try that is reset or takes longer than `perTryTimeoutMs` before its answer's head is retried, too */
  readonly resets: boolean;
  /** requests of HTTP/2: gRPC's statuses in the head of an answer that are retried, and whether refused streams are */
  readonly streams?: { readonly grpc: readonly number[]; readonly refused: boolean };
  /** the policy's number of retries, at least 1 */
  readonly retries: number;
  /** the clusters of whose endpoints those that were tried are avoided: the proxy is told of the first try, as one of its own */
  readonly tried?: readonly string[];
  /** the first one waits a random time shorter than this, but where the proxy, which is told of it, waits itself */
  readonly backoffMs: number;
}

/** An answer that the mesh gives itself. Header names in lower case, in order; content-length is added by the compiler. */
export interface ReplyAction {
  readonly kind: 'reply';
  readonly status: number;
  readonly headers: readonly { readonly name: string; readonly value: readonly Piece[] }[];
  readonly body: string;
  /** who gives it, for access logs; absent: the route */
  readonly origin?: 'no_route' | 'rbac' | 'fault' | 'filter';
  /** %RESPONSE_CODE_DETAILS% of it, where that is not the same for all replies of its origin and something writes it */
  readonly details?: string;
}

export type Action = ForwardAction | ReplyAction | { readonly kind: 'proxy' };

/** One step of the filter chain that may answer a request before it is routed: RBAC, tokens, faults, preflights. */
export interface RbacCheck {
  /** `allow` stops what does not match, `deny` what matches */
  readonly action: 'allow' | 'deny';
  readonly condition: Condition;
  /** what is stopped is answered so, or left to the proxy; undefined: RBAC's own 403 */
  readonly reply?:
    | ReplyAction
    | {
        readonly kind: 'proxy';
        readonly why?: string;
        /** with a chance: which requests a fault delays is drawn here, and the proxy delays these for certain */
        readonly delayed?: true;
      };
  /** what would be stopped is stopped with this probability only, drawn per request */
  readonly chance?: { readonly numerator: number; readonly denominator: number };
  /** what would be stopped takes a token instead, and is stopped when there is none */
  readonly bucket?: TokenBucket;
}

/** A token bucket of a rate limit, refilled continuously. */
export interface TokenBucket {
  /** equal keys are one bucket, also in the next generation and at the proxy */
  readonly key: string;
  readonly maxTokens: number;
  readonly tokensPerFill: number;
  readonly fillMs: number;
}

export interface RoutePlan {
  /** unique in the plan, e.g. `listener/vhost/3` */
  readonly id: string;
  readonly name: string;
  /** the name that its user gave it, for access logs; only where there are some */
  readonly routeName?: string;
  /** what its spans are called; only where requests are traced */
  readonly operation?: string;
  readonly position?: Position;
  /** undefined: cannot be computed in the kernel; requests that get as far as this route go to the proxy */
  readonly match?: Condition;
  readonly action: Action;
  /** replaces the listener's checks */
  readonly rbac?: readonly RbacCheck[];
  /** why `match` is undefined or `action` is proxy; empty for the kernel */
  readonly reasons: readonly Reason[];
  /** not a rule of the user: leaves requests of an unusual form to the proxy */
  readonly guard?: boolean;
}

export interface VirtualHostPlan {
  readonly name: string;
  /** Envoy domains: exact, `*.suffix`, `prefix.*`, `*`; lower case */
  readonly domains: readonly string[];
  readonly routes: readonly RoutePlan[];
}

/** How request targets must look to be decided here: what needs normalising goes to the proxy. */
export interface PathRules {
  /** normalize_path: targets with dot segments, backslashes, what would be escaped or unescaped go to the proxy */
  readonly normalize: boolean;
  /** merge_slashes: targets with `//` go to the proxy */
  readonly mergeSlashes: boolean;
  /** path_with_escaped_slashes_action other than KEEP_UNCHANGED: targets with %2f or %5c go to the proxy */
  readonly escapedSlashes: boolean;
}

/** The rule of a listener that is about connections: where they go. */
export interface ConnectionRoute {
  /** unique in the plan */
  readonly id: string;
  readonly position?: Position;
  readonly clusters: ForwardAction['clusters'];
}

/** The filter chains of a server name: indexes of `routes`; none: the proxy. */
export interface HelloWay {
  /** where none of the protocols is offered */
  readonly route?: number;
  /** the first of the client's protocols that is one of these decides */
  readonly protocols: readonly { readonly name: string; readonly route?: number }[];
}

/** The rules of a listener whose connections are routed by their first message. */
export interface HelloPlan {
  readonly routes: readonly ConnectionRoute[];
  /** exact names, and `*.` before a suffix; lower case */
  readonly names: readonly { readonly name: string; readonly way: HelloWay }[];
  /** TLS without a server name, or with none of these */
  readonly other: HelloWay;
  /** what does not begin with TLS */
  readonly plain: HelloWay;
}

export interface ListenerPlan {
  readonly name: string;
  /** where the proxy listens for what is left to it */
  readonly proxyAddress: { readonly address: string; readonly port: number };
  /** false: everything on this listener goes to the proxy, for `reasons` */
  readonly offloaded: boolean;
  readonly reasons: readonly Reason[];
  readonly paths: PathRules;
  /** ports in the Host header are ignored when matching domains: never, any, or this listener's own port */
  readonly stripPort: 'none' | 'any' | number;
  readonly virtualHosts: readonly VirtualHostPlan[];
  /** it is about connections, and not about requests */
  readonly connections?: ConnectionRoute;
  /** likewise, and what a client says first tells where it goes */
  readonly hellos?: HelloPlan;
  /** in order; apply to every request, also to those without a route */
  readonly rbac: readonly RbacCheck[];
  /** what is asked about JSON Web Tokens */
  readonly tokens?: TokenPlan;
  /** the answer to requests without a route; undefined: 404 without anything */
  readonly notFound?: ReplyAction;
  /** what is written about its requests; `serviceTime`: answers get x-envoy-upstream-service-time from the proxy */
  readonly log?: {
    readonly logs: readonly AccessLog[];
    readonly serviceTime: boolean;
    /** the proxy counts as an edge: it does not believe x-forwarded-for, and appends to it */
    readonly edge?: { readonly append: boolean };
    /** proxies of one's own that have appended to x-forwarded-for behind the client's address */
    readonly trustedHops: number;
  };
  /** its requests are traced */
  readonly trace?: TracePlan;
  /** header edits that the proxy makes to every forwarded request by itself (x-request-id, x-forwarded-proto ...) */
  readonly generateRequestId: boolean;
  /** its connections come from a filter chain of the proxy's, which takes TLS off if there is any */
  readonly relay?: ChainRelay;
  /** value of x-forwarded-proto added when there is none */
  readonly forwardedProto: string;
}

export interface EndpointPlan {
  readonly address: string;
  readonly port: number;
  readonly weight: number;
  /** what the hash table knows it by */
  readonly hashKey?: string;
}

/** A cluster whose hosts, or whose hosts' health, proxy or agent find out while they run. */
export interface FollowedPlan {
  /** what the proxy calls it */
  readonly cluster: string;
  /** the hosts' addresses are found out as well, so `endpoints` is empty */
  readonly names: boolean;
  /** by endpoint: where it is, and its health as far as the files say */
  readonly hosts: readonly HostState[];
  readonly balancing: Balancing;
  /** the agent ejects endpoints that fail, instead of the proxy */
  readonly detection?: Detection;
  /** with it: all hosts of the proxy's cluster, of which `endpoints` may be a subset */
  readonly all?: readonly { readonly address: string; readonly port: number }[];
}

/** Where the proxy encrypts what goes to the endpoints of a cluster. */
export interface RelayPlan {
  /** equal keys are one relay */
  readonly key: string;
  /** what the handshake says of this cluster's host alone: the name that is asked for, and one that the certificate has */
  readonly names?: { readonly sni?: string; readonly san?: string };
  /** that is the host of each request (auto_sni, auto_san_validation): such a cluster leads nowhere by itself */
  readonly byRequest?: { readonly sni: boolean; readonly san: boolean };
  /** of the relay's cluster: TLS, and how connections are opened */
  readonly settings: JsonObject;
}

export interface ClusterPlan {
  readonly name: string;
  readonly lb: 'round_robin' | 'random' | 'least_request' | 'ring_hash' | 'maglev';
  /** those that take traffic; all of them where that changes while the proxy runs */
  readonly endpoints: readonly EndpointPlan[];
  /** how the traffic is spread over the endpoints; absent: all of them take turns */
  readonly sets?: readonly HostSet[];
  /** who takes traffic is known only while the proxy runs */
  readonly followed?: FollowedPlan;
  /** for ring_hash and maglev: sizes as configured; whether endpoints are known by their names */
  readonly table?:
    | { readonly kind: 'ring'; readonly minimum: number; readonly maximum: number; readonly hostnames: boolean }
    | { readonly kind: 'maglev'; readonly size: number; readonly hostnames: boolean };
  /** requests after which a connection is closed; absent: any number */
  readonly maxRequests?: number;
  /** how long connections may be idle, if not an hour; 0: for ever */
  readonly idleMs?: number;
  /** connections that clients open themselves must be established within this time */
  readonly connectMs?: number;
  /** how many requests of the proxy's cluster may be in flight; absent: any number */
  readonly breaker?: Breaker;
  /** connections to the endpoints lead through this relay */
  readonly relay?: RelayPlan;
}

/** A circuit breaker on requests in flight. */
export interface Breaker {
  /** name of the proxy's cluster; its subsets share the breaker */
  readonly cluster: string;
  readonly most: number;
  /** requests that may wait when so many are in flight; absent: none, they are refused */
  readonly waiting?: number;
}

/** One source of a request's hash (RouteAction.HashPolicy), in the order of evaluation. */
export interface HashPolicy {
  readonly of:
    | { readonly kind: 'header' | 'cookie' | 'query'; readonly name: string }
    | { readonly kind: 'source_ip' | 'host' | 'target' | 'method' };
  /** later ones do not count once there is a hash */
  readonly terminal: boolean;
  /** cookie: the proxy makes one up where it is missing */
  readonly generated: boolean;
}

export interface Plan {
  readonly listeners: readonly ListenerPlan[];
  /** only clusters that routes forward to from the kernel */
  readonly clusters: readonly ClusterPlan[];
}
