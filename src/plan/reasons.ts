/**
 * The closed list of reasons for which something is left to the proxy. Codes are stable: scripts and dashboards may rely
 * on them. docs/reasons.md is generated from this list (`reasonsMarkdown`).
 */

export interface ReasonText {
  readonly title: string;
  readonly explanation: string;
}

const TEXT = {
  'unsupported-field': [
    'A field that the fast path does not know',
    'Strict offload: a rule runs in the kernel only if every field that applies to it is understood. This one is not on the list, so the proxy, which understands all of them, decides.',
  ],
  'listener-address': [
    'The listener is not a plain TCP listener',
    'Only listeners on a TCP socket address with a numeric port are intercepted; pipes, UDP and internal listeners stay with the proxy.',
  ],
  'filter-chain': [
    'Connections that the proxy cannot hand on',
    'Where a listener has several filter chains, or one with a match, the proxy chooses the chain and hands the connection on to the kernel. Some choices, and what some chains look at, do not allow that.',
  ],
  'network-filter': [
    'A network filter other than the HTTP connection manager',
    'Network filters see the raw connection; only the proxy runs them.',
  ],
  'http-filter': [
    'An HTTP filter that the fast path does not have',
    'Every request of the filter chain passes this filter. Disable it for a route (typed_per_filter_config with disabled: true) and that route can be offloaded.',
  ],
  'per-route-filter': [
    'Configuration of a filter that the fast path does not have',
    'The filter is understood, or acts only where it is configured, but not with these settings (delays, rate limits ...). Only the routes that they apply to are left to the proxy.',
  ],
  tls: [
    'TLS on the connection',
    'TLS of clients is taken off by the proxy before the kernel decides, unless something in the filter chain looks at the TLS connection or the client’s certificate. What servers in TLS are sent is decided in the kernel, and a relay in the proxy encrypts it. Left to the proxy are servers where the handshake names the host of the request (auto_sni, auto_san_validation) and no domain or rewrite says which, or that are offered HTTP/2 in it, and all TLS where the proxy is not Sidestep’s own.',
  ],
  'access-log': [
    'An access log that only the proxy can write',
    'Access logs in files and standard streams are written for requests that the kernel decides, too. Operators whose values are not known exactly, filters that depend on more than status, flags and duration, logs that are sent somewhere (gRPC, OpenTelemetry), and logs of connections are the proxy’s, with all requests that they are about. Of Telemetry, only the provider that every mesh has (`envoy`) is carried out, without conditions; a provider that nobody has defined does nothing.',
  ],
  'envoy-filter': [
    'An EnvoyFilter patches it in a way that is not carried out',
    'Patches of what clients and gateways are given are applied, and judged by what becomes of it. Others are not: of servers’ sidecars, of listeners, filter chains and bootstraps, with filters that the proxy cannot run here, or such that Envoy would refuse the result. What they are about is left to the proxy, as it is without them.',
  ],
  wasm: [
    'A WasmPlugin runs on its requests',
    'WebAssembly plugins are not loaded here. Listeners of the clients and gateways that a plugin selects, and clusters of the servers that it selects, are left to the proxy.',
  ],
  tracing: [
    'Requests are traced in a way that only the proxy knows',
    'Traces begin and go on in the kernel where Zipkin (B3 headers) or OpenTelemetry is told, and begin there for SkyWalking; which requests are sampled is drawn by their ids, as Envoy does; the agent sends the spans by way of the proxy. Other tracers, other samplers and resource detectors, spans of each try (but SkyWalking’s), tags made of anything but headers of the request, and requests that may be tried again are the proxy’s. So is each request whose trace or id is said in an odd form, or that asks to be traced.',
  ],
  'route-source': [
    'The routes are not in the files',
    'Routes from scoped RDS, VHDS or an RDS name that no document defines are known to the proxy only.',
  ],
  codec: ['The codec is HTTP/3', 'HTTP/1.1 and HTTP/2 are decided in the kernel; HTTP/3 is spoken by the proxy.'],
  'local-reply': [
    'Local replies are rewritten',
    'local_reply_config changes the answers that the mesh gives itself in a way that the fast path does not know.',
  ],
  'stream-limits': [
    'Limits on streams or connections',
    'Limits on the duration, number of requests or headers of a connection are enforced by the proxy.',
  ],
  'idle-timeout': [
    'An idle timeout that depends on more than what moves',
    'How much of a body moves while nobody reads it is said by buffers of another size than usual (per_connection_buffer_limit_bytes), and idle connections of HTTP/2 are closed by the proxy only. Where the route’s timeout is set and not longer than the idle timeout (by default 5 minutes), buffers do not matter.',
  ],
  'host-normalization': ['The host is normalised', 'strip_trailing_host_dot changes the host before routing.'],
  'route-match': [
    'A match that the fast path cannot compute',
    'Requests that get as far as this route go to the proxy, which decides whether it matches.',
  ],
  'match-header': [
    'A match on a header that the proxy itself sets, removes or rewrites',
    'What the matcher sees is the result of the connection manager’s own edits (connection headers, x-envoy-*, x-request-id, :scheme), not what the client sent.',
  ],
  regex: [
    'A regular expression outside the supported syntax',
    'Regular expressions are compiled to byte automata from RE2 syntax. \\C and what RE2 itself refuses are left to the proxy.',
  ],
  'runtime-fraction': [
    'A runtime fraction between 0 and 100%, or one that a runtime layer can change',
    'Whether such a route matches is drawn per request by the proxy.',
  ],
  'route-action': [
    'An action that the fast path does not have',
    'The proxy carries out the action for the requests that match.',
  ],
  'cluster-unknown': [
    'The cluster is chosen per request, or not defined',
    'cluster_header, plugins and clusters that no document defines are resolved by the proxy.',
  ],
  'header-format': [
    'A header value with a %COMMAND%',
    'The value is computed per request by the proxy’s formatter. In requests, the client’s address without its port and the protocol are known here, in answers the ids of a trace that begins here, and everywhere the environment variables of Sidestep’s own proxy, where they are plain text.',
  ],
  'header-edit': [
    'An edit of a header that the fast path handles itself',
    'Headers that frame the message or that the proxy maintains (host, connection, content-length, x-request-id, x-envoy-* ...), and appending to headers that the proxy joins in one line.',
  ],
  'response-headers': [
    'An edit of response headers that the fast path does not have',
    'Headers of answers are edited in the kernel or by the agent. Left to the proxy are edits of headers that frame the message, additions to those that the proxy sets itself (server, date, via, x-envoy-*), and answers of filters of the cluster.',
  ],
  retry: [
    'A retry policy that the fast path does not have',
    'The first try is made in the kernel, the rest by the proxy. Left to the proxy as a whole are retriable headers, priorities, more than 16 retries, policies that avoid the endpoints of earlier tries, among several, if they do not retry after a failure to connect (or if the proxy cannot be told of the first try for another reason, which is then said), and clusters that limit the retries at a time to less than 1024 (max_retries, 3 by default; a retry budget).',
  ],
  timeout: [
    'A timeout that the fast path does not have',
    'max_stream_duration and per-try idle timeouts are enforced by the proxy.',
  ],
  mirror: [
    'Traffic is mirrored in a way that the fast path does not have',
    'The kernel decides a request as ever, and the proxy sends the copy that the agent hands it. Left to the proxy as a whole are routes that mirror a share of the requests and have several clusters (one number is drawn for both), mirrors to clusters that are not known well enough or ask who the client is, listeners that trace, and somebody else’s proxy.',
  ],
  'rate-limit': [
    'A rate limit that the fast path does not have',
    'Offloaded are local rate limits, with their descriptors. Left to the proxy are those with x-ratelimit headers beside retries, another limit or only in the shadow (`filter_enforced` of 0), with a bucket for each connection or each value, with descriptors that are computed otherwise, shared by several routes, or parted into stages of a runtime key, those before requests without a route where something above the routes changes answers, and limits that a service counts (`ratelimit`).',
  ],
  'host-rewrite': [
    'A host rewrite that depends on the request or the endpoint',
    'Offloaded is host_rewrite_literal on virtual hosts with exact domains (the proxy reports the old host in x-envoy-original-host).',
  ],
  'path-rewrite': [
    'A path rewrite that the fast path does not have',
    'path_rewrite_policy and path_rewrite templates are left to the proxy.',
  ],
  redirect: ['A redirect that the fast path does not have', 'Redirects with a regular expression need the proxy.'],
  'direct-response': [
    'A direct response that the fast path does not have',
    'Bodies from files, formats, bodies over 4096 bytes, a body of 204, and the statuses 1xx, 201, 205, 3xx need the proxy.',
  ],
  'require-tls': ['The virtual host requires TLS', 'The proxy redirects plain-text requests to https.'],
  'cluster-discovery': [
    'The endpoints are known to the proxy only',
    'Offloaded are clusters whose endpoints are in the files, or names that the proxy looks up (STRICT_DNS, LOGICAL_DNS).',
  ],
  'cluster-endpoints': [
    'Endpoints that the fast path cannot balance',
    'Left to the proxy are weights of localities in a hash table, within subsets or of endpoints with names, priorities within subsets, localities beside a local cluster (zone-aware routing), different weights under least request or of endpoints with names, and endpoints that are there twice.',
  ],
  'no-endpoints': ['The cluster has no endpoint', 'The proxy answers 503.'],
  'lb-policy': [
    'A load balancing policy that the fast path does not have',
    'Offloaded are ROUND_ROBIN, RANDOM, LEAST_REQUEST with two choices, RING_HASH (xxHash) and MAGLEV over endpoints that are in the files; hashes of headers that nothing rewrites, cookies, query parameters and the source address.',
  ],
  'upstream-protocol': [
    'The upstream does not speak what the client does',
    'Requests of HTTP/1.1 to endpoints that speak HTTP/1.1 are decided in the kernel, and requests of HTTP/2 to endpoints that speak HTTP/2; where client and endpoint differ, each request goes to the proxy. So do rules for gRPC alone whose endpoints speak HTTP/1.1, and HTTP/3. A rule whose endpoints speak HTTP/2 counts by what becomes of requests of HTTP/2.',
  ],
  'health-check': [
    'Active health checks that close connections',
    'The proxy checks endpoints, and the kernel follows what it finds; but it cannot close the connections of requests that are under way when a check fails.',
  ],
  'outlier-detection': [
    'Outlier detection',
    'Failures in a row are counted by the agent for kernel and proxy together. Left to the proxy are success rates and failure percentages where the cluster has enough hosts for them, local failures that are told from others, random times, clusters that are also checked actively or found by name, that something else than routes leads to, and runtime keys. Where outlier detection can never eject, because one endpoint is already more than max_ejection_percent (10 by default) of the cluster, it keeps nothing from the kernel.',
  ],
  'circuit-breaker': [
    'Circuit breakers that cannot be kept together',
    'Requests in flight (max_requests, and max_connections, since over HTTP/1.1 each has a connection) are counted together, and wait together (max_pending_requests), where every request to the cluster is one that the agent sees end: not with listeners that are the proxy’s as a whole, inbound listeners, access logs, mirroring, or somebody else’s proxy. Left to the proxy are limits of 0, fewer connections than the cluster has endpoints (Envoy opens one to each all the same), max_connection_pools, limits of TCP proxies and of servers of HTTP/2. Thresholds of 1024 and more are taken for never reached.',
  ],
  'subset-lb': [
    'Subset load balancing that cannot be resolved from the files',
    'Labels are matched when the files are read; fallbacks per request and list values need the proxy.',
  ],
  'rbac-rule': [
    'An RBAC rule that the fast path cannot compute',
    'Metadata, CEL conditions, URI templates, matcher trees and extensions are evaluated by the proxy. All requests that the filter applies to go there.',
  ],
  'rbac-unknown-listener-address': [
    'A rule on the destination address of a listener on a wildcard address',
    'The destination address is only known per connection.',
  ],
  jwt: [
    'A JSON Web Token that only the proxy can judge',
    'Tokens are verified in user space, once, and what policies ask about them is kept in the kernel until they expire. Left to the proxy are providers with settings that the fast path does not have, requirements that look at the tokens of all providers, and every token that it has not seen.',
  ],
  grpc: [
    'gRPC over HTTP/1.1',
    'gRPC is decided stream by stream in HTTP/2. Requests with a gRPC content type over HTTP/1.1 are the proxy’s, which answers them in gRPC’s own form.',
  ],
  'request-dependent': [
    'Requests of this form are left to the proxy',
    'A guard: the rule is offloaded, but requests with these properties (for example an x-forwarded-for that RBAC would have to trust) are decided by the proxy.',
  ],
  budget: [
    'More than the kernel has room for',
    'Automata, header slots, terms of a condition, candidates for one path and literals have bounds in the policy image, so that the programs stay verifiable. A rule that does not fit is left to the proxy.',
  ],
  gateway: [
    'A gateway that is not run on this node',
    'No document describes the gateway, or none of its plain HTTP servers takes the route. Connections to it are not intercepted; what is on its way there is decided elsewhere.',
  ],
  'parent-kind': [
    'A route for a kind of parent that is not known',
    'Routes are attached to Gateways, Services and Istio’s ServiceEntries. Other kinds belong to other controllers.',
  ],
  'backend-kind': [
    'A backend of a kind that is not known',
    'Backends are Services and Istio’s Hostnames. As the Gateway API demands, requests for others are answered 500, which the kernel does; a rule of which only a share leads there, or that mirrors there, is the proxy’s.',
  ],
  'unknown-filter': [
    'A filter of the Gateway API that is not known',
    'As the Gateway API demands, requests that would pass it are answered 500, which the kernel does; a rule of which only a share would is the proxy’s.',
  ],
  sidecar: [
    'A setting of a Sidecar that is not translated, or something that a Sidecar hides',
    'Which services and VirtualServices the clients see is translated; what a Sidecar says of servers, ports and unknown addresses is not.',
  ],
  telemetry: [
    'Metrics of a proxy',
    'Metrics that a proxy makes of each request do not contain what the kernel decides.',
  ],
  translation: [
    'The translation to proxy resources says so',
    'A construct of the source language that the fast path does not have.',
  ],
  'source-match': [
    'A match on who the client is',
    'sourceLabels, sourceNamespace and workload selectors make one configuration for each kind of client. An instance has one for all its clients: those that `run --namespace` and `--labels` name. `check` judges each rule for clients that it counts for; what is left counts for none.',
  ],
  'not-http': [
    'A route for connections that only the proxy can carry out',
    'Where connections to a TCP port go is decided in the kernel when they are opened, or by the name and the protocols that a client’s TLS handshake begins with, where that is looked at at the application’s socket. Connections that come from elsewhere, and UDP, are not.',
  ],
  'no-host': [
    'It names no host',
    'A VirtualService without hosts decides something only where another one delegates to it.',
  ],
  'not-exported': [
    'Not visible to the clients of this node',
    'exportTo keeps it from the namespace that the clients are in.',
  ],
  'no-http-port': [
    'No port that carries what the rule is about',
    'Requests are only looked for at ports that are declared as HTTP: on others the bytes may be anything. TCP routes are for ports that are declared as TCP, TLS routes for those that are declared as TLS or HTTPS.',
  ],
  'unknown-delegate': [
    'It delegates to a VirtualService that is not in the files',
    'Without the delegate the rule has no routes.',
  ],
  'delegate-conflict': [
    'The matches of a delegate and of its root exclude each other',
    'Istio takes a route of a delegate only if its match lies inside a match of the rule that delegates.',
  ],
  'no-service': [
    'No service has this host',
    'The settings concern a service that is not in the files, so nothing of it is intercepted.',
  ],
  'traffic-policy': [
    'A traffic policy that is not translated',
    'The proxy has no counterpart of the setting in what is generated here.',
  ],
  'mesh-tls': [
    'Mutual TLS with the certificates of the mesh',
    'Sidecars encrypt this hop with certificates that they get from the control plane. DestinationRules with ISTIO_MUTUAL are carried out where the node has some (`run --certificates`; `check` takes it to). So are PeerAuthentications that are STRICT, for what is sent to servers of other hosts.',
  ],
  'tls-secret': [
    'Certificates in a Kubernetes secret',
    'The certificates are in a Secret or file that is not here, or not of the form that is read here. Gateways are served with those that are among the documents.',
  ],
  passthrough: [
    'The original destination is asked for',
    'PASSTHROUGH forwards to the address that the client had chosen, which interception replaces.',
  ],
  locality: [
    'Settings about localities',
    'Endpoints have no localities here: all of them count as one. So distribution from a region that is named, and failover between regions, change nothing; what is about every region or about labels might.',
  ],
  'mixed-servers': [
    'The outcome is not the same for all servers',
    'The rule asks for a port or address of the server, and the servers of one cluster differ in it. The choice of a server comes after the check.',
  ],
  sni: [
    'The name in the TLS handshake decides',
    'Connections in plain text have no such name; others are left to the proxy.',
  ],
  metadata: ['Metadata of other filters decides', 'Filters of the proxy write it, and only the proxy can read it.'],
  'target-ref': [
    'A policy of a gateway or waypoint',
    'targetRefs attach it to a proxy that does not run on this node.',
  ],
  'dry-run': ['A dry run', 'The policy is evaluated for its statistics only; it decides nothing.'],
  audit: ['An audit policy', 'It only marks requests for auditing; it decides nothing.'],
  'custom-authorization': [
    'An external authorizer decides',
    'CUSTOM policies ask a service that MeshConfig names. It is not asked here: requests that match are denied.',
  ],
  'partial-selection': [
    'The policy selects only some of the servers',
    'Which server gets a request is chosen after the check, so the stricter outcome counts for all of them.',
  ],
  'unknown-labels': [
    'The labels of the servers are not known',
    'Whether the selector means these servers cannot be told from the files.',
  ],
  'no-workload': [
    'The policy selects nobody',
    'No service with HTTP ports has servers that it selects, so there is nothing to enforce.',
  ],
  'unsupported-kind': [
    'A kind of document that is not translated',
    'It is recognised, and what it says is not carried out on this node; see KNOWN_ISSUES.md.',
  ],
  invalid: ['The document is invalid', 'Nothing of an invalid document is carried out.'],
} as const satisfies Record<string, readonly [string, string]>;

export type ReasonCode = keyof typeof TEXT;

/** All codes with their texts. */
export const REASONS: Readonly<Record<ReasonCode, ReasonText>> = Object.fromEntries(
  Object.entries(TEXT).map(([code, [title, explanation]]) => [code, { title, explanation }]),
) as Record<ReasonCode, ReasonText>;

/** docs/reasons.md. */
export function reasonsMarkdown(): string {
  const parts = [
    '# Why a rule is left to the proxy',
    '',
    'Generated from `src/plan/reasons.ts` by `npx tsx src/plan/reasons-doc.ts`.',
    'Codes are stable; `sidestep check --json` reports them. Each has a page with what to change, and an example.',
    '',
  ];
  for (const [code, { title, explanation }] of Object.entries(REASONS)) {
    parts.push(`## [\`${code}\`](reasons/${code}.md)`, '', `**${title}.** ${explanation}`, '');
  }
  return parts.join('\n');
}
