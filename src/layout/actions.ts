/** What is done with a request, and with its answer: the part of the image (image.ts) behind a rule that applies. */
import { type Layout, struct } from './struct.js';

/** Most pieces in a template, additions to a head. */
export const MAX_PIECES = 16;
export const MAX_ADDS = 32;

/** Most matches of a regex rewrite in one path; more are left to the proxy. */
export const MAX_MATCHES = 16;
/** Longest literal that a template may insert, in bytes, and longest head or reply that the kernel produces. */
export const MAX_LITERAL = 4096;
/** Most variables that an exchange keeps for its answer, and most kinds of answer edits that the kernel knows. */
export const MAX_VARIABLES = 4;
export const MAX_ANSWER_EDITS = 4096;

export const ACTION = { PROXY: 0, FORWARD: 1, REPLY: 2 } as const;
export const ACTION_FLAG = {
  /** some answers are retried (`retry`): the agent replays the request through the proxy */
  RETRY: 1,
  /** so are tries that are reset, or take too long, before the head of their answer */
  RETRY_RESETS: 2,
  /** forwarded only when the whole request is in the message, else the proxy's */
  WHOLE: 4,
} as const;
/** Words of a bitmap of statuses: bit s - 200 for status s (200 to 599). */
export const STATUS_WORDS = 7;
/** What of HTTP/2 is retried; bit n: gRPC's status n in the answer's head (0 is no failure). */
export const RETRY_STREAMS = { REFUSED: 1 } as const;

/** Most sources of a hash. */
export const MAX_HASHES = 8;

/** What a hash is made of. */
export const HASH = {
  /** a header by slot */
  HEADER: 0,
  HOST: 1,
  TARGET: 2,
  METHOD: 3,
  /** what the capturing automaton finds in the header with `slot` (cookies): registers 0 and 1, without quotes */
  COOKIE: 4,
  /** what it finds in the query */
  QUERY: 5,
  /** the source address as text */
  SOURCE_IP: 6,
} as const;
export const HASH_FLAG = {
  /** a hash ends the evaluation */
  TERMINAL: 1,
  /** where there is nothing to hash, the proxy makes it up */
  GENERATED: 2,
} as const;
export const PIECE = {
  LITERAL: 0,
  /** the path (no query) from byte `off` on */
  PATH_FROM: 1,
  /** '?' and the query, or nothing when the target has no '?' */
  QUERY: 2,
  /** the Host header's value */
  HOST: 3,
  /** the Host header's value without a port */
  HOST_NAME: 4,
  /** capture group `arg` (1..4) of the action's capturing automaton */
  CAPTURE: 5,
  /** value of the header in slot `arg`, or nothing; `len` not 0: so many bytes of it, from `off` on */
  HEADER: 6,
  /** the client's address as text; of IPv6, the proxy makes it */
  SOURCE_IP: 7,
  /** a variable for FIGUREs of the answer: two bytes, the bucket whose figures it shows (that of the first lot) */
  BUCKET: 8,
  /** FIGURE `arg` of the bucket `off` minus one, as decimal digits; 0: of the first lot's */
  FIGURE: 9,
  /** sixteen random hexadecimal digits; `arg` 1: the last ones once more */
  RANDOM: 10,
  /** the request's id, of requests that are traced (see TraceSpec) */
  REQUEST_ID: 11,
  /** '1' where the request's span is sampled, '0' otherwise (see TraceSpec) */
  SAMPLED: 12,
  /** a random UUID of its own */
  UUID: 13,
  /** address and port of the endpoint; of IPv6, the proxy makes it */
  ENDPOINT: 14,
  /** what was put out since the last LITERAL, in Base64 in its place (RFC 4648, section 4) */
  BASE64: 15,
} as const;
/** What x-ratelimit headers say of a token bucket: its size, whole tokens left, seconds until there is one. */
export const FIGURE = { LIMIT: 1, REMAINING: 2, RESET: 3 } as const;
/** AddSpec.variable: from this bit on, the FIGURE of the bucket that the variable is. */
export const FIGURE_SHIFT = 4;
export const ADD = {
  ALWAYS: 0,
  IF_ABSENT: 1,
  IF_PRESENT: 2,
  /** `x-request-id: <random UUID>` when SLOT.X_REQUEST_ID is absent; `off` 1: always, with the id of a request that is traced */
  REQUEST_ID: 3,
  /** literal off/len (e.g. `x-envoy-original-path: `), then the target as received, then CR LF */
  ORIGINAL_TARGET: 4,
  /** off/len (`content-length: 0`) when a POST, PUT, PATCH or OPTIONS has no Content-Length, as Envoy does */
  EMPTY_LENGTH: 5,
  /** the lines that come with the request's known token; off/len unused */
  TOKEN_LINES: 6,
  /** where the request's span is sampled */
  IF_SAMPLED: 7,
} as const;

/** Who gives a reply of the mesh itself: what access logs tell apart. */
export const ORIGIN = { ROUTE: 0, NO_ROUTE: 1, RBAC: 2, FAULT: 3, FILTER: 4 } as const;
/** Of `origin`: above this bit is 1 + the place of what is to be logged among `replyDetails`. */
export const DETAILS_SHIFT = 8;

/** Most clusters of an action. */
export const MAX_CLUSTERS = 64;

export const ActionSpec = struct('action', 'What is done with a request.', [
  ['kind', 'u8', 'ACTION'],
  ['flags', 'u8', 'ACTION_FLAG'],
  ['n_adds', 'u16', 'number of additions (at most MAX_ADDS)'],
  ['timeout_ms', 'u32', 'until the complete answer; 0: none'],
  ['remove', 'u64', 'bit mask of the slots whose lines are removed from the request'],
  ['target', 'u32', 'FORWARD: template of the new target, 0: as received'],
  ['adds', 'u32', 'offset of add[n_adds]'],
  ['clusters', 'u32', 'offset of weighted_cluster[n_clusters]'],
  ['n_clusters', 'u32', 'at most 64'],
  ['total_weight', 'u32', 'sum of the weights of the clusters'],
  ['capture', 'u32', 'start row of the capturing automaton over the path, 0: none; no match: target as received'],
  ['capture_classes', 'u32', 'its class map'],
  ['reply_head', 'u32', 'REPLY: template of everything up to and including the empty line'],
  ['reply_body', 'u32', 'REPLY: offset of the body; left out for HEAD'],
  ['reply_body_len', 'u32', 'REPLY: its length in bytes'],
  ['retry', 'u32', 'offset of u64[STATUS_WORDS], the statuses that are retried; 0: none'],
  ['per_try_ms', 'u32', 'until the head of the answer; 0: none'],
  ['idle_ms', 'u32', 'for which nothing may move; 0: none'],
  ['hashes', 'u32', 'offset of hash_source[n_hashes]'],
  ['n_hashes', 'u32', 'at most MAX_HASHES'],
  ['backoff_ms', 'u32', 'the first retry waits a random time shorter than this'],
  ['answer', 'u32', 'FORWARD: number of the edits of the answer, 0: none'],
  ['variables', 'u32', 'FORWARD: offset of answer_variables that the edits need, 0: none'],
  [
    'origin',
    'u32',
    'REPLY: whose reply it is, ORIGIN; from DETAILS_SHIFT on, which of its listener’s details it has, 0: none',
  ],
  ['mirror', 'u32', 'FORWARD: offset of a mirror, 0: nobody gets a copy'],
  ['trace', 'u32', 'FORWARD: offset of a trace, 0: requests are not traced'],
  ['retry_streams', 'u32', 'what of HTTP/2 is retried: RETRY_STREAMS, and bit n: gRPC’s status n'],
  ['times', 'u32', 'of HTTP/2: TIMES'],
  ['grpc_ms', 'u32', 'the most that grpc-timeout can ask for; 0: no limit'],
  ['duration_ms', 'u32', 'from the beginning of a stream until its end; 0: no limit'],
  ['pad', 'u32', 'zero'],
]);

export const MirrorSpec = struct('mirror', 'Copies of requests.', [
  ['key', 'u64', 'what the agent tells the proxy of whom they are for'],
  ['numerator', 'u32', 'of `denominator` requests so many are copied'],
  ['denominator', 'u32', 'not 0'],
]);

/** How long streams may take. */
export const TIMES = {
  /** grpc-timeout of gRPC requests instead of `timeout_ms`, and they are told what counts (max_grpc_timeout) */
  GRPC: 1,
  /** max_stream_duration is there: gRPC requests are told of it */
  DURATION: 2,
  /** grpc-timeout instead of `duration_ms` (grpc_timeout_header_max) */
  HEADER: 4,
  /** x-envoy-expected-rq-timeout-ms is not written */
  QUIET: 8,
} as const;
/** Who is told of traces, and how a request says that it belongs to one. */
export const TRACER = { NONE: 0, ZIPKIN: 1, OPENTELEMETRY: 2 } as const;
export const TraceSpec = struct(
  'trace',
  'How it is decided whether a request is traced, which its id then says (its version: 9, a or b), and whether its span is sampled.',
  [
    ['random', 'u16', 'ids whose first eight digits, modulo 10,000, are less: traced'],
    ['overall', 'u16', 'and not any others, whatever their version'],
    ['tracer', 'u8', 'TRACER'],
    ['slot', 'u8', 'of the header by which a span before this one says whether it is sampled'],
    ['ids', 'u16', 'not 0: requests without an id get one'],
  ],
);

export const HashSourceSpec = struct('hash_source', 'One source of the hash that chooses an endpoint.', [
  ['kind', 'u8', 'HASH'],
  ['slot', 'u8', 'header slot'],
  ['flags', 'u16', 'HASH_FLAG'],
  ['find', 'u32', 'start row of the capturing automaton'],
  ['find_classes', 'u32', 'its class map'],
]);

export const AnswerVariablesSpec = struct('answer_variables', 'What is kept of a request for its answer.', [
  ['n', 'u32', 'at most MAX_VARIABLES'],
  ['templates', 'u32[4]', 'their values'],
]);
export const AnswerEditSpec = struct('answer_edit', 'Edits of an answer, in slots of the response scanner.', [
  ['remove', 'u64', 'slots whose lines go'],
  ['adds', 'u32', 'offset of add[n_adds]'],
  ['n_adds', 'u32', 'at most MAX_ADDS'],
  ['compressible', 'u32', 'offset of a compressible, 0: none'],
  ['pad', 'u32', 'zero'],
]);
export const LookSpec = struct('look', 'One header of an answer, and what its value is tested for.', [
  ['slot', 'u32', 'slot of the response scanner'],
  ['start', 'u32', 'start row of an automaton'],
  ['classes', 'u32', 'its class map'],
]);
export const CompressibleSpec = struct(
  'compressible',
  'Answers that a compressor could have compressed get a line "vary: Accept-Encoding".',
  [
    ['never', 'u64', 'slots whose presence tells that it could not'],
    ['minimum', 'u32', 'nor if Content-Length is less'],
    [
      'looks',
      'u32',
      'offset of look[3]: nor if the first is there and not accepted, or the second is accepted. The third is the line itself, in a list: accepted, there is nothing to do; not accepted, only the agent can do it',
    ],
    ['off', 'u32', 'offset of the line'],
    ['len', 'u32', 'its length'],
    ['value', 'u32', 'where the value begins in the line'],
    ['pad', 'u32', 'zero'],
  ],
);

export const WeightedClusterSpec = struct('weighted_cluster', 'One choice of a forward action.', [
  ['cluster', 'u32', 'offset of a cluster'],
  ['weight', 'u32', 'its weight'],
]);

export const TemplateSpec = struct('template', 'u32 n, then n pieces that are concatenated.', [
  ['n', 'u32', 'at most MAX_PIECES'],
  [
    'repeat',
    'u32',
    'not 0: for each match of the capturing automaton, looked for again behind the one before, the pieces but the last take its place; group 1 begins this many bytes, minus one, behind the first byte of the match and ends with it. Then what is left of the path, and the last piece',
  ],
]);
export const PieceSpec = struct('piece', 'One piece of a template.', [
  ['kind', 'u8', 'PIECE'],
  ['arg', 'u8', 'capture group'],
  ['pad', 'u16', 'zero'],
  ['off', 'u32', 'LITERAL: offset in the image; PATH_FROM: first byte of the path'],
  ['len', 'u32', 'LITERAL: length (at most MAX_LITERAL)'],
]);
export const AddSpec = struct(
  'add',
  'A complete header line "name: value CR LF" that is added before the empty line.',
  [
    ['when', 'u8', 'ADD'],
    ['slot', 'u8', 'slot whose presence in the head as received decides (IF_ABSENT, IF_PRESENT)'],
    [
      'variable',
      'u8',
      'answers: a variable (plus one) and CR LF that follow the line, from FIGURE_SHIFT on a FIGURE; requests: `off` is a template; 0: no',
    ],
    ['value', 'u8', 'answers: where the value begins in the line'],
    ['off', 'u32', 'offset of the line'],
    ['len', 'u32', 'its length (at most MAX_LITERAL)'],
  ],
);

export const ACTIONS_LAYOUT: Layout = {
  constants: {
    MAX_PIECES,
    FIGURE_SHIFT,
    MAX_ADDS,
    MAX_MATCHES,
    MAX_LITERAL,
    STATUS_WORDS,
    MAX_HASHES,
    MAX_VARIABLES,
    MAX_ANSWER_EDITS,
  },
  enums: { ACTION, ACTION_FLAG, RETRY_STREAMS, TIMES, HASH, HASH_FLAG, PIECE, FIGURE, ADD, ORIGIN, TRACER },
  structs: [
    ActionSpec,
    MirrorSpec,
    TraceSpec,
    WeightedClusterSpec,
    HashSourceSpec,
    TemplateSpec,
    PieceSpec,
    AddSpec,
    AnswerVariablesSpec,
    AnswerEditSpec,
    LookSpec,
    CompressibleSpec,
  ],
};
