/**
 * Structures of the maps that change while traffic flows. The image says what is decided; these say what is going on.
 */
import { struct } from './struct.js';

/** Upstream connections (pool slots) at most, in blocks of 64 whose idle ones are the bits of one word. */
export const MAX_UPSTREAMS = 4096;
export const BLOCK_SIZE = 64;
export const MAX_BLOCKS = 64;
/** Endpoints (address and port of a server, or a proxy's listener) at most, and blocks that one of them may own. */
export const MAX_ENDPOINTS = 1024;
export const ENDPOINT_BLOCKS = 16;
/** Endpoint id of the agent itself: its connections only serve to send replies through their dummy sockets. */
export const REPLY_ENDPOINT = 0;
export const MAX_CLIENTS = 65536;
/** Longest request that is kept for a replay, in bytes. */
export const MAX_REPLAY = 2048;
/** Answers longer than this are moved by the agent. */
export const MAX_KERNEL_BODY = 1048576;
/**
 * Bytes of an answer of unknown length after which the agent takes over. Small: on streams of many small redirected
 * segments a blocking recv sees EAGAIN now and then, which no application expects.
 */
export const MAX_KERNEL_CHUNKED = 4096;
/**
 * Bytes of redirected answers that a client may have unread when it sends the next request, and segments that may wait in
 * its backlog then; segments that may wait when more of an answer comes.
 */
export const MAX_UNREAD = 262144;
export const MAX_BACKLOG = 4;
export const MAX_SEGMENTS = 32;
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
/** Verified tokens that are remembered (a power of two), places that one of them may have, and bytes of a header value. */
export const MAX_TOKENS = 4096;
export const TOKEN_WAYS = 4;
export const MAX_TOKEN = 2048;
/** Listener intake: the longest head, after edits, that a dummy socket's program writes; the longest such request. */
export const MAX_STAGED = 4096;
export const MAX_LINEAR = 16384;
/** Bytes of a request that are kept for the edits of its answer. */
export const MAX_VARIABLE_BYTES = 496;

/**
 * The ring buffer of what is to be logged: its size in bytes, and how much of it requests leave free, so that there is
 * room for the ends of all exchanges that have begun. A request that finds less goes to the proxy, which logs it.
 */
export const LOG_RING = 4 * 1024 * 1024;
export const LOG_RESERVE = 1024 * 1024;

/** What a record of the ring buffer tells. */
export const LOG_RECORD = {
  /** a request was forwarded; its head follows */
  BEGIN: 1,
  /** the head of its answer, which follows */
  ANSWER: 2,
  /** the answer is complete */
  END: 4,
  /** the mesh's own reply: the request's head follows, then the reply's */
  REPLY: 8,
} as const;

/** State of an upstream's exchange; written by the programs except where noted. */
export const PHASE = {
  /** idle in its pool, or not in use: any byte from the server is a protocol error */
  IDLE: 0,
  /** the request (or a part of it) was sent, no byte of the answer was seen */
  AWAIT: 1,
  /** `remaining` bytes of a body of known length are to come */
  BODY: 2,
  /** inside a chunked body, `chunk_state` and `remaining` say where */
  CHUNKED: 3,
  /** the agent reads the rest of the answer from the socket (first byte on, nothing was redirected) */
  AGENT: 4,
  /** the agent reads the rest; `redirected` bytes went to the client before */
  HANDOVER: 5,
  /** the server closed or broke the connection, or it must not be used again; the agent closes it */
  DEAD: 6,
  /** the answer is complete, but a part of it is on its way through the slot's dummy socket */
  DELIVER: 7,
} as const;

/** Where a chunked body's parser stands. */
export const CHUNK = {
  /** in the size line, digits; `remaining` accumulates */
  SIZE: 0,
  /** in the size line after the digits: up to LF */
  EXTENSION: 1,
  /** in the data, `remaining` bytes to come */
  DATA: 2,
  /** CR LF after the data */
  DATA_END: 3,
  /** at the start of the line after the last chunk */
  END: 4,
} as const;

export const UPSTREAM_FLAG = {
  /** the request's method was HEAD: the answer has no body */
  HEAD: 1,
  /** do not reuse after this answer (Connection: close, HTTP/1.0) */
  CLOSE: 2,
  /** some answers are given to the agent, which replays the request through the proxy */
  RETRY: 4,
  /** the proxy's endpoint: answers are already in the proxy's form */
  PROXY: 8,
  /** request complete (no body outstanding) */
  REQUEST_DONE: 16,
  /** the answer's body is chunked */
  CHUNKED: 32,
  /** the connection has served as many requests as it may with this one */
  LIMIT: 64,
  /** tries that are reset, or take too long, before the head of their answer are replayed, too */
  RETRY_RESETS: 128,
  /** bits from here on: tries left to the proxy after a 503 */
  RETRIES_SHIFT: 8,
} as const;

/** How an exchange goes (upstream.way). */
export const WAY = {
  /** the request goes to the ingress of the server's own socket, not over the connection */
  DIRECT: 1,
  /** the answer is left to the connection, from its first byte or from where it stopped being plain */
  NATIVE: 2,
  /** the request went in several messages */
  PIECES: 4,
  /** the answer goes through the slot's dummy socket, because its head grows */
  DUMMY: 8,
  /** its last piece was given to the dummy socket */
  WHOLE: 16,
  /** the answer would have gone through a dummy socket, had the slot had one */
  MISSED: 32,
} as const;

export const ENDPOINT_FLAG = {
  /** the server closes connections after each answer: nothing is gained by pooling, the proxy takes its requests */
  NO_POOL: 1,
} as const;

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
} as const;
export const N_COUNTERS = 32;

export const CONN_FLAG = {
  /** in the socket map: its messages are seen */
  INSERTED: 1,
  /** never leave agent mode (fast open, or the agent cannot tell where requests end) */
  STICKY: 2,
  /** a helper failed after the request had been changed: the agent resets the connection */
  BROKEN: 4,
  /** the client's socket stays out of the map: its requests are decided where the agent accepts them */
  LISTENER: 8,
  /** has sent a request before it had read the answer to the one before */
  PIPELINES: 16,
} as const;

/** Where the requests of a connection are decided, and how they reach the upstream. */
export const INTAKE = {
  /** at the application's socket */
  SOCKET: 0,
  /** at the agent's accepted socket, straight to the upstream */
  LISTENER: 1,
  /** at the agent's accepted socket, by way of the upstream's dummy socket */
  LISTENER_DUMMY: 2,
  /** no request, but a reply of the mesh on its way through a dummy socket */
  REPLY: 3,
} as const;

/** Which limit was reached; until the agent has seen it, the endpoint's requests are the proxy's. */
export const TRIPPED = { FAILURES: 1, GATEWAY: 2 } as const;

/** Commands of the control program (run by the agent through BPF_PROG_TEST_RUN). */
export const CTL = {
  /** copy the connection's state */
  QUERY: 0,
  /** leave agent mode if `passed` equals `arg`; `native` is then the number of bytes that the agent wrote */
  RESUME: 1,
  /** detach an upstream from its client: after this the program sends nothing more to it */
  DETACH: 2,
  /** end the exchange that the agent completed: the slot becomes idle (arg 1) or stays out of its pool (arg 0) */
  FINISH: 3,
  /** take an idle slot out of its pool; result 1 if it was idle */
  TAKE: 4,
  /** put a slot into its pool */
  GIVE: 5,
  /** says that the agent wrote `native` bytes to the connection so far, the answer it is about to end included */
  NATIVE: 6,
  /** the agent has sent the rest of the request's body */
  BODY_SENT: 7,
  /** pairs a slot with the server's socket whose cookie is `cookie` */
  PAIR: 8,
  /** like FINISH, but only while no byte of the answer was seen */
  GIVE_UP: 9,
  /** the caller is the agent: connections that it opens may be paired */
  HELLO: 10,
  /** from now on the answer is the agent's, if no byte of it was seen */
  TAKE_OVER: 11,
  /** answers in `passed` what the programs' clock for tokens says (bpf_ktime_get_boot_ns) */
  NOW: 12,
  /** takes a token of the bucket `slot`: result 1 if there was one; `passed` is 1 when that could not be found out */
  DRAW: 13,
  /** counts one more request of the breaker `slot`: result 1 if it may be */
  ENTER: 14,
  /** counts one less */
  LEAVE: 15,
  /** an exchange on `slot` is over for its breaker, whatever became of it */
  UNCOUNT: 16,
  /** NATIVE, then FINISH */
  COMPLETE: 17,
  /** from now on what the client sends is the agent's; result 0 if it was already */
  HOLD: 18,
} as const;

/** Whose port an inbound address is: who listens there when the connections are not steered. */
export const INBOUND = {
  /** the proxy's own: it keeps the policy by itself */
  PROXYS: 0,
  /** a workload's: without agent and proxy, connections are refused */
  WORKLOADS: 1,
} as const;

export const ConnSpec = struct('conn', 'Per intercepted client socket (socket storage).', [
  ['cookie', 'u64', 'of the client socket'],
  ['passed', 'u64', 'request bytes that went to the agent'],
  ['body_left', 'u64', 'bytes of the current request body still to be sent to `upstream`'],
  ['listener', 'u32', 'index'],
  ['gate', 'u32', 'bit 0: agent mode; the rest counts messages passed (see ARCHITECTURE.md, "the gate")'],
  ['requested', 'u32', 'exchanges begun'],
  ['done', 'u32', 'exchanges whose answer is complete'],
  ['upstream', 'u32', 'pool slot of the exchange in flight'],
  ['flags', 'u32', 'CONN_FLAG'],
  ['native', 'u32', 'bytes that the agent wrote to the connection so far (modulo 2^32)'],
  ['base_seq', 'u32', 'copied_seq at the start'],
  ['original', 'u32[4]', 'address asked for, network order; IPv4 in the first word'],
  ['source', 'u32[4]', 'own address, network order'],
  ['original_port', 'u16', 'host order'],
  ['family', 'u16', '2 or 10 (as asked for)'],
  ['served', 'u32', 'upstream.served when the exchange began'],
  ['incarnation', 'u32', 'upstream.incarnation when the exchange began'],
  ['sent', 'u32', 'listener intake: bytes that the kernel has redirected to the egress of A (modulo 2^32)'],
  ['replied', 'u32', 'replies of the mesh'],
  ['pad', 'u32', 'zero'],
]);

export const UpstreamSpec = struct('upstream', 'Per pool slot.', [
  ['owner', 'u64', 'cookie of the client socket in an exchange, 0: none'],
  ['started', 'u64', 'bpf_ktime_get_ns when the request, or its last piece so far, was sent'],
  ['remaining', 'u64', 'bytes to come of the body or chunk'],
  ['redirected', 'u64', 'bytes of this answer sent to the client by the kernel'],
  ['exchange', 'u32', 'conn.requested of the exchange'],
  ['endpoint', 'u32', 'endpoint id; written by the agent'],
  ['timeout_ms', 'u32', 'of this exchange, from the end of the request on; 0: none'],
  ['rule', 'u32', 'of this exchange'],
  ['phase', 'u32', 'PHASE'],
  ['flags', 'u32', 'UPSTREAM_FLAG'],
  ['chunk_state', 'u32', 'CHUNK'],
  ['listener', 'u32', 'of this exchange'],
  ['replay_len', 'u32', 'bytes of the request kept in the replay map; 0: none'],
  ['incarnation', 'u32', 'counts the connections that had this slot; written by the agent'],
  ['dead', 'u32', '1: the connection left ESTABLISHED'],
  ['served', 'u32', 'answers after which the connection was kept'],
  ['per_try_ms', 'u32', 'of this exchange, until the head of the answer; 0: none'],
  ['backoff_ms', 'u32', 'of this exchange: the first retry waits a random time shorter than this'],
  ['choice', 'u32', 'index of the cluster among those of the action'],
  ['edits', 'u32', 'of this exchange: number of the edits of its answer, 0: none'],
  ['retry', 'u64[7]', 'bitmap of the statuses from 200 on that are retried'],
  ['server', 'u64', "cookie of the server's end where it is on this node and paired, else 0"],
  ['server_sk', 'u64', "address of the server's socket"],
  ['client_sk', 'u64', "address of the client's socket of this exchange"],
  [
    'answered',
    'u64',
    'bpf_ktime_get_ns when the last message of an answer left the server directly, or anything the dummy',
  ],
  ['way', 'u32', 'WAY'],
  ['behind', 'u32', 'slot + 1 of an exchange whose answer must have arrived before this one; 0: none'],
  ['behind_served', 'u32', 'conn.served of that exchange'],
  ['behind_incarnation', 'u32', 'conn.incarnation of that exchange'],
  ['intake', 'u32', 'INTAKE, of this exchange'],
  ['dummy', 'u32', '1: the slot has a dummy socket; written by the agent; 2: it is broken; written by the programs'],
  ['given', 'u32', 'bytes of this exchange that were sent to the dummy: of the request, then of the answer'],
  ['taken', 'u32', 'bytes of this exchange that the dummy has sent on'],
  ['sk', 'u64', 'address of the socket U, once an answer was complete there'],
  ['seq', 'u32', 'write_seq of U when no exchange was under way'],
  ['end_seq', 'u32', 'listener intake: write_seq of U behind all of this request'],
  ['body', 'u64', 'bytes of the body of this answer, without framing, that the kernel has sent to the client'],
  ['log', 'u32', 'of this exchange: LOG of its listener'],
  ['idle_ms', 'u32', 'of this exchange, between two pieces of the request; 0: none'],
  ['watch', 'u32', 'of this exchange: index into the detectors map, 0: none'],
  ['counted', 'u32', '1: the status of the answer was counted there'],
  ['breaker', 'u32', 'index plus one of the breaker that counts this exchange; 0: none'],
  ['dummy_served', 'u32', '`served` when the last answer went through the dummy'],
  ['dummy_sk', 'u64', "address of the dummy's socket, 0: no answer has gone through it"],
  ['dummy_cookie', 'u64', 'its cookie; written by the agent'],
  ['dummy_owner', 'u64', 'cookie of the client whose bytes went through it last'],
]);

export const VariablesSpec = struct('variables', 'Per pool slot: what the edits of the answer need of the request.', [
  ['ends', 'u32[4]', 'where each variable ends in `bytes`; it begins where the one before ends'],
  ['bytes', 'u8[496]', 'their values'],
]);

export const EndpointSpec = struct('endpoint', 'Per endpoint id.', [
  ['n_blocks', 'u32', 'blocks in use; written by the agent'],
  ['active', 'u32', 'exchanges in flight (least request)'],
  ['wanted', 'u32', 'times that no idle connection was found'],
  ['flags', 'u32', 'ENDPOINT_FLAG; written by the agent'],
  ['source', 'u32[4]', 'own address of the connections to a proxy, zero for servers; written by the agent'],
  ['blocks', 'u16[16]', 'block numbers'],
]);

/** What is under way for a client, in the order in which the bits are found out: nothing is missed in between. */
export const QUEUED = {
  /** redirected bytes wait unread at the client, or are on their way there */
  ANSWER: 1,
  /** a part of the request is on its way to the upstream still (listener intake) */
  REQUEST: 2,
  /** an exchange on a pooled connection */
  IN_FLIGHT: 4,
} as const;

export const CtlSpec = struct('ctl', 'Argument and answer of the control program.', [
  ['command', 'u32', 'CTL'],
  ['result', 'u32', 'answer: 1 done or found, 0 not'],
  ['cookie', 'u64', 'client socket'],
  ['arg', 'u64', 'see CTL'],
  ['native', 'u32', 'see CTL'],
  ['slot', 'u32', 'upstream slot'],
  ['queued', 'u32', 'answer: QUEUED'],
  ['unread', 'u32', 'answer: bytes of the native queue that the client has not read'],
  ['gate', 'u32', 'answer'],
  ['requested', 'u32', 'answer'],
  ['done', 'u32', 'answer'],
  ['upstream', 'u32', 'answer'],
  ['passed', 'u64', 'answer'],
  ['body_left', 'u64', 'answer'],
  ['listener', 'u32', 'answer'],
  ['flags', 'u32', 'answer: CONN_FLAG'],
  ['replied', 'u32', 'answer'],
  ['pad', 'u32', 'zero'],
]);

export const SteerKeySpec = struct('steer_key', 'An address that is intercepted.', [
  ['netns', 'u64', 'cookie of the network namespace in which it is meant; 0: in all but the agent’s'],
  ['address', 'u32[4]', 'network order; IPv4 in the first word'],
  ['port', 'u16', 'network order'],
  ['family', 'u16', '2 or 10'],
  ['pad', 'u32', 'zero'],
]);
export const SteerSpec = struct('steer', 'Where connections to an intercepted address go.', [
  ['address', 'u32[4]', 'network order'],
  ['port', 'u16', 'network order'],
  ['keep_address', 'u16', '1: only the port is replaced'],
  ['listener', 'u32', 'index'],
  ['intake', 'u32', 'INTAKE: SOCKET or LISTENER'],
  ['refuse', 'u32', '1: nowhere; the connection is refused'],
]);
/** Key: cookie of a network namespace that is not the agent's. */
export const NetnsSpec = struct('netns', 'Where the agent listens in another network namespace; port 0: not there.', [
  ['address6', 'u32[4]', 'network order'],
  ['address4', 'u32', 'network order'],
  ['port4', 'u16', 'network order'],
  ['port6', 'u16', 'network order'],
]);
/** How the agent finds the connection that it accepted. */
export const TupleSpec = struct('tuple', 'Local end of a client socket.', [
  ['netns', 'u64', 'cookie of its network namespace'],
  ['address', 'u32[4]', 'network order'],
  ['port', 'u32', 'host order'],
  ['pad', 'u32', 'zero'],
]);
export const ArrivalSpec = struct('arrival', 'A client socket and what it asked for.', [
  ['cookie', 'u64', '0 with listener intake'],
  ['address', 'u32[4]', 'asked for, network order'],
  ['listener', 'u32', 'index'],
  ['port', 'u16', 'asked for, host order'],
  ['family', 'u16', 'of the address asked for, 2 or 10'],
]);

export const ServingSpec = struct('serving', "Per paired server's socket (socket storage).", [
  ['cookie', 'u64', 'its own'],
  ['slot', 'u32', 'the pool slot at its other end'],
  ['pad', 'u32', 'zero'],
]);
/**
 * A verified token: the value of a request's header, and what holds for it. Written by the agent in its mapping of the
 * map, read by the programs: `serial` is odd while it changes, and what was read counts only if it is the same after.
 */
export const TokenSpec = struct('token', 'A verified token.', [
  ['serial', 'u32', 'even: whole'],
  ['generation', 'u32', 'of the image whose questions the facts answer; 0: empty'],
  ['listener', 'u32', 'index'],
  ['place', 'u32', 'which of the listener’s places for tokens'],
  ['hash', 'u64', 'of the value'],
  ['until', 'u64', 'bpf_ktime_get_boot_ns from which on it is not known any more'],
  ['used', 'u64', 'bpf_ktime_get_boot_ns of the last use; written by the programs'],
  ['facts', 'u64[2]', 'TOKEN_WORDS words'],
  ['length', 'u32', 'bytes of the value'],
  ['n_lines', 'u32', 'bytes of `lines`'],
  ['bytes', 'u8[2048]', 'the value; zeros behind it'],
  ['lines', 'u8[1024]', 'MAX_TOKEN_LINES bytes: header lines that come with the token'],
]);

/** What happened, for the access log; heads follow as LOG says. Times are of bpf_ktime_get_ns. */
export const LogRecordSpec = struct('log_record', 'A record of the ring buffer of requests that are logged.', [
  ['kind', 'u32', 'bits of LOG_RECORD'],
  ['listener', 'u32', 'index'],
  ['cookie', 'u64', 'of the client socket'],
  ['time', 'u64', 'when'],
  ['received', 'u64', 'BEGIN: bytes of the body that the request announces'],
  ['body', 'u64', 'END, REPLY: bytes of the answer’s body, without framing'],
  ['slot', 'u32', 'pool slot; REPLY: none'],
  ['generation', 'u32', 'BEGIN, REPLY: of the image'],
  ['rule', 'u32', 'BEGIN, REPLY: index of the rule plus one, 0: none'],
  ['choice', 'u32', 'BEGIN: index of the cluster among those of the action'],
  ['endpoint', 'u32', 'BEGIN: id'],
  ['status', 'u32', 'ANSWER, REPLY'],
  ['source', 'u32[4]', "BEGIN, REPLY: the client's address, network order; IPv4 in the first word"],
  ['original', 'u32[4]', 'BEGIN, REPLY: the address that it asked for'],
  ['source_port', 'u32', 'host order'],
  ['original_port', 'u32', 'host order'],
  ['origin', 'u32', 'REPLY: ORIGIN'],
  ['request_len', 'u32', "bytes of the request's head that follow"],
  ['answer_len', 'u32', "bytes of the answer's head that follow"],
  ['pad', 'u32', 'zero'],
]);

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
  ['most', 'u32', 'max_requests; written by the agent'],
]);

export const RUNTIME_STRUCTS = [
  BreakerSpec,
  BucketSpec,
  ConnSpec,
  UpstreamSpec,
  VariablesSpec,
  EndpointSpec,
  CtlSpec,
  SteerKeySpec,
  NetnsSpec,
  ArrivalSpec,
  SteerSpec,
  TupleSpec,
  ServingSpec,
  TokenSpec,
  DetectorSpec,
  LogRecordSpec,
];
export const RUNTIME_CONSTANTS = {
  MAX_UPSTREAMS,
  BLOCK_SIZE,
  MAX_BLOCKS,
  MAX_ENDPOINTS,
  ENDPOINT_BLOCKS,
  REPLY_ENDPOINT,
  MAX_CLIENTS,
  MAX_REPLAY,
  MAX_KERNEL_BODY,
  MAX_KERNEL_CHUNKED,
  MAX_UNREAD,
  MAX_BACKLOG,
  MAX_SEGMENTS,
  MAX_RULES,
  MAX_DETECTORS,
  HIT_COUNTS,
  MAX_BUCKETS,
  BUCKET_SHIFT,
  MAX_BREAKERS,
  MAX_TOKENS,
  TOKEN_WAYS,
  MAX_TOKEN,
  MAX_STAGED,
  MAX_LINEAR,
  MAX_VARIABLE_BYTES,
  N_COUNTERS,
  LOG_RING,
  LOG_RESERVE,
};
export const RUNTIME_ENUMS = {
  PHASE,
  CHUNK,
  UPSTREAM_FLAG,
  WAY,
  ENDPOINT_FLAG,
  COUNTER,
  CONN_FLAG,
  INTAKE,
  QUEUED,
  INBOUND,
  CTL,
  TRIPPED,
  LOG_RECORD,
};
