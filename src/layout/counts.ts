/** What is counted while traffic flows, and the limits that hang on it: rate limits, outlier detection, circuit breakers. */
import { type Layout, struct } from './struct.js';

export const MAX_RULES = 16384;
/** Endpoints of clusters whose failures are counted, and one element that stands for all of them. */
export const MAX_DETECTORS = 4096;
/** Counts of each rule's requests, which CPUs share when there are more of them (a power of two). */
export const HIT_COUNTS = 16;
/** Token buckets, and the unit of their times: 2^BUCKET_SHIFT of them are a nanosecond. */
export const MAX_BUCKETS = 4096;
export const BUCKET_SHIFT = 4;
/** Clusters with circuit breakers (ever seen by one agent). */
export const MAX_BREAKERS = 1024;

export const COUNTER = {
  /** decided and forwarded or answered in the kernel */
  KERNEL: 0,
  /** forwarded by the kernel to the proxy */
  PROXY: 1,
  /** handed to the agent (odd, split, pipelined ...), which forwards to the proxy */
  AGENT: 2,
  /** answered in the kernel (part of KERNEL) */
  REPLIES: 3,
  /** answers handed to the agent */
  ANSWERS_AGENT: 4,
  /** no idle upstream: handed to the agent */
  POOL_EMPTY: 5,
  /** a helper failed where it should not */
  HELPER_FAILED: 6,
  /** redirects refused */
  REDIRECT_FAILED: 7,
  ODD: 8,
  PARTIAL: 9,
  BODY_AGENT: 10,
  PIPELINED: 11,
  SCRATCH_BUSY: 12,
  CONNECTIONS: 13,
  UNREAD: 14,
  /** requests that went straight to the server's socket (part of KERNEL) */
  BYPASSED: 15,
  /** answers that came straight from the server's socket, complete */
  BYPASSED_ANSWERS: 16,
  /** sockets of servers on this node that were paired with a pooled connection */
  PAIRED: 17,
  /** answers left to the agent because the one before might not have arrived yet */
  BEHIND: 18,
  /** requests whose token was known */
  TOKEN_KNOWN: 19,
  /** handed to the agent because their token is not known, for it to look at (part of AGENT's kind) */
  TOKEN_UNKNOWN: 20,
  /** requests left to the proxy because the agent was behind with the access log */
  LOG_FULL: 21,
  /** records for the access log that found no room, so lines that are missing */
  LOG_LOST: 22,
  /** answers that went through a dummy socket, complete, because their heads grew */
  GROWN: 23,
  /** connections that were decided when they were opened */
  ROUTED: 24,
  /** connections of such listeners that were left to the proxy */
  ROUTED_PROXY: 25,
  /** requests left to the proxy because the agent was behind with copies */
  MIRROR_FULL: 26,
  /** copies that found no room */
  MIRROR_LOST: 27,
  /** messages of clients that the agent carried to a joined server, which had no room for them */
  JOINTS_FULL: 28,
  /** requests whose host and path had been asked for before, at listeners with many routes */
  RECALLED: 29,
} as const;
export const N_COUNTERS = 32;

/** Which limit was reached; until the agent has seen it, the endpoint's requests are the proxy's. */
export const TRIPPED = { FAILURES: 1, GATEWAY: 2 } as const;

/**
 * A token bucket, refilled continuously, as one number: when it was empty last, or would have been. A token is there when
 * that is `cost` ago; taking one moves it on by `cost`, from `most` ago at the earliest (then the bucket was full).
 */
export const BucketSpec = struct('bucket', 'Tokens of a rate limit; times in 1/16 ns of bpf_ktime_get_ns.', [
  ['at', 'u64', 'signed: when the bucket was empty'],
  ['cost', 'u64', 'time in which one token comes; 0: no bucket here'],
  ['most', 'u64', 'time in which the bucket fills'],
]);

export const DetectorSpec = struct('detector', 'What was counted of one endpoint of one cluster (outlier detection).', [
  ['failures', 'u32', '5xx in a row'],
  ['gateway', 'u32', '502, 503 and 504 in a row'],
  ['limit', 'u32', 'failures that eject, 0: none; written by the agent'],
  ['gateway_limit', 'u32', 'likewise'],
  ['tripped', 'u32', 'TRIPPED; in element 0: how often one was'],
  ['pad', 'u32', 'zero'],
]);

export const BreakerSpec = struct('breaker', 'Requests in flight of a cluster whose number is limited.', [
  ['active', 'u32', 'those of the kernel and those of the proxy'],
  ['most', 'u32', 'max_requests, or max_connections; written by the agent'],
  ['waiting', 'u32', 'requests that the agent holds until there is a place, which is theirs; written by the agent'],
  ['pad', 'u32', 'zero'],
]);

export const COUNTS_LAYOUT: Layout = {
  constants: { MAX_RULES, MAX_DETECTORS, HIT_COUNTS, MAX_BUCKETS, BUCKET_SHIFT, MAX_BREAKERS, N_COUNTERS },
  enums: { COUNTER, TRIPPED },
  structs: [BreakerSpec, BucketSpec, DetectorSpec],
};
