/**
 * What is going on: client connections, upstream connections with the exchange on each, endpoints. The image says what
 * is decided; this, and the other structures of maps that change while traffic flows, is written by the programs.
 */
import { type Layout, struct } from './struct.js';

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
/** Connections at most whose ends are joined (decided by their first message). */
export const MAX_JOINTS = 16384;
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

/** Listener intake: the longest head, after edits, that a dummy socket's program writes; the longest such request. */
export const MAX_STAGED = 4096;
export const MAX_LINEAR = 16384;
/** Bytes of a request that are kept for the edits of its answer. */
export const MAX_VARIABLE_BYTES = 496;

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
  /** the proxy’s end of a connection that it hands on (a filter chain that is relayed) */
  CHAIN: 256,
  /** of such a one: its first message has come, which says on whose behalf it is */
  TOLD: 512,
  /** leads to an endpoint itself: decided when it was opened */
  DIRECT: 32,
  /** DIRECT: its endpoint counts it as active */
  COUNTED: 64,
  /** the request that was passed to the agent is to be delayed by the proxy: that was drawn */
  DELAYED: 128,
  /** leads to an endpoint that its first message says (a ClientHello): see bpf/hello.h */
  HELLO: 1024,
  /** of such a one: its first message has come, and `upstream` is what it says, NO_SLOT: the proxy */
  HEARD: 2048,
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

export const ConnSpec = struct('conn', 'Per intercepted client socket (socket storage).', [
  ['cookie', 'u64', 'of the client socket'],
  ['passed', 'u64', 'request bytes that went to the agent'],
  ['body_left', 'u64', 'bytes of the current request body still to be sent to `upstream`'],
  ['listener', 'u32', 'index'],
  ['gate', 'u32', 'bit 0: agent mode; the rest counts messages passed (see ARCHITECTURE.md, "the gate")'],
  ['requested', 'u32', 'exchanges begun'],
  ['done', 'u32', 'exchanges whose answer is complete'],
  ['upstream', 'u32', 'pool slot of the exchange in flight; DIRECT, HEARD: endpoint id'],
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
  [
    'user_timeout',
    'u32',
    'DIRECT: TCP_USER_TIMEOUT that the application has set; HEARD: how long connecting may take (ms)',
  ],
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
  ['idle_ms', 'u32', 'of this exchange: for which nothing may move; 0: none'],
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

export const ServingSpec = struct('serving', "Per paired server's socket (socket storage).", [
  ['cookie', 'u64', 'its own'],
  ['slot', 'u32', 'the pool slot at its other end'],
  ['pad', 'u32', 'zero'],
]);

export const JointSpec = struct(
  'joint',
  'What an end of a connection that was decided by its first message leads to.',
  [
    ['other', 'u64', 'cookie of the other end: of the client’s socket, or of the agent’s to the server'],
    ['other_sk', 'u64', 'its address'],
    ['passing', 'u32', '1: the agent carries what comes from the server; written by the programs'],
    ['pad', 'u32', 'zero'],
  ],
);

export const EXCHANGES_LAYOUT: Layout = {
  constants: {
    MAX_UPSTREAMS,
    BLOCK_SIZE,
    MAX_BLOCKS,
    MAX_ENDPOINTS,
    ENDPOINT_BLOCKS,
    REPLY_ENDPOINT,
    MAX_CLIENTS,
    MAX_JOINTS,
    MAX_REPLAY,
    MAX_KERNEL_BODY,
    MAX_KERNEL_CHUNKED,
    MAX_UNREAD,
    MAX_BACKLOG,
    MAX_SEGMENTS,
    MAX_STAGED,
    MAX_LINEAR,
    MAX_VARIABLE_BYTES,
  },
  enums: { PHASE, CHUNK, UPSTREAM_FLAG, WAY, ENDPOINT_FLAG, CONN_FLAG, INTAKE },
  structs: [ConnSpec, UpstreamSpec, VariablesSpec, EndpointSpec, ServingSpec, JointSpec],
};
